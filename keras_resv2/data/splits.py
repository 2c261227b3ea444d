"""The roles of splits: one rule for which images are used for training, validation and testing.

- Training images are those of ``train``.
- Test images are those of ``test``; if there are none, those of the validation split, which is then used for
  nothing else.
- Validation images are those of the validation split, unless it is the test set. Training without model selection
  does not use them; if they are needed but missing, they are split off the training images.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from keras_resv2.data.checks import class_numbers

TRAIN, VALIDATION, TEST = "train", "validation", "test"
WORDS = {
    TRAIN: ("train", "training", "trainset"),
    VALIDATION: ("val", "valid", "validation", "eval", "evaluation", "dev", "valset"),
    TEST: ("test", "testing", "testset"),
}
KINDS = {word: kind for kind, words in WORDS.items() for word in words}
# Created by systems and programs, not part of a dataset: Jupyter, Synology and QNAP, Windows, macOS, Linux.
HIDDEN = re.compile(
    r"\.|@eaDir$|@Recycle$|@__thumb$|@Recently-Snapshot$|#recycle$|#snapshot$|\$RECYCLE\.BIN$|__MACOSX$"
    r"|System Volume Information$|lost\+found$",
    re.IGNORECASE,
)


def is_hidden(name: str) -> bool:
    """Returns whether a file or directory was created by software, such as ``.ipynb_checkpoints`` or ``__MACOSX``.

    Example:

    >>> is_hidden(".ipynb_checkpoints"), is_hidden("cat")
    (True, False)
    >>> is_hidden("@eaDir"), is_hidden("$5")
    (True, False)
    """
    return bool(HIDDEN.match(name))


def assign_splits(names: Iterable[str]) -> dict[str, str]:
    """Assigns splits to roles by the rule above.

    Args:
        names: names of the existing splits, such as "train", "Val", "seg_test", "training_set". Other names are
            ignored.

    Returns:
        Dictionary from "train", "test" and "validation" to the name, without those that are missing.

    Raises:
        ValueError: if two names mean the same split, such as "val" and "validation".

    Example:

    >>> assign_splits(["train", "val"])
    {'train': 'train', 'test': 'val'}
    >>> assign_splits(["Train", "Test", "Valid"])
    {'train': 'Train', 'test': 'Test', 'validation': 'Valid'}
    """
    families: dict[tuple[str, ...], dict[str, list[str]]] = {}
    for name in names:
        kind, rest = _kind(name)
        if kind:
            families.setdefault(rest, {}).setdefault(kind, []).append(name)
    # Of "train", "test" and "freight_train" the first two belong together: their names differ only in the split.
    whole = [family for family in families.values() if TRAIN in family and len(family) > 1]
    if len(whole) > 1:
        found = [name for family in whole for names in family.values() for name in names]
        raise ValueError(f"{', '.join(found)} are different sets of splits: keep only one of them.")
    partial = [family for family in families.values() if TRAIN in family] or list(families.values())
    family = (whole or partial or [{}])[0]
    for kind, found in family.items():
        if whole and len(found) > 1:
            raise ValueError(f"{' and '.join(found)} both name the {kind} split: keep only one of them.")
    chosen = {kind: found[0] for kind, found in family.items()}
    if TEST not in chosen and VALIDATION in chosen:
        chosen[TEST] = chosen.pop(VALIDATION)
    return {kind: chosen[kind] for kind in (TRAIN, TEST, VALIDATION) if kind in chosen}


def names_a_split(name: str) -> bool:
    """Returns whether a name contains the word for a split.

    Example:

    >>> names_a_split("seg_train"), names_a_split("trainer")
    (True, False)
    """
    return _kind(name)[0] is not None


def _kind(name):
    """Returns the kind of split that a name means, or None, and its other words: ("test", ("seg",)) for "seg_test"."""
    words = [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)]
    kinds = [KINDS[word] for word in words if word in KINDS]
    if len(kinds) != 1:
        return None, ()
    return kinds[0], tuple(word for word in words if word not in KINDS)


def split_images(
    labels: Any, shares: Sequence[float], seed: int = 0, class_names: Sequence[str] | None = None
) -> tuple[np.ndarray, ...]:
    """Splits images at random into shares, stratified by class.

    Args:
        labels: ``(n,)``, class indices.
        shares: sizes of the parts, which sum to 1.
        seed: random seed; the same seed gives the same parts.
        class_names: class names for messages, or None.

    Returns:
        Tuple of sorted int arrays: positions of the images of each part. Every part has at least one image of each
        class.

    Raises:
        ValueError: if labels are one-hot rows, shares do not sum to 1, or a class has fewer images than there are
            parts.

    Example:

    >>> train, test = split_images([0, 0, 0, 0, 1, 1, 1, 1], (0.75, 0.25))
    >>> len(train), len(test)
    (6, 2)
    """
    labels, sizes = np.asarray(labels), np.asarray(shares, "float64")
    if labels.ndim != 1:
        labels = class_numbers(labels)
    if not (sizes > 0).all() or abs(sizes.sum() - 1) > 1e-6:
        shown = ", ".join(f"{share:g}" for share in shares)
        raise ValueError(f"shares {shown} must be positive and sum to 1: every part needs some images.")
    rng, parts = np.random.default_rng(seed), [[] for _ in sizes]
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        if len(members) < len(shares):
            name = class_names[label] if class_names else label
            raise ValueError(
                f"class {name} has {len(members)} images, but {len(shares)} parts need at least one each: add "
                "images, remove the class, or pass your own validation images."
            )
        ends = np.round(np.cumsum(sizes) * len(members)).astype(int)
        for part in range(len(shares)):  # at least one for this part and for each following part
            least, most = part + 1, len(members) - (len(shares) - 1 - part)
            ends[part] = np.clip(ends[part], max(least, ends[part - 1] + 1 if part else 1), most)
        for part, chosen in zip(parts, np.split(members, ends[:-1]), strict=True):
            part.extend(chosen)
    return tuple(np.sort(part) for part in parts)


def evenly_spaced(length: int, count: int) -> np.ndarray:
    """Returns `count` positions from the first to the last of `length`; all if there are not as many.

    Example:

    >>> evenly_spaced(9, 3).tolist()
    [0, 4, 8]
    """
    return np.linspace(0, length - 1, min(count, length)).astype(int)
