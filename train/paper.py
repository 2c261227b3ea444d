"""The papers' figures: test error on CIFAR-10, percent, of networks trained by the `paper` recipe."""

RESNET = "He et al. 2015, Table 6"
IDENTITY_MAPPINGS = "He et al. 2016, Table 3"

CIFAR10_ERROR = {
    "resnet20": (8.75, RESNET),
    "resnet32": (7.51, RESNET),
    "resnet44": (7.17, RESNET),
    "resnet56": (6.97, RESNET),
    "resnet1202": (7.93, RESNET),
    "resnet110": (6.61, IDENTITY_MAPPINGS),
    "resnet164": (5.93, IDENTITY_MAPPINGS),
    "resnet1001": (7.61, IDENTITY_MAPPINGS),
    "preact_resnet110": (6.37, IDENTITY_MAPPINGS),
    "preact_resnet164": (5.46, IDENTITY_MAPPINGS),
    "preact_resnet1001": (4.92, IDENTITY_MAPPINGS),
}


def paper_error(model, arguments, dataset):
    """The papers' figure for a network, and where it stands.

    Args:
        model: architecture.
        arguments: its arguments besides the defaults.
        dataset: "cifar10".

    Returns:
        ``(error, source)``: percent and text; ``(None, None)`` where the papers have none.
    """
    if arguments or dataset != "cifar10":
        return None, None
    return CIFAR10_ERROR.get(model, (None, None))
