"""Fig. 4 of He et al. 2016 as SVG, drawn from the table that the networks are built from.

python docs/_site/units.py  # writes docs/figures/units.svg
"""

import pathlib

from keras_resv2.models.blocks import ACTIVATIONS

TITLES = {
    "original": ("original", "ResNet-v1"),
    "bn_after_addition": ("BN after", "addition"),
    "relu_before_addition": ("ReLU before", "addition"),
    "relu_only_preactivation": ("ReLU-only", "pre-activation"),
    "full_preactivation": ("full pre-activation", "ResNet-v2"),
}
LABELS = {"conv": "3x3 conv", "bn": "BN", "relu": "ReLU", "add": "+"}
WIDTH, STEP, TOP, BOX = 164, 38, 78, (104, 28)


def steps_of(activation):
    """Returns the steps of a basic unit, from its input on: "conv", "bn", "relu", "add"; the branch ends at "add".

    Example:

    >>> steps_of("full_preactivation")
    ['bn', 'relu', 'conv', 'bn', 'relu', 'conv', 'add']
    """
    row = ACTIVATIONS[activation]
    return [
        *row.before_branch, "conv", "bn", "relu", "conv", *row.after_last_conv, "add", *row.after_addition
    ]  # fmt: skip


def draw():
    """Returns the SVG, with a column for each order of activations."""
    height = TOP + STEP * max(len(steps_of(name)) for name in ACTIVATIONS) + 34
    parts = [_column(name, number * WIDTH, height) for number, name in enumerate(ACTIVATIONS)]
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH * len(ACTIVATIONS)} {height}" role="img"
 aria-label="Five orders of activation in a residual unit" font-family="system-ui, sans-serif" font-size="13">
<style>
text {{ fill: #222; }} .line {{ stroke: #555; fill: none; stroke-width: 1.5; }} .conv {{ fill: #0072b2; }}
.bn {{ fill: #e69f00; }} .relu {{ fill: #009e73; }}
.add {{ fill: #fff; stroke: #555; }} text.on {{ fill: #fff; }}
</style>
{"".join(parts)}</svg>
"""


def _column(name, left, height):
    middle, steps = left + 66, steps_of(name)
    split, end = TOP - 22, TOP + steps.index("add") * STEP + BOX[1] / 2
    side = left + WIDTH - 24
    lines = [f'<path class="line" d="M{middle} {TOP - 32}V{height - 12}"/>']
    lines += [f'<path class="line" d="M{middle} {split}H{side}V{end}H{middle}"/>']
    title, below = TITLES[name]
    texts = [f'<text x="{middle}" y="16" text-anchor="middle" font-weight="600">{title}</text>']
    texts += [f'<text x="{middle}" y="33" text-anchor="middle">{below}</text>']
    for row, step in enumerate(steps):
        texts.append(_box(step, middle, TOP + row * STEP))
    return "\n".join([*lines, *texts, ""])


def _box(step, middle, top):
    width, high = BOX
    label = f'<text x="{middle}" y="{top + 19}" text-anchor="middle" class="{{}}">{LABELS[step]}</text>'
    if step == "add":
        return f'<circle class="add" cx="{middle}" cy="{top + high / 2}" r="12"/>{label.format("")}'
    box = f'<rect class="{step}" x="{middle - width / 2}" y="{top}" width="{width}" height="{high}" rx="4"/>'
    return box + label.format("" if step == "bn" else "on")


if __name__ == "__main__":
    (pathlib.Path(__file__).parents[1] / "figures/units.svg").write_text(draw())
