"""Files of pretrained weights: cards, weight files, where they are on this machine, and downloads.

This package knows files and their checksums. Names of weights are resolved above, in `keras_resv2.pretrained`.
"""
