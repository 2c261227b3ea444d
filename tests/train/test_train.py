"""Runs of the command line: real training, resuming, seeds, publishing, invalid flags."""

import csv
import dataclasses
import importlib.util
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import types

import keras
import numpy as np
import pytest

import keras_resv2
from helpers.paths import ROOT
from keras_resv2 import data as datasets
from keras_resv2.storage.weight_file import read_weights
from train import evaluate, publish
from train.callbacks import ProgressDisplay
from train.loop import Progress
from train.recipes import RECIPES
from train.run_dir import file_lock, start_record

LARGE = ("--model=resnet20",)  # where 8 layers are too few, or no row of the package's own table will do
PROGRAM = [sys.executable, str(ROOT / "tests/helpers/with_resnet8.py"), "train.train"]


@pytest.fixture(scope="module")
def digits_npz(digits, tmp_path_factory):
    (x_train, y_train), (x_test, y_test) = digits
    path = tmp_path_factory.mktemp("digits") / "digits.npz"
    np.savez(path, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    return path


def command(digits_npz, out, *more):
    return [
        *PROGRAM, "--model=resnet8", f"--data_dir={digits_npz}", f"--out={out}",
        "--recipe=fast", "--batch_size=50", "--evaluate_every=1", *more,
    ]  # fmt: skip


def train(digits_npz, out, *more, ok=True):
    done = subprocess.run(command(digits_npz, out, *more), capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode == 0) == ok, done.stderr[-2000:]
    return done


def history(out):
    with open(out / "history.csv", newline="") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def finished(digits_npz, tmp_path_factory):
    """A run of 120 steps in float32, never interrupted, with events beside it if tensorboard is installed."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    events = [f"--tensorboard={out.with_name('events')}"] if importlib.util.find_spec("tensorboard") else []
    train(digits_npz, out, "--steps=120", "--dtype=float32", *events)
    return out


def test_a_network_learns_real_digits(finished):
    """Chance is 90 %; four epochs reduce the error on unseen digits far below."""
    rows = history(finished)
    assert len(rows) == 4 and float(rows[-1]["test_error"]) < 45  # 22.9 was seen: the figure depends on the kernels
    assert float(rows[-1]["train_loss"]) < float(rows[0]["train_loss"])
    record = json.loads((finished / "run.json").read_text())
    assert record["test_error_at_end"] == float(rows[-1]["test_error"])
    assert record["settings"]["seed"] == 0 and "data_dir" not in record["command"]
    assert (finished / "curve.png").exists()


def wait_for(there, *processes, seconds=300):
    """Waits until `there()` is true, which fails if a process ends before."""
    deadline = time.monotonic() + seconds
    while not there():
        for process in processes:
            assert process.poll() is None or there(), process.communicate()[1][-2000:]
        assert time.monotonic() < deadline, f"not there after {seconds} s"
        time.sleep(0.05)


def newest_checkpoint(out):
    return max((int(path.stem.split("-")[1]) for path in out.glob("checkpoint-*.npz")), default=0)


STARTED = []


@pytest.fixture(autouse=True)
def no_process_is_left():
    """Processes of a failed test would slow down the next one."""
    yield
    while STARTED:
        process = STARTED.pop()
        if process.poll() is None:
            process.kill()
            process.communicate()


def start(digits_npz, out, *more):
    process = subprocess.Popen(
        command(digits_npz, out, "--steps=120", "--dtype=float32", "--checkpoint_seconds=0", *more),
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    STARTED.append(process)
    return process


def assert_same_run(one, other):
    """Bit for bit: on a CPU in float32 nothing rounds differently."""
    assert history(one) == history(other)
    weights = [read_weights(out / "weights.h5") for out in (one, other)]
    assert weights[0].keys() == weights[1].keys()
    for name, array in weights[0].items():
        np.testing.assert_array_equal(array, weights[1][name])


def test_a_run_killed_and_then_stopped_by_sigterm_resumes_and_ends_the_same(finished, digits_npz, tmp_path):
    """Killed, with a damaged newest checkpoint left behind; resumed and stopped by SIGTERM, at which it saves."""
    out = tmp_path / "killed"
    process = start(digits_npz, out)
    wait_for(lambda: newest_checkpoint(out) >= 10, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert 10 <= newest_checkpoint(out) < 120 and len(list(out.glob("checkpoint-*.npz"))) > 1
    newest = max(out.glob("checkpoint-*.npz"))
    newest.write_bytes(newest.read_bytes()[:1000])

    def rows():
        return len(history(out)) if (out / "history.csv").exists() else 0

    before = rows()
    process = start(digits_npz, out, "--checkpoint_seconds=1000")
    wait_for(lambda: rows() > before, process)
    process.send_signal(signal.SIGTERM)
    written, errors = process.communicate(timeout=120)
    assert "damaged" in written
    assert process.returncode == 143 and "run the same command to resume" in errors and "Traceback" not in errors
    step = int(errors.partition("stopped after step ")[2].split(",")[0])
    assert (out / f"checkpoint-{step:08d}.npz").exists() and not (out / "weights.h5").exists()
    train(digits_npz, out, "--steps=120", "--dtype=float32")
    assert_same_run(out, finished)


def test_a_run_of_an_older_version_resumes(tmp_path):
    """Values that recipes did not have at the time get their defaults."""
    settings = {"recipe_values": json.loads(json.dumps(dataclasses.asdict(RECIPES["fast"])))}
    settings |= {"train_images": 50_000, "test_images": 10_000}
    start_record(tmp_path, settings, "")
    old = json.loads((tmp_path / "run.json").read_text())
    del old["settings"]["recipe_values"]["units_per_batch"], old["settings"]["test_images"]
    (tmp_path / "run.json").write_text(json.dumps(old))
    old["settings"]["recipe_values"]["epochs"] = 90  # beside the steps, as --steps left it
    (tmp_path / "run.json").write_text(json.dumps({**old, "diverged_at": 5}))
    assert start_record(tmp_path, settings, "")["settings"] == old["settings"]
    assert "diverged_at" not in json.loads((tmp_path / "run.json").read_text())  # it goes on
    with pytest.raises(ValueError, match="different recipe_values"):
        start_record(tmp_path, {**settings, "recipe_values": {**settings["recipe_values"], "units_per_batch": 3}}, "")


def test_folders_of_unknown_runs_are_rejected(tmp_path):
    (tmp_path / "checkpoint-00000001.npz").write_bytes(b"")
    with pytest.raises(ValueError, match=r"checkpoints of an unknown run, without run\.json"):
        start_record(tmp_path, {"seed": 0}, "")
    for text in ("", "{}", '{"settings": '):
        (tmp_path / "run.json").write_text(text)
        with pytest.raises(ValueError, match=r"run\.json is damaged"):
            start_record(tmp_path, {"seed": 0}, "")


def test_a_folder_has_one_run_at_a_time(tmp_path):
    with file_lock(tmp_path):
        with pytest.raises(ValueError, match="another process is training"), file_lock(tmp_path):
            pass
    with file_lock(tmp_path):
        pass
    (tmp_path / ".lock").unlink()
    (tmp_path / ".lock").mkdir()
    with pytest.raises(OSError), file_lock(tmp_path):
        pass


def test_diverged_seeds_are_counted_and_do_not_stop_other_seeds(digits_npz, tmp_path):
    done = train(digits_npz, tmp_path / "runs", "--steps=6", "--learning_rate=1e30", "--dtype=float32", "--seeds=2")
    assert "median of 2 seeds: diverged (diverged, diverged)" in done.stdout
    assert done.stderr.count("the loss is") == 2
    for seed in (0, 1):
        record = json.loads((tmp_path / f"runs/seed{seed}/run.json").read_text())
        assert 1 < record["diverged_at"] < 6 and "wall_seconds" not in record


def test_a_terminal_gets_a_bar_and_a_line_per_epoch(monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "xterm")
    recipe = dataclasses.replace(RECIPES["paper"], steps=100)
    row = {"step": 50, "epoch": 1, "learning_rate": 0.1, "train_loss": 1.25, "train_error": 40.5, "test_error": 38.25}
    with ProgressDisplay(recipe) as display:
        display(Progress(step=10, steps=10, loss_sum=15.0, correct_sum=6.0), 0.01, None)
        time.sleep(0.2)
        display(Progress(step=50), 0.1, row)
        display(Progress(step=60, steps=10, loss_sum=12.0, correct_sum=7.0), 0.1, None)
        time.sleep(0.2)
    written = terminal.getvalue()
    for text in ("compiling", "60/100", "images/s", "rate 0.1", "loss 1.200", "error 30.0 %, test error 38.25 %"):
        assert text in written, text
    assert re.search(r"epoch +1  step +50  rate 0\.1000  loss 1\.2500  train error  40\.50 %", written)


def test_the_remaining_time_takes_the_size_of_the_images_into_account(monkeypatch, capsys):
    """The first dispatch of a size is not timed; 40 steps of a quarter of the pixels are 10 of the largest size."""
    recipe = dataclasses.replace(RECIPES["paper"], steps=100, batch_size=10, image_size=((0, 16), (0.5, 32)))
    clock = iter([100.0, 120.0, 200.0, 260.0])
    monkeypatch.setattr("train.callbacks.time", types.SimpleNamespace(monotonic=lambda: next(clock)))
    row = {"epoch": 1, "learning_rate": 0.1, "train_loss": 1.25, "train_error": 40.5}
    with ProgressDisplay(recipe) as display:
        for step in (10, 50, 60, 90):
            display(Progress(step=step), 0.1, {**row, "step": step})
    ends = [line.split("%")[-1].split() for line in capsys.readouterr().out.splitlines()]
    assert [(end[0], end[2]) for end in ends] == [("0", "0"), ("20", "2"), ("0", "0"), ("5", "0")]  # 100 s, 20 s left


def test_other_settings_do_not_resume(finished, digits_npz):
    done = train(digits_npz, finished, "--steps=120", "--dtype=float32", "--seed=1", ok=False)
    assert "different seed" in done.stderr and "Traceback" not in done.stderr


REFUSED = {
    "model": (["--model=resnet21"], "did you mean resnet32, resnet20"),
    "shortcut": (["--shortcut=gate"], "exclusive_gating"),
    "data": (["--data_dir=nowhere"], "nowhere does not exist"),
    "processes": (["--processes=here"], "TF_CONFIG"),
    "rematerialize": (["--rematerialize"], "rolled=True"),
    "units": (["--units_per_batch=10"], "must be from 1 to 9"),
    "recipe": (["--recipe=imagenet"], "--dataset imagenette or imagenet2012 or folder, not cifar10"),
    "dataset": (["--dataset=folder"], "--dataset cifar10 or cifar100 or arrays, not folder"),
    "without effect": (["--set=views=((256, 224),)"], "views=((256, 224),) has no effect"),
    "image size": (["--set=image_size=((0, 24), (0.5, 33))"], "image_size=33 exceeds the size of the training images"),
    "teacher": (["--set=teacher=resnet7-cifar10"], "resnet7-cifar10"),
    "mixup": (["--set=mixup=0.2", "--batch_size=51"], "51 per device is odd"),
    "cutout": (["--set=cutout=40"], "cutout=40 exceeds the image size of 32"),
    "temperature": (["--set=temperature=2"], "temperature=2 has no effect with teacher=None"),
}
ONE_BY_ONE = """
import json, sys
from absl import flags
from train import train

for arguments in json.loads(sys.argv[1]):
    flags.FLAGS.unparse_flags()
    flags.FLAGS(arguments)
    try:
        train.main(arguments[:1])
    except SystemExit as end:
        print(json.dumps(str(end.code)))
"""


@pytest.fixture(scope="module")
def refusals(digits_npz, tmp_path_factory):
    """Returns the error of each of `REFUSED`, run in one process, and the folder that none may create."""
    out = tmp_path_factory.mktemp("refused") / "run"
    commands = [["train", *command(digits_npz, out, *LARGE, *more)[3:]] for more, _ in REFUSED.values()]
    done = subprocess.run(
        [sys.executable, "-c", ONE_BY_ONE, json.dumps(commands)], capture_output=True, text=True, cwd=ROOT
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(zip(REFUSED, map(json.loads, done.stdout.splitlines()), strict=True)), out


@pytest.mark.parametrize("case", REFUSED)
def test_bad_flags_are_refused_before_anything_is_written(case, refusals):
    messages, out = refusals
    assert messages[case].startswith("error: ") and REFUSED[case][1] in messages[case] and "\n" not in messages[case]
    assert not out.exists()


@pytest.mark.parametrize(
    "more, words",
    [
        (["--devices=2", "--batch_size=51"], "a batch of 51 images cannot be divided equally among 2 devices"),
        (["--rolled", "--devices=2"], "a rolled network trains on only one device"),
    ],
)
def test_bad_flags_are_one_line(digits_npz, tmp_path, more, words):
    done = train(digits_npz, tmp_path / "run", *LARGE, *more, ok=False)
    assert words in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def finished_resnet20(digits_npz, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "resnet20"
    train(digits_npz, out, *LARGE, "--steps=30", "--dtype=float32")
    return out


@pytest.fixture
def committed(finished_resnet20, tmp_path):
    """A finished run, as if trained from a clean checkout."""
    return with_commit(finished_resnet20, tmp_path / "committed", "0123456789ab")


def with_commit(run, copy, commit):
    shutil.copytree(run, copy)
    record = json.loads((copy / "run.json").read_text())
    record["environments"][0]["commit"] = commit
    (copy / "run.json").write_text(json.dumps(record))
    return copy


def test_publishing(committed, digits_npz, tmp_path):
    """The card has the measured error of the file; versions are never overwritten."""
    card = publish.publish(committed, digits_npz, tmp_path / "weights")
    assert card.full_name == "resnet20-cifar10@1" and card.paper_error == 8.75
    folder = tmp_path / "weights/resnet20-cifar10/1"
    content = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert content["curve.png"].startswith(b"\x89PNG") and len(content["curve.png"]) > 5000
    assert set(content) == {"weights.h5", "card.json", "history.csv", "curve.png"}
    images, labels = datasets.load_split("cifar10", "test", digits_npz)
    model = keras_resv2.ResNet20(weights=str(folder / "weights.h5"))
    wrong = np.sum(model.predict(images, verbose=0).argmax(1) != labels)
    assert card.test_error == round(100 * wrong / len(labels), 2)
    details = json.loads(content["card.json"])["details"]
    logits = keras_resv2.ResNet20(weights=str(folder / "weights.h5"), classifier_activation=None)(images)
    likelihood = keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
    assert details["negative_log_likelihood"] == pytest.approx(np.mean(likelihood), rel=1e-3)
    weighted = np.dot(details["class_errors"], np.bincount(labels, minlength=10) / len(labels))
    assert weighted == pytest.approx(card.test_error, abs=0.02)
    with pytest.raises(FileExistsError, match="never changes"):
        publish.publish(committed, digits_npz, tmp_path / "weights", version=1)
    assert publish.publish(committed, digits_npz, tmp_path / "weights").version == 2
    assert content == {path.name: path.read_bytes() for path in folder.iterdir()}


def test_publishing_with_other_seeds(committed, digits_npz, tmp_path):
    """A diverged seed counts as random guessing; an older run with fewer recorded settings gets their defaults."""
    runs = {}
    for seed in (1, 2):
        runs[seed] = with_commit(committed, tmp_path / f"seed{seed}", "0123456789ab")
        record = json.loads((runs[seed] / "run.json").read_text())
        record["settings"]["seed"] = seed
        del record["settings"]["recipe_values"]["units_per_batch"]
        if seed == 2:
            (runs[seed] / "weights.h5").unlink()
            record["diverged_at"] = 17
        (runs[seed] / "run.json").write_text(json.dumps(record))
    card = publish.publish(committed, digits_npz, tmp_path / "weights", seed_runs=[runs[1], runs[2]])
    assert card.seed_errors == {"0": card.test_error, "1": card.test_error, "2": 90.0}
    assert card.median_error == card.test_error and card.train_images == 1500
    with pytest.raises(ValueError, match="seed 1 is already included"):
        publish.publish(committed, digits_npz, tmp_path / "weights", seed_runs=[runs[1], runs[1]])
    dirty = with_commit(runs[1], tmp_path / "dirty1", "0123456789ab-dirty")
    with pytest.raises(ValueError, match="clean checkout"):
        publish.publish(committed, digits_npz, tmp_path / "weights", seed_runs=[dirty])


def test_publishing_half_the_size(committed, digits_npz, tmp_path):
    """Kernels rounded as by NumPy; the card has their measured error."""
    full = publish.publish(committed, digits_npz, tmp_path / "weights")
    half = publish.publish(committed, digits_npz, tmp_path / "weights", half=True)
    assert half.version == 2 and half.size < 0.53 * full.size and half.parameters == full.parameters
    files = [tmp_path / f"weights/resnet20-cifar10/{version}/weights.h5" for version in (1, 2)]
    arrays = [read_weights(file) for file in files]
    for name, array in arrays[0].items():
        rounded = array.astype("float16").astype("float32") if name.endswith("/kernel") else array
        np.testing.assert_array_equal(arrays[1][name], rounded)
    images, labels = datasets.load_split("cifar10", "test", digits_npz)
    found = keras_resv2.ResNet20(weights=str(files[1])).predict(images, verbose=0).argmax(1)
    assert half.test_error == round(100 * np.mean(found != labels), 2)


def test_cards_say_what_a_run_started_from_without_places_of_this_machine(
    committed, finished_resnet20, digits_npz, tmp_path
):
    record = json.loads((committed / "run.json").read_text())
    start = json.loads((finished_resnet20 / "run.json").read_text())
    record["settings"]["initial_weights"] = str(finished_resnet20)
    record["command"] += f" --initial_weights {finished_resnet20} --set teacher={finished_resnet20}=1"
    (committed / "run.json").write_text(json.dumps(record))
    card = publish.publish(committed, digits_npz, tmp_path / "weights")
    assert card.initial_weights.startswith(f"run resnet20: {start['command']} (commit ")
    assert card.command.endswith(" --initial_weights runs/resnet20 --set teacher=runs/resnet20=1")
    assert str(tmp_path.parent) not in card.to_json()
    record["settings"]["recipe_values"]["teacher"] = f"resnet20-cifar10@4,{finished_resnet20}"
    record["settings"]["initial_weights"] = "/of/another/machine/runs/deep"
    (committed / "run.json").write_text(json.dumps(record))
    card = publish.publish(committed, digits_npz, tmp_path / "weights")
    assert card.recipe_values["teacher"] == "resnet20-cifar10@4,runs/resnet20" and card.initial_weights == "runs/deep"


@pytest.mark.parametrize("variant", ["swa@2", "a/b", ".hidden"])
def test_variants_that_no_name_can_have(variant, committed, digits_npz, tmp_path):
    """A version is permanent, so they are refused before it is written."""
    with pytest.raises(ValueError, match="--variant"):
        publish.publish(committed, digits_npz, tmp_path / "weights", variant=variant)
    assert not (tmp_path / "weights").exists()


def test_runs_that_must_not_be_published(committed, digits_npz, tmp_path):
    with pytest.raises(FileNotFoundError, match="not a finished run"):
        publish.publish(tmp_path, digits_npz, tmp_path / "weights")
    with np.load(digits_npz) as arrays:
        changed = dict(arrays)
    changed["x_test"] = changed["x_test"][::-1]
    np.savez(tmp_path / "other.npz", **changed)
    with pytest.raises(ValueError, match="not the test images"):
        publish.publish(committed, tmp_path / "other.npz", tmp_path / "weights")
    with pytest.raises(ValueError, match="not even the seed"):
        publish.publish(committed, digits_npz, tmp_path / "weights", seed_runs=[committed])
    dirty = with_commit(committed, tmp_path / "dirty", "0123456789ab-dirty")
    with pytest.raises(ValueError, match="clean checkout"):
        publish.publish(dirty, digits_npz, tmp_path / "weights")
    (dirty / "history.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"no history\.csv"):
        publish.publish(dirty, digits_npz, tmp_path / "weights")
    assert not list((tmp_path / "weights").glob("*/*"))


def test_dry_run_prints_the_plan_and_writes_nothing(digits_npz, tmp_path):
    out = tmp_path / "run"
    text = train(digits_npz, out, *LARGE, "--dry_run", "--recipe=paper", "--steps=300").stdout
    facts = {line[:16].strip(): line[16:] for line in text.splitlines()}
    assert facts["network"] == "resnet20" and facts["size"].startswith("269,722 parameters, 40.6 million")
    assert facts["data"] == "cifar10: 1,500 training images, 297 test images"
    assert facts["steps"] == "300 of 50 images, 10.0 epochs"
    assert facts["optimizer"] == "SGD, momentum 0.9, L2 0.0001 on all weights"
    # Peak rates and step are measured one after the other, so on a busy machine neither bounds the other.
    floor, operations, per_second, gigabytes, bandwidth = map(float, re.findall(r"[\d.]+(?= [mGT])", facts["roofline"]))
    assert operations == round(6 * 0.0406 * 50) and gigabytes > 0
    assert floor == pytest.approx(max(6 * 0.0406 * 50 / per_second, 1000 * gigabytes / bandwidth), rel=0.05)
    assert 0.2 < float(facts["memory"].split()[0]) < 50
    seconds = float(facts["measured"].split()[0]) / 1000 * 300 + float(facts["first step"].split()[0])
    amount, unit = facts["training takes"].split(",")[0].split()
    printed = {"s": 1, "min": 60}[unit]  # to whole ones
    assert abs(float(amount) * printed - seconds) <= 0.5 * printed + 0.02 * seconds + 0.1
    assert not out.exists()


@pytest.mark.parametrize("form, word", [
    ([*LARGE, "--rolled", "--rematerialize", "--steps=60"], "rolled"),
    (["--units_per_batch=2", "--steps=90"], "recipe_values"),
    (["--set=image_size=((0, 0.625), (0.5, 1.0))", "--steps=90"], "recipe_values"),  # 20 pixels, then 32
])  # fmt: skip
def test_other_ways_to_train_leave_weights_of_the_plain_network(form, word, digits_npz, tmp_path):
    out = tmp_path / "run"
    train(digits_npz, out, "--dtype=float32", *form)
    measured = evaluate.evaluate(out, str(digits_npz))
    record = json.loads((out / "run.json").read_text())
    assert abs(measured["test_error"] - record["test_error_at_end"]) < 0.5
    losses = [float(row["train_loss"]) for row in history(out)]
    assert len(losses) > 1 and losses[-1] < losses[0] - 0.3
    plain = {key: value for key, value in record["settings"].items() if key not in ("rolled", "rematerialize")}
    plain["recipe_values"] = {**plain["recipe_values"], "units_per_batch": None, "image_size": None}
    with pytest.raises(ValueError, match=f"different {word}"):
        start_record(out, plain, "")


def test_seeds_give_the_median(digits_npz, tmp_path):
    text = train(digits_npz, tmp_path / "runs", "--steps=4", "--dtype=float32", "--seeds=3", "--seed=5").stdout
    errors = [float(history(tmp_path / f"runs/seed{seed}")[-1]["test_error"]) for seed in (5, 6, 7)]
    assert f"median of 3 seeds: {np.median(errors):.2f} % ({', '.join(f'{e:.2f}' for e in errors)})" in text
    weights = [read_weights(tmp_path / f"runs/seed{seed}/weights.h5")["stem_conv/kernel"] for seed in (5, 6)]
    assert not np.array_equal(*weights)


def test_tensorboard_gets_the_history(finished):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(finished.with_name("events")), {"tensors": 0}).Reload()
    written = {event.step: float(event.tensor_proto.float_val[0]) for event in events.Tensors("epoch/test_error")}
    assert written == {int(r["step"]): pytest.approx(float(r["test_error"])) for r in history(finished)}


def test_images_of_another_size(digits, tmp_path):
    """Rejected; resized on request, which inverts repeating each pixel."""
    (x_train, y_train), (x_test, y_test) = digits
    x_train, x_test = (images.repeat(2, 1).repeat(2, 2) for images in (x_train, x_test))
    np.savez(tmp_path / "large.npz", x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    done = train(tmp_path / "large.npz", tmp_path / "run", "--steps=1", ok=False)
    assert "--resize" in done.stderr and "Traceback" not in done.stderr
    images, _ = datasets.load_split("cifar10", "test", tmp_path / "large.npz", resize=True)
    assert np.abs(images.astype(int) - digits[1][0]).mean() < 10  # mean of the pixels: 78


@pytest.mark.parametrize("script", ["train", "evaluate", "publish"])
def test_help(script):
    """Only the help, without messages of TensorFlow's libraries, and no error."""
    done = subprocess.run([sys.executable, "-m", f"train.{script}", "--help"], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"python -m train.{script}" in done.stdout
    assert "--data_dir: tensorflow-datasets directory" in done.stdout


HIDE_TENSORFLOW = """
from importlib.machinery import PathFinder

find = PathFinder.find_spec
hidden = ("tensorflow", "tensorflow_datasets", "matplotlib", "tensorboard")
PathFinder.find_spec = lambda name, *rest: None if name.split(".")[0] in hidden else find(name, *rest)
import importlib.util, pathlib
pathlib.Path(__file__).with_name("hidden").write_text(str(importlib.util.find_spec("tensorflow")))
"""


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_training_on_other_backends_needs_neither_tensorflow_nor_tfds(backend, digits_npz, tmp_path):
    """These and other optional packages are hidden, as if not installed."""
    pytest.importorskip(backend, reason=f"{backend} is not installed")
    (tmp_path / "sitecustomize.py").write_text(HIDE_TENSORFLOW)
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    done = subprocess.run(
        command(digits_npz, tmp_path / "run", "--steps=3", "--dtype=float32"),
        capture_output=True, text=True, cwd=ROOT, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "hidden").read_text() == "None"
    assert json.loads((tmp_path / "run/run.json").read_text())["environments"][0]["backend"] == backend
