"""Writes the README of a repository on the Hub from a card."""

from keras_resv2.data import DATASETS
from keras_resv2.storage.card import Card

# Names of the package's datasets on the Hub.
HUB_DATASETS = {
    "cifar10": "uoft-cs/cifar10",
    "cifar100": "uoft-cs/cifar100",
    "imagenet": "ILSVRC/imagenet-1k",
    "imagenet2012": "ILSVRC/imagenet-1k",
}
FEW_CLASSES = 20
# The Hub rejects other identifiers in the metadata.
HUB_LICENSES = frozenset([
    "apache-2.0", "mit", "bsd", "bsd-2-clause", "bsd-3-clause", "bsd-3-clause-clear", "isc", "zlib",
    "unlicense", "wtfpl", "ncsa", "artistic-2.0", "bsl-1.0", "afl-3.0", "ecl-2.0", "epl-1.0", "epl-2.0",
    "eupl-1.1", "eupl-1.2", "mpl-2.0", "osl-3.0", "ms-pl", "ofl-1.1", "postgresql", "gpl", "gpl-2.0", "gpl-3.0",
    "agpl-3.0", "lgpl", "lgpl-2.1", "lgpl-3.0", "gfdl", "cc", "cc0-1.0", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0",
    "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nd-4.0",
    "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0",
    "cdla-sharing-1.0", "cdla-permissive-1.0", "cdla-permissive-2.0", "pddl", "odc-by", "odbl", "etalab-2.0",
    "openrail", "unknown", "other",
])  # fmt: skip


def readme(card: Card, repository: str, base_model: str | None = None) -> str:
    """Returns the text of README.md: metadata for the Hub (YAML), then a description (Markdown).

    Args:
        card: `keras_resv2.pretrained.Card`.
        repository: ``user/name``.
        base_model: ``user/name`` on the Hub of the network that this one was fine-tuned from, or None.
    """
    from huggingface_hub import ModelCardData

    measured = [] if card.test_error is None else [_result(card)]
    dataset = hub_dataset(card)
    data = ModelCardData(
        license=hub_license(card.license),
        library_name="keras",
        pipeline_tag="image-classification",
        tags=["keras-resv2", "resnet", card.architecture],
        datasets=[dataset] if dataset else None,
        base_model=base_model,
        metrics=["accuracy"] if measured else None,
        model_name=card.full_name,
        eval_results=measured,
    )
    return f"---\n{data.to_yaml()}\n---\n\n{_text(card, repository, base_model)}"


def hub_license(text: str) -> str:
    """Returns the Hub's identifier for a license: the first word of the text if the Hub accepts it, else "other".

    Example:

    >>> hub_license("MIT, as the repository has it"), hub_license("ask the authors")
    ('mit', 'other')
    """
    words = text.lower().replace(",", " ").replace("(", " ").split()
    return words[0] if words and words[0] in HUB_LICENSES else "other"


def hub_dataset(card: Card) -> str | None:
    """Returns the name on the Hub of a card's dataset; None if the Hub does not have it, or has a different one.

    Example:

    >>> from keras_resv2 import pretrained_card
    >>> hub_dataset(pretrained_card("resnet20-cifar10"))
    'uoft-cs/cifar10'
    """
    names = DATASETS[card.dataset].class_names if card.dataset in DATASETS else ()
    another = names and tuple(names) != tuple(card.class_names)  # a folder of images can have any name
    imagenet = card.dataset.startswith("imagenet") and len(card.class_names) != 1000
    return None if another or imagenet else HUB_DATASETS.get(card.dataset)


def _result(card):
    from huggingface_hub import EvalResult

    return EvalResult(
        task_type="image-classification",
        dataset_type=hub_dataset(card) or card.dataset,
        dataset_name=card.dataset,
        dataset_split="test",
        metric_type="accuracy",
        metric_name="top-1 accuracy, percent",
        metric_value=round(100 - card.test_error, 4),
    )


def facts(card: Card, base_model: str | None = None) -> dict[str, str]:
    """Describes a card: a dictionary from titles to Markdown.

    Args:
        card: `keras_resv2.pretrained.Card`.
        base_model: see `readme`.
    """
    height, width, channels = card.image_shape
    arguments = ", ".join(f"{key}={value!r}" for key, value in card.arguments.items())
    return {
        **(_measured(card) if card.origin is None else _origin(card, base_model)),
        "network": f"`{card.architecture}`" + (f" with {arguments}" if arguments else ""),
        "license": card.license,
        "parameters": f"{card.parameters:,}",
        "images": f"{height} x {width} x {channels}, pixels from 0 to 255, not normalized",
        "classes": ", ".join(card.class_names) if len(card.class_names) <= FEW_CLASSES else f"{len(card.class_names)}",
    }


def _text(card, repository, base_model):
    height, width, channels = card.image_shape
    rows = "\n".join(f"| {key} | {value} |" for key, value in facts(card, base_model).items())
    return f"""# {card.name}

A residual network in Keras 3. Version {card.version}.

| | |
| --- | --- |
{rows}

With keras-resv2, which verifies the SHA-256 of `{card.file}` (in a checkout of it: `pip install '.[hub]'`):

```python
import keras_resv2

model = keras_resv2.from_pretrained("hf://{repository}")
probabilities = model.predict(images)  # (batch, {height}, {width}, {channels}), 0 to 255
```

With only Keras 3.6 or newer (`pip install tensorflow huggingface_hub`), from the same weights in Keras layers:

```python
import keras

model = keras.saving.load_model("hf://{repository}")
```

`card.json` contains everything that is known about the weights.
"""


def _measured(card):
    paper = "none" if card.paper_error is None else f"{card.paper_error:.2f} % ({card.paper})"
    runs = len(card.seed_errors)
    several = {"median error": f"{card.median_error:.2f} %, of {runs} runs with different seeds"} if runs > 1 else {}
    return {
        "test error": f"{card.test_error:.2f} % of {card.test_images:,} images, one view per image",
        "paper's test error": paper,
        **several,
        "training command": f"`{card.command}`",
        "training": f"{card.steps:,} steps, {card.wall_seconds / 60:.0f} minutes on {card.hardware}",
    }


def _origin(card, base_model):
    images = f" of {card.test_images:,} images, one view per image" if card.test_images else ""
    error = "not measured" if card.test_error is None else f"{card.test_error:.2f} %{images}"
    if card.origin.get("layout") == "fine-tuned":
        link = f" ([{base_model}](https://huggingface.co/{base_model}))" if base_model else ""
        return {"test error": error, "fine-tuned from": f"`{card.origin.get('file')}`{link}"}
    known = {"file": "converted from", "layout": "layout of the file", "url": "address of the file"}
    origin = {words: f"`{card.origin[key]}`" for key, words in known.items() if card.origin.get(key)}
    return {"test error": error, **origin}
