"""Ctrl-C while a command starts: no traceback, and no files are left."""

import functools
import signal
import subprocess
import sys
import time

import pytest

from helpers.paths import ROOT


@pytest.mark.parametrize("seconds", [0.0, 0.7])
def test_an_interrupt_while_libraries_load(tmp_path, seconds):
    """As soon as Python imports libraries, and a little later."""
    words = ["-X", "importtime", "-m", "train.train", "--model", "resnet20", "--out", str(tmp_path / "run")]
    command = [sys.executable, *words, "--data_dir", str(tmp_path / "none.npz")]
    # Programs in the background of a shell, as these tests may be, ignore Ctrl-C, and so do those that they start.
    foreground = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, preexec_fn=foreground
    )
    for line in process.stderr:  # -X importtime writes each module that was imported
        if line.split("|")[-1].strip() == "train":
            break
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said[-2000:]
    assert "Traceback" not in said and not (tmp_path / "run").exists()
