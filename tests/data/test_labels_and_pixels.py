"""Inputs that evaluation, fine-tuning and reading reject, and correct results for valid ones."""

import warnings

import keras
import numpy as np
import pytest
from PIL import Image

import keras_resv2
from keras_resv2 import analysis, metrics
from keras_resv2.evaluation import find_mistakes, measure_error
from keras_resv2.models.pixels import pixel_scale, takes_raw_pixels

LABELS = np.arange(8) % 3


@pytest.fixture(scope="module")
def model():
    return keras_resv2.ResNet(8, classes=3)


def test_arrays_tensors_and_lists_have_the_same_error(model, pixels):
    scores = model.predict(pixels, verbose=0)
    expected = 100 * np.mean(scores.argmax(1) != LABELS)
    forms = [
        (pixels, LABELS[:, None]),
        (list(pixels), LABELS.tolist()),
        (pixels.astype("float32"), LABELS.astype("float32")),
        (keras.ops.convert_to_tensor(pixels), keras.ops.convert_to_tensor(LABELS)),
    ]
    for images, labels in forms:
        assert measure_error(model, images, labels, batch_size=3) == pytest.approx(expected)


REFUSED = {
    "fewer labels": (lambda x: (x, LABELS[:5]), "8 images but 5 labels"),
    "fewer images": (lambda x: (x[:5], LABELS), "5 images but 8 labels"),
    "names": (lambda x: (x, ["cat"] * 8), "class indices from 0"),
    "from 1": (lambda x: (x, LABELS + 1), "labels range from 1 to 3, but the model has 3 classes"),
    "negative": (lambda x: (x, LABELS - 1), "labels range from -1"),
    "nan": (lambda x: (x, np.where(LABELS == 1, np.nan, LABELS)), "such as np.float64.nan.|nan"),
    "infinite": (lambda x: (x, np.where(LABELS == 1, np.inf, LABELS)), "class indices from 0"),
    "halves": (lambda x: (x, LABELS + 0.5), "class indices from 0"),
    "rows": (lambda x: (x, np.eye(3)[LABELS]), "argmax"),
    "none": (lambda x: (x[:0], []), "is empty"),
    "sizes": (lambda x: ([x[0], x[1][:9]], [0, 1]), "different shapes or types"),
    "one image": (lambda x: (x[0], [1]), r"images\[None\]"),
    "0 to 1": (lambda x: (x / 255, LABELS), "do not scale them"),
    "standardised": (lambda x: ((x - 120.0) / 60, LABELS), "do not subtract the mean"),
    "mean subtracted": (lambda x: (x - 120.0, LABELS), "do not subtract the mean"),
    "16 bits": (lambda x: (x.astype("uint16") * 257, LABELS), "16-bit"),
    "nan pixels": (lambda x: (np.where(x > 250, np.nan, x), LABELS), "NaN or infinite"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_measured_is_refused(case, model, pixels):
    make, words = REFUSED[case]
    with pytest.raises(ValueError, match=words):
        measure_error(model, *make(pixels))


def test_batches_whose_labels_do_not_match(model, pixels):
    with pytest.raises(ValueError, match="8 images but 4 labels"):
        find_mistakes(model, [(pixels, LABELS[:4])])
    with pytest.raises(ValueError, match="is empty"):
        find_mistakes(model, [])


@pytest.mark.parametrize("outputs, words", [(1, "threshold"), ("maps", "at least two classes"), ("two", "2 outputs")])
def test_models_that_give_no_class_scores(outputs, words, pixels):
    x = keras.Input((32, 32, 3))
    y = keras.layers.Conv2D(2, 1)(x)
    if outputs == 1:
        y = keras.layers.Dense(1, activation="sigmoid")(keras.layers.GlobalAveragePooling2D()(y))
    y = [y, y] if outputs == "two" else y
    with pytest.raises(ValueError, match=words):
        measure_error(keras.Model(x, y), pixels, LABELS % 2)


def test_pixels_that_only_look_odd_are_taken(model, pixels):
    """Overshoot of interpolation, black images, normalized pixels; uint8 of 0 and 1 causes a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        measure_error(model, pixels * 1.1 - 12.0, LABELS)
        measure_error(model, np.zeros_like(pixels), LABELS)
        plain = keras_resv2.ResNet(8, classes=3, include_preprocessing=False)
        measure_error(plain, pixels / 255, LABELS)
    with pytest.warns(UserWarning, match="do not scale them"):
        measure_error(model, pixels // 128, LABELS)
    for dark in (pixels // 16, pixels / 255 * 1.001):  # 4-bit images, and scaled ones that overshoot
        with pytest.warns(UserWarning, match="multiply them, unless all images are dark"):
            measure_error(model, dark, LABELS)


def test_which_pixels_a_model_takes():
    x = keras.Input((32, 32, 3))
    body = keras_resv2.ResNet(8)
    assert takes_raw_pixels(keras_resv2.fold(body))  # the factor is in the kernel, the mean is not
    assert takes_raw_pixels(keras.Sequential([keras.Input((32, 32, 3)), keras.layers.RandomFlip(), body]))
    assert not takes_raw_pixels(keras.Model(x, body(keras.layers.Rescaling(255.0)(x))))
    standardise = keras.layers.Normalization(mean=[120.0] * 3, variance=[3600.0] * 3)
    assert takes_raw_pixels(keras.Model(x, keras.layers.Conv2D(2, 1)(standardise(x))))


def test_pixels_that_are_normalized_twice_or_not_at_all(pixels):
    """`Rescaling(1/255)` before a network that normalizes itself; raw pixels for one that does not."""
    x = keras.Input((32, 32, 3))
    body, bare = keras_resv2.ResNet(8), keras_resv2.ResNet(8, include_preprocessing=False)
    twice = keras.Model(x, body(keras.layers.Rescaling(1 / 255)(x)))
    assert [pixel_scale(model) for model in (body, twice, bare, x)] == [
        "raw",
        "normalized twice",
        "normalized",
        "unknown",
    ]
    with pytest.warns(UserWarning, match="normalizes pixels twice.*remove the Rescaling") as found:
        measure_error(twice, pixels, LABELS)
    for raw in (pixels, pixels.astype("float32")):
        with pytest.warns(UserWarning, match="range from .* expects normalized pixels") as more:
            measure_error(bare, raw, LABELS)
        found.list.extend(more)
    assert [warning.filename for warning in found] == [__file__] * 3  # the caller's file, not the package's
    scaled = keras.Model(x, bare(keras.layers.Rescaling(1 / 64, -2)(x)))
    own = keras.Model(x, bare(keras.layers.Lambda(lambda x: x / 64 - 2)(x)))  # what it does is not known
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        measure_error(scaled, pixels, LABELS)
        measure_error(own, pixels, LABELS)
        measure_error(keras_resv2.fold(body), pixels, LABELS)
        measure_error(bare, pixels - 120.0, LABELS)  # mean subtracted, as by some networks
    assert pixel_scale(scaled) == "raw" and pixel_scale(own) == "unknown"


@pytest.mark.parametrize("study", ["measure_error", "grad_cam", "propagate", "delete_each"])
def test_pixels_that_are_not_finite(study, pixels):
    """A network without preprocessing, too: `argmax` and ReLU turn NaN into ordinary results."""
    images = pixels / 255
    images[3, 5, 7] = np.nan
    bare = keras_resv2.ResNet(8, include_preprocessing=False)
    function = measure_error if study == "measure_error" else getattr(analysis, study)
    with pytest.raises(ValueError, match="some pixels are NaN or infinite"):
        function(bare, images, LABELS)


def test_embedding_refuses_them_too(pixels):
    from keras_resv2.embedding import embed

    with pytest.raises(ValueError, match="do not scale them"):
        embed("resnet20-cifar10", pixels / 255)
    with pytest.raises(ValueError, match="is empty"):
        embed("resnet20-cifar10", pixels[:0])
    for batch_size in (0, -1, 2.5):
        with pytest.raises(ValueError, match=r"batch_size=.* must be a whole number"):
            embed("resnet20-cifar10", pixels, batch_size=batch_size)


@pytest.mark.parametrize("dtype, step", [("uint8", 1), ("int8", 1), ("int16", 100), ("float16", 0.01)])
def test_names_of_scores_of_any_dtype(dtype, step):
    """Manual: negating the smallest int8 number overflows, and negating uint8 wraps around."""
    scores = (np.arange(10)[::-1] * 25 - 128 * (dtype == "int8") * 1.0).clip(-128, 255) * (step if step == 1 else 0.25)
    named = keras_resv2.decode_predictions(scores[None].astype(dtype), "resnet20-cifar10", top=10)[0]
    expected = np.argsort(-scores.astype(dtype).astype("float64"), kind="stable")
    names = keras_resv2.pretrained_card("resnet20-cifar10").class_names
    assert [name for name, _ in named] == [names[i] for i in expected] and named[0][0] == "airplane"


def grey(path, values, **options):
    Image.fromarray(values).save(path, **options)
    return keras_resv2.read_image(path, values.shape)[..., 0]


def test_images_of_more_than_8_bits(tmp_path):
    """Manual: the same ramp in floats from 0 to 1 and from 0 to 255, and in 16- and 32-bit integers."""
    ramp = np.linspace(0, 255, 64).round().reshape(8, 8)
    path = tmp_path / "ramp.tif"
    assert np.array_equal(grey(path, (ramp / 255).astype("float32")), ramp)
    assert np.array_equal(grey(path, ramp.astype("float32")), ramp)
    assert np.array_equal(grey(path, (ramp * 257).astype("uint16")), ramp)
    assert np.array_equal(grey(path, (ramp * 257).astype("int32")), ramp)
    assert np.abs(grey(path, (ramp / 255 * (2**31 - 1)).astype("int32")).astype(int) - ramp).max() <= 1
    for bad in (np.full((8, 8), np.nan), ramp * 1000, ramp - 9):
        with pytest.raises(ValueError, match="floats must be from 0 to 1"):
            grey(path, bad.astype("float32"))
    with pytest.raises(ValueError, match="negative"):
        grey(path, (ramp - 9).astype("int32"))


def test_metrics_reject_labels_that_do_not_match():
    probabilities = np.array([[0.75, 0.25], [0.75, 0.25]])
    for figure in (metrics.expected_calibration_error, metrics.negative_log_likelihood):
        assert figure(probabilities, np.array([[0], [1]])) == figure(probabilities, np.array([0, 1]))
        with pytest.raises(ValueError, match="2 images but 1 labels"):
            figure(probabilities, np.array([0]))
        with pytest.raises(ValueError, match="labels range from 0 to 2"):
            figure(probabilities, np.array([0, 2]))
    with pytest.raises(ValueError, match="softmax"):
        metrics.expected_calibration_error(np.array([[3.0, -1.0]]), np.array([0]))
    assert metrics.class_errors(np.array([0, 1, 1]), np.array([[0], [0], [1]]), 2) == [50.0, 0.0]
    with pytest.raises(ValueError, match="2 images but 3 labels"):
        metrics.class_errors(np.array([0, 1]), np.array([0, 0, 1]), 2)
    for counts in ((0, 0), (3, 2), (-1, 2)):
        with pytest.raises(ValueError, match="images must be at least 1"):
            metrics.interval(*counts)
