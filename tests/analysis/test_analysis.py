"""Analysis: parts that reproduce the network, lesions computed manually, gradients and paths by arithmetic."""

import csv
import doctest
import itertools
import json
import math

import keras
import numpy as np
import pytest
from keras import ops
from PIL import Image

import keras_resv2
from helpers.comparing import assert_same
from helpers.paths import ROOT
from helpers.published import publish
from keras_resv2 import analysis
from keras_resv2.analysis import lesions, plots, propagation
from keras_resv2.analysis.lesions import _default_batch_size
from keras_resv2.analysis.paths import PathGradients, PathTracer
from keras_resv2.cli import main
from keras_resv2.models.weights import model_arrays
from keras_resv2.resnet import ResNet

VARIANTS = [
    {},
    {"activation": "full_preactivation"},
    {"activation": "relu_only_preactivation", "projection": "B"},
    {"activation": "bn_after_addition"},
    {"activation": "relu_before_addition", "shortcut": "conv1x1"},
    {"shortcut": "constant_scaling"},
    {"shortcut": "exclusive_gating(bias=0)"},
    {"shortcut": "shortcut_only_gating", "activation": "full_preactivation"},
    {"shortcut": "dropout"},
    {"shortcut": "none"},
]


@pytest.fixture
def pixels():
    """Images of distinct colors: networks with random weights give noise of one color nearly equal scores."""
    rng = np.random.default_rng(2)
    noise = rng.integers(-32, 33, (8, 32, 32, 3))
    return np.clip(rng.integers(0, 256, (8, 1, 1, 3)) + noise, 0, 255).astype("uint8")


@pytest.fixture
def labels(pixels):
    return np.random.default_rng(1).integers(0, 10, len(pixels))


def network(depth=14, **arguments):
    """A network whose batch normalization is not the identity."""
    model = ResNet(depth, **arguments)
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if weight.name in ("gamma", "moving_variance"):
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        elif weight.name in ("beta", "moving_mean"):
            weight.assign(rng.normal(0, 0.1, weight.shape))
    return model


def centered(model, pixels):
    """Shifts the biases of the classifier so that no class wins for all images, whatever the initial weights are.

    Without it, lesions of a random network may change no prediction.
    """
    bias = model.layers[-1].bias
    bias.assign(bias - ops.mean(ops.log(ops.cast(model(pixels), "float32")), axis=0))
    return model


def error(model, pixels, labels):
    return 100 * np.mean(model.predict(pixels, verbose=0).argmax(-1) != labels)


# Dissection


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_the_parts_are_the_network(variant, pixels):
    model = network(**variant, classifier_activation=None)
    before = model.to_json(), [layer.name for layer in model.layers], model.predict(pixels, verbose=0)
    parts = analysis.dissect(model)
    x = parts.stem(ops.cast(pixels, "float32"))
    for unit in parts.units:
        assert tuple(x.shape[1:]) == unit.input_shape
        x = unit(x)
    assert_same(ops.convert_to_numpy(parts.head(x)), before[2], within=1e-5)
    assert [unit.name for unit in parts.units] == [f"stage{s}_unit{u}" for s in (1, 2, 3) for u in (1, 2)]
    assert [unit.changes_size for unit in parts.units] == [False, False, True, False, True, False]
    assert (model.to_json(), [layer.name for layer in model.layers]) == before[:2]
    np.testing.assert_array_equal(model.predict(pixels, verbose=0), before[2])


def test_depth_does_not_multiply_programs():
    def programs(depth):
        parts = analysis.dissect(ResNet(depth, activation="full_preactivation"))
        every = [part for unit in parts.units for part in (unit.shortcut, unit.branch, unit.after) if part]
        return len({id(part.program) for part in every})

    assert programs(14) == programs(32)


@pytest.mark.parametrize("form", ["stock layers", "mixed_bfloat16", "folded"])
def test_lesions_of_other_forms(form, pixels):
    """Compares with the same model with zero weights at the end of a unit's branch."""
    if form == "mixed_bfloat16":
        model = network(8, dtype=form)
    else:
        model = {"stock layers": keras_resv2.to_stock_layers, "folded": keras_resv2.fold}[form](network(8))
    centered(model, pixels)
    labels = model.predict(pixels, verbose=0).argmax(-1)
    labels[:2] = 9 - labels[:2]
    study = analysis.delete_each(model, pixels, labels, batch_size=8)
    assert study.intact_error == 25
    expected = []
    for unit in study.units:
        layer = model.get_layer(f"{unit}_conv2" if form == "folded" else f"{unit}_bn2")
        kept = layer.get_weights()
        layer.set_weights([np.zeros_like(weight) if i < 2 else weight for i, weight in enumerate(kept)])
        expected.append(error(model, pixels, labels))
        layer.set_weights(kept)
    assert study.errors.tolist() == expected and max(expected) != 25


# Lesions


@pytest.mark.parametrize("activation, last", [("original", "bn2"), ("full_preactivation", "conv2")])
def test_a_deleted_unit_is_one_whose_branch_gives_zero(activation, last, pixels):
    model = centered(network(activation=activation), pixels)
    intact = model.predict(pixels, verbose=0)
    labels, parts = intact.argmax(-1), analysis.dissect(model)
    study = analysis.delete_each(model, pixels, labels, batch_size=3)
    assert study.intact_error == 0
    for i, name in enumerate(study.units):
        x = parts.stem(ops.cast(pixels, "float32"))
        for j, unit in enumerate(parts.units):
            x = unit.without_branch(x) if i == j else unit(x)
        layer = model.get_layer(f"{name}_{last}")
        kept = layer.get_weights()
        layer.set_weights([np.zeros_like(weight) if i < 2 else weight for i, weight in enumerate(kept)])
        expected = model.predict(pixels, verbose=0)
        layer.set_weights(kept)
        np.testing.assert_allclose(ops.convert_to_numpy(ops.softmax(parts.head(x))), expected, atol=1e-5)
        assert abs(expected - intact).max() > 1e-4
        assert study.errors[i] == 100 * np.mean(expected.argmax(-1) != labels)


def test_a_plain_network_is_a_chain_of_layers(pixels):
    """Deleted units are skipped in the chain; those that change the size cannot be."""
    model = centered(network(shortcut="none"), pixels)
    labels = model.predict(pixels, verbose=0).argmax(-1)
    study = analysis.delete_each(model, pixels, labels)
    for unit, measured in zip(study.units, study.errors, strict=True):
        if unit in ("stage2_unit1", "stage3_unit1"):
            assert np.isnan(measured)
            continue
        x = ops.cast(pixels, "float32")
        for layer in model.layers[1:]:
            if not layer.name.startswith(f"{unit}_"):
                x = layer(x)
        assert measured == 100 * np.mean(ops.convert_to_numpy(x).argmax(-1) != labels)
    assert study.intact_error == 0 < np.nanmax(study.errors)


@pytest.mark.parametrize("shape, expected", [((32, 32, 3), 250), ((224, 224, 3), 24), ((1792, 1792, 3), 1)])
@pytest.mark.parametrize("known", [True, False])
def test_large_images_are_studied_in_small_batches(shape, expected, known):
    """By hand, numbers of ResNet-50 at 224 pixels: 3 units of 56 x 56 x 256, 4 of 28 x 28 x 512, 6 of 14 x 14 x 1024,
    and 3 of 7 x 7 x 2048, 22 MB; with sides of any length, as if all units had the sides of the images, 7.6 times."""
    model = keras_resv2.ResNet50(input_shape=shape if known else (None, None, 3))
    numbers = (shape[0] // 224) ** 2 * (3 * 56**2 * 256 + 4 * 28**2 * 512 + 6 * 14**2 * 1024 + 3 * 7**2 * 2048)
    if known and shape[0] >= 224:
        assert expected == max(1, 2**29 // (4 * numbers))
    batch = _default_batch_size(analysis.dissect(model), np.empty((1, *shape), "uint8"))
    assert batch == expected if known else 1 <= batch <= expected


def test_random_deletions_are_those_units_together(pixels):
    model = centered(network(activation="full_preactivation"), pixels)
    labels = model.predict(pixels, verbose=0).argmax(-1)
    study = analysis.delete_random(model, pixels, labels, counts=[1, 3, 6], draws=3, seed=1)
    assert study.deleted.tolist() == [1, 1, 1, 3, 3, 3, 6, 6, 6]
    assert len(set(study.errors[6:])) == 1 and study.units[6] == study.units[8]  # all of them: one way
    for units, measured in zip(study.units, study.errors, strict=True):
        kept = model.get_weights()
        for unit in units:
            layer = model.get_layer(f"{unit}_conv2")
            layer.set_weights([np.zeros_like(layer.get_weights()[0])])
        assert measured == error(model, pixels, labels)
        model.set_weights(kept)
    assert len(set(study.errors)) > 1
    k, low, median, high = study.quartiles()[1]
    assert k == 3 and [low, median, high] == np.percentile(study.errors[3:6], [25, 50, 75]).tolist()


def test_reordering_is_swapping_weights(pixels):
    model = centered(network(20, activation="full_preactivation"), pixels)
    labels = model.predict(pixels, verbose=0).argmax(-1)
    study = analysis.reorder(model, pixels, labels, swaps=[1, 2], draws=3)
    names = [unit.name for unit in analysis.dissect(model).units]
    kept = {layer.name: layer.get_weights() for layer in model.layers}
    for order, tau, measured in zip(study.orders, study.taus, study.errors, strict=True):
        assert order[0] == 0 or order[0] in (1, 2)  # stages stay together
        assert [order[i] for i in (3, 6)] == [3, 6]  # units that change the size stay where they are
        for here, there in zip(names, (names[i] for i in order), strict=True):
            for layer in model.layers:
                if layer.name.startswith(f"{here}_") and layer.weights:
                    layer.set_weights(kept[layer.name.replace(here, there)])
        assert measured == error(model, pixels, labels)
        from scipy.stats import kendalltau

        assert tau == pytest.approx(kendalltau(range(9), order).statistic)
    assert study.intact_error == 0 < study.errors.max()


def test_what_a_study_costs():
    """Manual count for six units: the whole network once, and the units after a deleted unit i. Units that change the
    size, and the first one (which shares its activation), still run their shortcut."""
    model = ResNet(14, activation="full_preactivation")
    study = analysis.delete_each(model, np.zeros((2, 32, 32, 3), "uint8"), np.zeros(2, "int64"))
    assert study.units_run == 6 + (6 + 4 + 4 + 2 + 2 + 0)
    assert study.units_run_plainly == 6 + (6 + 5 + 6 + 5 + 6 + 5)


def test_a_study_of_dropout_resumes_in_a_network_of_the_same_weights(pixels, labels, tmp_path):
    """The states of random generators differ; inference does not use them."""
    model = network(8, shortcut="dropout")
    again = ResNet(8, shortcut="dropout", weights=model_arrays(model))
    first, second = (analysis.delete_each(m, pixels, labels, resume=tmp_path / "each.json") for m in (model, again))
    assert np.array_equal(first.errors, second.errors)


@pytest.mark.parametrize("activation", ["softmax", keras.ops.softmax, keras.layers.Softmax()])
def test_gradients_are_those_of_logits_whatever_form_the_softmax_has(activation, pixels, labels):
    keras.utils.set_random_seed(0)
    logits = network(8, classifier_activation=None)
    scores = ResNet(8, classifier_activation=activation, weights=model_arrays(logits))
    found, expected = (analysis.path_gradients(m, pixels, labels, samples=4) for m in (scores, logits))
    np.testing.assert_allclose(found.norms, expected.norms, rtol=1e-5)
    assert expected.whole_norm > 0


def test_classifiers_inside_another_model_are_refused(pixels, labels):
    body = ResNet(8, include_top=False, input_shape=(32, 32, 3))
    head = keras.Sequential([keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(10, "softmax")])
    x = keras.Input(body.output.shape[1:])
    functional = keras.Model(x, keras.layers.Dense(10)(keras.layers.GlobalAveragePooling2D()(x)))
    for inside in (head, functional):
        with pytest.raises(
            ValueError, match="are computed by a model inside it or by an operation that is not a layer"
        ):
            analysis.propagate(keras.Model(body.input, inside(body.output)), pixels, labels)


def test_models_that_take_integers_have_gradients(pixels, labels):
    floats = network(8)
    integers = ResNet(8, input_tensor=keras.Input((32, 32, 3), dtype="uint8"), weights=model_arrays(floats))
    found, expected = (analysis.path_gradients(m, pixels, labels, samples=4) for m in (integers, floats))
    np.testing.assert_allclose(found.norms, expected.norms, rtol=1e-5)
    assert expected.whole_norm > 0


def test_paths_without_gradients_have_no_range():
    paths = PathGradients("none", 3, np.arange(4), np.zeros(4), 0.0)
    with pytest.raises(ValueError, match="paths with a gradient: increase samples"):
        paths.effective_range()
    with pytest.raises(ValueError, match="two lengths with a gradient: increase samples"):
        paths.decay()


def test_an_interrupted_study_resumes(pixels, tmp_path):
    model = centered(network(14, activation="full_preactivation"), pixels)
    path = tmp_path / "studies" / "each.json"
    labels = model.predict(pixels, verbose=0).argmax(-1)
    whole = analysis.delete_each(model, pixels, labels, batch_size=3)
    assert len(set(whole.errors)) > 1

    def interrupt(done, of):
        if done == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        analysis.delete_each(model, pixels, labels, batch_size=3, resume=path, progress=interrupt)
    seen = []
    study = analysis.delete_each(model, pixels, labels, 3, resume=path, progress=lambda *now: seen.append(now))
    np.testing.assert_array_equal(study.errors, whole.errors)
    assert seen == [(6, 8), (8, 8)]
    for batch_size in (5, 2):  # another one, as after memory ran out
        path.unlink()
        with pytest.raises(KeyboardInterrupt):
            analysis.delete_each(model, pixels, labels, batch_size=3, resume=path, progress=interrupt)
        study = analysis.delete_each(model, pixels, labels, batch_size, resume=path)
        np.testing.assert_array_equal(study.errors, whole.errors)
    with pytest.raises(ValueError, match=r"is not from this study.* use another one \(resume=\)"):
        analysis.delete_each(model, pixels[::-1], labels, batch_size=3, resume=path)
    other = ResNet(14, activation="full_preactivation", output_stride=1)
    other.set_weights(model.get_weights())  # the same weights, another network
    with pytest.raises(ValueError, match="is not from this study"):
        analysis.delete_each(other, pixels, labels, batch_size=3, resume=path)
    for content in (b"", b"[1]", b"\xff", b"{}"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="is not from this study"):
            analysis.delete_each(model, pixels, labels, resume=path)


def test_kendall_tau_of_random_orders():
    stats = pytest.importorskip("scipy.stats", reason="SciPy is not installed")
    rng = np.random.default_rng(0)
    for n in (2, 5, 27):
        order = rng.permutation(n)
        assert analysis.kendall_tau(order) == pytest.approx(stats.kendalltau(range(n), order).statistic)


# Propagation


@pytest.mark.parametrize("training", [False, True])
def test_identity_shortcuts_make_a_sum(training, pixels, labels):
    """Eq. 4 holds up to rounding if nothing follows the addition, but not if ReLU does."""
    ours = analysis.propagate(network(20, activation="full_preactivation"), pixels, labels, training)
    inside = ~np.isnan(ours.residual)
    assert [unit for unit, yes in zip(ours.units, inside, strict=True) if yes] == [
        f"stage{s}_unit{u}" for s in (1, 2, 3) for u in (2, 3)
    ]
    assert ours.residual[inside].max() < 1e-5
    theirs = analysis.propagate(network(20), pixels, labels, training)
    assert np.nanmin(theirs.residual) > 0.01


def test_the_sum_ends_before_a_last_unit_that_has_the_stride(pixels, labels):
    ours = analysis.propagate(network(26, activation="full_preactivation", stride_in="last"), pixels, labels)
    inside = ~np.isnan(ours.residual)
    kept = ["stage1_unit2", "stage1_unit3", "stage2_unit2", "stage2_unit3"]  # first units change the channels
    kept += ["stage3_unit2", "stage3_unit3", "stage3_unit4"]
    assert [unit for unit, yes in zip(ours.units, inside, strict=True) if yes] == kept
    assert ours.residual[inside].max() < 1e-5


@pytest.mark.parametrize("variant", [v for v in VARIANTS if v.get("shortcut") != "none"], ids=str)
def test_the_gradient_is_that_of_the_whole_network(variant, pixels, labels):
    """Compares the composition of units with differentiation of the whole model by the backend.

    In float64, because rounding, which depends on the processor, decides whether a ReLU of nearly 0 has a gradient.
    """
    model = network(**variant, dtype="float64")
    tracer = PathTracer(analysis.dissect(model), pixels, labels)
    expected = gradient_by_pixels(model, pixels, labels)
    np.testing.assert_allclose(tracer.gradient(None), expected, atol=1e-5 * abs(expected).max())


def gradient_by_pixels(model, pixels, labels):
    def loss(x):
        probabilities = model(x, training=False)  # Keras' own loss would cut them off at 1e-7
        return -ops.mean(ops.log(ops.take_along_axis(probabilities, ops.convert_to_tensor(labels)[:, None], axis=-1)))

    x = ops.cast(pixels, "float32")
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        return np.asarray(jax.grad(loss)(x))
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(x)
            value = loss(x)
        return tape.gradient(value, x).numpy()
    x.requires_grad_()
    loss(x).backward()
    return x.grad.numpy()


@pytest.mark.parametrize("shortcut, factors", [
    ("identity", [1, 1, 1]),
    ("constant_scaling", [0.125, 0.25, 0.5]),
    ("dropout(rate=0.25)", None),
])  # fmt: skip
def test_what_comes_straight_is_the_product_of_the_factors(shortcut, factors, pixels, labels):
    """Eq. 8, if there is nothing but shortcuts on the path."""
    model = network(26, activation="full_preactivation", shortcut=shortcut)
    study = analysis.propagate(model, pixels, labels, training=True)
    np.testing.assert_allclose(study.straight_norm, study.predicted_norm, rtol=1e-4)
    if factors:
        np.testing.assert_allclose(study.factor[5:8], factors, rtol=1e-5)
    else:  # kept by 3 of 4, and scaled by 4/3
        np.testing.assert_allclose(study.factor[5:8], 1, atol=0.05)


@pytest.mark.parametrize("variant", [
    {"shortcut": "conv1x1"}, {"projection": "C", "shortcut": "identity"},
    {"projection": "C", "shortcut": "exclusive_gating(bias=-1)"},
])  # fmt: skip
def test_convolutions_on_shortcuts_have_no_factor(variant, pixels, labels):
    """Eq. 8 does not apply: the prediction is what automatic differentiation finds."""
    study = analysis.propagate(network(14, **variant), pixels, labels, training=True)
    assert np.isnan(study.factor).all()
    before = network(14, activation="relu_only_preactivation", **variant)  # no activation after the addition
    study = analysis.propagate(before, pixels, labels, training=True)
    np.testing.assert_allclose(study.straight_norm, study.predicted_norm, rtol=1e-6)


def test_a_softmax_layer_is_part_of_the_loss_once(pixels, labels):
    logits = network(8, classifier_activation=None)
    other = keras.Model(logits.input, keras.layers.Softmax()(logits.output))
    usual = ResNet(8, weights=model_arrays(logits))
    expected, found = (analysis.propagate(model, pixels, labels) for model in (usual, other))
    np.testing.assert_allclose(found.gradient_norm, expected.gradient_norm, rtol=1e-5)


def test_a_sigmoid_is_not_part_of_the_loss(pixels, labels):
    """The loss is the cross-entropy of the class scores before the sigmoid or softmax."""
    usual = network(8)
    other = ResNet(8, weights=model_arrays(usual), classifier_activation="sigmoid")
    expected, found = (analysis.propagate(model, pixels, labels) for model in (usual, other))
    np.testing.assert_allclose(found.gradient_norm, expected.gradient_norm, rtol=1e-5)


def test_a_gate_holds_the_gradient_back(pixels, labels):
    """The factor is the mean of 1 - g(x), computed from the network itself; the product of two is smaller."""
    for bias, low, high in ((-6, 0.6, 1), (0, 0.2, 0.6)):
        model = network(26, shortcut=f"shortcut_only_gating(bias={bias})")
        study = analysis.propagate(model, pixels, labels)
        carried = keras.Model(model.input, model.get_layer("stage2_unit4_gate_carry").output)
        assert study.factor[7] == pytest.approx(carried.predict(pixels, verbose=0).mean(), rel=1e-4)
        assert low < study.factor[7] < high
        assert study.factor[5] < study.factor[6] < study.factor[7]


def test_the_variance_is_that_of_each_channel():
    """With NumPy, in both data formats; flat features have their channels last in both."""
    x = np.random.default_rng(0).normal(size=(4, 6, 5, 3)) * np.array([1.0, 2.0, 3.0])
    expected = x.var(axis=(0, 1, 2)).mean()
    assert propagation._variance(x, False) == pytest.approx(expected, rel=1e-4)
    assert propagation._variance(x.transpose(0, 3, 1, 2), True) == pytest.approx(expected, rel=1e-4)
    flat = x[:, 0, 0]
    assert propagation._variance(flat, True) == pytest.approx(flat.var(axis=0).mean(), rel=1e-4)


def test_each_gradient_has_two_parts(pixels, labels):
    study = analysis.propagate(network(20, activation="full_preactivation"), pixels, labels)
    parts = study.gradient_through_shortcut, study.gradient_through_branch
    assert np.all(study.gradient_norm <= (parts[0] + parts[1]) * 1.0001)
    assert np.all(study.gradient_norm >= abs(parts[0] - parts[1]) * 0.9999)
    # With identity shortcuts one part is the next unit's whole gradient.
    np.testing.assert_allclose(parts[0][4], study.gradient_norm[5], rtol=1e-5)


# Paths


def test_numbers_of_paths_are_those_of_the_paper():
    """Section 5: with 54 units paths of 5 to 17 units are 0.45 % of all, and more than 95 % have 19 to 35."""
    numbers = analysis.paths_by_length(54)
    assert sum(numbers) == 2**54 and numbers[1] == 54
    assert 100 * sum(numbers[5:18]) / 2**54 == pytest.approx(0.45, abs=0.005)
    assert sum(numbers[19:36]) / 2**54 > 0.95
    assert analysis.share_left(54, 1) == 0.5


def test_all_paths_together_are_the_gradient(pixels, labels):
    """The exact expansion: the gradients of 2^3 paths of three units, computed separately, add up."""
    tracer = PathTracer(analysis.dissect(network(8)), pixels, labels)
    paths = [set(units) for k in range(4) for units in itertools.combinations(range(3), k)]
    assert len(paths) == 2**3
    whole = tracer.gradient(None)
    np.testing.assert_allclose(sum(tracer.gradient(path) for path in paths), whole, atol=1e-5 * abs(whole).max())


def linear_network(factors):
    """Units ``y = x + f x`` by 1x1 convolutions on one pixel, then twice that as the first of two scores."""
    x = first = keras.Input((1, 1, 3))
    for number, factor in enumerate(factors, start=1):
        conv = keras.layers.Conv2D(3, 1, use_bias=False, name=f"stage1_unit{number}_conv1")
        y = conv(x)
        conv.set_weights([factor * np.eye(3)[None, None]])
        x = keras.layers.Add(name=f"stage1_unit{number}_add")([x, y])
    head = keras.layers.Dense(2, use_bias=False, activation="softmax", name="head_dense")
    scores = head(keras.layers.Flatten()(x))
    head.set_weights([np.array([[2.0, 0], [0, 0], [0, 0]])])
    return keras.Model(first, scores)


def test_paths_of_a_linear_network_by_hand():
    """Any model with these layer names. Each path's gradient is the product of its factors."""
    factors = (0.5, 3.0, 0.25)
    pixels, labels = np.zeros((1, 1, 1, 3), "float32"), np.array([1])
    tracer = PathTracer(analysis.dissect(linear_network(factors)), pixels, labels)
    end = 2 * 0.5  # both scores are 0, so the first one's probability is a half, and it is not the label
    for k in range(4):
        for path in itertools.combinations(range(3), k):
            expected = end * math.prod(factors[i] for i in path)
            np.testing.assert_allclose(tracer.gradient(set(path))[0, 0, 0], [expected, 0, 0], rtol=1e-5)
    np.testing.assert_allclose(tracer.gradient(None)[0, 0, 0, 0], 1.5 * 4 * 1.25, rtol=1e-5)
    study = analysis.path_gradients(linear_network((0.5, 0.5, 0.5)), pixels, labels, samples=2)
    np.testing.assert_allclose(study.by_length()[1], [1, 0.5, 0.25, 0.125], rtol=1e-5)
    assert study.decay() == pytest.approx(0.5)
    np.testing.assert_allclose(study.by_length()[2], [1, 1.5, 0.75, 0.125], rtol=1e-5)
    assert study.whole_norm == pytest.approx(1.5**3)


def test_the_effective_range_is_that_of_a_binomial_distribution():
    """Gradients that shrink by r per unit result in binomial totals with probability r / (1 + r)."""
    stats = pytest.importorskip("scipy.stats", reason="SciPy is not installed")
    r, n = 0.25, 54
    lengths = np.arange(0, n + 1, 3)  # not all are sampled
    study = PathGradients("x", n, lengths, r ** lengths.astype(float), 1.0)
    shortest, longest, share = study.effective_range()
    binomial = stats.binom(n, r / (1 + r))
    covered = binomial.cdf(longest) - binomial.cdf(shortest - 1)
    assert covered >= 0.95 > max(binomial.cdf(longest - 1), binomial.cdf(longest) - binomial.cdf(shortest)) - 1e-9
    assert shortest <= n * r / (1 + r) <= longest
    assert share == pytest.approx(stats.binom(n, 0.5).cdf(longest) - stats.binom(n, 0.5).cdf(shortest - 1))


# The command line, the figures and the tutorial


def analyze(study, data, out):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    flags = ["--data_dir", str(data), "--out", str(out), "--images", "20", "--draws", "1"]
    assert main(["analyze", study, "resnet20-cifar10", *flags]) == 0
    return {path.name for path in out.iterdir()}


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_command_line_propagation(data, tmp_path, capsys):
    assert analyze("propagation", data, tmp_path) == {"propagation.csv", "propagation.png"}
    rows = rows_of(tmp_path / "propagation.csv")
    assert [row["units"] for row in rows] == [f"stage{s}_unit{u}" for s in (1, 2, 3) for u in (1, 2, 3)]
    assert all(float(row["gradient_norm"]) > 0 for row in rows)
    assert "eq. 8" in capsys.readouterr().out


def test_command_line_variants(data, tmp_path, capsys):
    """Several shortcuts of a new network in one figure. Each unit halves the gradient through the shortcuts."""
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    flags = ["--data_dir", str(data), "--out", str(tmp_path), "--images", "8", "--json"]
    assert (
        main(["analyze", "propagation", "preact_resnet20", "--shortcut", "identity", "constant_scaling", *flags]) == 0
    )
    facts = json.loads(capsys.readouterr().out)
    assert list(facts) == ["preact_resnet20-identity", "preact_resnet20-constant_scaling"]
    plain, scaled = facts.values()
    assert plain["batch_statistics"] and plain["largest_residual"] < 1e-5 < scaled["least_residual"]
    assert scaled["predicted_norm"] == pytest.approx(scaled["straight_norm"], rel=1e-3)
    assert scaled["straight_norm"] < plain["straight_norm"] / 50


def test_command_line_lesions(data, tmp_path, capsys):
    """A second run does not count anything again."""
    drawn = {f"resnet20-cifar10-{name}.{end}" for name in ("random_deletions", "reorderings") for end in ("csv", "png")}
    kept = {f"resnet20-cifar10-{name}.json" for name in ("each", "random", "order")}
    written = {*drawn, *kept, "resnet20-cifar10-deletions.csv", "deletions.png"}
    assert analyze("lesions", data, tmp_path) == written
    rows = rows_of(tmp_path / "resnet20-cifar10-deletions.csv")
    assert len(rows) == 9 and [row["unit"] for row in rows if row["changes_size"] == "True"] == [
        "stage2_unit1", "stage3_unit1",
    ]  # fmt: skip
    text = capsys.readouterr().out
    assert len(rows_of(tmp_path / "resnet20-cifar10-random_deletions.csv")) == 9
    assert analyze("lesions", data, tmp_path) == written and capsys.readouterr().out == text
    assert rows_of(tmp_path / "resnet20-cifar10-deletions.csv") == rows


def test_batch_statistics_of_frozen_batch_normalization(pixels, labels):
    """Freezing, as fine-tuning does, changes nothing about them."""
    model = network(14, shortcut="constant_scaling")
    expected = analysis.propagate(model, pixels, labels, training=True).branch_norm
    keras_resv2.unfreeze(model)
    np.testing.assert_allclose(
        analysis.propagate(model, pixels, labels, training=True).branch_norm, expected, rtol=1e-4
    )
    assert not np.allclose(analysis.propagate(model, pixels, labels).branch_norm, expected, rtol=1e-2)
    assert not any(layer.trainable for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization))


@pytest.mark.parametrize("activation", ["original", "full_preactivation", "bn_after_addition"])
def test_folded_networks_have_no_batch_statistics(activation, pixels, labels):
    model = network(8, activation=activation)
    analysis.propagate(model, pixels, labels, training=True)
    folded = keras_resv2.fold(model)
    analysis.propagate(folded, pixels, labels)
    for study in (analysis.propagate, analysis.path_gradients):
        with pytest.raises(ValueError, match="is folded, so most of its batch normalization"):
            study(folded, pixels, labels, training=True)


def test_lesions_compute_only_the_images_given(pixels, labels, monkeypatch):
    """Batches have one size, but no more than the images: few of 224 pixels have to fit in memory."""
    sizes = []
    scores = lesions._scores
    monkeypatch.setattr(lesions, "_scores", lambda *a: sizes.append(len(a[2])) or scores(*a))
    analysis.delete_each(network(8), pixels[:3], labels[:3])
    analysis.delete_each(network(8), pixels[:3], labels[:3], batch_size=2)
    assert sizes == [3, 2, 2]


def test_command_line_checks_draws_before_the_studies(data, tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    flags = ["--data_dir", str(data), "--out", str(tmp_path / "out"), "--images", "4", "--draws", "0"]
    assert main(["analyze", "lesions", "resnet20-cifar10", *flags]) == 2
    assert "--draws 0 must be at least 1" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_command_line_resizes_images_for_a_fine_tuned_network(data, tmp_path):
    """As fine-tuning and `evaluate` do: the network takes 48 x 48 pixels, the dataset has 32 x 32."""
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    publish(tmp_path / "weights", image_shape=(48, 48, 3), origin={"layout": "fine-tuned"})
    folder = str(tmp_path / "weights/resnet20-cifar10/1")
    flags = ["--data_dir", str(data), "--out", str(tmp_path / "out"), "--images", "2"]
    assert main(["analyze", "cam", folder, *flags]) == 0
    assert np.load(next((tmp_path / "out").glob("*-cam.npy"))).shape == (2, 12, 12)


def test_command_line_accepts_a_weight_folder(data, tmp_path, capsys):
    """The name of the files is that of its card."""
    publish(tmp_path / "weights", name="resnet32-cifar10")
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    folder = str(tmp_path / "weights/resnet32-cifar10/1")
    flags = ["--data_dir", str(data), "--out", str(tmp_path / "out"), "--images", "4"]
    assert main(["analyze", "paths", folder, *flags]) == 0
    assert (tmp_path / "out/resnet32-cifar10@1-paths.csv").exists()


def test_command_line_paths(data, tmp_path, capsys):
    assert analyze("paths", data, tmp_path) == {"resnet20-cifar10-paths.csv", "resnet20-cifar10-paths.png"}
    rows = rows_of(tmp_path / "resnet20-cifar10-paths.csv")
    assert [int(row["paths"]) for row in rows] == [1, 9, 36, 84, 126, 126, 84, 36, 9, 1]
    assert "9 units" in capsys.readouterr().out


@pytest.fixture
def data(pixels, labels, tmp_path_factory):
    """Forty random images as an .npz."""
    path = tmp_path_factory.mktemp("data") / "data.npz"
    images, labels = np.concatenate([pixels] * 5), np.concatenate([labels] * 5)
    np.savez(path, x_train=images, y_train=labels, x_test=images, y_test=labels)
    return path


@pytest.mark.parametrize("dataset, classes, size", [("cifar100", 100, 32), ("arrays", 3, 16)])
def test_architectures_are_studied_on_any_dataset(dataset, classes, size, tmp_path, capsys, monkeypatch):
    """The network has the dataset's classes, image size and statistics."""
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    images = np.random.default_rng(0).integers(0, 256, (classes, size, size, 3), dtype="uint8")
    labels = np.arange(classes)
    np.savez(tmp_path / "data.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    built = []

    def build(name, **arguments):
        built.append(arguments)
        return ResNet(8, **arguments)

    monkeypatch.setattr("keras_resv2.cli.studies.build", build)
    places = ["--data_dir", str(tmp_path / "data.npz"), "--out", str(tmp_path / "out"), "--images", "3"]
    assert main(["analyze", "propagation", "resnet20", "--dataset", dataset, *places]) == 0
    mean = images.reshape(-1, 3).mean(0) if dataset == "arrays" else (129.304, 124.07, 112.434)
    (arguments,) = built
    assert arguments["classes"] == classes and arguments["input_shape"] == (size, size, 3)
    np.testing.assert_allclose(arguments["preprocessing"][0], mean, atol=5.1e-4)


@pytest.mark.parametrize("more, says", [
    (["resnet21"], "did you mean resnet32"),
    (["resnet20-cifar10", "--shortcut", "none"], "--shortcut is for architectures"),
    (["resnet20", "--shortcut", "gate"], "must be one of"),
    (["resnet20", "--shortcut", "none"], "plain network"),
    (["resnet20", "--images", "41"], "--images 41 must be from 1 to 40"),
    (["resnet20-cifar10", "--dataset", "cifar100"], "belong to several datasets (cifar10, cifar100)"),
    (["resnet20", "--dataset", "imagenette"], "imagenette has images of many sizes"),
    (["resnet20", "--dataset", "cifar1000"], "dataset='cifar1000' must be one of"),
])  # fmt: skip
def test_bad_commands_are_one_line(more, says, data, tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    assert main(["analyze", "propagation", *more, "--data_dir", str(data), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("keras-resv2: error: ") and says in error and error.count("\n") == 1


def test_the_tutorial(cifar10):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    failed, ran = doctest.testfile(
        str(ROOT / "docs" / "analysis.md"), module_relative=False, globs={"data_dir": cifar10}
    )
    assert ran > 20 and failed == 0


# Bad input


def not_a_network():
    x = keras.Input((32, 32, 3))
    return keras.Model(x, keras.layers.Dense(10)(keras.layers.Flatten()(x)))


def around(inner):
    x = keras.Input((32, 32, 3))
    return keras.Model(x, inner(x))


@pytest.mark.parametrize("make, says", [
    (not_a_network, r"has no residual units. Its layers must be named stage1_unit1_..., .*stage1_unit1_add"),
    (lambda: around(ResNet(8)), r"Or pass the nested model: model.get_layer\('resnet8'\)."),
    (lambda: ResNet(20, rolled=True), "is rolled: build it without rolled=True"),
    (lambda: keras_resv2.fold(ResNet(8, shortcut="none", activation="full_preactivation")), "before folding it"),
    (lambda: keras.Sequential([keras.layers.Dense(1)]), "is not a functional keras.Model: analysis needs a network"),
    (lambda: ResNet(8, include_top=False, input_shape=(32, 32, 3)), "needs a network with its classifier"),
    (lambda: ResNet(8, include_top=False, pooling="avg", input_shape=(32, 32, 3)), "outputs 64 pooled features"),
    (lambda: ResNet(8, include_top=False, pooling="max", input_shape=(32, 32, 3)), "outputs 64 pooled features"),
    (lambda: keras_resv2.features(ResNet(8)), "has 3 outputs: analysis needs a single output of class scores"),
])  # fmt: skip
def test_models_that_cannot_be_analysed(make, says, pixels, labels):
    with pytest.raises(ValueError, match=says):
        analysis.delete_each(make(), pixels, labels)


@pytest.mark.parametrize("change, says", [
    (dict(labels=np.arange(7)), "8 images but 7 labels"),
    (dict(labels=np.arange(8) + 5), "labels range from 5 to 12, but resnet8 has 10 classes"),
    (dict(labels=np.arange(8) / 10), "labels"),
    (dict(images=np.random.default_rng(0).uniform(size=(8, 32, 32, 3))), "expects 0 to 255: do not scale them"),
    (dict(images=np.full((8, 32, 32, 3), np.nan)), "NaN"),
    (dict(images=np.zeros((8, 32, 32))), r"images \(n, height, width, 3\) are needed"),
    (dict(images=np.zeros((8, 16, 16, 3))), r"do not fit resnet8, which expects \(n, 32, 32, 3\)"),
    (dict(batch_size=0), "batch_size=0"),
])  # fmt: skip
def test_images_that_do_not_fit(change, says, pixels, labels):
    with pytest.raises(ValueError, match=says):
        analysis.delete_each(**{"model": ResNet(8), "images": pixels, "labels": labels, **change})


@pytest.mark.parametrize("call, says", [
    (lambda *a: analysis.delete_random(*a, counts=[4]), "from 1 to 3"),
    (lambda *a: analysis.delete_random(*a, counts=4), "from 1 to 3"),
    (lambda *a: analysis.delete_random(*a, counts=[1.5]), r"counts=\[1.5\] must be whole numbers"),
    (lambda *a: analysis.delete_random(*a, draws=0), "draws=0"),
    (lambda *a: analysis.reorder(*a), "nothing to swap"),
    (lambda *a: analysis.path_gradients(*a, lengths=[4]), "from 0 to 3"),
    (lambda *a: analysis.path_gradients(*a, samples=0), "samples=0"),
    (lambda model, *a: PathTracer(analysis.dissect(model), *a).gradient({3}), r"path=\{3\} .* from 0 to 2"),
    (lambda model, *a: PathTracer(analysis.dissect(model), *a).gradient([-1]), r"path=\[-1\] .* from 0 to 2"),
    (lambda *a: analysis.share_left(54, 1.5), "deleted=1.5 must be"),
    (lambda *a: analysis.share_left(-1, -1), "units=-1 must be"),
])  # fmt: skip
def test_invalid_arguments_of_studies(call, says, pixels, labels):
    with pytest.raises(ValueError, match=says):
        call(ResNet(8), pixels, labels)


def test_gradients_too_small_for_float16(pixels, labels):
    """Its smallest number is 6e-8; a mean over a batch and 64 positions begins below 1e-3. Lesions need no gradients.

    bfloat16 has the range of float32."""
    half = network(8, dtype="mixed_float16")
    for study in (analysis.propagate, analysis.path_gradients):
        with pytest.raises(ValueError, match="computes in float16, whose smallest numbers"):
            study(half, pixels, labels)
    assert analysis.delete_each(half, pixels, labels).images == 8
    study = analysis.propagate(network(8, dtype="mixed_bfloat16"), pixels, labels)
    whole = analysis.propagate(network(8), pixels, labels)
    np.testing.assert_allclose(study.gradient_norm, whole.gradient_norm, rtol=0.5)


@pytest.mark.parametrize("inputs", [lambda x: [x], lambda x: {"pixels": x}])
def test_the_input_may_be_in_a_list_or_dictionary(inputs, pixels, labels):
    model = network(8)
    wrapped = keras.Model(inputs(model.input), model.output)
    expected = analysis.path_gradients(model, pixels, labels, samples=1)
    np.testing.assert_allclose(analysis.path_gradients(wrapped, pixels, labels, samples=1).norms, expected.norms)
    other = keras.Input((32, 32, 3))
    with pytest.raises(ValueError, match="has 2 inputs: analysis needs a single input of images"):
        analysis.delete_each(keras.Model([model.input, other], model.output), pixels, labels)


def test_pixels_beyond_the_range_are_drawn_as_its_ends(tmp_path):
    """Bicubic resizing gives a few of them."""
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    drawn = []
    for low, high in ((0.0, 255.0), (-20.0, 275.0)):
        images = np.full((1, 32, 32, 3), low)
        images[:, ::2] = high
        study = analysis.GradCam("x", "y", np.zeros(1, int), np.zeros(1), np.ones((1, 8, 8)))
        plots.draw_grad_cam(study, images, tmp_path / "cam.png")
        drawn.append((tmp_path / "cam.png").read_bytes())
    assert drawn[0] == drawn[1]


def test_plain_networks_are_refused_before_the_other_studies(data, tmp_path, capsys, monkeypatch):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    monkeypatch.setattr(analysis, "propagate", lambda *a, **k: pytest.fail("a network was studied"))
    flags = ["--shortcut", "identity", "none", "--data_dir", str(data), "--out", str(tmp_path)]
    assert main(["analyze", "propagation", "resnet20", *flags]) == 2
    assert "resnet20-none is a plain network, without shortcuts: leave it out" in capsys.readouterr().err


def test_class_folders_of_a_network_whose_dataset_is_streamed(data, tmp_path, capsys):
    """Such as ImageNet's; without folders of classes its images form no array."""
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    publish(tmp_path / "weights", name="resnet20-imagenette", dataset="imagenette")
    for name in ("cat", "truck"):
        (tmp_path / "images" / name).mkdir(parents=True)
        noise = np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype="uint8")
        Image.fromarray(noise).save(tmp_path / "images" / name / "0.png")
    command = ["analyze", "cam", str(tmp_path / "weights/resnet20-imagenette/1"), "--out", str(tmp_path / "out")]
    assert main([*command, "--data_dir", str(tmp_path / "images")]) == 0
    (path,) = (tmp_path / "out").glob("*-cam.csv")
    assert [row["label"] for row in rows_of(path)] == ["3", "9"]
    assert main([*command, "--data_dir", str(data)]) == 2
    assert "pass --data_dir a folder with one folder of images per class" in capsys.readouterr().err


def test_a_plain_network_has_no_shortcuts_to_follow(pixels, labels):
    plain = ResNet(8, shortcut="none")
    for study in (analysis.propagate, analysis.path_gradients):
        with pytest.raises(ValueError, match="plain network"):
            study(plain, pixels, labels)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow warns of functions traced again")
def test_programs_do_not_cause_retracing_warnings(caplog):
    """A network with eight different units has eight gradients, each traced once."""
    model = keras_resv2.ResNet(26, activation="full_preactivation", projection="B")
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype="uint8")
    with caplog.at_level("WARNING", logger="tensorflow"):
        for _ in range(2):
            analysis.propagate(model, images, np.array([0, 1]))
    assert "retracing" not in caplog.text
