"""keras-resv2 evaluate NAME --data_dir DIR"""

from keras_resv2.commands.terminal import print_json, start_backend
from keras_resv2.datasets import fingerprint, load_split
from keras_resv2.pretrained import from_pretrained, pretrained_card

DISAGREES = 1
QUICK_IMAGES = 2000


def add_arguments(parser):
    """Adds the command's arguments to an `argparse` parser."""
    parser.add_argument("name", metavar="NAME", help="pretrained network")
    parser.add_argument("--data_dir", required=True, help="tensorflow-datasets directory, or .npz file")
    parser.add_argument("--quick", action="store_true", help=f"the first {QUICK_IMAGES} test images alone")
    parser.add_argument("--dtype", default="float32", help="Keras dtype policy, as mixed_bfloat16 (default float32)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--folded", action="store_true", help="the inference form")
    form.add_argument("--rolled", action="store_true", help="units as loops")


def run(arguments):
    """keras-resv2 evaluate NAME --data_dir DIR"""
    card = pretrained_card(arguments.name)
    start_backend()
    images, labels = load_split(card.dataset, "test", arguments.data_dir)
    if card.test_error is None:
        return _measure(arguments, card, images, labels)
    same_data = fingerprint(images, labels) == card.dataset_sha256["test"]
    expected = round(card.test_error * card.test_images / 100)
    if arguments.quick:
        images, labels, expected = images[:QUICK_IMAGES], labels[:QUICK_IMAGES], card.test_errors_first_2000
    from keras_resv2.evaluation import error_agrees, measure_error

    measured = measure_error(_inference_model(arguments), images, labels)
    agrees = error_agrees(measured * len(labels) / 100, expected, len(labels), same_data)
    result = {
        "name": card.full_name,
        "form": "folded" if arguments.folded else "rolled" if arguments.rolled else "plain",
        "dtype": arguments.dtype,
        "images": len(labels),
        "measured_error": measured,
        "card_error": 100 * expected / (QUICK_IMAGES if arguments.quick else card.test_images),
        "agrees": agrees,
        "same_images_as_card": same_data,
    }
    if arguments.json:
        print_json(result)
    else:
        print(f"{card.full_name}: {measured:.2f} % of {len(labels):,} test images", end="; ")
        print(f"the card says {result['card_error']:.2f} %. They {'agree' if agrees else 'do not agree'}.")
        if not same_data:
            print("These test images are not, to the byte, those that the card was measured on.")
    return 0 if agrees else DISAGREES


def _inference_model(arguments):
    model = from_pretrained(arguments.name, rolled=arguments.rolled, dtype=arguments.dtype)
    if not arguments.folded:
        return model
    from keras_resv2.folding import fold

    return fold(model)


def _measure(arguments, card, images, labels):
    """`evaluate` of weights from elsewhere, whose card has no error to compare with."""
    from keras_resv2.evaluation import measure_error

    if arguments.quick:
        images, labels = images[:QUICK_IMAGES], labels[:QUICK_IMAGES]
    measured = measure_error(_inference_model(arguments), images, labels)
    if arguments.json:
        result = {"name": card.full_name, "dtype": arguments.dtype, "images": len(labels), "measured_error": measured}
        print_json({**result, "card_error": None, "agrees": None})
    else:
        print(f"{card.full_name}: {measured:.2f} % of {len(labels):,} test images; the card has none to compare with.")
    return 0
