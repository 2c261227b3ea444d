"""Start of programs: hooks around the import of a library, quiet imports, standard streams, usable cores."""

import contextlib
import importlib.abc
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator

LEVEL, QUIET = "TF_CPP_MIN_LOG_LEVEL", "3"
OUTPUT_CLOSED = 141  # 128 + SIGPIPE


def around_import(name: str, context: Callable[[], contextlib.AbstractContextManager]) -> None:
    """Runs the future import of a module inside a context manager. Does nothing if it is already imported.

    Args:
        name: name of the module, such as "tensorflow".
        context: function that returns a context manager.
    """
    if name not in sys.modules:
        sys.meta_path.insert(0, _Around(name, context))


class _Around(importlib.abc.MetaPathFinder):
    """A finder that finds one module as Python would without it, and removes itself once that is loaded."""

    def __init__(self, name, context):
        self._name, self._context, self._searching = name, context, False

    def find_spec(self, name, path=None, target=None):
        if name != self._name or self._searching:
            return None
        self._searching = True
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self._searching = False
        if spec is not None and spec.loader is not None and hasattr(spec.loader, "exec_module"):
            load = spec.loader.exec_module

            def load_inside(module):
                with self._context():
                    load(module)
                sys.meta_path[:] = [finder for finder in sys.meta_path if finder is not self]

            spec.loader.exec_module = load_inside
        return spec


@contextlib.contextmanager
def without_native_messages() -> Iterator[None]:
    """Suppresses what the libraries' C++ code writes to the terminal, unless TF_CPP_MIN_LOG_LEVEL asks for it.

    The variable alone is not enough: TensorFlow writes its first lines before reading it.
    """
    saved = None
    if os.environ.setdefault(LEVEL, QUIET) == QUIET and sys.stderr is not None:
        sys.stderr.flush()
        with contextlib.suppress(OSError):  # the standard error of daemons is closed
            saved = os.dup(2)
    if saved is None:
        yield
        return
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(null)


def prepare_streams() -> None:
    """Makes output line-buffered, even when redirected, and safe on consoles of any code page.

    Characters that the code page cannot encode are written as escapes (``\\u4e2d``), so that they do not raise an
    error.
    """
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:  # notebooks and tests may replace the stream
            reconfigure(errors="backslashreplace", line_buffering=True)


def print_stderr(text: object) -> None:
    """Prints a line to the standard error; does nothing if that is closed, or its reader is gone.

    ``print`` would write to the standard output instead, or raise an error in the middle of other work.
    """
    if sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):
            print(text, file=sys.stderr, flush=True)


def stop_output() -> int:
    """Ends the output of a program whose reader is gone, as in ``keras-resv2 list --json | head -1``.

    Call it after a BrokenPipeError. Later output, such as what Python flushes when it exits, is discarded.

    Returns:
        The exit code of programs that SIGPIPE ends, 141.
    """
    with contextlib.suppress(OSError, ValueError):  # notebooks and tests may replace the stream
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
    return OUTPUT_CLOSED


def usable_cores() -> list[int]:
    """Returns the indices of the cores that this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
