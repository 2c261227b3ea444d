# %% [markdown]
# # Lesions and paths
#
# How well does a trained network work without one of its residual units? Veit et al. 2016
# ([arXiv 1605.06431](https://arxiv.org/abs/1605.06431)) deleted them one at a time. This notebook repeats the study in
# seconds on twenty images of CIFAR-10 (from the package foolbox); `keras-resv2 analyze lesions` uses all 10,000 test
# images. [The network in the browser](../network.md) is an interactive version.

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
model = keras_resv2.from_pretrained("preact_resnet20-cifar10")
study = analysis.delete_each(model, images, labels)
for unit, error in zip(study.units, study.errors, strict=True):
    print(f"without {unit}: {error:3.0f} % wrong")

# %% [markdown]
# Deleting some units has hardly any effect, deleting others destroys most of the accuracy. With 110 layers, as in the
# paper, only the units that change the size of the feature maps (red) have a large effect.

# %%
figure, axes = plt.subplots(figsize=(7, 3), layout="constrained")
names = [unit.replace("stage", "").replace("_unit", ".") for unit in study.units]
colors = np.where(study.changes_size, "#d55e00", "#0072b2")
axes.bar(names, study.errors, color=colors)
axes.set(xlabel="deleted unit (stage.unit)", ylabel="error on twenty images (%)")
axes.set(ylim=(0, 100), title="ResNet-20 v2 without each unit")

# %% [markdown]
# n units are 2^n paths: each uses the branch or the shortcut of every unit. Deleting a unit leaves half of them.

# %%
counts = analysis.paths_by_length(9)
print("paths of each length:", counts)
print(f"all: {sum(counts)}; without one unit: {sum(counts) * analysis.share_left(9, 1):.0f}")
