"""Weights from and to PyTorch: its networks, run by it, give the outputs that ours give."""

import json
import os
import pickle
import re
import sys
import zipfile

import keras
import numpy as np
import pytest

import keras_resv2
from helpers.comparing import RAW, SIZE, assert_same, images, outputs, randomised, run_torch, write_legacy
from helpers.paths import ROOT
from keras_resv2 import cli, convert
from keras_resv2.cli.convert import new_version
from keras_resv2.models.weights import model_arrays
from keras_resv2.storage import local as store
from keras_resv2.storage.checksum import sha256

PAGE = ROOT / "docs" / "convert.md"


@pytest.fixture(scope="module")
def torch(torchvision):
    return pytest.importorskip("torch", reason="PyTorch is not installed")


@pytest.fixture(scope="module")
def networks(torch):
    from helpers import torch_networks

    return torch_networks


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
            networks.CifarNetwork(units[1], 3, expansion=4, bottleneck=True, activated=True, **before),
            "preact_resnet29",
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
    x = images((27, 35))
    assert_same(outputs(ours, x), run_torch(torch, theirs.stages, x))


@pytest.mark.parametrize("name", ["resnet18", "resnetv2_18", "resnetv2_50"])
def test_stages_are_those_of_torchvision_and_timm(torch, networks, name):
    timm = pytest.importorskip("timm", reason="timm is not installed")
    theirs = networks.shaken(timm.create_model(name, num_classes=7))

    def stages(x):
        found = theirs.forward_intermediates(x, norm=False, intermediates_only=True)
        return {f"stage{number}": y for number, y in enumerate(found[1:], start=1)}, theirs(x)

    ours = convert.from_pytorch(theirs, **RAW, input_shape=(*SIZE, 3))
    assert_same(outputs(ours, images()), run_torch(torch, stages, images()))


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
    x = images((32, 32))
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
    with pytest.raises(ValueError, match=r"'B': for another, detect\(source, projection=...\)"):
        found.build(projection="A")
    assert all(np.array_equal(found.weights[name], plain.weights[name]) for name in plain.weights)


def test_without_classifier(networks):
    theirs, *_ = cifar(networks, "A")
    body = {name: value for name, value in theirs.state_dict().items() if not name.startswith("linear")}
    model = convert.from_pytorch(body, pooling="avg", input_shape=(32, 32, 3))
    whole = convert.from_pytorch(theirs.state_dict(), include_top=False, pooling="avg", input_shape=(32, 32, 3))
    with pytest.raises(ValueError, match="10 classes: for a new classifier"):
        convert.from_pytorch(theirs, classes=5)
    x = 50 * images((32, 32)) + 120
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
        "1 tensor is unexpected (extra.weight)",
        "layer1.1.conv1.weight is (32, 32, 3, 3), (16, 16, 3, 3) expected",
        "Nearest: resnet20",
    ):
        assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_names_of_the_file_are_in_the_message(networks):
    theirs, *_ = cifar(networks, "fc")
    state = theirs.state_dict() | {"layer1.0.downsample.7.weight": np.zeros(3)}
    with pytest.raises(ValueError, match=r"unexpected \(layer1.0.downsample.7.weight\)"):
        convert.from_pytorch(state)


def test_preactivation_without_the_last_bn_is_another_network(networks):
    theirs = networks.CifarNetwork(networks.PreActivation, first_bn=False, bottleneck=False, activated=True)
    with pytest.raises(ValueError, match=r"without the batch normalization after its last addition.*He et al. 2016"):
        convert.from_pytorch(theirs.state_dict())


def test_other_networks_are_refused():
    with pytest.raises(ValueError, match=r"none of the layouts.*features.0.weight"):
        convert.from_pytorch({"features.0.weight": np.zeros((64, 3, 3, 3))})
    with pytest.raises(ValueError, match="holds no tensors; its entries are epoch"):
        convert.from_pytorch({"epoch": 3})
    with pytest.raises(ValueError, match="architecture='resnet21' is not one of"):
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


class Shell(Trap):
    """Of a module that PyTorch names otherwise in its message."""

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_nested_dictionaries_have_an_end():
    nested = {"weight": np.zeros(1)}
    for _ in range(3000):
        nested = {"inner": nested}
    with pytest.raises(ValueError, match="dictionaries deep"):
        convert.detect(nested)


def test_an_archive_of_torchscript_is_named_as_such(torch, tmp_path):
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "script.pt")
    with pytest.raises(ValueError, match="TorchScript archive"):
        convert.from_pytorch(tmp_path / "script.pt")


def test_code_in_a_file_is_not_run(torch, tmp_path):
    torch.save({"state_dict": {}, "trap": Trap(tmp_path / "ran")}, tmp_path / "trap.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps({"trap": Trap(tmp_path / "ran")}, protocol=2))
    torch.save({"trap": Shell(tmp_path / "ran")}, tmp_path / "shell.pt")
    for name in ("trap.pt", "plain.pt", "shell.pt"):
        with pytest.raises(ValueError, match="Python objects besides tensors"):
            convert.from_pytorch(tmp_path / name)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name, words", [
    ("none.pth", "does not exist"),
    ("text.pth", "damaged or no PyTorch file"),
    ("page.pth", "damaged or no PyTorch file"),
    ("empty.pth", "damaged or no PyTorch file: EOFError"),
    ("empty.keras", "damaged or not HDF5"),
    ("other.keras", r"does not contain model\.weights\.h5"),
    ("text.safetensors", "damaged"),
    ("text.h5", "damaged or not HDF5"),
    ("text.txt", "none of the files that are read"),
])  # fmt: skip
def test_files_that_are_none(torch, tmp_path, name, words):
    pytest.importorskip("safetensors", reason="safetensors is not installed")
    for ending in ("pth", "safetensors", "h5", "txt"):
        (tmp_path / f"text.{ending}").write_text("neither one thing nor the other")
    (tmp_path / "page.pth").write_text("<!DOCTYPE html><html>Sign in</html>")
    for empty in ("empty.pth", "empty.keras"):
        (tmp_path / empty).touch()
    with zipfile.ZipFile(tmp_path / "other.keras", "w") as file:
        file.writestr("config.json", "{}")
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
    assert_same(ours.predict(images(), verbose=0), run_torch(torch, theirs.eval(), images()))


@pytest.mark.parametrize("rolled", [False, True])
def test_ours_in_cifar_code(torch, networks, tmp_path, rolled):
    pytest.importorskip("safetensors", reason="safetensors is not installed")
    ours = randomised(keras_resv2.ResNet20(**RAW, rolled=rolled))
    convert.save_pytorch(ours, tmp_path / "ours.safetensors", layout="cifar")
    from safetensors.torch import load_file

    theirs = networks.CifarNetwork(networks.Original, option="A", word="shortcut")
    theirs.load_state_dict(load_file(tmp_path / "ours.safetensors"), strict=True)
    x = images((32, 32))
    assert_same(ours.predict(x, verbose=0), run_torch(torch, theirs.eval(), x))
    again = convert.detect(tmp_path / "ours.safetensors")
    arrays = model_arrays(ours)
    assert again.weights.keys() == arrays.keys()
    assert all(np.array_equal(again.weights[name], arrays[name]) for name in arrays)


@pytest.mark.parametrize("arguments", [
    dict(activation="full_preactivation"),
    dict(activation="full_preactivation", activated_shortcuts="none", projection="B", preprocessing="tf"),
    dict(activation="full_preactivation", width=2, projection="A"),
    dict(preprocessing="caffe"),
])  # fmt: skip
def test_our_safetensors_say_what_tensors_do_not(arguments, tmp_path, pixels):
    """Which shortcuts are activated, and what pixels are normalized with."""
    pytest.importorskip("safetensors", reason="safetensors is not installed")
    ours = randomised(keras_resv2.ResNet(20, **arguments, classifier_activation=None))
    convert.save_pytorch(ours, tmp_path / "ours.safetensors", layout="cifar")
    found = convert.detect(tmp_path / "ours.safetensors")
    assert found.assumed == ()
    expected = ours.predict(pixels, verbose=0)
    assert_same(found.build(classifier_activation=None).predict(pixels, verbose=0), expected)
    other = convert.detect(tmp_path / "ours.safetensors", preprocessing=((0,) * 3, (255,) * 3))
    other = other.build(classifier_activation=None)
    assert np.abs(other.predict(pixels, verbose=0) - expected).max() > 0.1


@pytest.mark.parametrize("key, value, words", [
    ("layer1.0.conv1.weight", float("nan"), r"layer1\.0\.conv1\.weight has values that are not finite"),
    ("bn1.running_var", -1.0, r"bn1\.running_var has negative variances"),
])  # fmt: skip
def test_values_that_no_network_works_with_are_refused(networks, key, value, words):
    state = {name: tensor.clone() for name, tensor in cifar(networks, "A")[0].state_dict().items()}
    state[key].view(-1)[0] = value
    with pytest.raises(ValueError, match=words):
        convert.detect(state)


@pytest.mark.parametrize("arguments, layout, words", [
    (dict(depth=50, stride_on="1x1"), "torchvision", "have stride_on='3x3'; .* has stride_on='1x1'"),
    (dict(depth=50, activation="full_preactivation", stride_in="last"), "timm", "stride_in='first'"),
    (dict(depth=50, activation="full_preactivation", conv_bias=True), "timm", "conv_bias=False"),
    (dict(depth=18, activation="full_preactivation"), "timm", "activated_shortcuts='projections'"),
    (dict(depth=18, activation="full_preactivation"), "torchvision", "layouts that have: timm, cifar"),
    (dict(depth=18, stem="cifar"), "torchvision", "stem='imagenet'"),
    (dict(depth=8, shortcut="exclusive_gating"), "cifar", "shortcut='identity'"),
    (dict(depth=8, activation="relu_before_addition"), "cifar", "that have: none"),
    (dict(depth=8, output_stride=2), "cifar", "have output_stride=None; .* has output_stride=2"),
    (dict(depth=8), "caffe", "must be one of"),
    (dict(depth=8, activation="full_preactivation", shortcut="none"), "cifar", "shortcut='identity'"),
    (dict(depth=18, activation="full_preactivation", stem="imagenet_activated", conv_bias=True,
          activated_shortcuts="projections"), "pytorchcv", "conv_bias=False"),
])  # fmt: skip
def test_networks_that_a_library_has_not(arguments, layout, words):
    """Names and shapes of the weights would fit in most of these; the outputs would not."""
    with pytest.raises(ValueError, match=words):
        convert.to_pytorch(keras_resv2.ResNet(**arguments), layout)


def test_folded_networks_cannot_go_back():
    with pytest.raises(ValueError, match=r"pass the network before fold\(\)"):
        convert.to_pytorch(keras_resv2.fold(keras_resv2.ResNet(8)), "cifar")


def test_the_extension_of_a_pytorch_file(tmp_path):
    with pytest.raises(ValueError, match=r"the extension of path='.bin' must be one of '.safetensors'"):
        convert.save_pytorch(keras_resv2.ResNet(8), tmp_path / "w.bin", "cifar")


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
    x = 50 * images((32, 32)) + 120
    direct = convert.from_pytorch(checkpoint).predict(x, verbose=0)
    np.testing.assert_array_equal(keras_resv2.from_pretrained(folder).predict(x, verbose=0), direct)
    assert cli.main(arguments) == 0
    assert (out / "resnet20-cifar10" / "2" / "card.json").exists()
    capsys.readouterr()
    with new_version(out / "resnet20-cifar10") as other:  # as another process that is writing
        assert cli.main([*arguments, "--json"]) == 0
    assert other == 3 and json.loads(capsys.readouterr().out)["version"] == 4
    with pytest.raises(OSError, match="full"), new_version(out / "resnet20-cifar10"):
        raise OSError("full")
    assert sorted(path.name for path in (out / "resnet20-cifar10").iterdir()) == ["1", "2", "3", "4"]


def test_converted_weights_have_the_statistics_of_their_dataset(checkpoint, tmp_path, capsys):
    """Of CIFAR-10 the network has them anyway; what the file does not say is named."""
    (tmp_path / "names.txt").write_text("\n".join("abcdefghij"), encoding="utf-8-sig")  # as Windows may write it
    given = ["--dataset", "cifar100", "--classes", str(tmp_path / "names.txt"), "--out", str(tmp_path / "out")]
    assert cli.main(["convert", str(checkpoint), *given]) == 0
    text = capsys.readouterr().out
    assert "It was assumed (the file does not say) that pixels" in text and "the statistics of cifar100" in text
    card = keras_resv2.pretrained_card(str(tmp_path / "out/resnet20-cifar100/1"))
    assert card.class_names == tuple("abcdefghij")
    assert card.arguments["preprocessing"] == [[129.304, 124.07, 112.434], [68.17, 65.392, 70.418]]
    assert cli.main(["convert", str(checkpoint), *given, "--preprocessing", "torch"]) == 0
    card = keras_resv2.pretrained_card(str(tmp_path / "out/resnet20-cifar100/2"))
    assert card.arguments["preprocessing"] == "torch" and "statistics of cifar100" not in str(card.origin["assumed"])


def test_statistics_that_a_file_states_are_kept(tmp_path, capsys):
    """`--dataset` names the data; what the network was trained with is in the file."""
    pytest.importorskip("safetensors", reason="safetensors is not installed")
    ours = keras_resv2.ResNet(8, classes=100, preprocessing="tf")
    convert.save_pytorch(ours, tmp_path / "mine.safetensors", "cifar")
    given = ["convert", str(tmp_path / "mine.safetensors"), "--dataset", "cifar100", "--out", str(tmp_path / "out")]
    assert cli.main(given) == 0
    assert "assumed" not in capsys.readouterr().out
    card = keras_resv2.pretrained_card(str(tmp_path / "out/resnet8-cifar100/1"))
    assert np.allclose(card.arguments["preprocessing"], 127.5)


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
    (tmp_path / "names.txt").write_text("a\nb", encoding="utf-16")
    for arguments, words in (
        (["--architecture", "resnet56"], "It fits resnet20"),
        (["--name", "a/b"], "name of a folder"),
        (["--dataset", "imagenet"], "10 classes, 1000 names"),
        (["--preprocessing", "1,2/x"], "six numbers"),
        (["--classes", str(tmp_path / "names.txt")], "names.txt is not UTF-8"),
    ):
        assert cli.main(["convert", str(checkpoint), "--out", str(out), *arguments]) == cli.BAD_INPUT
        output = capsys.readouterr()
        assert words in output.err and output.err.count("\n") == 1 and output.out == ""
    assert not out.exists()
    with pytest.raises(FileNotFoundError, match=r"a weight folder is <name>/<version> with card\.json"):
        keras_resv2.from_pretrained(str(out / "resnet20-cifar10/1"))


def test_the_first_example_of_the_page(torch, torchvision, networks, tmp_path, monkeypatch):
    """The files that it names, made here; what goes out again is what came in."""
    pytest.importorskip("safetensors", reason="safetensors is not installed")
    monkeypatch.chdir(tmp_path)
    torch.save(torchvision.models.resnet18().state_dict(), "resnet18.pth")
    torch.save(cifar(networks, "A")[0].state_dict(), "checkpoint.pth")
    write_legacy(keras.applications.ResNet50(weights=None), "resnet50_weights_tf_dim_ordering_tf_kernels.h5")
    names = {}
    exec(re.search(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL).group(1), names)
    expected = torch.load("resnet18.pth")
    assert {key for key in expected if not key.endswith("num_batches_tracked")} == names["state"].keys()
    for key, array in names["state"].items():
        np.testing.assert_array_equal(array, expected[key].numpy())
    assert convert.detect("ours.safetensors").architecture == "resnet18"
