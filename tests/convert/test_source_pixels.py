"""Pixel statistics that timm and Hugging Face state beside their weights, or in a module."""

import json

import numpy as np
import pytest

import keras_resv2
from helpers.comparing import assert_same, run_torch
from keras_resv2.convert import detect
from keras_resv2.convert.source_pixels import pixels_of_config

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
OWN = {"mean": (0.4, 0.5, 0.6), "std": (0.1, 0.2, 0.3)}


@pytest.fixture
def timm(torchvision):
    return pytest.importorskip("timm", reason="timm is not installed")


def states_pixels(found):
    return not any("pixels are normalized" in phrase for phrase in found.assumed)


@pytest.mark.parametrize("name", ["resnet18", "resnetv2_18"])
def test_a_folder_that_timm_wrote(timm, name, tmp_path):
    """The network takes raw pixels: outputs are those of timm's on normalized ones."""
    torch.manual_seed(0)
    theirs = timm.create_model(name, num_classes=3).eval()
    theirs.pretrained_cfg |= OWN
    timm.models.save_for_hf(theirs, tmp_path, safe_serialization=True)
    found = detect(tmp_path / "model.safetensors")
    assert states_pixels(found)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3))
    normalized = (pixels / 255 - OWN["mean"]) / OWN["std"]
    ours = found.build(input_shape=(64, 64, 3), classifier_activation=None)(pixels.astype("float32"), training=False)
    assert_same(np.asarray(ours), run_torch(torch, theirs, normalized.astype("float32")), 1e-4)
    with pytest.raises(FileNotFoundError, match=r"\(model.safetensors.*\) first: keras-resv2 convert FILE --out DIR"):
        keras_resv2.from_pretrained(tmp_path)
    assert detect(tmp_path / "model.safetensors", preprocessing="caffe").arguments["preprocessing"] == "caffe"
    (tmp_path / "config.json").unlink()
    assert not states_pixels(detect(tmp_path / "model.safetensors"))


def test_a_module_of_timm(timm):
    theirs = timm.create_model("resnetv2_18", num_classes=3)
    theirs.pretrained_cfg |= {"mean": (0.5,) * 3, "std": (0.5,) * 3}
    found = detect(theirs)
    assert found.arguments["preprocessing"] == "tf" and states_pixels(found)


def test_an_image_processor_of_hugging_face(timm, tmp_path):
    torch.save(timm.create_model("resnet18", num_classes=3).state_dict(), tmp_path / "pytorch_model.bin")
    processor = {"do_normalize": True, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    assert detect(tmp_path / "pytorch_model.bin").arguments["preprocessing"] == "tf"


NO_PIXELS = [
    None, [], {}, {"mean": [0.5] * 3}, {"mean": 0.5, "std": 0.5}, {"mean": [0.5], "std": [0.5]},
    {"mean": [0.5] * 3, "std": [0, 1, 1]}, {"mean": ["a"] * 3, "std": [1] * 3}, {"mean": [np.nan] * 3, "std": [1] * 3},
    {"do_normalize": False, "image_mean": [0.5] * 3, "image_std": [0.5] * 3},
]  # fmt: skip


@pytest.mark.parametrize("config", NO_PIXELS)
def test_what_states_no_pixels(config):
    assert pixels_of_config(config) is None


@pytest.mark.parametrize(
    "config, words",
    [
        ({"architecture": "resnetblur18"}, "is timm's 'resnetblur18' by the config.json beside it"),
        ({"architecture": "resnet18", "model_args": {"output_stride": 8}}, "with output_stride=8"),
    ],
)
def test_networks_that_only_the_configuration_tells(timm, config, words, tmp_path):
    """timm's blurred network has the tensors of a plain one."""
    theirs = timm.create_model(config["architecture"], **config.get("model_args", {}))
    timm.models.save_for_hf(theirs, tmp_path, safe_serialization=True)
    saved = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**saved, **config}))
    with pytest.raises(ValueError, match=words):
        detect(tmp_path / "model.safetensors")
    (tmp_path / "config.json").unlink()
    assert detect(tmp_path / "model.safetensors").architecture == "resnet18"
