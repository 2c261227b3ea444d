"""A NaN or infinite score is an error wherever predictions are counted, and never class 0."""

import numpy as np
import pytest

import keras_resv2
from keras_resv2 import analysis
from keras_resv2.evaluation import find_mistakes, highest_class, measure_error
from keras_resv2.labels import decode_predictions
from keras_resv2.pretrained import pretrained_card
from keras_resv2.transfer.callbacks import BestWeights
from keras_resv2.transfer.results import evaluate_logits
from train.data.inputs import view_errors


class Broken:
    """A network whose third image has a NaN score."""

    def __init__(self, value):
        self.value = value

    def predict_on_batch(self, images):
        scores = np.tile(np.arange(10, dtype="float32"), (len(images), 1))
        scores[2, 5] = self.value
        return scores


def test_the_highest_class():
    scores = np.array([[0.1, 0.7, 0.2], [3, 2, 1], [-5, -4, -3]])
    assert highest_class(scores).tolist() == [1, 0, 2]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_errors_of_scores_that_are_not_finite(value, pixels):
    labels = np.zeros(8, int)
    with pytest.raises(ValueError, match="scores of 1 of 8 images are NaN or infinite"):
        measure_error(Broken(value), pixels, labels)
    with pytest.raises(ValueError, match="NaN or infinite"):
        find_mistakes(Broken(value), [(pixels, labels)])
    assert measure_error(Broken(0.0), pixels, np.full(8, 9)) == 0


def test_test_errors_of_streamed_images(monkeypatch):
    from keras_resv2 import evaluation

    monkeypatch.setattr(evaluation, "batches", lambda *a, **o: iter([(np.zeros((4, 8, 8, 3), "uint8"), np.zeros(4))]))
    with pytest.raises(ValueError, match="scores of 1 of 4"):
        view_errors(Broken(np.nan), range(4), ((8, 8),))


def test_names_of_scores_that_are_not_finite():
    card = pretrained_card("resnet20-cifar10")
    with pytest.raises(ValueError, match="scores of 1 of 2"):
        decode_predictions(np.stack([np.arange(10.0), np.full(10, np.nan)]), card)


def test_lesions_of_a_network_whose_weights_are_not_finite(pixels):
    model = keras_resv2.ResNet(8)
    kernel, bias = model.get_layer("head_dense").get_weights()
    bias[3] = np.nan
    model.get_layer("head_dense").set_weights([kernel, bias])
    with pytest.raises(ValueError, match="NaN or infinite"):
        analysis.delete_each(model, pixels, np.arange(8))


def test_fine_tuning_whose_validation_loss_is_not_finite():
    """Keras' accuracy counts NaN as class 0: no such row is added, and the best weights are restored."""
    model = keras_resv2.ResNet(8, classes=2)
    bias = model.get_layer("head_dense").bias
    logits = iter([np.zeros((8, 2)), np.full((8, 2), np.nan)])
    report = BestWeights(model, lambda: evaluate_logits(next(logits), np.zeros(8, int)), verbose=0)
    report.add("body", 1.0, 0.5)
    bias.assign([7, 0])
    with pytest.raises(FloatingPointError, match="the loss is nan"):
        report.add("body", 1.0, 0.5)
    assert len(report.history) == 1 and int(bias[0]) == 0
