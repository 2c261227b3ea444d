"""Training on smaller images first: the images, the steps of each size, and the estimates of time."""

import dataclasses

import keras
import numpy as np
import pytest
from PIL import Image

import keras_resv2
from keras_resv2.evaluation import measure_error
from train import dry_run, loop
from train.data.device_data import DeviceData
from train.data.resizing import at_size, filter_weights, resize
from train.recipe import full_size_steps
from train.recipes import RECIPES


def recipe_of(**changes):
    return dataclasses.replace(RECIPES["paper"], **{"steps": 30, "batch_size": 10, "warmup_steps": 0, **changes})


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
    assert recipe_of(image_size=((0, 16), (0.001, 24), (1, 32))).sides() == [(0, 1, 16), (1, 30, 24)]
    assert full_size_steps(recipe.sides(), 20) == pytest.approx(3 / 4 + 12 * 9 / 16 + 5)
    assert full_size_steps(recipe_of().sides(), 20) == 20
    recipe.check_image_size((32, 48, 3))
    with pytest.raises(ValueError, match="image_size=32 exceeds the size of the training images, 31 pixels"):
        recipe.check_image_size((31, 48, 3))


def test_sources_at_a_size():
    images = np.random.default_rng(0).integers(0, 256, (20, 16, 24, 3), dtype="uint8")
    source = DeviceData(images, np.arange(20), recipe_of(pad=2), seed=0)
    assert at_size(source, None) is source and at_size(source, 16) is source
    smaller = at_size(source, 12)
    batch = [keras.ops.convert_to_tensor(array) for array in next(smaller.batches(3))]
    data = [keras.ops.convert_to_tensor(array) for array in source.device_data]
    (found, labels), (original, same_labels) = smaller.augment(data, *batch), source.augment(data, *batch)
    assert tuple(found.shape) == (10, 12, 18, 3)
    np.testing.assert_array_equal(*map(keras.ops.convert_to_numpy, (labels, same_labels)))
    np.testing.assert_array_equal(*map(keras.ops.convert_to_numpy, (found, resize(original, (12, 18)))))
    assert next(smaller.plain_images()).shape[1:] == (16, 24, 3)


def test_each_step_has_images_of_its_size(digits, tmp_path, monkeypatch):
    """Sizes seen by the network in each dispatch, of a whole run and of one that resumes with the second size."""
    (train, labels), test = digits
    recipe = recipe_of(steps=12, image_size=((0, 8), (0.4, 12), (0.6, 16)), batch_size=60)
    dispatched, make_steps = [], loop.make_steps

    def counted(model, optimizer, source, *rest):
        steps = make_steps(model, optimizer, source, *rest)
        run = steps.run

        def counting(rates, *batches):
            drawn = [keras.ops.convert_to_tensor(array) for array in batches[0][0]]
            images, _ = source.augment([keras.ops.convert_to_tensor(a) for a in source.device_data], *drawn)
            dispatched.extend([images.shape[1]] * len(rates))
            return run(rates, *batches)

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

    whole = run(tmp_path / "whole")
    assert dispatched == [8] * 5 + [12] * 3 + [16] * 4
    dispatched.clear()
    with pytest.raises(loop.Stopped, match="saved"):
        run(tmp_path / "cut", stop_after=6)
    before = len(dispatched)
    assert 6 <= before < 12
    for a, b in zip(whole, run(tmp_path / "cut"), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
    assert dispatched == [8] * 5 + [12] * 3 + [16] * 4


def test_plans_time_every_size(monkeypatch):
    monkeypatch.setattr(dry_run, "MEASURED_SECONDS", 0.1)
    images = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype="uint8")
    recipe = recipe_of(image_size=((0, 16), (0.9, 32)))
    model = keras_resv2.ResNet(8, input_shape=(None, None, 3), classifier_activation=None)
    text = dry_run.time_steps(DeviceData(images, np.arange(40) % 10, recipe, 0), recipe, model)
    measured = next(line for line in text.splitlines() if line.startswith("measured"))[16:]
    first, second = (float(part.split()[0]) for part in measured.split("; "))
    assert "a step of 16 pixels" in measured and "a step of 32 pixels" in measured and 0 < first < second
