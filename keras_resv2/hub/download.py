"""`pull`: downloads and verifies weights from a repository on the Hugging Face Hub."""

from keras_resv2.hub import timm
from keras_resv2.hub.client import REFERENCE, fetch_files
from keras_resv2.storage import local
from keras_resv2.storage.card import LARGEST, Card, read_card


def pull(reference: str) -> Card:
    """Downloads the card and the weight file of a repository into the Hub client's cache unless they are there already.

    Args:
        reference: ``hf://user/name``, optionally followed by ``@`` and a branch, tag or commit.

    Returns:
        `keras_resv2.pretrained.Card`; its `folder` contains the files, verified by SHA-256. For a timm repository
        (``hf://timm/resnet18.a1_in1k``) it is a folder of the cache with the converted weights.

    Raises:
        ValueError: if the reference is malformed, the repository or revision does not exist, it contains neither a card
            nor a timm network that this package builds, the card has no size or checksum, or the weight file is
            damaged.
        ConnectionError: if the Hub cannot be reached, or HF_HUB_OFFLINE=1 is set, and the cache has no copy.
        ImportError: if huggingface_hub is not installed.

    Example:

    >>> pull("hf://me/resnet20-cifar10").test_error  # doctest: +SKIP
    8.2
    """
    found = REFERENCE.fullmatch(reference)
    if not found:
        raise ValueError(f"{reference!r} must be of the form hf://user/name or hf://user/name@revision.")
    repository, revision = found.groups()
    folder, fetch = fetch_files(reference, repository, revision, {local.CARD: (0, LARGEST)})
    if not (folder / local.CARD).is_file():
        return timm.convert(reference, repository, folder.name, fetch)
    try:
        card = read_card(folder / local.CARD)
    except ValueError as error:
        raise ValueError(f"{reference}: {error}") from None
    if card.size is None or card.sha256 is None:
        raise ValueError(f"{reference}: its card states no size or checksum of {card.file}, so it is not downloaded.")
    if not (folder / card.file).is_file():  # from the card's commit, in case the branch has moved
        fetch({local.CARD: (0, LARGEST), card.file: (card.size, card.size)})
    path = folder / card.file
    if not path.is_file():
        raise ValueError(f"{reference} does not contain {card.file}, which its card names.")
    try:
        local.verify_checksum(path, card)
    except ValueError:
        raise ValueError(
            f"{reference}: {card.file} is damaged, its SHA-256 does not match the card. Delete {path.resolve()} to "
            "download it "
            "again; if that does not help, the file on the Hub is damaged."
        ) from None
    return card
