"""Finds the tensors of a network in a checkpoint, and their layout."""

import bisect
import dataclasses
import re

from keras_resv2.argument_checks import some
from keras_resv2.convert.layouts import cifar
from keras_resv2.convert.layouts.keras import KerasLayout
from keras_resv2.convert.layouts.pytorch import PyTorchLayout

LAST = chr(0x10FFFF)
# Words in the names of copies of a network: averages over the training, and teachers.
COPIES = ("ema", "swa", "averag", "shadow", "teacher", "momentum", "target")

# Patterns of names that tell networks which this package does not build, and what those networks have.
OTHER_NETWORKS = (
    (r"(^|\.)(stem\.)?conv1\.[2-9]\.weight$|(^|\.)stem\.conv2\.weight$", "has a deep stem of several "
     "convolutions (timm's 'c', 'd', 's', 't' networks)"),
    (r"(^|/)conv[2-9]_conv/kernel$", "has a deep stem of several convolutions (KerasHub's `resnet_vd` networks, which "
     "also average before their projections)"),
    (r"\.(se|eca|cbam|attn)\.", "has attention in its units (SE, ECA and the like)"),
    (r"\.downsample\.2\.(weight|running_mean)$", "averages before its projections (timm's 'd' networks)"),
    (r"(^|[./])(cls_token|pos_embed)|attn\.qkv", "is a vision transformer"),
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Network:
    """Tensors of one network.

    Attributes:
        prefix: prefix of their names in the source.
        layout: `PyTorchLayout` or `KerasLayout`.
        tensors: dictionary from names of the layout to arrays.
        spelled: the source's names by those of the layout.
        outside: names in the same dictionary that do not begin with `prefix`.
        others: prefixes of the other networks in the source.
    """

    prefix: str
    layout: PyTorchLayout | KerasLayout
    tensors: dict
    spelled: dict
    outside: tuple[str, ...] = ()
    others: tuple[str, ...] = ()


def find_network(source, layouts, prefix=None):
    """Finds the network in a source.

    Args:
        source: `keras_resv2.convert.readers.Source`.
        layouts: known layouts; the first that fits is used.
        prefix: prefix of the names of its tensors; None to detect it. Networks that are named as copies (average,
            teacher) are used only if there is no other.

    Returns:
        `Network`.

    Raises:
        ValueError: if there is no network, or several that names do not tell apart.
    """
    homes = {name: _dictionary(source, name) for name in source.tensors}
    names = sorted(source.tensors)
    place = {name: number for number, name in enumerate(source.tensors)}
    starts = _starts(source.tensors, layouts)
    found = [network for start in starts if (network := _read(source, names, place, homes, start, layouts))]
    names = [network.prefix for network in found]
    if not found:
        raise ValueError(_nothing(source, layouts))
    if prefix is not None:
        chosen = [network for network in found if network.prefix.rstrip("./") == prefix.rstrip("./")]
        if not chosen:
            raise ValueError(f"{source.label} holds no network under {prefix!r}, but under {_listed(names)}.")
    else:
        originals = [network for network in found if not _is_copy(network.prefix)]
        chosen = originals or found
        if len(chosen) > 1:
            alike = [network.prefix for network in chosen]
            raise ValueError(
                f"{source.label} holds {len(alike)} networks, under {_listed(alike)}: say which with "
                f"prefix={alike[0]!r} (--prefix)."
            )
    (network,) = chosen
    home = _dictionary(source, network.prefix)
    others = tuple(name for name in names if name != network.prefix)
    inside = tuple(other for other in others if other.startswith(network.prefix))
    keys = [key for key, name in network.spelled.items() if not name.startswith(inside)]
    used = set(network.spelled.values())
    taken = (network.prefix, *filter(None, others))
    return dataclasses.replace(
        network,
        tensors={key: network.tensors[key] for key in keys},
        spelled={key: network.spelled[key] for key in keys},
        outside=tuple(
            name for name in source.tensors if homes[name] == home and not name.startswith(taken) and name not in used
        ),
        others=others,
    )


def _dictionary(source, name):
    """Returns the prefix of all tensors in the same dictionary."""
    return max((start for start in source.dictionaries if name.startswith(start)), key=len)


def _starts(tensors, layouts):
    """Returns possible prefixes of a network: what precedes the name of a layout's first tensor."""
    counted = [layout for layout in layouts if hasattr(layout, "starts")]
    firsts = {name for layout in layouts if layout not in counted for name in layout.first}
    firsts = sorted(firsts, key=len, reverse=True)  # "conv1.weight" ends names of other layouts too
    matches = ((name, next((first for first in firsts if name.endswith(first)), None)) for name in tensors)
    starts = (name.removesuffix(first) for name, first in matches if first)
    starts = [*starts, *(start for layout in counted for start in layout.starts(tensors))]
    return [start for start in dict.fromkeys(starts) if not start or start[-1] in "./"]


def _read(source, sorted_names, place, homes, prefix, layouts):
    home = _dictionary(source, prefix)
    inside = range(bisect.bisect_left(sorted_names, prefix), bisect.bisect_right(sorted_names, prefix + LAST))
    inside = sorted((sorted_names[index] for index in inside), key=place.__getitem__)
    names = {name.removeprefix(prefix): name for name in inside if homes[name] == home}
    for layout in layouts:
        spelled = _spelled(layout, names, source)
        if getattr(layout, "outer_classifier", False):
            spelled = {**_outer_classifier(source, prefix, layout), **spelled}
        tensors = {key: source.tensors[name] for key, name in spelled.items()}
        if _is_of(layout, tensors):
            return Network(prefix, layout, tensors, spelled)
    return None


def _spelled(layout, names, source):
    """Returns the source's names of the tensors, by those of the layout."""
    if hasattr(layout, "rename"):
        renamed = layout.rename(names, {own: source.tensors[name] for own, name in names.items()})
        return {key: names[own] for key, own in renamed.items()}
    spelled = {}
    for own, name in names.items():
        key = layout.spell(own)
        spelled[own if key in spelled else key] = name
    return spelled


def _is_of(layout, tensors):
    check = getattr(layout, "check", None)
    known = all(mark in tensors for mark in layout.marks) and (check is None or check(tensors))
    return known and layout.stem_kernel in (None, stem_kernel(tensors, layout))


def _outer_classifier(source, prefix, layout):
    """Returns the source's names of a classifier outside of the backbone, by the layout's names."""
    outside = prefix.rstrip("/").rpartition("/")[0]
    names = {layout.key(f"head_dense/{variable}") for variable in ("kernel", "bias")}
    pairs = {name: f"{outside}/{name}" if outside else name for name in names}
    return {key: name for key, name in pairs.items() if prefix and name in source.tensors}


def classifier_layer(network):
    """Returns the source's name of the classifier's layer; None without a classifier."""
    name = network.spelled.get(network.layout.key("head_dense/kernel"))
    return name.rpartition("/")[0].rpartition("/")[2] if name else None


def stem_kernel(tensors, layout):
    """Returns the kernel size of the first convolution; None without one."""
    kernel = tensors.get(layout.key("stem_conv/kernel"))
    return None if kernel is None or kernel.ndim != 4 else layout.kernel_size(kernel)


def _is_copy(prefix):
    return any(word in prefix.lower() for word in COPIES)


def _nothing(source, layouts):
    """Returns the message for a source without a known network."""
    for start in _starts(source.tensors, layouts):
        if any(layout in layouts for layout in cifar.LAYOUTS) and all(
            start + mark in source.tensors for mark in cifar.MARKS_WITHOUT_LAST_BN
        ):
            return (
                f"{source.label} is a pre-activation network without the batch normalization after its last addition, "
                "as kuangliu's PreActResNet18: not the network of He et al. 2016, and none that this package builds."
            )
    why = other_network(source.tensors)
    if why:
        return f"{source.label} {why}: no such networks are read."
    known = ", ".join(layout.name for layout in layouts)
    return (
        f"{source.label} has none of the layouts that are read ({known}). Its first tensors are "
        f"{', '.join(list(source.tensors)[:4])}."
    )


def _listed(names):
    return some([repr(name) for name in names])


def other_network(tensors):
    """Returns a phrase about a feature of tensors that this package does not build; None without such a feature.

    Args:
        tensors: dictionary from names to arrays.

    Example:

    >>> other_network({"conv1.0.weight": None, "conv1.3.weight": None})
    "has a deep stem of several convolutions (timm's 'c', 'd', 's', 't' networks)"
    """
    for pattern, phrase in OTHER_NETWORKS:
        if any(re.search(pattern, name) for name in tensors):
            return phrase
    norms = [name for name in tensors if re.search(r"(^|\.)(bn|norm)\d?\.(weight|norm\.weight)$", name)]
    if norms and not any(name.endswith("running_mean") for name in tensors):
        return "has no statistics of batch normalization: it is normalized by groups or layers (timm's BiT and 'gn')"
    inner = [array for name, array in tensors.items() if re.search(r"layer1\.0\.conv2\.weight$|blocks\.0\.conv2", name)]
    if any(array.ndim == 4 and array.shape[0] != array.shape[1] for array in inner):
        return "has convolutions in groups, as ResNeXt"
    return None
