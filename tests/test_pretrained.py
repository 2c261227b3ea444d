"""Weight files and cards: what is found, what is rejected, and that nothing is left incomplete."""

import dataclasses
import gc
import json
import shutil
import sys

import h5py
import keras
import numpy as np
import pytest

import keras_resv2
from helpers.published import publish
from keras_resv2.models.shortcuts import Shortcut
from keras_resv2.models.weights import model_arrays
from keras_resv2.pretrained import is_pretrained
from keras_resv2.storage import local as store
from keras_resv2.storage.weight_file import load_weights, read_weights, save_weights, write_weights


@pytest.fixture
def zoo(tmp_path, monkeypatch):
    """A weights folder with versions 1 and 2 of resnet20-cifar10, and nothing else."""
    folder = tmp_path / "weights"
    for version in (1, 2):
        publish(folder, version=version)
    monkeypatch.setattr(store, "weight_folders", lambda: [folder, store.home() / "weights"])
    return folder


def weights_of(model):
    return {w.path: keras.ops.convert_to_numpy(w) for w in model.weights}


def test_a_weight_file_gives_back_the_weights(tmp_path, pixels):
    model, other = keras_resv2.PreActResNet20(), keras_resv2.PreActResNet20()
    save_weights(model, tmp_path / "w.h5")
    load_weights(other, tmp_path / "w.h5")
    np.testing.assert_array_equal(model.predict(pixels, verbose=0), other.predict(pixels, verbose=0))


@pytest.mark.parametrize(
    "variant",
    [
        {"activation": "full_preactivation", "shortcut": "exclusive_gating"},
        {"activation": "bn_after_addition", "shortcut": "conv1x1", "branch": "bottleneck", "depth": 11},
        {"dtype": "bfloat16"},
    ],
)
def test_a_network_starts_from_the_files_weights(tmp_path, variant):
    """Every weight of every kind of layer; the layers keep the initialisers that they are saved with."""
    variant = {"depth": 8, **variant}
    keras.backend.clear_session()  # older versions of Keras number casts, which have no names of ours
    model = keras_resv2.ResNet(**variant)
    rng = np.random.default_rng(0)
    model.set_weights([np.abs(rng.normal(size=weight.shape)) for weight in model.weights])  # variances are positive
    save_weights(model, tmp_path / "w.h5")
    keras.backend.clear_session()
    started = keras_resv2.ResNet(**variant, weights=tmp_path / "w.h5")
    for old, new in zip(model.weights, started.weights, strict=True):
        assert old.path == new.path
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(old), keras.ops.convert_to_numpy(new))
    assert started.get_config() == model.get_config()


@pytest.mark.parametrize("collects", [True, False])
def test_building_leaves_python_as_it_was(tmp_path, collects):
    save_weights(keras_resv2.ResNet(8), tmp_path / "w.h5")
    limit = sys.getrecursionlimit()
    (gc.enable if collects else gc.disable)()
    try:
        keras_resv2.ResNet(8)
        with pytest.raises(ValueError, match="does not fit"):
            keras_resv2.ResNet(14, weights=tmp_path / "w.h5")
        with pytest.raises(ValueError, match=r"differ in shape .* with the classes of the file"):
            keras_resv2.ResNet(8, classes=7, weights=tmp_path / "w.h5")
        assert (gc.isenabled(), sys.getrecursionlimit()) == (collects, limit)
    finally:
        gc.enable()


def test_a_weight_file_is_as_large_as_its_parameters(tmp_path):
    model = keras_resv2.ResNet56()
    save_weights(model, tmp_path / "w.h5")
    assert (tmp_path / "w.h5").stat().st_size < 1.02 * 4 * model.count_params() + 30_000
    assert sum(a.size for a in read_weights(tmp_path / "w.h5").values()) == model.count_params()


@pytest.mark.parametrize(
    "other, words",
    [
        ("ResNet32", ["60 weights are not in the file", "stage1_unit4_conv1/kernel", "with the same depth"]),
        ("PreActResNet20", ["not in the file", "in the file are not in the model", "stem_bn/gamma"]),
        ("ResNet18", ["differ in shape", "(3, 3, 3, 16) in the file", "(7, 7, 3, 64) in the model"]),
    ],
)
def test_weights_of_another_architecture_are_rejected_without_changes(tmp_path, other, words):
    save_weights(keras_resv2.ResNet20(), tmp_path / "w.h5")
    model = getattr(keras_resv2, other)()
    before = weights_of(model)
    with pytest.raises(ValueError) as error:
        load_weights(model, tmp_path / "w.h5")
    assert all(word in str(error.value) for word in words), error.value
    assert all(np.array_equal(value, before[path]) for path, value in weights_of(model).items())


OTHER_STRUCTURES = [
    (dict(shortcut="constant_scaling"), dict(), "shortcut="),
    (dict(), dict(shortcut="dropout"), "shortcut="),
    (dict(shortcut="exclusive_gating"), dict(shortcut="shortcut_only_gating"), "shortcut="),
    (dict(shortcut="shortcut_only_gating"), dict(shortcut="exclusive_gating"), "shortcut="),
    (dict(activation="original"), dict(activation="relu_before_addition"), "activation="),
    (dict(preprocessing="tf"), dict(), "pixels="),
    (dict(padding="tensorflow"), dict(), "padding="),
    (dict(depth=29, stride_on="3x3"), dict(depth=29), "stride_on="),
]


@pytest.mark.parametrize("saved, built, words", OTHER_STRUCTURES)
def test_weights_of_a_variant_with_the_same_names_are_rejected(saved, built, words, tmp_path):
    """Their shapes fit, and the outputs would be others."""
    save_weights(keras_resv2.ResNet(**{"depth": 8, **saved}), tmp_path / "weights.h5")
    built = {"depth": 8, **built}
    with pytest.raises(ValueError, match=f"{words}.*build it with the same arguments"):
        keras_resv2.ResNet(**built, weights=tmp_path / "weights.h5")
    model = keras_resv2.ResNet(**built)
    before = weights_of(model)
    with pytest.raises(ValueError, match=words):
        load_weights(model, tmp_path / "weights.h5")
    assert all(np.array_equal(before[name], value) for name, value in weights_of(model).items())


@pytest.mark.parametrize(
    "form", [dict(include_top=False), dict(rolled=True), dict(output_stride=2), dict(include_preprocessing=False)]
)
def test_other_forms_of_the_same_network_take_its_weights(form, tmp_path):
    own = dict(activation="full_preactivation", shortcut="exclusive_gating(bias=-2)")
    save_weights(keras_resv2.ResNet(20, **own), tmp_path / "weights.h5")
    keras_resv2.ResNet(20, **own, **form, weights=tmp_path / "weights.h5")


def test_files_and_models_without_a_structure_are_not_compared(tmp_path):
    path = tmp_path / "weights.h5"
    write_weights(model_arrays(keras_resv2.ResNet(8, shortcut="constant_scaling")), path)  # as before version 0.3
    keras_resv2.ResNet(8, weights=path)
    other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="stem_conv")])
    save_weights(other, path)
    load_weights(other, path)
    for damaged in ("[", "5", '{"activation": 5}', '{"pixels": "x"}'):
        with h5py.File(path, "r+") as file:
            file.attrs["structure"] = damaged
        load_weights(other, path)


@pytest.mark.parametrize(
    "name, words",
    [
        ("mine.keras", "model.save for a"),
        ("mine", "must end in .h5"),
        ("mine.weights.h5", "model.save_weights for a"),
    ],
)
def test_weight_files_have_one_extension(name, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        keras_resv2.save_weights(keras_resv2.ResNet(8), tmp_path / name)
    assert not (tmp_path / name).exists()


def test_invalid_weight_files(tmp_path):
    model = keras_resv2.ResNet20()
    with pytest.raises(FileNotFoundError, match="does not exist"):
        load_weights(model, tmp_path / "none.h5")
    (tmp_path / "text.h5").write_text("no HDF5")
    with pytest.raises(ValueError, match="damaged or not HDF5"):
        load_weights(model, tmp_path / "text.h5")
    model.save_weights(tmp_path / "keras.weights.h5")
    with pytest.raises(ValueError, match="not a keras-resv2 weight file"):
        load_weights(model, tmp_path / "keras.weights.h5")
    save_weights(model, tmp_path / "cut.h5")
    content = (tmp_path / "cut.h5").read_bytes()
    (tmp_path / "cut.h5").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="damaged"):
        load_weights(model, tmp_path / "cut.h5")


def test_versions(zoo):
    assert keras_resv2.list_pretrained() == ["resnet20-cifar10"]
    assert keras_resv2.list_pretrained(versions=True) == ["resnet20-cifar10@1", "resnet20-cifar10@2"]
    assert keras_resv2.pretrained_card("resnet20-cifar10").version == 2
    assert keras_resv2.pretrained_card("resnet20-cifar10@1").version == 1
    one, two = (keras_resv2.from_pretrained(f"resnet20-cifar10@{v}").get_weights()[0] for v in (1, 2))
    np.testing.assert_array_equal(one, read_weights(zoo / "resnet20-cifar10/1/weights.h5")["stem_conv/kernel"])
    assert not np.array_equal(one, two)


@pytest.mark.parametrize(
    "name, words",
    [
        ("resnet2-cifar10", "did you mean resnet20-cifar10"),
        ("vgg", "did you mean resnet20-cifar10"),
        ("ResNet20-CIFAR10", "did you mean resnet20-cifar10"),
        ("resnet20", r"choose its weights \(resnet20-cifar10\), or build it .* by keras_resv2.ResNet20\(\)"),
        ("ResNet20", "resnet20 is an architecture: choose its weights"),
        ("PreActResNet164", r"is an architecture: build it with random weights by keras_resv2.PreActResNet164\(\)"),
        ("tuned/model.keras", "expected a weight folder"),
        ("resnet20-cifar10@3", "no version 3; available: resnet20-cifar10@1, resnet20-cifar10@2"),
        ("resnet20-cifar10@new", "whole number"),
        (20, "is text"),
    ],
)
def test_unknown_names_and_versions(zoo, name, words):
    with pytest.raises(ValueError, match=words) as error:
        keras_resv2.from_pretrained(name)
    assert "\n" not in str(error.value)


def test_a_link_to_a_weight_folder(zoo):
    (zoo / "latest").symlink_to(zoo / "resnet20-cifar10/2")
    assert keras_resv2.pretrained_card(zoo / "latest").full_name == "resnet20-cifar10@2"
    (zoo / "mine").symlink_to(zoo / "resnet20-cifar10")
    assert keras_resv2.pretrained_card(zoo / "mine").full_name == "resnet20-cifar10@2"


def test_a_folder_here_is_a_name_unless_it_is_a_published_one(zoo, tmp_path, monkeypatch):
    """As `keras-resv2 finetune --out mine` and `predict mine` name it."""
    publish(tmp_path / "here/mine", version=3)
    monkeypatch.chdir(tmp_path / "here")
    assert keras_resv2.pretrained_card("mine").full_name == "resnet20-cifar10@3" and is_pretrained("mine")
    (tmp_path / "here/resnet20-cifar10").symlink_to("mine/resnet20-cifar10")
    assert keras_resv2.pretrained_card("resnet20-cifar10").full_name == "resnet20-cifar10@2"
    (tmp_path / "here/empty").mkdir()
    assert not is_pretrained("empty")
    with pytest.raises(ValueError, match="there are no pretrained weights 'empty'"):
        keras_resv2.from_pretrained("empty")


def test_damaged_files_of_a_users_folder(zoo, tmp_path):
    copy = shutil.copytree(zoo / "resnet20-cifar10/1", tmp_path / "mine/resnet20-cifar10/1")
    (copy / "weights.h5").write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"is damaged.* Copy the folder again"):
        keras_resv2.from_pretrained(copy)


def test_layers_before_the_input_tensor_keep_their_weights(zoo, pixels):
    """The network's weights are for its own layers."""
    inputs = keras.Input((32, 32, 1))
    convolution = keras.layers.Conv2D(3, 1)
    model = keras_resv2.from_pretrained("resnet20-cifar10", input_tensor=convolution(inputs))
    kernel, bias = (keras.ops.convert_to_numpy(weight) for weight in convolution.weights)
    before = pixels[..., :1] @ kernel[0, 0] + bias
    expected = keras_resv2.from_pretrained("resnet20-cifar10").predict(before, verbose=0)
    np.testing.assert_allclose(model.predict(pixels[..., :1], verbose=0), expected, atol=1e-5)


@pytest.mark.parametrize("classes", ["5", 0, 2.5])
def test_classes_are_a_number(classes):
    with pytest.raises(ValueError, match="must be a whole number"):
        keras_resv2.from_pretrained("resnet20-cifar10", classes=classes)


def test_arguments_of_from_pretrained_have_names():
    """The second argument of the builders is another one."""
    with pytest.raises(TypeError, match="positional"):
        keras_resv2.from_pretrained("resnet20-cifar10", False)


def test_the_error_of_an_empty_zoo_lists_the_folders(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "weight_folders", lambda: [tmp_path])
    assert keras_resv2.list_pretrained() == []
    with pytest.raises(ValueError, match=str(tmp_path)):
        keras_resv2.from_pretrained("resnet20-cifar10")


def test_a_new_classifier_on_the_pretrained_body(zoo):
    model = keras_resv2.from_pretrained("resnet20-cifar10", classes=5)
    assert model.output_shape == (None, 5)
    arrays = read_weights(zoo / "resnet20-cifar10/2/weights.h5")
    for layer in model.layers:
        for weight in layer.weights:
            if layer.name != "head_dense":
                np.testing.assert_array_equal(weight, arrays[f"{layer.name}/{weight.name}"])


def test_two_networks_of_one_architecture_in_one_model(zoo, pixels):
    """An ensemble: Keras wants different names."""
    members = [keras_resv2.from_pretrained("resnet20-cifar10", model_name=f"seed{i}") for i in range(2)]
    assert [member.name for member in members] == ["seed0", "seed1"]
    images = keras.Input((32, 32, 3))
    ensemble = keras.Model(images, keras.layers.Average()([member(images) for member in members]))
    expected = members[0].predict(pixels, verbose=0)
    np.testing.assert_allclose(ensemble.predict(pixels, verbose=0), expected, rtol=1e-5, atol=1e-6)
    assert keras_resv2.from_pretrained("resnet20-cifar10").name == "resnet20"


def test_without_classifier_and_other_sizes(zoo, pixels):
    body = keras_resv2.from_pretrained("resnet20-cifar10", include_top=False, pooling="avg")
    whole = keras_resv2.from_pretrained("resnet20-cifar10")
    features = keras.Model(whole.input, whole.get_layer("head_pool").output)
    np.testing.assert_allclose(
        body.predict(pixels, verbose=0), features.predict(pixels, verbose=0), rtol=1e-4, atol=1e-4
    )
    large = keras_resv2.from_pretrained("resnet20-cifar10", input_shape=(96, 64, 3))
    assert large.predict(np.zeros((1, 96, 64, 3)), verbose=0).shape == (1, 10)


def test_builders_take_a_dataset_as_weights(zoo):
    ours = keras_resv2.ResNet20(weights="cifar10@1").get_weights()
    theirs = keras_resv2.from_pretrained("resnet20-cifar10@1").get_weights()
    assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))
    same = keras_resv2.ResNet20(weights="cifar10@1", shortcut="identity", projection="A", stem="cifar")
    assert np.array_equal(same.get_weights()[0], ours[0])
    path = str(zoo / "resnet20-cifar10/1/weights.h5")
    assert np.array_equal(keras_resv2.ResNet20(weights=path).get_weights()[0], ours[0])


@pytest.mark.parametrize(
    "arguments, words",
    [
        (dict(weights="imagenet"), "did you mean resnet20-cifar10"),
        (dict(weights="hf://timm/resnet18.a1_in1k"), r"from_pretrained\('hf://timm/resnet18\.a1_in1k'\) builds it"),
        (dict(weights="cifar10", classes=5), r"from_pretrained\('resnet20-cifar10', classes=5\)"),
        (dict(weights="cifar10", shortcut="constant_scaling"), "trained with the default arguments"),
    ],
)
def test_weights_that_a_builder_cannot_take(zoo, arguments, words):
    with pytest.raises(ValueError, match=words):
        keras_resv2.ResNet20(**arguments)


def test_damaged_and_missing_files(zoo):
    path = zoo / "resnet20-cifar10/2/weights.h5"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="SHA-256 does not match resnet20-cifar10@2"):
        keras_resv2.from_pretrained("resnet20-cifar10")
    path.write_bytes(content[:-1])
    with pytest.raises(ValueError, match=r"damaged: \d+ bytes"):
        keras_resv2.from_pretrained("resnet20-cifar10")
    path.unlink()
    with pytest.raises(FileNotFoundError, match="no URL"):
        keras_resv2.from_pretrained("resnet20-cifar10")


def test_damaged_cards(zoo):
    path = zoo / "resnet20-cifar10/2/card.json"
    content = json.loads(path.read_text())
    path.write_text("{")
    with pytest.raises(ValueError, match="not a weight card"):
        keras_resv2.pretrained_card("resnet20-cifar10")
    del content["sha256"]
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="'sha256'"):
        keras_resv2.pretrained_card("resnet20-cifar10")
    (zoo / "resnet20-cifar10/3").mkdir()
    (zoo / "resnet20-cifar10/3/card.json").write_text((zoo / "resnet20-cifar10/1/card.json").read_text())
    with pytest.raises(ValueError, match="its folder must be resnet20-cifar10/1"):
        keras_resv2.pretrained_card("resnet20-cifar10")


def test_cards_in_the_cache_are_found(zoo):
    publish(store.home() / "weights", name="resnet32-cifar10")
    assert keras_resv2.list_pretrained() == ["resnet20-cifar10", "resnet32-cifar10"]
    assert keras_resv2.from_pretrained("resnet32-cifar10").count_params() == keras_resv2.ResNet32().count_params()


def test_a_name_never_means_two_files(zoo):
    """Of the package, and of what was converted before the package had weights of that name."""
    published = keras_resv2.pretrained_card("resnet20-cifar10@1")
    own = store.home() / "weights/resnet20-cifar10/1"
    shutil.copytree(published.folder, own)
    assert keras_resv2.pretrained_card("resnet20-cifar10@1") == published  # a copy of the same file
    content = json.loads((own / "card.json").read_text())
    (own / "card.json").write_text(json.dumps(content | {"sha256": "0" * 64}))
    with pytest.raises(ValueError, match=f"two files: this package's, and that in {own}"):
        keras_resv2.from_pretrained("resnet20-cifar10@1")
    assert keras_resv2.pretrained_card("resnet20-cifar10@2").version == 2


@dataclasses.dataclass(frozen=True)
class Highway(Shortcut):
    """A gate whose carry replaces the shortcut; the layers have names of their own."""

    name = "highway"

    def __call__(self, shortcut, branch, gate_input, strides, layers, name):
        gate = layers.gate(gate_input, branch, strides, 0.0, f"{name}_gate")
        carry = layers.rescaling(gate, -1.0, f"{name}_shortcut_carry", offset=1.0)
        return layers.multiply(carry, shortcut, f"{name}_shortcut_gated"), branch


def test_a_gate_of_the_users_own_is_saved(tmp_path):
    model = keras_resv2.ResNet(8, activation="full_preactivation", shortcut=Highway())
    save_weights(model, tmp_path / "weights.h5")
    keras_resv2.ResNet(8, activation="full_preactivation", shortcut=Highway(), weights=tmp_path / "weights.h5")
    with pytest.raises(ValueError, match="shortcut="):
        keras_resv2.ResNet(
            8, activation="full_preactivation", shortcut="exclusive_gating(bias=0)", weights=tmp_path / "weights.h5"
        )
