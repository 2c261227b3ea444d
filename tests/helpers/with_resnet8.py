"""Runs a module as a program with an additional network, `resnet8`, which compiles fast.

python tests/helpers/with_resnet8.py train.train --model=resnet8 ...
"""

import os
import runpy
import sys

from keras_resv2 import architectures, builders

ROW = architectures.Architecture("ResNet8", 8, "original", "none: for tests")

if __name__ == "__main__":
    architectures.ARCHITECTURES["resnet8"] = ROW
    builders.BUILDERS["resnet8"] = builders._make_builder("resnet8", ROW)
    sys.path[0] = os.getcwd()  # as with -m
    from train import dry_run, roofline

    # What a plan measures, small enough for the tests.
    roofline.MATRIX, roofline.VECTOR, dry_run.MEASURED_SECONDS = 1024, 2**22, 0.5
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
