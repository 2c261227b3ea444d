"""The valid values of a card's fields. An untrusted card determines which files are opened and which network is built.

Keys that are not in the table are ignored, so that cards of later versions of this package open in this one: a later
version may add fields, but anything that changes the meaning of the weights goes into `arguments`, whose unknown keys
are rejected. All other values must have the types, ranges and lengths below.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

from keras_resv2.architectures import ARCHITECTURES, WIDEST, find_architecture
from keras_resv2.argument_checks import nearest, some
from keras_resv2.files import check_file_name
from keras_resv2.models.config import count_kernel_weights, resolve_network
from keras_resv2.storage.checksum import checksum_of

WEIGHTS_ENDING = ".h5"
ORIGIN_ENDINGS = (".h5", ".hdf5", ".keras", ".pt", ".pth", ".bin", ".ckpt", ".tar", ".safetensors")
ADDRESS = re.compile(r"(https?|file)://[^\s\x00-\x1f\x7f]+", re.IGNORECASE)
REPOSITORY = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")  # on the Hub
HEX = {"sha256": re.compile("[0-9a-f]{64}"), "sha1": re.compile("[0-9a-f]{40}"), "md5": re.compile("[0-9a-f]{32}")}
MOST_CLASSES, LONGEST_TEXT, LONGEST_NAME, DEEPEST = 100_000, 10_000, 1_000, 8
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
MOST_PIXELS = 4096 * 4096
MOST_TIMES = 4  # bytes of a weight file, by those of the convolutions of the branches and the classifier
MOST_FEATURES = 2**13  # inputs of a classifier
MOST_WEIGHTS = 500_000_000  # a network is built before its weights are compared with it
# Arguments of `ResNet` that the weights depend on; the depth is part of the architecture.
ARGUMENTS = ("activation", "shortcut", "branch", "projection", "stride_on", "stem", "preprocessing", "stride_in")
ARGUMENTS += ("conv_bias", "activated_shortcuts", "padding", "output_stride", "width")
# For weights trained with another library, these may be unknown (None).
MEASURED = ("test_error", "test_images", "median_error", "recipe", "command", "seed", "steps", "wall_seconds")
MEASURED += ("hardware", "backend", "commit", "size", "sha256")


@dataclasses.dataclass(frozen=True)
class _Kind:
    """A kind of value.

    Attributes:
        words: description for messages.
        fits: function that returns whether a value is valid.
        optional: whether the value may be None.
    """

    words: str
    fits: Callable
    optional: bool = False


def _is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -1e300 < value < 1e300


def _is_count(value):
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 10**15


def _is_text(value, longest=LONGEST_TEXT):
    """Returns whether a value is text without control characters, which could control the terminal."""
    return isinstance(value, str) and len(value) <= longest and not CONTROL.search(value)


def _is_class_name(value):
    return _is_text(value, LONGEST_NAME)


def _is_plain(value, depth=0):
    """Returns whether a value is JSON of ordinary size: text, numbers, and lists and dictionaries of them."""
    if isinstance(value, (list, tuple)):
        return depth < DEEPEST and all(_is_plain(item, depth + 1) for item in value)
    if isinstance(value, dict):
        return depth < DEEPEST and all(_is_text(key) and _is_plain(item, depth + 1) for key, item in value.items())
    return value is None or isinstance(value, bool) or _is_number(value) or _is_text(value)


def _dictionary_of(fits):
    return lambda value: isinstance(value, dict) and all(_is_text(key) and fits(v) for key, v in value.items())


def _percent(value):
    return _is_number(value) and 0 <= value <= 100


def _address(value):
    return _is_text(value) and bool(ADDRESS.fullmatch(value))


TEXT, OPTIONAL_TEXT = _Kind("text of one line", _is_text), _Kind("text of one line", _is_text, True)
COUNT = _Kind("a whole number, at least 0", _is_count, True)
PERCENT = _Kind("a number from 0 to 100", _percent, True)
PLAIN = _Kind("a dictionary of numbers and texts", lambda value: isinstance(value, dict) and _is_plain(value))
ADDRESS_KIND = _Kind("a URL that starts with https://, http:// or file://", _address, True)

FIELDS = {
    "name": TEXT,
    "version": _Kind("a whole number, at least 1", lambda value: _is_count(value) and 1 <= value < 10**9),
    "architecture": TEXT,
    "arguments": PLAIN,
    "parameters": dataclasses.replace(COUNT, optional=False),
    "dataset": TEXT,
    "class_names": _Kind(
        f"a list of 1 to {MOST_CLASSES:,} names, each of one line",
        lambda value: (
            isinstance(value, (list, tuple)) and 1 <= len(value) <= MOST_CLASSES and all(map(_is_class_name, value))
        ),
    ),
    "image_shape": _Kind(
        "height, width and channels of ordinary images",
        lambda value: (
            isinstance(value, (list, tuple))
            and len(value) == 3
            and all(_is_count(side) and side for side in value)
            and math.prod(value[:2]) <= MOST_PIXELS
            and value[2] <= 1024
        ),
    ),
    "dataset_sha256": _Kind("a dictionary of texts", _dictionary_of(_is_text)),
    "test_error": PERCENT,
    "test_errors_first_2000": COUNT,
    "test_images": COUNT,
    "seed_errors": _Kind("a dictionary of numbers from 0 to 100", _dictionary_of(_percent)),
    "median_error": PERCENT,
    "paper_error": PERCENT,
    "paper": OPTIONAL_TEXT,
    "recipe": OPTIONAL_TEXT,
    "recipe_values": PLAIN,
    "command": OPTIONAL_TEXT,
    "seed": COUNT,
    "steps": COUNT,
    "wall_seconds": _Kind("a number, at least 0", lambda value: _is_number(value) and value >= 0, True),
    "hardware": OPTIONAL_TEXT,
    "backend": OPTIONAL_TEXT,
    "versions": PLAIN,
    "commit": OPTIONAL_TEXT,
    "size": _Kind("a whole number, at least 1", lambda value: _is_count(value) and value >= 1, True),
    "sha256": _Kind(
        "64 hexadecimal digits", lambda value: isinstance(value, str) and bool(HEX["sha256"].fullmatch(value)), True
    ),
    "file": TEXT,
    "url": ADDRESS_KIND,
    "license": TEXT,
    "origin": dataclasses.replace(PLAIN, optional=True),
    "class_index": dataclasses.replace(PLAIN, optional=True),
    "train_images": COUNT,
    "initial_weights": OPTIONAL_TEXT,
    "details": dataclasses.replace(PLAIN, optional=True),
}


def check_class_names(names: Sequence[str], where: str) -> None:
    """Raises ValueError if a card cannot hold the names of the classes.

    Args:
        names: names of the classes.
        where: where the names are from, for the message.
    """
    for name in names:
        if not _is_class_name(name):
            raise ValueError(
                f"{where}: the class name {_shown(name)} has control characters, is not valid Unicode or has more than "
                f"{LONGEST_NAME:,} characters: rename the class."
            )


def check_fields(content: dict[str, Any]) -> None:
    """Raises ValueError unless the fields of a card are valid according to the table.

    Args:
        content: dictionary of the fields of `keras_resv2.pretrained.Card`, without `folder`.

    Raises:
        ValueError: if a field is not valid; the message has its name, its value and what is valid.
    """
    for key, kind in FIELDS.items():
        value = content[key]
        if not (kind.optional and value is None) and not kind.fits(value):
            raise ValueError(f"{key} is {_shown(value)} but must be {kind.words}.")
    if "@" in check_file_name(content["name"], "name"):
        raise ValueError(f"name is {_shown(content['name'])} but must not contain an @.")
    if not check_file_name(content["file"], "file").endswith(WEIGHTS_ENDING):
        raise ValueError(f"file is {_shown(content['file'])} but must end in {WEIGHTS_ENDING}.")
    weights = _count_weights(content["architecture"], content["arguments"])
    largest = 4 * (weights + MOST_FEATURES * len(content["class_names"]))
    if content["size"] is not None and content["size"] > MOST_TIMES * largest + 2**20:
        raise ValueError(f"size is {content['size']:,} bytes, too large for weights of {content['architecture']}.")
    if content["origin"] is not None:
        _check_origin(content["origin"], content["file"])
    if content["class_index"] is not None:
        check_class_index(content["class_index"])
    known = {} if content["origin"] is None else content["origin"]
    needed = [] if known else [key for key in MEASURED if content[key] is None]
    if not known and not {"train", "test"} <= set(content["dataset_sha256"]):
        needed.append("dataset_sha256")
    if (content["sha256"] is None or content["size"] is None) and not (known.get("url") or known.get("hub")):
        needed += [key for key in ("size", "sha256") if content[key] is None and key not in needed]
    if needed:
        raise ValueError(f"{', '.join(needed)} must not be null.")


def _count_weights(architecture, arguments):
    """Returns about how many weights a network has.

    Raises:
        ValueError: unless the architecture exists and accepts the arguments, and the network has an ordinary size.
    """
    try:
        row = find_architecture(architecture)
    except ValueError:
        raise ValueError(
            f"architecture {_shown(architecture)} is unknown; did you mean {nearest(architecture, ARCHITECTURES)}?"
        ) from None
    others = [name for name in arguments if name not in ARGUMENTS]
    if others:
        raise ValueError(
            f"arguments contains unknown keys: {_shown(some(others))}. A newer version of keras_resv2 may support them."
        )
    if not isinstance(arguments.get("conv_bias", False), bool):
        raise ValueError(f"arguments: conv_bias is {_shown(arguments['conv_bias'])} but must be true or false.")
    width = arguments.get("width", 1)
    if not _is_count(width) or not 1 <= width <= WIDEST:
        raise ValueError(f"arguments: width is {_shown(width)} but must be a whole number from 1 to {WIDEST}.")
    try:
        layout, spec = resolve_network(**row.arguments(**arguments))
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"arguments: {error}") from None
    weights = count_kernel_weights(layout, spec)
    if weights > MOST_WEIGHTS:
        raise ValueError(f"architecture {_shown(architecture)} has {weights:,} weights, more than {MOST_WEIGHTS:,}.")
    return weights


def _check_origin(origin, file):
    """Checks where the weights of another library come from and, if there is a `url`, are downloaded from."""
    for key in sorted(origin.keys() & {"layout", "file"}):
        if not _is_text(origin[key]):
            raise ValueError(f"origin: {key} is {_shown(origin[key])} but must be text of one line.")
    reported = origin.get("reported_error")
    if reported is not None and not _percent(reported):
        raise ValueError(f"origin: reported_error is {_shown(reported)} but must be a number from 0 to 100, or null.")
    _check_sums(origin, "origin")
    if origin.get("hub") is not None and not (isinstance(origin["hub"], str) and REPOSITORY.fullmatch(origin["hub"])):
        raise ValueError(f"origin: hub is {_shown(origin['hub'])} but must be of the form user/name.")
    if origin.get("url") is None:
        return
    if not _address(origin["url"]):
        raise ValueError(f"origin: url is {_shown(origin['url'])} but must be {ADDRESS_KIND.words}.")
    name = check_file_name(origin.get("file"), "origin: file")
    if name == file or not name.endswith(ORIGIN_ENDINGS) or not checksum_of(origin):
        raise ValueError(
            "origin: a url needs the md5 or sha1 of the file, or a file name with the first eight digits of its "
            "SHA-256, and a file name other than that of the weight file."
        )


def check_class_index(index: dict[str, Any]) -> None:
    """Raises ValueError unless `class_index` of a card has a valid url, md5 and number of classes."""
    _check_sums(index, "class_index")
    if not _address(index.get("url")) or not index.get("md5"):
        raise ValueError("class_index needs the url of a file and its md5.")
    count = index.get("classes")
    if not isinstance(count, int) or not _is_count(count) or not 1 <= count <= MOST_CLASSES:
        raise ValueError(
            f"class_index: classes is {_shown(count)} but must be a whole number from 1 to {MOST_CLASSES:,}."
        )


def _check_sums(content, where):
    for key, pattern in HEX.items():
        value = content.get(key)
        if value is not None and not (isinstance(value, str) and pattern.fullmatch(value)):
            raise ValueError(f"{where}: {key} is {_shown(value)} but must be hexadecimal digits.")


def _shown(value):
    """Formats a value for a message: truncated, and without control characters."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
