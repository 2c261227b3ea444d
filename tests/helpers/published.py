"""Creates temporary published weights: a small network, random weights, and a matching card."""

import dataclasses

import keras_resv2
from keras_resv2.data import DATASETS
from keras_resv2.storage.card import Card
from keras_resv2.storage.checksum import sha256
from keras_resv2.storage.local import CARD
from keras_resv2.storage.weight_file import save_weights


def publish(folder, name="resnet20-cifar10", version=1, url=None, keep_file=True, **changes):
    """Writes ``<folder>/<name>/<version>/``; returns (card, bytes of the weight file)."""
    architecture = name.partition("-")[0]
    place = folder / name / str(version)
    place.mkdir(parents=True)
    path = place / "weights.h5"
    save_weights(keras_resv2.build(architecture), path)
    content = path.read_bytes()
    card = Card(
        name=name,
        version=version,
        architecture=architecture,
        arguments={},
        parameters=269_722,
        dataset="cifar10",
        class_names=DATASETS["cifar10"].class_names,
        image_shape=(32, 32, 3),
        dataset_sha256={"train": "0", "test": "0"},
        test_error=90.0,
        test_errors_first_2000=1800,
        test_images=10_000,
        seed_errors={"0": 90.0},
        median_error=90.0,
        paper_error=8.75,
        paper="a table",
        recipe="fast",
        recipe_values={},
        command="python -m train.train",
        seed=0,
        steps=1,
        wall_seconds=1.0,
        hardware="a machine",
        backend="tensorflow",
        versions={},
        commit="0",
        size=len(content),
        sha256=sha256(path),
        url=url,
    )
    (place / CARD).write_text(dataclasses.replace(card, **changes).to_json())
    if not keep_file:
        path.unlink()
    return card, content
