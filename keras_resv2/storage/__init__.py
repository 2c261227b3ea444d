"""Files of pretrained weights: cards, weight files, local lookup and downloads.

This package handles files and their checksums. Names of weights are resolved in `keras_resv2.pretrained`.
"""
