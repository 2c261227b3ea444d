"""A model in memory as a weight folder, which the command line, `decode_predictions`, `export` and `push` take."""

import dataclasses
import pathlib
import re
from collections.abc import Sequence

import keras
import numpy as np

from keras_resv2.architectures import find_architecture, is_architecture, name_architecture
from keras_resv2.argument_checks import check_choice
from keras_resv2.builders import build
from keras_resv2.convert.infer_config import infer_config, output_stride_of
from keras_resv2.convert.weight_folder import check_target, write_folder
from keras_resv2.convert.weight_shapes import weight_shapes
from keras_resv2.evaluation import measure_error
from keras_resv2.files import check_file_name
from keras_resv2.models.config import STEMS, needed_arguments, resolve_layout
from keras_resv2.models.graph import activation_name, data_format_of
from keras_resv2.models.structure import pixels_of
from keras_resv2.models.weights import model_arrays
from keras_resv2.pretrained import in_data_format, pretrained_card
from keras_resv2.storage.card import UNKNOWN, Card
from keras_resv2.storage.weight_file import count_trainable
from keras_resv2.transfer.head import body_of, check_classifier, classifier_of

FACTS = [name for name in UNKNOWN if name not in ("size", "sha256")] + ["details", "initial_weights", "train_images"]
# Difference of features, relative to the largest: in float32, and where a layer of the model has half precision.
TOLERANCE, HALF_TOLERANCE = 1e-3, 0.1


def save_weight_folder(
    model: keras.Model,
    name: str,
    class_names: Sequence[str],
    folder: str | pathlib.Path = ".",
    *,
    version: int = 1,
    base: str | None = None,
    dataset: str | None = None,
    test: tuple[np.ndarray, np.ndarray] | None = None,
    license: str | None = None,
    facts: dict | None = None,
) -> pathlib.Path:
    """Saves a network as a weight folder: ``<folder>/<name>/<version>/`` with the weights and their card.

    The path of a weight folder is a name for `from_pretrained`, `decode_predictions`, `keras-resv2 predict`,
    `evaluate`, `embed`, `export` and `push`. Before anything is written, the network is built from the card again and
    its outputs are compared with those of the model.

    Args:
        model: a network of this package with its classifier, such as `from_pretrained` and `fine_tune` return: a named
            network, or one of another depth of 6n+2 or 9n+2.
        name: name of the weights, such as "resnet20-flowers".
        class_names: names of the classes, in the order of the outputs.
        folder: parent of the weight folder; created if it does not exist.
        version: version of the weights. An existing version is not overwritten.
        base: pretrained network that the model started from, as `from_pretrained` takes it; None for none. The card
            names it, and keeps its license.
        dataset: name of the training dataset; None for what follows the last hyphen of `name`.
        test: ``(images, labels)`` to measure the error that the card states; None for a card without an error.
        license: license of the weights; None for that of `base`, or "unknown".
        facts: additional fields of `keras_resv2.pretrained.Card` about the training, such as seed, hardware, commit.

    Returns:
        `pathlib.Path` of the weight folder.

    Raises:
        ValueError: if the model is not such a network, or has layers that a card cannot describe; names or facts are
            invalid; or the network built from the card has other outputs.
        FileExistsError: if the version exists.
        OSError: if the folder cannot be written.

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
    for fact in facts or {}:
        check_choice("a key of facts", fact, FACTS)
    check_classifier(model)
    class_names = _names(class_names, classifier_of(model).units)
    origin = pretrained_card(base) if base is not None else None
    weights = model_arrays(model)
    architecture, arguments = _network_of(model, weights, origin)
    shape = _image_shape(model, architecture, arguments)
    card = Card(
        **UNKNOWN | (facts or {}),
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
    check_target(card, folder)
    built = build(
        architecture,
        **arguments,
        weights=weights,
        classes=len(class_names),
        input_shape=in_data_format(shape),
        dtype="float32",
        classifier_activation=activation_name(model.layers[-1]),
    )
    _compare(model, built, shape)
    if test is not None:
        measured = {"test_error": round(measure_error(built, *test), 2), "test_images": len(test[1])}
        card = dataclasses.replace(card, **measured | (facts or {}))
    return write_folder(weights, card, folder)


def name_for(architecture: str, data: str | pathlib.Path) -> str:
    """Name of weights that were trained on a folder or a dataset.

    Args:
        architecture: for example "resnet20".
        data: path of the folder, or name of the dataset.

    Example:

    >>> name_for("resnet20", "/home/me/My Flowers")
    'resnet20-my_flowers'
    """
    last = re.split(r"[/\\]", str(data).rstrip("/\\"))[-1]
    return f"{architecture}-{re.sub(r'[^a-z0-9]+', '_', last.lower()).strip('_') or 'images'}"


def _names(class_names, classes):
    if isinstance(class_names, str) or len(class_names) != classes:
        raise ValueError(f"class_names must be a list of {classes} names, one per output, not {class_names!r}.")
    names = tuple(map(str, class_names))
    if len(set(names)) < classes:
        raise ValueError(f"class_names={names!r} must be different.")
    return names


def _network_of(model, weights, base):
    """Architecture and arguments of a network: those of its base, or what its layers show."""
    shapes = {name: tuple(array.shape) for name, array in weights.items()}
    classes = shapes["head_dense/kernel"][1] if "head_dense/kernel" in shapes else None
    pixels = pixels_of(model)
    if pixels is None:
        raise ValueError(
            f"model {model.name!r} does not normalize pixels, which a network of a weight folder does: build it with "
            "include_preprocessing=True."
        )
    if len(pixels[0]) != 3:
        raise ValueError(f"model {model.name!r} takes images of {len(pixels[0])} channels: weight folders are for 3.")
    if base is not None:
        if not _fits(shapes, classes, base.architecture, base.arguments):
            raise ValueError(f"model {model.name!r} has other layers than {base.full_name}: it is not its base.")
        arguments = {name: value for name, value in base.arguments.items() if name != "output_stride"}
        stride = output_stride_of(model)  # which the shapes of the weights do not show
        return base.architecture, arguments | ({} if stride is None else {"output_stride": stride})
    found = {key: value for key, value in infer_config(model).items() if value is not None}
    if found["shortcut"] not in ("identity", "none"):
        raise ValueError(
            f"model {model.name!r} has the shortcuts {found['shortcut']!r}, whose parameters are not in its layers: "
            "pass base, the pretrained network that it started from."
        )
    activation = found.pop("activation")
    arguments = found | {"preprocessing": [list(values) for values in pixels]}
    depth = 2 + sum(bool(re.fullmatch(r"stage\d+_unit\d+_conv\d/kernel", name)) for name in weights)
    width, remainder = divmod(shapes["stage1_unit1_conv1/kernel"][-1], shapes["stem_conv/kernel"][-1])
    architecture, unnamed = name_architecture(depth, activation, 1 if remainder else width)
    branch = "bottleneck" if "stage1_unit1_conv3/kernel" in shapes else "basic"
    arguments |= {"branch": branch, **unnamed}
    known = is_architecture(architecture) and find_architecture(architecture).activation == activation
    if not known or not _fits(shapes, classes, architecture, arguments):
        raise ValueError(
            f"model {model.name!r} is not one of keras_resv2.list_architectures(), nor one of another depth of 6n+2 or "
            "9n+2: its layers have other names, activations or widths. Save it with model.save instead."
        )
    return architecture, needed_arguments(find_architecture(architecture).arguments(), arguments)


def _fits(shapes, classes, architecture, arguments):
    return weight_shapes(classes, **find_architecture(architecture).arguments(**arguments)) == shapes


def _image_shape(model, architecture, arguments):
    stem = arguments.get("stem") or resolve_layout(find_architecture(architecture).depth).stem
    shape = model.input_shape[1:]
    if data_format_of(model) == "channels_first":
        shape = (*shape[1:], shape[0])
    sides = zip(shape, STEMS[stem].image_shape, strict=True)
    height, width, channels = (usual if side is None else side for side, usual in sides)
    return height, width, channels


def _features(model, images):
    if data_format_of(model) == "channels_first":
        images = images.transpose(0, 3, 1, 2)
    return body_of(model).predict_on_batch(images)


def _compare(model, built, shape):
    images = np.random.default_rng(0).integers(0, 256, (4, *shape), dtype="uint8")
    half = any(getattr(layer, "compute_dtype", "float32") not in (None, "float32") for layer in model.layers)
    tolerance = HALF_TOLERANCE if half else TOLERANCE
    actual, rebuilt = (np.asarray(_features(network, images), "float64") for network in (model, built))
    if not np.abs(actual - rebuilt).max() <= tolerance * max(1.0, np.abs(actual).max()):
        raise ValueError(
            f"model {model.name!r} has other outputs than the network that keras_resv2 builds with layers of these "
            "names: it was changed after it was built. Save it with model.save instead."
        )
