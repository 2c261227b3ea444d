"""The ImageNet recipe, from a folder of images to measured weights."""

import json
import subprocess
import sys

import pytest
from test_train import ROOT, history

from train.publish import publish
from train.recipes import RECIPES


def run(script, *more, ok=True):
    done = subprocess.run([sys.executable, "-m", f"train.{script}", *more], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode == 0) == ok, done.stderr[-3000:]
    return done


def train(image_folder, out, *more, ok=True):
    return run(
        "train", "--model=resnet18", "--recipe=imagenet", "--dataset=folder",
        f"--data_dir={image_folder}", f"--out={out}", "--image_size=64", "--batch_size=8", "--learning_rate=0.01",
        "--evaluate_every=100", *more, ok=ok,
    )  # fmt: skip


def test_the_recipe_is_the_papers():
    """He et al. 2016, section 5 and appendix: 90 epochs of batches of 256, 0.1 divided by 10 every 30."""
    recipe = RECIPES["imagenet"].for_images(1_281_167)
    assert (recipe.batch_size, recipe.momentum, recipe.weight_decay, recipe.steps) == (256, 0.9, 1e-4, 450_411)
    per_epoch = 1_281_167 / 256
    at = {epoch: recipe.learning_rate(int(epoch * per_epoch)) for epoch in (0, 29.9, 30.1, 59.9, 60.1, 89.9)}
    assert at == {0: 0.1, 29.9: 0.1, 30.1: 0.01, 59.9: 0.01, 60.1: 0.001, 89.9: 0.001}
    assert recipe.views == ((256, 224), (320, 320)) and recipe.image_size == 224


def test_from_a_folder_of_images_to_measured_weights(image_folder, tmp_path):
    out = tmp_path / "run"
    plan = train(image_folder, out, "--dry_run").stdout
    assert "folder: 24 training images, 9 test images" in plan and "270 of 8 images, 90.0 epochs" in plan
    assert float(plan.partition("input pipeline")[2].split()[0].replace(",", "")) > 0
    text = train(image_folder, out, "--steps=24", "--set=image_size=((0, 48), (0.5, 64))").stdout
    assert "input pipeline on its own" in text
    rows = history(out)
    assert len(rows) == 8 and float(rows[-1]["train_loss"]) < float(rows[0]["train_loss"])
    record = json.loads((out / "run.json").read_text())
    assert record["settings"]["class_names"] == ["blue", "green", "red"]
    measured = json.loads(run("evaluate", f"--run={out}", f"--data_dir={image_folder}").stdout.splitlines()[-1])
    assert measured["test_images"] == 9
    for name in ("test_error", "test_error_320"):
        assert measured[name] == float(rows[-1][name]) == record[f"{name}_at_end"]


def test_images_that_cannot_be_read_stop_the_run_in_one_line(image_folder, tmp_path):
    damaged = tmp_path / "images"
    for path in image_folder.rglob("*.jpg"):
        target = damaged / path.relative_to(image_folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes() if path.name != "3.jpg" else b"no image")
    done = train(damaged, tmp_path / "run", "--steps=9", ok=False)
    assert "3.jpg is not a readable image" in done.stderr and "Traceback" not in done.stderr


def test_publishing_is_for_the_datasets_of_the_package(image_folder, tmp_path):
    for name in ("weights.h5", "history.csv"):
        (tmp_path / name).touch()
    (tmp_path / "run.json").write_text(json.dumps({"settings": {"dataset": "folder"}, "wall_seconds": 1.0}))
    with pytest.raises(ValueError, match="published for cifar10"):
        publish(tmp_path, image_folder, tmp_path / "weights")
