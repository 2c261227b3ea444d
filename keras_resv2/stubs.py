"""The public names as editors and type checkers see them: `keras_resv2/__init__.pyi`, from the table of names.

    python -m keras_resv2.stubs  # or make stubs

The package imports names when they are first used, which no static tool follows. The builders are made from the table
of architectures; their arguments are those of `ResNet`.
"""

import ast
import pathlib

from keras_resv2 import _MODULES, _PACKAGES
from keras_resv2.architectures import ARCHITECTURES

FOLDER = pathlib.Path(__file__).parent
PATH = FOLDER / "__init__.pyi"
FIRST = (  # arguments of builders that may be given by place, as those of keras.applications
    "include_top", "weights", "input_tensor", "input_shape", "pooling", "classes", "classifier_activation", "name",
)  # fmt: skip
DOC = '''    """{builder}: {depth} layers ({source}). Arguments as `ResNet` takes them.

    Args:
        weights: None (random), the dataset that pretrained weights were made on ("cifar10", or "cifar10@1" for version
            1), the path of a weight file, or a dictionary of arrays.
    """
'''


def stub():
    """Text of the stub file."""
    builders = {row.builder: row for row in ARCHITECTURES.values()}
    names = {name: module for name, module in _MODULES.items() if name not in builders}
    imported = [(module, f"{name} as {name}") for name, module in names.items()]
    imported.append(("keras_resv2.shortcuts", "Shortcut"))
    lines = [
        "# Made by `python -m keras_resv2.stubs` from the table of public names: change that, and run it again.",
        "import os",
        "from collections.abc import Callable",
        "",
        "import keras",
        "",
        *(f"from keras_resv2 import {name} as {name}" for name in sorted(_PACKAGES)),
        *(f"from {module} import {name}" for module, name in sorted(imported)),
        "",
        "__version__: str",
        "",
    ]
    arguments = _arguments()
    for name, row in builders.items():
        own = {**arguments, "activation": f'activation: str = "{row.activation}"'}
        first = [own.pop(argument) for argument in FIRST]
        signature = "".join(f"    {argument},\n" for argument in (*first, "*", *own.values()))
        doc = DOC.format(builder=name, depth=row.depth, source=row.source)
        lines.append(f"def {name}(\n{signature}) -> keras.Model:\n{doc}    ...\n")
    return "\n".join(lines)


def _arguments():
    """Arguments of `ResNet` besides the depth, as its source has them: name, annotation and default."""
    tree = ast.parse((FOLDER / "resnet.py").read_text(encoding="utf-8"))
    function = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "ResNet")
    pairs = zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True)
    return {
        given.arg: f"{given.arg}: {ast.unparse(given.annotation)} = {ast.unparse(default)}".replace("'", '"')
        for given, default in pairs
    }


if __name__ == "__main__":
    PATH.write_text(stub(), encoding="utf-8")
