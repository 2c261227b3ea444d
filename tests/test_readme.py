"""The Python of the README's first screen runs as printed."""

import pathlib
import re

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[1]


def test_the_first_example():
    code = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL).group(1)
    names = {"pictures": np.zeros((2, 32, 32, 3), "uint8")}
    exec(code, names)
    assert names["body"].output_shape == (None, 64)
    assert list(names["backbone"].output) == ["stage1", "stage2", "stage3", "stage4"]
