"""Image features: the output of a network before its classifier."""

import functools
import os
import weakref
from collections.abc import Sequence

import keras
import numpy as np

from keras_resv2.argument_checks import check_count
from keras_resv2.evaluation import check_images, predictions, slices
from keras_resv2.files import atomic_write
from keras_resv2.pretrained import from_pretrained, pretrained_card
from keras_resv2.transfer import body_of

# A network without its classifier is a new model, which takes the backend seconds to compile, and TensorFlow does not
# free all of the memory. So it is created once for each model, and cached for the name used last.
_BODIES: weakref.WeakKeyDictionary[keras.Model, tuple[list, keras.Model]] = weakref.WeakKeyDictionary()


def embed(name: str | os.PathLike | keras.Model, images: np.ndarray, batch_size: int = 256) -> np.ndarray:
    """Computes image features, for search, clustering and small classifiers.

    Args:
        name: pretrained network, see `keras_resv2.from_pretrained`; or a `keras.Model` that ends with its classifier,
            such as a fine-tuned one.
        images: ``(n, height, width, 3)``, pixels from 0 to 255.
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
    body = _pretrained_body(name) if isinstance(name, (str, os.PathLike)) else _body(name)
    images, _ = check_images(body, images)
    batches = slices(images, range(len(images)), batch_size)
    return np.concatenate([features for features, _ in predictions(body, batches)]).astype("float32", copy=False)


def _pretrained_body(name):
    card = pretrained_card(name)
    settings = keras.config.dtype_policy().name, keras.config.floatx(), keras.config.image_data_format()
    return _open_body(str(name), str(card.folder), card.full_name, card.sha256, settings)


@functools.lru_cache(maxsize=1)
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
        count: number of neighbors of each query, at most n.

    Returns:
        ``(positions, similarities)``, both ``(m, count)``, most similar first: int and float32, -1 to 1.

    Example:

    >>> positions, _ = nearest_neighbors(np.eye(3), np.array([[0.1, 2.0, 0.3]]), count=2)
    >>> positions.tolist()
    [[1, 2]]
    """
    similarities = _unit(queries) @ _unit(features).T
    positions = np.argsort(-similarities, axis=1, kind="stable")[:, :count]
    return positions, np.take_along_axis(similarities, positions, axis=1)


nearest_neighbours = nearest_neighbors  # the former name


def _unit(vectors):
    vectors = np.asarray(vectors, "float32")
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def write_features(path: str | os.PathLike, name: str, paths: Sequence[str], features: np.ndarray) -> None:
    """Writes ``paths`` (text), ``features`` (float32) and ``network`` to an .npz file, atomically."""
    with atomic_write(path) as partial, open(partial, "wb") as file:
        np.savez(file, paths=np.array(paths), features=features, network=np.array(name))
