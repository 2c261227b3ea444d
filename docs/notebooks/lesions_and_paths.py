# %% [markdown]
# # Lesions and paths
#
# How well does a trained network work without one of its residual units? Veit et al. 2016
# ([arXiv 1605.06431](https://arxiv.org/abs/1605.06431)) deleted them one at a time. This notebook repeats the study in
# about a minute on twenty images of CIFAR-10 (from the package foolbox); `keras-resv2 analyze lesions` uses all 10,000
# test images. [The network in the browser](../network.md) is an interactive version. Requires `pip install matplotlib`
# and `pip install --no-deps foolbox==3.3.4`.

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

# %% [markdown]
# Only the shortcut remains of a deleted unit `y = x + F(x)`. The network is not retrained.

# %%
model = keras_resv2.from_pretrained("preact_resnet20-cifar10@1")
study = analysis.delete_each(model, images, labels)
for unit, error in zip(study.units, study.errors, strict=True):
    print(f"without {unit}: {error:3.0f} % wrong")

# %% [markdown]
# Deleting some units has hardly any effect, deleting others destroys most of the accuracy. The deeper the network, the
# less depends on a single unit: with 54 units, as in the paper, almost all can be deleted. Exceptions are the first
# unit and those that change the size of the feature maps (red).

# %%
deep = analysis.delete_each(keras_resv2.from_pretrained("preact_resnet110-cifar10"), images, labels)
harmless = int(np.sum(deep.errors <= deep.intact_error))
print(f"{harmless} of {len(deep.units)} units can be deleted without another error")

# %%
figure, panels = plt.subplots(2, figsize=(7, 5), layout="constrained")
for axes, result, title in zip(panels, (study, deep), ("ResNet-20 v2", "ResNet-110 v2"), strict=True):
    colors = np.where(result.changes_size, "#d55e00", "#0072b2")
    axes.bar(np.arange(len(result.units)) + 1, result.errors, color=colors)
    axes.set(ylim=(0, 100), ylabel="error (%)", title=f"{title} without each unit, twenty images")
panels[1].set_xlabel("deleted unit, from the first to the last")

# %% [markdown]
# n units are 2^n paths: each uses the branch or the shortcut of every unit. Deleting a unit leaves half of them.

# %%
counts = analysis.paths_by_length(9)
print("paths of each length:", counts)
print(f"all: {sum(counts)}; without one unit: {sum(counts) * analysis.share_left(9, 1):.0f}")
