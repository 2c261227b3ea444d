"""The table of exported formats: one small run, and the report of formats that fail."""

import re

import numpy as np
import pytest

import keras_resv2
from benchmarks import exports

NAME = "resnet20-cifar10"


def test_a_small_run(tmp_path, monkeypatch, capsys, real_images):
    """ONNX Runtime on 20 real images: the error is the same as that of Keras."""
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    pixels, labels = real_images[0], real_images[1].copy()
    labels[:3] = (labels[:3] + 1) % 10  # three errors at least
    np.savez(tmp_path / "data.npz", x_train=pixels, y_train=labels, x_test=pixels, y_test=labels)
    monkeypatch.setattr(exports, "IN_KERAS", ())
    monkeypatch.setattr(exports, "EXPORTED", {"onnx": "float32"})
    out = tmp_path / "exports.md"
    command = ["--names", NAME, "--data_dir", str(tmp_path / "data.npz"), "--rounds", "2", "--round_seconds", "0.05"]
    assert exports.main([*command, "--threads", "1", "--out", str(out)]) == 0
    full_name = keras_resv2.pretrained_card(NAME).full_name
    (row,) = re.findall(rf"\| `{full_name}` \| onnx \| (.*) \|", out.read_text())
    error, size, *rates = row.split(" | ")
    said = keras_resv2.from_pretrained(NAME).predict(pixels, verbose=0).argmax(1)
    assert error == f"{100 * np.mean(said != labels):.2f} %" and float(error.split()[0]) > 0
    assert 1.0 < float(size.removesuffix(" MB")) < 1.2
    assert len(rates) == 2 and all(float(rate.replace(",", "")) > 0 for rate in rates)
    assert out.read_text() in capsys.readouterr().out


def test_a_format_that_fails_is_reported_and_the_others_finish(tmp_path):
    arguments = exports.parse(["--data_dir", "x.npz", "--rounds", "1"])
    results = [exports.Result(NAME, "onnx", str(tmp_path / "missing.onnx"), 1)]
    (result,) = exports.measure(results, arguments)
    assert "missing.onnx does not exist" in result.error and result.wrong is None
    machine = {"hardware": "a machine", "system": "Linux", "commit": "0", "versions": {}, "load_average": 0.0}
    results.append(exports.Result(NAME, "Keras", None, 2_000_000, 5, 100, {1: [3.0, 1.0, 2.0], 64: [70.0]}))
    text = exports.as_markdown(results, machine, arguments, "command")
    assert f"| `{NAME}` | Keras | 5.00 % | 2.00 MB | 2 | 70 |" in text
    assert f"- {NAME} as onnx: FileNotFoundError" in text


def test_networks_before_a_failed_export_are_in_the_table(tmp_path, monkeypatch, capsys, real_images):
    pixels, labels = real_images
    np.savez(tmp_path / "data.npz", x_train=pixels, y_train=labels, x_test=pixels, y_test=labels)

    def export(model, path, format, **options):
        if model.name == "preact_resnet20":
            raise ImportError("no runtime\nof this format")
        return type("Exported", (), {"size": 1_500_000})

    monkeypatch.setattr(keras_resv2, "export", export)
    monkeypatch.setattr(exports, "EXPORTED", {"onnx": "float32"})
    monkeypatch.setattr(exports, "IN_KERAS", ())
    monkeypatch.setattr(exports, "measure", lambda results, arguments: results)
    command = ["--names", NAME, "preact_resnet20-cifar10", "--data_dir", str(tmp_path / "data.npz")]
    assert exports.main(command) == 1
    text = capsys.readouterr().out
    assert "| onnx | - | 1.50 MB |" in text and "as onnx: no runtime of this format" in text


@pytest.mark.parametrize("flags", [["--images", "0"], ["--threads", "0"], ["--rounds", "-1"]])
def test_bad_input(flags, capsys):
    with pytest.raises(SystemExit):
        exports.main(["--data_dir", "x.npz", *flags])
    assert "must be above 0" in capsys.readouterr().err
    assert exports.main(["--data_dir", "nowhere.npz"]) == 2
    assert "nowhere.npz does not exist" in capsys.readouterr().err
