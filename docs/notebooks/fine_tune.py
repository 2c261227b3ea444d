# %% [markdown]
# # Fine-tune on your own images
#
# Train a network on other images than it was made for: handwritten digits of scikit-learn, 8 x 8 pixels, as files in
# one folder per class. Replace the folder by your own. `fine_tune` also takes arrays and batches:
# [Fine-tune on your own images](../transfer.md). Requires `pip install matplotlib scikit-learn`.

# %%
import pathlib
import tempfile

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

import keras_resv2

folder = pathlib.Path(tempfile.mkdtemp())
digits = load_digits()
pixels = (digits.images * 255 / 16).astype("uint8")
order = np.random.default_rng(0).permutation(len(pixels))
for split, chosen in (("train", order[:150]), ("val", order[150:250]), ("test", order[250:450])):
    for i in chosen:
        place = folder / split / str(digits.target[i])
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[i]).save(place / f"{i}.png")
sorted(path.name for path in (folder / "train").iterdir())

# %% [markdown]
# `read_folder` reads a folder of class folders, in any size and format, as arrays of the size that the network takes.

# %%
train = keras_resv2.read_folder(folder / "train", (32, 32))
validation, test = (
    keras_resv2.read_folder(folder / split, (32, 32), class_names=train.class_names) for split in ("val", "test")
)
train.images.shape, train.class_names[:3]

# %% [markdown]
# The digits have ten classes, as CIFAR-10 has, so `classes=10` keeps CIFAR-10's classifier as a starting point; any
# other number creates a new one with random weights. `fine_tune` trains the classifier first, then all layers. Digits
# must not be flipped, so the only augmentation is a random crop.

# %%
model = keras_resv2.from_pretrained("preact_resnet20-cifar10", classes=10)
model, history = keras_resv2.fine_tune(
    model,
    (train.images, train.labels),
    (validation.images, validation.labels),
    epochs=4,
    augment=("crop",),
    verbose=0,
)
kept = next(row for row in history if row["best"])
print(f"kept: {kept['phase']}, epoch {kept['epoch']}, validation error {kept['validation_error']:.1f} %")

# %% [markdown]
# Validation images chose the weights. The error is measured on images that were used for nothing else.

# %%
print(f"test error {keras_resv2.measure_error(model, test.images, test.labels):.1f} % of {len(test.labels)} images")

# %%
probabilities = model.predict(test.images, verbose=0)
wrong = np.flatnonzero(probabilities.argmax(1) != test.labels)[:6]
figure, axes = plt.subplots(1, 6, figsize=(9, 2), layout="constrained")
for axis, i in zip(axes, wrong, strict=False):
    axis.imshow(test.images[i])
    axis.set_title(f"{test.class_names[test.labels[i]]} as {test.class_names[probabilities[i].argmax()]}")
for axis in axes:
    axis.axis("off")
figure.suptitle("Digits that the network still gets wrong")

# %% [markdown]
# A weight folder is a name for everything that takes one: `from_pretrained`, `keras-resv2 predict`, `export`, `push`.

# %%
saved = keras_resv2.save_weight_folder(model, "preact_resnet20-digits", test.class_names, folder / "saved")
again = keras_resv2.from_pretrained(saved)
print(f"largest difference {np.abs(again.predict(test.images, verbose=0) - probabilities).max():.1e}")
