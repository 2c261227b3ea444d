"""Networks of Hugging Face and KerasHub, and CIFAR code of other spellings, give the outputs that ours give."""

import hashlib
import json
import re
import zipfile

import h5py
import keras
import numpy as np
import pytest

from helpers.comparing import RAW, assert_same, images, randomised, run_torch
from keras_resv2 import convert

# Hugging Face


@pytest.fixture(scope="module")
def networks():
    pytest.importorskip("torch", reason="PyTorch is not installed")
    from helpers import torch_networks

    return torch_networks


@pytest.mark.parametrize("options, arguments", [
    ({}, {}),
    ({"units": (3, 4, 6, 3), "bottleneck": True, "first_strided": True}, {"stride_on": "1x1"}),
])  # fmt: skip
def test_hugging_face(networks, options, arguments):
    """A stand-in with its names; `downsample_in_bottleneck` puts the stride on the first convolution."""
    import torch

    theirs, x = networks.shaken(networks.HuggingFaceResNet(**options)), images((45, 64))
    found = convert.detect(theirs.state_dict(), **arguments)
    depth = 50 if options else 18
    assert (found.layout, found.architecture, found.classes) == ("huggingface", f"resnet{depth}", 5)
    ours = found.build(**RAW, input_shape=(45, 64, 3), rolled=True)
    assert_same(ours.predict(x, verbose=0), run_torch(torch, theirs, x))
    body = {name: value for name, value in theirs.state_dict().items() if name.startswith("resnet.")}
    for prefix in ("", "resnet."):  # `ResNetModel` has no "resnet."
        assert convert.detect({name.removeprefix(prefix): value for name, value in body.items()}).classes is None


@pytest.mark.parametrize("says, stride_on", [(True, "1x1"), (False, None), (None, None)])
def test_the_configuration_beside_the_file_says_the_stride(networks, says, stride_on, tmp_path):
    save = pytest.importorskip("safetensors.torch", reason="safetensors is not installed").save_file
    theirs = networks.HuggingFaceResNet((3, 4, 6, 3), bottleneck=True)
    save(theirs.state_dict(), tmp_path / "model.safetensors")
    config = {"model_type": "resnet", "downsample_in_bottleneck": says}
    if says is not None:
        (tmp_path / "config.json").write_text(json.dumps(config))
    assert convert.detect(tmp_path / "model.safetensors").arguments.get("stride_on") == stride_on
    (tmp_path / "config.json").write_text(json.dumps({**config, "downsample_in_first_stage": True}))
    with pytest.raises(ValueError, match="its first stage halves the image"):
        convert.detect(tmp_path / "model.safetensors")


def test_a_configuration_beside_nothing_says_nothing(networks, tmp_path, monkeypatch):
    """A dictionary of tensors is in no folder."""
    theirs = networks.HuggingFaceResNet((3, 4, 6, 3), bottleneck=True)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "resnet", "downsample_in_bottleneck": True}))
    monkeypatch.chdir(tmp_path)
    assert "stride_on" not in convert.detect(theirs.state_dict()).arguments


# KerasHub


def test_keras_hub():
    """A classifier with its backbone as a model inside; in every form that KerasHub saves."""
    hub = pytest.importorskip("keras_hub", reason="keras_hub is not installed")
    backbone = hub.models.ResNetBackbone(
        [64], [7], [64, 128, 256, 512], [2, 2, 2, 2], [1, 2, 2, 2], "basic_block", use_pre_activation=True
    )
    theirs, x = randomised(hub.models.ResNetImageClassifier(backbone, num_classes=5)), images((45, 64))
    ours = convert.from_keras_applications(theirs, **RAW, input_shape=(45, 64, 3))
    assert_same(ours.predict(x, verbose=0), theirs.predict(x, verbose=0))


def test_keras_hub_by_names(tmp_path):
    """Its names on a network of ours, where KerasHub is not installed: the backbone inside, the classifier beside."""
    from keras_resv2 import ResNet
    from keras_resv2.convert.layouts import keras_hub
    from keras_resv2.models.weights import model_arrays

    for layout, activation in ((keras_hub.V1, "original"), (keras_hub.V2, "full_preactivation")):
        arrays = model_arrays(ResNet(50, activation=activation, classes=5))
        theirs = {layout.key(name): array for name, array in arrays.items()}
        inside = {k if k.startswith("predictions") else f"res_net_backbone/{k}": v for k, v in theirs.items()}
        found = convert.detect(inside)
        assert (found.layout, found.classes) == (layout.name, 5)
        assert found.weights.keys() == arrays.keys()
        assert all(np.array_equal(found.weights[name], arrays[name]) for name in arrays)
        assert convert.detect({k: v for k, v in theirs.items() if "predictions" not in k}).classes is None
    assert keras_hub.layer("stage2_unit3_conv1") == "stack1_block2_1_conv"


@pytest.fixture(scope="module")
def resnet18():
    """Arrays of a ResNet-18 by KerasHub's names."""
    from keras_resv2 import ResNet
    from keras_resv2.convert.layouts.keras_hub import V1
    from keras_resv2.models.weights import model_arrays

    return {V1.key(name): array for name, array in model_arrays(ResNet(18, include_top=False)).items()}


STATISTICS = ("gamma", "beta", "moving_mean", "moving_variance")


@pytest.mark.parametrize("folder", ["", "res_net_backbone/"])
def test_keras_hub_with_a_deep_stem(resnet18, folder):
    """The names and shapes of `resnet_vd_18_imagenet`: three convolutions, and a projection in every first unit."""
    arrays = {name: array for name, array in resnet18.items() if not name.startswith("conv1_")}
    for number, (inputs, outputs) in enumerate([(3, 32), (32, 32), (32, 64)], 1):
        arrays[f"conv{number}_conv/kernel"] = np.zeros((3, 3, inputs, outputs), "float32")
        arrays |= {f"conv{number}_bn/{name}": np.ones(outputs, "float32") for name in STATISTICS}
    arrays["stack0_block0_0_conv/kernel"] = np.zeros((1, 1, 64, 64), "float32")
    arrays |= {f"stack0_block0_0_bn/{name}": np.ones(64, "float32") for name in STATISTICS}
    with pytest.raises(ValueError, match=r"deep stem .*`resnet_vd`.*average before .*no such networks are read\.$"):
        convert.detect({folder + name: array for name, array in arrays.items()})


def saved(arrays, path, name, config):
    """Writes a model as Keras 3 does, from its arrays and the configuration of its backbone; returns the path."""
    config = {"class_name": "ResNetBackbone", "config": config}
    if name == "classifier":
        config = {"class_name": "ResNetImageClassifier", "config": {"backbone": config, "num_classes": 5}}
    weights = path.with_suffix(".h5")
    with h5py.File(weights, "w") as file:
        for layer in dict.fromkeys(key.partition("/")[0] for key in arrays):
            group = file.create_group(f"layers/{layer}/vars")
            group.attrs["name"] = layer
            kinds = STATISTICS if f"{layer}/gamma" in arrays else ("kernel",)
            for number, kind in enumerate(kinds):
                group[str(number)] = arrays[f"{layer}/{kind}"]
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(weights, "model.weights.h5")
        archive.writestr("config.json", json.dumps(config))
    return path


@pytest.mark.parametrize("name", ["backbone", "classifier"])
@pytest.mark.parametrize("changes, words", [
    ({}, "Nearest: resnet18"),
    ({"block_type": "basic_block_vd"}, "average before their projections"),
    ({"stackwise_num_strides": [1, 2, 1, 1]}, r"stackwise_num_strides=\[1, 2, 1, 1\]"),
])  # fmt: skip
def test_keras_hub_networks_that_only_the_configuration_tells(resnet18, changes, words, name, tmp_path):
    """Saved models with the arguments that KerasHub 0.32 writes; for time, only the first tensors of ResNet-18."""
    arguments = {"block_type": "basic_block", "stackwise_num_strides": [1, 2, 2, 2], **changes}
    first = {key: array for key, array in resnet18.items() if key.startswith(("conv1_", "stack0_block0_"))}
    with pytest.raises(ValueError, match=words):
        convert.detect(saved(first, tmp_path / "saved.keras", name, arguments))


# Spellings of CIFAR code


SPELLINGS = {
    "CIFAR-ZOO": ((r"^(conv|bn)1\.", r"\1_1."), (r"layer(\d)\.", r"stage_\1."), (r"\.(conv|bn)(\d)\.", r".\1_\2."),
                  (r"shortcut", "downsample"), (r"^linear", "fc")),
    "ResNeXt-DenseNet": ((r"^conv1\.", "conv_1_3x3."), (r"^bn1\.", "bn_1."), (r"layer(\d)\.", r"stage_\1."),
                         (r"\.(conv|bn)1\.", r".\1_a."), (r"\.(conv|bn)2\.", r".\1_b."), (r"^linear", "classifier")),
    "conv and bn": ((r"^(conv|bn)1\.", r"\1."),),
}  # fmt: skip


@pytest.mark.parametrize("name", SPELLINGS)
def test_spellings_of_cifar_code(networks, name):
    import torch

    module = networks.CifarNetwork(networks.Original, 1, option="B", word="shortcut")
    state = networks.shaken(module).state_dict()
    spelled = {}
    for key, value in state.items():
        for pattern, replacement in SPELLINGS[name]:
            key = re.sub(pattern, replacement, key)
        spelled[key] = value
    assert not spelled.keys() & {"conv1.weight", "bn1.weight"}
    found, plain = convert.detect(spelled), convert.detect(state)
    assert found.layout == "cifar" and found.arguments == plain.arguments
    assert all(np.array_equal(found.weights[key], plain.weights[key]) for key in plain.weights)
    x = images((32, 32))
    assert_same(found.build(**RAW).predict(x, verbose=0), run_torch(torch, module, x))


def test_option_a_of_code_that_appends_zeros(networks):
    """D-X-Y's DownsampleA concatenates the channels and their zeros; the spelling tells the code."""
    import torch

    module = networks.shaken(networks.CifarNetwork(networks.Original, 1, option="A", word="shortcut", after=True))
    spelled = {}
    for key, value in module.state_dict().items():
        for pattern, replacement in SPELLINGS["ResNeXt-DenseNet"]:
            key = re.sub(pattern, replacement, key)
        spelled[key] = value
    found, x = convert.detect(spelled), images((32, 32))
    assert_same(found.build(**RAW).predict(x, verbose=0), run_torch(torch, module, x))
    assert any("zero_channels='both_sides'" in phrase for phrase in found.assumed)


def test_a_single_convolution_is_no_deep_stem():
    """Names of weiaicunzai/pytorch-cifar100, whose stem is a sequence of convolution, normalization and ReLU."""
    names = ("conv1.0.weight", "conv1.1.running_mean", "conv2_x.0.residual_function.0.weight")
    tensors = {name: np.zeros((64, 3, 3, 3) if "conv" in name else 64) for name in names}
    with pytest.raises(ValueError, match="none of the layouts"):
        convert.detect(tensors)
    with pytest.raises(ValueError, match="deep stem"):
        convert.detect({**tensors, "conv1.3.weight": np.zeros((64, 64, 3, 3))})


def test_a_last_batch_normalization_called_bn_is_not_the_first(networks):
    """Pre-activation networks whose stem is called `conv`, as the others above."""
    options = dict(last_bn=True, first_bn=False, bottleneck=False, activated=True)
    state = networks.CifarNetwork(networks.PreActivation, 1, **options).state_dict()
    found = convert.detect({re.sub("^conv1", "conv", name): value for name, value in state.items()})
    assert found.architecture == "preact_resnet8"


# tf2cv


@pytest.mark.parametrize("name", ["CIFAR", "IMAGENET_PREACTIVATED"])
def test_tf2cv_by_names(name):
    """Its names on a network of ours."""
    from keras_resv2 import ResNet
    from keras_resv2.convert.layouts import pytorchcv, tf2cv
    from keras_resv2.models.weights import model_arrays

    layout = tf2cv.LAYOUTS[pytorchcv.LAYOUTS.index(getattr(pytorchcv, name))]
    own = dict(stem="imagenet_activated") if "IMAGENET" in name else dict(projection="B")
    arrays = model_arrays(ResNet(18 if "IMAGENET" in name else 8, activation=layout.activation, **own))
    found = convert.detect({layout.key(key): array for key, array in arrays.items()})
    assert found.layout == "tf2cv" and found.weights.keys() == arrays.keys()
    assert layout.key("stage2_unit1_conv1/kernel") == "features/stage2/unit1/body/conv1/conv/conv/kernel"
    assert keras.tree.map_structure(np.shape, found.weights) == keras.tree.map_structure(np.shape, arrays)


# Files by address


def test_files_by_address(networks, tmp_path, monkeypatch):
    """The name has eight digits of the checksum, as torchvision's files have; a file is fetched once."""
    import torch

    monkeypatch.setenv("KERAS_RESV2_HOME", str(tmp_path / "home"))
    state = networks.CifarNetwork(networks.Original, 1, option="B", word="shortcut").state_dict()
    torch.save(state, tmp_path / "model.pth")
    digits = hashlib.sha256((tmp_path / "model.pth").read_bytes()).hexdigest()[:8]
    path = (tmp_path / "model.pth").rename(tmp_path / f"resnet8-{digits}.pth")
    assert convert.detect(path.as_uri()).architecture == "resnet8"
    other = path.with_name("resnet8-01234567.pth")
    other.write_bytes(path.read_bytes())
    path.unlink()
    assert convert.detect(path.as_uri()).architecture == "resnet8"
    with pytest.raises(ValueError, match="not the expected file"):
        convert.detect(other.as_uri())
    with pytest.raises(ValueError, match="first eight digits of its SHA-256"):
        convert.detect((tmp_path / "resnet8.pth").as_uri())
