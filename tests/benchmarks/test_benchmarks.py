"""The benchmarks: arithmetic, rounds, PyTorch networks, and one small run of everything."""

import dataclasses
import json
import math
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_resv2
from benchmarks.__main__ import find_references, main
from benchmarks.keras_implementations import Rolled
from benchmarks.measure import Result, Settings, measure
from benchmarks.plan import Contender, make_contenders
from benchmarks.process import ROOT, Worker, WorkerError, worker_environment
from benchmarks.profile import main as profile_main
from benchmarks.report import as_markdown
from benchmarks.summary import ratios, spread, summarize
from helpers.comparing import assert_same, randomised
from helpers.with_resnet8 import ROW
from keras_resv2.architectures import ARCHITECTURES, find_architecture
from keras_resv2.models.scan import is_rolled
from keras_resv2.storage.weight_file import read_weights, save_weights

# A worker without libraries: every batch takes a second by its own account; it can be told to die.
FAKE = """
import json, sys
dies = sys.argv[1]
for line in sys.stdin:
    asked = json.loads(line)
    if asked["command"] == dies:
        sys.exit("no more memory")
    seconds = {"seconds": float(asked.get("batches", 0))}
    facts = {"import": 1.0, "file": 4, "parameters": 5, "device": "cpu"}
    answers = {"build": {"open": 2.0, **facts}, "load": {"open": 3.0, **facts}, "memory": {"bytes": 6}}
    print(json.dumps(answers.get(asked["command"], seconds)), flush=True)
"""


def fake(dies=()):
    """A `start` for `measure` whose workers die at a command, by implementation."""

    def start(contender, settings):
        command = (sys.executable, "-S", "-c", FAKE, dict(dies).get(contender.implementation, ""))
        return Worker(worker_environment(), settings.timeout, command)

    return start


def contenders(*implementations):
    return [Contender("resnet20", name, None, "float32") for name in implementations]


def quiet(line):
    pass


# Arithmetic


@pytest.mark.parametrize("values, expected", [
    ([7.0], (7, 7, 7)),
    ([1.0, 3.0], (1.5, 2, 2.5)),
    ([9.0, 1.0, 5.0, 3.0, 7.0], (3, 5, 7)),
    ([4.0, 1.0, 3.0, 2.0], (1.75, 2.5, 3.25)),
])  # fmt: skip
def test_median_and_quartiles(values, expected):
    assert tuple(spread(values)[name] for name in ("low", "median", "high")) == expected


def test_ratios_are_of_the_same_round():
    """The median of the ratios, not the ratio of the medians: 2, 4, 1 and not 40 / 20."""
    ours = Result(*contenders("keras-resv2"), values={"infer": [20.0, 40.0, 60.0], "build": [2.0]})
    theirs = Result(*contenders("stock"), values={"infer": [10.0, 10.0, 60.0], "build": [1.0]})
    rows = summarize([ours, theirs], {"resnet20": theirs.contender})
    infer, reference, build, _ = rows
    assert infer["value"]["median"] == 40 and infer["ratio"] == {"median": 2, "low": 1.5, "high": 3}
    assert reference["ratio"]["median"] == 1
    assert build["measure"] == "build" and build["ratio"]["median"] == 0.5  # seconds: twice as many is half as good


def test_ratios_need_a_pair_for_every_round():
    with pytest.raises(ValueError):
        ratios([1.0, 2.0], [1.0], True)


def test_measures_interrupted_by_a_failure_are_omitted():
    ours = Result(*contenders("keras-resv2"), values={"infer": [1.0, 2.0], "train": [1.0, 2.0]})
    theirs = Result(*contenders("stock"), values={"infer": [1.0, 1.0], "train": [1.0]}, error="killed by SIGKILL")
    rows = summarize([ours, theirs], {"resnet20": theirs.contender})
    assert [(row["contender"], row["measure"]) for row in rows] == [
        ("keras-resv2", "infer"), ("stock", "infer"), ("keras-resv2", "train"),
    ]  # fmt: skip
    assert rows[-1]["ratio"] is None


def test_the_floor_is_a_row_beside_the_measured():
    floor = {"network": "resnet20", "precision": "bfloat16", "measure": "train", "images_per_second": 300.0}
    result = Result(*contenders("stock"), values={"train": [100.0, 150.0]})
    row = summarize([result], {"resnet20": result.contender}, [floor])[-1]
    assert row["contender"] == "floor" and row["value"]["median"] == 300 and row["ratio"]["median"] == 2.5


def test_the_floor_of_inference_is_a_third_of_a_step(monkeypatch):
    """With fake rates: an image takes resnet8 12.1 million multiply-adds, and a step six operations for each."""
    import train.roofline
    from benchmarks.machine import floors

    monkeypatch.setattr(train.roofline, "_matrix_rate", lambda dtype: 1e9)
    monkeypatch.setattr(train.roofline, "_copy_rate", lambda: 1e15)
    network = {"name": "resnet8", "arguments": {"depth": 8, "activation": "original"}}
    infer, step = floors([network], ["float32"], batch_size=10)
    adds = keras_resv2.count_multiply_adds(keras_resv2.ResNet(8))
    assert step["seconds"] == pytest.approx(6 * adds * 10 / 1e9)
    assert infer["operations"] == pytest.approx(2 * adds * 10)
    assert infer["images_per_second"] == pytest.approx(3 * step["images_per_second"])


# Turns


def test_rounds_alternate_their_order():
    names = ("keras-resv2", "stock", "torch-eager")
    settings = Settings(batch_size=8, opens=2, rounds=3, round_seconds=2)
    results, order = measure(contenders(*names), settings, fake(), quiet)
    for kind in ("infer", "train"):
        ran = [turn["contender"].split(", ")[1] for turn in order if turn["kind"] == kind]
        assert ran == [*names, *reversed(names), *names]
    for result in results:
        assert result.error is None and result.batches == {"infer": 2, "train": 2}
        assert result.values == {
            "import": [1, 1], "build": [2, 2], "load": [3, 3], "file": [4],
            "first_infer": [1, 1], "first_train": [1, 1],
            "infer": [8, 8, 8], "train": [8, 8, 8],  # two batches of 8 in two seconds
            "memory_infer": [6], "memory_train": [6],
        }  # fmt: skip


def test_inference_only_contenders_are_not_trained():
    results, order = measure(contenders("stock", "onnxruntime"), Settings(opens=1, rounds=1), fake(), quiet)
    assert "train" in results[0].values and "train" not in results[1].values
    assert not any("onnxruntime" in turn["contender"] for turn in order if turn["kind"] == "train")


def test_only_what_is_asked_for_is_measured():
    results, _ = measure(contenders("stock"), Settings(measures=("infer",), rounds=1), fake(), quiet)
    assert set(results[0].values) == {"infer"}


@pytest.mark.parametrize(
    "command, left", [("build", set()), ("load", {"build"}), ("train", {"infer", "import", "first_infer"})]
)
def test_a_contender_that_dies_is_reported_and_the_others_finish(command, left):
    lines = []
    settings = Settings(opens=1, rounds=2)
    results, _ = measure(contenders("stock", "torch-eager"), settings, fake({"torch-eager": command}), lines.append)
    good, bad = results
    assert good.error is None and len(good.values["train"]) == 2
    assert bad.error == "ended with exit status 1: no more memory" and left <= set(bad.values)
    assert "failed: resnet20, torch-eager, float32: ended with exit status 1: no more memory" in lines


def test_one_that_hangs_is_given_up():
    with Worker(worker_environment(), 0.5, (sys.executable, "-S", "-c", "import time; time.sleep(60)")) as worker:
        with pytest.raises(WorkerError, match=r"took longer than 0.5 s"):
            worker.ask("hello")


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot bind processes to cores")
def test_a_worker_gets_the_cores_that_it_may_use():
    with Worker(worker_environment(keras.backend.backend(), cores=1)) as worker:
        assert worker.ask("hello") == {}  # it binds itself before it answers
        assert len(os.sched_getaffinity(worker._process.pid)) == 1


def test_an_error_in_a_worker_is_one_line_and_it_lives_on():
    with Worker(worker_environment()) as worker:
        with pytest.raises(WorkerError, match="ModuleNotFoundError: No module named 'benchmarks"):
            worker.ask("build", task={"implementation": "benchmarks.none:Nobody"}, batch_size=1, gpu=False, folder="")
        assert worker.ask("hello") == {}


# Who takes part


def test_what_cannot_run_is_listed_with_what_is_missing(monkeypatch):
    monkeypatch.setattr("benchmarks.plan.installed", lambda package: package != "torch")
    made, skipped = make_contenders(
        ["resnet20", "resnet50"], ["keras.applications", "torch-eager"], ["jax"], ["float32"]
    )
    assert [str(contender) for contender in made] == ["resnet50, keras.applications (jax), float32"]
    assert [reason for _, reason in skipped] == [
        "keras.applications has no resnet20",
        "not installed: torch",
        "not installed: torch",
    ]


def test_the_reference_is_stock_keras_in_float32():
    precisions, both = ["bfloat16", "float32"], ["keras-resv2", "stock"]
    made, _ = make_contenders(["resnet20"], both, ["tensorflow"], precisions)
    chosen = find_references(made, None, both)["resnet20"]
    assert (chosen.implementation, chosen.precision) == ("stock", "float32")
    assert find_references(made, "keras-resv2", both)["resnet20"].implementation == "keras-resv2"
    assert find_references(made[:1], None, both[:1])["resnet20"] == made[0]


@pytest.mark.parametrize("flags, says", [
    (["--networks", "resnet21"], "network='resnet21' is not one of the"),
    (["--contenders", "caffe"], "contender='caffe' must be one of 'keras-resv2', "),
    (["--backends", "mxnet"], "backend='mxnet' must be one of"),
    (["--precisions", "int8"], "precision='int8' must be one of"),
    (["--measures", "speed"], "measure='speed' must be one of"),
    (["--rounds", "0"], "--rounds 0 must be above 0."),
    (["--rounds", "many"], "argument --rounds: invalid int value: 'many'"),
    (["--cores", "0"], "--cores"),
    (["--reference", "stock", "--contenders", "keras-resv2"], "--reference='stock' must be one of 'keras-resv2'."),
    (["--contenders", "keras.applications"], "none of the contenders can run: resnet20, keras.applications"),
])  # fmt: skip
def test_bad_input_is_one_line(flags, says, capsys):
    def never(*arguments):
        raise AssertionError("work was begun")

    assert main(flags, start=never) == 2
    *log, error = capsys.readouterr().err.splitlines()
    assert error.startswith(f"error: {says}")
    assert all(" skipped: " in line for line in log)


def test_the_parent_loads_no_backend():
    code = "import sys, benchmarks.__main__; print({'keras', 'tensorflow', 'jax', 'torch'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT).stdout == "set()\n"


# The networks in PyTorch


@pytest.mark.parametrize("name", ["resnet20", "preact_resnet20", "resnet29", "preact_resnet29", "resnet50"])
def test_torch_networks_have_as_many_parameters(name):
    pytest.importorskip("torch", reason="PyTorch is not installed")
    from benchmarks.torch_networks import ResidualNetwork

    row = find_architecture(name)
    theirs = sum(p.numel() for p in ResidualNetwork(row.depth, row.activation).parameters())
    assert theirs == sum(math.prod(v.shape) for v in keras_resv2.build(name).trainable_variables)


@pytest.mark.parametrize("activation", ["original", "full_preactivation"])
@pytest.mark.parametrize("depth, projection", [(8, "A"), (8, "B"), (11, "A"), (11, "B")])
def test_torch_networks_give_the_same_outputs(depth, projection, activation, tmp_path, pixels):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    from benchmarks.torch_networks import ResidualNetwork, copy_weights

    ours = keras_resv2.ResNet(depth, activation=activation, projection=projection)
    rng = np.random.default_rng(0)
    for weight in ours.weights:  # batch normalization that is not the identity
        if weight.name in ("gamma", "moving_variance"):
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        elif weight.name != "kernel":
            weight.assign(rng.normal(0, 0.1, weight.shape))
    save_weights(ours, tmp_path / "w.h5")
    theirs = ResidualNetwork(depth, activation, projection).eval()
    copy_weights(read_weights(tmp_path / "w.h5"), theirs)
    with torch.inference_mode():
        outputs = theirs(torch.from_numpy(pixels).permute(0, 3, 1, 2)).softmax(-1).numpy()
    np.testing.assert_allclose(outputs, ours.predict(pixels, verbose=0), atol=1e-4)
    assert np.ptp(outputs) > 0.01


# The networks of Keras' own layers


@pytest.mark.parametrize("name", ["resnet20", "preact_resnet20", "resnet29", "resnet50", "preact_resnet18"])
def test_stock_networks_are_ours(name):
    from benchmarks.stock_networks import residual_network

    row = find_architecture(name)
    ours, theirs = keras_resv2.build(name), residual_network(row.depth, row.activation)
    assert not any(type(layer).__module__.startswith("keras_resv2") for layer in theirs.layers)
    randomised(theirs)
    for layer in theirs.layers:
        for weight, other in zip(
            layer.weights, ours.get_layer(layer.name).weights if layer.weights else [], strict=True
        ):
            other.assign(weight)
    assert ours.count_params() == theirs.count_params()
    pixels = np.random.default_rng(0).integers(0, 256, (2, *theirs.input_shape[1:])).astype("float32")
    for model in (ours, theirs):
        model.layers[-1].activation = keras.activations.linear
    assert_same(*(model.predict(pixels, verbose=0) for model in (theirs, ours)))


# All of it


def test_the_rolled_network_has_loops():
    """Which the eight layers of the small run below are too few for."""
    task = contenders("keras-resv2-rolled")[0].task()
    rolled = Rolled(task, batch_size=8, gpu=False)
    rolled.start()
    assert is_rolled(rolled.build()) and task["depth"] == 20


def test_a_small_run_of_everything(tmp_path, monkeypatch, capsys):
    """Real workers on an eight-layer network, two rounds, all measures, all files."""
    names = ["keras-resv2", "stock"]
    try:
        import torch  # noqa: F401

        names.append("torch-eager")
    except ImportError:
        print("PyTorch is not installed: without torch-eager")
        capsys.readouterr()  # below, the output is the table alone
    monkeypatch.setitem(ARCHITECTURES, "resnet8", ROW)
    short = ["--rounds", 2, "--opens", 1, "--round_seconds", 0.1, "--batch_size", 8]
    chosen = ["--networks", "resnet8", "--precisions", "float32", "--contenders", *names]
    assert main([*chosen, *short, "--out", tmp_path / "out"]) == 0
    table = capsys.readouterr().out
    assert (tmp_path / "out" / "benchmarks.md").read_text() == table
    report = json.loads((tmp_path / "out" / "benchmarks.json").read_text())

    assert report["skipped"] == [] and report["machine"]["cores"] >= 1 and "keras" in report["machine"]["versions"]
    assert report["command"].startswith("python -m benchmarks --networks resnet8")
    assert [result["contender"]["implementation"] for result in report["results"]] == names
    ran = [turn["contender"].split(", ")[1].split()[0] for turn in report["order"]]
    assert ran == 2 * [*names, *reversed(names)]
    measures = {
        "infer": 2, "train": 2, "first_infer": 1, "first_train": 1, "import": 1, "build": 1, "load": 1,
        "memory_infer": 1, "memory_train": 1, "file": 1,
    }  # fmt: skip
    for result in report["results"]:
        assert result["error"] is None and result["parameters"] == 75_290 and result["device"] == "cpu"
        assert {measure: len(values) for measure, values in result["values"].items()} == measures
        assert all(value > 0 for values in result["values"].values() for value in values)
        memory = [result["values"][f"memory_{kind}"][0] for kind in ("infer", "train")]
        assert 5e7 < memory[0] <= memory[1] < 2e10
    assert len(report["rows"]) == len(measures) * len(names)
    assert report["references"] == {"resnet8": "stock (tensorflow), float32"}
    stock = [row for row in report["rows"] if row["contender"].startswith("stock")]
    assert all(row["ratio"]["median"] == 1 for row in stock)
    assert table.count("| resnet8 |") == len(report["rows"])
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        pytest.skip("matplotlib is not installed: the image is not looked at")
    assert (tmp_path / "out" / "benchmarks.png").stat().st_size > 10_000


def test_a_profile_sees_the_operations_of_a_step(monkeypatch, capsys):
    """For a real step: ours uses the fused kernels, stock Keras does not; the shares add up."""
    pytest.importorskip("tensorflow", reason="TensorFlow is not installed")
    monkeypatch.setitem(ARCHITECTURES, "resnet8", ROW)
    assert profile_main(["resnet8", "--precisions", "float32", "--batch_size", "8", "--steps", "2"]) == 0
    header, _, *rows = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines()]
    assert header[1:] == ["keras-resv2, float32", "stock, float32"]
    kinds = {kind: [float(cell.split()[0]) for cell in cells] for kind, *cells in rows}
    assert all(ms > 0 for kind in kinds if kind.startswith("convolution") for ms in kinds[kind])
    fused = kinds["batch normalization, fused: gradient"]
    assert fused[0] > 0 and fused[1] == 0
    for column in (1, 2):
        assert abs(sum(int(row[column].split("(")[1].rstrip("%)")) for row in rows[:-1]) - 100) <= 5  # rounded
    assert all(step > 0 for step in kinds["the step itself"])


def test_failures_are_in_the_table_page():
    result = dataclasses.replace(Result(*contenders("stock")), error="RuntimeError: no such device")
    machine = {"hardware": "1 core", "system": "x", "commit": "c", "versions": {}, "load_average": 3.0, "cores": 1}
    arguments = dict(networks=["resnet20"], batch_size=1, rounds=1, round_seconds=1, opens=1)
    page = as_markdown(
        dict(command="c", arguments=arguments, machine=machine, references={}, rows=[], floors=[], skipped=[],
             results=[result])
    )  # fmt: skip
    assert "- resnet20, stock, float32: RuntimeError: no such device" in page
    assert "Other programs were running: load average 3.0 at the start, contenders on 1 core." in page
