"""Comparison with the papers: which runs count, count once or are never mixed, and the statements about them."""

import dataclasses
import itertools
import json
import math
import pathlib
import re
import shlex
import subprocess
import sys

import pytest

import keras_resv2
from helpers.paths import ROOT
from keras_resv2.storage.card import Card
from train import reproduce
from train.paper_tables import comparison
from train.paper_tables import figures as paper_figures
from train.paper_tables import results as our_results
from train.paper_tables.report import as_text, statements
from train.recipes import RECIPES

GATES = "exclusive_gating(bias=-6)"


@pytest.fixture
def folders(tmp_path):
    """Empty folders of runs and of published weights."""
    for name in ("runs", "weights"):
        (tmp_path / name).mkdir()
    return tmp_path


def values(recipe, **changes):
    return json.loads(json.dumps(dataclasses.asdict(dataclasses.replace(RECIPES[recipe], **changes))))


def add_run(folders, error, model="resnet110", seed=0, recipe="paper", name=None, dataset="cifar10", **more):
    """Creates a run's folder; unfinished if `error` is None. `more` changes the recipe or the network."""
    arguments = {key: more.pop(key) for key in list(more) if key in ("activation", "shortcut", "projection")}
    record = {
        "settings": {
            "model": model,
            "arguments": arguments,
            "dataset": dataset,
            "train_images": more.pop("train_images", 50_000),
            "recipe": recipe,
            "recipe_values": values(recipe, **more),
            "seed": seed,
        }
    }
    if error is not None:
        record.update(wall_seconds=1.0, test_error_at_end=error)
    folder = folders / "runs" / (name or f"run{len(list((folders / 'runs').iterdir()))}")
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps(record))
    return folder


def add_card(folders, errors, architecture="resnet110", version=1, recipe="paper", arguments=None, **changes):
    fields = {
        **dict.fromkeys(("command", "hardware", "backend", "commit", "file", "license"), "-"),
        **dict.fromkeys(("parameters", "test_errors_first_2000", "seed", "size"), 1),
        **dict.fromkeys(("test_error", "median_error", "wall_seconds"), 1.0),
        **dict.fromkeys(("paper_error", "paper", "origin", "class_index", "train_images", "url"), None),
        "file": "weights.h5",
        "sha256": "0" * 64,
        "versions": {},
        "name": f"{architecture}-cifar10",
        "version": version,
        "architecture": architecture,
        "arguments": arguments or {},
        "dataset": "cifar10",
        "image_shape": (32, 32, 3),
        "class_names": ("one", "two"),
        "dataset_sha256": {"train": "0", "test": "0"},
        "test_images": 10_000,
        "seed_errors": {str(seed): error for seed, error in errors.items()},
        "recipe": recipe,
        "recipe_values": values(recipe),
        "steps": RECIPES[recipe].steps,
        **changes,
    }
    folder = folders / "weights" / fields["name"] / str(version)
    folder.mkdir(parents=True)
    (folder / "card.json").write_text(Card(**fields).to_json())


def report(folders, table):
    found = our_results.collect(folders / "weights", folders / "runs")
    return comparison.compare(table, found, folders / "runs")


def cell(folders, table, row, column="ResNet-110"):
    (found,) = (c for c in report(folders, table)["cells"] if (c["row"], c["column"]) == (row, column))
    return found


def errors(figure):
    return [run["error"] for run in figure["runs"]]


def test_the_papers_figures():
    """Copied from the papers a second time, in the order of their rows; None for "fail"."""
    printed = {
        "table1": [6.61, None, None, 12.35, *[None] * 6, 8.70, 9.81, 12.86, 6.91, 12.22, None],
        "table2": [6.61, 5.93, 8.17, 6.50, 7.84, 6.14, 6.71, 5.91, 6.37, 5.46],
        "table3": [6.61, 6.37, 5.93, 5.46, 7.61, 4.92, 4.62],
        "table4": [25.16, 24.33, 27.82, 22.71],
        "resnet": [8.75, 7.51, 7.17, 6.97, 6.43, 7.93],
    }
    assert {name: [entry.error for entry in entries] for name, entries in paper_figures.TABLES.items()} == printed


def test_one_network_has_one_figure_wherever_the_papers_repeat_it():
    figures = {}
    for entry in [entry for table in ("table1", "table2", "table3") for entry in paper_figures.TABLES[table]]:
        made = (paper_figures.network(entry.model, entry.arguments), entry.batch_size)
        figures.setdefault(made, set()).add(entry.error)
    assert all(len(found) == 1 for found in figures.values())
    # In each table every cell is another network; Table 3's ResNet-1001 stands there with two batch sizes.
    for entries in paper_figures.TABLES.values():
        assert len({e.dataset for e in entries}) == 1
        assert len({(paper_figures.network(e.model, e.arguments), e.batch_size) for e in entries}) == len(entries)


@pytest.mark.parametrize(
    "model, arguments, expected",
    [
        ("resnet20", {}, (8.75, "He et al. 2015, Table 6")),
        ("resnet110", {}, (6.61, "He et al. 2016, Table 3")),
        ("resnet110", {"activation": "full_preactivation"}, (6.37, "He et al. 2016, Table 3")),
        ("preact_resnet110", {"activation": "original", "projection": "A"}, (6.61, "He et al. 2016, Table 3")),
        ("resnet164", {"activation": "bn_after_addition"}, (6.50, "He et al. 2016, Table 2")),
        ("resnet110", {"shortcut": "constant_scaling"}, (12.35, "He et al. 2016, Table 1")),
        ("resnet110", {"shortcut": "shortcut_only_gating( bias = -6.0 )"}, (6.91, "He et al. 2016, Table 1")),
        ("resnet110", {"projection": "C"}, (12.22, "He et al. 2016, Table 1")),
        ("resnet110", {"shortcut": "dropout"}, (None, "He et al. 2016, Table 1: fails, more than 20 %")),
        ("preact_resnet1001", {}, (4.92, "He et al. 2016, Table 3")),
        ("resnet110", {"projection": "B"}, (None, None)),
        ("preact_resnet110", {"shortcut": GATES}, (None, None)),
        ("preact_resnet20", {}, (None, None)),
        ("resnet50", {}, (None, None)),
    ],
)
def test_paper_error(model, arguments, expected):
    assert paper_figures.paper_error(model, arguments, "cifar10") == expected
    assert paper_figures.paper_error(model, arguments, "imagenet2012") == (None, None)


@pytest.mark.parametrize(
    "model, error", [("resnet164", 25.16), ("preact_resnet164", 24.33), ("resnet1001", 27.82), ("resnet110", None)]
)
def test_paper_error_on_cifar100(model, error):
    assert paper_figures.paper_error(model, {}, "cifar100")[0] == error
    pixels = {"preprocessing": [[129.3, 124.1, 112.4], [68.2, 65.4, 70.4]]}  # as cards have them
    assert paper_figures.paper_error(model, pixels, "cifar100")[0] == error


def test_cifar100(folders):
    """Cells of Table 4 only count runs on CIFAR-100, which other cells ignore; random guessing is 99 % wrong."""
    missing = cell(folders, "table4", "ResNet-164", "original")
    assert missing["reproduction"] is None
    assert "--model resnet164 --dataset cifar100 --recipe paper" in missing["command"]
    assert missing["command"].endswith("--data_dir cifar100.npz --out " + str(folders / "runs/resnet164-cifar100-0"))
    add_run(folders, 25.0, "resnet164", dataset="cifar100")
    add_run(folders, 6.0, "resnet164")
    assert errors(cell(folders, "table4", "ResNet-164", "original")["reproduction"]) == [25.0]
    assert errors(cell(folders, "table3", "ResNet-164", "original")["reproduction"]) == [6.0]
    diverged = add_run(folders, None, "resnet164", seed=1, dataset="cifar100")
    record = json.loads((diverged / "run.json").read_text())
    (diverged / "run.json").write_text(json.dumps({**record, "diverged_at": 7}))
    assert errors(cell(folders, "table4", "ResNet-164", "original")["reproduction"]) == [25.0, 99.0]
    assert report(folders, "table4")["title"] == "He et al. 2016, Table 4, cifar100"
    assert as_text(report(folders, "table4")).splitlines()[0].endswith(": test error on cifar100, percent")
    assert as_text(report(folders, "table3")).splitlines()[0].endswith(": test error on cifar10, percent")


def test_parameters_of_the_cells_networks():
    """He et al. 2016, Table 4: 1.7M for ResNet-110 and the 164-layer network."""
    for model in ("resnet110", "preact_resnet164"):
        weights = keras_resv2.build(model).trainable_weights
        assert round(sum(math.prod(weight.shape) for weight in weights) / 1e6, 1) == 1.7


def test_median_seeds_and_number(folders):
    for seed, error in enumerate((6.9, 6.5, 6.4, 7.2)):
        add_run(folders, error, seed=seed)
    found = cell(folders, "table2", "original")
    assert found["paper"] == 6.61 and found["command"] is None and found["other_recipes"] == []
    figure = found["reproduction"]
    assert figure["median"] == 6.7 and errors(figure) == [6.9, 6.5, 6.4, 7.2]
    assert (figure["recipe"], figure["steps"]) == ("paper", 64_000)
    assert cell(folders, "table1", "original")["reproduction"] == figure


def test_two_spellings_are_one_cell_and_two_networks_are_not(folders):
    add_run(folders, 6.2, model="resnet110", seed=0, activation="full_preactivation")
    add_run(folders, 6.4, model="preact_resnet110", seed=1)
    add_run(folders, 6.9, model="preact_resnet110", seed=2, projection="B")
    assert errors(cell(folders, "table2", "full pre-activation")["reproduction"]) == [6.2, 6.4]
    add_run(folders, 12.0, seed=0, shortcut="constant_scaling")
    add_run(folders, 25.0, seed=0, shortcut="constant_scaling(branch_scale=1.0)")
    assert errors(cell(folders, "table1", "constant scaling 0.5, branch 0.5")["reproduction"]) == [12.0]
    assert errors(cell(folders, "table1", "constant scaling 0.5, branch 1")["reproduction"]) == [25.0]


def test_a_published_run_counts_once_and_with_the_cards_error(folders):
    add_run(folders, 6.58, seed=0)
    add_run(folders, 6.70, seed=1)
    add_run(folders, 6.90, seed=2)
    add_card(folders, {0: 6.60, 1: 6.71})
    figure = cell(folders, "table3", "ResNet-110", "original")["reproduction"]
    assert errors(figure) == [6.60, 6.71, 6.90]
    assert [run["from"] for run in figure["runs"]][:2] == ["resnet110-cifar10@1"] * 2


def test_all_versions_count_and_the_newest_of_one_run(folders):
    add_card(folders, {0: 6.6, 1: 6.7}, version=1)
    add_card(folders, {0: 6.5, 2: 6.8}, version=10)
    (folders / "weights/resnet110-cifar10/11.part").mkdir()
    (folders / "weights/resnet110-cifar10/11.part/card.json").write_text("half a card")
    assert errors(cell(folders, "table3", "ResNet-110", "original")["reproduction"]) == [6.5, 6.7, 6.8]


def test_recipes_are_not_mixed(folders):
    """The precision may differ; steps, batch size and all other values must not."""
    add_run(folders, 6.6, seed=0)
    add_run(folders, 6.8, seed=0, dtype="mixed_bfloat16")
    add_run(folders, 9.1, seed=0, steps=32_000)
    add_run(folders, 9.2, seed=1, steps=32_000)
    add_run(folders, 9.4, seed=0, batch_size=256)
    add_run(folders, 9.5, seed=0, weight_decay=5e-4)
    add_run(folders, 6.7, seed=1, mixup=0, label_smoothing=0)  # as `--set mixup=0` records them: not another value
    for parent in ("deep", "wide"):  # directories of --seeds; the same error and seed, but other teachers
        add_run(folders, 9.6, seed=0, teacher=f"/runs/{parent}/seed0")
    add_card(folders, {0: 7.9}, recipe="fast")
    found = cell(folders, "table3", "ResNet-110", "original")
    assert found["reproduction"]["median"] == 6.7
    assert found["reproduction"]["precision"] == ["float32", "mixed_bfloat16"]
    others = {(f["recipe"], f["steps"]): errors(f) for f in found["other_recipes"]}
    assert others == {
        ("fast", 19_500): [7.9],
        ("paper", 32_000): [9.1, 9.2],
        ("paper, batch_size=256", 64_000): [9.4],
        ("paper, weight_decay=0.0005", 64_000): [9.5],
        ("paper, teacher=runs/deep/seed0", 64_000): [9.6],
        ("paper, teacher=runs/wide/seed0", 64_000): [9.6],
    }


def test_what_other_recipes_reach_is_no_reproduction(folders):
    add_card(folders, {0: 7.9}, recipe="fast")
    found = report(folders, "table3")
    assert found["cells"][0]["reproduction"] is None and "--recipe paper" in found["cells"][0]["command"]
    lines = [line for line in as_text(found).splitlines() if line.startswith("ResNet-110, original")]
    header = next(line for line in as_text(found).splitlines() if line.startswith("cell"))
    end = header.index("other recipe") + len("other recipe")
    assert "missing" in lines[0] and lines[1][:end].split()[-1] == "7.90" and "7.90" not in lines[0]
    assert lines[1][: header.index("other recipe")].strip() == "ResNet-110, original"
    assert "fast (mixed_bfloat16)" in lines[1] and "19,500" in lines[1]
    assert "7 of 7 cells have no run with the `paper` recipe." in statements(found)


def test_values_that_older_runs_lack_are_the_defaults(folders):
    folder = add_run(folders, 6.6)
    record = json.loads((folder / "run.json").read_text())
    del record["settings"]["recipe_values"]["nesterov"]
    (folder / "run.json").write_text(json.dumps(record))
    assert cell(folders, "table1", "original")["reproduction"]["median"] == 6.6


def test_batch_64_keeps_the_epochs_and_has_its_own_cell(folders):
    add_run(folders, 4.9, model="preact_resnet1001")
    add_run(folders, 4.6, model="preact_resnet1001", batch_size=64, steps=128_000)
    add_run(folders, 5.9, model="preact_resnet1001", batch_size=64)
    whole = cell(folders, "table3", "ResNet-1001", "pre-activation")
    half = cell(folders, "table3", "ResNet-1001, batch 64", "pre-activation")
    assert errors(whole["reproduction"]) == [4.9] and not whole["other_recipes"]
    assert errors(half["reproduction"]) == [4.6] and half["reproduction"]["steps"] == 128_000
    assert [(errors(f), f["steps"]) for f in half["other_recipes"]] == [([5.9], 64_000)]


def test_runs_that_do_not_count(folders):
    add_run(folders, None)
    add_run(folders, 1.0, dataset="imagenette")
    add_run(folders, 1.0, train_images=5_000)
    add_card(folders, {0: 1.0}, dataset="flowers")
    add_card(folders, {0: 1.0}, version=2, test_images=2_000)
    (folders / "runs/notes").mkdir()
    assert our_results.collect(folders / "weights", folders / "runs") == []


def test_order(folders):
    add_run(folders, 6.5)
    assert report(folders, "table1")["order"][0]["as_the_paper"] is None
    add_run(folders, 8.0, shortcut=GATES)
    add_run(folders, 30.0, shortcut="dropout")
    add_run(folders, 90.0, shortcut="none")
    (order,) = report(folders, "table1")["order"]
    assert order["as_the_paper"] is True and order["cells"] == 4 and order["exceptions"] == []
    assert "Order of the 4 reproduced cells: as in the paper." in statements(report(folders, "table1"))
    add_run(folders, 7.5, shortcut="exclusive_gating(bias=-7)")
    (order,) = report(folders, "table1")["order"]
    assert order["as_the_paper"] is False and order["exceptions"] == [
        "exclusive gating, bias -6 (8.00) is not below exclusive gating, bias -7 (7.50)"
    ]
    assert "not as in the paper. exclusive gating, bias -6" in " ".join(statements(report(folders, "table1")))


def test_other_recipes_have_an_order_of_their_own(folders):
    for model, error in (("resnet20", 8.5), ("resnet32", 7.6), ("resnet44", 7.7)):
        add_run(folders, error, model=model, recipe="fast")
    add_run(folders, 9.0, model="resnet44")
    reproduced, fast = report(folders, "resnet")["order"]
    assert (reproduced["cells"], reproduced["as_the_paper"]) == (1, None)
    assert (fast["recipe"], fast["reproduction"], fast["as_the_paper"]) == ("fast, 19,500 steps", False, False)
    assert "Order of 3 cells by fast, 19,500 steps (no reproduction): not as in the paper." in " ".join(
        statements(report(folders, "resnet"))
    )


def test_cells_that_fail(folders):
    for seed, error in enumerate((90.0, 15.0, 21.0)):
        add_run(folders, error, seed=seed, shortcut="dropout")
    add_run(folders, 20.0, shortcut="none")
    add_run(folders, None, shortcut="exclusive_gating(bias=0)")  # stopped: nothing was measured
    add_run(folders, 90.0, recipe="fast", shortcut="exclusive_gating(bias=-1)")
    said = " ".join(statements(report(folders, "table1")))
    assert "failed here too: dropout shortcut 0.5 (21.00 %)" in said
    assert "did not fail here: constant scaling 0, branch 1: the plain network (20.00 %)" in said
    assert "not reproduced yet: 7 of 9" in said


PARSE = """
import json, sys
from absl import flags
from train import train

parsed = []
for command in json.load(sys.stdin):
    flags.FLAGS.unparse_flags()
    flags.FLAGS(["train", *command])
    taken = {name: flags.FLAGS[name].value for name in ("model", "recipe", "out", "steps", "batch_size")}
    parsed.append({**taken, "arguments": train.config_from_flags().arguments})
    for name in flags.FLAGS:
        flags.FLAGS[name].unparse()
print(json.dumps(parsed))
"""


def test_commands_of_missing_cells_are_commands_of_train(folders):
    """The command's flags parse to the network and the recipe of the cell."""
    cells = [c for table in paper_figures.TABLES for c in report(folders, table)["cells"]]
    commands = [shlex.split(c["command"]) for c in cells]
    assert all(command[:3] == ["python", "-m", "train.train"] for command in commands)
    done = subprocess.run(
        [sys.executable, "-c", PARSE], input=json.dumps([command[3:] for command in commands]),
        capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    made = {}
    for entry, parsed in zip(itertools.chain(*paper_figures.TABLES.values()), json.loads(done.stdout), strict=True):
        network = paper_figures.network(parsed["model"], parsed["arguments"])
        assert network == paper_figures.network(entry.model, entry.arguments) and parsed["recipe"] == "paper"
        assert (parsed["batch_size"] or 128, parsed["steps"] or 64_000) == (entry.batch_size, entry.steps)
        made.setdefault(parsed["out"], set()).add((network, entry.batch_size))
    assert all(len(networks) == 1 for networks in made.values())  # no two cells share a folder


def test_commands_take_a_folder_that_is_free_or_their_own(folders):
    assert out(folders) == "resnet110-exclusive_gating-6-0"
    add_run(folders, None, shortcut=GATES, name="resnet110-exclusive_gating-6-0")
    assert out(folders) == "resnet110-exclusive_gating-6-0"  # unfinished: the command resumes it
    (folders / "runs/resnet110-exclusive_gating-6-0/run.json").unlink()
    (folders / "runs/resnet110-exclusive_gating-6-0").rmdir()
    add_run(folders, 9.9, shortcut=GATES, recipe="fast", name="resnet110-exclusive_gating-6-0")
    assert out(folders) == "resnet110-exclusive_gating-6-paper-0"


def test_the_command_of_an_unfinished_run_has_its_precision(folders):
    add_run(folders, None, shortcut=GATES, name="resnet110-exclusive_gating-6-0", dtype="mixed_bfloat16")
    assert out(folders) == "resnet110-exclusive_gating-6-0"
    assert "--dtype mixed_bfloat16" in cell(folders, "table1", "exclusive gating, bias -6")["command"]


def test_commands_resume_rolled_runs_and_leave_those_on_other_images_alone(folders):
    folder = add_run(folders, None, shortcut=GATES, name="resnet110-exclusive_gating-6-0")
    record = json.loads((folder / "run.json").read_text())
    record["settings"]["rolled"] = True
    (folder / "run.json").write_text(json.dumps(record))
    assert out(folders) == folder.name
    assert "--rolled" in shlex.split(cell(folders, "table1", "exclusive gating, bias -6")["command"])
    record["settings"]["train_images"] = 5000
    (folder / "run.json").write_text(json.dumps(record))
    assert out(folders) == f"{folder.name.removesuffix('-0')}-paper-0"


def test_cards_of_a_part_of_the_dataset_are_ignored(folders):
    add_card(folders, {0: 6.5}, train_images=5000)
    assert cell(folders, "table3", "ResNet-110", "original")["reproduction"] is None
    add_card(folders, {0: 6.6}, version=2, train_images=50_000)
    assert errors(cell(folders, "table3", "ResNet-110", "original")["reproduction"]) == [6.6]


def test_networks_with_parts_of_others_are_ignored(folders, capsys):
    """Trained with a shortcut or an order of activations that the user registered, which is unknown here."""
    add_run(folders, 1.23, shortcut="half(rate=0.5)", name="own")
    add_run(folders, 1.23, activation="bn_last", name="own2")
    assert run_main(folders, "table1") == 0 and "1.23" not in capsys.readouterr().out


def test_a_run_that_diverged_failed(folders):
    """Table 1 reports "fail" for such cells; the error is that of guessing one of ten classes."""
    folder = add_run(folders, None, shortcut="dropout(rate=0.5)")
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**record, "diverged_at": 1234}))
    (found,) = (c for c in report(folders, "table1")["cells"] if c["row"].startswith("dropout"))
    assert errors(found["reproduction"]) == [90.0] and found["command"] is None
    assert "diverged at step 1,234" in found["reproduction"]["runs"][0]["from"]
    assert "failed here too" in as_text(report(folders, "table1"))
    add_run(folders, 12.3, shortcut="dropout(rate=0.5)", name="z")  # the same seed again, to its end
    (found,) = (c for c in report(folders, "table1")["cells"] if c["row"].startswith("dropout"))
    assert errors(found["reproduction"]) == [12.3]


def out(folders):
    return pathlib.Path(shlex.split(cell(folders, "table1", "exclusive gating, bias -6")["command"])[-1]).name


def run_main(folders, *more):
    return reproduce.main([*more, "--runs", str(folders / "runs"), "--weights_dir", str(folders / "weights")])


@pytest.mark.parametrize("format", ["text", "markdown", "json"])
def test_formats_say_the_same(folders, capsys, format):
    add_run(folders, 6.55, seed=3)
    add_run(folders, 6.75, seed=4)
    add_card(folders, {0: 7.93}, recipe="fast")
    assert run_main(folders, "table1", "--format", format) == 0
    text = capsys.readouterr().out
    if format == "json":
        content = json.loads(text)
        figure = content["cells"][0]["reproduction"]
        assert figure["median"] == 6.65 and [run["seed"] for run in figure["runs"]] == [3, 4]
        assert content["cells"][0]["other_recipes"][0]["median"] == 7.93
        assert content["cells"][1]["paper"] is None and content["statements"]
    else:
        for words in ("6.61", "6.65", "3: 6.55, 4: 6.75", "7.93", "fast", "19,500", "fails (> 20)", "missing"):
            assert words in text
        assert "--shortcut 'exclusive_gating(bias=-6)' --seed 0" in text
        assert "15 of 16 cells have no run with the `paper` recipe." in text
    if format == "markdown":
        table = [line for line in text.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in table}) == 1 and len(table) == 2 + 16 + 1


def test_plot(folders, capsys):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    from PIL import Image

    add_run(folders, 6.55)
    add_run(folders, 90.0, shortcut="dropout")
    add_card(folders, {0: 7.93}, recipe="fast")
    assert run_main(folders, "table1", "--plot", str(folders / "plot.png")) == 0
    with Image.open(folders / "plot.png") as image:
        assert image.format == "PNG" and min(image.size) > 300
    assert run_main(folders, "table1", "--plot", str(folders / "nowhere/plot.png")) == 2
    assert run_main(folders, "table1", "--plot", str(folders / "plot.xyz")) == 2


@pytest.mark.parametrize(
    "content, words",
    [
        ("{", "damaged run.json"),
        ("[]", "damaged run.json"),
        ('{"settings": {"dataset": "cifar10"}}', "it has no 'model'"),
        ('{"settings": {"dataset": "cifar10", "model": "resnet9", "arguments": {}}}', "resnet9"),
        (None, "not a percentage"),
    ],
)
def test_a_damaged_run_is_one_line(folders, capsys, content, words):
    folder = add_run(folders, float("nan"))
    if content is not None:
        (folder / "run.json").write_text(content)
    assert run_main(folders, "table1") == 2
    error = capsys.readouterr().err
    assert words in error and str(folder) in error and error.count("\n") == 1 and ".." not in error


def test_bad_input_is_one_line(folders, capsys):
    add_card(folders, {0: "six"})
    assert run_main(folders, "table1") == 2
    assert "seed_errors is {'0': 'six'} but must be" in capsys.readouterr().err
    assert reproduce.main(["table1", "--runs", str(folders / "nowhere"), "--weights_dir", str(folders)]) == 2
    assert capsys.readouterr().err == f"error: the folder {folders / 'nowhere'} does not exist.\n"
    with pytest.raises(SystemExit) as stopped:
        reproduce.main(["table9"])
    assert stopped.value.code == 2 and "table9" in capsys.readouterr().err


def test_without_runs_the_cards_alone_count(folders, capsys, monkeypatch):
    add_card(folders, {0: 6.6})
    monkeypatch.chdir(folders)
    (folders / "runs").rmdir()
    assert reproduce.main(["table3", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["cells"][0]["reproduction"]["median"] == 6.6


def test_the_command_on_this_checkout():
    for table, words in (("resnet", "ResNet-1202"), ("table2", "BN after addition, ResNet-110")):
        done = subprocess.run(
            [sys.executable, "-m", "train.reproduce", table, "--weights_dir", "weights"],
            capture_output=True, text=True, cwd=ROOT,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert words in done.stdout


def test_records_of_unpublished_runs(folders, capsys, monkeypatch):
    """Those of this repository: all five orders of Table 2 by one short recipe, which reproduces nothing."""
    monkeypatch.chdir(folders)
    (folders / "weights").mkdir(exist_ok=True)
    assert reproduce.main(["table2", "--format", "json"]) == 0
    cells = json.loads(capsys.readouterr().out)["cells"]
    found = [cell["other_recipes"] for cell in cells if cell["column"] == "ResNet-110"]
    assert len(found) == 5 and all(1950 in [row["steps"] for row in rows] for rows in found)
    assert not any(cell["reproduction"] for cell in cells)
    for path in reproduce.RESULTS.glob("**/run.json"):
        last = (path.parent / "history.csv").read_text().splitlines()[-1].split(",")
        assert float(last[5]) == json.loads(path.read_text())["test_error_at_end"]
        assert not any(word.startswith("/") for word in re.split("[ =]", json.loads(path.read_text())["command"]))
