"""Support of editors and type checkers: stubs that are up to date, and a README that passes a type checker."""

import ast
import importlib
import inspect
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import types
import typing

import keras
import pytest

import keras_resv2
from helpers.paths import ROOT
from keras_resv2 import stubs

TYPOS = """
keras_resv2.PreActResNet164(activaton="original")
keras_resv2.from_pretraned("resnet20-cifar10")
keras_resv2.ResNet("110")
"""


def test_the_stubs_are_up_to_date():
    assert stubs.stub() == stubs.PATH.read_text(encoding="utf-8"), "run make stubs"
    assert (stubs.FOLDER / "py.typed").exists()


def test_every_public_name_is_in_the_stubs():
    text = stubs.PATH.read_text(encoding="utf-8")
    assert not [name for name in keras_resv2.__all__ if not re.search(rf"( as |^def ){name}\b", text, re.MULTILINE)]


def test_builders_have_the_arguments_of_resnet():
    """The same arguments with the same defaults, except for the depth and the activation order."""
    wanted = {name: given.default for name, given in inspect.signature(keras_resv2.ResNet).parameters.items()}
    del wanted["depth"], wanted["activation"]
    for builder, activation in ((keras_resv2.ResNet20, "original"), (keras_resv2.PreActResNet50, "full_preactivation")):
        found = {name: given.default for name, given in inspect.signature(builder).parameters.items()}
        assert found.pop("activation") == activation and found == wanted
        with pytest.raises(TypeError, match=rf"{builder.__name__}\(\) got an unexpected keyword argument 'activaton'"):
            builder(activaton="original")


def documented():
    """The names in the table of the API reference."""
    tree = ast.parse((ROOT / "docs/_site/pages.py").read_text(encoding="utf-8"))
    table = next(
        node.value for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "API"
    )
    return [name for _, names in ast.literal_eval(table).values() for name in names]


def public_functions():
    """Public functions, and the methods and properties of public classes, by name."""
    objects = {name: getattr(keras_resv2, name) for name in keras_resv2.__all__}
    for path in documented():
        module, _, name = path.rpartition(".")
        objects[path] = getattr(importlib.import_module(module), name)
    functions = {}
    for name, found in objects.items():
        if inspect.isclass(found):
            for key, member in vars(found).items():
                member = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
                if inspect.isfunction(member) and (key == "__init__" or not key.startswith("_")):
                    functions[f"{name}.{key}"] = member
        elif not isinstance(found, types.ModuleType):
            functions[name] = found
    return functions


def unannotated(function):
    """Parameters without an annotation, and "return"."""
    hints = typing.get_type_hints(function, localns={"keras": keras})
    given = list(inspect.signature(function).parameters)
    if given and given[0] in ("self", "cls"):
        del given[0]
    wanted = given if function.__name__ == "__init__" else [*given, "return"]
    return [name for name in wanted if name not in hints]


def test_public_functions_are_annotated():
    functions = public_functions()
    assert len(functions) > 60
    assert {"ResNet", "PreActResNet164", "fine_tune", "keras_resv2.storage.card.Card.to_json"} <= functions.keys()
    assert {name: missing for name, function in functions.items() if (missing := unannotated(function))} == {}


def test_a_missing_annotation_is_named():
    def half(one: int, two, three=0) -> str: ...

    def none(one: int): ...

    assert unannotated(half) == ["two", "three"] and unannotated(none) == ["return"]


def test_a_type_checker_accepts_the_package_and_the_readme_and_names_typos(tmp_path):
    """One start of pyright for all three, because it takes long."""
    pyright = shutil.which("pyright", path=f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if not pyright:
        pytest.skip("pyright is missing: pip install pyright")
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    given = "import numpy as np\nimages = np.zeros((2, 32, 32, 3))\nlabels = np.zeros(2, int)\n"
    (tmp_path / "readme.py").write_text(given + "\n".join(blocks[:3]))
    (tmp_path / "typos.py").write_text("import keras_resv2\n" + TYPOS)
    package = os.path.relpath(ROOT / "keras_resv2", tmp_path)  # pyright ignores absolute paths here
    config = {"extends": str(ROOT / "pyproject.toml"), "include": [package, "readme.py", "typos.py"]}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps({**config, "extraPaths": [str(ROOT)]}))
    done = subprocess.run(
        [pyright, "--outputjson", "--pythonpath", sys.executable, "--project", str(tmp_path)],
        capture_output=True, text=True, cwd=tmp_path, timeout=1200,
    )  # fmt: skip
    if not done.stdout.startswith("{"):
        pytest.skip(f"pyright does not start: {done.stderr.strip().splitlines()[-1:]}")
    report = json.loads(done.stdout)
    assert report["summary"]["filesAnalyzed"] > 80
    said = {"readme.py": [], "typos.py": []}
    for one in report["generalDiagnostics"]:
        if one["severity"] == "error":
            path = pathlib.Path(one["file"])
            name = path.name if path.name in said else f"{path}:{one['range']['start']['line'] + 1}"
            said.setdefault(name, []).append(one["message"])
    typos = said.pop("typos.py")
    assert said == {"readme.py": []}
    assert len(typos) == 3
    for message, word in zip(typos, ("activaton", "from_pretraned", "int"), strict=True):
        assert word in message
