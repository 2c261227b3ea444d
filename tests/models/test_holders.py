"""Networks inside wrappers and custom layers: frozen, folded, with stock layers, in float32."""

import keras
import numpy as np
import pytest

import keras_resv2
from helpers.comparing import run_keras
from keras_resv2.exporting.network import plain_network
from keras_resv2.models.graph import all_layers
from keras_resv2.transfer.freezing import classifiers_of


@keras.saving.register_keras_serializable(package="tests")
class Twice(keras.layers.Layer):
    """A custom layer: the output of a network multiplied by a weight."""

    def __init__(self, network, **options):
        super().__init__(**options)
        self.network = network

    def build(self, shape):
        self.scale = self.add_weight(shape=(), initializer=keras.initializers.Constant(1.5), name="scale")

    def call(self, x, training=None):
        return self.network(x, training=training) * self.scale

    def compute_output_shape(self, shape):
        return self.network.compute_output_shape(shape)

    def get_config(self):
        return {**super().get_config(), "network": keras.saving.serialize_keras_object(self.network)}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "network": keras.saving.deserialize_keras_object(config["network"])})


class MadeInside(keras.layers.Layer):
    """A layer whose configuration does not contain its network."""

    def __init__(self, **options):
        super().__init__(**options)
        self.network = network("made")

    def call(self, x, training=None):
        return self.network(x, training=training)


def network(name, dtype=None):
    body = keras_resv2.ResNet(8, include_top=False, pooling="avg", name=name, dtype=dtype)
    rng = np.random.default_rng(0)
    for layer in body.layers:  # statistics and offsets that folding would get wrong if it left them out
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
    return body


def around(kind, dtype=None):
    """A network in a wrapper, a custom layer, or both, followed by a classifier."""
    body = network("body", dtype)
    holder = {
        "TimeDistributed": lambda: keras.layers.TimeDistributed(body, name="holder"),
        "own": lambda: Twice(body, name="holder"),
        "both": lambda: keras.layers.TimeDistributed(Twice(body, name="inner"), name="holder"),
    }[kind]()
    x = keras.Input((32, 32, 3) if kind == "own" else (2, 32, 32, 3))
    y = holder(x)
    y = y if kind == "own" else keras.layers.Flatten()(y)
    return keras.Model(x, keras.layers.Dense(3, name="mine")(y))


def images_for(model, pixels):
    return pixels if len(model.input_shape) == 4 else pixels.reshape(4, 2, 32, 32, 3)


KINDS = ("TimeDistributed", "own", "both")


def kinds_of(model):
    return [type(layer) for layer in all_layers(model)]


@pytest.mark.parametrize("kind", KINDS)
def test_freezing_reaches_the_network(kind):
    model = around(kind)
    everything = {weight.path for weight in model.trainable_variables}
    batch_norms = [layer for layer in all_layers(model) if isinstance(layer, keras.layers.BatchNormalization)]
    assert len(batch_norms) > 5
    keras_resv2.freeze(model)
    assert {weight.path.split("/")[0] for weight in model.trainable_variables} == {"mine"}
    keras_resv2.unfreeze(model)
    assert not any(layer.trainable for layer in batch_norms)
    left = {weight.path for weight in model.trainable_variables}
    assert left == {path for path in everything if "_bn" not in path and not path.endswith(("gamma", "beta"))}
    keras_resv2.unfreeze(model, batch_norm=True)
    assert {weight.path for weight in model.trainable_variables} == everything
    keras_resv2.freeze(model, until="stage3")
    names = {layer.name for layer in all_layers(model) if layer.weights and layer.trainable and "bn" not in layer.name}
    assert "stage3_unit1_conv1" in names and "stage2_unit1_conv1" not in names and "stem_conv" not in names


@pytest.mark.parametrize("kind", KINDS)
def test_stock_layers_folding_and_float32_reach_the_network(kind, pixels):
    model = around(kind)
    images = images_for(model, pixels)
    expected = run_keras(model, images)
    assert np.ptp(expected, axis=0).max() > 1e-3
    stock = keras_resv2.to_stock_layers(model)
    assert keras_resv2.BatchNormalization in kinds_of(model) and keras_resv2.BatchNormalization not in kinds_of(stock)
    folded = keras_resv2.fold(model)
    assert sum(kind is keras_resv2.BatchNormalization for kind in kinds_of(folded)) == 0
    half = around(kind, "mixed_bfloat16")
    half.set_weights(model.get_weights())
    plain = plain_network(half)
    assert {layer.compute_dtype for layer in all_layers(plain) if layer.weights} == {"float32"}
    for copy in (stock, folded, plain):
        np.testing.assert_allclose(run_keras(copy, images), expected, atol=1e-4 * np.abs(expected).max())
        assert not {id(weight) for weight in copy.weights} & {id(weight) for weight in model.weights}


def test_a_layer_that_makes_its_network_itself_is_named():
    x = keras.Input((32, 32, 3))
    model = keras.Model(x, keras.layers.Dense(2)(MadeInside(name="closed")(x)))
    with pytest.raises(ValueError, match=r"\(MadeInside\) creates the layer 'stem_bn' itself"):
        keras_resv2.to_stock_layers(model)


def test_the_classifier_before_an_activation_and_in_two_heads():
    body = keras_resv2.ResNet(8, include_top=False, pooling="avg")
    scores = keras.layers.Dense(3, name="scores")(body.output)
    keras_resv2.freeze(model := keras.Model(body.input, keras.layers.Activation("softmax")(scores)))
    assert [weight.path for weight in model.trainable_variables] == ["scores/kernel", "scores/bias"]
    hidden = keras.layers.Dense(4, name="hidden")(body.output)
    heads = [keras.layers.Dense(2, name=name)(hidden) for name in ("first", "second")]
    keras_resv2.freeze(model := keras.Model(body.input, heads))
    assert {weight.path.split("/")[0] for weight in model.trainable_variables} == {"first", "second"}
    assert classifiers_of(body) == []
