# %% [markdown]
# # Convert and export
#
# Load weights of other libraries, and export networks to run without Keras. See [Convert](../convert.md) and
# [Export](../export.md) for every layout and format. Requires `pip install matplotlib onnx onnxruntime`.

# %%
import pathlib
import tempfile

import matplotlib.pyplot as plt
import numpy as np
import onnxruntime

import keras_resv2
from keras_resv2 import convert
from keras_resv2.exporting.formats import load_exported

folder = pathlib.Path(tempfile.mkdtemp())
images = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype="uint8")

# %% [markdown]
# ## To PyTorch and back
#
# `save_pytorch` writes the names of a library, here those of most CIFAR code. `from_pytorch` finds the network that a
# file fits, by names and shapes alone, and `detect` says what it had to assume.

# %%
model = keras_resv2.from_pretrained("resnet20-cifar10")
state = convert.to_pytorch(model, layout="cifar")
for name in list(state)[:4]:
    print(f"{name:24} {state[name].shape}")

# %%
found = convert.detect(dict(state))  # the arrays alone: `state` also carries the structure
print(found.architecture, found.classes, "classes, layout", found.layout)
for phrase in found.assumed:
    print("- assumed:", phrase)

# %%
back = found.build()
difference = np.abs(back.predict(images, verbose=0) - model.predict(images, verbose=0)).max()
print(f"largest difference {difference:.1e}")

# %% [markdown]
# ## To ONNX
#
# The file takes raw pixels; batch normalization is folded into the convolutions. `export` runs the file and
# compares its outputs with Keras before moving it to its final name.

# %%
exported = keras_resv2.export(model, folder / "resnet20.onnx", format="onnx")
print(f"{exported.size / 1e6:.2f} MB, input {exported.input}, difference {exported.difference:.1e}")

# %%
network = load_exported(exported.path, "onnx")
probabilities = network.predict_on_batch(images)
print(probabilities.shape, f"{np.abs(probabilities - model.predict(images, verbose=0)).max():.1e}")

# %% [markdown]
# ## With switches
#
# `unit_switches=True` adds an input that deletes residual units: the lesions of Veit et al. 2016 in any program that
# runs ONNX.

# %%
keras_resv2.export(model, folder / "switched.onnx", format="onnx", unit_switches=True)
session = onnxruntime.InferenceSession(str(folder / "switched.onnx"), providers=["CPUExecutionProvider"])
shifts = []
for unit in range(9):
    switches = np.ones(9, "float32")
    switches[unit] = 0
    (changed,) = session.run(None, {"pixels": images, "unit_switches": switches})
    shifts.append(np.abs(changed - probabilities).sum(1).mean() / 2)
figure, axis = plt.subplots(figsize=(6, 3), layout="constrained")
axis.bar(range(1, 10), shifts)
axis.set(
    title="ResNet-20 on random pixels", xlabel="deleted unit", ylabel="probability that moves", xticks=range(1, 10)
)
