"""Other programs read the exported files: OpenVINO all formats, PyTorch the ONNX file."""

import numpy as np
import pytest
from test_export import HERE, images, randomised

from helpers.comparing import run_keras
from helpers.exported import assert_same
from keras_resv2 import ResNet, export

# What the two papers and ImageNet need: strides, both orders, max pooling, a parameterized and a pooled shortcut.
NETWORKS = {
    "original": (8, {}),
    "gating": (8, {"shortcut": "exclusive_gating", "activation": "full_preactivation", "projection": "B"}),
    "imagenet": (11, {"stem": "imagenet", "input_shape": (64, 64, 3), "activation": "full_preactivation"}),
}


@pytest.fixture(params=NETWORKS)
def network(request):
    """A network with random weights, random images, and its logits."""
    pytest.importorskip("onnx", reason="onnx is not installed")
    depth, arguments = NETWORKS[request.param]
    model = randomised(ResNet(depth, classes=7, classifier_activation=None, **arguments))
    x = images(*model.input_shape[1:3])
    return model, x, run_keras(model, x)


@pytest.mark.parametrize("format", HERE)
def test_openvino(network, format, tmp_path):
    openvino = pytest.importorskip("openvino", reason="openvino is not installed")
    model, x, expected = network
    path = tmp_path / f"network.{format}"
    export(model, path, format)
    read = openvino.convert_model(path)
    assert read.inputs[0].element_type == openvino.Type.u8 and "pixels" in read.inputs[0].any_name
    compiled = openvino.compile_model(read, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    assert_same(compiled([x])[0], expected)


def test_onnx2torch(network, torchvision, tmp_path):
    onnx2torch = pytest.importorskip("onnx2torch", reason="onnx2torch is not installed")
    import torch

    model, x, expected = network
    export(model, tmp_path / "network.onnx", "onnx")
    module = onnx2torch.convert(str(tmp_path / "network.onnx")).eval()
    with torch.no_grad():
        found = module(torch.from_numpy(x)).numpy()
    assert_same(np.asarray(found), expected)
