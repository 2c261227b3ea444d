"""Which part of a dataset is for training, which for choosing, which for measuring: one rule, whatever it is for.

- Training images are those of ``train``.
- Test images are those of ``test``; where there are none, those of the validation split, which then
  serves for nothing else.
- Validation images are those of the validation split, where it is not the test set. What trains without
  choosing anything leaves them alone; what needs them and has none takes them from the training images.
"""

import re

import numpy as np

TRAIN, VALIDATION, TEST = "train", "validation", "test"
WORDS = {
    TRAIN: ("train", "training", "trainset"),
    VALIDATION: ("val", "valid", "validation", "eval", "evaluation", "dev", "valset"),
    TEST: ("test", "testing", "testset"),
}
KINDS = {word: kind for kind, words in WORDS.items() for word in words}
# Left by systems and programs, in no data set: Jupyter, Synology, Windows, macOS, Linux.
HIDDEN = re.compile(r"[.@$]|__MACOSX$|System Volume Information$|lost\+found$")


def is_hidden(name):
    """Whether a file or directory is none of the user's: ``.ipynb_checkpoints``, ``@eaDir``, ``__MACOSX``, ...

    Example:

    >>> is_hidden(".ipynb_checkpoints"), is_hidden("cat")
    (True, False)
    """
    return bool(HIDDEN.match(name))


def assign_splits(names):
    """Which split serves for what, by the rule above.

    Args:
        names: of the splits that there are, as "train", "Val", "seg_test", "training_set". Others are
            passed over.

    Returns:
        Dictionary from "train", "test" and "validation" to the name; without those that are missing.

    Raises:
        ValueError: two names mean the same, as "val" and "validation".

    Example:

    >>> assign_splits(["train", "val"])
    {'train': 'train', 'test': 'val'}
    >>> assign_splits(["Train", "Test", "Valid"])
    {'train': 'Train', 'test': 'Test', 'validation': 'Valid'}
    """
    families = {}
    for name in names:
        kind, rest = _kind(name)
        if kind:
            families.setdefault(rest, {}).setdefault(kind, []).append(name)
    # Of "train", "test", "freight_train" the first two belong together: their names are the same but for the split.
    whole = [family for family in families.values() if TRAIN in family and len(family) > 1]
    if len(whole) > 1:
        found = [name for family in whole for names in family.values() for name in names]
        raise ValueError(f"{', '.join(found)} are several sets of splits: keep one of them.")
    partial = [family for family in families.values() if TRAIN in family] or list(families.values())
    family = (whole or partial or [{}])[0]
    for kind, found in family.items():
        if whole and len(found) > 1:
            raise ValueError(f"{' and '.join(found)} both name the {kind} split: keep one of them.")
    chosen = {kind: found[0] for kind, found in family.items()}
    if TEST not in chosen and VALIDATION in chosen:
        chosen[TEST] = chosen.pop(VALIDATION)
    return {kind: chosen[kind] for kind in (TRAIN, TEST, VALIDATION) if kind in chosen}


def names_a_split(name):
    """Whether a name has the word of a split in it.

    Example:

    >>> names_a_split("seg_train"), names_a_split("trainer")
    (True, False)
    """
    return _kind(name)[0] is not None


def _kind(name):
    """The kind of split that a name means, or None, and its other words: ("test", ("seg",)) of "seg_test"."""
    words = [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)]
    kinds = [KINDS[word] for word in words if word in KINDS]
    if len(kinds) != 1:
        return None, ()
    return kinds[0], tuple(word for word in words if word not in KINDS)


def split_images(labels, shares, seed=0, class_names=None):
    """Splits images at random, each class in the same shares.

    Args:
        labels: ``(n,)``, class numbers.
        shares: of the parts, which sum to 1.
        seed: of the order; the same seed gives the same parts.
        class_names: by class number, for messages; or None.

    Returns:
        Tuple of sorted int arrays, positions of the images of each part. Every part has an image of
        each class.

    Raises:
        ValueError: shares do not sum to 1, or a class has fewer images than there are parts.

    Example:

    >>> train, test = split_images([0, 0, 0, 0, 1, 1, 1, 1], (0.75, 0.25))
    >>> len(train), len(test)
    (6, 2)
    """
    labels, shares = np.asarray(labels), np.asarray(shares, "float64")
    if (shares <= 0).any() or abs(shares.sum() - 1) > 1e-6:
        shown = ", ".join(f"{share:g}" for share in shares)
        raise ValueError(f"shares {shown} must be positive and sum to 1: parts that are split off must leave some.")
    rng, parts = np.random.default_rng(seed), [[] for _ in shares]
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        if len(members) < len(shares):
            name = class_names[label] if class_names else label
            raise ValueError(
                f"class {name} has {len(members)} images, and {len(shares)} parts need at least one each: add "
                "images, leave the class out, or give validation images of your own."
            )
        ends = np.round(np.cumsum(shares) * len(members)).astype(int)
        for part in range(len(shares)):  # one at least for each part, and for those after it
            least, most = part + 1, len(members) - (len(shares) - 1 - part)
            ends[part] = np.clip(ends[part], max(least, ends[part - 1] + 1 if part else 1), most)
        for part, chosen in zip(parts, np.split(members, ends[:-1]), strict=True):
            part.extend(chosen)
    return tuple(np.sort(part) for part in parts)
