"""Exported networks with unit switches in ONNX Runtime, compared with lesions in Keras."""

import json

import keras
import numpy as np
import pytest
from test_export import images, randomised

import keras_resv2
from keras_resv2 import ResNet, cli, export
from keras_resv2.analysis import delete_each
from keras_resv2.analysis.dissection import dissect
from keras_resv2.exporting.unit_switches import UnitSwitches

onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
pytest.importorskip("onnx", reason="onnx is not installed")

NETWORKS = [
    {"activation": "original"},
    {"activation": "full_preactivation"},
    {"activation": "bn_after_addition", "shortcut": "exclusive_gating"},
    {"shortcut": "none"},
]


def opened(path):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session, json.loads(session.get_modelmeta().custom_metadata_map["unit_switches"])


def by_hand(model, x, deleted):
    """Returns logits without some units, replaced by their shortcuts, by calling the model's own layers."""
    parts = dissect(model)
    y = parts.stem(keras.ops.cast(x, "uint8"))
    for unit in parts.units:
        y = unit.without_branch(y) if unit.name in deleted else unit(y)
    return keras.ops.convert_to_numpy(parts.head(y))


@pytest.mark.parametrize("arguments", NETWORKS, ids=str)
def test_every_deletion(arguments, tmp_path):
    """Logits with each switch at 0, and with two; errors are those of `delete_each`."""
    model = randomised(ResNet(8, classes=5, classifier_activation=None, **arguments))
    export(model, tmp_path / "x.onnx", "onnx", unit_switches=True)
    session, units = opened(tmp_path / "x.onnx")
    x, switchable = images(), [unit for unit in units if unit["switch"] is not None]
    assert [unit["name"] for unit in units] == [f"stage{s}_unit1" for s in (1, 2, 3)]
    assert len(switchable) == (1 if arguments.get("shortcut") == "none" else 3)
    for deleted in [[], *([unit] for unit in switchable), switchable[:2]]:
        switches = np.ones(len(switchable), "float32")
        switches[[unit["switch"] for unit in deleted]] = 0
        (found,) = session.run(None, {"pixels": x, "unit_switches": switches})
        expected = by_hand(model, x, {unit["name"] for unit in deleted})
        np.testing.assert_allclose(found, expected, atol=1e-4 * max(1, np.abs(expected).max()), rtol=0)
    # Without the second input as with all switches on.
    (as_it_is,) = session.run(None, {"pixels": x})
    np.testing.assert_allclose(as_it_is, by_hand(model, x, ()), atol=1e-4 * np.abs(as_it_is).max(), rtol=0)


def test_errors_of_a_trained_network(tmp_path):
    """Errors of `delete_each` for each unit, with predictions of the intact network as labels."""
    model = keras_resv2.from_pretrained("preact_resnet20-cifar10")
    x = images(count=30)
    labels = model.predict(x, verbose=0).argmax(1)
    exported = export(model, tmp_path / "x.onnx", "onnx", unit_switches=True, precision="float16")
    assert exported.size < 0.62e6 and exported.difference < 1e-2
    session, units = opened(tmp_path / "x.onnx")
    errors = []
    for unit in units:
        switches = np.ones(len(units), "float32")
        switches[unit["switch"]] = 0
        (y,) = session.run(None, {"pixels": x, "unit_switches": switches})
        errors.append(100 * np.mean(y.argmax(1) != labels))
    study = delete_each(model, x, labels)
    assert study.units == [unit["name"] for unit in units] and max(study.errors) > 20
    np.testing.assert_allclose(errors, study.errors)


@pytest.mark.parametrize("shape", [(32, 32, 3), (None, None, 3)])
def test_strides_are_noticed_whatever_the_size_of_the_images(shape):
    """The last units of stages 1 and 2 keep the channels and halve the sides, which may be unknown."""
    plain = ResNet(14, shortcut="none", activation="full_preactivation", stride_in="last", input_shape=shape)
    units = UnitSwitches(plain).units
    changes = [(unit["name"], unit["switch"]) for unit in units if unit["changes_size"]]
    expected = ["stage1_unit2", "stage2_unit1", "stage2_unit2", "stage3_unit1"]
    assert changes == [(name, None) for name in expected]
    assert [unit.name for unit in dissect(plain).units if not unit.deletable] == expected


def test_refusals(tmp_path, capsys):
    model = ResNet(8)
    with pytest.raises(ValueError, match="unit_switches=True is for format='onnx'"):
        export(model, tmp_path / "x.tflite", "tflite", unit_switches=True)
    with pytest.raises(ValueError, match="precision='float16' is for format='tflite' or 'onnx'"):
        export(model, tmp_path / "x", "saved_model", precision="float16")
    with pytest.raises(ValueError, match="no residual units"):
        other = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3)])
        export(other, tmp_path / "x.onnx", "onnx", unit_switches=True)
    with pytest.raises(ValueError, match="no unit to switch: without shortcuts, all change the size"):
        export(ResNet(11, shortcut="none"), tmp_path / "x.onnx", "onnx", unit_switches=True)
    assert not list(tmp_path.iterdir())
    command = ["export", "resnet20-cifar10", "--format", "onnx", "--out", str(tmp_path / "y.onnx"), "--unit_switches"]
    assert cli.main(command) == 0
    assert len(opened(tmp_path / "y.onnx")[1]) == 9
