"""Distillation: a trained network's outputs as targets (Hinton et al. 2015, arXiv 1503.02531).

`keras.distillation.Distiller` is a model with its own training step for `fit`; here the teacher is part of a batch
source, and runs inside the compiled step on the same images as the student.
"""

import itertools
import pathlib

import keras
import numpy as np

from keras_resv2 import from_pretrained, pretrained_card
from keras_resv2.builders import build
from keras_resv2.labels import class_spellings
from keras_resv2.storage.checksum import sha256
from keras_resv2.storage.local import pinned_name
from train.data.source import SourceWrapper
from train.losses import Targets
from train.recipe import split_names
from train.run_files import WEIGHTS, check_teacher, completed_settings, is_run, load_record, run_dataset


class DistilledBatches(SourceWrapper):
    """The batches of another source, with the mean of teachers' logits for their images.

    The softmax of mean logits is the normalized geometric mean of the teachers' probabilities, at any temperature.

    Args:
        source: `train.data.source.BatchSource`.
        *teachers: `keras.Model` from pixels to logits.
    """

    def __init__(self, source, *teachers):
        super().__init__(source)
        self._teachers = teachers
        groups = [group for model in teachers for group in (model.trainable_variables, model.non_trainable_variables)]
        self._bounds = np.cumsum([len(source.device_data), *map(len, groups)])
        weights = (np.array(keras.ops.convert_to_numpy(v)) for group in groups for v in group)
        self.device_data = (*source.device_data, *weights)

    def augment(self, device_data, *batch):
        """Returns images and `Targets` of a step, in the compiled step."""
        images, targets = self._source.augment(device_data[: self._bounds[0]], *batch)
        targets = targets if isinstance(targets, Targets) else Targets(targets)
        weights = [device_data[start:end] for start, end in itertools.pairwise(self._bounds)]
        logits = [
            model.stateless_call(trainable, fixed, images, training=False)[0]
            for model, trainable, fixed in zip(self._teachers, weights[::2], weights[1::2], strict=True)
        ]
        return images, targets._replace(teacher_logits=sum(logits) / len(logits))


def pinned(names):
    """Returns the names of teachers with versions if they are pretrained, so that a run always uses the same weights.

    Args:
        names: pretrained names, weight folders or run directories, separated by commas.

    Raises:
        ValueError: if a name is unknown.
        FileNotFoundError: if a run is not finished, or a folder does not contain a card.
    """
    return ",".join(map(_pinned, split_names(names)))


def _pinned(name):
    if is_run(name):
        load_record(name)
        return name
    return pinned_name(name, pretrained_card(name))


def open_teachers(names, data):
    """Loads the trained networks of the recipe value `teacher`.

    Args:
        names: pretrained names, weight folders or run directories, separated by commas.
        data: `train.data.inputs.Input` of the run.

    Returns:
        ``(models, facts)``: a list of `keras.Model`, and for run.json the facts of `open_teacher` about the only one,
        or a list of them.

    Raises:
        ValueError, OSError: as `open_teacher` does.
    """
    opened = [open_teacher(name, data) for name in split_names(names)]
    facts = [about for _, about in opened]
    return [model for model, _ in opened], facts[0] if len(facts) == 1 else facts


def open_teacher(name, data):
    """Loads a trained network with the classes of a run.

    Args:
        name: pretrained name, weight folder or run directory.
        data: `train.data.inputs.Input` of the run.

    Returns:
        ``(model, facts)``: a `keras.Model` from pixels to logits with the global dtype policy; and name, version (None
        for a run) and SHA-256 of its weights, for run.json.

    Raises:
        ValueError: if it was trained on other classes or images of another size, or is unknown or damaged.
        OSError: if the weights are missing.
    """
    options = {"input_shape": data.image_shape, "classifier_activation": None}
    if is_run(name):
        settings, path = completed_settings(load_record(name)["settings"]), pathlib.Path(name) / WEIGHTS
        dataset = run_dataset(settings)
        check_teacher(name, data, [dataset.class_names], dataset.image_shape)
        arguments = {**settings["arguments"], **options, "classes": dataset.classes}
        arguments["preprocessing"] = settings["preprocessing"]
        model = build(settings["model"], weights=str(path), **arguments)
        facts = {"name": name, "version": None, "sha256": sha256(path)}
    else:
        card = pretrained_card(name)
        check_teacher(name, data, class_spellings(card), tuple(card.image_shape))
        model = from_pretrained(name, **options)
        facts = {"name": card.name, "version": card.version, "sha256": card.sha256}
    model.trainable = False
    return model, facts
