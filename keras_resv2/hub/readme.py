"""The README of a repository on the Hub: what it shows above the files, from the card."""


def readme(card, repository):
    """Text of README.md: the facts that the Hub reads (YAML), then those for people (Markdown).

    Args:
        card: `keras_resv2.pretrained.Card`.
        repository: ``user/name``.
    """
    from huggingface_hub import ModelCardData

    measured = [] if card.test_error is None else [_result(card)]
    data = ModelCardData(
        license=card.license.lower(),
        library_name="keras",
        pipeline_tag="image-classification",
        tags=["keras-resv2", "resnet", card.architecture],
        datasets=[card.dataset],
        metrics=["accuracy"],
        model_name=card.full_name,
        eval_results=measured,
    )
    return f"---\n{data.to_yaml()}\n---\n\n{_text(card, repository)}"


def _result(card):
    from huggingface_hub import EvalResult

    return EvalResult(
        task_type="image-classification",
        dataset_type=card.dataset,
        dataset_name=card.dataset,
        dataset_split="test",
        metric_type="accuracy",
        metric_name="top-1 accuracy, percent",
        metric_value=round(100 - card.test_error, 4),
    )


def _text(card, repository):
    height, width, channels = card.image_shape
    arguments = ", ".join(f"{key}={value!r}" for key, value in card.arguments.items())
    facts = {
        **(_measured(card) if card.origin is None else _converted(card)),
        "network": f"`{card.architecture}`" + (f" with {arguments}" if arguments else ""),
        "parameters": f"{card.parameters:,}",
        "pictures": f"{height} x {width} x {channels}, raw pixels from 0 to 255",
        "classes": ", ".join(card.class_names) if len(card.class_names) <= 20 else f"{len(card.class_names)}",
    }
    rows = "\n".join(f"| {key} | {value} |" for key, value in facts.items())
    return f"""# {card.name}

A residual network in Keras 3. Version {card.version}.

| | |
| --- | --- |
{rows}

```python
import keras_resv2  # beside huggingface_hub

model = keras_resv2.from_pretrained("hf://{repository}")
probabilities = model.predict(pixels)  # (batch, {height}, {width}, {channels}), 0 to 255
```

`card.json` says all that is known of the file; loading verifies its SHA-256.
"""


def _measured(card):
    paper = "none" if card.paper_error is None else f"{card.paper_error:.2f} % ({card.paper})"
    return {
        "test error": f"{card.test_error:.2f} % of {card.test_images:,} images, one view per image",
        "the paper's": paper,
        "median over seeds": f"{card.median_error:.2f} % of {len(card.seed_errors)} runs",
        "trained by": f"`{card.command}`, {card.steps:,} steps, {card.wall_seconds / 60:.0f} min on {card.hardware}",
    }


def _converted(card):
    return {
        "test error": "not measured" if card.test_error is None else f"{card.test_error:.2f} %",
        "made from": ", ".join(f"{key}: {value}" for key, value in card.origin.items() if value),
    }
