"""What a fine-tuning leaves beside its model: the card, the curve, and where it goes wrong."""

import csv
import importlib.util
import pathlib

import numpy as np

from keras_resv2.data.images import draw_predictions
from keras_resv2.evaluation import highest_class
from keras_resv2.files import write_history, write_json
from keras_resv2.metrics import interval
from keras_resv2.transfer.weight_folder import name_for, save_weight_folder

CARD, SHEET, SHOWN = "card.json", "mistakes.png", 24
BATCH = 256
LARGEST, NAMED, COUNTED = 24, 100, 30  # inches of the confusion's picture; classes that have names, and numbers, in it


def write_report(out, model, history, parts, base, settings, environment):
    """Measures the model on the test pictures and writes all that tells of it.

    Args:
        out: folder.
        model: that was trained.
        history: as `keras_resv2.fine_tune` returns it.
        parts: `keras_resv2.transfer.parts.Parts`.
        base: card of the pretrained network.
        settings: of the training.
        environment: dictionary of backend, versions, commit and hardware.

    Returns:
        The card, a dictionary.
    """
    out, (images, labels) = pathlib.Path(out), parts.test
    scores = model.predict(images, batch_size=BATCH, verbose=0)
    confusion = confusion_matrix(labels, highest_class(scores), len(parts.class_names))
    wrong = int(confusion.sum() - np.trace(confusion))
    best = next((row for row in history if row["best"]), history[-1])
    card = {
        "base": base.full_name,
        "base_sha256": base.sha256,
        "class_names": list(parts.class_names),
        "image_shape": list(images.shape[1:]),
        "pictures": {part: _counts(getattr(parts, part)[1], parts.class_names) for part in parts.names},
        "damaged": list(parts.damaged),
        "data_sha256": parts.fingerprint(),
        "settings": settings,
        "best": {key: best[key] for key in ("phase", "epoch", "learning_rate")},
        "validation_error": round(best["validation_error"], 2),
        "validation_interval": [round(best[f"validation_error_{end}"], 2) for end in ("low", "high")],
        "test_error": round(100 * wrong / len(labels), 2),
        "test_interval": [round(bound, 2) for bound in interval(wrong, len(labels))],
        "test_images": len(labels),
        "by_class": by_class(confusion, parts.class_names),
        "seconds": history[-1]["seconds"],
        **environment,
        "load": 'import keras, keras_resv2; model = keras.models.load_model("model.keras")',
    }  # fmt: skip
    write_json(out / CARD, card)
    write_json(out / "split.json", {part: list(names) for part, names in parts.names.items()})
    write_history(history, out / "history.csv")
    with open(out / "confusion.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["true class", *parts.class_names])
        writer.writerows([name, *row] for name, row in zip(parts.class_names, confusion.tolist(), strict=True))
    draw_mistakes(images, labels, scores, parts, out / SHEET)
    if importlib.util.find_spec("matplotlib") is None:
        print("curve.png and confusion.png are not drawn: pip install matplotlib draws them.")
        return card
    draw_history(history, out / "curve.png", f"{base.full_name}, fine-tuned")
    draw_confusion(confusion, parts.class_names, out / "confusion.png")
    return card


def write_weight_folder(out, model, report, base, name, data, test):
    """Writes ``<out>/<architecture>-<data>/1/``, weights and card as `keras_resv2.from_pretrained` takes them.

    Args:
        out: folder.
        model: that was trained.
        report: as `write_report` returned it.
        base: card of the pretrained network.
        name: of the pretrained network, as `from_pretrained` takes it.
        data: folder of the images or name of the dataset, for the name.
        test: ``(images, labels)``, which the weights are measured on once more, in float32, as those who open
            them have them: the model may be of lower precision.

    Returns:
        `pathlib.Path` of the folder.
    """
    weights = name_for(base.architecture, pathlib.Path(data).resolve() if pathlib.Path(data).is_dir() else data)
    facts = {key: report[key] for key in ("hardware", "backend", "versions", "commit")}
    return save_weight_folder(model, weights, report["class_names"], out, base=name, test=test, facts=facts)


def _counts(labels, class_names):
    counts = np.bincount(labels, minlength=len(class_names)).tolist()
    return dict(zip(class_names, counts, strict=True))


def confusion_matrix(labels, predicted, classes):
    """How many pictures of each class (rows) are taken for which (columns): int ``(classes, classes)``.

    Example:

    >>> confusion_matrix(np.array([0, 0, 1]), np.array([0, 1, 1]), 2).tolist()
    [[1, 1], [0, 1]]
    """
    return np.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)


def by_class(confusion, class_names):
    """Recall and precision of each class, percent; None where there is nothing to divide by."""
    right, of_class, taken_for = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    return {
        name: {
            "pictures": int(of_class[i]),
            "recall": round(100 * right[i] / of_class[i], 2) if of_class[i] else None,
            "precision": round(100 * right[i] / taken_for[i], 2) if taken_for[i] else None,
        }
        for i, name in enumerate(class_names)
    }


def draw_history(history, path, title):
    """Loss and error of training and validation pictures against epochs; epoch 0 is the classifier alone.

    Args:
        history: as `keras_resv2.fine_tune` returns it.
        path: of the PNG.
        title: above the plot.
    """
    from matplotlib.figure import Figure

    epochs = [row["epoch"] if row["phase"] == "body" else 0 for row in history]
    losses, errors = (figure := Figure(figsize=(9, 4.4), layout="constrained")).subplots(1, 2)
    for axes, what in ((losses, "loss"), (errors, "error")):
        for part, style in (("train", "C0--o"), ("validation", "C1-o")):
            if f"{part}_{what}" in history[-1]:
                axes.plot(epochs, [row[f"{part}_{what}"] for row in history], style, ms=3, label=part)
        axes.set(xlabel="epoch (0: the classifier alone)", ylabel="error (%)" if what == "error" else what)
        axes.set_ylim(0, None)
        axes.grid(alpha=0.3)
    for epoch, row in zip(epochs, history, strict=True):
        if row["best"] and "validation_error" in row:
            errors.plot(epoch, row["validation_error"], "k*", ms=10, label="kept")
    figure.legend(*errors.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    figure.suptitle(title)
    figure.savefig(path, dpi=120)


def draw_confusion(confusion, class_names, path):
    """The confusion matrix as a picture: shares of each true class.

    Args:
        confusion: as `confusion_matrix` gives it.
        class_names: of its rows and columns.
        path: of the PNG.
    """
    from matplotlib.figure import Figure

    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    side = min(2.5 + 0.45 * len(class_names), LARGEST)
    axes = (figure := Figure(figsize=(side, side), layout="constrained")).subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if len(class_names) <= NAMED:
        ticks = range(len(class_names))
        axes.set_xticks(ticks, class_names, rotation=90)
        axes.set_yticks(ticks, class_names)
    axes.set(title="test images", xlabel="predicted class", ylabel="true class")
    if len(class_names) <= COUNTED:
        for row, column in np.argwhere(confusion):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(confusion[row, column]), ha="center", va="center", fontsize=7, color=colour)
    figure.savefig(path, dpi=120)


def draw_mistakes(images, labels, scores, parts, path):
    """A sheet of the mistakes that the network is most confident of, with the true classes above them.

    Args:
        images, labels, scores: of the test pictures.
        parts: `keras_resv2.transfer.parts.Parts`.
        path: of the PNG; not written where there are no mistakes.
    """
    wrong = np.flatnonzero(highest_class(scores) != labels)
    shown = wrong[np.argsort(-scores[wrong].max(axis=1), kind="stable")][:SHOWN]
    if not len(shown):
        return
    ranked = [[(parts.class_names[i], float(row[i])) for i in np.argsort(-row)] for row in scores[shown]]
    captions = [f"{parts.class_names[labels[i]]}: {pathlib.PurePath(parts.names['test'][i]).name}" for i in shown]
    draw_predictions(list(images[shown]), ranked, path, captions)
