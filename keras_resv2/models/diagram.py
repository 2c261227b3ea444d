"""Draws a network as SVG: stem, residual units with their shortcuts, stages with their sizes, classifier."""

import html
import re

import keras

from keras_resv2.models.graph import changes_size, data_format_of, unit_calls
from keras_resv2.models.scan import is_rolled

SHOWN = 6  # maximum number of units drawn per stage; otherwise the first two and the last
MARGIN, BOX, GAP, MIDDLE, HEIGHT = 34, 50, 26, 92, 176
STYLE = """
.card { fill: #fff; } text { fill: #222; } .small { font-size: 11px; fill: #555; }
.line { stroke: #444; stroke-width: 2; }
.shortcut { fill: none; stroke: #d55e00; stroke-width: 2; } .projection { stroke-dasharray: 5 3; }
.unit { fill: #0072b2; } .on { fill: #fff; font-weight: 600; } .end { fill: #555; }
"""


def network_svg(model: keras.Model) -> str:
    """Draws a network as SVG, for pages and slides.

    Boxes are the branches of residual units, arcs their shortcuts (dashed where they change the size of the feature
    maps). Each stage is labeled with the size of its feature maps, height x width x channels, and its number of units.
    The figure has its own background, so that it is readable on dark pages.

    Args:
        model: a functional `keras.Model` with the layer names of this package.

    Returns:
        The SVG as text.

    Raises:
        ValueError: if the model has no residual units, or is rolled.

    Example:

    >>> import keras_resv2
    >>> network_svg(keras_resv2.ResNet20()).count('class="unit"')
    9
    """
    if is_rolled(model):
        raise ValueError(f"model {model.name!r} is rolled: build it without rolled=True.")
    stages = _stages(model)
    if not stages:
        raise ValueError(f"model {model.name!r} has no residual units: layers must be named stage1_unit1_...")
    channels_first = data_format_of(model) == "channels_first"
    title = f"{model.name}: {sum(len(units) for units in stages.values())} residual units"
    parts, x = [], MARGIN
    parts.append(_end(x, "input", _size(model.input_shape, channels_first)))
    x += BOX + 38
    for number, units in stages.items():
        start = x
        for unit in _drawn(units):
            parts.append(_dots(x) if unit is None else _unit(x, unit))
            x += BOX + GAP
        parts.append(_below(start, x - GAP, f"stage {number}", units, channels_first))
        x += 12
    parts.append(_end(x, "output", _size(model.output_shape, channels_first)))
    width = x + BOX + MARGIN
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT}" width="{width}" role="img"
 aria-label="{html.escape(title)}" font-family="system-ui, sans-serif" font-size="13" text-anchor="middle">
<style>{STYLE}</style>
<rect class="card" width="{width}" height="{HEIGHT}" rx="8"/>
<text x="{MARGIN}" y="24" text-anchor="start" font-weight="600">{html.escape(title)}</text>
<path class="line" d="M{MARGIN + BOX} {MIDDLE}H{x}"/>
{"".join(parts)}</svg>
"""


def _stages(model):
    """Returns a dictionary from the number of a stage to its units: number, output shape, shortcut, projection."""
    stages = {}
    for name, nodes in unit_calls(model).items():
        stage, number = map(int, re.findall(r"\d+", name))
        shape = nodes[-1].outputs[0].shape
        stages.setdefault(stage, []).append(
            {
                "number": number,
                "shape": shape,
                "shortcut": any(node.operation.name == f"{name}_add" for node in nodes),
                "projects": changes_size(
                    nodes[0].input_tensors[0], nodes[-1].outputs[0], (node.operation for node in nodes)
                ),
            }
        )
    return stages


def _drawn(units):
    """Returns the units of a stage to draw, with None for omitted ones."""
    return units if len(units) <= SHOWN else [*units[:2], None, units[-1]]


def _size(shape, channels_first):
    """Formats height x width x channels, or the number of classes."""
    shape = [("any" if side is None else side) for side in shape[1:]]
    if len(shape) == 3 and channels_first:
        shape = [*shape[1:], shape[0]]
    return " x ".join(map(str, shape))


def _unit(x, unit):
    top, end = MIDDLE - 17, x + BOX
    arc = ""
    if unit["shortcut"]:
        kind = "shortcut projection" if unit["projects"] else "shortcut"
        arc = f'<path class="{kind}" d="M{x - 9} {MIDDLE}C{x - 9} {top - 34} {end + 9} {top - 34} {end + 9} {MIDDLE}"/>'
    box = f'<rect class="unit" x="{x}" y="{top}" width="{BOX}" height="34" rx="5"/>'
    return f'{arc}{box}<text class="on" x="{x + BOX / 2}" y="{MIDDLE + 5}">{unit["number"]}</text>\n'


def _dots(x):
    middle = x + BOX / 2
    gap = f'<rect class="card" x="{middle - 16}" y="{MIDDLE - 8}" width="32" height="16"/>'
    return f'{gap}<text x="{middle}" y="{MIDDLE + 4}">⋯</text>\n'


def _end(x, name, size):
    middle = x + BOX / 2
    box = f'<rect class="end" x="{x}" y="{MIDDLE - 17}" width="{BOX}" height="34" rx="5"/>'
    label = f'<text class="on" x="{middle}" y="{MIDDLE + 4}" font-size="11">{name}</text>'
    return f'{box}{label}<text class="small" x="{middle}" y="{MIDDLE + 36}">{size}</text>\n'


def _below(start, end, name, units, channels_first):
    middle = (start + end) / 2
    count = f"{len(units)} unit{'s' if len(units) > 1 else ''}"
    lines = [(name, 40, ""), (_size(units[-1]["shape"], channels_first), 56, "small"), (count, 71, "small")]
    texts = (f'<text x="{middle}" y="{MIDDLE + y}" class="{kind}">{text}</text>' for text, y, kind in lines)
    rule = f'<path d="M{start} {MIDDLE + 24}H{end}" stroke="#bbb"/>'
    return rule + "".join(texts) + "\n"
