"""keras-resv2 evaluate NAME --data_dir DIR"""

import math
import os

from keras_resv2.cli.terminal import print_json, start_backend
from keras_resv2.data import described, find_splits, fingerprint
from keras_resv2.data.arrays import sample_positions
from keras_resv2.data.folders import scan_classes
from keras_resv2.data.splits import TEST, evenly_spaced
from keras_resv2.labels import class_names, dataset_of, load_images, may_contain_training_images, open_images
from keras_resv2.pretrained import from_pretrained, pretrained_card, weight_path

TRAINED_ON = "There is no folder test/: images that the network was trained on may be among them."
DISAGREES = 1
QUICK_IMAGES = 2000


def add_arguments(parser):
    """Adds the command's arguments to an `argparse` parser."""
    parser.add_argument("name", metavar="NAME", help="pretrained network")
    parser.add_argument(
        "--data_dir", required=True, help="tensorflow-datasets directory, .npz file, or folder of class folders"
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help=f"use only the first {QUICK_IMAGES} test images (if they are sorted by class: as many, evenly spaced)",
    )
    parser.add_argument(
        "--full", action="store_true", help="also report errors by class, calibration, likelihood, JPEG images"
    )
    parser.add_argument(
        "--dtype", default="float32", help="Keras dtype policy, such as mixed_bfloat16 (default float32)"
    )
    parser.add_argument(
        "--views",
        nargs="+",
        metavar="SIDE:CROP",
        help="ImageNet networks: shorter side of the resized image and center crop, in pixels, such as 256:224 320:320",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--folded", action="store_true", help="fold batch normalization into the convolutions first")
    form.add_argument("--rolled", action="store_true", help="run units as loops")


def run(arguments):
    """keras-resv2 evaluate NAME --data_dir DIR"""
    card = pretrained_card(arguments.name)
    dataset = described(card)
    if dataset.streamed:
        return _run_streamed(card, arguments)
    if arguments.views:
        raise ValueError(
            f"--views is only for networks evaluated on images from disk, such as ImageNet; {card.full_name} is not."
        )
    weight_path(card)  # downloads and converts, if necessary, before the images are read
    row, folder = dataset_of(card, arguments.data_dir), arguments.data_dir
    in_folders = not row.tfds and os.path.isdir(folder)
    test = find_splits(folder).get(TEST) if in_folders else None
    sampled = False  # whether only some images of a folder are decoded
    if arguments.quick and in_folders:
        sampled = len(scan_classes(folder if test is None else test, row.class_names).paths) > QUICK_IMAGES
    trained_on = may_contain_training_images(card, folder)
    _start(arguments)
    images, labels = load_images(card, TEST, arguments.data_dir, most=QUICK_IMAGES if sampled else None)
    known = card.dataset_sha256.get("test")
    same_data = fingerprint(images, labels) == known if known and not sampled else None
    comparable = card.test_error is not None and len(labels) == card.test_images and not sampled
    expected = round(card.test_error * len(labels) / 100) if card.test_error is not None and comparable else None
    if arguments.quick and len(labels) > QUICK_IMAGES:
        positions = sample_positions(labels, QUICK_IMAGES)
        images, labels = images[positions], labels[positions]
        first = positions[-1] == QUICK_IMAGES - 1
        expected = card.test_errors_first_2000 if comparable and first else None
    from keras_resv2.evaluation import error_agrees, highest_class
    from keras_resv2.metrics import class_scores, full_report

    model = _inference_model(arguments)
    scores = class_scores(model, images)
    measured = 100.0 * float((highest_class(scores) != labels).mean())
    wrong = measured * len(labels) / 100
    agrees = None if expected is None else error_agrees(wrong, expected, len(labels), bool(same_data))
    result = {
        "name": card.full_name,
        "form": "folded" if arguments.folded else "rolled" if arguments.rolled else "plain",
        "dtype": arguments.dtype,
        "images": len(labels),
        "measured_error": measured,
        "card_error": card.test_error if expected is None else 100 * expected / len(labels),
        "agrees": agrees,
        "same_images_as_card": same_data,
        "may_contain_training_images": trained_on,
        "reported_error": (card.origin or {}).get("reported_error"),
    }
    if arguments.full:
        result |= full_report(model, images, labels, logits=scores)
    if arguments.json:
        print_json(result)
    else:
        kind = "images" if trained_on else "test images"
        print(f"{card.full_name}: {measured:.2f} % of {len(labels):,} {kind}; {_comparison(result, card)}.")
        _print_reported(card)
        if trained_on:
            print(TRAINED_ON)
        if agrees is not None and same_data is False:
            print("These test images are not identical to those that the card was measured on.")
        if arguments.full:
            _print_full(result, class_names(card))
    return DISAGREES if agrees is False else 0


def _start(arguments):
    """Starts the backend and checks --dtype, before images are decoded."""
    start_backend()
    import keras

    keras.dtype_policies.get(arguments.dtype)


def _run_streamed(card, arguments):
    """Measures an ImageNet network on center crops of images that are read from disk."""
    if arguments.full:
        raise ValueError(f"--full is only for small datasets; {card.full_name} is evaluated on images from disk.")
    views, interpolation = _views(card, arguments.views), card.image_options["interpolation"]
    source = open_images(card, TEST, arguments.data_dir)
    assert source is not None  # of a dataset that is streamed, or of class folders
    weight_path(card)
    if arguments.quick:
        source = _Sample(source, QUICK_IMAGES)
    _start(arguments)
    from keras_resv2.evaluation import measure_streamed_error

    model = _inference_model(arguments, input_shape=(None, None, 3))
    errors = [measure_streamed_error(model, source, side, crop, interpolation) for side, crop in views]
    if arguments.json:
        print_json({
            "name": card.full_name, "dtype": arguments.dtype, "images": len(source), "interpolation": interpolation,
            "measured_errors": {f"{side}:{crop}": error for (side, crop), error in zip(views, errors, strict=True)},
            "reported_error": (card.origin or {}).get("reported_error"),
        })  # fmt: skip
        return 0
    for (side, crop), error in zip(views, errors, strict=True):
        print(
            f"{card.full_name}: {error:.2f} % of {len(source):,} images, center crop of {crop} pixels from a shorter "
            f"side of {side} ({interpolation})."
        )
    _print_reported(card)
    return 0


def _print_reported(card):
    """Prints the error that the authors of third-party weights report."""
    origin = card.origin or {}
    if origin.get("reported_error") is not None:
        print(f"Its authors report {origin['reported_error']:.2f} % ({origin.get('reported_by', 'no details')}).")


class _Sample:
    """Evenly spaced images of a source: class folders are sorted by class."""

    def __init__(self, source, count):
        self._source, self.place = source, lambda i: source.place(self._positions[i])
        self._positions = evenly_spaced(len(source), count)

    def __len__(self):
        return len(self._positions)

    def __getitem__(self, i):
        return self._source[self._positions[i]]


def _views(card, given):
    """Returns shorter sides and center crops in pixels; by default those of the authors' evaluation."""
    if not given:
        options = card.image_options
        return [(math.floor(options["size"][0] / options["crop"]), options["size"][0])]
    views = []
    for text in given:
        side, _, crop = text.partition(":")
        if not (side.isdigit() and crop.isdigit() and 0 < int(crop) <= int(side)):
            raise ValueError(f"--views {text} must be SIDE:CROP in pixels, such as 256:224, with CROP at most SIDE.")
        views.append((int(side), int(crop)))
    return views


def _print_full(result, names):
    """Prints the results of `full_report`."""
    print(f"negative log-likelihood  {result['negative_log_likelihood']:.4f} nats")
    print(f"calibration error        {result['calibration_error']:.4f} (expected, 15 bins)")
    print(f"error on JPEG images     {result['jpeg_error']:.2f} % (quality 75)")
    for name, error in zip(names, result["class_errors"], strict=True):
        print(f"{name:24} {'no images' if error is None else f'{error:.2f} %'}")


def _comparison(result, card):
    if card.test_error is None:
        return "the card has no error to compare with"
    if result["agrees"] is None:
        count = "other" if card.test_images is None else f"{card.test_images:,}"
        return f"the card's {card.test_error:.2f} % refers to {count} images and is not comparable"
    return f"the card says {result['card_error']:.2f} %. They {'agree' if result['agrees'] else 'do not agree'}"


def _inference_model(arguments, **options):
    activation = None if arguments.full else "softmax"  # the likelihood needs logits
    model = from_pretrained(
        arguments.name, rolled=arguments.rolled, dtype=arguments.dtype, classifier_activation=activation, **options
    )
    if not arguments.folded:
        return model
    from keras_resv2.models.folding import fold

    return fold(model)
