"""The published weights: every error on every card is the measured error of the file."""

import math
import re

import pytest

import keras_resv2
from helpers.paths import ROOT
from keras_resv2 import data as datasets
from keras_resv2.cli.list import markdown_table
from keras_resv2.evaluation import error_agrees, measure_error

PUBLISHED = [
    name
    for name in keras_resv2.list_pretrained(versions=True)
    if keras_resv2.pretrained_card(name).origin is None  # what others published was not measured here
]
WHOLE_SET_BELOW = 500_000  # parameters; of larger networks the first 2,000 images are measured


def test_there_are_published_weights():
    assert {"resnet20-cifar10@1", "preact_resnet20-cifar10@1"} <= set(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_error_of_the_card(name, request):
    card = keras_resv2.pretrained_card(name)
    images, labels = datasets.load_split(card.dataset, "test", request.getfixturevalue(card.dataset))
    model = keras_resv2.from_pretrained(name)
    if card.parameters < WHOLE_SET_BELOW:
        expected = card.test_error * card.test_images / 100
    else:
        images, labels, expected = images[:2000], labels[:2000], card.test_errors_first_2000
    wrong = measure_error(model, images, labels) * len(labels) / 100
    assert error_agrees(wrong, expected, len(labels)), f"{wrong} wrong, {expected} on the card"


def test_a_wrong_card_would_be_noticed(cifar10):
    """The check above fails for a network whose weights are not those that were measured."""
    card = keras_resv2.pretrained_card("resnet20-cifar10@1")
    images, labels = datasets.load_split("cifar10", "test", cifar10)
    model = keras_resv2.from_pretrained("resnet20-cifar10@1")
    model.get_layer("head_dense").bias.assign_add([0, 0, 0, 2, 0, 0, 0, 0, 0, 0])
    wrong = measure_error(model, images[:2000], labels[:2000]) * 20
    assert not error_agrees(wrong, card.test_errors_first_2000, 2000)


@pytest.mark.parametrize("name", PUBLISHED)
def test_card(name):
    card = keras_resv2.pretrained_card(name)
    assert card.full_name == name
    assert card.name == f"{card.architecture}-{card.dataset}" or card.arguments
    model = keras_resv2.from_pretrained(name)
    assert card.parameters == sum(math.prod(w.shape) for w in model.trainable_weights)
    assert re.fullmatch(r"[0-9a-f]{64}", card.sha256)
    assert card.seed_errors[str(card.seed)] == card.test_error
    assert card.class_names == datasets.DATASETS[card.dataset].class_names
    assert "dirty" not in card.commit


def test_the_readme_has_the_table_of_the_cards():
    """Made by `keras-resv2 list --markdown`."""
    cards = [keras_resv2.pretrained_card(name) for name in keras_resv2.list_pretrained()]
    table = markdown_table([card for card in cards if card.origin is None])
    assert table in (ROOT / "README.md").read_text()
