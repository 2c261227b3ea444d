"""Residual units of an exported network that can be switched off: lesions (Veit et al. 2016) without Keras."""

import json

import numpy as np

from keras_resv2.models.graph import UNIT, changes_size, unit_calls

SWITCHES = "unit_switches"  # name of the input, and of the metadata that names the units


class UnitSwitches:
    """The switches of a network while it is written as ONNX.

    A switch s of a residual unit multiplies its branch, ``y = h(x) + s F(x)``. A plain unit (``shortcut="none"``)
    becomes ``y = s F(x) + (1 - s) x``; one that changes the size has no switch, since nothing can take its place.
    At 0 a unit computes what `keras_resv2.analysis.delete_each` leaves of it.

    Args:
        network: functional `keras.Model` with the layer names of this package, not folded: folding moves layers
            from one unit to another.

    Attributes:
        units: list of dictionaries: ``name``, ``stage``, ``switch`` (its position in the input, or None).

    Raises:
        ValueError: if the network has no residual units, or none that has a switch.
    """

    def __init__(self, network):
        nodes = unit_calls(network)
        if not nodes:
            raise ValueError(
                f"model {network.name!r} has no residual units to switch: layers must be named stage1_unit1_..., as in "
                "this package, and not be inside another model."
            )
        self.units, self._first, self._last, self._additions, self.count = [], {}, {}, {}, 0
        for name, own in nodes.items():
            made = {id(x) for node in own for x in node.outputs}
            source = next(x for node in own for x in node.input_tensors if id(x) not in made)
            additions = [node for node in own if node.operation.name == f"{name}_add"]
            plain = not additions
            same_size = not changes_size(source, own[-1].outputs[0], (node.operation for node in own))
            switch = self.count if same_size or not plain else None
            self.count += switch is not None
            unit = {"name": name, "stage": int(UNIT.sub(r"\2", own[0].operation.name)), "switch": switch}
            unit["changes_size"] = not same_size
            self.units.append(unit)
            self._last[id(own[-1].outputs[0])] = (unit, source, plain)
            if additions:
                self._additions[additions[0].operation.name] = unit

        if not self.count:
            raise ValueError(f"model {network.name!r} has no unit to switch: without shortcuts, all change the size.")

    def write_input(self, writer):
        """Adds the switches, one value for each unit."""
        names = [f"{unit['name']}/switch" for unit in self.units if unit["switch"] is not None]
        writer.split(SWITCHES, names)

    def before(self, layer, names, writer):
        """What a layer reads: an addition of shortcut and branch reads the branch times its switch."""
        unit = self._additions.get(layer.name)
        if unit is None:
            return names
        shortcut, branch = names
        return [shortcut, writer.add("Mul", [branch, _switch(unit)], f"{unit['name']}/switched")]

    def after(self, tensor, name, values, writer):
        """Name of what a layer gives, with the switch of a plain unit behind its last layer.

        Args:
            tensor: of Keras, the layer's output.
            name: of the same value in the ONNX graph.
            values: names of values by identities of Keras tensors.
            writer: `keras_resv2.exporting.onnx_model.Writer`.
        """
        if id(tensor) not in self._last:
            return name
        unit, source, plain = self._last[id(tensor)]
        unit["input"] = values[id(source)]
        if plain and unit["switch"] is not None:
            one = writer.weight("one", np.ones(1, "float32"))
            on = writer.add("Mul", [name, _switch(unit)], f"{unit['name']}/on")
            opposite = writer.add("Sub", [one, _switch(unit)], f"{unit['name']}/opposite")
            off = writer.add("Mul", [unit["input"], opposite], f"{unit['name']}/off")
            name = writer.add("Add", [on, off], f"{unit['name']}/switched")
        unit["output"] = name
        return name

    def metadata(self):
        """JSON of the units, in their order, with the names of their first and last values."""
        return json.dumps(self.units)


def _switch(unit):
    return f"{unit['name']}/switch"
