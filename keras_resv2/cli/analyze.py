"""keras-resv2 analyze STUDY NAME..."""

from keras_resv2.cli.terminal import start_backend
from keras_resv2.data import DATASETS

SMALL = [name for name, row in DATASETS.items() if not row.streamed]
STUDIES = {
    "propagation": "signals and gradients unit by unit",
    "lesions": "error without units, and with units in another order",
    "paths": "gradients of single paths by their length",
    "cam": "positions of an image that speak for a class (Grad-CAM)",
}


def add_arguments(parser):
    """Adds the command's arguments to an `argparse` parser."""
    parser.add_argument("study", choices=list(STUDIES), help="; ".join(f"{k}: {text}" for k, text in STUDIES.items()))
    parser.add_argument("names", metavar="NAME", nargs="+", help="pretrained network, or architecture: new weights")
    parser.add_argument("--data_dir", required=True, help="tensorflow-datasets directory, or .npz file")
    parser.add_argument("--dataset", help="of an architecture: " + ", ".join(SMALL) + " (default cifar10)")
    parser.add_argument("--out", required=True, metavar="DIR", help="where tables (CSV) and figures (PNG) go")
    parser.add_argument("--images", type=int, help="the first so many test images alone")
    parser.add_argument("--weights", metavar="FILE", help="of an architecture, as train.train writes them")
    parser.add_argument("--activation", help="order of BN and ReLU of an architecture, where it is not its own")
    parser.add_argument("--shortcut", nargs="+", help="of an architecture, as none or 'constant_scaling'; or several")
    parser.add_argument("--draws", type=int, default=10, help="random lesions, or paths, of each size (default 10)")
    parser.add_argument("--seed", type=int, default=0, help="of new weights and of what is drawn (default 0)")


def run(arguments):
    """keras-resv2 analyze STUDY NAME..."""
    start_backend()
    from keras_resv2.cli.studies import run_study

    return run_study(arguments)
