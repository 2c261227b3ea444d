"""What tells that tensors are of another kind of network, in words."""

import re

# Patterns of names, and what a network that has such a tensor has.
MARKS = (
    (r"(^|\.)(stem\.)?conv1\.0\.weight$|(^|\.)stem\.conv1\.weight$", "has a deep stem of several convolutions (timm's "
     "'c', 'd', 's', 't' networks)"),
    (r"\.(se|eca|cbam|attn)\.", "has attention in its units (SE, ECA and the like)"),
    (r"\.downsample\.2\.(weight|running_mean)$", "averages before its projections (timm's 'd' networks)"),
    (r"(^|[./])(cls_token|pos_embed)|attn\.qkv", "is a vision transformer"),
)  # fmt: skip


def reason(tensors):
    """What kind of other network tensors are of, as a phrase after its name; None if nothing tells.

    Args:
        tensors: dictionary from names to arrays.

    Example:

    >>> reason({"conv1.0.weight": None, "bn1.running_mean": None})
    "has a deep stem of several convolutions (timm's 'c', 'd', 's', 't' networks)"
    """
    for pattern, phrase in MARKS:
        if any(re.search(pattern, name) for name in tensors):
            return phrase
    norms = [name for name in tensors if re.search(r"(^|\.)(bn|norm)\d?\.(weight|norm\.weight)$", name)]
    if norms and not any(name.endswith("running_mean") for name in tensors):
        return "has no statistics of batch normalisation: it is normalised by groups or layers (timm's BiT and 'gn')"
    inner = [array for name, array in tensors.items() if re.search(r"layer1\.0\.conv2\.weight$|blocks\.0\.conv2", name)]
    if any(array.ndim == 4 and array.shape[0] != array.shape[1] for array in inner):
        return "has convolutions in groups, as ResNeXt"
    return None
