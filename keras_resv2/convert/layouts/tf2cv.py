"""tf2cv (osmr/imgclsmob): pytorchcv's networks in TensorFlow, as `.h5` files of weights.

Layers have pytorchcv's names (`keras_resv2.convert.layouts.pytorchcv`) with "/" for ".", a Keras convolution inside
each of theirs (``.../conv1/conv/conv/kernel``), and the classifier `output1`.
"""

import functools
import re

from keras_resv2.convert.layouts import pytorchcv
from keras_resv2.convert.layouts.keras import KerasLayout


def layer(theirs, name):
    """Layer of tf2cv for one of ours.

    Args:
        theirs: `PyTorchLayout` of pytorchcv.
        name: of our layer.
    """
    if name == "head_dense":
        return "output1"
    return theirs.layer(name).replace(".", "/") + ("/conv" if "conv" in name else "")


class _Layout(KerasLayout):
    """Files say the name of a stage twice."""

    def spell(self, name):
        return re.sub(r"/(stage\d+)/\1/", r"/\1/", name)


def _of(theirs):
    marks = ("post_activ/bn/gamma",) if "head_bn" in theirs.fixed else ()
    return _Layout(
        name="tf2cv",
        activation=theirs.activation,
        marks=(*(f"features/{mark}" for mark in marks), "features/stage1/unit1/body/conv1/conv/conv/kernel"),
        layer=functools.partial(layer, theirs),
        structure=theirs.structure,
        stem_kernel=theirs.stem_kernel,
        by_source=theirs.by_source,
        pixels=theirs.pixels,
        classifier_names=("output1",),
    )


LAYOUTS = tuple(map(_of, pytorchcv.LAYOUTS))
