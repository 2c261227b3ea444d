"""Compares our errors with those of a paper's table.

    python -m train.reproduce table1 --plot table1.png
    python -m train.reproduce resnet --runs runs --format markdown

Our errors come from the cards of all versions of published weights, from finished runs in runs/, and from the records
in train/results/ of runs whose weights are not published. A reproduction is a run with
the `paper` recipe and the steps and batch size of the cell; only the precision may differ. Results of other recipes are
shown separately. For cells without a reproduction, the command that trains one is printed. Exit code 2: bad input.
"""

import argparse
import pathlib
import sys

from keras_resv2.startup import print_stderr, stop_output
from train.paper_tables.comparison import compare
from train.paper_tables.figures import TABLES
from train.paper_tables.report import FORMATS, draw
from train.paper_tables.results import collect

BAD_INPUT = 2
RESULTS = pathlib.Path(__file__).parent / "results"  # run.json and history.csv of runs that are not published


def main(argv=None):
    """Prints one table; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m train.reproduce", description=__doc__.partition("\n")[0])
    parser.add_argument("table", choices=TABLES, help="table of He et al. 2016; resnet: Table 6 of He et al. 2015")
    parser.add_argument("--runs", help="folder that contains folders of runs (default: runs and train/results)")
    parser.add_argument("--weights_dir", default="weights", help="folder of published weights (default: weights)")
    parser.add_argument("--format", choices=FORMATS, default="text", help="output format (default: text)")
    parser.add_argument("--plot", metavar="FILE", help="draw the table into FILE")
    arguments = parser.parse_args(argv)
    runs = [arguments.runs] if arguments.runs else ["runs" if pathlib.Path("runs").is_dir() else None, RESULTS]
    try:
        report = compare(arguments.table, collect(arguments.weights_dir, *runs), arguments.runs or "runs")
        if arguments.plot:
            draw(report, arguments.plot)
        print(FORMATS[arguments.format](report), end="")
    except BrokenPipeError:
        return stop_output()
    except (ValueError, OSError, ImportError) as error:
        print_stderr(f"error: {' '.join(str(error).split())}")
        return BAD_INPUT
    return 0


if __name__ == "__main__":
    sys.exit(main())
