"""The registry of datasets, with one row for each, used by training, evaluation, analysis, exports and cards."""

import dataclasses

from keras_resv2.argument_checks import check_choice


@dataclasses.dataclass(frozen=True)
class Dataset:
    """The properties of a dataset.

    Attributes:
        name: name in tensorflow-datasets.
        class_names: class names in the order of the labels; empty if they come with the data.
        image_shape: (height, width, channels) of its images or, if `streamed`, of the usual network input; None if it
            comes with the data.
        mean, std: mean and standard deviation of the training pixels per channel (red, green, blue), on the 0-255
            scale; None if they are measured on the training images.
        examples: number of images of each split; empty if not fixed.
        splits: splits of tensorflow-datasets for "train" and "test".
        streamed: whether its images have different sizes and are streamed from disk.
        tfds: possible locations in a tensorflow-datasets directory, in order of preference; empty if not in
            tensorflow-datasets.
        keras: name of its module in `keras.datasets`, or None.
        class_index: URL, MD5 and number of entries of the file of class names, or None. ImageNet's is part of the
            package.
        how_to_get: a sentence on how to prepare the tensorflow-datasets directory.

    Example:

    >>> DATASETS["cifar100"].classes, DATASETS["cifar100"].class_names[53]
    (100, 'orange')
    """

    name: str
    class_names: tuple[str, ...] = ()
    image_shape: tuple[int, int, int] | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    examples: dict[str, int] = dataclasses.field(default_factory=dict)
    splits: dict[str, str] = dataclasses.field(default_factory=lambda: {"train": "train", "test": "test"})
    streamed: bool = False
    tfds: tuple[str, ...] = ()
    keras: str | None = None
    class_index: dict | None = None
    how_to_get: str = ""

    @property
    def classes(self) -> int:
        """Number of classes; 0 if they come with the data."""
        return len(self.class_names) or (self.class_index or {}).get("classes", 0)

    @property
    def pixels(self) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        """``(mean, std)`` for the argument `preprocessing` of `keras_resv2.ResNet`; None if they are measured."""
        return None if self.mean is None or self.std is None else (self.mean, self.std)


def find_dataset(name: str) -> Dataset:
    """Returns a dataset of the registry.

    Args:
        name: a key of `DATASETS` or of `ALIASES`.

    Returns:
        `Dataset`.

    Raises:
        ValueError: if there is no such dataset; the message lists the datasets.

    Example:

    >>> find_dataset("imagenet").name
    'imagenet2012'
    """
    return DATASETS[check_choice("dataset", ALIASES.get(name, name), DATASETS)]


def known_dataset(name: object) -> Dataset | None:
    """Returns a dataset of the registry, by its name or alias; None if there is no such dataset.

    Example:

    >>> known_dataset("imagenet").name, known_dataset("flowers")
    ('imagenet2012', None)
    """
    return DATASETS.get(ALIASES.get(name, name)) if isinstance(name, str) else None


def chance_error(classes: int) -> float:
    """Returns the error in percent of a random guess among `classes` classes of equal size.

    Example:

    >>> chance_error(10), chance_error(100)
    (90.0, 99.0)
    """
    return 100.0 * (classes - 1) / classes


# Other names of datasets in cards.
ALIASES = {"imagenet": "imagenet2012"}

IMAGENET_MEAN, IMAGENET_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
IMAGENET_SPLITS = {"train": "train", "test": "validation"}  # the images of its split "test" have no labels

CIFAR100_CLASSES = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
    caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant
    flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man
    maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree
    plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail
    snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout
    tulip turtle wardrobe whale willow_tree wolf woman worm
"""

DATASETS = {
    row.name: row
    for row in (
        Dataset(
            "cifar10",
            ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
            (32, 32, 3),
            mean=(125.307, 122.95, 113.865),
            std=(62.993, 62.089, 66.705),
            examples={"train": 50_000, "test": 10_000},
            tfds=("cifar10",),
            keras="cifar10",
        ),
        # The 100 fine classes of Krizhevsky 2009.
        Dataset(
            "cifar100",
            tuple(CIFAR100_CLASSES.split()),
            (32, 32, 3),
            mean=(129.304, 124.07, 112.434),
            std=(68.17, 65.392, 70.418),
            examples={"train": 50_000, "test": 10_000},
            tfds=("cifar100",),
            keras="cifar100",
        ),
        Dataset(
            "imagenette",
            image_shape=(224, 224, 3),
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
            splits=IMAGENET_SPLITS,
            streamed=True,
            # The larger images, and the split of version 2.
            tfds=tuple(
                f"imagenette/{variant}"
                for variant in ("full-size-v2", "320px-v2", "160px-v2", "full-size", "320px", "160px")
            ),
            how_to_get="`tfds build imagenette/full-size-v2 --data_dir DIR` downloads it.",
        ),
        Dataset(
            "imagenet2012",
            image_shape=(224, 224, 3),
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
            splits=IMAGENET_SPLITS,
            streamed=True,
            tfds=("imagenet2012",),
            class_index={  # the names published by keras.applications
                "url": "https://storage.googleapis.com/download.tensorflow.org/data/imagenet_class_index.json",
                "md5": "c2c37ea517e94d9795004a39431a14cb",
                "classes": 1000,
            },
            how_to_get=(
                "It cannot be downloaded automatically: get ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar from "
                "https://image-net.org/download-images and run `tfds build imagenet2012 --data_dir DIR --manual_dir "
                "TARS`, where the folder TARS contains both files."
            ),
        ),
        # Custom data: an .npz file of images of one size, and a folder of image files.
        Dataset("arrays"),
        Dataset("folder", image_shape=(224, 224, 3), mean=IMAGENET_MEAN, std=IMAGENET_STD, streamed=True),
    )
}
