"""Downloads weights of third parties and converts them once into weight folders of the cache."""

import dataclasses
import math

from keras_resv2.architectures import find_architecture
from keras_resv2.convert.detection import detect
from keras_resv2.convert.readers import STRUCTURE
from keras_resv2.convert.readers.pytorch_file import check_pytorch
from keras_resv2.convert.weight_folder import make_card, write_folder
from keras_resv2.convert.weight_shapes import weight_shapes
from keras_resv2.files import check_file_name
from keras_resv2.storage import download
from keras_resv2.storage.card import read_card
from keras_resv2.storage.checksum import checksum_of
from keras_resv2.storage.local import CARD, converted_root

MOST_TIMES = 4  # bytes of a file that is fetched, by those of its weights: optimizers keep two more of each


def fetch(card):
    """Downloads the file of a card's origin and converts it into the cache, unless it is there already.

    Args:
        card: `Card` whose `origin` has url, file, and md5 or sha1 unless the name of the file has digits of its
            SHA-256. If the url is that of a zip archive, this contains the file.

    Returns:
        `Card` of the converted weights, in the cache.

    Raises:
        OSError: if the file cannot be downloaded, or the cache cannot be written.
        ValueError: if it is not the expected file.
        ImportError: if it is a PyTorch file, and PyTorch is not installed.
    """
    root = converted_root(card)
    folder = root / card.name / str(card.version)
    original = folder / check_file_name(card.origin["file"], "origin: file")
    with download.file_lock(folder / CARD):
        if not (folder / CARD).exists():
            check_pytorch(original)
            url, checksum = card.origin["url"], checksum_of(card.origin)
            assert checksum is not None  # every card with a url has one
            limit = MOST_TIMES * _bytes_of(card)
            if url.endswith(".zip") and original.suffix != ".zip":
                download.fetch_zipped(url, original, checksum, limit)
            else:
                download.fetch(url, original, None, checksum, limit)
            try:
                structure = {name: value for name, value in card.arguments.items() if name in STRUCTURE}
                found = detect(original, card.architecture, **structure)
            except ValueError:
                original.unlink()
                raise
            made = make_card(found, card.name, card.version, card.dataset, license=card.license)
            origin = {**card.origin, **(made.origin or {})}
            with download.writes_cache(original):
                write_folder(
                    found.weights, dataclasses.replace(made, origin=origin, class_index=card.class_index), root
                )
                original.unlink()
    return read_card(folder / CARD)


def _bytes_of(card):
    """Returns the size of a network's weights as float32."""
    network = find_architecture(card.architecture).arguments(**card.arguments)
    return 4 * sum(math.prod(shape) for shape in weight_shapes(len(card.class_names), **network).values())
