"""Draws all figures of the documentation anew: ``make figures DATA=cifar10.npz``.

The studies run on the published weights; lesions that were interrupted resume. The figure of transfer learning is drawn
from `docs/figures/transfer.csv`, the measurements of the table in `benchmarks/RESULTS.md`.
"""

import argparse
import csv
import pathlib
import runpy
import shutil

from benchmarks.transfer import draw as draw_transfer
from keras_resv2 import cli

FIGURES = pathlib.Path(__file__).parents[1] / "figures"
PLAIN = pathlib.Path(__file__).with_name("plain") / "resnet20_plain-cifar10/1"
VARIANTS = ("identity", "constant_scaling", "exclusive_gating(bias=-6)", "shortcut_only_gating(bias=-6)", "dropout")
NETWORK = "resnet110-cifar10@1"  # of the results in docs/analysis.md
# Name of a study: arguments of `keras-resv2 analyze`, and the name in the documentation of each figure that it draws.
STUDIES = {
    "propagation": (
        ["propagation", NETWORK, "preact_resnet110-cifar10@1"],
        {"propagation.png": "propagation.png"},
    ),
    "new": (
        ["propagation", "resnet110", "--shortcut", *VARIANTS, "--images", "64"],
        {"propagation.png": "new-networks.png"},
    ),
    "lesions": (
        ["lesions", NETWORK, "--images", "1000"],
        {
            "deletions.png": "deletions.png",
            f"{NETWORK}-random_deletions.png": "random-deletions.png",
            f"{NETWORK}-reorderings.png": "reorderings.png",
        },
    ),
    "plain": (
        ["lesions", str(PLAIN), "--images", "2000", "--draws", "1"],
        {"deletions.png": "deletions-plain.png"},
    ),
    "paths": (
        ["paths", NETWORK, "--images", "128", "--draws", "40"],
        {f"{NETWORK}-paths.png": "paths.png"},
    ),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir", required=True, help="CIFAR-10: tensorflow-datasets directory, or .npz file")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/figures"), help="folder of the tables")
    parser.add_argument("--only", nargs="+", choices=[*STUDIES, "transfer", "units"], help="these figures alone")
    arguments = parser.parse_args()
    wanted = arguments.only or [*STUDIES, "transfer", "units"]
    for name, (options, files) in STUDIES.items():
        if name in wanted:
            folder = arguments.out / name
            code = cli.main(["analyze", *options, "--data_dir", arguments.data_dir, "--out", str(folder)])
            if code:
                return code
            for drawn, figure in files.items():
                shutil.copyfile(folder / drawn, FIGURES / figure)
    if "transfer" in wanted:
        with open(FIGURES / "transfer.csv", newline="") as file:
            draw_transfer(list(csv.DictReader(file)), FIGURES / "transfer.png")
    if "units" in wanted:
        runpy.run_path(str(pathlib.Path(__file__).with_name("units.py")), run_name="__main__")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
