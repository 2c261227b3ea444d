"""Every exported format, run in its own runtime, has the same outputs as Keras."""

import dataclasses
import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from PIL import Image

import keras_resv2
from helpers.comparing import run_keras
from helpers.exported import RUN, assert_same, open_tflite, run_onnx, run_tflite
from keras_resv2 import ResNet, cli, export
from keras_resv2.data import DATASETS
from keras_resv2.exporting.formats import FORMATS, load_exported
from keras_resv2.exporting.signature import signature_of
from keras_resv2.models.blocks import ACTIVATIONS
from keras_resv2.storage.weight_file import save_weights

pytest.importorskip("onnx", reason="onnx is not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

ON_TENSORFLOW = keras.backend.backend() == "tensorflow"
OTHER_BACKENDS = [name for name in ("tensorflow", "jax", "torch") if name != keras.backend.backend()]
HERE = FORMATS if ON_TENSORFLOW else ("onnx",)
needs_tensorflow = pytest.mark.skipif(not ON_TENSORFLOW, reason="SavedModel and TFLite need Keras on TensorFlow")
NAME = "resnet20-cifar10"
CLASSES = DATASETS["cifar10"].class_names
# The cells of the paper's two tables that differ in what layers they have, with bottlenecks and the ImageNet stem.
NETWORKS = [
    *((8, {"activation": activation}) for activation in ACTIVATIONS),
    *((8, {"shortcut": name}) for name in ("constant_scaling", "conv1x1", "dropout", "none")),
    (8, {"shortcut": "exclusive_gating", "activation": "full_preactivation", "projection": "B"}),
    (8, {"shortcut": "shortcut_only_gating"}),
    *((11, {"stem": "imagenet", "input_shape": (45, 37, 3), "activation": a, "stride_on": s}) for a, s in (
        ("original", "3x3"), ("full_preactivation", "1x1"))),
]  # fmt: skip


def randomised(model, seed=0):
    """Sets batch normalization far from the identity, and non-zero biases."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            low = {"gamma": 0.5, "moving_variance": 0.5, "beta": -0.5, "moving_mean": -0.5}
            layer.set_weights([rng.uniform(low[w.name], low[w.name] + 1, w.shape) for w in layer.weights])
        elif getattr(layer, "use_bias", False):
            layer.bias.assign(rng.uniform(-0.5, 0.5, layer.bias.shape))
    return model


def images(height=32, width=32, count=3):
    """Random uint8 images, each of one random color with noise."""
    rng = np.random.default_rng(1)
    colors = rng.integers(40, 216, (count, 1, 1, 3))
    return (colors + rng.integers(-40, 40, (count, height, width, 3))).astype("uint8")


@pytest.fixture(scope="module", params=NETWORKS, ids=str)
def network(request):
    """A network, whether it is the first, images of its size, and its logits; for all formats."""
    depth, arguments = request.param
    model = randomised(ResNet(depth, classes=7, classifier_activation=None, **arguments))
    x = images(*model.input_shape[1:3])
    return model, request.param == NETWORKS[0], x, run_keras(model, x)


@pytest.mark.parametrize("format", HERE)
def test_every_kind_of_network(network, format, tmp_path):
    """uint8 pixels to logits in the runtime itself; a batch of three and a single image."""
    model, first, x, expected = network
    exported = export(model, tmp_path / "network", format)
    (found,) = RUN[format](tmp_path / "network", x).values()
    assert_same(found, expected)
    assert exported.difference < 1e-4 and exported.outputs == ("logits",)
    if first:
        np.testing.assert_allclose(RUN[format](tmp_path / "network", x[:1])["logits"], expected[:1], atol=1e-4)


@pytest.mark.parametrize("format", HERE)
@pytest.mark.parametrize("activation", ["original", "full_preactivation"])
def test_features_of_images_of_any_size(activation, format, tmp_path):
    body = randomised(ResNet(8, activation=activation, include_top=False, stem="imagenet"))
    export(body, tmp_path / "body", format)
    for size in ((64, 64), (51, 70)):
        x = images(*size)
        assert_same(RUN[format](tmp_path / "body", x)["features"], run_keras(body, x))
    stages = keras_resv2.features(randomised(ResNet(8, activation=activation)), ["stage3", "stage1"])
    export(stages, tmp_path / "stages", format)
    found, expected = RUN[format](tmp_path / "stages", images()), run_keras(stages, images())
    assert set(found) == {"stage1", "stage3"}
    for name, y in expected.items():
        assert_same(found[name], y)


@pytest.mark.parametrize("format", HERE)
def test_rolled_units_and_half_precision(format, tmp_path):
    """A loop in bfloat16 is exported as single layers in float32: the equivalent unrolled network."""
    rolled = randomised(ResNet(20, rolled=True, dtype="mixed_bfloat16", activation="full_preactivation"))
    for layer in rolled.layers:
        if hasattr(layer, "unit_weights"):  # units that differ, so that their order matters
            rng = np.random.default_rng(3)
            factors = [rng.uniform(0.7, 1.3, (len(w), *[1] * (w.ndim - 1))) for w in layer.get_weights()]
            layer.set_weights([w * factor for w, factor in zip(layer.get_weights(), factors, strict=True)])
    save_weights(rolled, tmp_path / "weights.h5")
    weights = str(tmp_path / "weights.h5")
    plain = ResNet(20, activation="full_preactivation", weights=weights, dtype="float32")
    export(rolled, tmp_path / "network", format)
    assert_same(RUN[format](tmp_path / "network", images())["probabilities"], run_keras(plain, images()))


@pytest.mark.parametrize("format", HERE)
def test_networks_built_on_these(format, tmp_path):
    """A new classifier after transfer learning, and a model inside a model."""
    new = keras_resv2.from_pretrained(NAME, classes=5)
    export(new, tmp_path / "new", format, class_names=list("abcde"))
    assert_same(RUN[format](tmp_path / "new", images())["probabilities"], run_keras(new, images()))
    body = keras_resv2.from_pretrained(NAME, include_top=False, pooling="avg", input_shape=(32, 32, 3))
    head = keras.layers.Dense(4, "relu"), keras.layers.Dense(1, "sigmoid")
    outer = keras.Sequential([keras.Input((32, 32, 3)), body, *head])
    exported = export(outer, tmp_path / "outer", format)
    assert exported.input == "uint8 (batch, 32, 32, 3)"
    np.testing.assert_allclose(
        RUN[format](tmp_path / "outer", images())["probabilities"], run_keras(outer, images()), atol=1e-5
    )


@pytest.mark.parametrize("format", HERE)
def test_without_preprocessing_the_input_is_float32(format, tmp_path):
    model = randomised(ResNet(8, include_preprocessing=False, classifier_activation=None))
    x = np.random.default_rng(0).standard_normal((3, 32, 32, 3), dtype="float32")
    assert export(model, tmp_path / "network", format).input == "float32 (batch, 32, 32, 3)"
    assert_same(RUN[format](tmp_path / "network", x)["logits"], run_keras(model, x))


def test_channels_first(tmp_path):
    """The same weights in the other data format: the same network, whose input and maps are channels first."""
    arguments = dict(activation="full_preactivation", shortcut="exclusive_gating", include_top=False)
    last = randomised(ResNet(8, input_shape=(32, 32, 3), **arguments))
    keras.config.set_image_data_format("channels_first")
    try:
        first = ResNet(8, input_shape=(3, 32, 32), **arguments)
    finally:
        keras.config.set_image_data_format("channels_last")
    first.set_weights(last.get_weights())
    export(first, tmp_path / "first.onnx", "onnx")
    found = run_onnx(tmp_path / "first.onnx", images().transpose(0, 3, 1, 2))["features"]
    assert_same(found.transpose(0, 2, 3, 1), run_keras(last, images()))
    x = keras.Input((3, 32, 32))
    behind = keras.Model(x, first(keras.Sequential([keras.Input((3, 32, 32)), keras.layers.Activation("linear")])(x)))
    export(behind, tmp_path / "behind.onnx", "onnx")  # the first model inside it has no data format
    (same,) = run_onnx(tmp_path / "behind.onnx", images().transpose(0, 3, 1, 2).astype("float32")).values()
    np.testing.assert_array_equal(same, found)


@pytest.mark.parametrize("names", [np.array(CLASSES), list(np.arange(10))])
def test_class_names_may_be_an_array(names, tmp_path):
    """As `np.unique` returns them."""
    export(ResNet(8), tmp_path / "n.onnx", "onnx", class_names=names)
    import onnx

    found = {p.key: p.value for p in onnx.load(tmp_path / "n.onnx").metadata_props}["class_names"]
    assert json.loads(found) == [str(name) for name in names]


def test_class_names_of_one_of_several_outputs(tmp_path):
    model = randomised(ResNet(8))
    both = keras.Model(model.input, {"maps": model.get_layer("stage1_unit1_add").output, "scores": model.output})
    export(both, tmp_path / "n.onnx", "onnx", class_names=CLASSES)
    maps = keras.Model(model.input, {"maps": both.outputs[0]})
    export(maps, tmp_path / "maps.onnx", "onnx", class_names=[str(i) for i in range(16)])  # segmentation
    scores = keras.Model(model.input, {"few": keras.layers.Dense(3)(model.output), "scores": model.output})
    with pytest.raises(
        ValueError, match=r"are 4 class_names, but no output .* has as many classes: few has 3, scores h"
    ):
        export(scores, tmp_path / "m.onnx", "onnx", class_names=list("abcd"))


def test_the_onnx_graph_is_small_and_has_metadata(tmp_path):
    """Folded: no batch normalization in ResNet-v1. Not folded: all of it. One transposition, at the input."""
    import onnx

    model = keras_resv2.from_pretrained(NAME)
    kinds = {}
    for folded in (True, False):
        path = tmp_path / f"{folded}.onnx"
        export(model, path, "onnx", folded=folded, class_names=CLASSES)
        file = onnx.load(path)
        kinds[folded] = [node.op_type for node in file.graph.node]
        assert_same(run_onnx(path, images())["probabilities"], run_keras(model, images()))
    convolutions = sum(isinstance(layer, keras.layers.Conv2D) for layer in model.layers)
    for folded, expected in ((True, 0), (False, convolutions)):
        assert kinds[folded].count("BatchNormalization") == expected
        assert kinds[folded].count("Conv") == convolutions and kinds[folded].count("Transpose") == 1
    (opset,) = file.opset_import
    assert (opset.domain, opset.version) == ("", 17)
    (value,) = file.graph.input
    batch, *sides = value.type.tensor_type.shape.dim
    assert value.name == "pixels" and value.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert batch.dim_param == "batch" and [side.dim_value for side in sides] == [32, 32, 3]
    assert json.loads({p.key: p.value for p in file.metadata_props}["class_names"]) == list(CLASSES)


@pytest.mark.parametrize("backend", OTHER_BACKENDS)
def test_onnx_is_the_same_file_from_every_backend(backend, tmp_path):
    if backend != "tensorflow":
        pytest.importorskip(backend, reason=f"{backend} is not installed")
    export(keras_resv2.from_pretrained("preact_resnet20-cifar10"), tmp_path / "here.onnx", "onnx")
    code = """if True:
        import sys, keras_resv2
        model = keras_resv2.from_pretrained("preact_resnet20-cifar10")
        keras_resv2.export(model, sys.argv[1] + "/there.onnx", "onnx")
        if sys.argv[2] != "tensorflow":
            try:
                keras_resv2.export(model, sys.argv[1] + "/there", "saved_model")
            except ImportError as error:
                assert "set KERAS_BACKEND=tensorflow" in str(error)
            else:
                raise AssertionError("SavedModel without TensorFlow")
    """
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), backend],
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    here, there = (run_onnx(tmp_path / f"{name}.onnx", images()) for name in ("here", "there"))
    np.testing.assert_allclose(here["probabilities"], there["probabilities"], atol=1e-6)


@needs_tensorflow
@pytest.mark.parametrize("name", ["resnet20-cifar10", "preact_resnet20-cifar10"])
def test_tflite_of_lower_precision(name, real_images, tmp_path):
    """On real images: float16 is close in every probability, int8 in its predictions; files of half and a quarter."""
    x, labels = real_images
    model = keras_resv2.from_pretrained(name)
    expected = run_keras(model, x)
    sizes = {}
    for precision in ("float32", "float16", "int8"):
        path = tmp_path / f"{precision}.tflite"
        options = {"representative": x} if precision == "int8" else {}
        exported = export(model, path, "tflite", precision=precision, **options)
        found = run_tflite(path, x)["probabilities"]
        sizes[precision] = exported.size
        assert exported.size == path.stat().st_size and found.dtype == "float32"
        if precision == "int8":  # the others are compared on random images
            assert exported.difference == pytest.approx(np.abs(found - expected).max(), abs=1e-5)
        np.testing.assert_allclose(found, expected, atol={"float32": 1e-5, "float16": 1e-2, "int8": 0.2}[precision])
        assert np.mean(found.argmax(1) == expected.argmax(1)) >= 0.95
    assert sizes["float16"] < 0.6 * sizes["float32"] and sizes["int8"] < 0.35 * sizes["float32"]

    interpreter = open_tflite(tmp_path / "int8.tflite")
    (given,) = interpreter.get_input_details()
    assert given["dtype"] is np.uint8 and given["quantization"] == (1.0, 0), "pixels do not stand for themselves"
    kinds = {tensor["dtype"] for tensor in interpreter.get_tensor_details()}
    floats = [tensor["name"] for tensor in interpreter.get_tensor_details() if tensor["dtype"] is np.float32]
    # What the classifier reads, its bias, kernel and scores, and probabilities.
    assert np.int8 in kinds and len(floats) <= 5, f"computes in float: {floats}"
    assert {len(np.unique(row)) for row in found} == {found.shape[1]}, "classes are tied"


@needs_tensorflow
@pytest.mark.parametrize("order", ["C", "transposed"])  # as keras.datasets and torchvision have CIFAR-10
def test_dark_representative_images_do_not_scale_the_input(order, real_images, tmp_path):
    dark = real_images[0] // 4
    if order == "transposed":
        dark = np.ascontiguousarray(dark.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1)
    export(ResNet(8), tmp_path / "network.tflite", "tflite", precision="int8", representative=dark)
    (given,) = open_tflite(tmp_path / "network.tflite").get_input_details()
    assert given["quantization"] == (1.0, 0)
    assert dark.max() < 255, "the caller's images are changed"


@needs_tensorflow
def test_labels_are_exported_with_the_network(tmp_path):
    model = ResNet(8)
    for format, path in (("tflite", "n.labels.txt"), ("saved_model", "saved/assets.extra/labels.txt")):
        export(model, tmp_path / {"tflite": "n.tflite", "saved_model": "saved"}[format], format, class_names=CLASSES)
        assert (tmp_path / path).read_text().splitlines() == list(CLASSES)
    export(model, tmp_path / "n.tflite", "tflite", overwrite=True)
    assert not (tmp_path / "n.labels.txt").exists()  # it was another network's


@pytest.mark.parametrize("format", HERE)
def test_the_packages_own_runtimes(format, tmp_path):
    model = randomised(ResNet(8, classifier_activation=None))
    export(model, tmp_path / "network", format)
    found = load_exported(tmp_path / "network", format, threads=1).predict_on_batch(images())
    assert_same(found, run_keras(model, images()))
    with pytest.raises(FileNotFoundError, match="does not exist"):
        load_exported(tmp_path / "other", format)


@pytest.mark.parametrize("format", HERE)
def test_nothing_is_overwritten_unasked_and_nothing_half_written(format, tmp_path, monkeypatch):
    path, other = tmp_path / "network", tmp_path / "other"
    first, second = ResNet(8, classes=2), ResNet(8, classes=3)
    export(first, path, format)
    with pytest.raises(FileExistsError, match=r"network (exists|is a SavedModel): choose another"):
        export(second, path, format)
    assert load_exported(path, format).predict_on_batch(images()).shape == (3, 2)
    export(second, path, format, overwrite=True)
    assert load_exported(path, format).predict_on_batch(images()).shape == (3, 3)

    class Wrong:
        def predict_on_batch(self, x):
            return np.zeros((len(x), 2), "float32")

    with monkeypatch.context() as patch:
        wrong = dataclasses.replace(FORMATS[format], load=lambda *arguments: Wrong())
        patch.setitem(FORMATS, format, wrong)
        with pytest.raises(ValueError, match="gives other outputs than the Keras model"):
            export(first, other, format)
        with pytest.raises(ValueError, match="gives other outputs"):
            export(first, path, format, overwrite=True)
    assert [entry.name for entry in tmp_path.iterdir()] == ["network"]
    assert load_exported(path, format).predict_on_batch(images()).shape == (3, 3)


def test_a_folder_of_something_else_is_never_overwritten(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years of work")
    for format in HERE:
        with pytest.raises(FileExistsError, match="is a folder that contains other files than a SavedModel"):
            export(ResNet(8), tmp_path / "thesis", format, overwrite=True)
    assert (tmp_path / "thesis" / "chapter.tex").read_text() == "years of work"


@needs_tensorflow
def test_labels_beside_a_file_are_not_overwritten_unasked(tmp_path):
    labels, path = tmp_path / "network.labels.txt", tmp_path / "network.tflite"
    labels.write_text("mine")
    with pytest.raises(FileExistsError, match=r"labels\.txt exists"):
        export(ResNet(8, classes=2), path, "tflite", class_names=["a", "b"])
    export(ResNet(8, classes=2), path, "tflite")
    assert labels.read_text() == "mine"  # there was no file that this one replaces
    export(ResNet(8, classes=2), path, "tflite", class_names=["a", "b"], overwrite=True)
    assert labels.read_text() == "a\nb\n"


@needs_tensorflow
def test_a_link_to_a_folder_is_refused_before_the_export(tmp_path):
    (tmp_path / "v1").mkdir()
    (tmp_path / "current").symlink_to("v1")
    with pytest.raises(FileExistsError, match="is a link"):
        export(ResNet(8), tmp_path / "current", "saved_model", overwrite=True)


@needs_tensorflow
def test_operators_that_tflite_has_not_are_named(tmp_path):
    model = ResNet(8, include_top=False, input_shape=(16, 16, 3))
    resized = keras.layers.Resizing(16, 16, interpolation="lanczos3")(model.output)
    with pytest.raises(ValueError, match=r"tf\.ScaleAndTranslate.* choose another format"):
        export(keras.Model(model.input, resized), tmp_path / "n.tflite", "tflite")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("wrong", [1.0, np.nan])
def test_each_output_is_compared_by_itself(wrong, tmp_path, monkeypatch):
    """Probabilities that differ are found beside a feature map of large values."""
    network = ResNet(8)
    large = keras.layers.Rescaling(1e5, name="large")(network.get_layer("stage1_unit1_postact_relu").output)
    model = keras.Model(network.input, {"map": large, "probabilities": network.output})

    class Wrong:
        def predict_on_batch(self, x):
            y = {name: keras.ops.convert_to_numpy(value) for name, value in model(x).items()}
            return {**y, "probabilities": np.full_like(y["probabilities"], wrong)}

    monkeypatch.setitem(FORMATS, "onnx", dataclasses.replace(FORMATS["onnx"], load=lambda *arguments: Wrong()))
    with pytest.raises(ValueError, match="'probabilities'"):
        export(model, tmp_path / "n.onnx", "onnx")


def test_a_name_that_ends_as_another_format_is_refused(tmp_path):
    with pytest.raises(ValueError, match="extension of another format"):
        export(ResNet(8), tmp_path / "network.tflite", "onnx")


class Squared(keras.layers.Layer):
    def call(self, x):
        return x * x


def test_bad_arguments_are_refused_before_anything_is_written(tmp_path, monkeypatch):
    model, path = ResNet(8), tmp_path / "network"
    x = model.input
    own = keras.Model(x, Squared(name="squared")(model.output))
    two = keras.Model([x, keras.Input((1,), name="other")], model.output)
    cases = [
        ("format='pickle' must be one of 'saved_model', 'tflite', 'onnx'", model, "pickle", {}),
        ("precision='int4' must be one of", model, "onnx", {"precision": "int4"}),
        ("precision='int8' is for format='tflite'; onnx is written in float32", model, "onnx", {"precision": "int8"}),
        ("representative is for precision='int8', not 'float32'", model, "onnx", {"representative": images()}),
        (
            "there are 3 class_names, but no output of .* has as many classes: probabilities has 10",
            model,
            "onnx",
            {"class_names": list("abc")},
        ),
        ("class_names must be a list of names", model, "onnx", {"class_names": "0123456789"}),
        ("is not a functional keras.Model", Squared(), "onnx", {}),
        ("has 2 inputs; exported networks have one", two, "onnx", {}),
        (r"there is no ONNX form for layer 'squared' \(Squared\)", own, "onnx", {}),
    ]
    int8 = {"precision": "int8"}
    if ON_TENSORFLOW:
        raw = ResNet(8, include_preprocessing=False)
        cases += [
            ("precision='int8' needs representative images", model, "tflite", int8),
            ("build with include_preprocessing=True", raw, "tflite", {**int8, "representative": images()}),
        ]
        for x, was in ((images() / np.float32(9), "float32"), (images(8, 8), r"uint8 \(3, 8, 8, 3\)")):
            message = rf"are {was}.*; the network takes uint8 \(n, 32, 32, 3\)"
            cases.append((message, model, "tflite", {**int8, "representative": x}))
    for message, network, format, options in cases:
        with pytest.raises(ValueError, match=message):
            export(network, path, format, **options)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r"pip install onnx onnxruntime"):
        export(model, path, "onnx")
    assert not list(tmp_path.iterdir())


def test_damaged_images_are_left_out_of_the_calibration(tmp_path, real_images):
    """As `finetune` and `evaluate` leave them out."""
    from keras_resv2.cli.export import _training_images

    card = keras_resv2.pretrained_card(NAME)
    for i, image in enumerate(real_images[0][:4]):
        (tmp_path / card.class_names[i % 2]).mkdir(exist_ok=True)
        Image.fromarray(image).save(tmp_path / card.class_names[i % 2] / f"{i}.png")
    (tmp_path / card.class_names[0] / "9.png").write_bytes(b"nothing")
    with pytest.warns(UserWarning, match="9.png is not a readable image: .* It is left out"):
        found = _training_images(card, str(tmp_path), 500)
    assert sorted(image.tobytes() for image in found) == sorted(image.tobytes() for image in real_images[0][:4])
    for path in tmp_path.glob("*/*.png"):
        path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="contains no readable training images, for example"):
        _training_images(card, str(tmp_path), 500)


@needs_tensorflow
def test_command(tmp_path, capsys, real_images):
    (x, labels), full_name = real_images, keras_resv2.pretrained_card(NAME).full_name
    np.savez(tmp_path / "data.npz", x_train=x, y_train=labels, x_test=x, y_test=labels)
    int8 = ["--precision", "int8", "--data_dir", str(tmp_path / "data.npz")]
    for format, options in (("onnx", []), ("saved_model", []), ("tflite", int8)):
        path = tmp_path / format
        command = ["export", NAME, "--format", format, "--out", str(path), *options]
        assert cli.main([*command, "--json"]) == 0
        facts = json.loads(capsys.readouterr().out)
        assert facts["name"] == full_name and facts["input"] == "uint8 (batch, 32, 32, 3)" and path.exists()
        found = RUN[format](path, x)["probabilities"]
        assert np.mean(found.argmax(1) == labels) >= 0.9, "fewer than 18 of the 20 images are right"
        assert cli.main(command) == cli.BAD_INPUT
        assert "choose another" in capsys.readouterr().err
    command = ["export", NAME, "--format", "tflite", "--out", str(tmp_path / "other"), "--precision", "int8"]
    assert cli.main(command) == cli.BAD_INPUT
    assert "pass --data_dir" in capsys.readouterr().err
    assert cli.main(["export", NAME, "--format", "onnx", "--out", str(tmp_path / "n.onnx"), "--unfolded"]) == 0
    text = capsys.readouterr().out
    assert f"{full_name} as onnx, float32" in text and "largest difference from the Keras model" in text


def test_commands_that_need_no_network_do_not_load_the_exporters():
    code = """if True:
        import sys
        from keras_resv2 import cli
        cli.main(["list"])
        print({"keras", "onnx", "huggingface_hub"} & set(sys.modules))
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.endswith("set()\n"), done.stdout + done.stderr


def test_networks_of_scaled_pixels_take_floats():
    """A factor of 255 before the network's own preprocessing means that input pixels range from 0 to 1."""
    body, x = ResNet(8), keras.Input((32, 32, 3))
    assert signature_of(keras.Model(x, body(keras.layers.Rescaling(255.0)(x)))).dtype == "float32"
    assert signature_of(keras.Model(x, body(keras.layers.RandomFlip()(x)))).dtype == "uint8"
    assert signature_of(keras_resv2.fold(body)).dtype == "uint8"
