"""The checkout that is tested, and how hard."""

import os
import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[2]
# How many times as many processes, threads, calls and openings tests of endurance have: KERAS_RESV2_STRESS=20.
STRESS = int(os.environ.get("KERAS_RESV2_STRESS", "1"))
