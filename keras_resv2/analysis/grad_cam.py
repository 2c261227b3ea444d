"""Grad-CAM (Selvaraju et al. 2017, arXiv 1610.02391)."""

import dataclasses
from typing import Any

import keras
import numpy as np
from PIL import Image

from keras_resv2.analysis.dissection import SQUASHING
from keras_resv2.analysis.programs import Program
from keras_resv2.argument_checks import check_count
from keras_resv2.data.checks import check_finite, to_array
from keras_resv2.models.copying import call_layers, copy_model
from keras_resv2.models.graph import (
    POOLINGS,
    activation_name,
    as_functional,
    check_functional,
    data_format_of,
    deep_graph,
)
from keras_resv2.models.pixels import check_pixel_scale, pixel_scale


@dataclasses.dataclass(frozen=True)
class GradCam:
    """Class activation maps of images.

    Attributes:
        network: name of the network.
        layer: name of the layer whose feature maps are weighted: the last before the pooling.
        classes: ``(n,)``, class indices.
        scores: ``(n,)``, logits of these classes.
        maps: ``(n, h, w)``, non-negative, with the size of the feature maps.
    """

    network: str
    layer: str
    classes: np.ndarray
    scores: np.ndarray
    maps: np.ndarray

    def resized(self, size: tuple[int, int]) -> np.ndarray:
        """Resizes the maps and scales each to a maximum of 1; maps of zeros are not scaled.

        Args:
            size: ``(height, width)``, for example that of the images.

        Returns:
            float32 ``(n, height, width)``.
        """
        height, width = size
        images = [Image.fromarray(one).resize((width, height), Image.Resampling.BILINEAR) for one in self.maps]
        maps = np.stack([np.asarray(image) for image in images])
        highest = maps.max((1, 2), keepdims=True)
        return maps / np.where(highest > 0, highest, 1)


def grad_cam(model: keras.Model, images: np.ndarray, classes: Any = None, batch_size: int = 32) -> GradCam:
    """Computes which positions support a class: Grad-CAM.

    Feature maps A_k are weighted by ``alpha_k``, the mean over positions of the gradient of the class's logit (equation
    1), and negative values of their sum are set to zero (equation 2). For networks with average pooling followed by a
    linear classifier, as all of this package, this is the class activation map of Zhou et al. 2016 (arXiv 1512.04150)
    up to a constant factor.

    Args:
        model: a functional `keras.Model` with global pooling and classifier, of this package or not; it may contain
            nested models, be folded, and have any precision.
        images: ``(n, height, width, channels)``, inputs of the model: raw pixels for networks of this package. Pass all
            images at once: each call compiles the network.
        classes: ``(n,)`` class indices, or one for all images; None for the class with the highest score.
        batch_size: images per batch.

    Returns:
        `GradCam`.

    Raises:
        ValueError: if the model does not have global pooling followed by one row of scores, the images do not fit or
            are not on its scale, scores are NaN or infinite, or the class does not exist.

    Example:

    >>> import keras_resv2, numpy as np
    >>> network = keras_resv2.from_pretrained("resnet20-cifar10")
    >>> grad_cam(network, np.zeros((2, 32, 32, 3), "uint8"), classes=3).maps.shape
    (2, 8, 8)
    """
    check_count("batch_size", batch_size)
    features, head, layer = _split(model)
    channels_first = data_format_of(features) == "channels_first"
    images, classes = _check(model, to_array(images, "images"), classes)
    check_pixel_scale(pixel_scale(model), images)
    program, values = Program(head, head.variables), [variable.value for variable in head.variables]
    found = []
    for first in range(0, len(images), batch_size):
        part = slice(first, first + batch_size)
        wanted = classes[part] if classes is not None else None
        found.append(_cam(features.predict_on_batch(images[part]), program, values, wanted, channels_first))
    chosen, scores, maps = map(np.concatenate, zip(*found, strict=True))
    return GradCam(model.name, layer, chosen, scores, maps)


def _cam(activations, program, values, classes, channels_first):
    """Computes classes, logits and maps of a batch."""
    activations = keras.ops.convert_to_tensor(activations)
    logits = program(values, activations)
    scores = check_finite(keras.ops.convert_to_numpy(keras.ops.cast(logits, "float32")))
    classes = scores.argmax(1) if classes is None else classes
    gradient = program.vjp(values, activations, keras.ops.one_hot(classes, scores.shape[1], dtype=logits.dtype))
    gradient, activations = (keras.ops.convert_to_numpy(keras.ops.cast(x, "float32")) for x in (gradient, activations))
    if channels_first:
        gradient, activations = (np.moveaxis(x, 1, -1) for x in (gradient, activations))
    weights = gradient.mean((1, 2), keepdims=True)
    return classes, scores[np.arange(len(classes)), classes], np.maximum((weights * activations).sum(-1), 0)


def _split(model):
    """Returns the network up to the pooling, the part from there to the logits, and the name of the layer between.

    Layers are called again on a copy, so that the model is not modified.
    """
    functional = check_functional(model)
    if len(functional.inputs) != 1 or len(functional.outputs) != 1 or len(functional.outputs[0].shape) != 2:
        raise ValueError(
            f"model {model.name!r} needs one input and one row of class scores: pass a network with its classifier "
            "(include_top=True)."
        )
    with deep_graph():
        copy = copy_model(functional)
        inputs = keras.Input(copy.inputs[0].shape[1:], dtype=copy.inputs[0].dtype)
        pooled = []
        logits = _call_flat(copy, inputs, _last_layer(copy), pooled)
        if not pooled:
            raise ValueError(
                f"model {model.name!r} has no global pooling before its classifier: Grad-CAM needs feature maps."
            )
        maps = pooled[-1]
        return keras.Model(inputs, maps), keras.Model(maps, logits), maps._keras_history.operation.name


def _last_layer(model):
    """Returns the layer that outputs the scores, even inside nested models."""
    layer = model.outputs[0]._keras_history.operation
    return _last_layer(as_functional(layer)) if as_functional(layer) is not None else layer


def _call_flat(model, inputs, last, pooled):
    """Calls the layers of a model and its nested models on other inputs, the last one without softmax or sigmoid.

    The inputs of global pooling layers are collected in `pooled`.
    """

    def call(node, arguments, options):
        layer, inner = node.operation, as_functional(node.operation)
        if inner is not None:
            return _call_flat(inner, arguments[0], last, pooled)
        if layer is last:
            return _logits(layer, *arguments)
        if isinstance(layer, POOLINGS):
            pooled.append(arguments[0])
        return layer(*arguments, **options)

    return call_layers(model, inputs, call)


def _logits(layer, x):
    """Computes the output of the last layer before its softmax or sigmoid."""
    name = activation_name(layer)
    if name not in SQUASHING:
        return layer(x)
    if isinstance(layer, (keras.layers.Softmax, keras.layers.Activation)):
        return x
    linear = type(layer).from_config({**layer.get_config(), "activation": "linear"})
    logits = linear(x)
    linear.set_weights(layer.get_weights())
    return logits


def _check(model, images, classes):
    shape, count = model.inputs[0].shape[1:], model.outputs[0].shape[-1]
    fits = images.ndim == len(shape) + 1 and all(a in (None, b) for a, b in zip(shape, images.shape[1:], strict=True))
    if not fits or not len(images):
        sides = ", ".join(map(str, shape))
        raise ValueError(f"images {images.shape} do not fit model {model.name!r}, which expects (n, {sides}).")
    if classes is None:
        return images, None
    classes = np.asarray(classes)
    if classes.shape not in ((), (len(images),)):
        raise ValueError(f"classes {classes.shape} must be one number, or one for each of the {len(images)} images.")
    if not np.issubdtype(classes.dtype, np.integer) or classes.min() < 0 or classes.max() >= count:
        raise ValueError(f"classes must be whole numbers from 0 to {count - 1}, those of model {model.name!r}.")
    return images, np.broadcast_to(classes, len(images))
