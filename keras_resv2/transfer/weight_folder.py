"""A network in memory as a weight folder: what the command line, `decode_predictions`, `export` and `push` take."""

import dataclasses
import re

import keras
import numpy as np

from keras_resv2.architectures import ARCHITECTURES, build, find_architecture
from keras_resv2.convert.infer_config import infer_config, pixels_of
from keras_resv2.convert.weight_folder import write_folder
from keras_resv2.convert.weight_shapes import weight_shapes
from keras_resv2.evaluation import measure_error
from keras_resv2.files import check_file_name
from keras_resv2.layouts import STEMS, needed_arguments, resolve_layout
from keras_resv2.pretrained import pretrained_card
from keras_resv2.pretrained.card import UNKNOWN, Card
from keras_resv2.pretrained.card_schema import check_fields
from keras_resv2.pretrained.weight_file import count_trainable, model_arrays
from keras_resv2.transfer.classifier import activation_name, body_of, check_classifier, classifier_of

SAME = 1e-3  # difference of features, relative to the largest: more is another network


def save_weight_folder(
    model, name, class_names, folder=".", *, version=1, base=None, dataset=None, test=None, license=None, facts=None
):
    """Writes a network as a weight folder, ``<folder>/<name>/<version>/`` with the weights and their card.

    Its path is a name wherever one is taken: `from_pretrained`, `decode_predictions`, `keras-resv2 predict`,
    `evaluate`, `embed`, `export` and `push`. The network is built from the card once more before it is written, and its
    outputs are compared with the model's.

    Args:
        model: a network of this package with its classifier, as `from_pretrained` and `fine_tune` give it.
        name: of the weights, as "resnet20-flowers".
        class_names: in the order of the outputs.
        folder: where the weight folder is put; made if need be.
        version: of the weights; a version that exists is not written again.
        base: pretrained network that the model started from, as `from_pretrained` takes it; None for none. The card
            names it, and its license is kept.
        dataset: that the weights were trained on; None for what follows the last hyphen of `name`.
        test: ``(images, labels)`` to measure the error on that the card states; None for a card without an error.
        license: of the weights; None for that of `base`, else "unknown".
        facts: other fields of `keras_resv2.pretrained.Card`, as seed, hardware, commit.

    Returns:
        `pathlib.Path` of the weight folder.

    Raises:
        ValueError: the model is no such network or has layers that a card cannot describe, names or facts do not fit,
            or the network built from the card gives other outputs.
        FileExistsError: there is such a version already.
        OSError: the place cannot be written.

    Example:

    >>> import tempfile, keras_resv2
    >>> model = keras_resv2.from_pretrained("resnet20-cifar10", classes=2)
    >>> path = save_weight_folder(model, "resnet20-pets", ["cat", "dog"], tempfile.mkdtemp(), base="resnet20-cifar10")
    >>> keras_resv2.decode_predictions([[0.1, 0.9]], path, top=1)
    [[('dog', 0.9)]]
    """
    if not isinstance(model, keras.Model):
        raise ValueError(f"model must be a keras.Model, not {type(model).__name__}.")
    check_file_name(name, "name")
    check_classifier(model)
    class_names = _names(class_names, classifier_of(model).units)
    origin = pretrained_card(base) if base is not None else None
    weights = model_arrays(model)
    architecture, arguments = _network_of(model, weights, origin)
    shape = _image_shape(model, architecture, arguments)
    built = build(
        architecture,
        **arguments,
        weights=weights,
        classes=len(class_names),
        input_shape=shape,
        dtype="float32",
        classifier_activation=activation_name(model.layers[-1]),
    )
    _compare(model, built, shape)
    measured = {}
    if test is not None:
        measured = {"test_error": round(measure_error(built, *test), 2), "test_images": len(test[1])}
    card = Card(
        **UNKNOWN | measured | (facts or {}),
        name=name,
        version=version,
        architecture=architecture,
        arguments=arguments,
        parameters=count_trainable(weights),
        dataset=dataset or name.rpartition("-")[2],
        class_names=class_names,
        image_shape=shape,
        license=license or (origin.license if origin else "unknown"),
        origin={
            "file": origin.full_name if origin else model.name,
            "sha256": origin.sha256 if origin else None,
            "layout": "fine-tuned" if origin else "keras",
            "assumed": [],
        },
    )
    fields = {field.name: getattr(card, field.name) for field in dataclasses.fields(card)}
    del fields["folder"]
    check_fields(fields | {"size": 1, "sha256": "0" * 64})  # which `write_folder` fills in
    return write_folder(weights, card, folder)


def name_for(architecture, data):
    """Name of weights that were trained on a folder or a dataset.

    Example:

    >>> name_for("resnet20", "/home/me/My Flowers")
    'resnet20-my_flowers'
    """
    last = re.split(r"[/\\]", str(data).rstrip("/\\"))[-1]
    return f"{architecture}-{re.sub(r'[^a-z0-9]+', '_', last.lower()).strip('_') or 'images'}"


def _names(class_names, classes):
    if isinstance(class_names, str) or len(class_names) != classes:
        raise ValueError(f"class_names must be a list of {classes} names, one for each output, not {class_names!r}.")
    names = tuple(map(str, class_names))
    if len(set(names)) < classes:
        raise ValueError(f"class_names={names!r} are not all different.")
    return names


def _network_of(model, weights, base):
    """Architecture and arguments of a network: those of its base where they fit, else as its layers say."""
    shapes = {name: tuple(array.shape) for name, array in weights.items()}
    classes = shapes["head_dense/kernel"][1] if "head_dense/kernel" in shapes else None
    if base is not None:
        row = find_architecture(base.architecture)
        own = {"depth": row.depth, "activation": row.activation}
        if weight_shapes(classes, **{**own, **base.arguments}) != shapes:
            raise ValueError(f"model {model.name!r} has other layers than {base.full_name}: it is not its base.")
        return base.architecture, base.arguments
    found = {key: value for key, value in infer_config(model).items() if value is not None}
    if found["shortcut"] not in ("identity", "none"):
        raise ValueError(
            f"model {model.name!r} has the shortcuts {found['shortcut']!r}, whose parameters its layers do not say: "
            "give base, the pretrained network that it was made from."
        )
    pixels = pixels_of(model)
    if pixels is None:
        raise ValueError(
            f"model {model.name!r} does not normalise pixels itself, and a weight folder says how: build it with "
            "include_preprocessing=True."
        )
    found["preprocessing"] = [list(values) for values in pixels]
    for name, row in ARCHITECTURES.items():
        own = {"depth": row.depth, "activation": row.activation}
        if row.activation == found["activation"] and weight_shapes(classes, **{**own, **found}) == shapes:
            return name, needed_arguments(own, {key: value for key, value in found.items() if key != "activation"})
    raise ValueError(
        f"model {model.name!r} is none of keras_resv2.list_architectures(): its layers have other names, depths or "
        "widths."
    )


def _image_shape(model, architecture, arguments):
    stem = arguments.get("stem") or resolve_layout(find_architecture(architecture).depth).stem
    usual, given = STEMS[stem].dataset.image_shape, model.input_shape[1:]
    if keras.config.image_data_format() == "channels_first":
        given = (*given[1:], given[0])
    return tuple(usual[i] if side is None else side for i, side in enumerate(given))


def _compare(model, built, shape):
    images = np.random.default_rng(0).integers(0, 256, (4, *shape), dtype="uint8")
    if keras.config.image_data_format() == "channels_first":
        images = images.transpose(0, 3, 1, 2)
    # In one precision: a model of half precision gives other numbers than its weights in float32.
    if any(getattr(layer, "compute_dtype", "float32") not in (None, "float32") for layer in model.layers):
        return
    mine, theirs = (np.asarray(body_of(network).predict_on_batch(images), "float64") for network in (model, built))
    if not np.abs(mine - theirs).max() <= SAME * max(1.0, np.abs(mine).max()):
        raise ValueError(
            f"model {model.name!r} gives other outputs than the network that its layers' names stand for: it was "
            "changed after it was built."
        )
