"""CIFAR networks in PyTorch in common styles, to convert and to compare with."""

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")  # pytest collects the examples of this module
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402


class Pad(nn.Module):
    """Option A: subsampling or average pooling; zero channels on both sides, or all after."""

    def __init__(self, after=False, average=False):
        super().__init__()
        self.after, self.average = after, average

    def forward(self, x):
        missing = x.shape[1]
        x = F.avg_pool2d(x, 2) if self.average else x[:, :, ::2, ::2]
        if self.after:
            return torch.cat([x, torch.zeros_like(x)], 1)
        return F.pad(x, (0, 0, 0, 0, missing // 2, missing - missing // 2))


class Original(nn.Module):
    """Basic unit; option A without parameters, or B with a module called `shortcut` or `downsample`."""

    def __init__(self, inputs, width, stride, option, word, function=F.relu, **pad):
        super().__init__()
        self.function = function
        self.conv1, self.bn1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        shortcut = nn.Sequential()
        if stride > 1 and option == "A":
            shortcut = Pad(**pad)
        elif stride > 1:
            shortcut = nn.Sequential(nn.Conv2d(inputs, width, 1, stride, bias=False), nn.BatchNorm2d(width))
        self.word = word
        setattr(self, word, shortcut)

    def forward(self, x):
        y = self.bn2(self.conv2(self.function(self.bn1(self.conv1(x)))))
        return self.function(y + getattr(self, self.word)(x))


class PreActivation(nn.Module):
    """Pre-activation unit, basic or bottleneck; its 1x1 shortcut starts from the activation, or from the sum."""

    def __init__(self, inputs, width, stride, bottleneck, activated):
        super().__init__()
        outputs = 4 * width if bottleneck else width
        kernels = [(inputs, width, 1), (width, width, 3), (width, outputs, 1)]
        if not bottleneck:
            kernels = [(inputs, width, 3), (width, width, 3)]
        strided = 1 if bottleneck else 0
        for i, (a, b, size) in enumerate(kernels):
            setattr(self, f"bn{i + 1}", nn.BatchNorm2d(a))
            conv = nn.Conv2d(a, b, size, stride if i == strided else 1, size // 2, bias=False)
            setattr(self, f"conv{i + 1}", conv)
        self.count, self.activated = len(kernels), activated
        if inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False))

    def forward(self, x):
        y = F.relu(self.bn1(x))
        shortcut = self.shortcut(y if self.activated else x) if hasattr(self, "shortcut") else x
        y = self.conv1(y)
        for i in range(2, self.count + 1):
            y = getattr(self, f"conv{i}")(F.relu(getattr(self, f"bn{i}")(y)))
        return y + shortcut


class CifarNetwork(nn.Module):
    """Stem, three stages of n units, pooling, classifier."""

    def __init__(self, unit, n=3, expansion=1, last_bn=False, first_bn=True, classifier="linear", **options):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        if first_bn:
            self.bn1 = nn.BatchNorm2d(16)
        channels = 16
        for stage, width in enumerate((16, 32, 64), start=1):
            units = []
            for number in range(n):
                units.append(unit(channels, width, 2 if stage > 1 and number == 0 else 1, **options))
                channels = width * expansion
            setattr(self, f"layer{stage}", nn.Sequential(*units))
        if last_bn:
            self.bn = nn.BatchNorm2d(channels)
        self.classifier_name = classifier
        setattr(self, classifier, nn.Linear(channels, 10))

    def stages(self, x):
        """Output of each stage, and the logits."""
        x = self.conv1(x)
        if hasattr(self, "bn1"):
            x = F.relu(self.bn1(x))
        found = {}
        for stage in (1, 2, 3):
            x = found[f"stage{stage}"] = getattr(self, f"layer{stage}")(x)
        if hasattr(self, "bn"):
            x = F.relu(self.bn(x))
        return found, getattr(self, self.classifier_name)(x.mean((2, 3)))

    def forward(self, x):
        return self.stages(x)[1]


def shaken(network, seed=0):
    """Sets random weights and BN statistics that are not the identity, in evaluation mode."""
    torch.manual_seed(seed)
    for name, value in network.state_dict().items():
        if value.dim() == 1:
            value.uniform_(0.4, 0.8) if name.endswith(("weight", "running_var")) else value.uniform_(-0.3, 0.3)
    return network.eval()


class HuggingFaceUnit(nn.Module):
    """Unit of Hugging Face's ResNet, by its modules' names; rebuilt here, as its package needs many others."""

    def __init__(self, inputs, width, outputs, stride, bottleneck, first_strided):
        super().__init__()
        strides = (stride, 1) if first_strided or not bottleneck else (1, stride)
        kernels = [(inputs, width, 1, strides[0]), (width, width, 3, strides[1]), (width, outputs, 1, 1)]
        if not bottleneck:
            kernels = [(inputs, width, 3, strides[0]), (width, width, 3, 1)]
        self.layer = nn.Sequential(*(_convolution(*kernel) for kernel in kernels))
        if inputs != outputs or stride > 1:
            self.shortcut = _convolution(inputs, outputs, 1, stride)

    def forward(self, x):
        y = x
        for number, part in enumerate(self.layer, start=1):
            y = part.normalization(part.convolution(y))
            y = F.relu(y) if number < len(self.layer) else y
        if hasattr(self, "shortcut"):
            x = self.shortcut.normalization(self.shortcut.convolution(x))
        return F.relu(x + y)


def _convolution(inputs, outputs, size, stride):
    part = nn.Module()
    part.convolution = nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)
    nn.init.kaiming_normal_(part.convolution.weight, mode="fan_out")
    part.normalization = nn.BatchNorm2d(outputs)
    return part


class HuggingFaceResNet(nn.Module):
    """`ResNetForImageClassification`: `resnet.embedder`, `resnet.encoder.stages`, `classifier.1`."""

    def __init__(self, units=(2, 2, 2, 2), bottleneck=False, first_strided=False, classes=5):
        super().__init__()
        self.resnet = nn.Module()
        self.resnet.embedder = nn.Module()
        self.resnet.embedder.embedder = _convolution(3, 64, 7, 2)
        stages, channels = [], 64
        for stage, count in enumerate(units):
            stages.append(nn.Module())
            width, outputs = 64 * 2**stage, 64 * 2**stage * (4 if bottleneck else 1)
            made = []
            for number in range(count):
                stride = 2 if stage and not number else 1
                made.append(HuggingFaceUnit(channels, width, outputs, stride, bottleneck, first_strided))
                channels = outputs
            stages[-1].layers = nn.Sequential(*made)
        self.resnet.encoder = nn.Module()
        self.resnet.encoder.stages = nn.ModuleList(stages)
        self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(channels, classes))

    def forward(self, x):
        stem = self.resnet.embedder.embedder
        x = F.max_pool2d(F.relu(stem.normalization(stem.convolution(x))), 3, 2, 1)
        for stage in self.resnet.encoder.stages:
            x = stage.layers(x)
        return self.classifier(x.mean((2, 3)))
