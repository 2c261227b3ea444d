"""python -m keras_resv2: the command keras-resv2."""

import sys

from keras_resv2.cli import main

if __name__ == "__main__":
    sys.exit(main())
