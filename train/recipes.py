"""The table of recipes, one row each."""

import dataclasses

from train.recipe import Recipe

# 50 epochs of a one-cycle schedule in bfloat16: less than an hour on two cores for a 20-layer network.
FAST = Recipe(
    steps=19_500,
    batch_size=128,
    schedule=((0, 0.02), (0.2, 0.2), (1, 0.0)),
    interpolate="linear",
    nesterov=True,
    weight_decay=5e-4,
    decay="kernels",
    pad_mode="reflect",
    flip="alternating",
    dtype="mixed_bfloat16",
)

RECIPES = {
    # He et al. 2016, appendix: 64k steps, rate divided by 10 at 32k and 48k, 400 warmup steps at 0.01.
    "paper": Recipe(
        steps=64_000,
        batch_size=128,
        schedule=((0, 0.1), (1 / 2, 0.01), (3 / 4, 0.001)),
        warmup_steps=400,
        warmup_rate=0.01,
    ),
    "fast": FAST,
    # Images of three quarters of their size in the first 60 % of the run (progressive resizing: Tan & Le 2021, arXiv
    # 2104.00298, section 4): 68 epochs in the time of `fast`.
    "progressive": dataclasses.replace(FAST, steps=26_400, image_size=((0, 0.75), (0.6, 1.0))),
    # 200 epochs of a cosine schedule: learning rate, Nesterov and weight decay of chenyaofo's CIFAR networks, of which
    # the 20-layer one has an error of 7.44 %; plus mild mixup and averaged weights.
    "long": Recipe(
        steps=None,
        epochs=200,
        batch_size=256,
        schedule=((0, 0.1), (1, 0.0)),
        interpolate="cosine",
        nesterov=True,
        weight_decay=5e-4,
        pad_mode="reflect",
        dtype="mixed_bfloat16",
        average="ema",
        average_start=0.5,
        mixup=0.2,
    ),
    # He et al. 2016, section 5: rate divided by 10 every 30 epochs, scale and aspect-ratio augmentation.
    "imagenet": Recipe(
        steps=None,
        epochs=90,
        batch_size=256,
        schedule=((0, 0.1), (1 / 3, 0.01), (2 / 3, 0.001)),
        crop="scale",
        pad=0,
        image_size=224,
        views=((256, 224), (320, 320)),
    ),
}
