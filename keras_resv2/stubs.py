"""The public names as editors and type checkers see them: `keras_resv2/__init__.pyi`, from the table of names.

    python -m keras_resv2.stubs  # or make stubs

The package imports names when they are first used, which no static tool follows. The builders are made from the table
of architectures; what their arguments are says `ResNet`.
"""

import ast
import inspect
import pathlib

from keras_resv2 import _MODULES, _PACKAGES
from keras_resv2 import builders as named
from keras_resv2.architectures import ARCHITECTURES

FOLDER = pathlib.Path(__file__).parent
PATH = FOLDER / "__init__.pyi"
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
    kinds = _annotations()
    for name, row in builders.items():
        signature = inspect.signature(getattr(named, name)).parameters.values()
        arguments = [f"{given.name}: {kinds[given.name]} = {_literal(given.default)}" for given in signature]
        by_place = sum(given.kind is not given.KEYWORD_ONLY for given in signature)
        lines.append(f"def {name}(")
        lines += [f"    {argument}," for argument in (*arguments[:by_place], "*", *arguments[by_place:])]
        doc = DOC.format(builder=name, depth=row.depth, source=row.source)
        lines.append(f") -> keras.Model:\n{doc}    ...\n")
    return "\n".join(lines)


def _annotations():
    """What the arguments of `ResNet` are, by name, as its source says: importing it would bring Keras."""
    tree = ast.parse((FOLDER / "resnet.py").read_text(encoding="utf-8"))
    function = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "ResNet")
    return {given.arg: ast.unparse(given.annotation) for given in function.args.kwonlyargs}


def _literal(value):
    return f'"{value}"' if isinstance(value, str) else repr(value)


if __name__ == "__main__":
    PATH.write_text(stub(), encoding="utf-8")
