"""Runs that start from trained weights, of the same network or of a shallower one."""

import json

import keras
import numpy as np
import pytest

import keras_resv2
from keras_resv2.models.weights import model_arrays
from keras_resv2.resnet import ResNet
from keras_resv2.storage.weight_file import save_weights
from train.config import RunConfig
from train.initial_weights import check_kind, find_weights, repeat_units, set_initial_weights
from train.prepare import _set_initial_weights
from train.recipes import RECIPES


def network(depth, scale=1.0, **arguments):
    """A network with random batch statistics, whose branch outputs are scaled by `scale`."""
    model = ResNet(depth, classifier_activation=None, **arguments)
    rng = np.random.default_rng(depth)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            gamma, beta, mean, variance = layer.get_weights()
            ends = layer.name.endswith("_bn2") and arguments["activation"] == "original"
            gamma = rng.uniform(0.5, 1.5, gamma.shape) * (scale if ends else 1)
            layer.set_weights([gamma, beta, rng.normal(0, 0.1, mean.shape), rng.uniform(0.5, 2, variance.shape)])
        if layer.name.endswith("_conv2") and arguments["activation"] != "original":
            layer.set_weights([weight * scale for weight in layer.get_weights()])
    return model


@pytest.mark.parametrize("activation", ["original", "full_preactivation"])
def test_a_grown_network_computes_the_shallow_one_to_first_order(activation, pixels):
    """The difference is of second order in the branches: a tenth of the branch leaves a hundredth of the difference."""
    differences = []
    for scale in (1e-1, 1e-2):
        shallow = network(14, scale, activation=activation)
        deep = ResNet(26, activation=activation, classifier_activation=None)
        set_initial_weights(deep, model_arrays(shallow), "shallow")
        found, expected = (keras.ops.convert_to_numpy(model(pixels)) for model in (deep, shallow))
        differences.append(abs(found - expected).max() / np.std(expected))
    assert differences[0] < 0.1 and differences[1] < 0.03 * differences[0] + 1e-5


def test_units_are_repeated_in_order_and_branches_share_their_sum():
    shallow = {f"stage1_unit{u}_conv2/kernel": np.full((1,), float(u)) for u in (1, 2, 3)}
    shallow |= {f"stage1_unit{u}_conv1/kernel": np.full((1,), 10.0 * u) for u in (1, 2, 3)}
    shallow["head_dense/kernel"] = np.ones(1)
    deep = repeat_units(shallow, {"stage1": 6})  # the second unit three times, the third twice
    assert [float(deep[f"stage1_unit{u}_conv1/kernel"][0]) for u in range(1, 7)] == [10, 20, 20, 20, 30, 30]
    assert [float(deep[f"stage1_unit{u}_conv2/kernel"][0]) for u in range(1, 7)] == pytest.approx(
        [1, 2 / 3, 2 / 3, 2 / 3, 3 / 2, 3 / 2]
    )
    assert deep["head_dense/kernel"][0] == 1


def test_the_same_network_uses_the_weights_unchanged(pixels, tmp_path):
    one, other = (network(14, activation="full_preactivation") for _ in range(2))
    save_weights(one, tmp_path / "weights.h5")
    arrays, name = find_weights(str(tmp_path / "weights.h5"))
    set_initial_weights(other, arrays, name)
    np.testing.assert_array_equal(other(pixels), one(pixels))


@pytest.mark.parametrize("source, model, says", [
    (dict(depth=14, activation="relu_before_addition"), dict(depth=14), "activation=relu_before_addition"),
    (dict(depth=14, shortcut="constant_scaling"), dict(depth=14), "shortcut="),
    (dict(depth=20, branch="bottleneck", stride_on="3x3"), dict(depth=20, branch="bottleneck"), "stride_on=3x3"),
])  # fmt: skip
def test_weights_of_another_kind_of_network_are_refused(source, model, says, tmp_path):
    """Even with the same names and shapes: from a weight file, a run directory and a weight folder."""
    made = ResNet(**source)
    save_weights(made, tmp_path / "weights.h5")
    ours = ResNet(**model)
    with pytest.raises(ValueError, match=says):
        check_kind(str(tmp_path / "weights.h5"), ours, model)
    arguments = {name: value for name, value in source.items() if name != "depth"}
    run = tmp_path / "run"
    run.mkdir()
    settings = {"model": f"resnet{source['depth']}", "arguments": arguments}
    (run / "run.json").write_text(json.dumps({"settings": settings, "environments": []}))
    with pytest.raises(ValueError, match=says):
        check_kind(str(run), ours, model)
    if "shortcut" not in source and "branch" not in source:
        return
    if "branch" in source:
        folder = keras_resv2.save_weight_folder(made, "mine-x", [*"abcdefghij"], tmp_path)
        with pytest.raises(ValueError, match=says):
            check_kind(str(folder), ours, model)
    check_kind(str(run), made, source)


@pytest.mark.parametrize(
    "arguments",
    [
        dict(shortcut="constant_scaling"),
        dict(shortcut="none"),
        dict(activation="bn_after_addition"),
        dict(projection="C"),
    ],
)
def test_units_are_only_repeated_where_this_keeps_the_function(arguments):
    with pytest.raises(ValueError, match="cannot start from a shallower network"):
        set_initial_weights(ResNet(20, **arguments), model_arrays(ResNet(14, **arguments)), "shallow")


def test_a_run_needs_its_initial_weights_until_it_has_an_intact_checkpoint(tmp_path):
    model, config = ResNet(8), RunConfig("resnet8", "fast", RECIPES["fast"], initial_weights="gone", out=tmp_path)
    with pytest.raises(ValueError, match="no pretrained weights 'gone'"):
        _set_initial_weights(model, config)
    checkpoint = tmp_path / "checkpoint-00000010.npz"
    np.savez(checkpoint, meta="{}", v0=np.arange(1000))
    content = bytearray(checkpoint.read_bytes())
    content[len(content) // 2] ^= 1
    checkpoint.write_bytes(content)
    with pytest.raises(ValueError, match="no pretrained weights 'gone'"):
        _set_initial_weights(model, config)
    np.savez(checkpoint, meta="{}", v0=np.arange(1000))
    _set_initial_weights(model, config)


def test_pretrained_names_get_their_version():
    arrays, name = find_weights("preact_resnet20-cifar10")
    assert name.startswith("preact_resnet20-cifar10@") and arrays["stem_conv/kernel"].shape == (3, 3, 3, 16)


def test_a_weight_folder_keeps_its_place(tmp_path):
    """Its name may be that of other weights in the package."""
    model = network(20, activation="original")
    folder = keras_resv2.save_weight_folder(model, "resnet20-cifar10", [*"abcdefghij"], tmp_path)
    arrays, name = find_weights(str(folder))
    again, same_name = find_weights(name)
    assert name == same_name == str(folder)
    np.testing.assert_array_equal(again["stem_conv/kernel"], arrays["stem_conv/kernel"])
    np.testing.assert_array_equal(arrays["stem_conv/kernel"], model_arrays(model)["stem_conv/kernel"])


@pytest.mark.parametrize("depth", [20, 26])
def test_rolled_networks_start_from_unrolled_ones(depth):
    shallow = model_arrays(network(20, activation="original"))
    rolled, plain = (ResNet(depth, rolled=form, classifier_activation=None) for form in (True, False))
    for model in (rolled, plain):
        set_initial_weights(model, shallow, "shallow")
    for name, array in model_arrays(plain).items():
        np.testing.assert_array_equal(model_arrays(rolled)[name], array)


@pytest.mark.parametrize("make, says", [
    (lambda: ResNet(34, classes=10), "has the stages stage1, stage2, stage3, but resnet34 has stage1, .*stage4"),
    (lambda: ResNet(8), "networks cannot be made shallower"),
    (lambda: ResNet(20, activation="full_preactivation"), "are not in the file"),
    (lambda: ResNet(20, classes=7), "head_dense/kernel"),
])  # fmt: skip
def test_weights_that_do_not_fit(make, says):
    arrays = model_arrays(ResNet(14))
    with pytest.raises(ValueError, match=says):
        set_initial_weights(make(), arrays, "shallow")


def test_a_stage_with_one_unit_cannot_be_repeated():
    with pytest.raises(ValueError, match="cannot be repeated"):
        set_initial_weights(ResNet(14), model_arrays(ResNet(8)), "shallow")
