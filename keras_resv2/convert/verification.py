"""Compares the outputs of a PyTorch module or Keras model with ours: tensors do not specify what a network computes."""

import itertools

import keras
import numpy as np

from keras_resv2.convert.equivalence import feature_order
from keras_resv2.convert.layouts.pytorch import PyTorchLayout
from keras_resv2.convert.network import Network, classifier_layer
from keras_resv2.convert.source_pixels import CONFIG, config_beside, pixels_beside, pixels_of_config
from keras_resv2.convert.timm_config import check_network
from keras_resv2.models.blocks import ACTIVATED_SHORTCUTS
from keras_resv2.models.config import STEMS

CLOSE = 1e-3  # largest difference of the outputs, relative to their range, in float32
CLOSE_IN_HALF = 5e-2
SMALL = 64  # pixels of height and width that ImageNet networks are tried on first
MOST_TRIES = 24  # other networks with the same tensors


def said_by(source, network):
    """Returns arguments of `detect` that a source states beside its tensors.

    They are the pixel statistics of a configuration beside a file, or of a timm module; and the epsilon of the batch
    normalization of a module or model.

    Raises:
        ValueError: if the configuration names a network that this package does not build.
    """
    whole = source.whole
    if whole is None:
        if not isinstance(network.layout, PyTorchLayout):
            return {}
        check_network(config_beside(source.label, CONFIG), source.label)
        pixels = pixels_beside(source.label)
        return {} if pixels is None else {"preprocessing": pixels}
    pixels = None if isinstance(whole, keras.Model) else pixels_of_config(getattr(whole, "pretrained_cfg", None))
    stated = {} if pixels is None else {"preprocessing": pixels}
    try:
        part = part_of(whole, network.prefix)
        layers = part.layers if isinstance(part, keras.Model) else list(part.modules())
    except (AttributeError, ValueError):
        return stated
    values = (getattr(layer, "eps", getattr(layer, "epsilon", None)) for layer in layers if _is_batch_norm(layer))
    found = {float(epsilon) for epsilon in values if epsilon is not None}
    return stated | ({"epsilon": found.pop()} if len(found) == 1 else {})


def _is_batch_norm(layer):
    return "BatchNorm" in type(layer).__name__


def agreeing(source, network, structure, said, make):
    """Finds the network with the same tensors that gives the same outputs as a module or model.

    Args:
        source: `keras_resv2.convert.readers.Source` of a PyTorch module or Keras model.
        network: `Network` in it.
        structure: arguments to try first.
        said: arguments that the caller specified, which are not varied.
        make: function from arguments to a `Detected`.

    Returns:
        ``(found, structure, doubt)``: a `Detected`, its arguments, and a phrase where outputs could not be compared;
        else None.

    Raises:
        ValueError: if no network that this package builds from these tensors gives its outputs.
    """
    first = make(structure)
    try:
        compare = _Comparison(source.whole, network, structure["stem"])
    except Exception as error:  # foreign code may require or raise anything
        return first, structure, f"that its outputs are ours: they were not compared ({type(error).__name__})"
    smallest = distance = compare(first, structure)
    if distance <= compare.close:
        return first, structure, None
    for changes in itertools.islice(_changes(network, structure, said), MOST_TRIES):
        other = {**structure, **changes}
        found = make(other)
        distance = compare(found, other)
        if distance <= compare.close:
            return found, other, None
        smallest = min(smallest, distance)
    of_module = "" if isinstance(source.whole, keras.Model) else " Its state_dict() is converted without being run."
    raise ValueError(
        f"{source.label} gives other outputs than {first.architecture} with the same tensors: they differ by "
        f"{smallest:.2g} of their range, so it computes what this package does not build (another activation, blurred "
        f"or dilated convolutions, pixels that it normalizes itself).{of_module}"
    )


def _changes(network, structure, said):
    """Yields other arguments with which a network has the same tensors, one at a time and in pairs.

    Code with Keras differs in option A, and otherwise by its layout.
    """
    of_pytorch = isinstance(network.layout, PyTorchLayout)
    options = {}
    if of_pytorch:
        options["stem"] = [name for name in stems_like(structure["stem"]) if not STEMS[name].pool_zeros]
    if structure["projection"].startswith("A"):
        options |= {"zero_channels": ["both_sides", "after"], "projection": ["A", "A_average"]}
    if of_pytorch and structure["branch"] == "bottleneck":
        options["stride_on"] = ["1x1", "3x3"]
    if of_pytorch and network.layout.activation == "full_preactivation":
        options["activated_shortcuts"] = list(ACTIVATED_SHORTCUTS)
    free = {
        name: [value for value in values if value != structure.get(name)]
        for name, values in options.items()
        if name not in said
    }
    yield from ({name: value} for name, values in free.items() for value in values)
    for one, other in itertools.combinations(free, 2):
        yield from ({one: a, other: b} for a, b in itertools.product(free[one], free[other]))


def stems_like(stem):
    """Returns the stems with the same tensors, including this one."""
    own = STEMS[stem]
    return [name for name, s in STEMS.items() if (s.kernel_size, s.activate) == (own.kernel_size, own.activate)]


class _Comparison:
    """Outputs of a network for random images, and their distance from ours.

    Args:
        whole: PyTorch module or `keras.Model`.
        network: `Network` in it.
        stem: key of `STEMS`, for the size of the images.
    """

    def __init__(self, whole, network: Network, stem):
        part = part_of(whole, network.prefix)
        run = _run_keras if isinstance(whole, keras.Model) else _run_torch
        full = STEMS[stem].image_shape[0]
        try:
            self._images, self._expected, self._features, self.close = run(part, network, min(SMALL, full))
        except Exception:  # some networks accept only one image size
            self._images, self._expected, self._features, self.close = run(part, network, full)
        if not np.isfinite(self._expected).all():
            raise FloatingPointError

    def __call__(self, found, structure):
        """Returns the largest difference of `found`, made of `structure`, relative to the range of the outputs."""
        expected = self._expected
        if not self._features and found.classes == expected.shape[-1] and expected.ndim == 2:
            return self._difference(found, expected, {})
        if structure["projection"].startswith("A") and structure["zero_channels"] == "after":
            order = feature_order(found.weights)
            expected = expected[..., order] if len(order) == expected.shape[-1] else expected
        poolings = ("avg", "max") if expected.ndim == 2 else (None,)
        return min(self._difference(found, expected, dict(include_top=False, pooling=pooling)) for pooling in poolings)

    def _difference(self, found, expected, options):
        x = self._images
        options = dict(include_preprocessing=False, dtype="float32", classifier_activation=None, **options)
        if keras.config.image_data_format() == "channels_first":
            x = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
        model = found.build(input_shape=x.shape[1:], **options)
        outputs = keras.ops.convert_to_numpy(_call(model, x))
        if outputs.ndim == 4 and keras.config.image_data_format() == "channels_first":
            outputs = outputs.transpose(0, 2, 3, 1)
        if outputs.shape != expected.shape:
            return np.inf
        return float(np.abs(outputs - expected).max() / max(np.ptp(expected), 1e-6))


def _call(model, x):
    """Returns outputs in inference. In a direct call, JAX would compile each operation separately."""
    return model.predict_on_batch(x) if keras.backend.backend() == "jax" else model(x, training=False)


def part_of(whole, prefix):
    """Returns the inner module or model that has the network's tensors."""
    if isinstance(whole, keras.Model):
        for name in filter(None, prefix.split("/")):
            whole = whole.get_layer(name)
            whole = getattr(whole, "layer", whole)
        return whole
    return whole.get_submodule(prefix.rstrip(".")) if prefix else whole


def _images(size):
    return np.random.default_rng(0).normal(size=(2, size, size, 3)).astype("float32")


# Both return images, outputs, whether these are certainly features, and how close other outputs have to be.


def _run_torch(module, network, size):
    import torch

    x, weight = _images(size), next(module.parameters())
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        with torch.no_grad():
            given = torch.from_numpy(x.transpose(0, 3, 1, 2).copy()).to(weight.device, weight.dtype)
            outputs = module(given)
    finally:
        for part in training:
            part.training = True
    outputs = getattr(outputs, "logits", getattr(outputs, "last_hidden_state", outputs))  # of Hugging Face
    if isinstance(outputs, (tuple, list)):
        outputs = outputs[0]
    outputs = outputs.float().cpu().numpy()
    outputs = outputs.transpose(0, 2, 3, 1) if outputs.ndim == 4 else outputs
    return x, outputs, False, CLOSE if weight.dtype in (torch.float32, torch.float64) else CLOSE_IN_HALF


def _run_keras(model, network, size):
    """Runs a Keras model up to the input of its classifier, because probabilities may be saturated."""
    channels_first = keras.config.image_data_format() == "channels_first"
    sides = model.input_shape[2:4] if channels_first else model.input_shape[1:3]
    height, width = (side or size for side in sides)
    x = np.random.default_rng(0).normal(size=(2, height, width, 3)).astype("float32")
    dense = [layer for layer in model.layers if layer.name == classifier_layer(network)]
    if dense:
        model = keras.Model(model.input, dense[0].input)
    given = x[..., ::-1] if network.layout.blue_first else x
    given = given.transpose(0, 3, 1, 2) if channels_first else given
    outputs = keras.ops.convert_to_numpy(_call(model, np.ascontiguousarray(given)))
    half = any(str(layer.compute_dtype) in ("float16", "bfloat16") for layer in model.layers)
    return x, outputs, True, CLOSE_IN_HALF if half else CLOSE
