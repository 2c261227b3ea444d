"""`keras_resv2.SGD` takes the same steps as PyTorch's, which decays inside the momentum."""

import keras
import numpy as np
import pytest

import keras_resv2


def network():
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="a"), keras.layers.BatchNormalization()])


def gradients(step, model):
    rng = np.random.default_rng(step)
    return [rng.normal(size=weight.shape).astype("float32") for weight in model.trainable_variables]


@pytest.mark.parametrize("decay", ["all", "kernels"])
@pytest.mark.parametrize("nesterov", [False, True])
def test_steps_are_those_of_pytorch(decay, nesterov):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    model = network()
    theirs = [torch.nn.Parameter(torch.tensor(np.array(weight))) for weight in model.trainable_variables]
    kernels = [weight.path.endswith("kernel") for weight in model.trainable_variables]
    assert sum(kernels) == 1
    groups = [
        {"params": [weight], "weight_decay": 0.1 if decay == "all" or kernel else 0.0}
        for weight, kernel in zip(theirs, kernels, strict=True)
    ]
    other = torch.optim.SGD(groups, lr=0.1, momentum=0.9, nesterov=nesterov)
    ours = keras_resv2.SGD(0.1, momentum=0.9, nesterov=nesterov, l2=0.1, decay=decay)
    for step in range(5):
        found = gradients(step, model)
        ours.apply([keras.ops.convert_to_tensor(gradient) for gradient in found], model.trainable_variables)
        for weight, gradient in zip(theirs, found, strict=True):
            weight.grad = torch.tensor(gradient)
        other.step()
    for one, two in zip(model.trainable_variables, theirs, strict=True):
        np.testing.assert_allclose(np.array(one), two.detach().numpy(), rtol=1e-5, atol=1e-6)


def test_weight_decay_of_keras_is_another():
    """By hand, without gradients: after many steps L2 inside the momentum moves the weight ten times as far."""
    moved = {}
    for name, optimizer in (
        ("l2", keras_resv2.SGD(0.01, momentum=0.9, l2=0.01)),
        ("keras", keras.optimizers.SGD(0.01, momentum=0.9, weight_decay=0.01)),
    ):
        weight = keras.Variable(np.ones(1, "float32"), name="kernel")
        for _ in range(200):
            optimizer.apply([keras.ops.zeros(1)], [weight])
        moved[name] = 1 - float(weight[0])
    assert moved["keras"] == pytest.approx(1 - (1 - 0.0001) ** 200, rel=1e-3)
    weight, velocity = 1.0, 0.0
    for _ in range(200):
        velocity = 0.9 * velocity - 0.01 * 0.01 * weight
        weight += velocity
    assert moved["l2"] == pytest.approx(1 - weight, rel=1e-3) and moved["l2"] > 8 * moved["keras"]


def test_it_is_saved_and_opened_with_a_model(tmp_path):
    model = network()
    model.compile(keras_resv2.SGD(0.1, momentum=0.9, l2=0.01, decay="kernels"), "mse")
    data = np.random.default_rng(0).normal(size=(2, 8, 4)).astype("float32")
    model.fit(data[0], data[1][:, :3], verbose=0)
    model.save(tmp_path / "model.keras")
    opened = keras.models.load_model(tmp_path / "model.keras")
    assert type(opened.optimizer) is keras_resv2.SGD
    assert (opened.optimizer.l2, opened.optimizer.decay) == (0.01, "kernels")
    for one in (model, opened):
        one.fit(data[1], data[0][:, :3], shuffle=False, verbose=0)
    for one, two in zip(model.get_weights(), opened.get_weights(), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "arguments, words",
    [(dict(l2=-1), "l2=-1 must"), (dict(decay="biases"), "decay"), (dict(weight_decay=1e-4), "use l2=")],
)
def test_bad_arguments(arguments, words):
    with pytest.raises(ValueError, match=words):
        keras_resv2.SGD(0.1, **arguments)
