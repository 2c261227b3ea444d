"""The files that `keras-resv2 finetune` writes beside the model: report, history, confusion matrix, mistakes."""

import pathlib

import keras
import numpy as np

from keras_resv2.data import fingerprint
from keras_resv2.data.images import draw_predictions
from keras_resv2.evaluation import highest_class
from keras_resv2.figures import add_grid, add_legend, check_matplotlib, new_figure, save_figure
from keras_resv2.files import write_csv, write_history, write_json
from keras_resv2.metrics import class_scores, interval
from keras_resv2.startup import print_stderr
from keras_resv2.storage.card import Card
from keras_resv2.transfer.finetune_data import FinetuneData
from keras_resv2.transfer.weight_folder import name_for, save_weight_folder

REPORT, SHEET, SHOWN = "report.json", "mistakes.png", 24
# Of the drawn confusion matrix: its largest side in inches; up to how many classes names and counts are drawn.
LARGEST, NAMED, COUNTED = 24, 100, 30


def write_report(
    out: str | pathlib.Path,
    model: keras.Model,
    history: list[dict],
    data: FinetuneData,
    base: Card,
    settings: dict,
    environment: dict,
) -> tuple[dict, np.ndarray]:
    """Measures the model on the test images, and writes report, history and confusion matrix.

    Args:
        out: folder.
        model: the fine-tuned model.
        history: as `keras_resv2.fine_tune` returns it.
        data: images of the three splits.
        base: card of the pretrained network.
        settings: of the training.
        environment: dictionary of backend, versions, commit and hardware.

    Returns:
        The content of report.json, a dictionary; and the logits of the test images, for `draw_report`.
    """
    out, (images, labels) = pathlib.Path(out), data.test
    scores = class_scores(model, images)
    confusion = confusion_matrix(labels, highest_class(scores), len(data.class_names))
    wrong = int(confusion.sum() - np.trace(confusion))
    best = next((row for row in history if row["best"]), history[-1])
    report = {
        "base": base.full_name,
        "base_sha256": base.sha256,
        "class_names": list(data.class_names),
        "image_shape": list(images.shape[1:]),
        "images": {split: _counts(getattr(data, split)[1], data.class_names) for split in data.names},
        "damaged": list(data.damaged),
        "data_sha256": data.fingerprint(),
        "settings": settings,
        "best": {key: best[key] for key in ("phase", "epoch", "learning_rate")},
        "cross_validation": _folds(history),
        "validation_error": round(best["validation_error"], 2),
        "validation_interval": [round(best[f"validation_error_{end}"], 2) for end in ("low", "high")],
        "test_error": round(100 * wrong / len(labels), 2),
        "test_interval": [round(bound, 2) for bound in interval(wrong, len(labels))],
        "test_images": len(labels),
        "by_class": by_class(confusion, data.class_names),
        "seconds": history[-1]["seconds"],
        **environment,
        "load": 'import keras, keras_resv2; model = keras.models.load_model("model.keras")',
    }  # fmt: skip
    write_json(out / REPORT, report)
    write_json(out / "split.json", {split: list(names) for split, names in data.names.items()})
    write_history(history, out / "history.csv")
    rows = ([name, *row] for name, row in zip(data.class_names, confusion.tolist(), strict=True))
    write_csv(out / "confusion.csv", ["true class", *data.class_names], rows)
    return report, scores


def draw_report(
    out: str | pathlib.Path, scores: np.ndarray, history: list[dict], data: FinetuneData, base: Card
) -> None:
    """Draws the mistakes on the test images and, if matplotlib is installed, the curve and the confusion matrix.

    Args:
        out: folder.
        scores: logits of the test images, as `write_report` returns them.
        history, data, base: as `write_report` takes them.
    """
    out, (images, labels) = pathlib.Path(out), data.test
    draw_mistakes(images, labels, scores, data, out / SHEET)
    try:
        check_matplotlib()
    except ImportError as error:
        print_stderr(f"curve.png and confusion.png are not drawn: {error}")
        return
    draw_history(history, out / "curve.png", f"{base.full_name}, fine-tuned")
    confusion = confusion_matrix(labels, highest_class(scores), len(data.class_names))
    draw_confusion(confusion, data.class_names, out / "confusion.png")


def write_weight_folder(
    out: str | pathlib.Path, model: keras.Model, report: dict, base: Card, name: str, data: str, test: tuple
) -> pathlib.Path:
    """Writes ``<out>/<architecture>-<data>/1/``, weights and card, for `keras_resv2.from_pretrained`.

    Args:
        out: folder.
        model: the fine-tuned model.
        report: as `write_report` returns it.
        base: card of the pretrained network.
        name: of the pretrained network, as `from_pretrained` takes it.
        data: folder of the images or name of the dataset, from which the weights get their name.
        test: ``(images, labels)``, to measure the error that the card states: in float32, as `from_pretrained` builds
            the network; the model may have a lower precision.

    Returns:
        `pathlib.Path` of the folder.
    """
    weights = weight_folder_of(out, base, data).parent.name
    facts = {key: report[key] for key in ("hardware", "backend", "versions", "commit")}
    if pathlib.Path(data).is_dir():  # images of tensorflow-datasets are read in another order
        facts["dataset_sha256"] = {"test": fingerprint(*test)}
    return save_weight_folder(model, weights, report["class_names"], out, base=name, test=test, facts=facts)


def weight_folder_of(out: str | pathlib.Path, base: Card, data: str) -> pathlib.Path:
    """Returns the path of the folder that `write_weight_folder` writes, with the same arguments."""
    data_name = pathlib.Path(data).resolve() if pathlib.Path(data).is_dir() else data
    return pathlib.Path(out, name_for(base.architecture, data_name), "1")


def _folds(history):
    """What decided between the classifier alone and the backbone; an empty list if no cross-validation did."""
    return [
        {
            "trained": "body" if number else "classifier",
            "learning_rate": row["learning_rate"],
            "error": round(row["validation_error"], 2),
            "interval": [round(row[f"validation_error_{end}"], 2) for end in ("low", "high")],
        }
        for number, row in enumerate(row for row in history if row["phase"] == "folds")
    ]


def _counts(labels, class_names):
    counts = np.bincount(labels, minlength=len(class_names)).tolist()
    return dict(zip(class_names, counts, strict=True))


def confusion_matrix(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Number of images of each true class (rows) and predicted class (columns): int ``(classes, classes)``.

    Example:

    >>> confusion_matrix(np.array([0, 0, 1]), np.array([0, 1, 1]), 2).tolist()
    [[1, 1], [0, 1]]
    """
    return np.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)


def by_class(confusion: np.ndarray, class_names: tuple[str, ...]) -> dict[str, dict]:
    """Number of images, recall and precision of each class, percent; None for a division by zero.

    Example:

    >>> by_class(np.array([[1, 1], [0, 1]]), ("cat", "dog"))["cat"]
    {'images': 2, 'recall': 50.0, 'precision': 100.0}
    """
    correct, true, predicted = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    return {
        name: {
            "images": int(true[i]),
            "recall": round(100 * float(correct[i] / true[i]), 2) if true[i] else None,
            "precision": round(100 * float(correct[i] / predicted[i]), 2) if predicted[i] else None,
        }
        for i, name in enumerate(class_names)
    }


def draw_history(history: list[dict], path: pathlib.Path, title: str) -> None:
    """Draws loss and error of training and validation images by epoch; epoch 0 is the classifier alone.

    Args:
        history: as `keras_resv2.fine_tune` returns it.
        path: of the PNG.
        title: above the plot.
    """
    history = [row for row in history if row["phase"] != "folds"]
    epochs = [row["epoch"] if row["phase"] == "body" else 0 for row in history]
    figure, (losses, errors) = new_figure(2, (9, 4.4))
    for axes, what in ((losses, "loss"), (errors, "error")):
        for images, style in (("train", "--o"), ("validation", "-o")):
            if f"{images}_{what}" in history[-1]:
                axes.plot(epochs, [row[f"{images}_{what}"] for row in history], style, ms=3, label=images)
        axes.set(xlabel="epoch (0: the classifier alone)", ylabel="error (%)" if what == "error" else what)
        axes.set(ylim=(0, None), title=what)
        add_grid(axes)
    for epoch, row in zip(epochs, history, strict=True):
        if row["best"] and "validation_error" in row:
            errors.plot(epoch, row["validation_error"], "k*", ms=10, label="kept")
    add_legend(figure, errors)
    figure.suptitle(title, parse_math=False)
    save_figure(figure, path)


def draw_confusion(confusion: np.ndarray, class_names: tuple[str, ...], path: pathlib.Path) -> None:
    """Draws the confusion matrix, as fractions of each true class.

    Args:
        confusion: as `confusion_matrix` returns it.
        class_names: of its rows and columns.
        path: of the PNG.
    """
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    side = min(2.5 + 0.45 * len(class_names), LARGEST)
    figure, (axes,) = new_figure(size=(side, side))
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if len(class_names) <= NAMED:
        ticks = range(len(class_names))
        axes.set_xticks(ticks, class_names, rotation=90, parse_math=False)  # a name may contain $
        axes.set_yticks(ticks, class_names, parse_math=False)
    axes.set(title="test images", xlabel="predicted class", ylabel="true class")
    if len(class_names) <= COUNTED:
        for row, column in np.argwhere(confusion):
            color = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(confusion[row, column]), ha="center", va="center", fontsize=7, color=color)
    save_figure(figure, path)


def draw_mistakes(
    images: np.ndarray, labels: np.ndarray, scores: np.ndarray, data: FinetuneData, path: pathlib.Path
) -> None:
    """Draws the most confident mistakes on a sheet, each with its true class above it.

    Args:
        images, labels, scores: of the test images.
        data: for the names of classes and images.
        path: of the PNG; not written if there are no mistakes.
    """
    wrong = np.flatnonzero(highest_class(scores) != labels)
    shown = wrong[np.argsort(-scores[wrong].max(axis=1), kind="stable")][:SHOWN]
    if not len(shown):
        return
    ranked = [[(data.class_names[i], float(row[i])) for i in np.argsort(-row)] for row in scores[shown]]
    captions = [f"{data.class_names[labels[i]]}: {pathlib.PurePath(data.names['test'][i]).name}" for i in shown]
    draw_predictions(list(images[shown]), ranked, path, captions)
