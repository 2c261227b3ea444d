"""The recipes: one table, a row a way of training."""

from train.recipe import Recipe

RECIPES = {
    # He et al. 2016, section 4 and appendix: 64k steps, divided by 10 at 32k and 48k, 400 steps of 0.01.
    "paper": Recipe(
        steps=64_000,
        batch_size=128,
        schedule=((0, 0.1), (1 / 2, 0.01), (3 / 4, 0.001)),
        warmup_steps=400,
        warmup_rate=0.01,
    ),
    # 50 epochs of one cycle in bfloat16: under an hour on two cores for a 20-layer network.
    "fast": Recipe(
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
    ),
    # 200 epochs of one cosine: learning rate, Nesterov and weight decay of chenyaofo's CIFAR networks, whose 20-layer
    # one scores 7.44 %; and mild mixup and averaged weights. Its values are not measured here yet.
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
    # He et al. 2016, section 5: divided by 10 every 30 epochs, scale and aspect-ratio augmentation.
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
