"""Exports of networks with layers around them that users add: augmentation, resizing, adapters, quantized layers."""

import sys
import types

import keras
import numpy as np
import pytest
from test_export import HERE, images, needs_tensorflow, randomised

import keras_resv2
from helpers.comparing import run_keras
from helpers.exported import RUN, assert_same, open_tflite
from keras_resv2 import ResNet, convert, export
from keras_resv2.storage.weight_file import read_weights

layers = keras.layers


def behind(*before, size=(32, 32), **arguments):
    """A small network behind other layers."""
    network = randomised(ResNet(8, classifier_activation=None, input_shape=(32, 32, 3), **arguments))
    return keras.Sequential([keras.Input((*size, 3)), *before, network])


@pytest.mark.parametrize("format", HERE)
@pytest.mark.parametrize("folded", [True, False])
def test_augmentation_is_removed(format, folded, tmp_path):
    """Every random layer of Keras; the reference is the network on its own."""
    random = [
        layers.RandomFlip(), layers.RandomRotation(0.3), layers.RandomZoom(0.5), layers.RandomTranslation(0.3, 0.3),
        layers.RandomContrast(0.5), layers.RandomBrightness(0.5), layers.GaussianNoise(1.0),
    ]  # fmt: skip
    model = behind(*random)
    exported = export(model, tmp_path / "network", format, folded=folded)
    assert exported.input == "uint8 (batch, 32, 32, 3)"
    assert_same(RUN[format](tmp_path / "network", images())["logits"], run_keras(model.layers[-1], images()))


@pytest.mark.parametrize("format", HERE)
@pytest.mark.parametrize("make, size", [
    (lambda: layers.Resizing(32, 32), (47, 64)),
    (lambda: layers.Resizing(32, 32, interpolation="nearest"), (47, 20)),
    (lambda: layers.CenterCrop(32, 32), (45, 38)),
], ids=["bilinear", "nearest", "CenterCrop"])  # fmt: skip
def test_layers_that_resize(make, size, format, tmp_path):
    model = behind(layers.RandomFlip(), make(), size=size)
    exported = export(model, tmp_path / "network", format)
    assert exported.input == f"uint8 (batch, {size[0]}, {size[1]}, 3)"
    assert_same(RUN[format](tmp_path / "network", images(*size))["logits"], run_keras(model, images(*size)))


@needs_tensorflow
def test_int8_behind_augmentation_and_resizing(real_images, tmp_path):
    network = keras_resv2.from_pretrained("resnet20-cifar10")
    model = keras.Sequential(
        [keras.Input((48, 48, 3)), layers.RandomFlip(), layers.Resizing(32, 32), layers.GaussianNoise(1.0), network]
    )
    x = np.repeat(np.repeat(real_images[0], 2, 1), 2, 2)[:, 8:56, 8:56]
    path = tmp_path / "network.tflite"
    exported = export(model, path, "tflite", precision="int8", representative=x)
    found = RUN["tflite"](path, x)["probabilities"]
    assert exported.input == "uint8 (batch, 48, 48, 3)"
    assert np.mean(found.argmax(1) == run_keras(model, x).argmax(1)) >= 0.9
    (given,) = open_tflite(path).get_input_details()
    assert given["dtype"] is np.uint8 and given["quantization"] == (1.0, 0)


def test_onnx_refuses_what_it_has_no_form_for(tmp_path):
    for layer, words in (
        (layers.Resizing(32, 32, crop_to_aspect_ratio=True), "a Resizing with crop_to_aspect_ratio=True"),
        (layers.CenterCrop(40, 40), "a CenterCrop of images of"),
    ):
        x = keras.Input((36, 36, 3))
        with pytest.raises(ValueError, match=f"no ONNX form for layer '{layer.name}': {words}"):
            export(keras.Model(x, ResNet(8, input_tensor=layer(x)).output), tmp_path / "n.onnx", "onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("form", ["layer", "object", "object of axis 1"])
@pytest.mark.parametrize("format", HERE)
def test_a_softmax_layer(format, form, tmp_path):
    """After the classifier, or as its activation."""
    softmax = layers.Softmax(axis=1 if "1" in form else -1)
    model = randomised(ResNet(8, classifier_activation=None if form == "layer" else softmax))
    if form == "layer":
        model = keras.Model(model.input, softmax(model.output))
    export(model, tmp_path / "n", format)
    assert_same(RUN[format](tmp_path / "n", images())["probabilities"], run_keras(model, images()))


def test_networks_of_other_graphs(tmp_path):
    """Averages in the shortcuts and another stem, in every format."""
    model = randomised(ResNet(8, projection="A_average", stem="cifar_pooled", classifier_activation=None))
    for format in HERE:
        export(model, tmp_path / format, format)
        assert_same(RUN[format](tmp_path / format, images())["logits"], run_keras(model, images()))


# Adapters and quantized layers


@pytest.fixture
def adapted():
    """A network with low-rank adapters that have an effect."""
    model = randomised(ResNet(8, classifier_activation=None, projection="B"))
    rng = np.random.default_rng(0)
    for name in ("head_dense", "stage2_unit1_conv2", "stage3_unit1_shortcut_conv"):
        layer = model.get_layer(name)
        layer.enable_lora(2)
        layer.lora_kernel_b.assign(rng.normal(0, 0.3, layer.lora_kernel_b.shape))
    return model


def test_adapters_are_merged(adapted, tmp_path):
    """In exports, weight files and PyTorch's tensors; the network keeps its adapters."""
    expected = run_keras(adapted, images())
    for format in HERE:
        export(adapted, tmp_path / format, format)
        assert_same(RUN[format](tmp_path / format, images())["logits"], expected)
    keras_resv2.save_weights(adapted, tmp_path / "w.h5")
    again = ResNet(8, classifier_activation=None, projection="B", weights=str(tmp_path / "w.h5"))
    assert_same(run_keras(again, images()), expected)
    kernel = keras.ops.convert_to_numpy(adapted.get_layer("head_dense").kernel)
    np.testing.assert_array_equal(convert.to_pytorch(adapted, "cifar")["linear.weight"], kernel.T)
    assert adapted.get_layer("head_dense").lora_enabled
    assert not [name for name in read_weights(tmp_path / "w.h5") if "lora" in name]


def test_quantized_layers_are_named(tmp_path):
    model = ResNet(8)
    model.quantize("int8")
    ways = [lambda: keras_resv2.save_weights(model, tmp_path / "w.h5"), lambda: convert.to_pytorch(model, "cifar")]
    ways += [lambda format=format: export(model, tmp_path / "network", format) for format in HERE]
    for way in ways:
        with pytest.raises(ValueError, match=r"layer 'head_dense' is quantized \(int8\).*before quantize\(\)") as error:
            way()
        assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


# Files of TensorFlow, packages and places


@needs_tensorflow
def test_saved_models_hold_no_fused_batch_normalization(tmp_path):
    """TensorFlow fuses its kernel with the ReLU, and TensorFlow.js' converter rejects the result."""
    from tensorflow.core.protobuf import saved_model_pb2

    model = randomised(ResNet(8, activation="full_preactivation"))
    export(model, tmp_path / "network", "saved_model")
    saved = saved_model_pb2.SavedModel.FromString((tmp_path / "network/saved_model.pb").read_bytes())
    graph = saved.meta_graphs[0].graph_def
    kinds = {node.op for function in graph.library.function for node in function.node_def}
    assert "Conv2D" in kinds and not [kind for kind in kinds if "BatchNorm" in kind]


def test_an_onnx_that_does_not_match_its_dependencies(monkeypatch, tmp_path):
    """Like onnx 1.19 with ml_dtypes 0.4, which TensorFlow 2.17 requires."""

    class Old(types.ModuleType):
        def __getattr__(self, name):
            raise AttributeError(f"module 'ml_dtypes' has no attribute {name!r}")

    monkeypatch.delitem(sys.modules, "onnx", raising=False)

    class Finder:
        def find_spec(self, name, path=None, target=None):
            return Old("ml_dtypes").float4_e2m1fn if name == "onnx" else None

    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])
    with pytest.raises(ImportError, match=r"float4_e2m1fn.*--upgrade ml_dtypes.*onnx<1\.19") as error:
        export(ResNet(8), tmp_path / "n.onnx", "onnx")
    assert "\n" not in str(error.value)
