"""The ImageNet recipe, from a folder of pictures to measured weights."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from test_train import ROOT, history

from train.recipes import RECIPES

COLOURS = {"blue": (40, 60, 220), "green": (50, 200, 60), "red": (220, 50, 40)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pictures of three colours with noise, 80 to 120 pixels a side: 8 of each to train on, 3 to test."""
    rng = np.random.default_rng(0)
    root = tmp_path_factory.mktemp("pictures")
    for split, count in (("train", 8), ("val", 3)):
        for name, colour in COLOURS.items():
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                noise = rng.normal(0, 20, (*rng.integers(80, 120, 2), 3))
                pixels = np.clip(np.array(colour) + noise, 0, 255).astype("uint8")
                Image.fromarray(pixels).save(root / split / name / f"{i}.jpg")
    return root


def run(script, *more, ok=True):
    done = subprocess.run([sys.executable, "-m", f"train.{script}", *more], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode == 0) == ok, done.stderr[-3000:]
    return done


def train(folder, out, *more, ok=True):
    return run(
        "train", "--model=resnet18", "--recipe=imagenet", "--dataset=folder", f"--data_dir={folder}", f"--out={out}",
        "--image_size=64", "--batch_size=8", "--learning_rate=0.01", "--evaluate_every=100", *more, ok=ok,
    )  # fmt: skip


def test_the_recipe_is_the_papers():
    """He et al. 2016, section 5 and appendix: 90 epochs of batches of 256, 0.1 divided by 10 every 30."""
    recipe = RECIPES["imagenet"].for_images(1_281_167)
    assert (recipe.batch_size, recipe.momentum, recipe.weight_decay, recipe.steps) == (256, 0.9, 1e-4, 450_411)
    per_epoch = 1_281_167 / 256
    at = {epoch: recipe.learning_rate(int(epoch * per_epoch)) for epoch in (0, 29.9, 30.1, 59.9, 60.1, 89.9)}
    assert at == {0: 0.1, 29.9: 0.1, 30.1: 0.01, 59.9: 0.01, 60.1: 0.001, 89.9: 0.001}
    assert recipe.views == ((256, 224), (320, 320)) and recipe.image_size == 224


def test_from_a_folder_of_pictures_to_measured_weights(folder, tmp_path):
    out = tmp_path / "run"
    plan = train(folder, out, "--dry_run").stdout
    assert "folder: 24 training images, 9 test images" in plan and "270 of 8 images, 90.0 epochs" in plan
    assert float(plan.partition("input alone")[2].split()[0].replace(",", "")) > 0
    text = train(folder, out, "--steps=24").stdout
    assert "input pipeline alone" in text
    rows = history(out)
    assert len(rows) == 8 and float(rows[-1]["train_loss"]) < float(rows[0]["train_loss"])
    record = json.loads((out / "run.json").read_text())
    assert record["settings"]["class_names"] == ["blue", "green", "red"]
    measured = json.loads(run("evaluate", f"--run={out}", f"--data_dir={folder}").stdout.splitlines()[-1])
    assert measured["test_images"] == 9
    for name in ("test_error", "test_error_320"):
        assert measured[name] == float(rows[-1][name]) == record[f"{name}_at_end"]


def test_pictures_that_cannot_be_read_stop_the_run_in_one_line(folder, tmp_path):
    damaged = tmp_path / "pictures"
    for path in folder.rglob("*.jpg"):
        target = damaged / path.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes() if path.name != "3.jpg" else b"no picture")
    done = train(damaged, tmp_path / "run", "--steps=9", ok=False)
    assert "3.jpg is not a picture that can be read" in done.stderr and "Traceback" not in done.stderr


def test_publishing_is_for_the_datasets_of_the_package(folder, tmp_path):
    train(folder, tmp_path / "run", "--steps=1")
    done = run("publish", f"--run={tmp_path / 'run'}", f"--data_dir={folder}", ok=False)
    assert "published for cifar10" in done.stderr and "Traceback" not in done.stderr
