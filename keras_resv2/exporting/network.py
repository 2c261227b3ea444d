"""The network that is exported: float32, without loops, without what inference does not need."""

import keras

from keras_resv2.adapters import is_plain, merged_weights
from keras_resv2.graphs import HolderCopy, all_layers, as_functional, calls, deep_graph, inner_layers, is_cast
from keras_resv2.rolled import RolledUnits

FLOATS = ("float16", "bfloat16", "float64", "mixed_float16", "mixed_bfloat16")


def plain_network(model):
    """A copy of a network in float32 whose rolled units are layers like all others.

    Other formats have no loops over stacked weights, and their own ways to lower precision.

    Args:
        model: a functional `keras.Model` with one input, as the builders of keras_resv2 make them; models
            inside it are copied too.

    Returns:
        `keras.Model`, which shares nothing with `model`; layers have the names of the network that is not rolled.

    Raises:
        ValueError: the model is not a functional one, or has several inputs, or a quantized layer.

    Example:

    >>> import keras_resv2
    >>> rolled = keras_resv2.ResNet(20, rolled=True, dtype="mixed_bfloat16")
    >>> plain_network(rolled).get_layer("stage1_unit3_conv2").compute_dtype
    'float32'
    """
    functional = as_functional(model)
    if functional is None:
        raise ValueError(f"{model!r} is not a functional keras.Model, as the builders of keras_resv2 make them.")
    if not isinstance(functional.input, keras.KerasTensor):
        raise ValueError(f"model {functional.name!r} has {len(functional.inputs)} inputs; exported networks have one.")
    with deep_graph():
        return _copy(functional)


def _copy(model):
    def as_float(x):
        dtype = "float32" if keras.backend.is_float_dtype(x.dtype) else x.dtype
        return keras.Input(batch_shape=x.shape, dtype=dtype, name=x.name)

    inputs = keras.tree.map_structure(as_float, model.input)
    old_inputs = keras.tree.flatten(model.input)
    tensors = {id(old): new for old, new in zip(old_inputs, keras.tree.flatten(inputs), strict=True)}
    copies, holders = {}, {}
    for node in calls(model):
        layer = node.operation
        if _left_out(node, tensors):
            continue
        arguments, options = node.arguments.fill_in(tensors)
        if isinstance(layer, RolledUnits):
            outputs = _unrolled(layer, arguments[0])
        else:
            if layer not in copies:
                if as_functional(layer) is None and inner_layers(layer):
                    holders[layer] = HolderCopy(layer, plain_copy, _copy_layer, _float_config(layer))
                    _check_inside(holders[layer].layer)
                copies[layer] = holders[layer].layer if layer in holders else _copy_layer(layer)
            outputs = copies[layer](*arguments, **options)
        tensors.update((id(old), new) for old, new in zip(node.outputs, keras.tree.flatten(outputs), strict=True))
    for layer, copy in copies.items():
        if layer in holders:
            holders[layer].set_weights()
        elif getattr(layer, "weights", None) and as_functional(layer) is None:
            merged = merged_weights(layer)
            copy.set_weights(layer.get_weights() if merged is None else [merged[w.name] for w in copy.weights])
            if hasattr(copy, "finalize_state"):  # of keras.layers.Normalization
                copy.finalize_state()
    return keras.Model(inputs, keras.tree.map_structure(lambda x: tensors[id(x)], model.output), name=model.name)


def _left_out(node, tensors):
    """Whether a call has no copy: an input, which is there, or a cast, whose output is then its input."""
    if is_cast(node):
        tensors[id(node.outputs[0])] = tensors[id(node.input_tensors[0])]
        return True
    return node.is_input


def _copy_layer(layer, **changes):
    functional = as_functional(layer)
    if functional is not None:
        return _copy(functional)
    return type(layer).from_config({**_float_config(layer), **changes})


def plain_copy(network):
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
        tensors = {id(rolled.unit.inputs[0]): x}
        for node in calls(rolled.unit):
            if _left_out(node, tensors):
                continue
            layer = node.operation
            copy = _copy_layer(layer, name=rolled.layer_names(layer.name)[number])
            arguments, options = node.arguments.fill_in(tensors)
            tensors[id(node.outputs[0])] = copy(*arguments, **options)
            places = [values[f"{copy.name}/{weight.name}"] for weight in layer.weights]
            copy.set_weights([stacks[id(stack)][index] for stack, index in places])
        x = tensors[id(rolled.unit.outputs[0])]
    return x
