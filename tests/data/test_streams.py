"""Images from disk: crops compared with their definition, a reproducible stream, and tfds' own reader."""

import io
import itertools
import math
import os
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
from PIL import Image

import keras_resv2
from helpers.paths import ROOT
from keras_resv2.data import crops, streaming
from keras_resv2.data.images import FILTERS
from keras_resv2.data.sources import open_source
from keras_resv2.data.tfds_records import TFRecords
from keras_resv2.evaluation import measure_streamed_error
from train.data import image_files, image_stream


def encoded(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def shapes(width, height, seed):
    """A smooth image with random colors."""
    few = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype="uint8")
    return Image.fromarray(few).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """13 training images, each of its own class, and 7 test images, with several sizes and modes."""
    root = tmp_path_factory.mktemp("images")
    for i in range(13):
        (root / f"train/class{i:02d}").mkdir(parents=True)
        mode = ("RGB", "L", "CMYK", "RGB")[i % 4]
        shapes(60 + 17 * i, 150 - 7 * i, i).convert(mode).save(root / f"train/class{i:02d}/a.jpeg", quality=90)
    for i in range(7):
        (root / f"val/class{2 * i % 13:02d}").mkdir(parents=True)
        shapes(40 + 9 * i, 50, 100 + i).save(root / f"val/class{2 * i % 13:02d}/b.PNG")
    (root / "train/class00/notes.txt").write_text("no image")
    (root / "train/class00/.hidden.jpeg").write_text("no image")
    (root / "val/README").write_text("no class")
    return root


@pytest.fixture(scope="module")
def source(folder):
    return open_source("folder", folder, "train")


def boxes_by_definition(width, height, rng, count):
    """Uniform area and log-uniform aspect ratio, in whole pixels, drawn until they fit: (share, aspect, left, top)."""
    area = rng.uniform(0.08, 1, 20 * count) * width * height
    aspect = np.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3), 20 * count))
    w, h = np.round(np.sqrt(area * aspect)), np.round(np.sqrt(area / aspect))
    fits = np.flatnonzero((w <= width) & (h <= height))[:count]
    left, top = (np.floor(rng.random(count) * (edge - size[fits] + 1)) for edge, size in ((width, w), (height, h)))
    return np.stack([(w * h)[fits] / (width * height), (w / h)[fits], left, top])


def boxes_of_torchvision(width, height, rng, count):
    import torch
    from torchvision.transforms import RandomResizedCrop

    torch.manual_seed(0)
    image = torch.zeros(3, height, width)
    drawn = [RandomResizedCrop.get_params(image, (0.08, 1.0), (3 / 4, 4 / 3)) for _ in range(count)]
    top, left, h, w = np.transpose(drawn).astype(float)
    return np.stack([w * h / (width * height), w / h, left, top])


def assert_boxes_are_distributed_as(reference, width, height):
    """Kolmogorov-Smirnov; 0.037 is the 0.1 % level of two samples of 6,000."""
    stats = pytest.importorskip("scipy.stats", reason="SciPy is not installed")
    count, rng = 6000, np.random.default_rng(0)
    expected = reference(width, height, rng, count)
    left, top, right, bottom = np.transpose([image_files.random_box(width, height, rng) for _ in range(count)])
    w, h = right - left, bottom - top
    for found, of_reference in zip((w * h / (width * height), w / h, left, top), expected, strict=True):
        assert stats.ks_2samp(found, of_reference).statistic < 0.037


@pytest.mark.parametrize("width, height", [(500, 375), (240, 400)])
def test_boxes_are_distributed_as_defined(width, height):
    assert_boxes_are_distributed_as(boxes_by_definition, width, height)


@pytest.mark.parametrize("width, height", [(500, 375), (240, 400)])
def test_boxes_are_distributed_as_torchvisions(torchvision, width, height):
    assert_boxes_are_distributed_as(boxes_of_torchvision, width, height)


def test_boxes_keep_to_their_bounds():
    rng = np.random.default_rng(0)
    for width, height in ((500, 375), (91, 640), (33, 32)):
        for _ in range(2000):
            left, top, right, bottom = image_files.random_box(width, height, rng)
            w, h = right - left, bottom - top
            assert 0 <= left < right <= width and 0 <= top < bottom <= height
            # Edges are rounded to pixels: half a pixel either way.
            assert (w + 0.5) * (h + 0.5) >= 0.08 * width * height or w == h == min(width, height)
            assert (w + 0.5) / (h - 0.5) >= 3 / 4 and (w - 0.5) / (h + 0.5) <= 4 / 3


def test_where_no_box_fits_it_is_the_square_in_the_middle():
    assert image_files.random_box(1000, 11, np.random.default_rng(0)) == (494, 0, 505, 11)
    assert image_files.random_box(1, 40, np.random.default_rng(0)) == (0, 20, 1, 21)


def test_random_crops_are_boxes_scaled_and_mirrored():
    """In an image whose colors are coordinates, a crop reveals its box."""
    x, y = np.meshgrid(np.arange(250), np.arange(200))
    file = encoded(Image.fromarray(np.stack([x, y, 0 * x], -1).astype("uint8")))
    shares, mirrored = [], 0
    for seed in range(300):
        crop = image_files.random_crop(file, 32, np.random.default_rng(seed)).astype(float)
        left, top, right, bottom = image_files.random_box(250, 200, np.random.default_rng(seed))
        across, down = crop[:, :, 0].mean(0), crop[:, :, 1].mean(1)
        mirrored += across[0] > across[-1]
        across = np.sort(across)
        middles = (np.arange(32) + 0.5) / 32
        np.testing.assert_allclose(across[2:-2], (left + middles * (right - left) - 0.5)[2:-2], atol=1)
        np.testing.assert_allclose(down[2:-2], (top + middles * (bottom - top) - 0.5)[2:-2], atol=1)
        shares.append((right - left) * (bottom - top) / 50_000)
    assert 120 < mirrored < 180  # 3.5 standard deviations about one half
    assert min(shares) < 0.12 and max(shares) > 0.9


@pytest.mark.parametrize(
    "width, height, rows, columns", [(341, 256, (16, 240), (58, 282)), (256, 300, (38, 262), (16, 240))]
)
def test_center_crop_of_an_image_of_the_right_size_is_a_slice(width, height, rows, columns):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype="uint8")
    crop = crops.center_crop(encoded(Image.fromarray(pixels)), 256, 224)
    np.testing.assert_array_equal(crop, pixels[slice(*rows), slice(*columns)])


@pytest.mark.parametrize("size, start", [(224, (16, 144)), (256, (0, 128))])
def test_center_crop_is_scaling_then_slicing(size, start):
    image = shapes(1000, 500, seed=0)
    scaled = np.asarray(image.resize((512, 256), Image.Resampling.BILINEAR)).astype(int)
    expected = scaled[start[0] : start[0] + size, start[1] : start[1] + size]
    assert np.abs(crops.center_crop(encoded(image), 256, size) - expected).max() <= 1


@pytest.mark.parametrize("size", [(300, 260), (97, 131), (224, 500)])
@pytest.mark.parametrize("name, crop", [("bicubic", 0.95), ("bilinear", 0.875), ("bicubic", 1.0)])
def test_read_image_crops_as_the_evaluation_does(size, name, crop, tmp_path):
    """Also as timm's transform, which resizes first and crops afterwards."""
    image = photograph(size)
    image.save(tmp_path / "image.png")
    read = keras_resv2.read_image(tmp_path / "image.png", (64, 64), crop, name)
    side = math.floor(64 / crop)
    if crop < 1:
        assert np.abs(read.astype(int) - crops.center_crop(encoded(image), side, 64, name)).max() <= 1
    width, height = (round(edge * side / min(size)) for edge in size)
    resized = image.resize((width, height), FILTERS[name])
    left, top = round((width - 64) / 2), round((height - 64) / 2)
    expected = np.asarray(resized.crop((left, top, left + 64, top + 64)), int)
    assert np.abs(read - expected).mean() < 2.5  # half a pixel of the resized image, at most
    assert keras_resv2.read_image(tmp_path / "image.png", (32, 64), crop, name).shape == (32, 64, 3)


def photograph(size):
    """A smooth image of `size` (width, height)."""
    x, y = np.meshgrid(np.linspace(0, 3, size[0]), np.linspace(0, 2, size[1]))
    waves = [np.sin(3 * x + y), np.cos(2 * x - 3 * y), np.sin(x * y)]
    return Image.fromarray((127 * (np.stack(waves, -1) + 1)).astype("uint8"))


@pytest.mark.parametrize(
    "name, crop, interpolation",
    [
        ("resnet18-imagenet", 0.95, "bicubic"), ("resnet50_tv2-imagenet", 0.965, "bilinear"),
        ("resnet50-imagenet", 0.875, "bilinear"), ("resnet20-cifar10", 1.0, "bicubic"),
    ],
)  # fmt: skip
def test_image_options_of_cards(name, crop, interpolation):
    card = keras_resv2.pretrained_card(name)
    assert card.image_options == {"size": card.image_shape[:2], "crop": crop, "interpolation": interpolation}


@pytest.mark.parametrize("options", [dict(crop=0), dict(crop=1.1), dict(interpolation="nearest")])
def test_crops_that_do_not_exist(options, tmp_path):
    photograph((40, 30)).save(tmp_path / "image.png")
    with pytest.raises(ValueError, match=next(iter(options))):
        keras_resv2.read_image(tmp_path / "image.png", (32, 32), **options)


def test_every_mode_becomes_rgb():
    image = shapes(80, 64, seed=1)

    def crop(changed, *args, **options):
        return crops.center_crop(encoded(changed, *args, **options), 64, 64).astype(int)

    colors, grey = crop(image), np.asarray(image.convert("L"))[:, 8:72]
    np.testing.assert_array_equal(colors, np.asarray(image)[:, 8:72])
    np.testing.assert_array_equal(crop(image.convert("L")), np.repeat(grey[:, :, None], 3, 2))
    np.testing.assert_array_equal(crop(image.convert("RGBA")), colors)
    assert np.abs(crop(image.convert("CMYK"), "JPEG", quality=98, subsampling=0) - colors).mean() < 2
    few = image.quantize(16)
    np.testing.assert_array_equal(crop(few), np.asarray(few.convert("RGB"))[:, 8:72])
    sixteen = Image.fromarray(np.asarray(image.convert("L")).astype("uint16") * 257)
    np.testing.assert_array_equal(crop(sixteen), np.repeat(grey[:, :, None], 3, 2))


def test_orientation_of_jpeg_files_is_ignored():
    image, exif = shapes(90, 64, seed=2), Image.Exif()
    exif[0x0112] = 6
    turned = encoded(image, "JPEG", exif=exif)
    assert Image.open(io.BytesIO(turned)).getexif()[0x0112] == 6
    plain = crops.center_crop(encoded(image, "JPEG"), 64, 64)
    np.testing.assert_array_equal(crops.center_crop(turned, 64, 64), plain)


def test_decoding_large_jpeg_files_at_a_fraction_is_not_noticeable():
    """Compares with the same pixels as a PNG file, which is decoded completely."""
    samples = pytest.importorskip("sklearn.datasets", reason="scikit-learn is not installed").load_sample_images()
    for pixels in samples.images:
        jpeg = encoded(Image.fromarray(pixels).resize((2560, 1708), Image.Resampling.LANCZOS), "JPEG", quality=90)
        png = encoded(Image.open(io.BytesIO(jpeg)), compress_level=0)
        for crop in (
            lambda file: crops.center_crop(file, 256, 224),
            lambda file: image_files.random_crop(file, 224, np.random.default_rng(1)),
        ):
            difference = np.abs(crop(jpeg).astype(int) - crop(png))
            assert 0 < difference.mean() < 0.5 and difference.max() <= 10, "0 where it was decoded whole"


def test_folder_source(folder, source):
    """Classes and files in sorted order; other files are ignored; both splits use the training classes as labels."""
    assert source.class_names == tuple(f"class{i:02d}" for i in range(13)) and len(source) == 13
    assert [int(source[i][1]) for i in range(13)] == list(range(13))
    assert source[4][0] == (folder / "train/class04/a.jpeg").read_bytes()
    test = open_source("folder", folder, "test")
    assert test.class_names == source.class_names
    assert [int(test[i][1]) for i in range(7)] == [0, 2, 4, 6, 8, 10, 12]
    assert test.place(1) == str(folder / "val/class02/b.PNG")


def test_cached_sources_read_once(tmp_path):
    (tmp_path / "train/a").mkdir(parents=True)
    shapes(20, 20, 0).save(tmp_path / "train/a/1.png")
    source = open_source("folder", tmp_path, "train", cache=True)
    first = source[0]
    (tmp_path / "train/a/1.png").unlink()
    assert source[0] == first and source.class_names == ("a",) and len(source) == 1


def some(stream, first, count):
    """Images and labels of a few batches."""
    batches = stream.batches(first)
    found = list(itertools.islice(batches, count))
    batches.close()
    return found


@pytest.fixture(scope="module")
def one_by_one(source):
    """Nine batches of five, compared with images decoded one by one."""
    images, labels = zip(*some(image_stream.TrainStream(source, 1, 24, seed=3, workers=1), 0, 45), strict=True)
    return np.stack(images).reshape(9, 5, 24, 24, 3), np.stack(labels).reshape(9, 5)


@pytest.mark.parametrize("workers", [None, 1, 7])
def test_the_number_of_workers_changes_nothing(workers, source, one_by_one):
    found = some(image_stream.TrainStream(source, 5, 24, seed=3, workers=workers), 0, 9)
    assert {(x.dtype.name, y.dtype.name, x.shape) for x, y in found} == {("uint8", "int32", (5, 24, 24, 3))}
    np.testing.assert_array_equal([images for images, _ in found], one_by_one[0])
    np.testing.assert_array_equal([labels for _, labels in found], one_by_one[1])


def test_resuming_continues_the_stream(source, one_by_one):
    (images, labels), _ = some(image_stream.TrainStream(source, 5, 24, seed=3), 7, 2)
    np.testing.assert_array_equal(images, one_by_one[0][7])
    np.testing.assert_array_equal(labels, one_by_one[1][7])


def test_the_size_of_the_crops_changes_between_steps(source):
    """As streams of each size; plain images have the last one."""
    sizes = [(0, 3, 16), (3, 5, 20), (5, 6, 24)]
    stream = image_stream.TrainStream(source, 5, sizes, seed=3)
    by_size = {size: some(image_stream.TrainStream(source, 5, size, seed=3), 0, 8) for size in (16, 20, 24)}
    expected = [by_size[size][step] for step, size in enumerate([16, 16, 16, 20, 20, 24, 24, 24])]
    for first in (0, 4, 6):
        for found, wanted in zip(some(stream, first, 8 - first), expected[first:], strict=True):
            np.testing.assert_array_equal(found[0], wanted[0])
            np.testing.assert_array_equal(found[1], wanted[1])
    np.testing.assert_array_equal(next(stream.plain_images()), by_size[24][0][0])


def test_processes_share_a_batch(source):
    """Two halves of each batch are the batch."""
    whole = some(image_stream.TrainStream(source, 6, 16, seed=3), 2, 3)
    parts = [image_stream.TrainStream(source, 6, 16, seed=3, part=(i, 2)) for i in range(2)]
    halves = [some(part, 2, 3) for part in parts]
    for (images, labels), (first, first_labels), (second, second_labels) in zip(whole, *halves, strict=True):
        np.testing.assert_array_equal(np.concatenate([first, second]), images)
        np.testing.assert_array_equal(np.concatenate([first_labels, second_labels]), labels)


def test_every_epoch_has_every_image_once(source):
    """The source is not a multiple of the batch size; labels identify the images."""
    stream = image_stream.TrainStream(source, 5, 8, seed=0)
    assert stream.images_per_epoch == 13
    seen = np.concatenate([labels for _, labels in some(stream, 0, 8)])[:39].reshape(3, 13)
    assert all(sorted(epoch) == list(range(13)) for epoch in seen)
    assert len({tuple(epoch) for epoch in seen}) == 3
    other = np.concatenate([labels for _, labels in some(image_stream.TrainStream(source, 5, 8, seed=1), 0, 3)])[:13]
    assert tuple(other) != tuple(seen[0])


def test_an_image_is_cropped_differently_in_every_epoch(tmp_path):
    """Thirty epochs of a single image."""
    (tmp_path / "train/only").mkdir(parents=True)
    shapes(90, 70, 0).save(tmp_path / "train/only/1.png")
    source = open_source("folder", tmp_path, "train")
    ((images, _),) = some(image_stream.TrainStream(source, 30, 16, seed=0), 0, 1)
    assert len({image.tobytes() for image in images}) == 30


def test_what_the_engine_needs(source):
    stream = image_stream.TrainStream(source, 4, 16, seed=0)
    assert (
        stream.augment(stream.device_data, 1, 2) == (1, 2)
        and stream.device_data == ()
        and stream.max_steps_per_dispatch == 4
    )
    assert stream.speed(steps=3) > 1


def test_measured_error(tmp_path):
    """Eleven images labelled by their strongest color, four of them wrongly; only their centers matter."""
    named = [0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1]
    strongest = [0, 1, 2, 0, 2, 1, 0, 1, 0, 1, 1]
    for i, (label, color) in enumerate(zip(named, strongest, strict=True)):
        pixels = np.full((40, 60 + i, 3), 255, "uint8")
        pixels[5:35, 14:-14] = np.eye(3, dtype="uint8")[color] * 150
        for split in ("train", "test"):
            (tmp_path / split / "rgb"[label]).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / split / "rgb"[label] / f"{i}.png")
    # Sorted class names are b, g, r: the model's scores are the colors in that order.
    inputs = keras.Input((14, 14, 3))
    model = keras.Model(inputs, keras.ops.flip(keras.layers.GlobalAveragePooling2D()(inputs), axis=-1))
    source = open_source("folder", tmp_path, "test")
    assert measure_streamed_error(model, source, 20, 14, batch_size=4) == pytest.approx(400 / 11)
    with pytest.raises(ValueError, match="does not fit"):
        measure_streamed_error(model, source, 20, 24)


@pytest.fixture(scope="module")
def imagenette(tmp_path_factory):
    """A function that prepares "imagenette" with tensorflow-datasets, of twelve and five images, in a format."""
    tfds = pytest.importorskip("tensorflow_datasets", reason="tensorflow-datasets is not installed")
    official = tfds.builder_cls("imagenette")
    files = tmp_path_factory.mktemp("files")
    for i in range(12):
        shapes(50 + i, 40, i).save(files / f"{i}.jpeg")

    def prepare(file_format, variant="full-size-v2", counts=(("train", 12), ("validation", 5))):
        with tfds.core.registered.skip_registration():

            class Imagenette(official):
                pkg_dir_path = official.pkg_dir_path

                def _split_generators(self, dl_manager):
                    return {split: self._examples(count) for split, count in counts}

                def _examples(self, count):
                    for i in range(count):
                        yield i, {"image": str(files / f"{i}.jpeg"), "label": i % 10}

        folder = tmp_path_factory.mktemp("tfds")
        builder = Imagenette(config=variant, data_dir=str(folder), file_format=file_format)
        config = tfds.download.DownloadConfig(num_shards=3)
        builder.download_and_prepare(download_config=config)
        return folder, builder

    return prepare


@pytest.mark.parametrize("file_format", ["tfrecord", "array_record"])
def test_tfds_directories_hold_what_tfds_reads(file_format, imagenette):
    """Bytes, labels and their order against tensorflow-datasets' own reading."""
    import tensorflow_datasets as tfds

    folder, builder = imagenette(file_format)
    for split, official, count in (("train", "train", 12), ("test", "validation", 5)):
        source = open_source("imagenette", folder, split)
        expected = (
            builder.as_data_source(official)
            if file_format == "array_record"
            else tfds.as_numpy(
                builder.as_dataset(official, decoders={"image": tfds.decode.SkipDecoding()}, shuffle_files=False)
            )
        )
        found = [source[i] for i in range(len(source))]
        assert len(found) == count and {type(file) for file, _ in found} == {bytes}
        for (file, label), example in zip(found, expected, strict=True):
            assert label == example["label"]
            if file_format == "tfrecord":
                assert file == example["image"]
            else:
                np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(file))), example["image"])
        assert source.class_names == tuple(builder.info.features["label"].names) and len(source.class_names) == 10
        assert "full-size-v2" in source.name


def test_tfds_records_train(imagenette):
    """All twelve once per epoch."""
    source = open_source("imagenette", imagenette("tfrecord")[0], "train")
    first = some(image_stream.TrainStream(source, 6, 16, seed=0), 0, 3)
    assert sorted(np.concatenate([labels for _, labels in first[:2]])) == sorted(i % 10 for i in range(12))


def test_larger_images_and_newer_versions_come_first(imagenette):
    folder, _ = imagenette("tfrecord", "160px-v2")
    assert "160px-v2" in open_source("imagenette", folder, "train").name
    larger, _ = imagenette("tfrecord")
    (larger / "imagenette/full-size-v2").rename(folder / "imagenette/full-size-v2")
    assert "full-size-v2" in open_source("imagenette", folder, "train").name
    (folder / "imagenette/full-size-v2").rename(folder / "imagenet2012")
    assert len(open_source("imagenet2012", folder, "test")) == 5
    newer, _ = imagenette("tfrecord", counts=(("train", 12), ("validation", 9)))
    (newer / "imagenette/full-size-v2/1.0.0").rename(folder / "imagenet2012/1.1.0")
    (folder / "imagenet2012/1.1.0.incompleteAB12CD").mkdir()
    assert len(open_source("imagenet2012", folder, "test")) == 9


def test_damaged_and_half_prepared_tfds_directories(imagenette):
    folder, _ = imagenette("tfrecord", counts=(("train", 12),))
    with pytest.raises(ValueError, match="without the split 'validation'"):
        open_source("imagenette", folder, "test")
    shard = max(folder.rglob("*.tfrecord-00002-of-00003"))
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-9])
    with pytest.raises(ValueError, match=f"{shard.name}.* ends within a record"):
        open_source("imagenette", folder, "train")
    shard.write_bytes(b"")
    with pytest.raises(ValueError, match=r"\d records, not 12"):
        open_source("imagenette", folder, "train")
    length = int.from_bytes(whole[:8], "little")
    shard.write_bytes(whole[:12] + b"\xff" * length + whole[12 + length :])
    source = open_source("imagenette", folder, "train")
    with pytest.raises(ValueError, match=r"train, record \d+ is damaged"):
        [source[i] for i in range(len(source))]


@pytest.mark.parametrize("dataset, words", [("imagenet2012", "ILSVRC2012_img_train.tar"), ("imagenette", "tfds build")])
def test_absent_tfds_datasets_say_where_to_get_them(dataset, words, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=words):
        open_source(dataset, tmp_path, "train")
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(ImportError, match="needs tensorflow-datasets"):
        open_source(dataset, tmp_path, "train")


@pytest.mark.parametrize(
    "files, split, words",
    [
        (["val/a/1.png"], "train", "does not contain a folder train/"),
        (["train/1.png"], "train", "contains no class folders"),
        (["train/a/1.png", "train/b/notes.txt"], "train", "class folder .*b contains no images"),
        (["train/a/1.png"], "test", "needs a folder test/ or val/"),
        (["train/a/1.png", "test/b/1.png"], "test", "contains b, not one of the classes a"),
        (["train/a/1.png", "validation/1.png"], "test", "contains no class folders"),
    ],
)
def test_bad_folders(files, split, words, tmp_path):
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        shapes(8, 8, 0).save(tmp_path / file, "PNG")
    with pytest.raises(ValueError, match=words) as raised:
        open_source("folder", tmp_path, split)
    assert "\n" not in str(raised.value)


def test_bad_arguments(folder, source):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        open_source("folder", folder / "nowhere", "train")
    with pytest.raises(ValueError, match="needs a data_dir"):
        open_source("folder", None, "train")
    with pytest.raises(ValueError, match="'imagenette'"):
        open_source("imagenet", folder, "train")
    with pytest.raises(ValueError, match="'train', 'test'"):
        open_source("folder", folder, "validation")


@pytest.mark.parametrize("content", [b"", b"no image", encoded(shapes(99, 99, 0), "JPEG")[:900]])
def test_a_image_that_cannot_be_read_is_named(content, tmp_path):
    for i in range(6):
        (tmp_path / "train/a").mkdir(parents=True, exist_ok=True)
        shapes(40, 40, i).save(tmp_path / f"train/a/{i}.jpg")
    (tmp_path / "train/a/3.jpg").write_bytes(content)
    stream = image_stream.TrainStream(open_source("folder", tmp_path, "train"), 2, 16, 0)
    with pytest.raises(ValueError, match=r"3\.jpg is not a readable image") as raised:
        some(stream, 0, 3)
    assert "\n" not in str(raised.value)


STREAM_WITHOUT = """
import sys
from keras_resv2.data.images import FILTERS
from keras_resv2.data.sources import open_source
from train.data import image_stream

stream = image_stream.TrainStream(open_source("folder", sys.argv[1], "train"), 4, 16, seed=0)
print(next(stream.batches(0))[0].shape, [name for name in ("tensorflow", "tensorflow_datasets") if name in sys.modules])
"""


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_folders_on_other_backends_import_neither_tensorflow_nor_tfds(backend, folder):
    pytest.importorskip(backend, reason=f"{backend} is not installed")
    done = subprocess.run(
        [sys.executable, "-c", STREAM_WITHOUT, str(folder)],
        capture_output=True, text=True, cwd=ROOT, env={**os.environ, "KERAS_BACKEND": backend},
    )  # fmt: skip
    assert done.stdout.strip() == "(4, 16, 16, 3) []", done.stderr[-2000:]


def test_records_of_tfrecord_files_against_tensorflow(tmp_path):
    tf = pytest.importorskip("tensorflow", reason="TensorFlow is not installed")
    contents = [[b"one", b"", b"x" * 1000], [], [b"four"]]
    for name, records in zip("abc", contents, strict=True):
        with tf.io.TFRecordWriter(str(tmp_path / name)) as writer:
            for record in records:
                writer.write(record)
    records = TFRecords([tmp_path / name for name in "abc"])
    assert [records[i] for i in range(len(records))] == [b"one", b"", b"x" * 1000, b"four"]


@pytest.mark.parametrize("fails", [False, True])
def test_a_closed_stream_stops_loading(fails):
    """Closed, or ended by an unreadable image: no calls are pending when Python exits."""
    calls = []

    def load(position):
        calls.append(position)
        time.sleep(0.01)
        if fails and position == 37:
            raise ValueError("image 37")
        return np.zeros((8, 8, 3), "uint8"), np.int32(position % 5)

    batches = streaming.batches(load, range(10**9), 4, 8, workers=3)
    if fails:
        with pytest.raises(ValueError, match="image 37"):
            list(batches)
    else:
        assert [next(batches)[1].tolist() for _ in range(2)] == [[0, 1, 2, 3], [4, 0, 1, 2]]
        batches.close()
    del batches
    time.sleep(0.1)
    before = len(calls)
    time.sleep(0.3)
    assert len(calls) == before < 500
