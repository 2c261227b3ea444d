"""The package imports in one direction: lower layers do not import higher ones, not even inside functions."""

import ast

import pytest

from helpers.paths import ROOT

PACKAGE = ROOT / "keras_resv2"
# From the bottom to the top. What stands in one row may import what stands below it, and its own folder.
LAYERS = [
    ["argument_checks", "startup", "files"],
    ["registration", "figures"],
    ["data"],
    ["models"],
    ["architectures", "shortcuts"],
    ["storage"],
    ["resnet", "evaluation", "optimizers"],
    ["metrics"],
    ["convert"],
    ["hub.client", "hub.readme", "hub.timm", "hub.download"],
    ["pretrained"],
    ["builders", "labels", "hub.upload", "hub"],
    ["transfer", "analysis", "exporting", "machine"],
    ["embedding"],
    ["stubs"],
    ["cli"],
    ["__main__"],
]
# Keras is imported after the arguments of a command were checked, and by no command that only reads cards.
STARTS_KERAS = ("cli.", "pretrained.", "hub.timm.", "exporting.formats.")


def modules():
    """Paths of the package's modules by name, without the package's own name; packages are ``data.__init__``."""
    names = {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in PACKAGE.rglob("*.py")}
    del names["__init__"]  # lazy: it imports each public name when that is first used
    return names


MODULES = modules()


def imported(tree):
    """``(module, whether inside a function)`` of each import of the package in a syntax tree."""
    local = {id(node) for f in ast.walk(tree) if isinstance(f, ast.FunctionDef) for node in ast.walk(f)}
    for node in ast.walk(tree):
        assert not (isinstance(node, ast.ImportFrom) and node.level), "imports of the package are absolute"
        if isinstance(node, ast.Import):
            for name in node.names:
                inner = name.name.partition(".")[2]
                if name.name.split(".")[0] == "keras_resv2" and inner:
                    yield inner, id(node) in local
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "keras_resv2":
            base = node.module.partition(".")[2]
            for name in node.names:
                inner = f"{base}.{name.name}".lstrip(".")
                found = inner if inner in MODULES or f"{inner}.__init__" in MODULES else base
                if found:
                    yield found, id(node) in local


def test_the_lazy_package_itself_is_imported_only_for_its_version():
    """Every name of the package would reach every layer."""
    for name, path in MODULES.items():
        used = {node.attr for node in ast.walk(ast.parse(path.read_text())) if _is_of_package(node)}
        assert used <= {"__version__"}, name


def _is_of_package(node):
    return isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "keras_resv2"


def layer_of(module):
    found = [i for i, names in enumerate(LAYERS) for name in names if f"{module}.".startswith(f"{name}.")]
    return found[0] if found else None


def test_every_module_has_a_layer():
    unknown = [name for name in MODULES if layer_of(name) is None]
    assert not unknown


@pytest.mark.parametrize("name", MODULES)
def test_a_module_imports_lower_layers_and_its_own_folder_alone(name):
    for other, _ in imported(ast.parse(MODULES[name].read_text())):
        same = layer_of(other) == layer_of(name) and other.split(".")[0] == name.split(".")[0]
        assert layer_of(other) is not None, other
        assert layer_of(other) < layer_of(name) or same, f"{name} imports {other}"


def test_there_is_no_circle():
    graph = {name: {other for other, _ in imported(ast.parse(path.read_text()))} for name, path in MODULES.items()}
    graph = {name: {o if o in MODULES else f"{o}.__init__" for o in others} - {name} for name, others in graph.items()}
    done = set()
    while ready := [name for name in graph if name not in done and graph[name] <= done]:
        done.update(ready)
    assert not set(graph) - done, "a circle, or what imports one"


def test_imports_inside_functions_are_of_other_libraries_or_start_keras():
    inside = {
        (name, other)
        for name, path in MODULES.items()
        for other, local in imported(ast.parse(path.read_text()))
        if local and not f"{name}.".startswith(STARTS_KERAS) and other != "models.batch_norm_jax"
    }
    assert not inside
