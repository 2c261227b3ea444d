"""The fine-tuning script: from a folder of images to a model that opens again."""

import csv
import json
import os
import pathlib
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
from PIL import Image

import keras_resv2
from helpers.paths import ROOT
from keras_resv2.metrics import interval
from keras_resv2.transfer.finetune_data import load_finetune_data
from keras_resv2.transfer.run_report import by_class, confusion_matrix, draw_confusion

WRITTEN = {"model.keras", "report.json", "split.json", "history.csv", "curve.png", "confusion.csv", "confusion.png"}


def finetune(*arguments):
    command = [sys.executable, "-m", "train.finetune", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=os.environ)


@pytest.fixture(scope="module")
def flat_folder(image_folder, tmp_path_factory):
    """Images of three colors in one folder each, of several formats and sizes; one grey, one damaged."""
    folder = tmp_path_factory.mktemp("flat") / "colors"
    for split in ("train", "val"):
        for path in sorted((image_folder / split).glob("*/*.jpg")):
            ending = ("png", "jpg", "webp")[int(path.stem) % 3]
            (folder / path.parent.name).mkdir(parents=True, exist_ok=True)
            Image.open(path).save(folder / path.parent.name / f"{split}{path.stem}.{ending}")
    Image.open(path).convert("L").save(folder / "red" / "grey.png")
    (folder / "red" / "broken.png").write_bytes(b"\x89PNG\r\n")
    return folder


@pytest.fixture(scope="module")
def run(flat_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("finetuned") / "out"
    done = finetune(
        "--model", "resnet20-cifar10", "--data", flat_folder, "--out", out, "--epochs", 3, "--batch_size", 8,
        "--validation", 0.25, "--test", 0.25,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return out, done.stdout


def test_all_is_written_and_the_model_opens_with_the_printed_line(run, flat_folder):
    out, printed = run
    assert {path.name for path in out.iterdir()} >= WRITTEN
    assert not (out / "card.json").exists()  # which is that of a weight folder
    report = json.loads((out / "report.json").read_text())
    data = load_finetune_data(str(flat_folder), None, (32, 32), (0.25, 0.25), 0)
    assert report["class_names"] == ["blue", "green", "red"] == list(data.class_names)
    images, labels = data.test
    space = {}
    exec(printed.strip().splitlines()[-1], space)
    wrong = space["model"].predict(images, verbose=0).argmax(1) != labels
    assert report["test_error"] == pytest.approx(100 * wrong.mean(), abs=0.01) and report["test_images"] == len(labels)
    assert report["test_error"] < 40  # three colors: two thirds by chance
    rows = list(csv.reader((out / "confusion.csv").read_text().splitlines()))
    counts = np.array([[int(n) for n in row[1:]] for row in rows[1:]])
    assert counts.sum(axis=1).tolist() == np.bincount(labels).tolist()
    assert 100 * (1 - np.trace(counts) / counts.sum()) == pytest.approx(report["test_error"], abs=0.01)
    wrong_by_hand = int(wrong.sum())
    assert report["test_interval"] == [round(bound, 2) for bound in interval(wrong_by_hand, len(labels))]
    low, high = report["validation_interval"]
    assert low <= report["validation_error"] <= high and "test error" in printed
    assert "broken.png" in printed and "broken.png" in report["damaged"][0]
    assert report["base"] == keras_resv2.pretrained_card("resnet20-cifar10").full_name
    assert report["settings"]["batch_norm"] == "frozen"
    history = list(csv.DictReader((out / "history.csv").read_text().splitlines()))
    folds = [float(row["validation_error"]) for row in history if row["phase"] == "folds"]
    assert len(folds) > 1 and [row["error"] for row in report["cross_validation"]] == [round(e, 2) for e in folds]
    assert [row["trained"] for row in report["cross_validation"]] == ["classifier", *["body"] * (len(folds) - 1)]


def test_the_weight_folder_is_a_pretrained_network(run, flat_folder):
    out, printed = run
    folder = out / "resnet20-colors" / "1"
    assert f"keras-resv2 predict {out} " in printed
    card = keras_resv2.pretrained_card(str(folder))
    assert keras_resv2.pretrained_card(out) == card  # --out is a name
    images, labels = load_finetune_data(str(flat_folder), None, (32, 32), (0.25, 0.25), 0).test
    opened = keras_resv2.from_pretrained(str(folder))
    wrong = opened.predict(images, verbose=0).argmax(1) != labels
    assert card.test_error == round(100 * wrong.mean(), 2)
    saved = keras.models.load_model(out / "model.keras").predict(images, verbose=0)
    assert np.allclose(opened.predict(images, verbose=0), saved, atol=1e-5)
    assert card.parameters == sum(w.size for w in map(np.asarray, opened.trainable_variables))


def test_the_split_is_complete_and_the_same_again(run, flat_folder):
    split = json.loads((run[0] / "split.json").read_text())
    files = {str(path.relative_to(flat_folder)) for path in flat_folder.glob("*/*") if path.name != "broken.png"}
    listed = [name for names in split.values() for name in names]
    assert set(listed) == files and len(listed) == len(files)
    again = load_finetune_data(str(flat_folder), None, (32, 32), (0.25, 0.25), 0)
    assert {part: list(names) for part, names in again.names.items()} == split
    other = load_finetune_data(str(flat_folder), None, (32, 32), (0.25, 0.25), 1)
    assert {part: list(names) for part, names in other.names.items()} != split


def test_a_run_is_not_written_over(run, flat_folder):
    done = finetune("--model", "resnet20-cifar10", "--data", flat_folder, "--out", run[0])
    assert done.returncode == 1 and "contains a model" in done.stderr


def test_a_damaged_image_stops_the_run_where_asked(flat_folder, tmp_path):
    arguments = ("--model", "resnet20-cifar10", "--data", flat_folder, "--out", tmp_path / "out", "--damaged", "raise")
    done = finetune(*arguments)
    assert (
        done.returncode == 1 and "broken.png is not a readable image" in done.stderr and not (tmp_path / "out").exists()
    )


def test_an_out_that_is_no_folder_is_refused_before_the_images_are_read(tmp_path):
    from keras_resv2 import cli

    (tmp_path / "out").write_text("")
    command = ["finetune", "resnet20-cifar10", "--data", str(tmp_path / "absent"), "--out", str(tmp_path / "out")]
    with pytest.raises(NotADirectoryError, match="is a file"):
        cli.finetune.finetune(
            tmp_path / "out",
            "resnet20-cifar10",
            dict.fromkeys(cli.finetune.LEAST) | {"validation": 0.2, "test": 0.2, "damaged": "skip"},
            {},
        )
    assert cli.main(command) == cli.BAD_INPUT


@pytest.mark.parametrize("flag", ["image_size=0", "image_size=-8", "batch_size=0", "seed=-1", "learning_rate=-1"])
def test_settings_out_of_range_are_refused_before_the_images_are_read(flag, tmp_path, capsys):
    from keras_resv2 import cli

    command = ["finetune", "resnet20-cifar10", "--data", str(tmp_path / "absent"), "--out", str(tmp_path / "out")]
    assert cli.main([*command, f"--{flag}"]) == cli.BAD_INPUT
    assert "must be at least" in capsys.readouterr().err


def test_image_sizes_are_checked_before_the_images_are_read(tmp_path, capsys, monkeypatch):
    """By the network itself: those for ImageNet need at least 32 pixels."""
    from keras_resv2 import cli

    def refuses(name, input_shape):
        raise ValueError(f"{input_shape} is too small")

    monkeypatch.setattr(cli.finetune, "from_pretrained", refuses)
    command = ["finetune", "resnet20-cifar10", "--data", str(tmp_path / "absent"), "--image_size", "24"]
    assert cli.main([*command, "--out", str(tmp_path / "out")]) == cli.BAD_INPUT
    assert "(24, 24, 3) is too small" in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.mark.parametrize("flag", ["learning_rate", "rate_decay"])
def test_rates_of_zero_are_refused_before_the_images_are_read(flag, tmp_path, capsys):
    from keras_resv2 import cli

    command = ["finetune", "resnet20-cifar10", "--data", str(tmp_path / "absent"), "--out", str(tmp_path / "out")]
    assert cli.main([*command, f"--{flag}=0"]) == cli.BAD_INPUT
    assert "must be above 0" in capsys.readouterr().err


@pytest.mark.parametrize(
    "error, status", [(FloatingPointError("the loss is nan"), 2), (KeyboardInterrupt(), 130), (MemoryError(), 2)]
)
def test_interrupted_fine_tuning_saves_the_best_weights(error, status, flat_folder, tmp_path, capsys, monkeypatch):
    from keras_resv2 import cli, transfer

    def diverges(model, *data, **options):
        model.get_layer("head_dense").bias.assign([7.0] * model.output_shape[1])
        if trained:
            model.compile("sgd", "sparse_categorical_crossentropy")  # as it leaves all models
        raise error

    monkeypatch.setattr(transfer, "fine_tune", diverges)
    command = ["finetune", "resnet20-cifar10", "--data", str(flat_folder), "--out", str(tmp_path / "out")]
    trained = False
    assert cli.main(command) == status and not list((tmp_path / "out").iterdir())  # interrupted before the classifier
    trained = True
    capsys.readouterr()
    assert cli.main(command) == status
    assert "interrupted.keras has the best weights so far" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["interrupted.keras"]
    kept = keras.models.load_model(tmp_path / "out/interrupted.keras")
    assert set(np.asarray(kept.get_layer("head_dense").bias)) == {7.0}


def test_classes_that_a_card_cannot_name_are_refused_before_training(image_folder, tmp_path, capsys):
    from keras_resv2 import cli

    shutil.copytree(image_folder / "train", tmp_path / "data")
    (tmp_path / "data" / "red").rename(tmp_path / "data" / "re\td")
    command = ["finetune", "resnet20-cifar10", "--data", str(tmp_path / "data"), "--out", str(tmp_path / "out")]
    assert cli.main(command) == cli.BAD_INPUT
    assert "rename the class" in capsys.readouterr().err and not (tmp_path / "out").exists()


def refused(capsys, *arguments):
    """Returns the error of a command that is refused."""
    from keras_resv2 import cli

    assert cli.main(["finetune", "resnet20-cifar10", *map(str, arguments)]) == cli.BAD_INPUT
    return capsys.readouterr().err


def test_what_would_fail_later_is_refused_before_images_are_decoded(flat_folder, tmp_path, capsys, monkeypatch):
    from keras_resv2.transfer import finetune_data

    def decodes(*arguments):
        raise AssertionError("images are read")

    monkeypatch.setattr(finetune_data, "read_folder", decodes)
    with pytest.raises(AssertionError, match="images are read"):
        refused(capsys, "--data", flat_folder, "--out", tmp_path / "out")
    error = refused(capsys, "--data", flat_folder, "--out", flat_folder / "out")
    assert "must not be in --data: it would look like a class" in error
    error = refused(capsys, "--data", flat_folder, "--out", tmp_path / "out", "--freeze_until", "stage4")
    assert "stage4" in error and "stage3" in error
    error = refused(capsys, "--data", flat_folder / "red" / "broken.png", "--out", tmp_path / "out")
    assert "is a file: it must be a folder" in error
    shutil.copytree(flat_folder, tmp_path / "kaggle" / "train")
    (tmp_path / "kaggle" / "test").mkdir()
    shutil.copy(flat_folder / "red" / "grey.png", tmp_path / "kaggle" / "test" / "1.png")
    error = refused(capsys, "--data", tmp_path / "kaggle", "--out", tmp_path / "out")
    assert "test contains no class folders" in error
    few = tmp_path / "few"
    for name in ("cat", "dog"):
        (few / name).mkdir(parents=True)
        shutil.copy(flat_folder / "red" / "grey.png", few / name / "0.png")
    assert "has 1 images, but 3 parts need" in refused(capsys, "--data", few, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_network_measured_on_images_that_it_was_trained_on(run, flat_folder, image_folder, tmp_path, capsys):
    """A folder without test/ may be the one that the network was trained on."""
    from keras_resv2 import cli

    assert cli.main(["evaluate", str(run[0]), "--data_dir", str(flat_folder)]) == 0
    assert "There is no folder test/: images that the network was trained on" in capsys.readouterr().out
    assert cli.main(["evaluate", str(run[0]), "--data_dir", str(image_folder), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["may_contain_training_images"] is False and found["images"] == 9
    for folder, warned in ((flat_folder, True), (image_folder, False)):  # the studies too
        command = ["analyze", "cam", str(run[0]), "--data_dir", str(folder), "--out", str(tmp_path), "--images", "2"]
        assert cli.main(command) == 0
        assert ("There is no folder test/" in capsys.readouterr().err) == warned


def test_the_test_images_of_a_fine_tuning_are_recognised(image_folder, tmp_path, capsys):
    from keras_resv2 import cli

    done = cli.main([
        "finetune", "resnet20-cifar10", "--data", str(image_folder), "--out", str(tmp_path / "out"), "--epochs", "0",
    ])  # fmt: skip
    capsys.readouterr()
    assert done == 0
    assert cli.main(["evaluate", str(tmp_path / "out"), "--data_dir", str(image_folder), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["same_images_as_card"] is True and found["agrees"] is True


def test_shares_are_shares(flat_folder, tmp_path):
    arguments = ("--model", "resnet20-cifar10", "--data", flat_folder, "--out", tmp_path / "out", "--test", 0)
    done = finetune(*arguments)
    assert done.returncode == 1 and "--test=0.0: it must be a fraction between 0 and 1" in done.stderr + done.stdout


def test_parts_of_a_folder_that_has_them(image_folder, tmp_path):
    """Where train/ and val/ are all there is, val/ is what is measured with, and nothing is chosen by it."""
    data = load_finetune_data(str(image_folder), None, (16, 16), (0.2, 0.2), 0)
    assert set(data.names["test"]) == {f"{name}/{i}.jpg" for name in data.class_names for i in range(3)}
    assert len(data.train[1]) + len(data.validation[1]) == 24
    assert len(data.validation[1]) == 6 and not set(data.names["train"]) & set(data.names["validation"])
    shutil.copytree(image_folder / "train", tmp_path / "Train")
    shutil.copytree(image_folder / "val", tmp_path / "Test")
    data = load_finetune_data(str(tmp_path), None, (16, 16), (0.5, 0.2), 0)
    assert len(data.test[1]) == 9 and len(data.validation[1]) == 12 and len(data.train[1]) == 12
    shutil.copytree(image_folder / "val" / "red", tmp_path / "valid" / "red")
    data = load_finetune_data(str(tmp_path), None, (16, 16), (0.5, 0.2), 0)
    assert [len(part[1]) for part in (data.train, data.validation, data.test)] == [24, 3, 9]
    assert set(data.validation[1]) == {2}


def test_the_weights_are_written_before_the_figures(image_folder, tmp_path, capsys, monkeypatch):
    """An error of matplotlib or Pillow costs only the figures; and the printed command finds these weights."""
    from keras_resv2 import cli
    from keras_resv2.transfer import run_report

    def fails(*arguments):
        raise ValueError("no fonts")

    monkeypatch.setattr(run_report, "draw_mistakes", fails)
    monkeypatch.chdir(tmp_path)
    command = ["finetune", "preact_resnet20-cifar10", "--data", str(image_folder), "--epochs", "0"]
    assert cli.main([*command, "--out", "resnet20-cifar10"]) == cli.BAD_INPUT
    said = capsys.readouterr()
    assert "no fonts" in said.err and "keras-resv2 predict ./resnet20-cifar10 IMAGE" in said.out
    assert keras_resv2.from_pretrained("./resnet20-cifar10").output_shape == (None, 3)
    assert cli.finetune.place_of(tmp_path / "flowers@lr1") == str(tmp_path / "flowers@lr1")
    assert cli.finetune.place_of(pathlib.Path("flowers@lr1")) == "./flowers@lr1"


def test_unknown_data_says_what_it_may_be(tmp_path):
    with pytest.raises(ValueError, match="--data_dir is for datasets of tensorflow-datasets"):
        load_finetune_data(str(tmp_path), str(tmp_path), (8, 8), (0.1, 0.1), 0)
    with pytest.raises(FileNotFoundError, match="is not a folder that exists"):
        load_finetune_data(str(tmp_path / "none"), None, (8, 8), (0.1, 0.1), 0)
    pytest.importorskip("tensorflow_datasets", reason="tensorflow-datasets is not installed")
    with pytest.raises(ValueError, match="not a folder, and tensorflow-datasets cannot read"):
        load_finetune_data("no_such_dataset", str(tmp_path), (8, 8), (0.1, 0.1), 0)


GREY = np.random.default_rng(0).integers(0, 256, (16, 8, 8, 1), dtype="uint8")


def prepare_tfds(folder, labels, key="image"):
    """Writes the dataset "tiny_grey" as tensorflow-datasets prepares it.

    Args:
        folder: tensorflow-datasets directory.
        labels: of the images of each split.
        key: name of the image in an example.
    """
    tfds = pytest.importorskip("tensorflow_datasets", reason="tensorflow-datasets is not installed")
    with tfds.core.registered.skip_registration():

        class TinyGrey(tfds.core.GeneratorBasedBuilder):
            VERSION = tfds.core.Version("1.0.0")

            def _info(self):
                label = tfds.features.ClassLabel(names=["a", "b"])
                features = tfds.features.FeaturesDict({key: tfds.features.Image(shape=(8, 8, 1)), "label": label})
                return tfds.core.DatasetInfo(builder=self, features=features)

            def _split_generators(self, manager):
                return {split: self._generate_examples(of_split) for split, of_split in labels.items()}

            def _generate_examples(self, of_split):
                yield from ((i, {key: GREY[i], "label": label}) for i, label in enumerate(of_split))

    TinyGrey(data_dir=folder).download_and_prepare()


def test_tensorflow_datasets(tmp_path):
    """Grey images; the split "test" has no labels (-1, as imagenet2012's), so "validation" is measured with."""
    prepare_tfds(tmp_path, {"train": [0, 1] * 8, "validation": [1, 0, 1], "test": [-1, -1]})
    data = load_finetune_data("tiny_grey", str(tmp_path), (8, 8), (0.25, 0.25), 0)
    assert data.class_names == ("a", "b") and len(data.damaged) == 1 and "test has images without" in data.damaged[0]
    assert [len(getattr(data, part)[1]) for part in ("train", "validation", "test")] == [12, 4, 3]
    expected = {image.tobytes() for image in np.repeat(GREY[:3], 3, axis=3)}
    assert {image.tobytes() for image in data.test[0]} == expected


def test_damaged_images_of_a_dataset(tmp_path, monkeypatch):
    from keras_resv2.data import sources

    prepare_tfds(tmp_path, {"train": [0, 1] * 8, "test": [1, 0, 1]})
    decode = sources.decode_image

    monkeypatch.setattr(sources, "decode_image", lambda encoded, place, size: decode(encoded[:20], place, size))
    with pytest.raises(ValueError, match=r"the split train has no readable images, for example: .* is not a readable"):
        load_finetune_data("tiny_grey", str(tmp_path), (8, 8), (0.25, 0.25), 0)
    broken = []

    def first_is_damaged(encoded, place, size):
        broken.append(place)
        return decode(encoded[:20] if len(broken) == 1 else encoded, place, size)

    monkeypatch.setattr(sources, "decode_image", first_is_damaged)
    data = load_finetune_data("tiny_grey", str(tmp_path), (8, 8), (0.25, 0.25), 0)
    assert len(data.damaged) == 1 and "is not a readable image" in data.damaged[0]
    assert sum(len(getattr(data, part)[1]) for part in ("train", "validation", "test")) == 18
    assert len(set(sum(data.names.values(), ()))) == 18
    broken.clear()
    with pytest.raises(ValueError, match="is not a readable image"):
        load_finetune_data("tiny_grey", str(tmp_path), (8, 8), (0.25, 0.25), 0, "raise")


@pytest.mark.parametrize("labels, key, words", [
    ({"test": [0, 1]}, "image", "no images to train on: its splits are test"),
    ({"train": [0, 1]}, "photo", "not a folder, and tensorflow-datasets cannot read .* it has label, photo"),
])  # fmt: skip
def test_datasets_that_cannot_be_fine_tuned_on(labels, key, words, tmp_path):
    prepare_tfds(tmp_path, labels, key)
    with pytest.raises(ValueError, match=words):
        load_finetune_data("tiny_grey", str(tmp_path), (8, 8), (0.1, 0.1), 0)


def test_the_figure_of_a_large_confusion_matrix_has_a_bounded_size(tmp_path):
    draw_confusion(np.eye(1000, dtype=int), [f"class {i}" for i in range(1000)], tmp_path / "confusion.png")
    assert max(Image.open(tmp_path / "confusion.png").size) < 3000


def test_class_names_in_figures_are_not_formulas(tmp_path):
    draw_confusion(np.eye(2, dtype=int), ("under_$5_to_$10", "US$ and $"), tmp_path / "confusion.png")
    assert (tmp_path / "confusion.png").exists()


def test_confusion_and_classes_by_hand():
    confusion = confusion_matrix(np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 0, 1]), 3)
    assert confusion.tolist() == [[2, 1, 0], [1, 1, 0], [0, 1, 0]]
    report = by_class(confusion, ("a", "b", "c"))
    assert report["a"] == {"images": 3, "recall": 66.67, "precision": 66.67}
    assert report["c"] == {"images": 1, "recall": 0.0, "precision": None}


def test_the_public_names_are_those_of_the_design():
    assert all(callable(getattr(keras_resv2, name)) for name in ("freeze", "unfreeze", "fine_tune"))
    assert isinstance(keras_resv2.freeze(keras_resv2.ResNet(8)), keras.Model)
