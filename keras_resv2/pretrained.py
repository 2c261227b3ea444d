"""Pretrained weights by name: from the package, the cache or the Hub, or converted from third-party files."""

from __future__ import annotations

import fnmatch
import os
import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_resv2.architectures import find_architecture
from keras_resv2.argument_checks import check_count
from keras_resv2.files import check_file_name
from keras_resv2.hub import timm
from keras_resv2.hub.client import PREFIX
from keras_resv2.hub.download import pull
from keras_resv2.models.config import resolve_network
from keras_resv2.models.preprocessing import averaged_pixels
from keras_resv2.storage import local
from keras_resv2.storage.card import Card, folder_of

if TYPE_CHECKING:
    import keras

__all__ = ["Card", "from_pretrained", "is_pretrained", "list_pretrained", "pretrained_card", "weight_path"]

# Arguments of the builders that the shapes of the weights do not depend on.
FREE_ARGUMENTS = ("dtype", "include_preprocessing", "rolled", "rematerialize", "output_stride")

# Sources of weights by prefix of the name: a function that makes the weights available on this machine and returns
# their `Card`. Names without one of these prefixes are looked up in the package, the cache and folders.
SOURCES: dict[str, Callable[[str], Card]] = {PREFIX: pull}


def list_pretrained(pattern: str = "*", versions: bool = False) -> list[str]:
    """Lists the names that `from_pretrained` accepts.

    Args:
        pattern: shell-style pattern, such as "preact_*".
        versions: whether to list every version, such as "resnet20-cifar10@1", instead of each name once.

    Returns:
        List of names.

    Example:

    >>> list_pretrained("*resnet20-cifar10")
    ['preact_resnet20-cifar10', 'resnet20-cifar10']
    """
    names = {name: found for name, found in local.card_paths().items() if fnmatch.fnmatch(name, pattern)}
    return [f"{name}@{v}" for name, found in names.items() for v in found] if versions else list(names)


def pretrained_card(name: str | os.PathLike) -> Card:
    """Returns the card of pretrained weights: their measured error, how they were trained, their classes.

    Args:
        name: see `from_pretrained`.

    Returns:
        `Card`, with the attributes name, version, test_error and paper_error (percent), among others. Its weight file
        may not have been downloaded or converted yet: `from_pretrained` does that.

    Raises:
        ValueError: if the name (the message lists the closest ones) or version is unknown, or the card is damaged.
        FileNotFoundError: if a path does not contain a card.
        ConnectionError, ImportError: see `keras_resv2.hub.pull`, for names ``hf://user/name``.

    Example:

    >>> pretrained_card("resnet20-cifar10").class_names[0]
    'airplane'
    """
    if isinstance(name, str):
        for prefix, fetch in SOURCES.items():
            if name.startswith(prefix):
                return fetch(name)
    return local.find_card(name)


def is_pretrained(name: str) -> bool:
    """Returns whether a name is one of `list_pretrained`, with or without a version, or the place of a weight folder.

    Example:

    >>> is_pretrained("resnet20-cifar10@1"), is_pretrained("weights/mine/1"), is_pretrained("resnet20")
    (True, True, False)
    """
    return name.partition("@")[0] in list_pretrained() or local.is_folder(name) or local.contains_card(name)


def weight_path(card: Card) -> pathlib.Path:
    """Returns the verified weight file of a card, downloading and converting it into the cache if necessary.

    Args:
        card: `Card`.

    Returns:
        Path of a file whose SHA-256 matches the card.

    Raises:
        FileNotFoundError: if the file does not exist and the card has no URL.
        ValueError: if the file is damaged.
        OSError: if it cannot be downloaded, or the cache is not writable.
    """
    if card.sha256 is None and not (folder_of(card) / check_file_name(card.file, "file")).exists():
        if "hub" in (card.origin or {}):
            return local.weight_path(timm.fetch(card))
        from keras_resv2.convert.third_party import fetch  # conversion builds the network, which imports Keras

        return local.weight_path(fetch(card))
    return local.weight_path(card)


def from_pretrained(
    name: str | os.PathLike,
    *,
    classes: int | None = None,
    include_top: bool = True,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classifier_activation: str | Callable | None = "softmax",
    include_preprocessing: bool = True,
    rolled: bool = False,
    rematerialize: bool = False,
    dtype: str | keras.DTypePolicy | None = None,
    channels: int | None = None,
    output_stride: int | None = None,
    model_name: str | None = None,
) -> keras.Model:
    """Loads a network with its trained weights.

    Args:
        name: ``<architecture>-<dataset>``, as listed by `list_pretrained`; ``@<version>`` pins a version, otherwise the
            newest is used. Or the path of a weight folder, ``DIR/<name>/<version>``; or ``hf://user/name``
            (``@<revision>``), a repository on the Hugging Face Hub.
        classes: number of classes. None, or the number that the weights were trained with, keeps their classifier; any
            other number adds a new, randomly initialized classifier to the pretrained backbone. For other classes of
            the same number, such as ten other ones with weights of CIFAR-10, the model therefore starts with the
            trained classifier: `fine_tune` trains it further, but until then its outputs are those of the old classes.
        include_top: whether to include the classifier.
        input_tensor: Keras tensor to use as the input.
        input_shape: shape of one image, ``(height, width, channels)``. With the classifier it defaults to the shape of
            the training images.
        pooling: pooling of the output without the classifier: None (feature maps), "avg" or "max".
        classifier_activation: activation of the classifier; None for logits.
        include_preprocessing: whether the model takes raw pixels from 0 to 255 and normalizes them
            as in training.
        rolled, rematerialize: see `keras_resv2.ResNet`.
        dtype: Keras dtype policy; None for the global policy.
        channels: number of channels of the images; None for that of the training images. Any other number adapts the
            first convolution as timm does: for one channel the kernel is summed over its three channels, otherwise it
            is repeated and scaled. Pixels are then normalized by the averages of the weights' statistics.
        output_stride: see `keras_resv2.ResNet`; None for that of the weights. With another one the classifier averages
            more positions than in training: the error of the card does not hold.
        model_name: name of the model; None for that of the architecture. Two networks inside one model, such as an
            ensemble, need different names.

    Returns:
        `keras.Model` from pixels ``(batch, height, width, 3)`` to probabilities ``(batch, classes)``, or to features,
        like `keras_resv2.ResNet` with ``include_top=False``.

    Raises:
        ValueError: if the name or version is unknown, the file is damaged, or an argument is invalid.
        OSError: if the weights are missing or cannot be downloaded.
        ImportError: if third-party weights need a package that is not installed: huggingface_hub for timm's, PyTorch
            for .pth files.

    Example:

    >>> model = from_pretrained("resnet20-cifar10", classes=5)
    >>> model.output_shape
    (None, 5)
    """
    # These import Keras, which listing weights and reading cards do not need.
    from keras_resv2.resnet import build_named
    from keras_resv2.storage.weight_file import read_weights

    if classes is not None:
        check_count("classes", classes)
    card = pretrained_card(name)
    path = weight_path(card)
    weights = read_weights(path)
    if "head_dense/kernel" not in weights or weights["head_dense/kernel"].ndim != 2:
        raise ValueError(f"weight file {path} does not fit {card.full_name}: it has no classifier.")
    height, width, trained = card.image_shape
    channels = trained if channels is None else check_count("channels", channels)
    arguments = dict(card.arguments)
    if output_stride is not None:
        arguments["output_stride"] = output_stride
    if channels != trained:
        weights["stem_conv/kernel"] = adapt_channels(weights["stem_conv/kernel"], channels)
        arguments["preprocessing"] = averaged_pixels(_pixels(card), channels)
    if input_shape is None and input_tensor is None:
        input_shape = in_data_format((height, width, channels) if include_top else (None, None, channels))
    _check_channels(input_shape if input_tensor is None else input_tensor.shape[1:], channels, card)
    if include_top and classes not in (None, len(card.class_names)):
        weights |= _new_classifier(weights["head_dense/kernel"].shape[0], classes)
    return build_named(
        card.architecture,
        **arguments,
        include_top=include_top,
        weights=weights,
        input_tensor=input_tensor,
        input_shape=input_shape,
        pooling=pooling,
        classes=len(card.class_names) if classes is None else classes,
        classifier_activation=classifier_activation,
        include_preprocessing=include_preprocessing,
        rolled=rolled,
        rematerialize=rematerialize,
        dtype=dtype,
        name=model_name,
    )


def adapt_channels(kernel: np.ndarray, channels: int) -> np.ndarray:
    """Adapts the kernel of the first convolution to images with another number of channels.

    Args:
        kernel: ``(height, width, 3, filters)``.
        channels: number of channels of the images.

    Returns:
        float32 ``(height, width, channels, filters)``: for one channel the sum over the three, so that a grayscale
        image gives the same output as three copies of it; otherwise the three repeated and multiplied by ``3 /
        channels``, which keeps the scale of the outputs.

    Example:

    >>> adapt_channels(np.ones((1, 1, 3, 1), "float32"), 4).ravel().tolist()
    [0.75, 0.75, 0.75, 0.75]
    """
    given = kernel.shape[2]
    if channels == 1:
        return kernel.sum(axis=2, keepdims=True)
    repeated = np.tile(kernel, (1, 1, -(-channels // given), 1))[:, :, :channels]
    return repeated * (given / channels)


def _pixels(card):
    layout, _ = resolve_network(**find_architecture(card.architecture).arguments(**card.arguments))
    assert layout.pixels is not None  # `resolve_network` fills in those of the stem's dataset
    return layout.pixels


def _check_channels(shape, channels, card):
    """Raises ValueError if images do not have the same number of channels as the weights."""
    if shape is None or len(shape) != 3:
        return  # the builder reports what is wrong
    import keras

    given = shape[-1] if keras.config.image_data_format() == "channels_last" else shape[0]
    if given is not None and given != channels:
        raise ValueError(
            f"input_shape={tuple(shape)} has {given} channels, but {card.full_name} expects {channels}: "
            f"from_pretrained(..., channels={given}) adapts the first convolution."
        )


def _new_classifier(channels, classes):
    """Returns initial values of a new classifier, as `keras.layers.Dense` initializes them."""
    import keras

    shape = (channels, classes)
    kernel = keras.ops.convert_to_numpy(keras.initializers.GlorotUniform()(shape, dtype="float32"))
    return {"head_dense/kernel": kernel, "head_dense/bias": np.zeros(classes, "float32")}


def weights_for_builder(
    architecture: str, weights: str, include_top: bool, classes: int | None, variant: dict[str, Any]
) -> tuple[pathlib.Path, int, dict[str, Any]]:
    """Resolves ``ResNet20(weights="cifar10")`` to a verified file, its classes and its pixel statistics.

    Args:
        architecture: name of the architecture.
        weights: name of the dataset, with or without ``@<version>``.
        include_top, classes: arguments of the builder.
        variant: the other arguments of the builder.

    Returns:
        ``(path, classes, variant)``: `variant` with the pixel statistics of the weights.

    Raises:
        ValueError: if the weights do not exist, or were trained with other arguments.
    """
    card = pretrained_card(f"{architecture}-{weights}")
    asked = variant
    if "preprocessing" in card.arguments and variant.get("preprocessing") is None:
        variant = {**variant, "preprocessing": card.arguments["preprocessing"]}
    free = [key for key in FREE_ARGUMENTS if key not in card.arguments]
    given = {key: value for key, value in variant.items() if key not in free}
    row = find_architecture(architecture)
    if resolve_network(**row.arguments(**given)) != resolve_network(**row.arguments(**card.arguments)):
        raise ValueError(
            f"weights={weights!r} of {architecture} were trained with {card.arguments or 'the default arguments'}, "
            f"not with {asked or 'the default arguments'}; from_pretrained({card.name!r}) builds the matching network."
        )
    if include_top and classes not in (None, len(card.class_names)):
        raise ValueError(
            f"weights={weights!r} have {len(card.class_names)} classes, not {classes}: for a new classifier use "
            f"from_pretrained({card.name!r}, classes={classes})."
        )
    return weight_path(card), len(card.class_names), variant


def in_data_format(shape: tuple) -> tuple:
    """Returns ``(height, width, channels)`` in the order of `keras.config.image_data_format`, as builders take it."""
    import keras

    height, width, channels = shape
    return shape if keras.config.image_data_format() == "channels_last" else (channels, height, width)
