"""Third-party networks with the same weights have the same outputs: keras.applications, torchvision, timm."""

import keras
import numpy as np
import pytest

from helpers.comparing import assert_same, randomised, run_keras
from keras_resv2 import convert

TOLERANCE = dict(rtol=1e-4, atol=1e-4)


def test_resnet50_is_keras_applications_resnet50():
    """Same topology, stride on the first 1x1; theirs has biases before BN, which ours folds into the mean."""
    theirs = randomised(keras.applications.ResNet50(weights=None, classifier_activation=None))
    ours = convert.from_keras_applications(theirs, include_preprocessing=False, classifier_activation=None)
    images = np.random.default_rng(1).normal(size=(2, 224, 224, 3)).astype("float32")
    blue_first = np.ascontiguousarray(images[..., ::-1])
    assert_same(run_keras(ours, images), run_keras(theirs, blue_first))


@pytest.fixture(scope="module")
def torch(torchvision):
    """PyTorch, if torchvision and timm can be imported too."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    pytest.importorskip("timm", reason="timm is not installed")
    return torch


@pytest.mark.parametrize("source, name", [
    ("torchvision", "resnet18"),
    ("torchvision", "resnet50"),
    ("timm", "resnetv2_18"),
    ("timm", "resnetv2_50"),
])  # fmt: skip
@pytest.mark.parametrize("size", [(64, 64), (75, 101)])
def test_same_outputs_as_torchvision_and_timm(torch, source, name, size):
    """The first shortcut of timm's pre-activation networks of basic units skips the first activation, which the
    paper's appendix shares between both paths: there the package builds the network as timm does.
    """
    import timm
    import torchvision

    torch.manual_seed(0)
    theirs = torchvision.models.get_model(name, weights=None) if source == "torchvision" else timm.create_model(name)
    state = theirs.state_dict()
    for key, value in state.items():  # BN that is not the identity
        if value.dim() == 1 and "running_var" not in key:
            value.uniform_(-0.5, 0.5)
        elif "running_var" in key or ("norm" in key and key.endswith("weight")):
            value.uniform_(0.5, 1.5)
    options = dict(include_preprocessing=False, input_shape=(*size, 3), classifier_activation=None)
    ours = convert.from_pytorch(state, name.replace("resnetv2_", "preact_resnet"), **options)
    images = np.random.default_rng(1).normal(size=(2, *size, 3)).astype("float32")
    with torch.no_grad():
        expected = theirs.eval()(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy()
    np.testing.assert_allclose(run_keras(ours, images), expected, **TOLERANCE)
