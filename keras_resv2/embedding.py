"""Image features: the output of a network before its classifier."""

import functools
import os
import weakref
from collections.abc import Sequence

import keras
import numpy as np

from keras_resv2.argument_checks import check_count, warn_caller
from keras_resv2.evaluation import check_images, predictions, slices
from keras_resv2.files import atomic_write
from keras_resv2.hub import PREFIX
from keras_resv2.pretrained import from_pretrained, pretrained_card
from keras_resv2.storage.local import pinned_name
from keras_resv2.transfer import body_of

FAR = 3  # ratio of the numbers of pixels
MOST_PAIRS = 2**24  # of features and queries whose similarities are in memory

# A network without its classifier is a new model, which takes the backend seconds to compile, and TensorFlow does not
# free all of the memory. So it is created once for each model, and cached for the two names used last.
_BODIES: weakref.WeakKeyDictionary[keras.Model, tuple[list, keras.Model]] = weakref.WeakKeyDictionary()


def embed(name: str | os.PathLike | keras.Model, images: np.ndarray, batch_size: int = 256) -> np.ndarray:
    """Computes image features, for search, clustering and small classifiers.

    Args:
        name: pretrained network, see `keras_resv2.from_pretrained`; or a `keras.Model` that ends with its classifier,
            such as a fine-tuned one.
        images: ``(n, height, width, 3)``, pixels from 0 to 255. Pretrained networks accept any size, and warn if it is
            far from the size of their training images.
        batch_size: images per forward pass.

    Returns:
        float32 ``(n, channels)``: feature maps of the last stage, averaged over the image.

    Raises:
        ValueError: as in `keras_resv2.from_pretrained`, or if the model has no classifier to remove, there are no
            images, or their pixels have the wrong scale.

    Example:

    >>> embed("resnet20-cifar10", np.zeros((2, 32, 32, 3), "uint8")).shape
    (2, 64)
    """
    check_count("batch_size", batch_size)
    card = _card(name) if isinstance(name, (str, os.PathLike)) else None
    body = _body(name) if card is None else _pretrained_body(name, card)
    images, _ = check_images(body, images)
    if card is not None:
        _check_size(card, images)
    batches = slices(images, range(len(images)), batch_size)
    found = predictions(body, batches, padded_size(len(images), batch_size))
    return np.concatenate([features for features, _ in found]).astype("float32", copy=False)


def padded_size(count: int, batch_size: int) -> int:
    """Returns the size that batches of `count` images are padded to.

    JAX compiles a program for each size, so there it is a power of two, for services that get any number of images.

    Example:

    >>> padded_size(600, 256)
    256
    """
    size = min(count, batch_size)
    if keras.backend.backend() == "jax":
        return min(1 << (size - 1).bit_length(), batch_size)
    return size


def _card(name):
    return _hub_card(name) if str(name).startswith(PREFIX) else pretrained_card(name)


@functools.lru_cache(maxsize=16)
def _hub_card(name):
    """Returns the card of a Hub repository, which is looked up once per process."""
    return pretrained_card(name)


def _check_size(card, images):
    if not 1 / FAR <= images[0].size / np.prod(card.image_shape) <= FAR:
        size = tuple(card.image_shape[:2])
        warn_caller(
            f"images {images.shape} are far from the size that {card.full_name} was trained on, {size}, so their "
            f"features may be of little use: keras_resv2.prepare_images(images, {size}) resizes them.",
        )


def _pretrained_body(name, card):
    settings = keras.config.dtype_policy().name, keras.config.floatx(), keras.config.image_data_format()
    return _open_body(pinned_name(name, card), str(card.folder), card.full_name, card.sha256, settings)


@functools.lru_cache(maxsize=2)
def _open_body(name, folder, full_name, sha256, settings):
    """Returns the backbone with these weights, built under these Keras settings."""
    return from_pretrained(name, include_top=False, pooling="avg")


def _body(model):
    # Adapters and quantization replace variables; TensorFlow and JAX have compiled the backbone with those before.
    variables, body = _BODIES.get(model, ([], None))
    if body is None or [id(v) for v in variables] != [id(v) for v in model.variables]:
        body = body_of(model)
        _BODIES[model] = model.variables, body
    return body


def nearest_neighbors(features: np.ndarray, queries: np.ndarray, count: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Finds the most similar images by the cosine of their features.

    Args:
        features: ``(n, channels)``, features of the images to search.
        queries: ``(m, channels)``.
        count: number of neighbors of each query; all n if there are fewer.

    Returns:
        ``(positions, similarities)``, both ``(m, count)``, most similar first: int and float32, -1 to 1. Of equal
        similarities, the first positions.

    Raises:
        ValueError: if features are NaN or infinite, have other shapes, or `count` is not a whole number above 0.

    Example:

    >>> positions, _ = nearest_neighbors(np.eye(3), np.array([[0.1, 2.0, 0.3]]), count=2)
    >>> positions.tolist()
    [[1, 2]]
    """
    features, queries = _unit("features", features), _unit("queries", queries)
    if features.shape[1] != queries.shape[1] or not len(features):
        raise ValueError(f"features {features.shape} and queries {queries.shape} must have rows of the same length.")
    count = min(check_count("count", count), len(features))
    rows = max(1, MOST_PAIRS // len(features))
    positions = np.empty((len(queries), count), "int64")
    similarities = np.empty((len(queries), count), "float32")
    for first in range(0, len(queries), rows):
        block = queries[first : first + rows] @ features.T
        least = np.partition(block, len(features) - count, axis=1)[:, len(features) - count]
        for row, (values, lowest) in enumerate(zip(block, least, strict=True), first):
            candidates = np.flatnonzero(values >= lowest)
            chosen = candidates[np.argsort(-values[candidates], kind="stable")[:count]]
            positions[row], similarities[row] = chosen, values[chosen]
    return positions, similarities


nearest_neighbours = nearest_neighbors  # the former name


def _unit(argument, vectors):
    vectors = np.asarray(vectors, "float32")
    if vectors.ndim != 2 or not np.isfinite(vectors).all():
        wrong = f"have the shape {vectors.shape}" if vectors.ndim != 2 else "are NaN or infinite in some rows"
        raise ValueError(f"{argument} {wrong}: they must be finite numbers (n, channels), as embed returns them.")
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def write_features(path: str | os.PathLike, name: str, paths: Sequence[str], features: np.ndarray) -> None:
    """Writes ``paths`` (text), ``features`` (float32) and ``network`` to an .npz file, atomically."""
    with atomic_write(path) as partial, open(partial, "wb") as file:
        np.savez(file, paths=np.array(paths), features=features, network=np.array(name))
