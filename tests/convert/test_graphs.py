"""PyTorch networks whose tensors have the same names and shapes, and which compute something else."""

import numpy as np
import pytest

import keras_resv2
from helpers.comparing import RAW, assert_same, images, run_torch
from keras_resv2 import cli, convert
from keras_resv2.convert.equivalence import with_epsilon

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
nn = torch.nn


def network(n=1, **options):
    """ResNet of 6n+2 layers, of basic units, with random batch normalization."""
    from helpers import torch_networks

    options = {"option": "A", "word": "shortcut", **options}
    torch.manual_seed(0)
    return torch_networks.shaken(torch_networks.CifarNetwork(torch_networks.Original, n, **options))


def with_stem(torchvision, kernel, stride, pool):
    """torchvision's ResNet-18 behind another stem."""
    from helpers import torch_networks

    module = torchvision.models.resnet18(num_classes=10)
    module.conv1 = nn.Conv2d(3, 64, kernel, stride, kernel // 2, bias=False)
    if not pool:
        module.maxpool = nn.Identity()
    return torch_networks.shaken(module)


def logits(source, x, **arguments):
    return convert.from_pytorch(source, **arguments, **RAW, input_shape=x.shape[1:]).predict(x, verbose=0)


OPTION_A = {
    "after": (dict(after=True), dict(zero_channels="after")),
    "averages": (dict(average=True), dict(projection="A_average")),
    "averages, after": (dict(after=True, average=True), dict(projection="A_average", zero_channels="after")),
}


@pytest.mark.parametrize("theirs, arguments", OPTION_A.values(), ids=OPTION_A)
def test_option_a_of_other_code(theirs, arguments):
    """Said of a file; found of a module that is given whole. What is assumed otherwise gives other logits."""
    module, x = network(**theirs), images((32, 32))
    expected = run_torch(torch, module, x)
    found = convert.detect(module.state_dict())
    assert sum("option A" in phrase for phrase in found.assumed) == 2
    assert np.abs(logits(module.state_dict(), x) - expected).max() > 0.01 * np.ptp(expected)
    assert_same(logits(module.state_dict(), x, **arguments), expected)
    assert_same(logits(module, x), expected)
    assert convert.detect(module).assumed == convert.detect(network()).assumed, "only the pixels are not known"


def test_zeros_after_in_deep_preactivation_networks():
    """Of bottlenecks, whose first stage widens too; with each unit's channels in their places."""
    from helpers import torch_networks

    module = torch_networks.CifarNetwork(
        torch_networks.PreActivation, 2, 4, last_bn=True, first_bn=False, bottleneck=True, activated=True
    )

    class Grow(nn.Module):
        def __init__(self, stride, channels):
            super().__init__()
            self.stride, self.channels = stride, channels

        def forward(self, x):
            zeros = x.new_zeros(len(x), self.channels - x.shape[1], *x.shape[2:])
            return torch.cat([x, zeros], 1)[:, :, :: self.stride, :: self.stride]

    for stage, width in enumerate((16, 32, 64), start=1):
        unit = getattr(module, f"layer{stage}")[0]
        unit.shortcut, unit.activated = Grow(1 if stage == 1 else 2, 4 * width), False
    module, x = torch_networks.shaken(module), images((32, 32))
    arguments = dict(zero_channels="after", activated_shortcuts="none")
    assert convert.detect(module.state_dict()).architecture == "preact_resnet20"
    assert convert.detect(module.state_dict()).arguments["branch"] == "bottleneck"
    assert_same(logits(module.state_dict(), x, **arguments), run_torch(torch, module, x))


STEMS = {
    "cifar_pooled": (3, 1, True), "cifar_strided": (3, 2, False),
    "imagenet_unpooled": (7, 2, False), "imagenet_unstrided_pooled": (7, 1, True),
}  # fmt: skip


@pytest.mark.parametrize("name", STEMS)
def test_other_stems(torchvision, name):
    """A 3x3 convolution before max-pooling and others: said of a file, and written into ours."""
    module, x = with_stem(torchvision, *STEMS[name]), images((45, 37))
    state = module.state_dict()
    expected = run_torch(torch, module, x)
    assert any(repr(name) in phrase for phrase in convert.detect(state).assumed)
    model = convert.from_pytorch(state, stem=name, **RAW, input_shape=(45, 37, 3))
    assert_same(model.predict(x, verbose=0), expected)
    if not name.startswith("imagenet"):  # in torchvision's layout these are no networks of torchvision
        again = convert.detect(convert.to_pytorch(model, "cifar"))
        assert again.arguments["stem"] == name and len(again.assumed) == 1, again.assumed


def test_the_stem_of_a_whole_module_is_found(torchvision):
    module, x = with_stem(torchvision, 3, 1, True), images((32, 32))
    assert convert.detect(module).arguments["stem"] == "cifar_pooled"
    assert_same(logits(module, x), run_torch(torch, module, x))


@pytest.mark.parametrize("epsilon", [1e-3, 1e-7])
def test_another_epsilon(epsilon):
    """Said of a file, read off a module; with variances so small that the epsilon is all that counts."""
    module, x = network(), images((32, 32))
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.eps = epsilon
            part.running_var[:3] = 1e-6
            part.weight.data[:3] /= 300
    expected = run_torch(torch, module, x)
    assert "epsilon=" in " ".join(convert.detect(module.state_dict()).assumed)
    assert np.abs(logits(module.state_dict(), x) - expected).max() > 1e-3 * np.abs(expected).max()
    assert_same(logits(module.state_dict(), x, epsilon=epsilon), expected)
    assert_same(logits(module, x), expected)


def test_epsilon_is_exact():
    weights = {"bn/moving_variance": np.array([0.0, 1e-6, 2.0]), "bn/gamma": np.array([1.0, 2.0, 3.0])}
    for epsilon in (1e-3, 1e-7):
        ours = with_epsilon(weights, epsilon)
        factor = ours["bn/gamma"] / np.sqrt(ours["bn/moving_variance"] + 1e-5)
        np.testing.assert_allclose(factor, weights["bn/gamma"] / np.sqrt(weights["bn/moving_variance"] + epsilon))


def _dilated(module):
    for part in module.layer3.modules():
        if isinstance(part, nn.Conv2d) and part.kernel_size == (3, 3):
            part.stride, part.dilation, part.padding = (1, 1), (2, 2), (2, 2)
    module.layer3[0].shortcut[0].stride = (1, 1)
    return module


@pytest.mark.parametrize("make", [
    lambda: network(function=nn.functional.silu),
    lambda: _dilated(network(option="B")),
    lambda: nn.Sequential(nn.BatchNorm2d(3), network()),
], ids=["SiLU", "dilated", "normalizes its input"])  # fmt: skip
def test_whole_modules_of_other_outputs_are_refused(make):
    """Their tensors are taken, with what was assumed: nothing else is known of those."""
    module = make()
    if isinstance(module, nn.Sequential):  # the network inside is ours
        found = convert.detect(module.eval())
        assert "outside of '1.' (0.weight, 0.bias, 0.running_mean, ...)" in found.assumed[0]
        return
    with pytest.raises(ValueError, match=r"gives other outputs than resnet8 with the same tensors.*state_dict\(\)"):
        convert.detect(module)
    assert any("ReLU" in phrase for phrase in convert.detect(module.state_dict()).assumed)


@pytest.mark.parametrize("name, options", [("resnetblur18", {}), ("resnet18", dict(output_stride=8))])
def test_whole_networks_of_timm_that_blur_or_dilate(torchvision, name, options):
    timm = pytest.importorskip("timm", reason="timm is not installed")
    from helpers import torch_networks

    module = torch_networks.shaken(timm.create_model(name, num_classes=5, **options))
    with pytest.raises(ValueError, match="gives other outputs"):
        convert.detect(module)


def test_modules_stay_as_they_are():
    """In training, with their statistics; a module that cannot be run is converted, and that is said."""
    module = network().train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    convert.detect(module)
    assert all(part.training for part in module.modules())
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    module.forward = None
    assert "were not compared (TypeError)" in convert.detect(module).assumed[-1]


def test_the_default_of_activated_shortcuts_follows_the_spelling():
    from helpers import torch_networks

    module = torch_networks.CifarNetwork(
        torch_networks.PreActivation, 1, last_bn=True, first_bn=False, bottleneck=False, activated=True
    )
    state = module.state_dict()
    kuangliu = convert.detect(state)
    bearpaw = convert.detect({k.replace("shortcut", "downsample").replace("linear", "fc"): v for k, v in state.items()})
    assert kuangliu.arguments["activated_shortcuts"] == "projections"
    assert bearpaw.arguments["activated_shortcuts"] == "none"
    for found, other in ((kuangliu, "'none'"), (bearpaw, "'projections'")):
        assert any(f"activated_shortcuts={other}" in phrase for phrase in found.assumed)


def test_the_command_says_what_it_was_told_and_prints_what_it_assumed(tmp_path, capsys):
    module = network(after=True, average=True)
    torch.save(module.state_dict(), tmp_path / "model.th")
    arguments = ["convert", str(tmp_path / "model.th"), "--dataset", "cifar10", "--out", str(tmp_path / "out")]
    assert cli.main(arguments) == 0
    assert capsys.readouterr().out.count("It was assumed") == 6
    said = ["--zero_channels", "after", "--projection", "A_average", "--stem", "cifar", "--epsilon", "1e-5"]
    assert cli.main([*arguments, *said]) == 0
    assert capsys.readouterr().out.count("It was assumed") == 2
    x = images((32, 32))
    folder = tmp_path / "out/resnet8-cifar10/2"
    assert keras_resv2.pretrained_card(str(folder)).arguments == {"projection": "A_average"}
    model = keras_resv2.from_pretrained(folder, **RAW)
    assert_same(model.predict(x, verbose=0), run_torch(torch, module, x))
