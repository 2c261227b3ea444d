"""Assumptions about a network that its tensors do not specify: different networks can have the same tensors."""

from keras_resv2.convert.verification import stems_like
from keras_resv2.models.config import STEMS

# By argument of `detect`. What follows "and it was assumed," in a message.
STRIDE = {
    "3x3": "that bottlenecks take the stride on the 3x3 convolution (else: stride_on='1x1')",
    "1x1": "that bottlenecks take the stride on the first 1x1 convolution (else: stride_on='3x3')",
}
STEM = {
    "cifar": "that the first convolution has stride 1 and no pooling follows (else: stem={})",
    "imagenet": "that the first convolution has stride 2 and max-pooling follows (else: stem={})",
}
ACTIVATED = {
    "projections": "that 1x1 shortcuts, and no others, start from the unit's first activation "
    "(else: activated_shortcuts='none' or 'first_and_projections')",
    "none": "that all shortcuts start from the sum before the unit's first activation "
    "(else: activated_shortcuts='projections' or 'first_and_projections')",
}
SUBSAMPLING = "that shortcuts of option A take every second pixel (else, for averages: projection='A_average')"
ZERO_CHANNELS = {
    "both_sides": "that the zero channels of option A lie on both sides alike (else: zero_channels='after')",
    "after": "that the zero channels of option A lie after the others (else: zero_channels='both_sides')",
}
EPSILON = "that batch normalization adds 1e-5 to the variance (else: epsilon=...)"
OTHERS = "that activations are ReLU and nothing is blurred or dilated (no others are built)"
PIXELS = "that pixels are normalized with {} (else: preprocessing=(mean, std))"
OWN_PIXELS = "the statistics of this package's {} networks"
CLASSIFIER = "that the classifier ends in softmax (else: classifier_activation=... of the builder)"


def assumptions(layout, structure, said, weights, *, ours=False, compared=False):
    """Lists what was assumed about weights of a PyTorch layout.

    Args:
        layout: `PyTorchLayout`.
        structure: arguments that the network is built with.
        said: arguments that the source or the caller specified.
        weights: weights of our network, by name.
        ours: whether a file written by this package specified them.
        compared: whether the outputs of a whole network were compared with ours; then only its pixels are assumed.

    Returns:
        Tuple of phrases.
    """
    stem = structure["stem"]
    pixels = layout.pixels or OWN_PIXELS.format(STEMS[stem].dataset.name)
    phrases = {"preprocessing": PIXELS.format(pixels)}
    if not compared and not ours:
        others = [name for name in stems_like(stem) if name != stem]
        if stem in STEM:
            phrases["stem"] = STEM[stem].format(" or ".join(map(repr, others)))
        if "stage1_unit1_conv3/kernel" in weights:
            phrases["stride_on"] = STRIDE[structure["stride_on"]]
        option_a = structure["projection"].startswith("A")
        if "stage1_unit1_preact_bn/gamma" in weights and layout.name == "cifar_preactivation":
            phrases["activated_shortcuts"] = ACTIVATED[structure["activated_shortcuts"]]
        if option_a:
            phrases |= {"projection": SUBSAMPLING, "zero_channels": ZERO_CHANNELS[structure["zero_channels"]]}
        phrases |= {"epsilon": EPSILON, "others": OTHERS}
    return tuple(phrase for argument, phrase in phrases.items() if argument not in said)
