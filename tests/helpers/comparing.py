"""Networks with random weights, their outputs, and comparisons of outputs."""

import h5py
import keras
import numpy as np

import keras_resv2

SIZE = (75, 101)  # odd: padding and strides that are off by one show
RAW = dict(include_preprocessing=False, classifier_activation=None)


def images(size=SIZE, count=2):
    return np.random.default_rng(1).normal(size=(count, *size, 3)).astype("float32")


def run_keras(model, x):
    """Returns the outputs of a Keras model for one batch; to trace a graph would take longer than the batch."""
    if keras.backend.backend() == "jax":  # which compiles each operation by itself otherwise
        return model.predict_on_batch(x)
    return keras.tree.map_structure(keras.ops.convert_to_numpy, model(x, training=False))


def run_torch(torch, function, x):
    """Runs a PyTorch function on channels-last images; feature maps are returned as channels-last."""
    with torch.no_grad():
        found = function(torch.from_numpy(x.transpose(0, 3, 1, 2).copy()))
    return keras.tree.map_structure(lambda y: y.numpy().transpose(0, 2, 3, 1) if y.ndim == 4 else y.numpy(), found)


def outputs(model, x):
    """Returns the outputs of all stages, and the logits."""
    stages = keras_resv2.features(model)
    *found, logits = run_keras(keras.Model(model.input, [*stages.output.values(), model.output]), x)
    return dict(zip(stages.output, found, strict=True)), logits


def assert_same(ours, theirs, within=1e-4):
    """Asserts equality up to `within` relative to the largest value, or absolute if that is below 1."""
    ours, theirs = keras.tree.flatten(ours), keras.tree.flatten(theirs)
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        tolerance = within * max(1, np.abs(other).max())
        assert np.ptp(other, axis=0).max() > 10 * tolerance, "the images make no difference"
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance)


def randomised(model, seed=0):
    """Sets random weights with a scale that keeps the magnitude of activations."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        shape = tuple(weight.shape)
        if weight.name == "kernel":
            weight.assign(rng.normal(0, np.sqrt(1 / np.prod(shape[:-1])), shape))
        elif "variance" in weight.name or weight.name == "gamma":
            weight.assign(rng.uniform(0.3, 0.7, shape))
        else:
            weight.assign(rng.normal(0, 0.3, shape))
    return model


def write_legacy(model, path):
    """Writes a weight file like those of keras.applications: TensorFlow names, and a classifier called "probs"."""
    with h5py.File(path, "w") as file:
        rename = {"predictions": "probs"}
        file.attrs["layer_names"] = [rename.get(layer.name, layer.name).encode() for layer in model.layers]
        for layer in model.layers:
            name = rename.get(layer.name, layer.name)
            group = file.create_group(name)
            group.attrs["weight_names"] = [f"{name}/{weight.name}:0".encode() for weight in layer.weights]
            for weight in layer.weights:
                group[f"{name}/{weight.name}:0"] = keras.ops.convert_to_numpy(weight)
