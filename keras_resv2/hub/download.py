"""`pull`: weights from a repository of the Hugging Face Hub, verified."""

from keras_resv2.hub import timm
from keras_resv2.hub.client import REFERENCE, fetch_files
from keras_resv2.storage import local
from keras_resv2.storage.card import LARGEST, Card, read_card


def pull(reference: str) -> Card:
    """Fetches the card and the weight file of a repository into the Hub client's cache, where they are not yet.

    Args:
        reference: ``hf://user/name``, or with ``@`` and a branch, tag or commit.

    Returns:
        `keras_resv2.pretrained.Card`; its `folder` holds the files, whose SHA-256 is the card's. Of a repository of
        timm's (``hf://timm/resnet18.a1_in1k``) that is a folder of the cache, with the converted weights.

    Raises:
        ValueError: the reference is none, there is no such repository or revision, it holds neither a card nor a
            network of timm's that this package builds, or the weight file is damaged.
        ConnectionError: the Hub cannot be reached, or must not (HF_HUB_OFFLINE=1), and the cache has no copy.
        ImportError: huggingface_hub is not installed.

    Example:

    >>> pull("hf://me/resnet20-cifar10").test_error  # doctest: +SKIP
    8.48
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
    if not (folder / card.file).is_file():  # of the card's commit, should the branch move meanwhile
        fetch({local.CARD: (0, LARGEST), card.file: (card.size, card.size)})
    path = folder / card.file
    if not path.is_file():
        raise ValueError(f"{reference} holds no {card.file}, which its card names.")
    try:
        local.check_sum(path, card)
    except ValueError:
        raise ValueError(
            f"{reference}: {card.file} is damaged, its SHA-256 is not the card's. Delete {path.resolve()} to fetch it "
            "again; if that does not help, what the Hub has is damaged."
        ) from None
    return card
