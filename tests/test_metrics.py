"""Metrics beyond the test error, compared with other implementations and manual arithmetic."""

import numpy as np
import pytest

from keras_resv2 import metrics


@pytest.fixture
def scores():
    rng = np.random.default_rng(0)
    return rng.normal(0, 3, (400, 7)), rng.integers(0, 7, 400)


def test_likelihood_is_scikit_learns_log_loss(scores):
    sklearn = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    logits, labels = scores
    expected = sklearn.log_loss(labels, metrics.softmax(logits), labels=range(7))
    assert metrics.negative_log_likelihood(logits, labels) == pytest.approx(expected, rel=1e-9)
    assert metrics.negative_log_likelihood(logits + 1e4, labels) == pytest.approx(expected, rel=1e-9)


def test_calibration_by_hand():
    """Bins of a fifth: two images of 0.7 and one of 0.9, one of each right."""
    probabilities = np.array([[0.7, 0.3], [0.3, 0.7], [0.9, 0.1]])
    found = metrics.expected_calibration_error(probabilities, np.array([0, 0, 0]), bins=5)
    assert found == pytest.approx((2 * abs(0.5 - 0.7) + abs(1 - 0.9)) / 3)


def test_a_calibrated_classifier_has_no_calibration_error():
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.5, 1, 200_000)
    labels = (rng.random(len(confidence)) > confidence).astype(int)
    assert metrics.expected_calibration_error(np.stack([confidence, 1 - confidence], 1), labels) < 0.01


def test_errors_by_class_are_the_confusion_matrix_rows(scores):
    sklearn = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    logits, labels = scores
    confusion = sklearn.confusion_matrix(labels, logits.argmax(1), labels=range(7))
    expected = 100 * (1 - np.diag(confusion) / confusion.sum(1))
    np.testing.assert_allclose(metrics.class_errors(logits.argmax(1), labels, 7), expected)


def test_interval_against_the_table_of_wilson():
    """5 of 50: 4.3 to 21.4 % (Brown, Cai, DasGupta 2001, manual example of the Wilson interval)."""
    low, high = metrics.interval(5, 50)
    for bound in (low / 100, high / 100):  # the bounds solve |share - p| = z sqrt(p (1 - p) / n)
        assert abs(0.1 - bound) == pytest.approx(1.959964 * np.sqrt(bound * (1 - bound) / 50), rel=1e-6)
    assert metrics.interval(0, 100)[0] == pytest.approx(0, abs=1e-9)


def test_compressed_images_are_close_and_not_the_same(real_images):
    images, _ = real_images
    compressed = metrics.compress_images(images)
    difference = np.abs(compressed.astype(int) - images)
    assert compressed.dtype == np.uint8 and 1 < difference.mean() < 12
    np.testing.assert_array_equal(compressed, metrics.compress_images(images))


class Scores:
    """A classifier whose scores are known."""

    def __init__(self, logits):
        self._logits = logits

    def predict_on_batch(self, images):
        return self._logits[images[:, 0, 0, 0]]


def test_the_full_report(scores):
    logits, labels = scores[0][:200], scores[1][:200]
    images = np.repeat(np.arange(200, dtype="uint8"), 64 * 3).reshape(200, 8, 8, 3)
    report = metrics.full_report(Scores(logits), images, labels, batch_size=64)
    error = 100 * np.mean(logits.argmax(1) != labels)
    weights = np.bincount(labels, minlength=7) / 200
    assert np.dot(report["class_errors"], weights) == pytest.approx(error, abs=0.01)
    assert report["jpeg_error"] == pytest.approx(error, abs=0.01)  # grey of one value survives the compression
    assert metrics.full_report(Scores(logits), images[..., :1], labels) == report  # in grayscale
    with pytest.raises(ValueError, match="one channel or three"):
        metrics.full_report(Scores(logits), np.concatenate([images, images], axis=-1), labels)
    with pytest.raises(ValueError, match="NaN"):
        metrics.full_report(Scores(np.full((200, 7), np.nan)), images, labels)
