"""The command line with the weights of this checkout: its output, and one-line errors."""

import contextlib
import csv
import errno
import importlib
import importlib.util
import io
import json
import os
import pathlib
import struct
import subprocess
import sys

import keras
import numpy as np
import pytest
from PIL import Image

import keras_resv2
from helpers.paths import ROOT
from helpers.published import publish
from keras_resv2 import cli, evaluation, metrics, startup
from keras_resv2.cli.evaluate import DISAGREES
from keras_resv2.data.images import draw_predictions, read_image

NAME = "resnet20-cifar10"


@pytest.fixture
def image_path(tmp_path):
    """A 200x120 photograph-like gradient."""
    y, x = np.mgrid[:120, :200]
    path = tmp_path / "image.png"
    Image.fromarray(np.stack([x, y, x + y], axis=-1).astype("uint8")).save(path)
    return str(path)


def test_list(capsys):
    assert cli.main(["list"]) == 0
    text = capsys.readouterr().out
    card = keras_resv2.pretrained_card(NAME)
    assert NAME in text and f"{card.test_error:.2f} %" in text and "8.75 %" in text and "269,722" in text


def test_list_as_json_and_architectures(capsys):
    assert cli.main(["list", "--json"]) == 0
    assert {row["name"] for row in json.loads(capsys.readouterr().out)} == set(keras_resv2.list_pretrained())
    assert cli.main(["list", "--architectures", "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)) == keras_resv2.list_architectures()
    assert cli.main(["list", "--architectures"]) == 0
    out = capsys.readouterr().out  # WRN-28-10 has depth=26
    assert "depth=" in out and "layers" not in out


def test_predict_prints_the_predictions_of_the_model(image_path, capsys, tmp_path):
    saved = tmp_path / "out.png"
    assert cli.main(["predict", NAME, image_path, image_path, "--json", "--top", "10", "--save", str(saved)]) == 0
    rows = json.loads(capsys.readouterr().out)
    pixels = read_image(image_path, (32, 32))
    expected = keras_resv2.from_pretrained(NAME).predict(pixels[None], verbose=0)[0]
    found = {p["label"]: p["probability"] for p in rows[0]["predictions"]}
    names = keras_resv2.pretrained_card(NAME).class_names
    np.testing.assert_allclose([found[name] for name in names], expected, atol=1e-5)
    assert sorted(found.values(), reverse=True) == list(found.values())
    assert Image.open(saved).size[0] > 300
    assert cli.main(["predict", NAME, image_path]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == image_path and len(lines) == 6
    assert rows[0]["predictions"][0]["label"] in lines[1]


def test_summary(capsys):
    assert cli.main(["summary", "preact_resnet164", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["stages"] == {"stage1": [32, 32, 64], "stage2": [16, 16, 128], "stage3": [8, 8, 256]}
    assert facts["parameters"] == 1_703_258 and facts["card"] is None
    assert cli.main(["summary", NAME]) == 0
    text = capsys.readouterr().out
    assert "269,722" in text and keras_resv2.pretrained_card(NAME).sha256 in text


@pytest.fixture
def tiny_data(tmp_path):
    """An .npz in the form of CIFAR-10, of a few images."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (40, 32, 32, 3), dtype="uint8"), rng.integers(0, 10, 40, dtype="uint8")
    np.savez(tmp_path / "tiny.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    return str(tmp_path / "tiny.npz")


def test_evaluate_reports_disagreement_with_the_card(tiny_data, tmp_path, capsys):
    publish(tmp_path, test_images=40, test_error=10.0)
    folder = str(tmp_path / "resnet20-cifar10/1")
    assert cli.main(["evaluate", folder, "--data_dir", tiny_data, "--json"]) == DISAGREES
    result = json.loads(capsys.readouterr().out)
    assert result["images"] == 40 and not result["agrees"] and not result["same_images_as_card"]
    with np.load(tiny_data) as data:
        probabilities = keras_resv2.from_pretrained(folder).predict(data["x_test"], verbose=0)
        assert result["measured_error"] == 100 * np.mean(probabilities.argmax(1) != data["y_test"])


def test_evaluate_does_not_compare_errors_on_different_images(tiny_data, capsys):
    """A subset of the test images has a different error than all 10,000."""
    assert cli.main(["evaluate", NAME, "--data_dir", tiny_data]) == 0
    error = keras_resv2.pretrained_card(NAME).test_error
    words = f"of 40 test images; the card's {error:.2f} % refers to 10,000 images and is not comparable"
    assert words in capsys.readouterr().out
    assert cli.main(["evaluate", NAME, "--data_dir", tiny_data, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["agrees"] is None and result["card_error"] == error


def test_a_warning_is_one_line_without_a_place_in_the_code(tmp_path, capsys):
    images = np.random.default_rng(0).integers(0, 2, (4, 32, 32, 3), dtype="uint8")  # divided by 255, and cut off
    labels = np.arange(4)
    np.savez(tmp_path / "dark.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    for _ in range(2):  # also the second time
        assert cli.main(["evaluate", NAME, "--data_dir", str(tmp_path / "dark.npz")]) == 0
        words = capsys.readouterr().err.strip().splitlines()[-1]
        assert words.startswith("keras-resv2: warning: images: pixels range from 0 to 1") and words.endswith("them.")


def test_summary_of_a_folder_has_its_image_size(tmp_path, capsys):
    publish(tmp_path, image_shape=(64, 64, 3))
    assert cli.main(["summary", str(tmp_path / "resnet20-cifar10/1"), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["input"] == [64, 64, 3] and facts["multiply_adds"] == pytest.approx(4 * 40.6e6, rel=0.01)


def test_labels_in_a_column_are_labels():
    """Labels as returned by `keras.datasets`; one-hot rows are rejected."""
    scores = np.eye(3)[[0, 1, 2, 0, 1]]

    class Perfect:
        def predict_on_batch(self, images):
            return scores[images[:, 0].astype(int)]

    images, labels = np.arange(5.0)[:, None], scores.argmax(1)
    for given in (labels, labels[:, None]):
        assert evaluation.measure_error(Perfect(), images, given, batch_size=2) == 0
        assert evaluation.measure_error(Perfect(), images, (given + 1) % 3, batch_size=2) == 100
    with pytest.raises(ValueError, match="argmax"):
        evaluation.measure_error(Perfect(), images, scores, batch_size=2)


@pytest.mark.parametrize("make", [dict, lambda: iter([]), lambda: keras.utils.PyDataset()])
def test_what_is_not_an_array(make):
    """Batches, for example, are not said to have "different shapes"."""
    with pytest.raises(ValueError, match=r"images: .* is not an array: .* joins batches"):
        keras_resv2.measure_error(keras_resv2.ResNet(8), make(), np.zeros(4, "int64"))


def test_channels_first_are_told_how_to_come_last():
    """`prepare_images` could not resize them."""
    model, images = keras_resv2.ResNet(8), np.zeros((4, 3, 32, 32), "uint8")
    for refuse in (
        lambda: keras_resv2.measure_error(model, images, np.zeros(4, "int64")),
        lambda: keras_resv2.fine_tune(model, (images, np.zeros(4, "int64")), None, epochs=1, verbose=0),
        lambda: keras_resv2.prepare_images(images, (32, 32)),
    ):
        with pytest.raises(ValueError, match=r"x\.transpose\(0, 2, 3, 1\) moves the channels last\.") as refusal:
            refuse()
        assert "prepare_images" not in str(refusal.value)


def test_channels_last_are_told_how_to_come_first():
    """A network with channels first."""
    inputs = keras.Input((3, 32, 32))
    pooled = keras.layers.GlobalAveragePooling2D(data_format="channels_first")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(10)(pooled))
    with pytest.raises(
        ValueError, match=r"expects \(n, 3, 32, 32\): x\.transpose\(0, 3, 1, 2\) moves the channels first"
    ):
        keras_resv2.measure_error(model, np.zeros((4, 32, 32, 3), "uint8"), np.zeros(4, "int64"))


@pytest.mark.parametrize("command", ["predict", "embed", "evaluate"])
def test_commands_ignore_the_data_format_of_the_configuration(command, image_path, tiny_data, tmp_path, capsys):
    """They read files, so users cannot move the channels."""
    flags = {"predict": [image_path], "embed": [image_path, "--out", str(tmp_path / "out.npz")]}
    flags["evaluate"] = ["--data_dir", str(tiny_data)]
    keras.config.set_image_data_format("channels_first")
    try:
        found = cli.main([command, NAME, *flags[command]]), capsys.readouterr().out
    finally:
        keras.config.set_image_data_format("channels_last")
    assert found == (cli.main([command, NAME, *flags[command]]), capsys.readouterr().out) and found[0] != cli.BAD_INPUT


def test_text_of_cards_is_printed_as_it_is(tmp_path, capsys):
    """Not as markup of the library that draws tables, which dropped [old] and failed at [/b]."""
    publish(tmp_path, hardware="a [old] machine [/b] :smile:")
    assert cli.main(["summary", str(tmp_path / "resnet20-cifar10/1")]) == 0
    assert "a [old] machine [/b] :smile:" in capsys.readouterr().out


def test_evaluate_checks_the_precision_before_images(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cli.evaluate, "load_images", lambda *a, **k: pytest.fail("images were read"))
    assert cli.main(["evaluate", NAME, "--data_dir", str(tmp_path), "--dtype", "bfloat"]) == cli.BAD_INPUT
    assert "bfloat" in capsys.readouterr().err


def test_evaluate_in_full(tiny_data, capsys, monkeypatch):
    """Compares with independent arithmetic on the network's probabilities; the images are run once."""
    runs = []
    monkeypatch.setattr(
        metrics, "predictions", lambda model, batches: runs.append(model) or evaluation.predictions(model, batches)
    )
    assert cli.main(["evaluate", NAME, "--data_dir", tiny_data, "--json", "--full"]) in (0, DISAGREES)
    assert len(runs) == 1  # and the JPEG images, by `measure_error`
    result = json.loads(capsys.readouterr().out)
    with np.load(tiny_data) as arrays:
        images, labels = arrays["x_test"], arrays["y_test"].ravel()
    probabilities = keras_resv2.from_pretrained(NAME).predict(images, verbose=0)
    expected = -np.log(probabilities[np.arange(len(labels)), labels]).mean()
    assert result["negative_log_likelihood"] == pytest.approx(expected, abs=1e-3)
    wrong = probabilities.argmax(1) != labels
    assert result["class_errors"][labels[0]] == pytest.approx(100 * wrong[labels == labels[0]].mean(), abs=0.01)
    assert 0 <= result["calibration_error"] <= 1 and 0 <= result["jpeg_error"] <= 100
    assert cli.main(["evaluate", NAME, "--data_dir", tiny_data, "--full"]) in (0, DISAGREES)
    assert "calibration error" in capsys.readouterr().out


def test_the_results_table_is_that_of_the_cards(capsys):
    assert cli.main(["list", "--csv"]) == 0
    printed = capsys.readouterr().out
    assert printed == (ROOT / "weights" / "results.csv").read_text(), "run `make results`"
    rows = {(row["name"], row["version"]): row for row in csv.DictReader(printed.splitlines())}
    cards = map(keras_resv2.pretrained_card, keras_resv2.list_pretrained(versions=True))
    assert {f"{name}@{version}" for name, version in rows} == {card.full_name for card in cards if card.origin is None}
    assert round(int(rows[NAME, "1"]["multiply_adds"]) / 1e6) == 41  # He et al. 2015: 0.27 M parameters, 41 M FLOPs


@pytest.mark.parametrize(
    "flags, form", [(["--folded", "--dtype", "mixed_bfloat16"], "folded"), (["--rolled"], "rolled")]
)
def test_evaluate_measures_other_forms(tiny_data, capsys, monkeypatch, flags, form):
    measured = []
    original = metrics.class_scores
    monkeypatch.setattr(metrics, "class_scores", lambda model, *data: measured.append(model) or original(model, *data))
    cli.main(["evaluate", NAME, "--data_dir", tiny_data, "--json", *flags])
    result, names = json.loads(capsys.readouterr().out), [layer.name for layer in measured[0].layers]
    assert result["form"] == form
    assert ("stage1_unit1_bn1" in names) == (form != "folded") and ("stage1_unit2_to_3" in names) == (form == "rolled")
    assert measured[0].get_layer("stage1_unit1_conv1").compute_dtype == ("bfloat16" if form == "folded" else "float32")


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda p: None, "does not exist"),
        (lambda p: p.write_text("no image"), "not a readable image"),
        (lambda p: p.write_bytes(b""), "not a readable image"),
        (lambda p: p.mkdir(), "is a folder"),
        (lambda p: _cut_png(p), "not a readable image"),
    ],
)
def test_invalid_images(tmp_path, capsys, image_path, make, words):
    """One line that names it, and exit code 2."""
    path, saved = tmp_path / "bad.png", tmp_path / "out.png"
    make(path)
    assert cli.main(["predict", NAME, str(path), "--save", str(saved)]) == cli.BAD_INPUT
    output = capsys.readouterr()
    assert output.out == "" and output.err.count("\n") == 1 and words in output.err and str(path) in output.err
    assert not saved.exists()
    assert cli.main(["embed", NAME, str(path), "--out", str(tmp_path / "f.npz"), "--json"]) == cli.BAD_INPUT
    result = json.loads(capsys.readouterr().out)
    assert result["images"] == 0 and words in result["left_out"][str(path)] and not (tmp_path / "f.npz").exists()


def test_one_damaged_file_does_not_prevent_other_predictions(tmp_path, capsys, image_path):
    path, saved = tmp_path / "bad.png", tmp_path / "out.png"
    _cut_png(path)
    assert cli.main(["predict", NAME, str(path), image_path, "--save", str(saved)]) == cli.BAD_INPUT
    output = capsys.readouterr()
    assert output.out.startswith(f"{image_path}\n ") and len(output.out.splitlines()) == 6
    assert output.err.count("\n") == 1 and f"{path} is not a readable image" in output.err and saved.exists()
    assert cli.main(["predict", NAME, str(path), image_path, "--json"]) == cli.BAD_INPUT
    broken, good = json.loads(capsys.readouterr().out)
    assert broken == {"image": str(path), "error": broken["error"]} and "is not a readable image" in broken["error"]
    assert len(good["predictions"]) == 5


def test_a_bug_has_an_exit_code_of_its_own(monkeypatch, capsys):
    """Python's own is 1, which for `evaluate` means that the error is not that of the card."""
    monkeypatch.setattr(cli.COMMANDS["list"][1], "run", lambda arguments: {}["missing"])
    monkeypatch.setattr(sys, "argv", ["keras-resv2", "list"])
    assert cli.main() == 70
    assert "KeyError: 'missing'" in capsys.readouterr().err
    with pytest.raises(KeyError):
        cli.main(["list"])


@pytest.mark.parametrize("encoding", ["cp437", "ascii"])
def test_a_console_of_another_code_page(tmp_path, image_path, monkeypatch, encoding):
    """Names that cannot be printed are escaped, and the results are not lost."""
    path = pathlib.Path(image_path).rename(tmp_path / "\u732b.png")
    console = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(console, encoding=encoding, write_through=True))
    assert cli.main(["predict", NAME, str(path)]) == 0
    lines = console.getvalue().decode(encoding).splitlines()
    assert lines[0].endswith("\\u732b.png") and len(lines) == 6


def test_lines_appear_as_they_are_written(monkeypatch):
    """In a pipe, where Python buffers blocks."""
    readable, writable = os.pipe()
    with open(writable, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        startup.prepare_streams()
        print("step 1")
        os.set_blocking(readable, False)
        assert os.read(readable, 100).split() == [b"step", b"1"]
        monkeypatch.undo()
    os.close(readable)


def test_what_runs_around_an_import(tmp_path, monkeypatch):
    """Runs once at the import; the module is the same as without it."""
    (tmp_path / "imported_later.py").write_text("seen = list(__import__('sys').events)")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "events", [], raising=False)

    @contextlib.contextmanager
    def around():
        sys.events.append("before")
        yield
        sys.events.append("after")

    finders = list(sys.meta_path)
    startup.around_import("imported_later", around)
    assert sys.events == [] and len(sys.meta_path) == len(finders) + 1
    assert importlib.util.find_spec("imported_later") is not None  # others may ask whether it is installed
    module = importlib.import_module("imported_later")
    assert module.seen == ["before"] and sys.events == ["before", "after"] and sys.meta_path == finders
    importlib.reload(module)
    startup.around_import("imported_later", around)  # it is there already
    assert sys.events == ["before", "after"] and sys.meta_path == finders
    del sys.modules["imported_later"]


@pytest.mark.parametrize("error", [BrokenPipeError(), OSError(errno.EIO, "no terminal"), ValueError("closed file")])
def test_messages_to_a_standard_error_that_is_gone_do_no_harm(error, monkeypatch, capsys):
    """As of a job whose terminal was closed: neither an error nor part of the output, which may be JSON."""

    class Gone(io.StringIO):
        def write(self, text):
            raise error

    for stream in (None, Gone()):
        monkeypatch.setattr(sys, "stderr", stream)
        startup.print_stderr("text")
        assert cli.main(["summary", "resnet21-cifar10"]) == cli.BAD_INPUT
    assert capsys.readouterr().out == ""


def test_a_closed_standard_error_stays_closed(monkeypatch):
    """As of a daemon."""

    def closed(descriptor):
        raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr(os, "dup", closed)
    monkeypatch.setenv(startup.LEVEL, startup.QUIET)
    entered = []
    with startup.without_native_messages():
        entered.append(True)
    assert entered


def _cut_png(path):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype="uint8")).save(path)
    path.write_bytes(path.read_bytes()[:3000])


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["predict", "resnet21-cifar10", "x.png"], "resnet20-cifar10"),
        (["predict", "resnet20-cifar10@99", "x.png"], "no version 99"),
        (["predict", NAME, "x.png", "--top", "0"], "at least 1"),
        (["summary", "resnet21-cifar10"], "resnet20-cifar10"),
        (["summary", "preactresnet50"], "did you mean preact_resnet50"),
        (["predict", NAME, __file__, "--save", "out.psd"], "must be one of .png"),
        (["predict", NAME, __file__, "--save", "nowhere/out.png"], "nowhere does not exist. Create it first"),
        (["evaluate", NAME, "--data_dir", "nowhere"], "nowhere does not exist"),
        (["evaluate", NAME, "--data_dir", "."], "does not contain cifar10"),
        (["evaluate", NAME, "--data_dir", __file__], "is not a readable .npz file"),
        (["list", "--markdown", "--csv"], "--markdown and --csv cannot be combined"),
        (["list", "--csv", "--json"], "--json and --csv cannot be combined"),
        (["list", "--architectures", "--versions"], "--architectures and --versions cannot be combined"),
        (["export", NAME, "--format", "onnx", "--out", "x.onnx", "--images", "5"], "--images has no effect without"),
        (["finetune", NAME, "--data", "x", "--out", "y", "--seed", "4294967296"], "--seed 4294967296 must be from 0"),
        (["analyze", "paths", NAME, "--data_dir", "x", "--out", "y", "--seed", "-1"], "--seed -1 must be from 0"),
    ],
)
def test_bad_input_is_one_line(arguments, words, capsys):
    assert cli.main(arguments) == cli.BAD_INPUT
    output = capsys.readouterr()
    assert output.err.count("\n") == 1 and words in output.err and output.out == ""


def test_damaged_data(tiny_data, tmp_path, capsys):
    content = pathlib.Path(tiny_data).read_bytes()
    (tmp_path / "cut.npz").write_bytes(content[: len(content) // 2])
    among_the_test_images = 150_000
    changed = content[:among_the_test_images] + b"????" + content[among_the_test_images + 4 :]
    (tmp_path / "changed.npz").write_bytes(changed)
    np.save(tmp_path / "one.npy", np.zeros(3))
    for name in ("cut.npz", "changed.npz", "one.npy"):
        assert cli.main(["evaluate", NAME, "--data_dir", str(tmp_path / name)]) == cli.BAD_INPUT
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and "is not a readable .npz file" in error


def test_data_of_another_shape(tmp_path, capsys):
    np.savez(tmp_path / "grey.npz", x_test=np.zeros((4, 28, 28), "uint8"), y_test=np.zeros(4))
    assert cli.main(["evaluate", NAME, "--data_dir", str(tmp_path / "grey.npz")]) == cli.BAD_INPUT
    assert "(4, 28, 28)" in capsys.readouterr().err
    np.savez(tmp_path / "train.npz", x_train=np.zeros((4, 32, 32, 3), "uint8"), y_train=np.zeros(4))
    assert cli.main(["evaluate", NAME, "--data_dir", str(tmp_path / "train.npz")]) == cli.BAD_INPUT
    assert "x_train, y_train, x_test, y_test" in capsys.readouterr().err


def test_output_to_a_closed_pipe():
    """`keras-resv2 list --json | head -1` ends like other programs: without a message."""
    for module in ("keras_resv2", "list", "--json"), ("train.reproduce", "table1"):
        process = subprocess.Popen(
            [sys.executable, "-m", *module], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        process.stdout.close()
        message = process.stderr.read()
        assert (process.wait(), message) == (141, ""), module


def run_command(*arguments):
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}  # as `make demo` sets it
    command = [sys.executable, "-m", "keras_resv2", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def test_the_command_writes_one_line_for_what_is_wrong(tmp_path):
    done = run_command("predict", NAME, tmp_path / "none.png")
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == f"keras-resv2: error: image {tmp_path / 'none.png'} does not exist.\n"


def test_the_command_writes_nothing_but_the_answer(image_path):
    """Without messages of TensorFlow's libraries."""
    done = run_command("predict", NAME, image_path)
    assert done.returncode == 0 and done.stdout.startswith(image_path) and done.stderr == ""


def test_reading_images_of_all_kinds(tmp_path):
    """Grayscale, palette, transparent, 16 bits, rotated by EXIF, wide: always upright RGB of the requested size."""
    grey = np.tile(np.linspace(0, 255, 64).astype("uint8"), (64, 1))
    kinds = {
        "grey.png": Image.fromarray(grey),
        "palette.gif": Image.fromarray(grey).convert("P"),
        "deep.png": Image.fromarray(grey.astype("uint16") * 257),
        "wide.tiff": Image.fromarray(grey.astype("int32")),
        "cmyk.jpg": Image.fromarray(np.stack([grey] * 3, -1)).convert("CMYK"),
    }
    for name, image_path in kinds.items():
        image_path.save(tmp_path / name)
        pixels = read_image(tmp_path / name, (64, 64))
        assert pixels.shape == (64, 64, 3) and pixels.dtype == np.uint8
        assert np.abs(pixels.astype(int) - grey[..., None]).max() < 12, name
    clear = Image.new("RGBA", (40, 40), (255, 0, 0, 0))
    clear.save(tmp_path / "clear.png")
    assert (read_image(tmp_path / "clear.png", (32, 32)) == 255).all()
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held on its side
    Image.fromarray(np.stack([grey] * 3, -1)).save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "turned.png", (64, 64))[..., 0], np.rot90(grey, -1))
    wide = Image.new("RGB", (300, 100), "blue")
    wide.paste("red", (100, 0, 200, 100))
    wide.save(tmp_path / "wide.png")
    middle = read_image(tmp_path / "wide.png", (32, 32))
    assert (middle[4:-4, 4:-4] == (255, 0, 0)).all()


def _exif(orientation, tag, kind, value):
    """EXIF with an orientation and another tag of one value: TIFF 6.0, section 2."""
    entries = struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0) + struct.pack("<HHI4s", tag, kind, 1, value)
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + entries + bytes(4)


@pytest.mark.parametrize("ending", ["png", "tif"])
@pytest.mark.parametrize("orientation", range(9))
def test_photographs_are_rotated_whatever_their_other_tags(tmp_path, orientation, ending):
    """An image height of -1, which Pillow can read but not write; 0 is no orientation. Pillow rotates TIFF itself."""
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype="uint8")
    if ending == "png":
        exif: object = _exif(orientation, 0x0101, 9, struct.pack("<i", -1))
    else:
        exif = Image.Exif()
        exif[0x0112] = orientation
    Image.fromarray(image).save(tmp_path / f"photograph.{ending}", exif=exif)
    by_hand = {  # CIPA DC-008: where row 0 and column 0 of the stored image are seen
        2: image[:, ::-1],  # top, right
        3: image[::-1, ::-1],  # bottom, right
        4: image[::-1],  # bottom, left
        5: image.transpose(1, 0, 2),  # left, top
        6: np.rot90(image, -1),  # right, top
        7: image.transpose(1, 0, 2)[::-1, ::-1],  # right, bottom
        8: np.rot90(image),  # left, bottom
    }
    found = read_image(tmp_path / f"photograph.{ending}", (16, 16))
    np.testing.assert_array_equal(found, by_hand.get(orientation, image))


def test_a_sheet_that_cannot_be_written_does_not_lose_the_predictions(image_path, tmp_path, capsys, monkeypatch):
    def full(*given):
        raise OSError("encoder error -2 when writing image file")

    monkeypatch.setattr(cli.predict, "draw_predictions", full)
    assert cli.main(["predict", NAME, image_path, "--save", str(tmp_path / "sheet.jpg")]) == cli.BAD_INPUT
    printed = capsys.readouterr()
    assert " %  " in printed.out and "encoder error" in printed.err


def test_exif_that_cannot_be_read_is_passed_over(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype="uint8")
    Image.fromarray(image).save(tmp_path / "photograph.png", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    np.testing.assert_array_equal(read_image(tmp_path / "photograph.png", (16, 16)), image)


def test_drawing_needs_a_known_ending(tmp_path):
    with pytest.raises(ValueError, match=r"\.png"):
        draw_predictions([np.zeros((32, 32, 3), "uint8")], [[("cat", 1.0)]], tmp_path / "out.xyz")


def test_history_of_published_weights_ends_at_the_card():
    for name in keras_resv2.list_pretrained(versions=True):
        card = keras_resv2.pretrained_card(name)
        if card.origin:  # trained elsewhere
            continue
        with open(card.folder / "history.csv", newline="") as file:
            last = list(csv.DictReader(file))[-1]
        assert int(last["step"]) == card.steps
        assert abs(float(last["test_error"]) - card.test_error) < 0.5  # bfloat16 then, float32 on the card
        assert (card.folder / "curve.png").stat().st_size > 1000
