"""Notebooks of docs/notebooks: scripts in the percent format, run when the site is built, as pages and as .ipynb.

The percent format is that of Jupytext, VS Code, Spyder and PyCharm: ``# %%`` begins a cell of code, ``# %% [markdown]``
one of text. A cell that raises an error breaks the build.
"""

import ast
import base64
import contextlib
import hashlib
import importlib.util
import io
import json
import pathlib
import re
import sys

from keras_resv2.files import atomic_write

FOLDER = pathlib.Path(__file__).parents[1] / "notebooks"
DPI = 110
NEEDED = ("foolbox", "matplotlib", "onnx", "onnxruntime", "sklearn")  # without them the pages have no outputs


def cells(text):
    """Returns the cells of a script as a list of ``(kind, source)``, kind "code" or "markdown".

    Example:

    >>> cells('''# %% [markdown]
    ... # # Title
    ... # %%
    ... 1 + 1''')
    [('markdown', '# Title'), ('code', '1 + 1')]
    """
    found = []
    for part in re.split(r"^# %%", text, flags=re.MULTILINE)[1:]:
        first, _, source = part.partition("\n")
        if "[markdown]" in first:
            source = re.sub(r"^# ?", "", source, flags=re.MULTILINE)
        found.append(("markdown" if "[markdown]" in first else "code", source.strip()))
    return found


def run(source, namespace):
    """Runs a cell of code; returns ``(text, figures)``: its output and last value, and its figures as PNG."""
    import matplotlib.pyplot as plt

    tree, printed, value = ast.parse(source), io.StringIO(), None
    last = ast.Expression(tree.body.pop().value) if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, "cell", "exec"), namespace)
        value = eval(compile(last, "cell", "eval"), namespace) if last else None
    figures = []
    for number in plt.get_fignums():
        image = io.BytesIO()
        plt.figure(number).savefig(image, format="png", dpi=DPI)
        figures.append(image.getvalue())
    plt.close("all")
    shown = "" if value is None or figures else repr(value)
    return (printed.getvalue() + shown).rstrip(), figures


def can_run():
    """Returns whether the packages that the notebooks need are installed."""
    return all(map(importlib.util.find_spec, NEEDED))


def rendered(path):
    """Runs a notebook and returns its page, its ``.ipynb`` and its figures.

    Args:
        path: path of the script.

    Returns:
        Dictionary from a path in the site to bytes.
    """
    runs = can_run()
    if runs:
        import matplotlib

        matplotlib.use("agg")
    else:
        print(f"docs/_site/notebooks.py: {path.name} is not run: install {' and '.join(NEEDED)}", file=sys.stderr)
    name, namespace, page, notebook, files = path.stem, {"__name__": "__main__"}, [], [], {}
    for kind, source in cells(path.read_text()):
        if kind == "markdown":
            page.append(source)
            notebook.append({"cell_type": kind, "metadata": {}, "source": source})
            continue
        text, figures = run(source, namespace) if runs else ("", [])
        page.append(f"```python\n{source}\n```")
        outputs = [{"output_type": "stream", "name": "stdout", "text": text + "\n"}] if text else []
        page += [f"```text\n{text}\n```"] if text else []
        for image in figures:
            file = f"{name}-{len(files) + 1}.png"
            files[f"notebooks/{file}"] = image
            page.append(f"![Figure of the code above]({file})")
            data = {"image/png": base64.b64encode(image).decode()}
            outputs.append({"output_type": "display_data", "data": data, "metadata": {}})
        cell = {"cell_type": kind, "metadata": {}, "source": source, "outputs": outputs, "execution_count": None}
        notebook.append(cell)
    for number, cell in enumerate(notebook):
        cell["id"] = f"cell-{number}"
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    content = {"cells": notebook, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    page.insert(
        1, f"[This page as a notebook]({name}.ipynb) for Jupyter and Colab, where keras-resv2 must be installed."
    )
    files[f"notebooks/{name}.ipynb"] = json.dumps(content, indent=1).encode()
    files[f"notebooks/{name}.md"] = ("\n\n".join(page) + "\n").encode()
    return files


def notebook_files(cache):
    """Yields ``(path in the site, bytes)`` of all notebooks.

    Args:
        cache: folder. Outputs in it are used as long as notebook, package and published weights have not changed.
    """
    package = _package_digest()
    for path in sorted(FOLDER.glob("*.py")):
        digest = hashlib.sha256(path.read_bytes() + package).hexdigest()[:16]
        kept = cache / f"{path.stem}-{digest}.json"
        if kept.exists():
            files = json.loads(kept.read_text())
        else:
            files = {name: base64.b64encode(content).decode() for name, content in rendered(path).items()}
            if can_run():
                kept.parent.mkdir(parents=True, exist_ok=True)
                for old in cache.glob(f"{path.stem}-*.json"):
                    old.unlink()
                with atomic_write(kept) as partial:
                    partial.write_text(json.dumps(files))
        for name, content in files.items():
            yield name, base64.b64decode(content)


def _package_digest():
    """Returns a hash of all that the outputs of every notebook depend on in a checkout."""
    root = FOLDER.parents[1]
    package, cards = sorted(root.glob("keras_resv2/**/*.py")), sorted(root.glob("weights/*/*/card.json"))
    digest = hashlib.sha256()
    for file in (pathlib.Path(__file__), *package, *cards):
        digest.update(file.read_bytes())
    return digest.digest()
