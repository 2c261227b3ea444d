# %% [markdown]
# # Quick start
#
# Classify twenty images with a trained network. The images are the first of CIFAR-10's test set (Krizhevsky 2009),
# from the package foolbox. Requires `pip install matplotlib` and `pip install --no-deps foolbox==3.3.4`.

# %%
import importlib.util
import pathlib

import matplotlib.pyplot as plt
import numpy as np

import keras_resv2
from keras_resv2 import analysis

foolbox = pathlib.Path(importlib.util.find_spec("foolbox").origin)
paths = sorted(foolbox.parent.glob("data/cifar10_*.png"))  # cifar10_<number>_<label>.png
images = np.stack([keras_resv2.read_image(path, (32, 32)) for path in paths])
labels = np.array([int(path.stem.split("_")[-1]) for path in paths])
images.shape, images.dtype

# %% [markdown]
# The weights are part of the package; their card states how they were trained and their test error.

# %%
card = keras_resv2.pretrained_card("preact_resnet20-cifar10")
model = keras_resv2.from_pretrained(card.full_name)
print(f"{card.full_name}: {card.parameters:,} parameters, {card.test_error} % test error")

# %% [markdown]
# The inputs are raw pixels: normalization is part of the network.

# %%
probabilities = model.predict(images, verbose=0)
print(f"{(probabilities.argmax(1) == labels).sum()} of {len(labels)} right")
keras_resv2.decode_predictions(probabilities[:1], card.full_name, top=3)

# %% [markdown]
# Grad-CAM shows the positions that support a class.

# %%
heat = analysis.grad_cam(model, images[:5]).resized((32, 32))
figure, axes = plt.subplots(2, 5, figsize=(8, 3.4), layout="constrained")
for column in range(5):
    axes[0, column].imshow(images[column].astype("uint8"))
    axes[0, column].set_title(card.class_names[probabilities[column].argmax()])
    axes[1, column].imshow(heat[column], cmap="cividis", vmin=0, vmax=1)
    for row in (0, 1):
        axes[row, column].axis("off")
figure.suptitle("Five images, the predicted class, and Grad-CAM for it")
