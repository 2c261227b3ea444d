"""Which folders are splits, which are classes, and which files are read."""

import os
import pathlib
import shutil
import warnings

import numpy as np
import pytest
from PIL import Image

import keras_resv2
from keras_resv2.data import Dataset, assign_splits, find_splits, load_split
from keras_resv2.data.folders import scan_classes
from keras_resv2.data.sources import open_source
from train.data.inputs import open_input
from train.recipes import RECIPES


def make(root, *files):
    """Writes small images, each with its own gray level; returns the folder."""
    for i, file in enumerate(files):
        path = pathlib.Path(root, file)
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "wb") as opened:
            Image.new("L", (8, 8), i).save(opened, "PNG")
    return root


@pytest.mark.parametrize("names, expected", [
    (["train", "val"], {"train": "train", "test": "val"}),
    (["train", "test"], {"train": "train", "test": "test"}),
    (["train", "val", "test"], {"train": "train", "test": "test", "validation": "val"}),
    (["Train", "Test"], {"train": "Train", "test": "Test"}),
    (["training", "validation"], {"train": "training", "test": "validation"}),
    (["seg_train", "seg_test", "seg_pred"], {"train": "seg_train", "test": "seg_test"}),
    (["train", "eval"], {"train": "train", "test": "eval"}),
    (["TrainingSet", "TestSet"], {"train": "TrainingSet", "test": "TestSet"}),
    (["train2017", "val2017"], {"train": "train2017", "test": "val2017"}),
    (["train", "test", "freight_train"], {"train": "train", "test": "test"}),
    (["bus", "car"], {}),
])  # fmt: skip
def test_names_of_splits(names, expected):
    assert assign_splits(names) == expected == assign_splits(reversed(names))


@pytest.mark.parametrize("names, words", [
    (["train", "val", "validation"], "val and validation both name the validation split"),
    (["train", "training", "test"], "train and training both name the train split"),
    (["train", "test", "seg_train", "seg_test"], "different sets of splits"),
])  # fmt: skip
def test_names_that_mean_the_same(names, words):
    with pytest.raises(ValueError, match=words):
        assign_splits(names)


def test_a_folder_with_validation_and_test_images_is_measured_on_the_test_images(tmp_path):
    make(tmp_path, "train/a/0.png", "train/b/0.png", "val/a/1.png", "val/b/1.png", "test/a/2.png", "test/b/2.png")
    test = open_source("folder", tmp_path, "test")
    assert [pathlib.Path(test.place(i)).relative_to(tmp_path).parts[0] for i in range(len(test))] == ["test", "test"]


@pytest.mark.parametrize("train, test", [("Train", "Test"), ("training", "validation"), ("seg_train", "seg_test")])
def test_splits_are_never_classes(train, test, tmp_path):
    make(tmp_path, f"{train}/a/0.png", f"{train}/b/0.png", f"{test}/a/1.png", f"{test}/b/1.png", "seg_pred/7.png")
    source = open_source("folder", tmp_path, "train")
    assert source.class_names == ("a", "b") and len(source) == 2
    with pytest.raises(ValueError, match=f"contains {train} and {test}, each with class folders"):
        keras_resv2.read_folder(tmp_path, (8, 8))


def test_splits_by_other_words_are_refused(tmp_path):
    make(tmp_path, "train/a/0.png", "train/b/0.png", "holdout/a/1.png", "holdout/b/1.png")
    for read in (lambda: keras_resv2.read_folder(tmp_path, (8, 8)), lambda: open_source("folder", tmp_path, "test")):
        with pytest.raises(ValueError, match="train and holdout both contain a folder a, so they look like splits"):
            read()
    make(tmp_path / "alone", "train/a/0.png", "train/b/0.png")
    with pytest.raises(ValueError, match=r"choose one of them, such as .*alone/train"):
        keras_resv2.read_folder(tmp_path / "alone", (8, 8))


@pytest.mark.parametrize("beside", ["unlabeled/1.png", "Test/1.png"])
def test_a_split_beside_other_folders_is_not_a_class(beside, tmp_path):
    make(tmp_path, "Train Images/cat/0.png", "Train Images/dog/0.png", beside)
    with pytest.raises(ValueError, match="Train Images contains the folders cat, dog and no images, so it looks like"):
        keras_resv2.read_folder(tmp_path, (8, 8))


def test_classes_that_are_all_divided_into_folders(tmp_path):
    make(
        tmp_path, *(f"{name}/{i}.png" for i, name in enumerate(("bus/city", "bus/school", "train/steam", "train/old")))
    )
    assert keras_resv2.read_folder(tmp_path, (8, 8)).class_names == ("bus", "train")


def test_classes_and_files_whose_names_start_with_symbols(tmp_path):
    make(tmp_path, "$1/0.png", "five/@bob.png", "@home/2.png", "@eadir/3.png")
    read = keras_resv2.read_folder(tmp_path, (8, 8))
    assert read.class_names == ("$1", "@home", "five") and read.paths == ("$1/0.png", "@home/2.png", "five/@bob.png")


def test_some_images_of_a_folder(tmp_path):
    """Only those are decoded: damaged files between them are not noticed."""
    make(tmp_path, *(f"a/{i}.png" for i in range(5)), *(f"b/{i}.png" for i in range(4)))
    (tmp_path / "a" / "1.png").write_bytes(b"")
    read = keras_resv2.read_folder(tmp_path, (8, 8), damaged="raise", most=3)
    assert read.paths == ("a/0.png", "a/4.png", "b/3.png") and read.labels.tolist() == [0, 0, 1]
    assert read.images[:, 0, 0, 0].tolist() == [0, 4, 8]  # the gray levels that `make` writes
    with pytest.raises(ValueError, match="most=0"):
        keras_resv2.read_folder(tmp_path, (8, 8), most=0)


def test_a_class_whose_only_selected_image_is_damaged(tmp_path):
    """It has others, and may be measured without them; where all are read, every class needs one."""
    make(tmp_path, *(f"{name}/{i}.png" for name in "ab" for i in range(4)))
    pathlib.Path(tmp_path, "b", "3.png").write_bytes(b"nothing")
    read = keras_resv2.read_folder(tmp_path, (8, 8), most=2)
    assert read.paths == ("a/0.png",) and len(read.damaged) == 1
    for i in range(3):
        pathlib.Path(tmp_path, "b", f"{i}.png").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="b contains no images"):
        keras_resv2.read_folder(tmp_path, (8, 8))
    for i in range(4):
        pathlib.Path(tmp_path, "a", f"{i}.png").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"contains no readable images, for example: .*not a readable image"):
        keras_resv2.read_folder(tmp_path, (8, 8), most=2)


def test_folders_that_cannot_be_listed_are_an_error(tmp_path, monkeypatch):
    make(tmp_path, "a/0.png", "b/0.png", "b/more/1.png")
    scandir = os.scandir

    def denied(path):
        if str(path).endswith("more"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(PermissionError, match="more"):
        keras_resv2.read_folder(tmp_path, (8, 8))


def test_images_can_be_changed_in_place(tmp_path):
    make(tmp_path, "a/0.png")
    assert keras_resv2.read_image(tmp_path / "a/0.png", (8, 8)).flags.writeable
    assert keras_resv2.read_image(tmp_path / "a/0.png", (4, 4)).flags.writeable


def test_a_class_may_be_called_train(tmp_path):
    make(tmp_path, "train/0.png", "bus/1.png", "test_tube/2.png")
    assert find_splits(tmp_path) == {}
    assert keras_resv2.read_folder(tmp_path, (8, 8)).class_names == ("bus", "test_tube", "train")


def test_hidden_folders_are_not_read(tmp_path):
    hidden = (".ipynb_checkpoints", "@eaDir", "__MACOSX", "$RECYCLE.BIN")
    seen = ["train/a/0.png", "train/a/more/1.png", "train/b/2.png", "val/a/3.png", "val/b/4.png"]
    make(tmp_path, *seen, *(f"train/{name}/5.png" for name in hidden), *(f"train/a/{name}/6.png" for name in hidden))
    make(tmp_path, *(f"{name}/a/7.png" for name in hidden), "val/a/._3.png", "val/b/Thumbs.db")
    read = keras_resv2.read_folder(tmp_path / "train", (8, 8))
    assert read.class_names == ("a", "b") and read.paths == ("a/0.png", "a/more/1.png", "b/2.png")
    assert [len(open_source("folder", tmp_path, split)) for split in ("train", "test")] == [3, 2]
    assert scan_classes(tmp_path / "val").labels.tolist() == [0, 1]


def test_links_that_lead_nowhere_or_back(tmp_path):
    """As a checkout has them whose large files have not been fetched yet."""
    make(tmp_path, "a/0.png", "b/1.png")
    (tmp_path / "a/absent.png").symlink_to("/nowhere/absent.png")
    (tmp_path / "a/again").symlink_to(tmp_path / "a")
    found = keras_resv2.read_folder(tmp_path, (8, 8))
    assert found.paths == ("a/0.png", "b/1.png") and len(found.damaged) == 1 and "absent.png" in found.damaged[0]
    with pytest.raises(FileNotFoundError, match=r"absent\.png does not exist.*skips such files"):
        keras_resv2.read_folder(tmp_path, (8, 8), damaged="raise")


@pytest.mark.parametrize("size", [32, (32,), None])
def test_sizes_are_pairs(size, tmp_path):
    make(tmp_path, "a/0.png", "b/1.png")
    for call in (lambda: keras_resv2.read_folder(tmp_path, size), lambda: keras_resv2.read_image(tmp_path, size)):
        with pytest.raises(ValueError, match=r"must be \(height, width\)"):
            call()


def test_the_first_of_several_jpeg_images_in_a_file_is_read(tmp_path):
    """As some cameras write them: .mpo."""
    make(tmp_path, "a/0.png", "b/1.png")
    first, second = (Image.new("RGB", (8, 8), color) for color in ("red", "blue"))
    first.save(tmp_path / "a/2.mpo", save_all=True, append_images=[second])
    assert scan_classes(tmp_path).readable.all()
    red = keras_resv2.read_image(tmp_path / "a/2.mpo", (8, 8))
    assert red[..., 0].min() > 200 and red[..., 2].max() < 50


@pytest.mark.parametrize("ending", ["heic", "eps", "mpg"])  # Pillow can open the last two, but we do not
def test_files_that_are_not_supported_are_reported(ending, tmp_path):
    """Training would abort at them, so it skips them; fine-tuning reads all images before it starts."""
    make(tmp_path, "train/a/0.png", f"train/a/1.{ending}", "train/b/2.png", "val/a/3.png", "val/b/4.png")
    (tmp_path / f"train/a/1.{ending}").write_bytes(b"of another kind")
    with pytest.warns(UserWarning, match=rf"1 files are skipped, .*1\.{ending}") as skipped:
        assert len(open_source("folder", tmp_path, "train")) == 2
    assert [warning.filename for warning in skipped] == [__file__]
    found = keras_resv2.read_folder(tmp_path / "train", (8, 8))
    assert len(found.labels) == 2 and f"1.{ending}" in found.damaged[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        test = open_source("folder", tmp_path, "test")
    assert np.array_equal([test[i][1] for i in range(2)], [0, 1])


def test_a_dataset_that_a_card_describes_may_be_a_folder(tmp_path):
    """As `keras-resv2 evaluate` opens the images of a fine-tuning: the test images, labels by the card's order."""
    make(tmp_path / "whole", "train/b/0.png", "train/a/1.png", "test/b/2.png", "val/b/3.png")
    known = Dataset("flowers", ("b", "a"), (8, 8, 3))
    images, labels = load_split(known, "test", tmp_path / "whole")
    assert images.shape == (1, 8, 8, 3) and images.max() == 2 and labels.tolist() == [0]
    make(tmp_path / "flat", "a/0.png", "b/1.png")  # test images alone
    images, labels = load_split(known, "test", tmp_path / "flat")
    assert images[:, 0, 0, 0].tolist() == [1, 0] and labels.tolist() == [0, 1]
    make(tmp_path / "half", "train/a/0.png", "train/b/1.png")
    with pytest.raises(ValueError, match="test/"):
        load_split(known, "test", tmp_path / "half")
    with pytest.raises(ValueError, match="flowers needs a data_dir"):
        load_split(known, "test")


def test_a_single_class_folder_is_refused_before_training(image_folder, tmp_path):
    """Such as a folder in between; a network would have nothing to learn."""
    for split in ("train", "test"):
        shutil.copytree(image_folder / "val", tmp_path / split / "images")
    with pytest.raises(ValueError, match="only one class, images: training needs at least two"):
        open_input("folder", str(tmp_path), RECIPES["imagenet"], 0)
