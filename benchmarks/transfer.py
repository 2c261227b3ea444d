"""Transfer learning, measured: four ways to train a classifier on few images.

    python -m benchmarks.transfer --data digits --data fashion_mnist=FOLDER --data emoji=FOLDER \
        --out results

- probe: a new classifier on the features of the frozen pretrained backbone.
- fine-tuned: `keras_resv2.fine_tune` with its defaults: the classifier first, then all layers, batch normalization
  frozen, discriminative learning rates.
- naive: the same pretrained network, epochs, images and augmentation with `compile("adam")` and `fit`: batch
  normalization trains, one learning rate, the random classifier from the first step.
- scratch: the same network with random weights, a learning rate for that, and batch normalization that trains.

If a dataset has as many classes as the pretrained network (digits and Fashion-MNIST have ten, as CIFAR-10), its
classifier starts from the pretrained one; otherwise it is new. All ways get the same images and choose the best weights
by a fifth of them; the error is that of test images that are used for nothing else. Cells that results/transfer.csv
contains are not measured again.
"""

import argparse
import csv
import itertools
import pathlib
import statistics
import time

import keras
import numpy as np

from benchmarks import transfer_data
from keras_resv2.argument_checks import check_choice
from keras_resv2.builders import build
from keras_resv2.evaluation import measure_error
from keras_resv2.figures import COLORS, add_grid, add_legend, new_figure, save_figure
from keras_resv2.files import write_history
from keras_resv2.pretrained import from_pretrained, pretrained_card
from keras_resv2.transfer import fine_tune, freeze, split_images

EPOCHS = {100: 60, 1000: 20, 10_000: 6}
WAYS = ("probe", "fine-tuned", "naive", "scratch")
KEY = ("dataset", "images", "way", "seed", "network", "dtype")
COLUMNS = (*KEY, "epochs", "test_error", "test_images", "seconds")
SCRATCH_RATE = 0.003


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", action="append", required=True, metavar="NAME[=FOLDER]", help="dataset; may be repeated"
    )
    parser.add_argument("--network", default="preact_resnet20-cifar10", help="pretrained network")
    counts = list(EPOCHS)
    parser.add_argument(
        "--images", "--pictures", type=int, nargs="+", default=counts, choices=counts, help="numbers of training images"
    )
    parser.add_argument("--seeds", type=int, default=3, help="number of repetitions, each with other images")
    parser.add_argument("--dtype", default="float32", help="Keras dtype policy")
    parser.add_argument("--out", required=True, help="folder for transfer.csv, transfer.md and transfer.png")
    arguments = parser.parse_args()
    try:
        run(arguments)
    except (ValueError, OSError, ImportError) as error:
        parser.error(str(error))


def run(arguments):
    """Measures missing cells, and writes table and figure for one network and precision."""
    keras.config.set_dtype_policy(arguments.dtype)
    out = pathlib.Path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)
    rows = read_rows(out / "transfer.csv")
    data = {}
    for item in arguments.data:
        name, _, folder = item.partition("=")
        data[name] = transfer_data.DATASETS[check_choice("data", name, transfer_data.DATASETS)](folder)
    network = pretrained_card(arguments.network).full_name  # a new version is another network
    cells = itertools.product(range(arguments.seeds), data, arguments.images, WAYS)  # whole tables first, then seeds
    for seed, name, count, way in cells:
        train, test = data[name]
        key = (name, str(count), way, str(seed), network, arguments.dtype)
        if count > len(train[1]) or any(tuple(row[column] for column in KEY) == key for row in rows):
            continue
        row = measure(way, network, sample(train, count, seed), test, EPOCHS[count], seed, name)
        rows.append(dict(zip(KEY, key, strict=True)) | row)
        write_history(rows, out / "transfer.csv")
        print(*(f"{column} {rows[-1][column]}" for column in COLUMNS), sep=", ", flush=True)
    chosen = [row for row in rows if (row["network"], row["dtype"]) == (network, arguments.dtype)]
    if not chosen:
        sizes = ", ".join(f"{name} {len(train[1]):,}" for name, (train, _) in data.items())
        raise ValueError(f"nothing to measure: the datasets have fewer training images ({sizes}) than --images.")
    (out / "transfer.md").write_text(as_markdown(chosen), encoding="utf-8")
    draw(chosen, out / "transfer.png")
    print(as_markdown(chosen))


def sample(train, count, seed):
    """Returns `count` images, with the same fraction of each class (largest remainder method)."""
    images, labels = train
    wanted = np.bincount(labels) * count / len(labels)
    quotas = np.floor(wanted).astype(int)
    quotas[np.argsort(quotas - wanted, kind="stable")[: count - quotas.sum()]] += 1
    order = np.random.default_rng(seed).permutation(len(labels))
    chosen = [order[labels[order] == label][:quota] for label, quota in enumerate(quotas)]
    part = np.sort(np.concatenate(chosen))
    return images[part], labels[part]


def measure(way, network, train, test, epochs, seed, dataset):
    """Trains one way; returns epochs, test error (percent), test images and seconds."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    classes = int(train[1].max()) + 1
    card = pretrained_card(network)
    scratch = way == "scratch"
    untrained = {**card.arguments, "classes": classes}
    model = build(card.architecture, **untrained) if scratch else from_pretrained(network, classes=classes)
    augment = ("crop",) if dataset in transfer_data.UPRIGHT else ("crop", "flip")
    common = {"epochs": epochs, "patience": epochs, "seed": seed, "augment": augment, "verbose": 0}
    begun = time.monotonic()
    if way == "naive":
        naive(model, train, **common)
    elif scratch:
        # Batches, so that no cross-validation compares the backbone with a classifier on random features.
        (part, rest), (images, labels) = split_images(train[1], (0.8, 0.2), seed), train
        validation = [(images[rest], labels[rest])]
        common |= {"learning_rate": SCRATCH_RATE, "rate_decay": 1.0, "batch_norm": "trained"}
        fine_tune(model, (images[part], labels[part]), validation, **common)
    else:
        fine_tune(freeze(model) if way == "probe" else model, train, **common)
    seconds = time.monotonic() - begun
    error = measure_error(model, *test)
    return {"epochs": epochs, "test_error": round(error, 2), "test_images": len(test[1]), "seconds": round(seconds, 1)}


def naive(model, train, epochs, patience, seed, augment, verbose):
    """Trains with Adam at its default learning rate, and keeps the epoch of the best validation accuracy."""
    from keras_resv2.transfer.augmentation import AugmentedBatches

    images, labels = train
    part, rest = split_images(labels, (0.8, 0.2), seed)
    best = keras.callbacks.EarlyStopping("val_accuracy", patience=patience, restore_best_weights=True)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=False)
    batches = AugmentedBatches(images[part], labels[part], 32, augment, seed)
    model.fit(batches, validation_data=(images[rest], labels[rest]), epochs=epochs, callbacks=[best], verbose=0)
    if best.best_weights is not None:
        model.set_weights(best.best_weights)


def read_rows(path):
    if not path.exists():
        return []
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    return [{"images" if name == "pictures" else name: row[name] for name in row} for row in rows]  # of older versions


def medians(rows):
    """Returns ``{(dataset, images): {way: errors of all seeds}}``, sorted."""
    found = {}
    for row in rows:
        cell = found.setdefault((row["dataset"], int(row["images"])), {})
        cell.setdefault(row["way"], []).append(float(row["test_error"]))
    return dict(sorted(found.items()))


def as_markdown(rows):
    """Returns the table: median test error of each cell and its range over seeds."""
    lines = [f"| dataset | images | {' | '.join(WAYS)} |", f"| --- | ---: |{' ---: |' * len(WAYS)}"]
    for (dataset, images), ways in medians(rows).items():
        best = min(statistics.median(errors) for errors in ways.values())
        cells = []
        for way in WAYS:
            errors = ways.get(way)
            if not errors:
                cells.append("-")
                continue
            median = statistics.median(errors)
            text = f"**{median:.1f}**" if median == best else f"{median:.1f}"
            cells.append(f"{text} ({min(errors):.1f} to {max(errors):.1f})" if len(errors) > 1 else text)
        lines.append(f"| {dataset} | {images:,} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def draw(rows, path):
    """Draws a panel per dataset: error by number of images, medians as lines, all seeds as dots."""
    found = medians(rows)
    datasets = list(dict.fromkeys(dataset for dataset, _ in found))
    figure, panels = new_figure(len(datasets), (4 * len(datasets), 3.9))
    for axes, dataset in zip(panels, datasets, strict=True):
        for color, way in zip(COLORS, WAYS, strict=False):
            cells = [(count, ways[way]) for (name, count), ways in found.items() if name == dataset and way in ways]
            axes.plot([c for c, _ in cells], [statistics.median(e) for _, e in cells], color=color, label=way)
            axes.plot([c for c, e in cells for _ in e], [x for _, e in cells for x in e], ".", color=color, ms=4)
        axes.set(xscale="log", title=dataset, xlabel="labelled images", ylim=(0, None))
        add_grid(axes)
    panels[0].set_ylabel("test error (%)")
    figure.suptitle(", ".join(sorted({row["network"] for row in rows})))
    add_legend(figure, panels[0])
    save_figure(figure, path)


if __name__ == "__main__":
    main()
