"""Recipes: how a network is trained, as values that are validated together.

Weight decay is L2 regularization added to the gradient, ``wd * w``, as in the papers' code.
"""

import ast
import contextlib
import dataclasses
import json
import math
import os

from keras_resv2.argument_checks import check_choice

WORDS = {
    "interpolate": (False, "linear", "cosine"),
    "decay": ("all", "kernels"),
    "crop": ("shift", "scale"),
    "pad_mode": ("mean", "reflect"),
    "flip": ("random", "alternating"),
    "dtype": ("float32", "mixed_bfloat16", "mixed_float16"),
    "average": (None, "swa", "ema"),
}
KINDS = {bool: bool, int: int, float: (int, float), tuple: tuple, str: str}
OPTIONAL = {  # values that may be None, and their other types
    "steps": int,
    "epochs": int,
    "image_size": (int, float, tuple),
    "units_per_batch": (int, tuple),
    "survival": (int, float),
    "teacher": str,
}
# If a value is this, others have no effect.
WITHOUT_EFFECT = (
    ("average", None, ("average_start", "average_decay")),
    ("average", "swa", ("average_decay",)),
    ("teacher", None, ("temperature", "teacher_weight")),
    ("warmup_steps", 0, ("warmup_rate",)),
    ("momentum", 0, ("nesterov",)),
    ("weight_decay", 0, ("decay",)),
    ("pad", 0, ("pad_mode",)),
)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes:
        steps: number of updates of the weights; None if `epochs` is given.
        batch_size: images per step.
        schedule: ((part of the run, learning rate), ...): corners of the learning rate schedule.
        interpolate: interpolation between corners: "linear", "cosine" (half a period between corners: Loshchilov &
            Hutter 2017, arXiv 1608.03983, equation 5), or False for a step schedule. True is the old name of "linear".
        epochs: number of passes over the training images, if `steps` is None.
        warmup_steps: number of first steps that use `warmup_rate` instead.
        warmup_rate: learning rate of these steps.
        momentum, nesterov: arguments of SGD.
        weight_decay: L2 factor of the weights selected by `decay`.
        decay: "all" (every trainable weight, as in the papers' code) or "kernels" (no BN, no biases).
        crop: "shift" (pad, then a random crop of the same size) or "scale" (a random part of 8 to 100 % of the area
            with an aspect ratio of 3:4 to 4:3, resized).
        pad: pixels of padding before the shift.
        pad_mode: "mean" (zeros after normalization, as in the papers) or "reflect".
        flip: "random", or "alternating": each image is flipped every other epoch.
        image_size: shorter side of the training images, a number, or ((part of the run, number), ...) if it changes
            (progressive resizing: Tan & Le 2021, arXiv 2104.00298, section 4). Numbers from 2 are pixels, numbers up to
            1 are fractions of the side of the dataset's images. Images of different sizes are cropped to squares of
            this size, in pixels. Images of one size are resized to it, and must not be smaller; with None they are
            not resized. Test images are not resized.
        views: (shorter side, center crop) of each test error, for such datasets; the first is the main one.
        dtype: Keras dtype policy.
        units_per_batch: number of random units that each batch trains, while the others are skipped: a number, or
            ((part of the run, number), ...) if it changes; None for all (`train.stochastic_depth`).
        survival: probability that a batch trains the last unit, decreasing linearly from 1 at the input (stochastic
            depth); None to train all units.
        average: weights to evaluate and publish: "swa", the mean over all steps from `average_start` on (Izmailov et
            al. 2018, arXiv 1803.05407, who average once per epoch); "ema", an exponential moving average that starts
            there as that mean; None for those of the last step. Moving statistics are measured again for averaged
            weights.
        average_start: start of averaging, as a part of the run.
        average_decay: decay of "ema", per step.
        mixup: alpha of the Beta distribution of mixing shares (Zhang et al. 2018, arXiv 1710.09412); 0 for none.
        cutout: side in pixels of a square of the mean color in each image (DeVries & Taylor 2017, arXiv 1708.04552); 0
            for none.
        label_smoothing: weight of the uniform distribution in the labels (Szegedy et al. 2016,
            arXiv 1512.00567, section 7).
        teacher: pretrained name, weight folder or run directory of a teacher network for distillation (Hinton et al.
            2015, arXiv 1503.02531); several, separated by commas, for the mean of their logits; None for none.
        temperature: temperature of the outputs of both networks.
        teacher_weight: weight of the teacher in the loss; the labels have the rest.
    """

    steps: int | None
    batch_size: int
    schedule: tuple[tuple[float, float], ...]
    interpolate: bool | str = False
    epochs: int | None = None
    warmup_steps: int = 0
    warmup_rate: float = 0.0
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 1e-4
    decay: str = "all"
    crop: str = "shift"
    pad: int = 4
    pad_mode: str = "mean"
    flip: str = "random"
    image_size: float | tuple[tuple[float, float], ...] | None = None
    views: tuple[tuple[int, int], ...] = ()
    dtype: str = "float32"
    units_per_batch: int | tuple[tuple[float, int], ...] | None = None
    survival: float | None = None
    average: str | None = None
    average_start: float = 0.75
    average_decay: float = 0.999
    mixup: float = 0.0
    cutout: int = 0
    label_smoothing: float = 0.0
    teacher: str | None = None
    temperature: float = 4.0
    teacher_weight: float = 0.9

    def __post_init__(self):
        object.__setattr__(self, "interpolate", _interpolation(self.interpolate))
        _check(
            _is_schedule(self.schedule),
            "schedule",
            self.schedule,
            "((0, rate), (part of the run from 0 to 1, rate), ...)",
        )
        _check(max(rate for _, rate in self.schedule) > 0, "schedule", self.schedule, "a schedule with a rate above 0")
        _check(self.steps is None or self.steps > 0, "steps", self.steps, "a positive number")
        _check(self.epochs is None or self.epochs > 0, "epochs", self.epochs, "a positive number")
        _check(self.steps or self.epochs, "epochs", self.epochs, "a positive number where steps is None")
        _check(self.batch_size > 0, "batch_size", self.batch_size, "a positive number")
        _check(self.warmup_steps >= 0, "warmup_steps", self.warmup_steps, "a number from 0")
        _check(self.warmup_rate >= 0, "warmup_rate", self.warmup_rate, "a number from 0")
        _check(0 <= self.momentum < 1, "momentum", self.momentum, "a number from 0 to less than 1")
        _check(self.weight_decay >= 0, "weight_decay", self.weight_decay, "a number from 0")
        _check(self.pad >= 0, "pad", self.pad, "a number of pixels")
        counts = self.unit_counts()
        _check(
            self.units_per_batch is None or (_is_schedule(counts) and all(_is_count(count) for _, count in counts)),
            "units_per_batch",
            self.units_per_batch,
            "a number from 1, or ((0, number), (part of the run from 0 to 1, number), ...)",
        )
        _check(
            self.image_size is None or _are_sides(_changes(self.image_size)),
            "image_size",
            self.image_size,
            "a number of pixels from 2, a fraction up to 1, or ((0, number), (part of the run from 0 to 1, number), "
            "...) with only pixels or only fractions",
        )
        _check(self.survival is None or 0 < self.survival <= 1, "survival", self.survival, "above 0 and at most 1")
        _check(
            self.survival is None or not counts,
            "survival",
            self.survival,
            "None, because units_per_batch is given: use only one",
        )
        _check(_are_views(self.views), "views", self.views, "((shorter side, crop within it), ...), each crop once")
        if self.crop == "scale":
            pixels = _changes(self.image_size)
            _check(
                bool(pixels) and all(side > 1 for _, side in pixels),
                "image_size",
                self.image_size,
                "a size in pixels, needed by crop=scale",
            )
            _check(len(self.views) > 0, "views", self.views, "at least one view, needed by crop=scale")
            self._check_without_effect("crop=scale", pad=0, pad_mode="mean", flip="random")
            _check(self.cutout == 0, "cutout", self.cutout, "0, the only value that crop=scale supports")
        else:
            self._check_without_effect("crop=shift", views=())
        _check(0 <= self.average_start < 1, "average_start", self.average_start, "a part of the run, 0 to less than 1")
        _check(0 < self.average_decay < 1, "average_decay", self.average_decay, "a number between 0 and 1")
        _check(self.mixup == 0 or 0.01 <= self.mixup <= 100, "mixup", self.mixup, "0 or a number from 0.01 to 100")
        _check(self.cutout >= 0, "cutout", self.cutout, "a number of pixels")
        _check(0 <= self.label_smoothing < 1, "label_smoothing", self.label_smoothing, "a number from 0 to less than 1")
        _check(
            self.teacher is None or all(split_names(self.teacher)),
            "teacher",
            self.teacher,
            "a pretrained name, weight folder or run directory, or several separated by commas",
        )
        _check(0 < self.temperature < math.inf, "temperature", self.temperature, "a positive number")
        _check(0 < self.teacher_weight <= 1, "teacher_weight", self.teacher_weight, "a number above 0, at most 1")
        for name, value, others in WITHOUT_EFFECT:
            if getattr(self, name) == value:
                self._check_without_effect(f"{name}={value}", **{other: _default(other) for other in others})
        if self.teacher and self.teacher_weight == 1:
            self._check_without_effect("teacher_weight=1", label_smoothing=0)

    def _check_without_effect(self, where, **needed):
        """Raises ValueError if a value has no effect because of another."""
        for name, value in needed.items():
            if getattr(self, name) != value:
                raise ValueError(f"recipe value {name}={getattr(self, name)!r} has no effect with {where}.")

    def with_values(self, texts, **changes):
        """Returns this recipe with replaced values.

        Args:
            texts: assignments such as "flip=random" or "schedule=((0, 0.1), (0.5, 0.01))": an attribute and a Python
                literal or a word.
            **changes: values by attribute, which take precedence.

        Raises:
            ValueError: if the attribute does not exist, the value has the wrong type, or it would have no effect.

        Example:

        >>> Recipe(steps=10, batch_size=8, schedule=((0, 0.1),)).with_values(["pad=2", "pad_mode=reflect"]).pad_mode
        'reflect'
        """
        given = {}
        for text in texts:
            name, _, value = text.partition("=")
            check_choice("recipe value", name, [field.name for field in dataclasses.fields(self)])
            with contextlib.suppress(ValueError, SyntaxError):
                value = ast.literal_eval(value)
            if name == "interpolate":
                value = _interpolation(value)
            if name == "teacher" and isinstance(value, (tuple, list)) and all(isinstance(one, str) for one in value):
                value = ",".join(value)
            if name in WORDS:
                check_choice(name, value, WORDS[name])
            elif not _fits(name, value, getattr(self, name)):
                raise ValueError(f"recipe value {text} is invalid: the current value is {getattr(self, name)!r}.")
            given[name] = value
        given.update(changes)
        if given.get("steps") and given.get("epochs"):
            raise ValueError(f"steps={given['steps']} and epochs={given['epochs']} conflict: use only one of them.")
        for one, other in (("steps", "epochs"), ("epochs", "steps")):  # the given one replaces the other
            if given.get(one):
                given.setdefault(other, None)
        for name, value, others in WITHOUT_EFFECT:  # disabling a feature resets its parameters
            if name in given and given[name] == value:
                given = {**{other: _default(other) for other in others}, **given}
        return dataclasses.replace(self, **given)

    def unit_counts(self):
        """Returns `units_per_batch` as ((part of the run, number), ...); empty if every batch trains all units."""
        return _changes(self.units_per_batch)

    def unit_count(self, step):
        """Returns the number of units that a batch trains at a step; None without `units_per_batch`."""
        done = step / self.steps
        return next((count for part, count in reversed(self.unit_counts()) if part <= done), None)

    def check_units(self, units):
        """Raises ValueError if `units_per_batch` exceeds the number of units of a network."""
        most = max((count for _, count in self.unit_counts()), default=0)
        if most > units:
            raise ValueError(f"units_per_batch={most} must be from 1 to {units}, the number of units of this network.")

    def check_image_size(self, image_shape):
        """Raises ValueError if `image_size` exceeds the size of the images of a dataset, ``(height, width, 3)``."""
        most, shorter = max((side for _, side in _changes(self.image_size)), default=0), min(image_shape[:2])
        if most > shorter:
            raise ValueError(f"image_size={most} exceeds the size of the training images, {shorter} pixels.")

    def check_cutout(self, image_shape):
        """Raises ValueError if `cutout` exceeds the size of the images of a dataset, ``(height, width, 3)``."""
        if self.cutout > min(image_shape[:2]):
            side = min(image_shape[:2])
            raise ValueError(f"recipe value cutout={self.cutout} exceeds the image size of {side} pixels.")

    @property
    def leaves_units_out(self):
        """Whether batches train a random subset of units."""
        return bool(self.unit_counts()) or self.survival is not None

    def first_step(self, part):
        """Returns the first step, counted from 0, before which at least `part` of the run is done."""
        return _first_step(part, self.steps)

    def side(self, step):
        """Returns the shorter side of the training images at a step, as in `image_size`; None for their own size."""
        return next(side for first, _, side in reversed(self.sides()) if first <= step)

    def sides(self):
        """Lists the image sizes of the run, in order: ``[(first step, end, side), ...]``; side is None without any."""
        return image_sides(self.image_size, self.steps)

    def for_images(self, images):
        """Returns this recipe with its number of steps for `images` training images."""
        if self.steps is not None:
            return self
        return dataclasses.replace(self, steps=math.ceil(self.epochs * images / self.batch_size))

    def with_peak(self, rate):
        """Returns this recipe with all learning rates scaled so that `rate`, above 0, is the highest."""
        factor = rate / max(corner[1] for corner in self.schedule)
        schedule = tuple((part, low * factor) for part, low in self.schedule)
        return dataclasses.replace(self, schedule=schedule, warmup_rate=self.warmup_rate * factor)

    def learning_rate(self, step):
        """Returns the learning rate of step `step`, counted from 0."""
        if step < self.warmup_steps:
            return self.warmup_rate
        done = step / self.steps
        before = [corner for corner in self.schedule if corner[0] <= done]
        after = [corner for corner in self.schedule if corner[0] > done]
        start, low = before[-1]
        if not self.interpolate or not after:
            return low
        end, high = after[0]
        part = (done - start) / (end - start)
        if self.interpolate == "cosine":
            part = (1 - math.cos(math.pi * part)) / 2
        return low + (high - low) * part

    @property
    def first_averaged_step(self):
        """The first step, counted from 0, whose weights are averaged."""
        return int(self.average_start * self.steps)


def split_names(names):
    """Returns the list of names separated by commas, such as several teachers; a path that exists is one name.

    Example:

    >>> split_names("resnet20-cifar10@4, runs/deep")
    ['resnet20-cifar10@4', 'runs/deep']
    """
    return [names] if os.path.exists(names) else [name.strip() for name in names.split(",")]


def completed(values):
    """Completes recipe values of run.json with fields that older runs do not have.

    The defaults match the behavior of older runs.

    Example:

    >>> completed({"steps": 3})["units_per_batch"] is None
    True
    """
    fields = {f.name: f.default for f in dataclasses.fields(Recipe) if f.default is not dataclasses.MISSING}
    values = {**fields, **values}
    for name, usual in fields.items():  # 0 and 0.0 are the same value, but not the same text
        if isinstance(usual, float) and isinstance(values[name], int):
            values[name] = float(values[name])
    return json.loads(json.dumps({**values, "interpolate": _interpolation(values["interpolate"])}))


def image_sides(image_size, steps):
    """Lists the image sizes of a run, in order.

    Args:
        image_size: the recipe value.
        steps: number of steps of the run.

    Returns:
        ``[(first step, end, side), ...]``, with sides as in `image_size`.

    Example:

    >>> image_sides(((0, 24), (0.5, 32)), steps=300)
    [(0, 150, 24), (150, 300, 32)]
    """
    changes = [(_first_step(part, steps), side) for part, side in _changes(image_size) or ((0, None),)]
    changes = [change for i, change in enumerate(changes) if i == 0 or change[1] != changes[i - 1][1]]
    ends = [first for first, _ in changes[1:]] + [steps]
    return [(first, end, side) for (first, side), end in zip(changes, ends, strict=True) if first < end]


def full_size_steps(sides, done):
    """Converts a number of steps to that of steps on the largest images that take the same time.

    The time of a step is assumed to be proportional to the number of pixels.

    Args:
        sides: as returned by `image_sides`.
        done: number of the first steps.

    Example:

    >>> full_size_steps([(0, 100, 16), (100, 200, 32)], 140)
    65.0
    """
    largest = max(side or 1 for _, _, side in sides)
    return sum(max(0, min(done, end) - first) * ((side or 1) / largest) ** 2 for first, end, side in sides)


def _first_step(part, steps):
    step = int(part * steps)
    return step if step / steps >= part else step + 1


def _interpolation(value):
    """Returns the value of `Recipe.interpolate`, which used to be True or False."""
    return "linear" if value is True else value


def _default(name):
    return next(field.default for field in dataclasses.fields(Recipe) if field.name == name)


def _fits(name, value, present):
    """Returns whether a value has the type of a field."""
    if name in OPTIONAL:
        return value is None or (isinstance(value, OPTIONAL[name]) and not isinstance(value, bool))
    return isinstance(value, KINDS[type(present)])


def _changes(value):
    """Returns a value that may change during the run as ((part of the run, value), ...); empty for None."""
    if value is None:
        return ()
    return ((0, value),) if isinstance(value, (int, float)) else value


def _is_count(value):
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _are_sides(changes):
    """Returns whether all sides of a schedule are pixels, or all are fractions of the images' own side."""
    if not _is_schedule(changes):
        return False
    sides = [side for _, side in changes]
    fractions = all(not isinstance(side, bool) and 0 < side <= 1 for side in sides)
    return fractions or all(_is_count(side) and side > 1 for side in sides)


def _is_schedule(schedule):
    try:
        parts = [float(part) for part, rate in schedule if rate >= 0]
    except (TypeError, ValueError):
        return False
    return parts[:1] == [0] and parts == sorted(parts) and parts[-1] <= 1 and len(parts) == len(schedule)


def _are_views(views):
    try:
        crops = [crop for _, crop in views]
        return all(0 < crop <= shorter for shorter, crop in views) and len(set(crops)) == len(crops)
    except (TypeError, ValueError):
        return False


def _check(holds, name, value, wanted):
    if not holds:
        raise ValueError(f"recipe value {name}={value!r} is not {wanted}.")
