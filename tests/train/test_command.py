"""The start of commands that use absl flags."""

import subprocess
import sys

from helpers.paths import ROOT

# As `python -m train.finetune` starts: the package is imported while Python looks for the module.
PROGRAM = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background of a shell
sys.argv = ["-m"]
import train
assert signal.getsignal(signal.SIGINT) is train._leave
sys.argv = ["train/finetune.py"]
from train.command import run
def main(argv):
    try:
        os.kill(os.getpid(), signal.SIGINT)
        signal.pause()
    except KeyboardInterrupt:
        print("saved")
        raise
run(main)
"""


def test_ctrl_c_lets_a_command_save_its_work():
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (130, "saved\n", "")
