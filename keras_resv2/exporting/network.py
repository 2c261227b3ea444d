"""The network that is exported: float32, without loops, without what inference does not need."""

import keras

from keras_resv2.models.adapters import is_plain, merged_weights
from keras_resv2.models.copying import LayerCopies, call_layers, new_inputs
from keras_resv2.models.graph import all_layers, as_functional, check_functional, deep_graph, inner_layers, is_cast
from keras_resv2.models.scan import RolledUnits

FLOATS = ("float16", "bfloat16", "float64", "mixed_float16", "mixed_bfloat16")


def plain_network(model: keras.Model) -> keras.Model:
    """A copy of a network in float32 whose rolled units are layers like all others.

    Other formats have no loops over stacked weights, and their own ways to lower precision.

    Args:
        model: a functional `keras.Model` with one input, as the builders of keras_resv2 make them; models
            inside it are copied too.

    Returns:
        `keras.Model`, which shares nothing with `model`; layers have the names of the network that is not rolled.

    Raises:
        ValueError: if the model is not a functional one, or has several inputs, or a quantized layer.

    Example:

    >>> import keras_resv2
    >>> rolled = keras_resv2.ResNet(20, rolled=True, dtype="mixed_bfloat16")
    >>> plain_network(rolled).get_layer("stage1_unit3_conv2").compute_dtype
    'float32'
    """
    functional = check_functional(model)
    if not isinstance(functional.input, keras.KerasTensor):
        raise ValueError(f"model {functional.name!r} has {len(functional.inputs)} inputs; exported networks have one.")
    with deep_graph():
        return _copy(functional)


def _copy(model):
    def as_float(dtype):
        return "float32" if keras.backend.is_float_dtype(dtype) else dtype

    def call(node, arguments, options):
        if is_cast(node):
            return arguments[0]
        if isinstance(node.operation, RolledUnits):
            return _unrolled(node.operation, arguments[0])
        copy = copies[node.operation]
        if as_functional(node.operation) is None and inner_layers(node.operation):
            _check_inside(copy)
        return copy(*arguments, **options)

    copies = LayerCopies(_copy_layer, plain_copy, config=_float_config)
    inputs = new_inputs(model, as_float)
    outputs = call_layers(model, inputs, call)
    copies.set_weights(_merged)
    return keras.Model(inputs, outputs, name=model.name)


def _merged(layer, copy):
    """The weights of a layer's copy, with low-rank adapters in its kernel."""
    merged = merged_weights(layer)
    return layer.get_weights() if merged is None else [merged[weight.name] for weight in copy.weights]


def _copy_layer(layer, **changes):
    return type(layer).from_config({**_float_config(layer), **changes})


def plain_copy(network: keras.Model) -> keras.Model:
    """A copy of a network inside another one."""
    return _copy(as_functional(network))


def _float_config(layer):
    """The configuration of a layer, in float32 and without adapters, whose product is in the merged weights."""
    config, policy = layer.get_config(), getattr(layer, "dtype_policy", None)
    if not is_plain(layer):
        merged_weights(layer)  # raises for quantized layers
        config = {name: value for name, value in config.items() if not name.startswith("lora_")}
    return {**config, "dtype": "float32"} if policy is not None and policy.name in FLOATS else config


def _check_inside(holder):
    """Raises ValueError where a layer of the user's own makes layers of lower precision itself, or loops."""
    for layer in all_layers(holder):
        if isinstance(layer, RolledUnits) or getattr(layer, "compute_dtype", None) in FLOATS:
            raise ValueError(
                f"layer {holder.name!r} ({type(holder).__name__}) makes the layer {layer.name!r} itself, which cannot "
                "be replaced there by one of float32: give it the network as an argument that its get_config has."
            )


def _unrolled(rolled, x):
    """`x` through the units of a loop, one after another, as layers with their own names and weights."""
    values = {name: (stack, index) for name, (stack, index) in rolled.unit_weights().items()}
    stacks = {id(stack): keras.ops.convert_to_numpy(stack) for stack, _ in values.values()}
    for number in range(rolled.count):

        def call(node, arguments, options, number=number):
            if is_cast(node):
                return arguments[0]
            layer = node.operation
            copy = _copy_layer(layer, name=rolled.layer_names(layer.name)[number])
            outputs = copy(*arguments, **options)
            places = [values[f"{copy.name}/{weight.name}"] for weight in layer.weights]
            copy.set_weights([stacks[id(stack)][index] for stack, index in places])
            return outputs

        x = call_layers(rolled.unit, x, call)
    return x
