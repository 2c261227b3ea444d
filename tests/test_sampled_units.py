"""Training a random choice of units in each batch: how many, which, and what the others keep."""

import keras
import numpy as np
import pytest

from keras_resv2.resnet import ResNet
from train.stochastic_depth import DrawUnits, with_units_per_batch


def test_as_many_units_as_asked_for_and_other_ones_each_time():
    draw = DrawUnits(9, 4)
    drawn = np.array([keras.ops.convert_to_numpy(draw(np.zeros((2, 3)), training=True)) for _ in range(200)])
    assert set(drawn.ravel()) == {0, 1} and set(drawn.sum(1)) == {4}
    assert abs(drawn.mean(0) - 4 / 9).max() < 4 * np.sqrt(4 / 9 * 5 / 9 / 200)  # four standard deviations
    assert keras.ops.convert_to_numpy(draw(np.zeros((2, 3)))).tolist() == [1] * 9


@pytest.mark.parametrize("activation", ["original", "full_preactivation"])
def test_only_the_drawn_units_learn(activation, pixels):
    plain = ResNet(20, activation=activation)
    model = with_units_per_batch(plain, 2)
    np.testing.assert_allclose(model.predict(pixels, verbose=0), plain.predict(pixels, verbose=0), atol=1e-5)
    units = [f"stage{s}_unit{u}" for s in (1, 2, 3) for u in (1, 2, 3)]
    model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    seen = set()
    for _ in range(4):
        before = [model.get_layer(f"{unit}_conv1").get_weights()[0] for unit in units]
        model.train_on_batch(pixels, np.arange(8))
        after = [model.get_layer(f"{unit}_conv1").get_weights()[0] for unit in units]
        learnt = [unit for unit, a, b in zip(units, before, after, strict=True) if not np.array_equal(a, b)]
        assert len(learnt) == 2
        seen.update(learnt)
    assert len(seen) > 2


@pytest.mark.parametrize("make, count, says", [
    (lambda: ResNet(8), 4, "must be from 1 to 3"),
    (lambda: ResNet(8), 0, "must be from 1 to 3"),
    (lambda: ResNet(8, shortcut="none"), 1, "no units with shortcuts"),
    (lambda: ResNet(26, rolled=True), 9, "from 1 to 3|no units with shortcuts"),
])  # fmt: skip
def test_what_cannot_be_left_out(make, count, says):
    with pytest.raises(ValueError, match=says):
        with_units_per_batch(make(), count)
