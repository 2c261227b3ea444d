"""ONNX, written layer by layer: the same file from every Keras backend, without TensorFlow or a tracer."""

import json

import keras
import numpy as np

import keras_resv2
from keras_resv2.argument_checks import first_line
from keras_resv2.exporting import INPUT
from keras_resv2.exporting.onnx_layers import write_layer
from keras_resv2.exporting.signature import named_outputs
from keras_resv2.exporting.unit_switches import SWITCHES, UnitSwitches
from keras_resv2.models.graph import as_functional, calls, data_format_of

OPSET = 17  # with all operators used here, and read by every ONNX Runtime since 1.12 (2022)
IR_VERSION = 8  # the one that came with this opset
TO_CHANNELS_FIRST, TO_CHANNELS_LAST = (0, 3, 1, 2), (0, 2, 3, 1)


def check_onnx() -> None:
    """Raises ImportError unless the package onnx is there and works with the other packages."""
    try:
        import onnx  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != "onnx":
            raise ImportError(f"the package onnx cannot be imported: {first_line(error)}.") from None
        raise ImportError("writing ONNX needs the package onnx: pip install onnx onnxruntime.") from None
    except (ImportError, AttributeError, TypeError) as error:
        # onnx 1.19 needs types that ml_dtypes has since 0.5; TensorFlow 2.17 and 2.18 keep an older one.
        raise ImportError(
            f"the package onnx does not work with another package that is installed ({first_line(error)}): pip install "
            "--upgrade ml_dtypes, or, beside a TensorFlow that needs the older one, pip install 'onnx<1.19'."
        ) from None


def write_onnx(network, signature, path, class_names=None, precision="float32", unit_switches=False):
    """Writes a network as an ONNX file.

    Args:
        network: functional `keras.Model`, float32, as `keras_resv2.exporting.network` makes it.
        signature: its `Signature`.
        path: of the file.
        class_names: list of text, put into the file's metadata as JSON under ``class_names``.
        precision: of the kernels in the file, "float32" or "float16"; all is computed in float32.
        unit_switches: whether the file has `keras_resv2.exporting.unit_switches.UnitSwitches`.

    Raises:
        ValueError: if the network has a layer that there are no operators for, or no units that have switches.
    """
    import onnx

    outputs = named_outputs(network)
    switches = UnitSwitches(network) if unit_switches else None
    writer = Writer(data_format_of(network), {INPUT, *outputs}, half=precision == "float16")
    if switches:
        switches.write_input(writer)
    x = INPUT
    if signature.dtype != "float32":
        x = writer.add("Cast", [x], "pixels_as_floats", to=onnx.TensorProto.FLOAT)
    if len(signature.shape) == 4:
        x = writer.to_channels_first(x, "pixels_channels_first")
    values = _write_calls(network, x, writer, prefix="", switches=switches)
    for name, tensor in outputs.items():
        writer.give(values[id(tensor)], name, is_map=len(tensor.shape) == 4)
    sides = ("batch", "height", "width", "channels")
    if not writer.channels_last:
        sides = ("batch", "channels", "height", "width")
    described = {name: tensor.shape for name, tensor in outputs.items()}
    model = writer.model(network.name, (INPUT, signature.dtype, signature.shape), described, sides)
    properties = {"class_names": json.dumps(list(class_names))} if class_names else {}
    if switches:
        properties[SWITCHES] = switches.metadata()
    onnx.helper.set_model_props(model, properties)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


class Writer:
    """The operators and weights of a graph, as they come.

    Args:
        data_format: of the Keras model.
        reserved: names of the graph's input and outputs.
        half: whether kernels are kept in float16, for files of half the size.
    """

    def __init__(self, data_format, reserved, half=False):
        self.channels_last = data_format == "channels_last"
        self.prefix = ""  # of the names: the models inside the model that are being written
        self._nodes, self._weights, self._taken, self._half = [], {}, set(reserved), half
        self._optional = {}  # inputs with default values

    @property
    def channel_axis(self):
        """Of feature maps in Keras."""
        return 3 if self.channels_last else 1

    def axis(self, axis):
        """The axis in ONNX of an axis of feature maps in Keras."""
        return TO_CHANNELS_FIRST.index(axis) if self.channels_last else axis

    def add(self, kind, inputs, name, **attributes):
        """Adds an operator; returns the name of its output."""
        import onnx

        name = self._free(self.prefix + name)
        attributes = {key: list(v) if isinstance(v, tuple) else v for key, v in attributes.items()}
        self._nodes.append(onnx.helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def weight(self, name, value):
        """Adds a constant, once however often its layer is called; returns its name."""
        name = self.prefix + name
        if self._half and name.endswith("/kernel"):
            return self._half_weight(name, value)
        self._weights[name] = np.asarray(value, "int64" if value.dtype == "int64" else "float32")
        return name

    def _half_weight(self, name, value):
        """A constant in float16, and the operator that makes float32 of it."""
        import onnx

        stored = f"{name}/float16"
        if stored not in self._weights:
            self._weights[stored] = np.asarray(value, "float16")
            cast = onnx.helper.make_node("Cast", [stored], [name], name=name, to=onnx.TensorProto.FLOAT)
            self._nodes.append(cast)
        return name

    def split(self, name, parts):
        """Adds an input, a vector that is all ones unless it is given, and gives its values names of their own."""
        import onnx

        self._optional[name] = self._weights[name] = np.ones(len(parts), "float32")
        self._taken.update([name, *parts])
        self._nodes.append(onnx.helper.make_node("Split", [name], parts, name=f"{name}/split", axis=0))

    def to_channels_first(self, x, name):
        return self.add("Transpose", [x], name, perm=TO_CHANNELS_FIRST) if self.channels_last else x

    def give(self, x, name, is_map):
        """Makes a value an output of the graph, feature maps as Keras has them."""
        import onnx

        turns = is_map and self.channels_last
        options = {"perm": list(TO_CHANNELS_LAST)} if turns else {}
        self._nodes.append(onnx.helper.make_node("Transpose" if turns else "Identity", [x], [name], name, **options))

    def model(self, name, given, outputs, sides):
        """The graph as an ONNX model.

        Args:
            name: of the graph.
            given: name, dtype and shape of the input.
            outputs: dictionary from a name to a shape.
            sides: what dimensions without a size are called.
        """
        import onnx

        def value(name, dtype, shape):
            dtype = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
            shape = [side if size is None else size for side, size in zip(sides, shape, strict=False)]
            return onnx.helper.make_tensor_value_info(name, dtype, shape)

        graph = onnx.helper.make_graph(
            self._nodes,
            name,
            [value(*given), *(onnx.helper.make_tensor_value_info(k, 1, v.shape) for k, v in self._optional.items())],
            [value(name, "float32", _output_shape(shape)) for name, shape in outputs.items()],
            [onnx.numpy_helper.from_array(array, key) for key, array in self._weights.items()],
        )
        return onnx.helper.make_model(
            graph,
            opset_imports=[onnx.helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="keras_resv2",
            producer_version=keras_resv2.__version__,
        )

    def _free(self, name):
        """The name, with a number where a layer is called again."""
        number, free = 1, name
        while free in self._taken:
            number += 1
            free = f"{name}:{number}"
        self._taken.add(free)
        return free


def _output_shape(shape):
    """Feature maps of images of any size are of any size, but not of the input's."""
    return (None, *(f"output_{axis}" if size is None else size for axis, size in enumerate(shape[1:], start=1)))


def _write_calls(model, x, writer, prefix, switches=None):
    """All calls of a model, and of those inside it; returns names of values by identities of Keras tensors."""
    values = {id(model.inputs[0]): x}
    for node in calls(model):
        if node.is_input:
            continue
        layer, names = node.operation, [values[id(tensor)] for tensor in node.input_tensors]
        inner = as_functional(layer)
        if inner is None:
            writer.prefix = prefix
            names = names if switches is None else switches.before(layer, names, writer)
            y = write_layer(layer, names, node.input_tensors, writer)
            values[id(node.outputs[0])] = y if switches is None else switches.after(node.outputs[0], y, values, writer)
            continue
        if len(names) != 1:
            raise ValueError(f"there is no ONNX form for {layer.name!r}: a model inside the model with several inputs.")
        results = _write_calls(inner, names[0], writer, f"{prefix}{layer.name}/")
        inner_outputs = keras.tree.flatten(inner.output)
        values.update((id(old), results[id(new)]) for old, new in zip(node.outputs, inner_outputs, strict=True))
    return values
