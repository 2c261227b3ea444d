"""The same weights in other people's networks give the same outputs: keras.applications, torchvision, timm."""

import keras
import numpy as np
import pytest

import keras_resv2

TOLERANCE = dict(rtol=1e-4, atol=1e-4)


def randomised(model, seed=0):
    """Random weights of a scale at which activations neither vanish nor grow."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        shape = tuple(weight.shape)
        if weight.name == "kernel":
            weight.assign(rng.normal(0, np.sqrt(1 / np.prod(shape[:-1])), shape))
        elif "variance" in weight.name or weight.name == "gamma":
            weight.assign(rng.uniform(0.5, 1.5, shape))
        else:
            weight.assign(rng.normal(0, 0.1, shape))
    return model


def test_resnet50_is_keras_applications_resnet50():
    """Same topology, stride on the first 1x1; theirs has biases before BN, which ours takes up in the mean."""
    theirs = randomised(keras.applications.ResNet50(weights=None))
    ours = keras_resv2.ResNet50(stride_on="1x1", include_preprocessing=False)
    for layer in ours.layers:
        if not layer.weights:
            continue
        source = theirs.get_layer(applications_name(layer.name))
        if isinstance(layer, keras.layers.Conv2D):
            layer.kernel.assign(source.kernel)
        elif isinstance(layer, keras.layers.BatchNormalization):
            conv = theirs.get_layer(source.name.replace("_bn", "_conv"))
            layer.epsilon = source.epsilon
            gamma, beta, mean, variance = source.get_weights()
            layer.set_weights([gamma, beta, mean - keras.ops.convert_to_numpy(conv.bias), variance])
        else:
            layer.set_weights(source.get_weights())
    pictures = np.random.default_rng(1).normal(size=(2, 224, 224, 3)).astype("float32")
    np.testing.assert_allclose(ours.predict(pictures, verbose=0), theirs.predict(pictures, verbose=0), **TOLERANCE)


def applications_name(name):
    if name == "head_dense":
        return "predictions"
    if name.startswith("stem"):
        return name.replace("stem", "conv1")
    stage, unit, *rest = name.split("_")
    kind = rest[-1].rstrip("123")
    number = 0 if rest[0] == "shortcut" else rest[-1][-1]
    return f"conv{int(stage[5:]) + 1}_block{unit[4:]}_{number}_{kind}"


@pytest.fixture(scope="module")
def torch(torchvision):
    """PyTorch, where torchvision and timm import too."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    pytest.importorskip("timm", reason="timm is not installed")
    return torch


@pytest.mark.parametrize("source, name", [
    ("torchvision", "resnet18"),
    ("torchvision", "resnet50"),
    ("timm", "preact_resnet50"),
])  # fmt: skip
@pytest.mark.parametrize("size", [(64, 64), (75, 101)])
def test_same_outputs_as_torchvision_and_timm(torch, source, name, size):
    """timm's pre-activation networks of basic units are not here: their first shortcut skips the first
    activation, which the paper's appendix shares between both paths.
    """
    import timm
    import torchvision

    torch.manual_seed(0)
    if source == "torchvision":
        theirs, rename = torchvision.models.get_model(name, weights=None), torchvision_name
    else:
        theirs, rename = timm.create_model(name.replace("preact_resnet", "resnetv2_")), timm_name
    state = theirs.state_dict()
    for key, value in state.items():  # BN that is not the identity
        if value.dim() == 1 and "running_var" not in key:
            value.uniform_(-0.5, 0.5)
        elif "running_var" in key or ("norm" in key and key.endswith("weight")):
            value.uniform_(0.5, 1.5)
    ours = keras_resv2.build(name, include_preprocessing=False, input_shape=(*size, 3), classifier_activation=None)
    for layer in ours.layers:
        for weight in layer.weights:
            value = state[f"{rename(layer.name)}.{TORCH_WEIGHT[weight.name, len(weight.shape)]}"].numpy()
            if len(weight.shape) == 4:
                value = value.transpose(2, 3, 1, 0)
            elif weight.name == "kernel":  # timm's classifier is a 1x1 convolution
                value = value.reshape(value.shape[0], -1).T
            weight.assign(value)
    pictures = np.random.default_rng(1).normal(size=(2, *size, 3)).astype("float32")
    with torch.no_grad():
        expected = theirs.eval()(torch.from_numpy(pictures.transpose(0, 3, 1, 2).copy())).numpy()
    np.testing.assert_allclose(ours.predict(pictures, verbose=0), expected, **TOLERANCE)


TORCH_WEIGHT = {
    ("kernel", 4): "weight",
    ("kernel", 2): "weight",
    ("bias", 1): "bias",
    ("gamma", 1): "weight",
    ("beta", 1): "bias",
    ("moving_mean", 1): "running_mean",
    ("moving_variance", 1): "running_var",
}


def torchvision_name(name):
    if name == "head_dense":
        return "fc"
    if name.startswith("stem"):
        return name.replace("stem_", "") + "1"
    stage, unit, rest = name.split("_", 2)
    rest = {"shortcut_conv": "downsample.0", "shortcut_bn": "downsample.1"}.get(rest, rest)
    return f"layer{stage[5:]}.{int(unit[4:]) - 1}.{rest}"


def timm_name(name):
    fixed = {"head_dense": "head.fc", "head_bn": "norm", "stem_conv": "stem.conv"}
    if name in fixed:
        return fixed[name]
    stage, unit, rest = name.split("_", 2)
    renamed = {"shortcut_conv": "downsample.conv", "preact_bn": "norm1", "bn1": "norm2", "bn2": "norm3"}
    return f"stages.{int(stage[5:]) - 1}.blocks.{int(unit[4:]) - 1}.{renamed.get(rest, rest)}"
