"""Depths of the papers' networks and their units per stage. It does not need Keras."""

# Units per stage of He et al. 2015, Table 1, and ResNet-200 of He et al. 2016.
IMAGENET_UNITS = {
    18: ("basic", (2, 2, 2, 2)),
    34: ("basic", (3, 4, 6, 3)),
    50: ("bottleneck", (3, 4, 6, 3)),
    101: ("bottleneck", (3, 4, 23, 3)),
    152: ("bottleneck", (3, 8, 36, 3)),
    200: ("bottleneck", (3, 24, 36, 3)),
}
# CIFAR networks have three stages of n units: depth = 6n+2 (basic) or 9n+2 (bottleneck).
CIFAR_LAYERS_PER_N = {"basic": 6, "bottleneck": 9}
