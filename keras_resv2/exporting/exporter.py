"""`export`: a network in a format that other programs run."""

import dataclasses
import os
import pathlib
from collections.abc import Sequence

import keras
import numpy as np

from keras_resv2.argument_checks import check_choice
from keras_resv2.data.splits import evenly_spaced
from keras_resv2.exporting import PRECISIONS
from keras_resv2.exporting.formats import FORMATS, Contents
from keras_resv2.exporting.network import plain_network
from keras_resv2.exporting.signature import by_name, named_outputs, signature_of
from keras_resv2.files import atomic_write, check_parent, write_lines
from keras_resv2.models.folding import fold
from keras_resv2.models.graph import data_format_of

ROUNDING = 1e-3  # of float32 outputs, relative to the largest: more is another network
COMPARED = 64  # images, at most


@dataclasses.dataclass(frozen=True)
class Exported:
    """What `export` has written.

    Attributes:
        path: `pathlib.Path` of the file or folder.
        format: name of the format, a key of `keras_resv2.exporting.formats.FORMATS`.
        precision: one of `keras_resv2.exporting.PRECISIONS`.
        size: bytes.
        input: type and shape of the input, as "uint8 (batch, 32, 32, 3)".
        outputs: names of the outputs, all float32.
        difference: largest difference from the Keras model in float32, over random images (int8: over 64 of the
            representative ones, evenly spaced); None if the runtime is not installed.
    """

    path: pathlib.Path
    format: str
    precision: str
    size: int
    input: str
    outputs: tuple[str, ...]
    difference: float | None


def export(
    model: keras.Model,
    path: str | os.PathLike,
    format: str,
    *,
    precision: str = "float32",
    representative: np.ndarray | None = None,
    folded: bool = True,
    class_names: Sequence[str] | None = None,
    unit_switches: bool = False,
    overwrite: bool = False,
) -> Exported:
    """Writes a network in a format that runs without Keras, and compares what was written with it.

    The exported network has the input "pixels", uint8 ``(batch, height, width, 3)`` with any batch size, and the
    float32 output "probabilities" (or "logits", "features"). It computes in float32, whatever the model's dtype
    policy; rolled units are unrolled. If the model has no preprocessing, the input is float32.

    Args:
        model: functional `keras.Model` with one input: a network of this package, or one built on it.
        path: path of the file, or of the folder of a SavedModel; written atomically.
        format: "saved_model", "tflite" or "onnx". The first two are written on Keras' TensorFlow backend, ONNX on
            all three.
        precision: "float32"; "float16" (TFLite and ONNX), which halves the size of the weights; or "int8" (TFLite),
            which quantizes weights and activations to a quarter of the size.
        representative: for int8: uint8 images ``(n, height, width, 3)``, a few hundred typical inputs, used to
            calibrate the activation ranges.
        folded: whether batch normalization goes into the convolutions where that is exact (`keras_resv2.fold`).
        class_names: names of the classes in the order of the outputs, stored with the network: in the metadata of ONNX,
            in ``assets.extra/labels.txt`` of a SavedModel, in ``<name>.labels.txt`` beside a TFLite file.
        unit_switches: whether an ONNX file gets a second, optional input of that name, float32 ``(units,)``, ones by
            default: a 0 deletes a residual unit as `keras_resv2.analysis.delete_each` does. The metadata
            ``unit_switches`` is JSON of the units in this order. Batch normalization is not folded then.
        overwrite: whether an existing file, or a SavedModel's folder, is replaced.

    Returns:
        `Exported`, with the largest difference from the model.

    Raises:
        ValueError: if an argument is invalid or contradicts another, the format does not support a layer, or the
            outputs of the file differ from the model's; nothing is left at `path`.
        FileExistsError: if `path` exists and `overwrite` is False.
        FileNotFoundError: if the parent folder does not exist.
        ImportError: if the format requires a package or backend that is not available.

    Example:

    >>> import tempfile, keras_resv2
    >>> path = f"{tempfile.mkdtemp()}/resnet8.onnx"
    >>> exported = keras_resv2.export(keras_resv2.ResNet(8), path, format="onnx")
    >>> exported.input, exported.outputs
    ('uint8 (batch, 32, 32, 3)', ('probabilities',))
    """
    path = pathlib.Path(path)
    class_names = _as_list(class_names)
    check_export(path, format, precision, overwrite, unit_switches, class_names)
    replaces, labels = path.exists(), _labels(path, format)
    reference = plain_network(model)
    signature = signature_of(reference)
    _check_representative(representative, precision, signature)
    _check_class_names(class_names, reference)
    network = fold(reference) if folded and not unit_switches else reference
    contents = Contents(network, signature, class_names, precision, representative, unit_switches)
    with atomic_write(path) as partial:
        FORMATS[format].write(contents, partial)
        images = signature.random_images() if representative is None else representative
        images = np.asarray(images)[evenly_spaced(len(images), COMPARED)]
        difference = _compare(reference, signature, partial, format, precision, images)
    if labels and class_names:
        write_lines(class_names, labels)
    elif labels and replaces:
        labels.unlink(missing_ok=True)  # those of the file that this one replaces
    sides = ", ".join("any" if side is None else str(side) for side in signature.shape[1:])
    taken = f"{signature.dtype} (batch, {sides})"
    return Exported(path, format, precision, _size(path), taken, tuple(signature.outputs), difference)


def check_export(
    path: str | os.PathLike,
    format: str,
    precision: str = "float32",
    overwrite: bool = False,
    unit_switches: bool = False,
    class_names: Sequence[str] | None = None,
) -> None:
    """Raises the errors of `export` that do not depend on the network, before one is built."""
    check_choice("format", format, FORMATS)
    check_choice("precision", precision, PRECISIONS)
    row = FORMATS[format]
    if precision not in row.precisions:
        possible = [name for name, other in FORMATS.items() if precision in other.precisions]
        raise ValueError(
            f"precision={precision!r} is for format={' or '.join(map(repr, possible))}; {format} is written in "
            f"{' or '.join(row.precisions)}."
        )
    if unit_switches and not row.unit_switches:
        possible = [name for name, other in FORMATS.items() if other.unit_switches]
        raise ValueError(
            f"unit_switches=True is for format={' or '.join(map(repr, possible))}; {format} has no switches."
        )
    row.check()
    path = pathlib.Path(path)
    check_parent(path)
    endings = {other.ending for other in FORMATS.values()} - {None}
    if path.suffix in endings and path.suffix != row.ending:
        raise ValueError(f"{path} has the extension of another format than {format!r}: choose another name.")
    if path.is_symlink() and row.ending is None:
        raise FileExistsError(f"{path} is a link: pass the path of the folder that it refers to.")
    if path.is_dir() and any(path.iterdir()):
        if row.ending is not None or not (path / "saved_model.pb").exists():
            raise FileExistsError(
                f"{path} is a folder that contains other files than a SavedModel: choose another path."
            )
        if not overwrite:
            raise FileExistsError(f"{path} is a SavedModel: choose another path, or pass overwrite=True (--overwrite).")
    elif path.is_dir() and row.ending is not None:
        raise FileExistsError(f"{path} is a folder; {format} is a file.")
    elif path.exists() and not path.is_dir():
        if not overwrite:
            raise FileExistsError(f"{path} exists: choose another path, or pass overwrite=True (--overwrite).")
        if row.ending is None:
            raise FileExistsError(f"{path} is a file; {format} is a folder.")
    labels = _labels(path, format)
    if class_names and labels is not None and labels.exists() and not overwrite:
        raise FileExistsError(f"{labels} exists: choose another path, or pass overwrite=True (--overwrite).")


def _labels(path, format):
    """Returns the path of the file for the class names beside an exported file; None if the format has none."""
    labels = FORMATS[format].labels
    return None if labels is None else labels(path)


def _check_representative(images, precision, signature):
    if precision != "int8":
        if images is not None:
            raise ValueError(f"representative is for precision='int8', not {precision!r}.")
        return
    if images is None:
        raise ValueError(
            "precision='int8' needs representative images, from which ranges of activations are measured: "
            "representative=images, uint8, some hundred of those that the network was trained on."
        )
    if signature.dtype != "uint8":
        raise ValueError("precision='int8' is for networks that take pixels: build with include_preprocessing=True.")
    dtype, shape = getattr(images, "dtype", type(images).__name__), np.shape(images)
    fits = len(shape) == len(signature.shape) and shape[0] > 0
    fits = fits and all(a in (None, b) for a, b in zip(signature.shape[1:], shape[1:], strict=True))
    if str(dtype) != "uint8" or not fits:
        wanted = ", ".join("n" if side is None else str(side) for side in signature.shape)
        raise ValueError(f"representative images are {dtype} {shape}; the network takes uint8 ({wanted}).")


def _as_list(class_names):
    """Returns class names, also those of an array, as a list of text; None if there are none."""
    if isinstance(class_names, str) or any("\n" in str(name) for name in ([] if class_names is None else class_names)):
        raise ValueError("class_names must be a list of names, each of one line.")
    return None if class_names is None or not len(class_names) else [str(name) for name in class_names]


def _check_class_names(class_names, network):
    if not class_names:
        return
    axis = 1 if data_format_of(network) == "channels_first" else -1
    counts = {name: x.shape[axis if len(x.shape) == 4 else -1] for name, x in named_outputs(network).items()}
    if len(class_names) not in counts.values():
        found = ", ".join(f"{name} has {count}" for name, count in counts.items())
        raise ValueError(
            f"there are {len(class_names)} class_names, but no output of {network.name!r} has as many classes: {found}."
        )


def _compare(reference, signature, path, format, precision, images):
    """Largest difference between what was written, in its own runtime, and the Keras model."""
    if not FORMATS[format].can_load():
        return None
    # JAX compiles each operation by itself in a direct call; TensorFlow warns of many predict functions.
    if keras.backend.backend() == "jax":
        expected = reference.predict_on_batch(images)
    else:
        expected = reference(images, training=False)
    expected = by_name(signature.outputs, expected)
    found = FORMATS[format].load(str(path), None).predict_on_batch(images)
    found = found if isinstance(found, dict) else by_name(signature.outputs, found)
    differences = []
    for name, y in expected.items():
        y = keras.ops.convert_to_numpy(y)
        differences.append(float(np.abs(found[name] - y).max()))
        if precision == "float32" and not differences[-1] <= ROUNDING * max(1.0, float(np.abs(y).max())):
            raise ValueError(
                f"the exported network gives other outputs than the Keras model (largest difference of {name!r}: "
                f"{differences[-1]:.3g}): {format} was not written. Please report this with the versions of Keras and "
                "of the runtime."
            )
    return float(np.max(differences))  # NaN if one is


def _size(path):
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)
