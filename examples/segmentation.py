"""Trains a small segmentation head on a pretrained network: to which digit does each pixel belong, if to any?

    python examples/segmentation.py

The images are canvases with up to four of scikit-learn's real handwritten digits, enlarged two or three times. Class 0
is the background, class 1 + d are the pixels of the digit d that are brighter than half. Digits of the test canvases
are not among those of the training canvases.
"""

import argparse
import sys

import numpy as np

import keras_resv2
from keras_resv2.cli.terminal import start_backend

CLASSES = ["background", *(f"digit {digit}" for digit in range(10))]
CELL = 24  # pixels; a digit has 16 or 24 of them along each side
TRAINING_DIGITS = 1500  # of 1797


def canvases(digits, labels, count, size, rng):
    """Draws digits on empty canvases: each cell of 24x24 pixels has one with a probability of 3/4.

    Args:
        digits: ``(n, 8, 8)``, values 0 to 16.
        labels: ``(n,)``, 0 to 9.
        count: number of canvases.
        size: their height and width in pixels, a multiple of 24.
        rng: `numpy.random.Generator`.

    Returns:
        ``(images, masks)``: uint8 ``(count, size, size, 3)``, and class indices ``(count, size, size)``.
    """
    images, masks = np.zeros((count, size, size), "uint8"), np.zeros((count, size, size), "uint8")
    for image, mask in zip(images, masks, strict=True):
        for top in range(0, size, CELL):
            for left in range(0, size, CELL):
                if rng.random() < 0.75:
                    index, scale = rng.integers(len(digits)), rng.integers(2, 4)
                    digit = digits[index].repeat(scale, 0).repeat(scale, 1)
                    side = 8 * scale
                    y, x = rng.integers(CELL - side + 1, size=2)
                    place = np.s_[top + y : top + y + side, left + x : left + x + side]
                    image[place], mask[place] = digit * (255 / 16), (digit > 8) * (1 + labels[index])
    return np.repeat(images[..., None], 3, axis=3), masks


def segmentation_model(network, classes):
    """Adds a head: a 1x1 convolution on each stage, enlarged to the size of the image, and their sum as logits."""
    import keras

    backbone, logits = keras_resv2.features(network), []
    for stage in keras_resv2.feature_info(network):
        x = keras.layers.BatchNormalization()(backbone.output[stage.name])
        x = keras.layers.Conv2D(classes, 1)(keras.layers.ReLU()(x))
        logits.append(keras.layers.UpSampling2D(stage.stride, interpolation="bilinear")(x))
    return keras.Model(backbone.input, keras.layers.Add()(logits))


def train(images, masks, epochs):
    """Trains head and network; the network's batch normalization keeps its statistics."""
    import keras

    network = keras_resv2.PreActResNet20(weights="cifar10@1", include_top=False)
    model = segmentation_model(keras_resv2.unfreeze(network), len(CLASSES))
    steps = epochs * -(-len(images) // 16)
    schedule = keras.optimizers.schedules.CosineDecay(3e-3, steps)
    model.compile(keras.optimizers.Adam(schedule), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(images, masks, batch_size=16, epochs=epochs, verbose=0)
    return model


def intersection_over_union(masks, predicted, classes):
    """Returns the IoU of each class over all pixels; NaN for classes that neither array has."""
    pairs = np.bincount(masks.ravel().astype("int64") * classes + predicted.ravel(), minlength=classes**2)
    confusion = pairs.reshape(classes, classes)
    intersection = np.diag(confusion)
    union = confusion.sum(0) + confusion.sum(1) - intersection
    return np.where(union > 0, intersection / np.maximum(union, 1), np.nan)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=480, help="number of training canvases")
    parser.add_argument("--test_images", type=int, default=200, help="number of test canvases")
    parser.add_argument("--size", type=int, default=48, help=f"height and width in pixels, a multiple of {CELL}")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if min(options.images, options.test_images, options.epochs, options.size) < 1 or options.size % CELL:
        parser.error(f"numbers must be positive, and --size a multiple of {CELL}.")
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        sys.exit("the example needs the digits of scikit-learn: pip install scikit-learn")
    start_backend()  # without messages of TensorFlow
    import keras

    keras.utils.set_random_seed(options.seed)
    data, rng = load_digits(), np.random.default_rng(options.seed)
    learn, test = slice(TRAINING_DIGITS), slice(TRAINING_DIGITS, None)
    images, masks = canvases(data.images[learn], data.target[learn], options.images, options.size, rng)
    test_images, expected = canvases(data.images[test], data.target[test], options.test_images, options.size, rng)
    model = train(images, masks, options.epochs)
    predicted = model.predict(test_images, verbose=0).argmax(-1)
    ious = {}
    for name, found in (("network", predicted), ("all background", np.zeros_like(predicted))):
        ious[name] = intersection_over_union(expected, found, len(CLASSES))
        accuracy = 100 * np.mean(found == expected)
        print(f"{name}: mean IoU {np.nanmean(ious[name]):.3f}, pixel accuracy {accuracy:.2f} %")
    print("IoU by class: " + ", ".join(f"{k} {v:.3f}" for k, v in zip(CLASSES, ious["network"], strict=True)))


if __name__ == "__main__":
    main()
