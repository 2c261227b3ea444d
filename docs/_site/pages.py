"""Pages generated from the repository: the zoo from the cards, tables, READMEs, the command line."""

import contextlib
import io
import pathlib
import re
import sys

import mkdocs_gen_files

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "docs/_site")]  # train/ is not installed

from network import CACHE, network_files  # noqa: E402
from notebooks import notebook_files  # noqa: E402

from keras_resv2.architectures import ARCHITECTURES  # noqa: E402
from keras_resv2.cli import COMMANDS, main  # noqa: E402
from keras_resv2.hub.readme import facts  # noqa: E402
from keras_resv2.pretrained import list_pretrained, pretrained_card  # noqa: E402
from train.paper_tables.comparison import compare  # noqa: E402
from train.paper_tables.figures import TABLES  # noqa: E402
from train.paper_tables.report import as_markdown  # noqa: E402
from train.paper_tables.results import collect  # noqa: E402

CURVE = "curve.png"
API = {
    "networks": ("Networks", [
        "keras_resv2.resnet.ResNet", "keras_resv2.architectures.list_architectures",
        "keras_resv2.builders.build", "keras_resv2.resnet.features", "keras_resv2.resnet.feature_info",
        "keras_resv2.resnet.Feature", "keras_resv2.shortcuts", "keras_resv2.models.batch_norm.BatchNormalization",
        "keras_resv2.models.folding.fold", "keras_resv2.models.batch_norm.to_stock_layers",
        "keras_resv2.models.flops.count_multiply_adds", "keras_resv2.models.diagram.network_svg",
        "keras_resv2.models.graph.deep_graph", "keras_resv2.optimizers.SGD",
    ]),
    "pretrained": ("Pretrained weights", [
        "keras_resv2.pretrained.from_pretrained", "keras_resv2.pretrained.list_pretrained",
        "keras_resv2.pretrained.pretrained_card", "keras_resv2.storage.card.Card",
        "keras_resv2.labels.decode_predictions", "keras_resv2.storage.weight_file.save_weights",
        "keras_resv2.storage.weight_file.load_weights", "keras_resv2.storage.weight_file.read_weights",
        "keras_resv2.evaluation.measure_error",
    ]),
    "data": ("Data", [
        "keras_resv2.data.images.read_image", "keras_resv2.data.images.prepare_images",
        "keras_resv2.data.folders.read_folder", "keras_resv2.data.folders.ImageFolder",
        "keras_resv2.data.registry.Dataset",
        "keras_resv2.data.registry.find_dataset", "keras_resv2.data.arrays.open_dataset",
        "keras_resv2.data.arrays.load_split", "keras_resv2.data.splits.split_images",
    ]),
    "transfer": ("Transfer learning", [
        "keras_resv2.transfer.fine_tuning.fine_tune", "keras_resv2.transfer.fine_tuning.FineTuned",
        "keras_resv2.transfer.freezing.freeze", "keras_resv2.transfer.freezing.unfreeze",
        "keras_resv2.transfer.weight_folder.save_weight_folder",
        "keras_resv2.embedding.embed", "keras_resv2.embedding.nearest_neighbors",
    ]),
    "analysis": ("Analysis", [
        "keras_resv2.analysis.propagation.propagate", "keras_resv2.analysis.propagation.Propagation",
        "keras_resv2.analysis.lesions.delete_each", "keras_resv2.analysis.lesions.Deletions",
        "keras_resv2.analysis.lesions.delete_random", "keras_resv2.analysis.lesions.RandomDeletions",
        "keras_resv2.analysis.lesions.reorder", "keras_resv2.analysis.lesions.Reorderings",
        "keras_resv2.analysis.lesions.kendall_tau", "keras_resv2.analysis.paths.paths_by_length",
        "keras_resv2.analysis.paths.path_gradients", "keras_resv2.analysis.paths.PathGradients",
        "keras_resv2.analysis.paths.share_left", "keras_resv2.analysis.dissection.dissect",
        "keras_resv2.analysis.dissection.Dissection",
        "keras_resv2.analysis.grad_cam.grad_cam", "keras_resv2.analysis.grad_cam.GradCam",
        "keras_resv2.analysis.plots.draw_propagation", "keras_resv2.analysis.plots.draw_deletions",
        "keras_resv2.analysis.plots.draw_random_deletions", "keras_resv2.analysis.plots.draw_reorderings",
        "keras_resv2.analysis.plots.draw_paths", "keras_resv2.analysis.plots.draw_grad_cam",
    ]),
    "convert": ("Conversion", [
        "keras_resv2.convert.detection.from_pytorch", "keras_resv2.convert.detection.from_keras_applications",
        "keras_resv2.convert.detection.detect", "keras_resv2.convert.detection.Detected",
        "keras_resv2.convert.pytorch_writer.to_pytorch",
        "keras_resv2.convert.pytorch_writer.save_pytorch",
    ]),
    "export": ("Export", ["keras_resv2.exporting.exporter.export", "keras_resv2.exporting.exporter.Exported"]),
    "hub": ("Hub", ["keras_resv2.hub.download.pull", "keras_resv2.hub.upload.push"]),
}  # fmt: skip


def write(path, text):
    """Writes a page of the site."""
    with mkdocs_gen_files.open(path, "w") as file:
        file.write(text)


def from_repository(path, title=None):
    """Returns a Markdown file of the repository, with another title."""
    text = (ROOT / path).read_text()
    return re.sub(r"\A# .*", f"# {title}", text) if title else text


def builders():
    """Returns the named networks as a table, for the end of their reference."""
    rows = "\n".join(
        f"| `{row.builder}` | {row.depth} | {row.width} | `{row.activation}` | {row.source} |"
        for row in ARCHITECTURES.values()
    )
    return (
        '\n## Builders\n\nEach takes the arguments of `ResNet` except `depth`, and `weights="cifar10"` where weights '
        "are published.\n\n| builder | depth of `ResNet` | width | activation | source |\n"
        "| --- | ---: | ---: | --- | --- |\n" + rows + "\n"
    )


def zoo(cards):
    """Returns the page with the table of pretrained networks."""
    lines = [
        "---", "hide: [toc]", "---", "", "# Pretrained networks", "",
        "Test errors were measured on the published files: at the end of training, in percent, float32, one view per "
        "image. Click a column to sort.", "",
        '<div class="sortable" markdown>', "",
        "| name | dataset | error (%) | parameters | MB | recipe | steps | curve |",
        "| --- | --- | ---: | ---: | ---: | --- | ---: | --- |",
    ]  # fmt: skip
    for card in cards:
        page = f"zoo/{card.name}-{card.version}.md"
        curve = f"[curve]({page}#curve)" if has_curve(card) else ""
        lines.append(
            f"| [`{card.full_name}`]({page}) | {card.dataset} | {card.test_error:.2f} | {card.parameters:,} | "
            f"{card.size / 1e6:.1f} | `{card.recipe}` | {card.steps:,} | {curve} |"
        )
    return "\n".join([*lines, "", "</div>", "", *imagenet()])


def imagenet():
    """Returns the lines of the table of ImageNet weights, which their authors trained."""
    lines = [
        "## ImageNet", "",
        "Downloaded from their authors and converted on first use, see [ImageNet weights](imagenet.md). Errors are "
        "those that the authors report, in percent, with the fraction of the resized image that the crop shows. "
        "Third-party weights for CIFAR are in [Convert](convert.md#cifar-weights-by-name).", "",
        '<div class="sortable" markdown>', "",
        "| name | reported error (%) | crop | parameters | from | extra |", "| --- | ---: | ---: | ---: | --- | --- |",
    ]  # fmt: skip
    for card in map(pretrained_card, list_pretrained("*-imagenet")):
        origin = card.origin
        error, crop = origin.get("reported_error"), origin.get("crop_pct")
        source = f"`hf://{origin['hub']}`" if "hub" in origin else f"`{origin['file']}`"
        extra = "`hub`" if "hub" in origin else "`convert`" if origin["file"].endswith(".pth") else ""
        lines.append(
            f"| `{card.name}` | {'-' if error is None else f'{error:.2f}'} | {crop or '-'} | {card.parameters:,} | "
            f"{source} | {extra} |"
        )
    return [*lines, "", "</div>", ""]


def has_curve(card):
    return (card.folder / CURVE).exists()


def card_page(card):
    """Returns the page of one weight file: the facts of its README on the Hub, and more."""
    rows = {
        **facts(card),
        "recipe": f"`{card.recipe}`",
        "commit": f"`{card.commit}`, {card.backend}",
        "file": f"{card.size / 1e6:.1f} MB, SHA-256 `{card.sha256}`",
    }
    rows = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    image = f"curves/{card.name}-{card.version}.png"
    curve = f"\n## Curve\n\n![Training loss and test error of {card.full_name}]({image})\n"
    return f"""# {card.full_name}

```python
model = keras_resv2.from_pretrained("{card.full_name}")
```

| | |
| --- | --- |
{rows}
{details(card)}{curve if has_curve(card) else ""}
## Limitations

The network assigns every image to one of the {len(card.class_names)} classes of {card.dataset}, whatever it
shows. Its error on other images, of other sizes or sources, is higher: measure it on yours.
"""


def details(card):
    """Returns the results of `evaluate --full`, if the card has them."""
    found = card.details
    if not found:
        return ""
    rows = zip(card.class_names, found["class_errors"], strict=True)
    return "\n".join([
        "", "## Errors and calibration", "",
        f"- negative log-likelihood {found['negative_log_likelihood']:.3f}",
        f"- expected calibration error (15 bins) {found['calibration_error']:.3f}",
        f"- test error on the same images as JPEG of quality 75: {found['jpeg_error']:.2f} %", "",
        "| class | error (%) |", "| --- | ---: |", *(f"| {name} | {error:.1f} |" for name, error in rows), "",
    ])  # fmt: skip


def papers():
    """Returns the page that compares the papers' tables with our results."""
    runs = collect(ROOT / "weights", ROOT / "train" / "results")
    parts = ["# The papers' tables", "", "Ours beside theirs; cells that no run reproduces come with the command."]
    for name in TABLES:
        text = as_markdown(compare(name, runs))
        title, _, rest = text.partition("\n")
        parts += ["", f"## {title.partition(': test error')[0]}", "", rest.strip()]
    return "\n".join(parts) + "\n"


def command_line():
    """Returns the page with the help of every command, as it is printed."""
    parts = ["# Commands", "", "What `keras-resv2 COMMAND --help` prints."]
    for words in [[], *([name] for name in COMMANDS)]:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
            main([*words, "--help"])
        parts += ["", f"## keras-resv2 {' '.join(words)}".rstrip(), "", "```text", printed.getvalue().rstrip(), "```"]
    return "\n".join(parts) + "\n"


def cite():
    """Returns the page with the README's citations."""
    text = (ROOT / "README.md").read_text()
    return "# Cite\n\n" + text.partition("## Cite\n")[2].partition("\n## ")[0].strip() + "\n"


def api(title, names, more=""):
    """Returns a page of the reference."""
    return "\n".join([f"# {title}", "", *(f"::: {name}\n" for name in names), more])


cards = [card for card in map(pretrained_card, list_pretrained(versions=True)) if card.origin is None]
write("zoo.md", zoo(cards))
for card in cards:
    write(f"zoo/{card.name}-{card.version}.md", card_page(card))
    if has_curve(card):
        with mkdocs_gen_files.open(f"zoo/curves/{card.name}-{card.version}.png", "wb") as file:
            file.write((card.folder / CURVE).read_bytes())
write("papers.md", papers())
write("training.md", from_repository("train/README.md", "Train and reproduce"))
write("benchmarks.md", from_repository("benchmarks/RESULTS.md", "Benchmarks"))
write("benchmarking.md", from_repository("benchmarks/README.md", "Run the benchmarks"))
write("changelog.md", from_repository("CHANGELOG.md"))
write("cite.md", cite())
write("api/commands.md", command_line())
for page, (title, names) in API.items():
    write(f"api/{page}.md", api(title, names, builders() if page == "networks" else ""))
for path, content in [*network_files(), *notebook_files(CACHE)]:
    with mkdocs_gen_files.open(path, "wb") as file:
        file.write(content)
