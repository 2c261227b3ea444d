"""Recipe features that change loss, images and weights, each compared with independent arithmetic."""

import dataclasses
import json
import math

import keras
import numpy as np
import pytest

import keras_resv2
from keras_resv2.data.sources import open_source
from keras_resv2.models.scan import is_rolled
from train.averaging import measured_weights
from train.config import RunConfig
from train.data.device_data import DeviceData
from train.data.image_stream import TrainStream
from train.data.mixing import MixedBatches, mix, swap_neighbours
from train.devices import Devices, check_recipe
from train.distillation import DistilledBatches
from train.losses import Loss, Targets
from train.optimizer import SGD, averages, make_optimizer
from train.recipe import completed
from train.recipes import RECIPES
from train.run_files import differences
from train.steps import make_steps
from train.stochastic_depth import SwitchedNetwork


def recipe_of(**changes):
    return dataclasses.replace(RECIPES["paper"], **{"steps": 40, "batch_size": 10, **changes})


def array(tensor):
    return np.asarray(keras.ops.convert_to_numpy(tensor))


def test_cosine_rates_by_hand():
    recipe = recipe_of(steps=8, warmup_steps=0, warmup_rate=0.0, schedule=((0, 0.1), (1, 0.0)), interpolate="cosine")
    rates = [recipe.learning_rate(step) for step in range(8)]
    np.testing.assert_allclose(rates, [0.05 * (1 + math.cos(math.pi * t / 8)) for t in range(8)])
    up_and_down = recipe_of(
        steps=8, warmup_steps=0, warmup_rate=0.0, schedule=((0, 0.0), (0.5, 1.0), (1, 0.0)), interpolate="cosine"
    )
    half = [0, 0.5 - math.sqrt(0.125), 0.5, 0.5 + math.sqrt(0.125), 1]
    np.testing.assert_allclose([up_and_down.learning_rate(t) for t in range(8)], half + half[3:0:-1], atol=1e-12)


def test_older_words_for_the_schedule():
    """run.json and commands from when `interpolate` was True or False."""
    assert RECIPES["fast"].with_values(["interpolate=True"]) == RECIPES["fast"]
    assert RECIPES["fast"].with_values(["interpolate=False"]).learning_rate(3000) == 0.02
    now = json.loads(json.dumps(dataclasses.asdict(RECIPES["fast"])))
    then = {name: value for name, value in now.items() if name in list(now)[: list(now).index("average")]}
    assert then["interpolate"] == "linear" and completed({**then, "interpolate": True}) == now
    assert differences({"recipe_values": {**then, "interpolate": True}}, {"recipe_values": now}) == []
    changed = {"recipe_values": {**now, "mixup": 0.2}}
    assert differences({"recipe_values": {**then, "interpolate": True}}, changed) == ["recipe_values"]


def test_values_are_set_and_those_without_effect_refused():
    long = RECIPES["long"]
    assert long.average == "ema" and long.epochs == 200 and long.batch_size == 256
    without = long.with_values(["average=None"])
    assert (without.average, without.average_start) == (None, 0.75)
    assert long.with_values(["average=swa", "average_start=0.6"]).average_start == 0.6
    taught = long.with_values(["teacher=resnet20-cifar10", "temperature=2", "teacher_weight=0.5"])
    assert (taught.teacher, taught.temperature) == ("resnet20-cifar10", 2)
    assert taught.with_values(["teacher=None"]) == long
    for text, words in (
        ("interpolate=square", "'linear', 'cosine'"), ("average=mean", "'swa', 'ema'"), ("mixup=-1", "0.01 to 100"),
        ("momentum=2", "less than 1"), ("pad=-1", "number of pixels"), ("weight_decay=-1.0", "from 0"),
        ("warmup_steps=-1", "from 0"), ("warmup_rate=-0.1", "from 0"),
        ("cutout=-1", "number of pixels"), ("cutout=0.5", "current value is 0"), ("label_smoothing=1", "less than 1"),
        ("average_start=1", "part of the run"), ("average_decay=1", "between 0 and 1"),
        ("teacher=7", "current value is None"),
        ("teacher=", "pretrained name"), ("teacher=x,", "several separated by commas"),
        ("temperature=2", "no effect with teacher=None"),
        ("teacher_weight=0.5", "no effect with teacher=None"), ("mixup=nan", "current value"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=words):
            long.with_values([text])
    for texts, words in (
        (["average_start=0.5"], "no effect with average=None"), (["average_decay=0.9"], "no effect with average="),
        (["average=swa", "average_decay=0.9"], "no effect with average=swa"),
        (["teacher=x", "temperature=0"], "positive"), (["teacher=x", "teacher_weight=0"], "above 0"),
        (["teacher=x", "teacher_weight=1", "label_smoothing=0.1"], "no effect with teacher_weight=1"),
        (["warmup_rate=0.1"], "no effect with warmup_steps=0"), (["momentum=0", "nesterov=True"], "with momentum=0"),
        (["weight_decay=0.0", "decay=kernels"], "with weight_decay=0"), (["pad=0", "pad_mode=reflect"], "with pad=0"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=words):
            RECIPES["fast"].with_values(texts)
    assert RECIPES["fast"].with_values(['teacher=("a", "b@2")']).teacher == "a,b@2"
    bare = RECIPES["paper"].with_values(["warmup_steps=0", "pad=0"], weight_decay=0)
    assert (bare.warmup_rate, bare.pad_mode, bare.decay) == (0.0, "mean", "all")
    with pytest.raises(ValueError, match="the only value that crop=scale supports"):
        RECIPES["imagenet"].with_values(["cutout=8"])
    with pytest.raises(ValueError, match="5 per device is odd"):
        check_recipe(recipe_of(mixup=0.2), Devices(count=2))
    on_tensorflow = Devices(count=2, strategy=object())
    for values in ({"units_per_batch": 2}, {"survival": 0.5}, {"dtype": "mixed_float16"}):
        check_recipe(recipe_of(**values), Devices(count=2))
        with pytest.raises(ValueError, match=r"on several devices requires? the JAX backend"):
            check_recipe(recipe_of(**values), on_tensorflow)


def test_a_command_has_all_values_that_differ():
    values = RECIPES["fast"].with_values(["mixup=0.2", "average=swa", "teacher=resnet20-cifar10@2", "cutout=8"])
    words = RunConfig("resnet20", "fast", values).command().split()
    assert RECIPES["fast"].with_values([word for word in words if "=" in word]) == values


@pytest.mark.parametrize("text", [
    "units_per_batch=((0, 4), (0.5, 9))", "units_per_batch=4", "survival=0.5", "schedule=((0, 0.1), (1, 0.0))",
    "steps=7", "epochs=3", "momentum=0.8", "nesterov=False", "weight_decay=0.001", "decay=all", "pad=2",
    "pad_mode=mean", "flip=random", "dtype=mixed_float16", "interpolate=cosine", "warmup_steps=5",
    "warmup_steps=5; warmup_rate=0.01",    "average=ema", "label_smoothing=0.1",
])  # fmt: skip
def test_flags_of_a_command_give_the_recipe_again(text):
    """As `train.train` parses them: one flag per value, and --set for those that no flag can have."""
    values = RECIPES["fast"].with_values(text.split("; "))
    flags = RunConfig("resnet20", "fast", values).flags()
    given = dict(zip(flags[::2], flags[1::2], strict=True))
    kinds = {"steps": int, "batch_size": int, "weight_decay": float, "dtype": str, "units_per_batch": int}
    own = {name: kind(given[f"--{name}"]) for name, kind in kinds.items() if f"--{name}" in given}
    texts = [value for flag, value in zip(flags[::2], flags[1::2], strict=True) if flag == "--set"]
    assert RECIPES["fast"].with_values(texts, **own) == values


def softmax(x):
    powers = np.exp(x - x.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def test_losses_against_targets_written_out():
    """Cross-entropy with the whole distribution, and the divergence, by NumPy in float64."""
    rng = np.random.default_rng(0)
    logits, teacher = rng.normal(0, 3, (2, 6, 5)).astype("float32")
    labels, partners = rng.integers(0, 5, (2, 6)).astype("int32")
    shares = np.array([128, 160, 200, 255, 256, 130], "int32")
    one, other = np.eye(5)[labels], np.eye(5)[partners]
    part = shares[:, None] / 256
    targets = 0.9 * (part * one + (1 - part) * other) + 0.1 / 5
    cross_entropy = -(targets * np.log(softmax(logits.astype("float64")))).sum(1)
    p, q = softmax(teacher.astype("float64") / 2), softmax(logits.astype("float64") / 2)
    divergence = (p * np.log(p / q)).sum(1)
    given = Targets(labels, partners, shares, teacher)

    def loss(targets, **values):
        found = Loss(**values)(
            keras.tree.map_structure(keras.ops.convert_to_tensor, targets), keras.ops.array(logits), 12
        )
        return float(found[0]), float(found[1])

    expected = (0.3 * cross_entropy + 0.7 * 4 * divergence).sum() / 12
    found, correct = loss(given, label_smoothing=0.1, temperature=2.0, teacher_weight=0.7)
    assert found == pytest.approx(expected, rel=1e-5)
    assert correct == pytest.approx((logits.argmax(1) == labels).sum() / 12)
    plain = -np.log(softmax(logits.astype("float64")))[np.arange(6), labels].sum() / 12
    assert loss(labels)[0] == pytest.approx(plain, rel=1e-5) and loss(labels)[1] == correct
    smoothed = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1)(one, logits)
    assert loss(labels, label_smoothing=0.1)[0] == pytest.approx(float(smoothed) / 2, rel=1e-5)


def test_the_gradient_at_the_teacher_is_nothing():
    """If student and teacher agree the divergence is zero; it is finite for probabilities that underflow."""
    logits = keras.ops.array([[0.0, 300.0, -300.0]])
    loss, _ = Loss(temperature=1.0, teacher_weight=1.0)(Targets(np.array([0]), None, None, logits), logits, 1)
    assert abs(float(loss)) < 1e-5
    other = keras.ops.array([[300.0, 0.0, -300.0]])
    loss, _ = Loss(temperature=1.0, teacher_weight=1.0)(Targets(np.array([0]), None, None, other), logits, 1)
    assert float(loss) == pytest.approx(300)  # KL of two point masses whose logits are 300 apart


def images_of(source, step):
    batch = next(source.batches(step))
    images, targets = source.augment(
        [keras.ops.convert_to_tensor(a) for a in source.device_data], *map(keras.ops.convert_to_tensor, batch)
    )
    return array(images), keras.tree.map_structure(array, targets)


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (30, 12, 16, 3), dtype="uint8")


def test_cutout_and_mixup_against_numpy(images):
    """Image by image: slices for the hole, rounding of the weighted mean for the mixture."""
    recipe = recipe_of(pad=2, cutout=5, mixup=1.0)
    plain = DeviceData(images, np.arange(30), recipe, seed=3)
    source = MixedBatches(plain, recipe, seed=3)
    mean = np.array([images[..., c].mean() for c in range(3)]).round()
    shares, holes = set(), 0
    for step in range(6):
        found, targets = images_of(source, step)
        before, labels = images_of(plain, step)
        rows, columns, share = source.draw(step)
        cut = before.astype(int)
        for image, row, column in zip(cut, rows, columns, strict=True):
            image[max(0, row - 2) : row + 3, max(0, column - 2) : column + 3] = mean
        holes += (cut != before).any(axis=-1).sum()
        for i in range(10):
            partner = i + 1 if i % 2 == 0 else i - 1
            exact = (share[i] * cut[i] + (256 - share[i]) * cut[partner]) / 256
            np.testing.assert_array_equal(found[i], np.floor(exact + 0.5))
            assert targets.partners[i] == labels[partner]
        np.testing.assert_array_equal(targets.labels, labels)
        assert found.dtype == np.uint8 and set(targets.shares) == {share[0]} and 128 <= share[0] <= 256
        shares.add(int(share[0]))
    assert len(shares) > 3 and 6 * 10 * 9 < holes <= 6 * 10 * 25


def test_each_alone(images):
    for values in ({"cutout": 4}, {"mixup": 0.4}):
        recipe = recipe_of(pad=0, flip="alternating", **values)
        found, targets = images_of(MixedBatches(DeviceData(images, np.arange(30), recipe, 0), recipe, 0), 1)
        assert isinstance(targets, Targets) == ("mixup" in values) and found.shape == (10, 12, 16, 3)
    with pytest.raises(ValueError, match="cutout=13 exceeds the image size of 12"):
        recipe = recipe_of(cutout=13)
        MixedBatches(DeviceData(images, np.arange(30), recipe, 0), recipe, 0)


def test_shares_follow_the_beta_distribution():
    """Mean of max(x, 1 - x) for Beta(1, 1), which is uniform: 3/4, within five standard errors."""
    recipe = recipe_of(mixup=1.0)
    source = MixedBatches(DeviceData(np.zeros((30, 8, 8, 3), "uint8"), np.arange(30), recipe, 0), recipe, 0)
    shares = np.array([source.draw(step)[0][0] / 256 for step in range(2000)])
    assert abs(shares.mean() - 0.75) < 5 * math.sqrt(1 / 48 / 2000)
    mild = recipe_of(mixup=0.2)
    source = MixedBatches(DeviceData(np.zeros((30, 8, 8, 3), "uint8"), np.arange(30), mild, 0), mild, 0)
    assert np.mean([source.draw(step)[0][0] / 256 for step in range(500)]) > 0.85  # mostly one image


def test_neighbours():
    assert array(swap_neighbours(keras.ops.array([1, 2, 3, 4]))).tolist() == [2, 1, 4, 3]
    pixel = keras.ops.cast(keras.ops.reshape(keras.ops.array([0, 255]), (2, 1, 1, 1)), "uint8")
    mixed = mix(pixel, swap_neighbours(pixel), keras.ops.array([192, 192]))
    assert array(mixed).ravel().tolist() == [64, 191]  # 63.75 and 191.25


class Stream:
    """A source of images from the host, where each process provides half of the batch."""

    device_data, images_per_epoch, max_steps_per_dispatch, num_shards = (), 30, 4, 2

    def __init__(self, shard_index):
        self.shard_index = shard_index

    def batches(self, first):
        while True:
            here = slice(5 * self.shard_index, 5 * self.shard_index + 5)
            yield np.zeros((10, 8, 8, 3), "uint8")[here], np.arange(10)[here]
            first += 1


def test_processes_share_the_draws_of_a_batch():
    recipe = recipe_of(mixup=1.0)
    parts = [MixedBatches(Stream(i), recipe, seed=1) for i in range(2)]
    for step in (0, 7):
        batches = [next(part.batches(step)) for part in parts]
        assert [len(array) for batch in batches for array in batch] == [5] * 6
        np.testing.assert_array_equal(np.concatenate([b[-1] for b in batches]), parts[0].draw(step)[0])


def test_streamed_images_are_mixed_too(image_folder):
    recipe = RECIPES["imagenet"].with_values(["batch_size=4", "image_size=24", "mixup=1.0"])
    stream = TrainStream(open_source("folder", str(image_folder), "train"), 4, 24, seed=0)
    source = MixedBatches(stream, recipe, seed=0)
    found, targets = images_of(source, 2)
    images, labels = next(stream.batches(2))
    share = source.draw(2)[0][0]
    exact = (share * images.astype(int) + (256 - share) * images[[1, 0, 3, 2]]) / 256
    np.testing.assert_array_equal(found, np.floor(exact + 0.5))
    np.testing.assert_array_equal(targets.labels, labels)
    np.testing.assert_array_equal(targets.partners, labels[[1, 0, 3, 2]])
    np.testing.assert_array_equal(next(source.plain_images()), next(stream.batches(0))[0])
    assert source.speed(steps=1) > 0


@pytest.mark.parametrize("decay", [1.0, 0.7])
def test_averages_by_hand(decay):
    """The gradient is the step's number: weights 5 - 0.1 * (1, 3, 6, 10, ...); averaged from the third update on."""
    weight = keras.Variable([5.0, 5.0], name="kernel")
    optimizer = SGD(0.1, l2=0.0, decays=lambda v: True, first_averaged=2, average_decay=decay)
    optimizer.build([weight])
    weights = []
    for step in range(1, 8):
        optimizer.apply([keras.ops.array([float(step), 0.0])])
        weights.append(5 - 0.1 * step * (step + 1) / 2)
        found = array(averages(optimizer)[0])
        if decay == 1.0:
            expected = np.mean(weights[2:]) if step > 2 else weights[-1]
        else:  # the mean of 1, 2 and 3, then 0.7 of the old and 0.3 of the new
            expected = np.mean(weights[2:5]) if step > 2 else weights[-1]
            if step in (3, 4):
                expected = np.mean(weights[2:])
            for newest in weights[5:]:
                expected = 0.7 * expected + 0.3 * newest
        np.testing.assert_allclose(found, [expected, 5.0], rtol=1e-6)
        assert abs(array(weight)[0] - weights[-1]) < 1e-5


def test_float16_averages_too():
    model = keras_resv2.ResNet(8, classifier_activation=None, dtype="mixed_float16")
    optimizer = make_optimizer(recipe_of(dtype="mixed_float16", average="swa"), model.trainable_variables)
    assert len(averages(optimizer)) == len(model.trainable_variables)
    assert sum("average" in v.path for v in optimizer.variables) == len(model.trainable_variables)


@pytest.mark.parametrize("form", ["plain", "rolled", "switched"])
def test_averaged_weights_and_their_statistics(images, form):
    """The stem's statistics are those of its convolution over all images; afterwards everything is restored."""
    depth = 20 if form == "rolled" else 8  # stages that have units to roll
    model = keras_resv2.ResNet(depth, input_shape=(12, 16, 3), classifier_activation=None, rolled=form == "rolled")
    if form == "switched":
        model = SwitchedNetwork(model)
        model.switches.assign([1, 0, 1])  # of the last step; the result uses all units
    network = getattr(model, "network", model)
    assert is_rolled(network) == (form == "rolled")
    recipe = recipe_of(average="swa", average_start=0.0, pad=2, mixup=0.5)
    plain = DeviceData(images, np.arange(30) % 10, recipe, 0)
    source = MixedBatches(plain, recipe, 0)
    optimizer = make_optimizer(recipe, model.trainable_variables)
    steps = make_steps(model, optimizer, source)
    batches = source.batches(0)
    for _ in range(3):
        steps.run([0.05], [next(batches)])
    steps.sync()
    everything = [*model.variables, *optimizer.variables]
    before = [array(v).copy() for v in everything]
    with measured_weights(model, optimizer, steps, source, averaged=True):
        np.testing.assert_array_equal(array(network.get_layer("stem_conv").kernel), array(averages(optimizer)[0]))
        stem = keras.Model(network.input, network.get_layer("stem_conv").output)
        maps = array(stem(images)).astype("float64")
        layer = network.get_layer("stem_bn")
        np.testing.assert_allclose(array(layer.moving_mean), maps.mean((0, 1, 2)), atol=1e-4)
        np.testing.assert_allclose(array(layer.moving_variance), maps.var((0, 1, 2)), rtol=1e-3)
        inside = steps.predict_on_batch(images)
        # One batch holds all images, so the network in training mode has the same statistics.
        np.testing.assert_allclose(inside, array(network(images, training=True)), atol=2e-3)
    for variable, value in zip(everything, before, strict=True):
        if "seed" not in variable.path:
            np.testing.assert_array_equal(array(variable), value)
    assert np.abs(inside - steps.predict_on_batch(images)).max() > 1e-2
    assert layer.momentum == 0.9


def test_the_result_is_given_back_when_a_measurement_fails(images):
    model = keras_resv2.ResNet(8, input_shape=(12, 16, 3), classifier_activation=None)
    recipe = recipe_of(average="ema")
    source = DeviceData(images, np.arange(30) % 10, recipe, 0)
    optimizer = make_optimizer(recipe, model.trainable_variables)
    before = model.get_weights()
    with (
        pytest.raises(KeyError),
        measured_weights(model, optimizer, make_steps(model, optimizer, source), source, averaged=True),
    ):
        raise KeyError
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_plain_images_are_the_datasets(images):
    recipe = recipe_of(pad=2, pad_mode="reflect")
    found = next(DeviceData(images, np.arange(30), recipe, 0).plain_images())
    assert sorted(image.tobytes() for image in found) == sorted(image.tobytes() for image in images)


def test_a_teacher_sees_the_same_images(images):
    teacher = keras_resv2.ResNet(8, input_shape=(12, 16, 3), classifier_activation=None)
    teacher.trainable = False
    recipe = recipe_of(mixup=1.0, cutout=3)
    mixed = MixedBatches(DeviceData(images, np.arange(30), recipe, 0), recipe, 0)
    source = DistilledBatches(mixed, teacher)
    found, targets = images_of(source, 4)
    wanted, wanted_targets = images_of(mixed, 4)
    np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(targets.shares, wanted_targets.shares)
    logits = teacher.predict(wanted, verbose=0)
    np.testing.assert_allclose(targets.teacher_logits, logits, atol=1e-4)
    other = keras_resv2.ResNet(14, input_shape=(12, 16, 3), classifier_activation=None)
    _, targets = images_of(DistilledBatches(mixed, teacher, other, teacher), 4)
    mean = (2 * logits + other.predict(wanted, verbose=0)) / 3
    assert np.abs(mean - logits).max() > 0.1
    np.testing.assert_allclose(targets.teacher_logits, mean, atol=1e-4)
    assert (source.images_per_epoch, source.num_shards) == (30, 1)
