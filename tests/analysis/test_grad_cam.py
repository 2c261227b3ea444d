"""Grad-CAM compared with manual class activation maps, in every form of a network and on every backend."""

import importlib.util
import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_resv2
from helpers.comparing import randomised
from helpers.paths import ROOT
from keras_resv2.analysis import grad_cam
from keras_resv2.analysis.plots import draw_grad_cam
from keras_resv2.cli import main

NETWORKS = {"original": "stage3_unit1_postact_relu", "full_preactivation": "head_relu"}


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype="uint8")


@pytest.fixture(scope="module", params=NETWORKS)
def network(request):
    keras.utils.set_random_seed(1)
    return randomised(keras_resv2.ResNet(8, activation=request.param))


def class_activation_map(model, images, classes):
    """Zhou et al. 2016, equation 2: feature maps weighted by the classifier's row, here over the positions."""
    last = model.get_layer("head_pool").input
    maps = keras.Model(model.input, last).predict_on_batch(images)
    kernel = np.asarray(model.get_layer("head_dense").kernel)
    weighted = np.einsum("nhwk,kn->nhw", maps, kernel[:, classes])
    return np.maximum(weighted, 0) / (maps.shape[1] * maps.shape[2])


def test_with_average_pooling_it_is_the_class_activation_map(network, pixels):
    classes = np.array([1, 7, 4])
    found = grad_cam(network, pixels, classes, batch_size=2)
    expected = class_activation_map(network, pixels, classes)
    assert expected.max() > 1e-3 and found.layer in NETWORKS.values()
    np.testing.assert_allclose(found.maps, expected, rtol=1e-3, atol=1e-6)


def test_a_softmax_object_is_left_out_as_its_name_is(pixels):
    """The logits are those without an activation, and saturated probabilities have no gradient."""
    made = [
        keras_resv2.from_pretrained("resnet20-cifar10", classifier_activation=activation)
        for activation in ("softmax", keras.layers.Softmax(), keras.ops.softmax)
    ]
    logits = keras_resv2.from_pretrained("resnet20-cifar10", classifier_activation=None).predict_on_batch(pixels)
    for model in made:
        found = grad_cam(model, pixels)
        np.testing.assert_allclose(found.scores, logits.max(1), rtol=1e-4)
        np.testing.assert_allclose(found.maps, grad_cam(made[0], pixels).maps, rtol=1e-4, atol=1e-6)


def test_pixels_on_another_scale_are_refused(pixels):
    with pytest.raises(ValueError, match="0 to 255"):
        grad_cam(keras_resv2.ResNet(8), pixels / 255.0)


def test_the_class_is_the_one_that_wins_and_scores_are_logits(network, pixels):
    found = grad_cam(network, pixels)
    probabilities = network.predict_on_batch(pixels)
    assert found.classes.tolist() == probabilities.argmax(1).tolist()
    other = grad_cam(network, pixels, 2)
    np.testing.assert_allclose(
        found.scores - other.scores, np.log(probabilities.max(1) / probabilities[:, 2]), rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize("form", ["inside", "pooled_inside", "with_activation_layer", "folded", "stock"])
def test_other_forms_have_the_same_maps(form, network, pixels):
    """The class activation map of the plain network, whatever the model around it, which is not modified."""
    classes = np.array([0, 5, 9])
    if form in ("folded", "stock"):
        model = (keras_resv2.fold if form == "folded" else keras_resv2.to_stock_layers)(network)
    else:
        dense, pool = network.get_layer("head_dense"), network.get_layer("head_pool")
        body = keras.Model(network.input, (pool.output if form == "pooled_inside" else pool.input), name="body")
        x = body(inputs := keras.Input((32, 32, 3)))
        x = x if form == "pooled_inside" else keras.layers.GlobalAveragePooling2D()(x)
        x = keras.layers.Dropout(0.5)(x)
        separate = form == "with_activation_layer"
        head = keras.layers.Dense(10, activation="linear" if separate else "softmax")
        model = keras.Model(inputs, keras.layers.Softmax()(head(x)) if separate else head(x))
        head.set_weights(dense.get_weights())
    before = model.predict_on_batch(pixels)
    found = grad_cam(model, pixels, classes)
    np.testing.assert_allclose(
        found.maps, class_activation_map(network, pixels, classes), rtol=2e-2 if form == "folded" else 2e-3, atol=1e-4
    )
    np.testing.assert_array_equal(model.predict_on_batch(pixels), before)
    assert all(layer.output is not None for layer in model.layers)  # a layer that is called twice has none


def test_maximum_pooling_by_finite_differences(pixels):
    """Equation 1 from logits of moved feature maps: the gradient is that of the positions of the maxima."""
    keras.utils.set_random_seed(0)
    x = keras.Input((6, 5, 2))
    model = keras.Model(x, keras.layers.Dense(3)(keras.layers.GlobalMaxPooling2D()(keras.layers.ReLU()(x))))
    images = np.random.default_rng(0).uniform(0.1, 1, (2, 6, 5, 2)).astype("float32")
    found = grad_cam(model, images, 1)
    weights = np.zeros((2, 2))
    for n, channel, row, column in np.ndindex(2, 2, 6, 5):
        moved = images.copy()
        moved[n, row, column, channel] += 1e-3
        weights[n, channel] += (model.predict_on_batch(moved) - model.predict_on_batch(images))[n, 1] / 1e-3 / 30
    np.testing.assert_allclose(found.maps, np.maximum(np.einsum("nhwk,nk->nhw", images, weights), 0), atol=2e-3)


def test_resized_maps_have_a_maximum_of_one(network, pixels):
    found = grad_cam(network, pixels)
    resized = found.resized((32, 48))
    assert resized.shape == (3, 32, 48) and resized.max((1, 2)).tolist() == [1, 1, 1]
    assert found.resized((4, 4)).max((1, 2)).tolist() == [1, 1, 1]
    assert (
        np.unravel_index(resized[0].argmax(), (32, 48))[0] // 4 == np.unravel_index(found.maps[0].argmax(), (8, 8))[0]
    )


OTHER = """
import json, sys, keras, numpy as np, keras_resv2
from keras_resv2.analysis import grad_cam, propagate
model = keras_resv2.from_pretrained("preact_resnet20-cifar10")
maps = grad_cam(model, np.load(sys.argv[1]), 3).maps
keras.config.set_image_data_format("channels_first")
first = keras_resv2.PreActResNet20(weights="cifar10")
keras.config.set_image_data_format("channels_last")  # the model keeps its own
pixels = np.load(sys.argv[1]).transpose(0, 3, 1, 2)
np.testing.assert_allclose(grad_cam(first, pixels, 3).maps, maps, rtol=1e-3, atol=1e-5)
variance = [propagate(m, x, np.zeros(3, "int64")).variance for m, x in ((model, np.load(sys.argv[1])), (first, pixels))]
np.testing.assert_allclose(*variance, rtol=1e-4)
print(json.dumps(maps.tolist()))
"""


@pytest.mark.parametrize("backend", [name for name in ("jax", "torch") if name != keras.backend.backend()])
def test_other_backends_have_the_same_maps(backend, pixels, tmp_path):
    if not importlib.util.find_spec(backend):
        pytest.skip(f"{backend} is not installed")
    np.save(tmp_path / "pixels.npy", pixels)
    done = subprocess.run(
        [sys.executable, "-c", OTHER, str(tmp_path / "pixels.npy")],
        capture_output=True, text=True, cwd=ROOT, env={**os.environ, "KERAS_BACKEND": backend},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    model = keras_resv2.from_pretrained("preact_resnet20-cifar10")
    expected = class_activation_map(model, pixels, np.array([3, 3, 3]))
    np.testing.assert_allclose(json.loads(done.stdout.splitlines()[-1]), expected, rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("make, says", [
    (lambda m, x: grad_cam(m, x, 10), "0 to 9"),
    (lambda m, x: grad_cam(m, x, [1, 2]), "one for each of the 3 images"),
    (lambda m, x: grad_cam(m, x[0]), "do not fit"),
    (lambda m, x: grad_cam(keras.Model(m.input, m.get_layer("head_pool").input), x), "include_top=True"),
    (lambda m, x: grad_cam(keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]), x), "no global pooling"),
    (lambda m, x: grad_cam("resnet20", x), "not a functional"),
    (lambda m, x: grad_cam(m, x, batch_size=0), "batch_size=0"),
])  # fmt: skip
def test_errors_for_models_without_maps(make, says, network, pixels):
    with pytest.raises(ValueError, match=says):
        make(network, pixels)


def test_command_line(pixels, tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    labels = np.arange(3)
    np.savez(tmp_path / "data.npz", x_train=pixels, y_train=labels, x_test=pixels, y_test=labels)
    flags = ["--data_dir", str(tmp_path / "data.npz"), "--out", str(tmp_path / "out")]
    assert main(["analyze", "cam", "resnet20-cifar10", "--images", "3", *flags]) == 0
    assert "of 3 images correct; maps of 8x8 at stage3_unit3_postact_relu" in capsys.readouterr().out
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".csv", ".npy", ".png"}


def test_a_figure_of_one_image_needs_no_names(network, pixels, tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    draw_grad_cam(grad_cam(network, pixels[:1]), pixels[:1], tmp_path / "one.png")
    assert (tmp_path / "one.png").stat().st_size > 1000
