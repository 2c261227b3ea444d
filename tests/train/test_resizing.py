"""Training on smaller images first: the images, the steps of each size, and the estimates of time."""

import dataclasses
import itertools
import types

import keras
import numpy as np
import pytest
from PIL import Image

import keras_resv2
from keras_resv2.evaluation import measure_error
from keras_resv2.storage.weight_file import read_weights
from train import dry_run, loop
from train.data.device_data import DeviceData
from train.data.resizing import at_size, filter_weights, resize
from train.devices import ONE_DEVICE
from train.optimizer import make_optimizer
from train.recipe import full_size_steps
from train.recipes import RECIPES


def recipe_of(**changes):
    return dataclasses.replace(
        RECIPES["paper"], **{"steps": 30, "batch_size": 10, "warmup_steps": 0, "warmup_rate": 0.0, **changes}
    )


@pytest.mark.parametrize("size", [(24, 24), (16, 16), (31, 31), (9, 20)])
def test_images_against_pillow(size):
    """Noise, and a smooth image; weights in units of 1/256 and two roundings differ by up to two levels."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (20, 32, 40, 3), dtype="uint8")
    smooth = np.asarray(Image.fromarray(noise[0, :4, :4]).resize((40, 32), Image.Resampling.BICUBIC))
    images = np.concatenate([noise, smooth[None]])
    found = keras.ops.convert_to_numpy(resize(images, size))
    assert found.dtype == np.uint8 and found.shape == (21, *size, 3)
    pillow = [Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR) for image in images]
    differences = found.astype(int) - np.stack([np.asarray(image) for image in pillow])
    assert np.abs(differences).max() <= 2 and np.abs(differences).mean() < 0.3 and abs(differences.mean()) < 0.02


def test_weights_by_hand():
    """Three pixels from four: centers at 4/6, 2 and 20/6, and triangles that reach 4/3 to each side."""
    distances = np.abs(np.arange(4) + 0.5 - np.array([4 / 6, 2, 20 / 6])[:, None])
    triangles = np.maximum(0, 1 - distances / (4 / 3))
    exact = 256 * triangles / triangles.sum(axis=1, keepdims=True)
    assert np.abs(filter_weights(4, 3) - exact).max() < 1
    for length, new_length in ((32, 24), (32, 17), (224, 128), (7, 7)):
        weights = filter_weights(length, new_length)
        assert (weights == weights.round()).all() and (weights >= 0).all() and (weights.sum(axis=1) == 256).all()
    np.testing.assert_array_equal(filter_weights(7, 7), 256 * np.eye(7))


def test_black_and_white_stay():
    for color in (0, 1, 255):
        images = np.full((1, 32, 32, 3), color, "uint8")
        assert (keras.ops.convert_to_numpy(resize(images, (19, 19))) == color).all()


def test_sides_by_hand():
    recipe = recipe_of(image_size=((0, 16), (0.1, 24), (0.5, 32)))
    assert recipe.sides() == [(0, 3, 16), (3, 15, 24), (15, 30, 32)]  # although 0.1 * 30 is above 3 in floating point
    assert [recipe.side(step) for step in (0, 2, 3, 14, 15, 29, 30)] == [16, 16, 24, 24, 32, 32, 32]
    assert recipe_of().sides() == [(0, 30, None)] and recipe_of(image_size=24).sides() == [(0, 30, 24)]
    assert recipe_of(image_size=((0, 24), (0.5, 24))).sides() == [(0, 30, 24)]
    assert recipe_of(image_size=((0, 16), (0.001, 24), (1, 32))).sides() == [(0, 1, 16), (1, 30, 24)]
    assert full_size_steps(recipe.sides(), 20) == pytest.approx(3 / 4 + 12 * 9 / 16 + 5)
    assert full_size_steps(recipe_of().sides(), 20) == 20
    fractions = recipe_of(image_size=((0, 0.5), (0.1, 0.75), (0.5, 1.0)))
    assert fractions.sides() == [(0, 3, 0.5), (3, 15, 0.75), (15, 30, 1.0)]
    assert full_size_steps(fractions.sides(), 20) == pytest.approx(full_size_steps(recipe.sides(), 20))
    fractions.check_image_size((8, 8, 3))
    recipe.check_image_size((32, 48, 3))
    with pytest.raises(ValueError, match="image_size=32 exceeds the size of the training images, 31 pixels"):
        recipe.check_image_size((31, 48, 3))


def test_sources_at_a_size():
    images = np.random.default_rng(0).integers(0, 256, (20, 16, 24, 3), dtype="uint8")
    source = DeviceData(images, np.arange(20), recipe_of(pad=2), seed=0)
    assert at_size(source, None) is source and at_size(source, 16) is source and at_size(source, 1.0) is source
    assert at_size(source, 0.75).image_size == (12, 18) and at_size(source, 0.01).image_size == (1, 2)
    smaller = at_size(source, 12)
    batch = [keras.ops.convert_to_tensor(array) for array in next(smaller.batches(3))]
    data = [keras.ops.convert_to_tensor(array) for array in source.device_data]
    (found, labels), (original, same_labels) = smaller.augment(data, *batch), source.augment(data, *batch)
    assert tuple(found.shape) == (10, 12, 18, 3)
    np.testing.assert_array_equal(*map(keras.ops.convert_to_numpy, (labels, same_labels)))
    np.testing.assert_array_equal(*map(keras.ops.convert_to_numpy, (found, resize(original, (12, 18)))))
    assert next(smaller.plain_images()).shape[1:] == (16, 24, 3)


def test_each_step_has_images_of_its_size(digits, tmp_path, monkeypatch):
    """Sizes of the images in each dispatch, of a whole run and of one that resumes with the second size."""
    (train, labels), test = digits
    recipe = recipe_of(steps=12, image_size=((0, 8), (0.4, 12), (0.6, 16)), batch_size=60)
    dispatched, make_steps = [], loop.make_steps

    def counted(*arguments):
        steps = make_steps(*arguments)
        run = steps.run

        def counting(rates, batches, switches):
            source = steps._source
            drawn = [keras.ops.convert_to_tensor(array) for array in batches[0]]
            images, _ = source.augment([keras.ops.convert_to_tensor(a) for a in source.device_data], *drawn)
            dispatched.append([images.shape[1]] * len(rates))
            return run(rates, batches, switches)

        steps.run = counting
        return steps

    monkeypatch.setattr(loop, "make_steps", counted)

    def run(out, stop_after=99):
        out.mkdir(exist_ok=True)
        keras.utils.set_random_seed(0)
        model = keras_resv2.ResNet(8, input_shape=(None, None, 3), classifier_activation=None)
        source = DeviceData(train[:120, ::2, ::2], labels[:120], recipe, 0)
        measure = lambda network: {"test_error": measure_error(network, test[0][:, ::2, ::2], test[1])}  # noqa: E731
        done = [0]
        loop.train(
            model, source, measure, recipe,
            out, callbacks=[lambda progress, *_: done.append(progress.step)], stop=lambda: done[-1] >= stop_after,
        )  # fmt: skip
        return model.get_weights()

    sizes = [8] * 5 + [12] * 3 + [16] * 4
    whole = run(tmp_path / "whole")
    assert list(itertools.chain(*dispatched)) == sizes
    assert all(len(next(d for d in dispatched if d[0] == size)) == 1 for size in (8, 12, 16))  # of unknown duration
    dispatched.clear()
    with pytest.raises(loop.Stopped, match="saved"):
        run(tmp_path / "cut", stop_after=6)
    assert 6 <= len(list(itertools.chain(*dispatched))) < 12
    for a, b in zip(whole, run(tmp_path / "cut"), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
    assert list(itertools.chain(*dispatched)) == sizes


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="needs KERAS_BACKEND=jax: compiled loops are JAX's")
def test_compiled_loops_have_the_size_of_their_images():
    """Loops of two steps of each size, as on an accelerator, against single steps."""
    from train.steps import JaxSteps

    recipe = recipe_of(steps=8, batch_size=10)
    images = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), dtype="uint8")
    results = []
    for compiled in (True, False):
        keras.utils.set_random_seed(0)
        model = keras_resv2.ResNet(8, input_shape=(None, None, 3), classifier_activation=None)
        source = DeviceData(images, np.arange(40) % 10, recipe, 0)
        optimizer = make_optimizer(recipe, model.trainable_variables)
        steps, batches = JaxSteps(model, optimizer, at_size(source, 8), ONE_DEVICE, compiled), source.batches(0)
        steps.block = min(steps.block, 2)
        losses = []
        for side in (8, 16):
            steps.use(at_size(source, side))
            losses += list(np.asarray(steps.run([0.01] * 4, list(itertools.islice(batches, 4)))[0][:4]))
        steps.sync()
        results.append((losses, model.get_weights()))
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-3)
    for a, b in zip(results[0][1], results[1][1], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-2, atol=1e-3)


def test_statistics_are_those_of_images_of_full_size(tmp_path):
    """Stripes of one pixel, gray in smaller images: the first layer's outputs have another variance."""
    images = np.zeros((40, 16, 16, 3), "uint8")
    images[:, ::2] = 255
    recipe, seen = recipe_of(steps=4, pad=0, image_size=8, schedule=((0, 1e-6),)), []
    keras.utils.set_random_seed(0)
    model = keras_resv2.ResNet(8, input_shape=(None, None, 3), classifier_activation=None)
    bn, stem = model.get_layer("stem_bn"), model.get_layer("stem_conv")

    def measure(network):
        if hasattr(network, "sync"):
            network.sync()
        seen.append(keras.ops.convert_to_numpy(bn.moving_variance))
        return {"test_error": measure_error(network, images, np.zeros(40, int))}

    loop.train(model, DeviceData(images, np.arange(40) % 10, recipe, 0), measure, recipe, tmp_path)
    outputs = keras.Model(model.input, stem.output).predict(images, verbose=0)
    np.testing.assert_allclose(seen[-1], outputs.var(axis=(0, 1, 2)), rtol=1e-2, atol=1e-4)
    kept = read_weights(tmp_path / "weights.h5")["stem_bn/moving_variance"]
    np.testing.assert_allclose(kept, seen[-1], rtol=1e-5)
    gray = keras.ops.convert_to_numpy(bn.moving_variance)  # of the training, restored after the evaluation
    assert not np.allclose(gray, kept, rtol=0.1)


@pytest.mark.parametrize("sizes", [((0, 16), (0.9, 32)), ((0, 0.5), (0.9, 1.0))])
def test_plans_time_every_size(sizes, monkeypatch):
    """The times are those of a clock that counts a second for each pixel of a side of the images in a step."""
    images = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype="uint8")
    recipe = recipe_of(image_size=sizes)
    clock = [0.0]

    class Steps:
        block = 1

        def use(self, source):
            self.side = source.image_size[0]

        def run(self, rates, batches, switches):
            clock[0] += self.side * len(rates)
            return np.zeros(len(rates)), None

    monkeypatch.setattr(dry_run, "make_steps", lambda *arguments: Steps())
    monkeypatch.setattr(dry_run, "time", types.SimpleNamespace(monotonic=lambda: clock[0]))
    model = keras_resv2.ResNet(8, input_shape=(None, None, 3), classifier_activation=None)
    text = dry_run.time_steps(DeviceData(images, np.arange(40) % 10, recipe, 0), recipe, model)
    lines = {line[:16].strip(): line[16:] for line in text.splitlines()}
    assert lines["measured"] == "16000.0 ms a step of 16 pixels, 1 images/s; 32000.0 ms a step of 32 pixels, 0 images/s"
    assert lines["first step"] == "16.0 s; 32.0 s, compilation included"
    assert lines["training takes"].startswith("10 min")  # 16 + 27 * 16 + 32 + 3 * 32 = 576 s
    data = types.SimpleNamespace(train_images=40, test_images=10, image_shape=(32, 48, 3))
    plan = dry_run.describe("resnet8", {}, "arrays", data, recipe, model).splitlines()
    assert "image size      16 pixels, 32 from step 27" in plan
