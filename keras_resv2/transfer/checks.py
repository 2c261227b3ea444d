"""Checks of the arguments of `fine_tune`, before anything is trained."""

import numbers
from collections.abc import Sequence

import keras

from keras_resv2.models.graph import check_functional, data_format_of
from keras_resv2.models.pixels import pixel_scale
from keras_resv2.transfer.freezing import flat_layers
from keras_resv2.transfer.head import check_classifier, classifier_of
from keras_resv2.transfer.input_spec import InputSpec


def check_callbacks(
    callbacks: keras.callbacks.Callback | Sequence[keras.callbacks.Callback] | None,
) -> list[keras.callbacks.Callback]:
    """Callbacks as a list.

    Raises:
        TypeError: if one is not a Keras callback.
        ValueError: if one sets the learning rate, or needs another optimizer.
    """
    if not callbacks:
        return []
    checked = [callbacks] if isinstance(callbacks, keras.callbacks.Callback) else list(callbacks)
    for callback in checked:
        name = type(callback).__name__
        if not isinstance(callback, keras.callbacks.Callback) or isinstance(callback, keras.callbacks.CallbackList):
            raise TypeError(f"callbacks must be a keras.callbacks.Callback or a list of them, not a {name}.")
        if isinstance(callback, (keras.callbacks.ReduceLROnPlateau, keras.callbacks.LearningRateScheduler)):
            raise ValueError(
                f"{name} sets the learning rate, and fine_tune has its own schedule: leave it out, and set "
                "learning_rate and warmup instead."
            )
        if name == "SwapEMAWeights":
            raise ValueError(f"{name} needs an optimizer with use_ema=True, and fine_tune uses its own: leave it out.")
    return checked


def input_spec_of(model: keras.Model) -> InputSpec:
    """What a model accepts.

    Raises:
        TypeError: if it is not a Keras model.
        ValueError: `fine_tune` cannot train it.
    """
    if not isinstance(model, keras.Model):
        raise TypeError(f"model must be a keras.Model, such as from_pretrained(name, classes=5), not {model!r}.")
    check_functional(model)
    if len(model.inputs) != 1 or len(model.inputs[0].shape) != 4:
        raise ValueError(f"model {model.name!r} must have one input, images (n, height, width, 3).")
    if data_format_of(model) != "channels_last":
        raise ValueError(
            "fine_tune needs a model of channels_last: call keras.config.set_image_data_format('channels_last') before "
            "it is built."
        )
    if len(model.outputs) != 1:
        raise ValueError(f"model {model.name!r} has {len(model.outputs)} outputs: fine_tune trains one classifier.")
    check_classifier(model)
    if not model.trainable_variables:
        raise ValueError(
            f"all layers of model {model.name!r} are frozen, so nothing would be trained: keras_resv2.unfreeze(model) "
            "makes them trainable, and keras_resv2.freeze(model) then all but the classifier not."
        )
    for layer in flat_layers(model):
        if getattr(layer, "quantization_mode", None):
            raise ValueError(
                f"layer {layer.name!r} is quantized ({layer.quantization_mode}) and cannot be trained: fine-tune the "
                "model before quantize()."
            )
    return InputSpec(tuple(model.inputs[0].shape[1:]), classifier_of(model).units, pixel_scale(model))


def check_positive(**values: float) -> None:
    """Raises ValueError, with the name of the argument, unless each value is a number above 0."""
    for name, value in values.items():
        if not isinstance(value, numbers.Real) or not value > 0:
            raise ValueError(f"{name}={value!r} must be a number above 0.")
