"""Weights from and to other libraries: their networks, run by them, give the outputs that ours give."""

import json
import pickle
import shutil
import sys

import h5py
import keras
import numpy as np
import pytest

import keras_resv2
from keras_resv2 import cli, convert
from keras_resv2.pretrained import store
from keras_resv2.pretrained.checksum import sha256
from keras_resv2.pretrained.weight_file import model_arrays

SIZE = (75, 101)  # odd: padding and strides that are off by one show
RAW = dict(include_preprocessing=False, classifier_activation=None)


@pytest.fixture(scope="module")
def torch(torchvision):
    return pytest.importorskip("torch", reason="PyTorch is not installed")


@pytest.fixture(scope="module")
def networks(torch):
    import torch_networks

    return torch_networks


def pictures(size=SIZE, count=2):
    return np.random.default_rng(1).normal(size=(count, *size, 3)).astype("float32")


def run_torch(torch, function, x):
    """What a PyTorch function gives for channels-last pictures, maps channels-last too."""
    with torch.no_grad():
        found = function(torch.from_numpy(x.transpose(0, 3, 1, 2).copy()))
    return keras.tree.map_structure(lambda y: y.numpy().transpose(0, 2, 3, 1) if y.ndim == 4 else y.numpy(), found)


def outputs(model, x):
    """Each stage's output, and the logits."""
    stages = keras_resv2.features(model)
    *found, logits = keras.Model(model.input, [*stages.output.values(), model.output]).predict(x, verbose=0)
    return dict(zip(stages.output, found, strict=True)), logits


def assert_same(ours, theirs):
    """Equal to 1e-4 of the largest value, or to 1e-4 where that is below 1."""
    ours, theirs = keras.tree.flatten(ours), keras.tree.flatten(theirs)
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-4 * max(1, np.abs(other).max()))


# PyTorch to Keras


def cifar(networks, kind):
    """Network, its architecture, and arguments that the file does not say."""
    units = networks.Original, networks.PreActivation
    before = dict(last_bn=True, first_bn=False)
    made = {
        "A": lambda: (networks.CifarNetwork(units[0], option="A", word="shortcut"), "resnet20", {}),
        "B": lambda: (networks.CifarNetwork(units[0], option="B", word="shortcut"), "resnet20", {}),
        "fc": lambda: (
            networks.CifarNetwork(units[0], 5, option="B", word="downsample", classifier="fc"),
            "resnet32",
            {},
        ),
        "preactivation": lambda: (
            networks.CifarNetwork(units[1], bottleneck=False, activated=True, **before),
            "preact_resnet20",
            {},
        ),
        "unshared": lambda: (
            networks.CifarNetwork(units[1], bottleneck=False, activated=False, **before),
            "preact_resnet20",
            {"activated_shortcuts": "none"},
        ),
        "bottleneck": lambda: (
            networks.CifarNetwork(units[1], 18, expansion=4, bottleneck=True, activated=True, **before),
            "preact_resnet164",
            {},
        ),
    }[kind]
    network, *rest = made()
    return networks.shaken(network), *rest


@pytest.mark.parametrize("kind", ["A", "B", "fc", "preactivation", "unshared", "bottleneck"])
def test_cifar_code_gives_the_same_outputs(torch, networks, kind):
    theirs, architecture, arguments = cifar(networks, kind)
    options = dict(RAW, input_shape=(27, 35, 3), rolled=kind == "bottleneck")
    ours = convert.from_pytorch(theirs.state_dict(), **arguments, **options)
    assert convert.detect(theirs.state_dict()).architecture == architecture
    x = pictures((27, 35))
    assert_same(outputs(ours, x), run_torch(torch, theirs.stages, x))


@pytest.mark.parametrize("name", ["resnet18", "resnetv2_18", "resnetv2_50"])
def test_stages_are_those_of_torchvision_and_timm(torch, networks, name):
    timm = pytest.importorskip("timm", reason="timm is not installed")
    theirs = networks.shaken(timm.create_model(name, num_classes=7))

    def stages(x):
        found = theirs.forward_intermediates(x, norm=False, intermediates_only=True)
        return {f"stage{number}": y for number, y in enumerate(found[1:], start=1)}, theirs(x)

    ours = convert.from_pytorch(theirs, **RAW, input_shape=(*SIZE, 3))
    assert_same(outputs(ours, pictures()), run_torch(torch, stages, pictures()))


@pytest.mark.parametrize("name", ["resnet34", "resnet101", "resnet152"])
def test_torchvision_networks_are_detected(torchvision, name):
    found = convert.detect(torchvision.models.get_model(name, weights=None).state_dict())
    assert (found.layout, found.architecture, found.arguments, found.classes) == ("torchvision", name, {}, 1000)


def test_a_cifar_stem_on_imagenet_stages(torch, networks, torchvision):
    """kuangliu's ResNet18: torchvision's stages behind a 3x3 convolution, with other names."""
    theirs = networks.shaken(torchvision.models.resnet18(num_classes=10))
    theirs.conv1 = torch.nn.Conv2d(3, 64, 3, 1, 1, bias=False)
    theirs.maxpool = torch.nn.Identity()
    state = {
        name.replace("downsample", "shortcut").replace("fc.", "linear."): v for name, v in theirs.state_dict().items()
    }
    found = convert.detect(state)
    assert (found.architecture, found.arguments) == ("resnet18", {"stem": "cifar"})
    x = pictures((32, 32))
    assert_same(found.build(**RAW).predict(x, verbose=0), run_torch(torch, theirs, x))


@pytest.mark.parametrize("wrap", [
    lambda state: {"state_dict": {f"module.{name}": value for name, value in state.items()}, "epoch": 3},
    lambda state: {"net": {f"_orig_mod.module.{name}": value for name, value in state.items()}, "acc": 92.1},
    lambda state: {"model_state_dict": state, "optimizer": {"state": {}}},
    lambda state: {"n_averaged": state["bn1.num_batches_tracked"], **{f"module.{k}": v for k, v in state.items()}},
    lambda state: {f"model.{name}": value.double() for name, value in state.items()},
])  # fmt: skip
def test_checkpoints_are_unwrapped(networks, wrap, torch, tmp_path):
    theirs, *_ = cifar(networks, "B")
    torch.save(wrap(theirs.state_dict()), tmp_path / "checkpoint.pth")
    found = convert.detect(tmp_path / "checkpoint.pth")
    plain = convert.detect(theirs.state_dict())
    assert found.architecture == "resnet20" and found.arguments == {"projection": "B"}
    assert all(np.array_equal(found.weights[name], plain.weights[name]) for name in plain.weights)


def test_without_classifier(networks):
    theirs, *_ = cifar(networks, "A")
    body = {name: value for name, value in theirs.state_dict().items() if not name.startswith("linear")}
    model = convert.from_pytorch(body, pooling="avg", input_shape=(32, 32, 3))
    whole = convert.from_pytorch(theirs.state_dict(), include_top=False, pooling="avg", input_shape=(32, 32, 3))
    with pytest.raises(ValueError, match="10 classes: for a new classifier"):
        convert.from_pytorch(theirs, classes=5)
    x = 50 * pictures((32, 32)) + 120
    assert model.output_shape == (None, 64)
    np.testing.assert_array_equal(model.predict(x, verbose=0), whole.predict(x, verbose=0))


def test_preprocessing_is_part_of_the_model(networks, torch):
    theirs, *_ = cifar(networks, "A")
    mean, std = np.array([125.3, 123.0, 113.9], "float32"), np.array([51.6, 50.8, 51.2], "float32")
    ours = convert.from_pytorch(theirs, preprocessing=(mean.tolist(), std.tolist()), classifier_activation=None)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype("float32")
    assert_same(ours.predict(pixels, verbose=0), run_torch(torch, theirs, (pixels - mean) / std))


# Files that do not fit


def test_misfits_name_tensors_and_the_nearest_architecture(networks):
    theirs, *_ = cifar(networks, "B")
    state = theirs.state_dict()
    with pytest.raises(
        ValueError, match=r"does not fit resnet32: 60 tensors are missing \(layer1.3.conv1.weight.* fits"
    ):
        convert.from_pytorch(state, "resnet32")
    with pytest.raises(ValueError, match=r"another order of BN and ReLU. It fits resnet20\."):
        convert.from_pytorch(state, "preact_resnet20")
    del state["layer3.2.bn2.running_mean"]
    state["extra.weight"] = state["linear.weight"]
    state["layer1.1.conv1.weight"] = state["layer2.1.conv1.weight"]
    with pytest.raises(ValueError) as error:
        convert.from_pytorch(state)
    for words in (
        "1 tensor is missing (layer3.2.bn2.running_mean)",
        "1 tensor is left over (extra.weight)",
        "layer1.1.conv1.weight is (32, 32, 3, 3), (16, 16, 3, 3) expected",
        "Nearest: resnet20",
    ):
        assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_names_of_the_file_are_in_the_message(networks):
    theirs, *_ = cifar(networks, "fc")
    state = theirs.state_dict() | {"layer1.0.downsample.7.weight": np.zeros(3)}
    with pytest.raises(ValueError, match=r"left over \(layer1.0.downsample.7.weight\)"):
        convert.from_pytorch(state)


def test_preactivation_without_the_last_bn_is_another_network(networks):
    theirs = networks.CifarNetwork(networks.PreActivation, first_bn=False, bottleneck=False, activated=True)
    with pytest.raises(ValueError, match=r"without the batch normalisation after its last addition.*He et al. 2016"):
        convert.from_pytorch(theirs.state_dict())


def test_other_networks_are_refused():
    with pytest.raises(ValueError, match=r"none of the layouts.*features.0.weight"):
        convert.from_pytorch({"features.0.weight": np.zeros((64, 3, 3, 3))})
    with pytest.raises(ValueError, match="holds no tensors; its entries are epoch"):
        convert.from_pytorch({"epoch": 3})
    with pytest.raises(ValueError, match="architecture='resnet21' is none"):
        convert.from_pytorch({"conv1.weight": np.zeros(3)}, "resnet21")
    with pytest.raises(ValueError, match="none of the layouts"):
        convert.from_pytorch({"conv1.weight": np.zeros(3)})


# Reading files


class Trap:
    """Unpickled, it leaves a file behind."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def test_code_in_a_file_is_not_run(torch, tmp_path):
    torch.save({"state_dict": {}, "trap": Trap(tmp_path / "ran")}, tmp_path / "trap.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps({"trap": Trap(tmp_path / "ran")}, protocol=2))
    for name in ("trap.pt", "plain.pt"):
        with pytest.raises(ValueError, match="Python objects besides tensors"):
            convert.from_pytorch(tmp_path / name)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name, words", [
    ("none.pth", "does not exist"),
    ("text.pth", "damaged or no PyTorch file|Python objects"),
    ("text.safetensors", "damaged"),
    ("text.h5", "damaged or not HDF5"),
    ("text.txt", "none of the endings"),
])  # fmt: skip
def test_files_that_are_none(torch, tmp_path, name, words):
    pytest.importorskip("safetensors", reason="safetensors is not installed")
    for ending in ("pth", "safetensors", "h5", "txt"):
        (tmp_path / f"text.{ending}").write_text("neither one thing nor the other")
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        convert.detect(tmp_path / name)


def test_our_own_weight_file_is_named_as_such(tmp_path):
    path = store.weight_path(keras_resv2.pretrained_card("resnet20-cifar10"))
    with pytest.raises(ValueError, match="weight file of this package"):
        convert.detect(path)


@pytest.mark.parametrize("module, ending", [("torch", "pth"), ("safetensors", "safetensors")])
def test_missing_packages_are_named(monkeypatch, tmp_path, module, ending):
    (tmp_path / f"x.{ending}").write_text("")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=f"pip install {module}"):
        convert.detect(tmp_path / f"x.{ending}")


# Keras to PyTorch


@pytest.mark.parametrize("library, architecture", [("torchvision", "resnet18"), ("timm", "preact_resnet50")])
def test_ours_in_their_networks(torch, torchvision, library, architecture, tmp_path):
    ours = randomised(keras_resv2.build(architecture, classes=7, **RAW, input_shape=(*SIZE, 3)))
    convert.save_pytorch(ours, tmp_path / "ours.pt", layout=library)
    if library == "timm":
        timm = pytest.importorskip("timm", reason="timm is not installed")
        theirs = timm.create_model("resnetv2_50", num_classes=7)
    else:
        theirs = torchvision.models.resnet18(num_classes=7)
    theirs.load_state_dict(torch.load(tmp_path / "ours.pt", weights_only=True), strict=True)
    assert_same(ours.predict(pictures(), verbose=0), run_torch(torch, theirs.eval(), pictures()))


@pytest.mark.parametrize("rolled", [False, True])
def test_ours_in_cifar_code(torch, networks, tmp_path, rolled):
    pytest.importorskip("safetensors", reason="safetensors is not installed")
    ours = randomised(keras_resv2.ResNet20(**RAW, rolled=rolled))
    convert.save_pytorch(ours, tmp_path / "ours.safetensors", layout="cifar")
    from safetensors.torch import load_file

    theirs = networks.CifarNetwork(networks.Original, option="A", word="shortcut")
    theirs.load_state_dict(load_file(tmp_path / "ours.safetensors"), strict=True)
    x = pictures((32, 32))
    assert_same(ours.predict(x, verbose=0), run_torch(torch, theirs.eval(), x))
    again = convert.detect(tmp_path / "ours.safetensors")
    arrays = model_arrays(ours)
    assert again.weights.keys() == arrays.keys()
    assert all(np.array_equal(again.weights[name], arrays[name]) for name in arrays)


@pytest.mark.parametrize("arguments, layout, words", [
    (dict(depth=50, stride_on="1x1"), "torchvision", "have stride_on='3x3'; .* has stride_on='1x1'"),
    (dict(depth=50, activation="full_preactivation", stride_in="last"), "timm", "stride_in='first'"),
    (dict(depth=50, activation="full_preactivation", conv_bias=True), "timm", "conv_bias=False"),
    (dict(depth=18, activation="full_preactivation"), "timm", "activated_shortcuts='projections'"),
    (dict(depth=18, activation="full_preactivation"), "torchvision", "layouts that have: timm, cifar"),
    (dict(depth=18, stem="cifar"), "torchvision", "stem='imagenet'"),
    (dict(depth=8, shortcut="exclusive_gating"), "cifar", "shortcut='identity'"),
    (dict(depth=8, activation="relu_before_addition"), "cifar", "that have: none"),
    (dict(depth=8), "caffe", "must be one of"),
])  # fmt: skip
def test_networks_that_a_library_has_not(arguments, layout, words):
    """Names and shapes of the weights would fit in most of these; the outputs would not."""
    with pytest.raises(ValueError, match=words):
        convert.to_pytorch(keras_resv2.ResNet(**arguments), layout)


def test_folded_networks_cannot_go_back():
    with pytest.raises(ValueError, match="give the one as built"):
        convert.to_pytorch(keras_resv2.fold(keras_resv2.ResNet(8)), "cifar")


# keras.applications


def randomised(model, seed=0):
    """Random weights of a scale at which activations neither vanish nor grow."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        shape = tuple(weight.shape)
        if weight.name == "kernel":
            weight.assign(rng.normal(0, np.sqrt(1 / np.prod(shape[:-1])), shape))
        elif "variance" in weight.name or weight.name == "gamma":
            weight.assign(rng.uniform(0.3, 0.7, shape))
        else:
            weight.assign(rng.normal(0, 0.3, shape))
    return model


def write_legacy(model, path):
    """A weight file of keras.applications: names as of TensorFlow, the classifier called "probs"."""
    with h5py.File(path, "w") as file:
        rename = {"predictions": "probs"}
        file.attrs["layer_names"] = [rename.get(layer.name, layer.name).encode() for layer in model.layers]
        for layer in model.layers:
            name = rename.get(layer.name, layer.name)
            group = file.create_group(name)
            group.attrs["weight_names"] = [f"{name}/{weight.name}:0".encode() for weight in layer.weights]
            for weight in layer.weights:
                group[f"{name}/{weight.name}:0"] = keras.ops.convert_to_numpy(weight)


@pytest.fixture(scope="module", params=["ResNet50", "ResNet50V2"])
def application(request, tmp_path_factory):
    """A network of keras.applications on odd pictures, its preprocessing, and its weights in three forms."""
    theirs = getattr(keras.applications, request.param)
    module = keras.applications.resnet if request.param == "ResNet50" else keras.applications.resnet_v2
    model = randomised(theirs(weights=None, input_shape=(*SIZE, 3), classes=7, classifier_activation=None))
    folder = tmp_path_factory.mktemp("applications")
    write_legacy(model, folder / "legacy.h5")
    model.save_weights(folder / "keras3.weights.h5")
    return model, module.preprocess_input, folder


def test_keras_applications_gives_the_same_outputs(application):
    """Logits and every stage, from raw pixels."""
    theirs, preprocess, _ = application
    pixels = np.random.default_rng(0).integers(0, 256, (2, *SIZE, 3)).astype("float32")
    ours = convert.from_keras_applications(theirs, input_shape=(*SIZE, 3), classifier_activation=None)
    ends = {f"stage{s}": [x for x in theirs.layers if x.name.startswith(f"conv{s + 1}_")][-1] for s in range(1, 5)}
    both = keras.Model(theirs.input, [*(layer.output for layer in ends.values()), theirs.output])
    *stages, logits = both.predict(preprocess(pixels.copy()), verbose=0)
    assert_same(outputs(ours, pixels), (dict(zip(ends, stages, strict=True)), logits))


def test_files_of_keras_applications_are_their_models(application):
    theirs, _, folder = application
    expected = convert.detect(theirs)
    assert expected.architecture == ("resnet50" if theirs.name == "resnet50" else "preact_resnet50")
    for name in ("legacy.h5", "keras3.weights.h5"):
        found = convert.detect(folder / name)
        assert (found.architecture, found.arguments, found.classes) == (
            expected.architecture,
            expected.arguments,
            expected.classes,
        )
        assert all(np.array_equal(found.weights[key], expected.weights[key]) for key in expected.weights)


def test_the_deepest_of_keras_applications_is_detected():
    theirs = keras.applications.ResNet152V2(weights=None, include_top=False)
    found = convert.detect(theirs)
    assert (found.architecture, found.classes) == ("preact_resnet152", None)


def test_other_keras_applications_are_refused():
    with pytest.raises(ValueError, match="none of the layouts"):
        convert.from_keras_applications(keras.applications.MobileNet(weights=None, include_top=False))


# How networks are arranged


@pytest.mark.parametrize("depth, activation", [(20, "full_preactivation"), (29, "original")])
def test_rolled_networks_with_the_stride_in_the_last_unit(depth, activation):
    arguments = dict(activation=activation, stride_in="last", conv_bias=True, classifier_activation=None)
    plain = randomised(keras_resv2.ResNet(depth, **arguments))
    rolled = keras_resv2.ResNet(depth, **arguments, rolled=True, weights=model_arrays(plain))
    assert [layer.name for layer in rolled.layers if "_to_" in layer.name] == ["stage3_unit2_to_3"]
    x = pictures((32, 32))
    assert_same(outputs(rolled, x), outputs(plain, x))
    assert [y.shape[1] for y in outputs(plain, x)[0].values()] == [16, 8, 8]


@pytest.mark.parametrize("arguments, words", [
    (dict(preprocessing="imagenet"), "'torch'"),
    (dict(preprocessing=((1, 2), (3, 4))), "three numbers"),
    (dict(preprocessing=((1, 2, 3), (1, 1, 0))), "std above 0"),
    (dict(stride_in="middle"), "'first', 'last'"),
    (dict(activated_shortcuts="all"), "'projections'"),
])  # fmt: skip
def test_arrangements_that_are_none(arguments, words):
    with pytest.raises(ValueError, match=words):
        keras_resv2.ResNet(8, **arguments)


# Weight folders


@pytest.fixture
def checkpoint(networks, torch, tmp_path):
    theirs, *_ = cifar(networks, "B")
    torch.save({"state_dict": theirs.state_dict()}, tmp_path / "model_best.pth")
    return tmp_path / "model_best.pth"


def test_the_command_makes_a_weight_folder(checkpoint, tmp_path, capsys):
    out = tmp_path / "converted"
    arguments = ["convert", str(checkpoint), "--architecture", "resnet20", "--dataset", "cifar10", "--out", str(out)]
    assert cli.main(arguments) == 0
    text = capsys.readouterr().out
    folder = out / "resnet20-cifar10" / "1"
    assert str(folder) in text and "not measured" in text and "preprocessing=(mean, std)" in text
    card = keras_resv2.pretrained_card(str(folder))
    assert card.origin["file"] == "model_best.pth" and card.origin["sha256"] == sha256(checkpoint)
    assert card.origin["layout"] == "cifar" and card.test_error is None and card.arguments == {"projection": "B"}
    assert card.sha256 == sha256(folder / "weights.h5") and card.class_names[0] == "airplane"
    assert card.parameters == sum(np.prod(w.shape) for w in keras_resv2.ResNet20(projection="B").trainable_weights)
    x = 50 * pictures((32, 32)) + 120
    direct = convert.from_pytorch(checkpoint).predict(x, verbose=0)
    np.testing.assert_array_equal(keras_resv2.from_pretrained(folder).predict(x, verbose=0), direct)
    assert cli.main(arguments) == 0
    assert (out / "resnet20-cifar10" / "2" / "card.json").exists()


def test_commands_take_the_folder(checkpoint, tmp_path, capsys, monkeypatch):
    out = tmp_path / "home" / "weights"
    cli.main(["convert", str(checkpoint), "--name", "mine", "--dataset", "cifar10", "--out", str(out), "--json"])
    folder = json.loads(capsys.readouterr().out)["folder"]
    assert cli.main(["summary", folder]) == 0
    text = capsys.readouterr().out
    assert "not measured" in text and "None" not in text
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (40, 32, 32, 3), dtype="uint8"), rng.integers(0, 10, 40, dtype="uint8")
    np.savez(tmp_path / "tiny.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    assert cli.main(["evaluate", folder, "--data_dir", str(tmp_path / "tiny.npz"), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    predicted = keras_resv2.from_pretrained("mine").predict(images, verbose=0).argmax(1)  # in the cache: by name too
    assert result["measured_error"] == 100 * np.mean(predicted != labels) and result["card_error"] is None
    assert cli.main(["list"]) == 0
    assert "mine" in capsys.readouterr().out


def test_a_file_that_does_not_fit_leaves_nothing(checkpoint, tmp_path, capsys):
    out = tmp_path / "converted"
    for arguments, words in (
        (["--architecture", "resnet56"], "It fits resnet20"),
        (["--name", "a/b"], "name of a folder"),
        (["--dataset", "imagenet"], "10 classes, 1000 names"),
        (["--preprocessing", "1,2/x"], "six numbers"),
    ):
        assert cli.main(["convert", str(checkpoint), "--out", str(out), *arguments]) == cli.BAD_INPUT
        output = capsys.readouterr()
        assert words in output.err and output.err.count("\n") == 1 and output.out == ""
    assert not out.exists()
    with pytest.raises(FileNotFoundError, match=r"holds card\.json"):
        keras_resv2.from_pretrained(str(out / "resnet20-cifar10/1"))


# Weights that keras.applications publishes


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A network of keras.applications, and its weights as a published file."""
    theirs = randomised(keras.applications.ResNet50(weights=None))
    path = tmp_path_factory.mktemp("published") / "theirs.h5"
    write_legacy(theirs, path)
    return theirs, path


@pytest.fixture
def publisher(published, tmp_path, monkeypatch, server):
    """A published weight file and class index on the loopback address, and the package's card that names them."""
    theirs, weights = published
    index = tmp_path / "index.json"
    index.write_text(json.dumps({str(i): [f"n{i:08}", f"thing{i}"] for i in range(1000)}))
    server.files = {"/resnet50.h5": weights.read_bytes(), "/index.json": index.read_bytes()}
    source = next(folder for folder in store.weight_folders() if folder.name == "published")
    shutil.copytree(source / "resnet50-imagenet", tmp_path / "published" / "resnet50-imagenet")
    path = tmp_path / "published/resnet50-imagenet/1/card.json"
    card = json.loads(path.read_text())
    card["origin"] |= {"url": f"{server.root}/resnet50.h5", "md5": md5(weights)}
    card["class_index"] |= {"url": f"{server.root}/index.json", "md5": md5(index)}
    path.write_text(json.dumps(card))
    monkeypatch.setattr(store, "weight_folders", lambda: [store.home() / "weights", tmp_path / "published"])
    return theirs


def md5(path):
    import hashlib

    return hashlib.md5(path.read_bytes()).hexdigest()


def test_published_weights_are_fetched_and_converted_once(publisher, server):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3)).astype("float32")
    ours = keras_resv2.from_pretrained("resnet50-imagenet").predict(pixels, verbose=0)
    theirs = publisher.predict(keras.applications.resnet.preprocess_input(pixels.copy()), verbose=0)
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-6)
    assert server.requests == ["/resnet50.h5"]
    card = keras_resv2.pretrained_card("resnet50-imagenet")
    assert card.folder.is_relative_to(store.home()) and card.test_error is None and "MIT" in card.license
    assert card.origin["file"] == "resnet50_weights_tf_dim_ordering_tf_kernels.h5" and card.origin["md5"]
    assert sorted(path.suffix for path in card.folder.iterdir() if path.suffix != ".lock") == [".h5", ".json"]
    keras_resv2.from_pretrained("resnet50-imagenet", include_top=False)
    decoded = keras_resv2.decode_predictions(theirs, "resnet50-imagenet", top=3)
    best = np.argsort(-theirs, axis=1)[:, :3]
    assert [[name for name, _ in row] for row in decoded] == [[f"thing{i}" for i in row] for row in best]
    assert decoded[0][0][1] == pytest.approx(theirs[0].max())
    keras_resv2.decode_predictions(theirs, card)
    assert server.requests == ["/resnet50.h5", "/index.json"]


def test_published_cards_are_those_of_keras_applications():
    """Addresses, sums and what the network is: against the installed library's source."""
    source = pytest.importorskip("keras.src.applications.resnet", reason="this Keras keeps its tables elsewhere")
    names = [name for name in keras_resv2.list_pretrained() if name.endswith("-imagenet")]
    assert len(names) == 6
    for name in names:
        card = keras_resv2.pretrained_card(name)
        theirs = card.architecture.removeprefix("preact_") + ("v2" if "preact" in name else "")
        assert card.origin["md5"] == source.WEIGHTS_HASHES[theirs][0]
        assert card.origin["url"] == f"{source.BASE_WEIGHTS_PATH}{theirs}_weights_tf_dim_ordering_tf_kernels.h5"
        assert len(card.class_names) == 1000 and card.test_error is None


def test_another_file_than_the_published_one_is_refused(publisher, server):
    server.files["/resnet50.h5"] += b"?"
    with pytest.raises(ValueError, match="not the file expected"):
        keras_resv2.from_pretrained("resnet50-imagenet")
    server.files = {}
    with pytest.raises(ConnectionError, match="404"):
        keras_resv2.decode_predictions(np.zeros((1, 1000)), "resnet50-imagenet")


def test_decoding_predictions_of_our_own_networks():
    probabilities = np.eye(10)[[3, 9]] * 0.5 + 0.05
    decoded = keras_resv2.decode_predictions(probabilities, "resnet20-cifar10", top=2)
    assert [row[0] for row in decoded] == [("cat", pytest.approx(0.55)), ("truck", pytest.approx(0.55))]
    assert [len(row) for row in decoded] == [2, 2]
    with pytest.raises(ValueError, match=r"\(pictures, 10\), not \(2, 5\)"):
        keras_resv2.decode_predictions(probabilities[:, :5], "resnet20-cifar10")
    with pytest.raises(ValueError, match="top=0"):
        keras_resv2.decode_predictions(probabilities, "resnet20-cifar10", top=0)


@pytest.fixture
def server():
    """Serves `files` by path on the loopback address, and lists what was asked for."""
    import http.server
    import threading

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.requests.append(self.path)
            content = self.server.files.get(self.path)
            if content is None:
                return self.send_error(404)
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.files, server.requests, server.root = {}, [], f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()
