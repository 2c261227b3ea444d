"""The layer names match the table in keras_resv2/models/network.py: model surgery and files rely on them."""

import re

import pytest

import keras_resv2.models.network
from keras_resv2 import ResNet
from keras_resv2.models import blocks as units
from keras_resv2.models import shortcuts


def documented():
    """A pattern for each name of the table, and for the paddings below it."""
    patterns = []
    for row in re.findall(r"^\| (?!layer|---).* \| (.*) \|$", keras_resv2.models.network.__doc__, re.MULTILINE):
        names = re.findall(r"`(\w+)`", row)
        unit = "stageS_unitU"
        for name in names:
            name = unit + name if name.startswith("_") else name
            patterns.append(re.sub("[SUK](?![a-z])", r"\\d+", name.replace("stageS_unitU", r"stage\d+_unit\d+")))
    return [*patterns, *(pattern + "_pad" for pattern in patterns if re.search("conv|stem_pool", pattern))]


@pytest.mark.parametrize("activation", units.ACTIVATIONS)
@pytest.mark.parametrize("shortcut", shortcuts.SHORTCUTS)
@pytest.mark.parametrize("depth, branch, stem", [(8, None, "imagenet"), (11, "bottleneck", "cifar")])
def test_every_layer_name_is_documented(activation, shortcut, depth, branch, stem):
    model = ResNet(depth, activation=activation, shortcut=shortcut, branch=branch, stem=stem)
    patterns = documented()
    strange = [layer.name for layer in model.layers if not any(re.fullmatch(p, layer.name) for p in patterns)]
    assert not strange


def test_every_documented_name_exists():
    """One argument at a time, for both orders of the papers: the test above builds all combinations."""
    variants = [dict(activation=activation) for activation in units.ACTIVATIONS]
    for activation in ("original", "full_preactivation"):
        variants += [dict(activation=activation, shortcut=shortcut) for shortcut in shortcuts.SHORTCUTS]
        for projection, stem in (("A", "imagenet"), ("A_average", "cifar"), ("B", "cifar")):
            variants.append(dict(activation=activation, projection=projection, stem=stem))
    found = {layer.name for variant in variants for layer in ResNet(8, **variant).layers}
    names = [pattern for pattern in documented() if not pattern.endswith("_pad")]
    assert len(names) > 25
    assert not [pattern for pattern in names if not any(re.fullmatch(pattern, name) for name in found)]


def test_the_contract_names():
    """Names that third-party code relies on."""
    names = {layer.name for layer in ResNet(20).layers}
    assert {"stem_conv", "stage2_unit3_conv1", "stage2_unit3_bn1", "stage2_unit3_add", "head_dense"} <= names
