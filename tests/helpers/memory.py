"""Peak memory of a part of this process."""

import contextlib
import pathlib
import re
import resource


@contextlib.contextmanager
def within(megabytes, what="memory"):
    """Fails if the peak memory of the block is higher by more than the memory in use before it."""
    before = _reset()
    yield
    grown = (_peak() - before) / 1024
    assert grown < megabytes, f"{what}: {grown:.0f} MiB"


def _reset():
    """Returns the memory in use in KiB, from which on Linux a new peak is measured."""
    with contextlib.suppress(OSError):  # elsewhere it is the peak since the start of the process
        pathlib.Path("/proc/self/clear_refs").write_text("5")
    return _peak()


def _peak():
    try:
        return int(re.search(r"VmHWM:\s+(\d+)", pathlib.Path("/proc/self/status").read_text())[1])
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
