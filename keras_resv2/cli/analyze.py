"""keras-resv2 analyze STUDY NAME..."""

from keras_resv2.cli.terminal import start_backend
from keras_resv2.data import DATASETS

SMALL = [name for name, row in DATASETS.items() if not row.streamed]
STUDIES = {
    "propagation": "signals and gradients unit by unit",
    "lesions": "error without units, and with units in another order",
    "paths": "gradients of single paths by length",
    "cam": "positions of an image that support a class (Grad-CAM)",
}


def add_arguments(parser):
    """Adds the command's arguments to an `argparse` parser."""
    parser.add_argument("study", choices=list(STUDIES), help="; ".join(f"{k}: {text}" for k, text in STUDIES.items()))
    parser.add_argument("names", metavar="NAME", nargs="+", help="pretrained network, or architecture with new weights")
    parser.add_argument(
        "--data_dir", required=True, help="tensorflow-datasets directory, .npz file, or folder of class folders"
    )
    parser.add_argument("--dataset", help="dataset of an architecture: " + ", ".join(SMALL) + " (default cifar10)")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for tables (CSV) and figures (PNG)")
    parser.add_argument(
        "--images",
        type=int,
        help="use only the first N test images (if they are sorted by class: N evenly spaced ones); default: 128 for "
        "propagation, 32 for paths, 12 for cam, fewer if they are large, and all for lesions",
    )
    parser.add_argument("--weights", metavar="FILE", help="weights of an architecture, written by train.train")
    parser.add_argument("--activation", help="order of BN and ReLU of an architecture, if not its default")
    parser.add_argument("--shortcut", nargs="+", help="shortcuts of an architecture, such as none or constant_scaling")
    parser.add_argument("--draws", type=int, default=10, help="random lesions or paths of each size (default 10)")
    parser.add_argument("--seed", type=int, default=0, help="seed of new weights and random draws (default 0)")


def run(arguments):
    """keras-resv2 analyze STUDY NAME..."""
    start_backend()
    from keras_resv2.cli.studies import run_study

    return run_study(arguments)
