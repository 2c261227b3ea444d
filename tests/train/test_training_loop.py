"""The training loop: recipes and augmentation by arithmetic, steps on each backend, checkpoints."""

import dataclasses
import itertools
import shutil

import keras
import numpy as np
import pytest

import keras_resv2
from keras_resv2 import files
from keras_resv2.data.checks import check_finite
from keras_resv2.evaluation import measure_error
from train import checkpoint, loop, roofline
from train.data.device_data import DeviceData, pad_images
from train.data.resizing import side_in_pixels
from train.devices import ONE_DEVICE
from train.optimizer import SGD, make_optimizer
from train.recipe import full_size_steps
from train.recipes import RECIPES
from train.steps import JaxSteps, make_steps


def test_paper_recipe_is_the_papers():
    """He et al. 2016, appendix: 64k steps of 128, 0.01 for 400 steps, then 0.1, divided by 10 at 32k and 48k."""
    recipe = RECIPES["paper"]
    assert (recipe.steps, recipe.batch_size, recipe.momentum, recipe.weight_decay) == (64_000, 128, 0.9, 1e-4)
    assert (recipe.pad, recipe.pad_mode, recipe.flip, recipe.nesterov) == (4, "mean", "random", False)
    assert recipe.decay == "all" and recipe.dtype == "float32"
    at = {step: recipe.learning_rate(step) for step in (0, 399, 400, 31_999, 32_000, 47_999, 48_000, 63_999)}
    assert at == {0: 0.01, 399: 0.01, 400: 0.1, 31_999: 0.1, 32_000: 0.01, 47_999: 0.01, 48_000: 0.001, 63_999: 0.001}


def test_one_cycle_runs_up_then_down_to_nothing():
    recipe = RECIPES["fast"]
    rates = [recipe.learning_rate(step) for step in range(recipe.steps)]
    top = int(np.argmax(rates))
    assert rates[0] == 0.02 and abs(max(rates) - 0.2) < 1e-4 and abs(top / recipe.steps - 0.2) < 0.001
    assert np.all(np.diff(rates[: top + 1]) > 0) and np.all(np.diff(rates[top:]) < 0) and 0 < rates[-1] < 1e-4


def test_progressive_takes_as_long_as_fast():
    fast, recipe = RECIPES["fast"], RECIPES["progressive"]
    assert dataclasses.replace(recipe, steps=fast.steps, image_size=None) == fast
    assert full_size_steps(recipe.sides(), recipe.steps) == pytest.approx(fast.steps, rel=0.002)
    assert [side_in_pixels(recipe.side(step), (32, 32)) for step in (0, 15_839, 15_840, 26_399)] == [24, 24, 32, 32]


def test_any_value_of_a_recipe_can_be_set():
    recipe = RECIPES["fast"].with_values(
        ["flip=random", "nesterov=False", "pad=2", "schedule=((0, 0.5),)", "momentum=0"]
    )
    assert (recipe.flip, recipe.nesterov, recipe.pad, recipe.momentum) == ("random", False, 2, 0)
    assert recipe.learning_rate(9_000) == 0.5 and recipe.decay == RECIPES["fast"].decay
    imagenet = RECIPES["imagenet"].with_values(["steps=7"])
    assert (imagenet.for_images(100).steps, imagenet.epochs) == (7, None)
    assert RECIPES["fast"].with_values(["epochs=3"]).for_images(1000).steps == 24  # 3 x 1000 / 128
    for text, words in (
        ("flop=1", "recipe value"), ("flip=sometimes", "alternating"), ("pad=wide", "current value is 4"),
        ("steps", "current value"),
        ("nesterov=2", "current value is True"), ("schedule=0.1", "current value"),
        ("schedule=(1, 2)", "part of the run"), ("schedule=((0.5, 1),)", "part of the run"),
        ("schedule=((0, 1), ('x', 1))", "part of the run"), ("steps=0", "positive"), ("batch_size=0", "positive"),
        ("steps=None", "positive"), ("views=(1, 2)", "crop within"), ("views=((224, 256),)", "crop within"),
        ("schedule=((0, 0.0),)", "above 0"), ("epochs=0", "positive"), ("steps=3 epochs=3", "use only one"),
        ("image_size=0", "pixels from 2"), ("image_size=()", "pixels from 2"), ("image_size=1.5", "pixels from 2"),
        ("image_size=((0, 0.5), (0.5, 32))", "only fractions"), ("image_size=-0.5", "a fraction up to 1"),
        ("image_size=((0.5, 8),)", "pixels from 2"), ("views=((256, 224),)", "no effect"),
        ("crop=scale", "needed by crop=scale"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=words):
            RECIPES["fast"].with_values(text.split() if "=3 " in text else [text])
    for text, words in (
        ("flip=alternating", "no effect"), ("pad=4", "no effect"), ("pad_mode=reflect", "no effect"),
        ("image_size=None", "needed"), ("image_size=()", "pixels from 2"), ("image_size=0.5", "in pixels"),
        ("views=()", "at least one"),
        ("views=((256, 224), (224, 224))", "each crop once"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=words):
            RECIPES["imagenet"].with_values([text])


def test_padding():
    images = np.arange(2 * 4 * 4 * 3, dtype="uint8").reshape(2, 4, 4, 3)
    mean = pad_images(images, 2, "mean")
    np.testing.assert_array_equal(mean[:, 2:-2, 2:-2], images)
    np.testing.assert_array_equal(mean[0, 0, 0], images.mean((0, 1, 2)).round())
    np.testing.assert_array_equal(pad_images(images, 2, "reflect")[:, 1, 2:-2], images[:, 1])
    assert pad_images(images, 0, "mean") is images


def small_recipe(**changes):
    return dataclasses.replace(RECIPES["fast"], **{"steps": 40, "batch_size": 10, "dtype": "float32", **changes})


def test_a_learning_rate_scales_the_whole_schedule():
    paper, gentle = RECIPES["paper"], RECIPES["paper"].with_peak(0.05)
    for step in (0, 400, 32_000, 63_999):
        assert gentle.learning_rate(step) == pytest.approx(paper.learning_rate(step) / 2)


def batch(source, step):
    """Returns images and labels of a step, as in the compiled step."""
    return tuple(np.asarray(keras.ops.convert_to_numpy(array)) for array in source.augment(
        [keras.ops.convert_to_tensor(array) for array in source.device_data],
        *map(keras.ops.convert_to_tensor, source.draw(step)),
    ))  # fmt: skip


@pytest.mark.parametrize("recipe", ["paper", "fast"])
def test_augmentation_in_the_step_against_numpy(recipe):
    """Every image of a batch: padded with np.pad, cropped by a slice, flipped with [::-1]."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (30, 8, 10, 3), dtype="uint8"), rng.integers(0, 10, 30)
    source = DeviceData(images, labels, small_recipe(batch_size=20, pad=2, pad_mode=RECIPES[recipe].pad_mode), seed=0)
    for step in (0, 1, 5):
        found, found_labels = batch(source, step)
        assert found.dtype == np.uint8 and len(found) == 20
        for image, label, i, row, column, flip in zip(found, found_labels, *source.draw(step), strict=True):
            padding = [(2, 2), (2, 2), (0, 0)]
            if recipe == "fast":
                padded = np.pad(images[i], padding, mode="reflect")
            else:
                mean = images.mean((0, 1, 2)).round()
                padded = np.stack([np.pad(images[i, ..., c], 2, constant_values=mean[c]) for c in range(3)], -1)
            expected = padded[row : row + 8, column : column + 10]
            np.testing.assert_array_equal(image, expected[:, ::-1] if flip else expected)
            assert label == labels[i]


def test_augmentation_is_random_per_image():
    """5 x 5 shifts and 2 flips, equally frequent and independent of each other."""
    source = DeviceData(np.zeros((500, 8, 8, 3), "uint8"), np.zeros(500), small_recipe(pad=2, flip="random"), seed=0)
    plans = np.concatenate([np.stack(source.draw(step), 1) for step in range(2000)])
    assert np.bincount(plans[:, 0]).tolist() == [40] * 500
    counts = np.bincount(np.ravel_multi_index(plans[:, 1:].T, (5, 5, 2)), minlength=50)
    assert len(counts) == 50 and abs(counts - 400).max() < 5 * np.sqrt(400)


def test_every_epoch_has_every_image_once():
    """The dataset is not a multiple of the batch size: the stream continues across epochs."""
    source = DeviceData(np.zeros((25, 8, 8, 3), "uint8"), np.arange(25), small_recipe(), seed=0)
    stream = np.concatenate([batch(source, step)[1] for step in range(5)])
    epochs = stream[:25], stream[25:]
    assert all(sorted(epoch) == list(range(25)) for epoch in epochs)
    assert not np.array_equal(*epochs)


def test_alternating_flips_show_both_sides_of_each_image_in_two_epochs():
    images = np.zeros((20, 8, 8, 3), "uint8")
    images[:, :, :4] = 255
    source = DeviceData(images, np.arange(20), small_recipe(pad=0, pad_mode="mean"), seed=0)
    seen = {}
    for step in range(4):
        for image, label in zip(*batch(source, step), strict=True):
            seen.setdefault(int(label), []).append(image[0, 0, 0])
    assert all(sorted(sides) == [0, 255] for sides in seen.values())


def test_plans_depend_on_seed_and_step_alone():
    images = np.zeros((30, 8, 8, 3), "uint8")
    one, two, other = (DeviceData(images, np.arange(30), small_recipe(), seed) for seed in (0, 0, 1))
    plans = [list(itertools.islice(source.batches(7), 3)) for source in (one, two, other)]
    np.testing.assert_array_equal(plans[0], plans[1])
    np.testing.assert_array_equal(plans[0][1], one.draw(8))
    assert not np.array_equal(plans[0], plans[2])


def test_weight_decay_is_in_the_gradient():
    """One manual step: velocity = -rate * (gradient + l2 * w), on kernels but not on biases."""
    kernel, bias = keras.Variable([2.0], name="kernel"), keras.Variable([3.0], name="bias")
    optimizer = SGD(0.1, momentum=0.9, l2=0.5, decays=lambda v: v.name == "kernel")
    optimizer.build([kernel, bias])
    for _ in range(2):
        optimizer.apply([keras.ops.array([1.0]), keras.ops.array([1.0])])
    w, v = 2.0, 0.0
    for _ in range(2):
        v = 0.9 * v - 0.1 * (1.0 + 0.5 * w)
        w += v
    assert abs(float(kernel[0]) - w) < 1e-6
    assert abs(float(bias[0]) - (3.0 - 0.1 - 0.19)) < 1e-6


def train_here(model, digits, recipe, out, **options):
    """`loop.train` on the digits; the history's last row."""
    out.mkdir(exist_ok=True)
    source = DeviceData(*digits[0], recipe, 0)
    measure = lambda network: {"test_error": measure_error(network, *digits[1])}  # noqa: E731
    return loop.train(model, source, measure, recipe, out, **options).history[-1]


def test_resuming_restores_everything_that_the_next_step_depends_on(digits, tmp_path):
    """Stopped in the middle of 12 steps and resumed into a network with other initial weights: the same weights."""
    recipe = small_recipe(steps=12)

    def run(seed, out, **options):
        keras.utils.set_random_seed(seed)
        model = keras_resv2.ResNet(8, shortcut="dropout(rate=0.1)", classifier_activation=None)
        row = train_here(model, digits, recipe, out, **options)
        return model.get_weights(), row

    whole, whole_row = run(0, tmp_path / "whole")
    done = []
    with pytest.raises(loop.Stopped, match="saved"):
        run(0, tmp_path / "cut", stop=lambda: done[-1:] > [1], callbacks=[lambda *at: done.append(at[0].step)])
    assert 1 < done[-1] < 12 and (tmp_path / f"cut/checkpoint-{done[-1]:08d}.npz").exists()
    seen = []
    resumed, resumed_row = run(1, tmp_path / "cut", callbacks=[lambda *at: seen.append((at[0].step, at[1]))])
    assert seen[0][0] > done[-1] and all(rate == recipe.learning_rate(step - 1) for step, rate in seen)
    for a, b in zip(whole, resumed, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
    assert abs(whole_row["train_loss"] - resumed_row["train_loss"]) < 1e-3


def test_a_full_disk_is_reported_and_keeps_the_last_checkpoint(digits, tmp_path, monkeypatch):
    """The file that a checkpoint is written to is a link to /dev/full, which is always full."""
    partial_path = files._partial_path

    def full(path):
        partial = partial_path(path)
        partial.symlink_to("/dev/full")
        return partial

    model = keras_resv2.ResNet(8, classifier_activation=None)
    recipe = small_recipe(steps=30)

    def fill(progress, rate, row):
        if progress.step > 1:
            monkeypatch.setattr(files, "_partial_path", full)

    with pytest.raises(OSError, match=r"the disk of .* is full.* the one before is kept"):
        train_here(model, digits, recipe, tmp_path, checkpoint_seconds=0, callbacks=[fill])
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-00000001.npz"]


def test_a_disk_without_room_is_noticed_before_training(digits, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**6, 10**6, 10**5))
    with pytest.raises(OSError, match="MB free, but checkpoints and weights need"):
        train_here(keras_resv2.ResNet20(classifier_activation=None), digits, small_recipe(), tmp_path)


def test_a_loss_that_is_no_number_stops_the_run(digits, tmp_path):
    model = keras_resv2.ResNet(8, classifier_activation=None)
    with pytest.raises(loop.Diverged, match=r"at step [23], learning rate 1e.* no checkpoint yet"):
        train_here(model, digits, small_recipe(schedule=((0, 1e30),)), tmp_path / "early")
    assert not list((tmp_path / "early").iterdir())
    late = small_recipe(schedule=((0, 0.01), (0.5, 1e30)), interpolate=False)  # 20 good steps of 40
    with pytest.raises(loop.Diverged, match=r"at step 2[123], learning rate 1e\+30. The checkpoint of step \d+ is"):
        train_here(
            keras_resv2.ResNet(8, classifier_activation=None), digits, late, tmp_path / "late", checkpoint_seconds=0
        )
    kept = [np.load(path) for path in sorted((tmp_path / "late").glob("checkpoint-*.npz"))]
    assert kept and all(np.isfinite(file[name]).all() for file in kept for name in file.files if name != "meta")


def test_scores_that_are_no_numbers_stop_the_run(digits, tmp_path, monkeypatch):
    """Loss and weights may be finite although inference overflows."""
    monkeypatch.setattr("keras_resv2.evaluation.highest_class", lambda scores: check_finite(np.nan * scores))
    model = keras_resv2.ResNet(8, classifier_activation=None)
    with pytest.raises(loop.Diverged, match=r"scores of .* are NaN .* at step \d+, learning rate"):
        train_here(model, digits, small_recipe(), tmp_path)


def test_precisions_learn_the_same(digits, tmp_path):
    """Mean loss of the second epoch, same seed and batches, at a gentle rate."""
    losses = {}
    digits = [(images[:, ::2, ::2], labels) for images, labels in digits]
    for dtype in ("float32", "mixed_bfloat16", "mixed_float16"):
        keras.utils.set_random_seed(0)
        model = keras_resv2.ResNet(8, input_shape=(16, 16, 3), classifier_activation=None, dtype=dtype)
        recipe = small_recipe(steps=60, batch_size=50, schedule=((0, 0.05),), dtype=dtype)
        losses[dtype] = train_here(model, digits, recipe, tmp_path / dtype)["train_loss"]
    assert max(losses.values()) - min(losses.values()) < 0.1 and max(losses.values()) < 2.0, losses


def test_float16_leaves_out_a_step_that_overflows_and_halves_the_scale():
    """A scale beyond float16's range makes every gradient infinite: the weights do not change."""
    model = keras_resv2.ResNet(8, classifier_activation=None, dtype="mixed_float16")
    recipe = small_recipe(dtype="mixed_float16")
    optimizer = make_optimizer(recipe, model.trainable_variables)
    optimizer.dynamic_scale.assign(1e30)
    rng = np.random.default_rng(0)
    source = DeviceData(rng.integers(0, 256, (30, 32, 32, 3), dtype="uint8"), np.arange(30) % 10, recipe, 0)
    steps = make_steps(model, optimizer, source)
    before = [keras.ops.convert_to_numpy(v).copy() for v in model.trainable_variables]
    losses, _ = steps.run([0.1], [source.draw(0)])
    steps.sync()
    assert np.isfinite(losses).all() and np.isclose(float(optimizer.dynamic_scale), 5e29)
    for variable, array in zip(model.trainable_variables, before, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(variable), array)


@pytest.mark.parametrize("dtype", ["float32", "mixed_float16"])
def test_many_steps_in_one_dispatch_are_the_same_steps(dtype):
    """Compares 1 + 3 + 2 steps in three dispatches with six; on JAX the compiled loop with Python's."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (60, 32, 32, 3), dtype="uint8")
    recipe = small_recipe(batch_size=4, dtype=dtype)
    losses = []
    for counts in ((1, 3, 2), (1,) * 6):
        keras.utils.set_random_seed(0)
        model = keras_resv2.ResNet(8, classifier_activation=None, dtype=dtype)
        source = DeviceData(images, np.arange(60) % 10, recipe, 0)
        optimizer = make_optimizer(recipe, model.trainable_variables)
        if keras.backend.backend() == "jax":
            source.max_steps_per_dispatch = 3
            steps = JaxSteps(model, optimizer, source, ONE_DEVICE, compiled_loop=len(counts) == 3)
        else:
            steps = make_steps(model, optimizer, source)
        batches, found = source.batches(0), []
        for count in counts:
            rates = [0.01 * (1 + len(found) + i) for i in range(count)]
            found += list(map(float, steps.run(rates, list(itertools.islice(batches, count)))[0][:count]))
        steps.sync()
        losses.append([*found, float(np.abs(model.get_weights()[0]).sum())])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4 if dtype == "float32" else 1e-2)


def test_checkpoints_keep_two_and_refuse_another_network(tmp_path):
    variables = [keras.Variable(np.arange(3.0)), keras.Variable(0.0)]
    for step in (1, 2, 3):
        variables[1].assign(step)
        checkpoint.save(tmp_path, step, variables, {"at": step})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-00000002.npz", "checkpoint-00000003.npz"]
    variables[1].assign(0)
    assert checkpoint.restore(tmp_path, variables) == {"at": 3} and float(variables[1]) == 3
    with pytest.raises(ValueError, match="another network"):
        checkpoint.restore(tmp_path, variables[:1])


def test_a_temporarily_unreadable_checkpoint_is_kept(tmp_path):
    """A folder in its place: opening it fails like on a disconnected disk."""
    checkpoint.save(tmp_path, 1, [keras.Variable(1.0)], {"at": 1})
    (tmp_path / "checkpoint-00000002.npz").mkdir()
    with pytest.raises(OSError):
        checkpoint.restore(tmp_path, [keras.Variable(0.0)])
    assert len(list(tmp_path.glob("checkpoint-*.npz"))) == 2


def test_a_checkpoint_that_lost_an_array_is_damaged(tmp_path):
    """Damage to the directory of the file hides arrays; the previous checkpoint is intact."""
    variables = [keras.Variable(1.0), keras.Variable(2.0)]
    for step in (1, 2):
        checkpoint.save(tmp_path, step, variables, {"at": step})
    newest = tmp_path / "checkpoint-00000002.npz"
    with np.load(newest) as file:
        arrays = {name: file[name] for name in file.files}
    del arrays["v1"]
    np.savez(newest, **arrays)
    assert checkpoint.restore(tmp_path, variables) == {"at": 1}
    assert newest.with_suffix(".damaged").exists()


def test_any_damaged_byte_of_a_checkpoint_is_noticed(tmp_path):
    """Or has no effect: the previous checkpoint is used, and nothing else is raised."""
    variables = [keras.Variable(np.arange(3.0)), keras.Variable(2.0)]
    for step in (1, 2):
        checkpoint.save(tmp_path, step, variables, {"at": step})
    newest = tmp_path / "checkpoint-00000002.npz"
    whole, found = newest.read_bytes(), set()
    for position in range(0, len(whole), 3):
        newest.write_bytes(whole[:position] + bytes([whole[position] ^ 0xFF]) + whole[position + 1 :])
        found.add(checkpoint.restore(tmp_path, variables)["at"])
        assert float(variables[1]) == 2 and np.array_equal(variables[0], np.arange(3.0))
        newest.with_suffix(".damaged").unlink(missing_ok=True)
    assert found == {1, 2}


def test_without_memory_checkpoints_stay(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, 1, [keras.Variable(1.0)], {"at": 1})

    def load(*arguments, **options):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(np, "load", load)
        with pytest.raises(MemoryError):
            checkpoint.restore(tmp_path, [keras.Variable(0.0)])
    assert checkpoint.restore(tmp_path, [keras.Variable(0.0)]) == {"at": 1}


def test_damaged_checkpoints_do_not_outlive_their_successors(tmp_path):
    variables = [keras.Variable(0.0)]
    for step in (10, 20):
        checkpoint.save(tmp_path, step, variables, {"at": step})
        (tmp_path / f"checkpoint-{step:08d}.npz").write_bytes(b"damaged")
    assert checkpoint.restore(tmp_path, variables) is None
    checkpoint.save(tmp_path, 5, variables, {"at": 5})
    assert checkpoint.restore(tmp_path, variables) == {"at": 5}


class FakeDevice:
    """A simulated accelerator with a queue: times are added up, nothing is measured."""

    HOST, CALL, WAIT = 30e-6, 200e-6, 300e-6  # seconds: to start a call, of the call itself, to fetch a result

    def __init__(self):
        self.now = self.done = 0.0

    def call(self, x):
        self.now += self.HOST
        self.done = max(self.now, self.done) + self.CALL
        return x

    def wait(self, x):
        self.now = max(self.now, self.done) + self.WAIT


def test_the_roofline_excludes_time_of_the_host():
    device = FakeDevice()
    seconds = roofline.seconds_per_call(device.call, None, device.wait, clock=lambda: device.now)
    assert seconds == pytest.approx(device.CALL, rel=0.01)
    device.CALL = 2.0  # a processor: one call is enough
    started = device.now
    assert roofline.seconds_per_call(device.call, None, device.wait, lambda: device.now) == pytest.approx(2, rel=0.001)
    assert device.now - started < 2.1 * (roofline.REPEATS + 1)


def test_the_floor_counts_what_arithmetic_does(monkeypatch):
    """A 3x3 convolution of 4x4 pixels from 3 to 8 channels, and a classifier of 8 features."""
    monkeypatch.setattr(roofline, "MATRIX", 1024)
    monkeypatch.setattr(roofline, "VECTOR", 2**22)
    inputs = keras.Input((4, 4, 3))
    x = keras.layers.Conv2D(8, 3, padding="same", use_bias=False)(inputs)
    model = keras.Model(inputs, keras.layers.Dense(10)(keras.layers.GlobalAveragePooling2D()(x)))
    assert roofline.count_operations(model) == 3 * 2 * (4 * 4 * 8 * 9 * 3 + 8 * 10)
    assert roofline.count_bytes(model, "bfloat16") == 3 * 2 * (4 * 4 * (3 + 8) + 8 + 10)
    assert roofline.count_bytes(model, "float32") == 2 * roofline.count_bytes(model, "bfloat16")
    least = roofline.roofline(model, 16, "bfloat16")
    by_hand = 16 * np.array([roofline.count_operations(model), roofline.count_bytes(model, "bfloat16")])
    rates = np.array([least["operations_per_second"], least["bytes_per_second"]])
    assert least["seconds"] == pytest.approx(max(by_hand / rates)) and rates.min() > 1e8
