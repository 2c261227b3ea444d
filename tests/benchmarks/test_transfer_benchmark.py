"""The table of transfer learning: what it measures, how it resumes, and what it prints."""

import gzip
import json

import keras
import numpy as np
import pytest
from PIL import Image

import keras_resv2
from benchmarks import transfer, transfer_data


def test_medians_and_table_by_hand():
    rows = [
        {"dataset": "digits", "images": "100", "way": way, "test_error": str(error)}
        for way, errors in {"probe": (30, 34, 31), "fine-tuned": (9, 8, 12), "naive": (9.5,)}.items()
        for error in errors
    ]
    lines = transfer.as_markdown(rows).splitlines()
    assert lines[2] == "| digits | 100 | 31.0 (30.0 to 34.0) | **9.0** (8.0 to 12.0) | 9.5 | - |"


def test_each_way_trains_what_it_says_once(tmp_path, monkeypatch, capsys):
    """A cell of each way on real digits, only the probe is trained; measured once, and the table stays the same."""
    pytest.importorskip("sklearn.datasets", reason="scikit-learn is not installed")
    trained = []

    def look(model, train, validation=None, **options):
        trained.append((model, train, validation, options))
        if not model.get_layer("stem_conv").trainable:
            keras_resv2.fine_tune(model, train, **options)

    monkeypatch.setattr(transfer, "fine_tune", look)
    monkeypatch.setattr(transfer, "naive", look)
    monkeypatch.setattr(transfer, "EPOCHS", {60: 7})
    command = ["transfer", "--data", "digits", "--pictures", "60", "--seeds", "1", "--out", str(tmp_path)]
    command += ["--network", "resnet20-cifar10"]
    monkeypatch.setattr("sys.argv", command)
    transfer.main()
    rows = transfer.read_rows(tmp_path / "transfer.csv")
    assert [row["way"] for row in rows] == list(transfer.WAYS)
    assert all(row["epochs"] == "7" and row["test_images"] == "450" for row in rows)
    assert all(0 < float(row["test_error"]) <= 100 for row in rows)
    assert float(rows[0]["test_error"]) < 80  # by chance: 90
    published = keras_resv2.from_pretrained("resnet20-cifar10").get_layer("stem_conv").get_weights()[0]
    for way, (model, (images, labels), validation, options) in zip(transfer.WAYS, trained, strict=True):
        if way == "scratch":  # a fifth is its validation, as elsewhere
            assert (len(images), len(validation[0][0])) == (50, 10)
            images, labels = (np.concatenate(pair) for pair in zip((images, labels), validation[0], strict=True))
        assert np.bincount(labels).tolist() == [6] * 10
        assert {image.tobytes() for image in images} == {image.tobytes() for image in trained[0][1][0]}
        assert options["augment"] == ("crop",) and options["epochs"] == options["patience"] == 7
        assert model.get_layer("stem_conv").trainable == (way != "probe")
        assert np.array_equal(model.get_layer("stem_conv").get_weights()[0], published) == (way != "scratch")
        assert options.get("batch_norm") == ("trained" if way == "scratch" else None)
    test_images, test_labels = transfer_data.digits(None)[1]
    wrong = trained[3][0].predict(test_images, verbose=0).argmax(1) != test_labels
    assert float(rows[3]["test_error"]) == pytest.approx(100 * wrong.mean(), abs=0.01)
    table = (tmp_path / "transfer.md").read_text()
    assert Image.open(tmp_path / "transfer.png").size[0] > 300
    capsys.readouterr()
    transfer.main()
    assert capsys.readouterr().out == f"{table}\n" and (tmp_path / "transfer.md").read_text() == table
    # Another network's or precision's errors are no seeds of this one's.
    others = [{**row, key: "another", "test_error": "99"} for row in rows for key in ("network", "dtype")]
    transfer.write_history(rows + others, tmp_path / "transfer.csv")
    transfer.main()
    assert (tmp_path / "transfer.md").read_text() == table and len(trained) == 4


def test_more_images_than_there_are(tmp_path, monkeypatch, capsys):
    pytest.importorskip("sklearn.datasets", reason="scikit-learn is not installed")
    monkeypatch.setattr(transfer, "EPOCHS", {10_000: 1})
    monkeypatch.setattr("sys.argv", ["transfer", "--data", "digits", "--images", "10000", "--out", str(tmp_path)])
    with pytest.raises(SystemExit):
        transfer.main()
    assert "nothing to measure: the datasets have fewer training images (digits 1,347)" in capsys.readouterr().err


def test_the_naive_way_trains_everything(pixels):
    """Batch normalization too, which fine-tuning leaves as it is."""
    model = keras_resv2.ResNet(8, classes=2)
    before = {weight.path: keras.ops.convert_to_numpy(weight) for weight in model.weights}
    common = {"epochs": 1, "patience": 1, "seed": 0, "augment": ("flip",), "verbose": 0}
    transfer.naive(model, (np.repeat(pixels, 5, 0), np.arange(40) % 2), **common)
    assert not any(np.array_equal(before[weight.path], weight) for weight in model.weights)


@pytest.mark.parametrize("more, words", [
    (["--images", "500"], "invalid choice"),
    (["--data", "flowers"], "data='flowers' must be one of"),
    (["--data", "fashion_mnist=nowhere"], "nowhere"),
])  # fmt: skip
def test_bad_input_exits_with_one_line(more, words, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["transfer", "--data", "digits", "--out", str(tmp_path), *more])
    with pytest.raises(SystemExit) as end:
        transfer.main()
    assert end.value.code == 2 and words in capsys.readouterr().err.splitlines()[-1]


def test_samples_have_every_class_in_its_share():
    images, labels = np.arange(200), np.repeat([0, 1], [150, 50])
    chosen, of_class = transfer.sample((images, labels), 40, seed=0)
    assert np.bincount(of_class).tolist() == [30, 10] and len(set(chosen)) == 40
    _, of_class = transfer.sample((images, labels), 9, seed=0)  # 6.75 and 2.25
    assert np.bincount(of_class).tolist() == [7, 2]


def test_fashion_mnist_from_its_files(tmp_path):
    """Files in the format of the dataset, written by hand."""
    images, labels = np.random.default_rng(0).integers(0, 256, (5, 28, 28), dtype="uint8"), np.arange(5, dtype="uint8")
    for part in ("train", "t10k"):
        for name, array in (("images-idx3", images), ("labels-idx1", labels)):
            header = bytes([0, 0, 8, array.ndim]) + b"".join(side.to_bytes(4, "big") for side in array.shape)
            (tmp_path / f"{part}-{name}-ubyte.gz").write_bytes(gzip.compress(header + array.tobytes()))
    (found, classes), _ = transfer_data.fashion_mnist(tmp_path)
    assert found.shape == (5, 32, 32, 3) and classes.tolist() == [0, 1, 2, 3, 4]
    small = Image.fromarray(images[3]).resize((32, 32), Image.Resampling.BICUBIC)
    assert np.array_equal(found[3, :, :, 1], np.asarray(small))


def test_emoji_from_its_package(tmp_path):
    rows = []
    (tmp_path / "img/twitter/64").mkdir(parents=True)
    for i in range(8):
        Image.new("RGBA", (64, 64), (255, 0, 0, 255) if i % 2 else (0, 0, 0, 0)).save(
            tmp_path / "img/twitter/64" / f"{i}.png"
        )
        rows.append({"has_img_twitter": True, "category": ("Flags", "Animals")[i % 2], "image": f"{i}.png"})
    rows.append({"has_img_twitter": False, "category": "Flags", "image": "none.png"})
    rows.append({"has_img_twitter": True, "category": "Component", "image": "none.png"})
    (tmp_path / "emoji.json").write_text(json.dumps(rows))
    (images, labels), (test_images, test_labels) = transfer_data.emoji(tmp_path)
    assert len(labels) + len(test_labels) == 8 and set(labels) == set(test_labels) == {0, 1}
    expected = [[255, 0, 0] if label == 0 else [255, 255, 255] for label in labels]
    assert images[:, 0, 0].tolist() == expected
