"""The named networks: parameters and FLOPs of the papers' tables, shapes, names, arguments."""

import inspect
import math

import keras
import numpy as np
import pytest

import keras_resv2
from keras_resv2 import ResNet, count_multiply_adds, features
from keras_resv2.architectures import ARCHITECTURES
from keras_resv2.builders import BUILDERS
from keras_resv2.models.config import resolve_network
from keras_resv2.storage.weight_file import save_weights


def trainable(model):
    return sum(math.prod(w.shape) for w in model.trainable_weights)


# Millions of parameters: He et al. 2015, Table 6; He et al. 2016, the authors' README (1.7M, 10.2M).
PAPER_PARAMETERS = {20: 0.27, 32: 0.46, 44: 0.66, 56: 0.85, 110: 1.7}


@pytest.mark.parametrize("depth, millions", PAPER_PARAMETERS.items())
@pytest.mark.parametrize("activation", ["original", "full_preactivation"])
def test_parameters_of_the_papers_tables(depth, millions, activation):
    digits = len(str(millions).split(".")[1])
    assert round(trainable(ResNet(depth, activation=activation)) / 1e6, digits) == millions


def test_parameters_of_resnet164():
    assert round(trainable(keras_resv2.PreActResNet164()) / 1e6, 1) == 1.7


def cifar_parameters(depth, bottleneck):
    """Manual count of a pre-activation network: weights of 3 stages of n units, BN, classifier."""
    n = (depth - 2) // (9 if bottleneck else 6)
    total, channels = 3 * 3 * 3 * 16, 16
    for width in (16, 32, 64):
        for _ in range(n):
            out = 4 * width if bottleneck else width
            if bottleneck:
                total += channels * width + 9 * width * width + width * out
                total += 2 * (channels + width + width)
                total += channels * out if channels != out else 0
            else:
                total += 9 * channels * width + 9 * width * width + 2 * (channels + width)
            channels = out
    return total + 2 * channels + channels * 10 + 10


@pytest.mark.parametrize("depth, bottleneck", [(20, False), (56, False), (110, False), (164, True)])
def test_parameters_by_hand(depth, bottleneck):
    assert trainable(ResNet(depth, activation="full_preactivation")) == cifar_parameters(depth, bottleneck)


@pytest.mark.slow
def test_the_1001_layer_network_has_the_papers_10_million_parameters():
    """The authors' README reports 10.2M, the count of convolutions without BN."""
    counted = trainable(keras_resv2.PreActResNet1001(rolled=True))
    assert counted == cifar_parameters(1001, True)
    assert 10.2e6 < counted < 10.4e6


@pytest.mark.slow
def test_the_1202_layer_network_has_the_papers_19_million_parameters():
    """He et al. 2015, Table 6: 19.4M. Its graph is deeper than Python's recursion limit."""
    assert round(trainable(keras_resv2.ResNet1202()) / 1e6, 1) == 19.4


@pytest.mark.parametrize("shortcut", ["none", "exclusive_gating"])
def test_graphs_deeper_than_the_recursion_limit(shortcut, pixels):
    model = ResNet(362 if shortcut == "none" else 560, shortcut=shortcut, input_shape=(8, 8, 3))
    assert features(model).output["stage3"].shape == (None, 2, 2, 64)


# torchvision's documentation and timm's (resnetv2_*), to the last digit.
REFERENCE_PARAMETERS = {
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "preact_resnet50": 25_549_352,
    "preact_resnet101": 44_541_480,
}


@pytest.mark.parametrize("name, count", REFERENCE_PARAMETERS.items())
def test_parameters_of_torchvision_and_timm(name, count):
    assert trainable(keras_resv2.build(name)) == count


# He et al. 2015, Table 1: FLOPs (multiply-adds) of 224x224 images, strides on the first 1x1.
PAPER_FLOPS = {18: 1.8e9, 34: 3.6e9, 50: 3.8e9, 101: 7.6e9, 152: 11.3e9}


@pytest.mark.parametrize("depth, flops", PAPER_FLOPS.items())
def test_flops_of_the_papers_table(depth, flops):
    counted = count_multiply_adds(ResNet(depth, stride_on="1x1"))
    assert abs(counted - flops) <= 0.05e9 + 0.02 * flops  # the table rounds to 0.1e9


def test_flops_by_hand_of_resnet20():
    stage1 = 6 * 32 * 32 * 9 * 16 * 16
    stage2 = 16 * 16 * 9 * (16 * 32 + 5 * 32 * 32)
    stage3 = 8 * 8 * 9 * (32 * 64 + 5 * 64 * 64)
    assert count_multiply_adds(ResNet(20)) == 32 * 32 * 27 * 16 + stage1 + stage2 + stage3 + 640


def test_flops_of_a_network_of_any_size():
    with pytest.raises(ValueError, match="input_shape"):
        count_multiply_adds(ResNet(20, include_top=False))


STAGE_SHAPES = [
    ("ResNet56", {}, [(32, 32, 16), (16, 16, 32), (8, 8, 64)]),
    ("PreActResNet164", {}, [(32, 32, 64), (16, 16, 128), (8, 8, 256)]),
    ("ResNet34", {}, [(56, 56, 64), (28, 28, 128), (14, 14, 256), (7, 7, 512)]),
    ("PreActResNet50", {}, [(56, 56, 256), (28, 28, 512), (14, 14, 1024), (7, 7, 2048)]),
    (
        "ResNet18",
        dict(stem="cifar", input_shape=(32, 32, 3), classes=10),
        [(32, 32, 64), (16, 16, 128), (8, 8, 256), (4, 4, 512)],
    ),
    ("PreActResNet18", dict(stem="cifar"), [(32, 32, 64), (16, 16, 128), (8, 8, 256), (4, 4, 512)]),
]


@pytest.mark.parametrize("builder, arguments, shapes", STAGE_SHAPES)
def test_feature_shapes_stage_by_stage(builder, arguments, shapes):
    model = getattr(keras_resv2, builder)(**arguments)
    found = {name: tuple(output.shape[1:]) for name, output in features(model).output.items()}
    assert found == {f"stage{i}": shape for i, shape in enumerate(shapes, start=1)}


def test_features_share_weights_and_compute_the_stages(pixels):
    model = keras_resv2.PreActResNet20()
    outputs = features(model, ["stage3", "head"])(pixels)
    stage3, head = (keras.ops.convert_to_numpy(outputs[name]) for name in ("stage3", "head"))
    bn = model.get_layer("head_bn")
    np.testing.assert_allclose(head, np.maximum(keras.ops.convert_to_numpy(bn(stage3)), 0), atol=1e-5)
    dense = model.get_layer("head_dense")
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(dense(head.mean((1, 2)))), keras.ops.convert_to_numpy(model(pixels)), atol=1e-5
    )


def test_features_of_another_model():
    with pytest.raises(ValueError, match="pass a network built by keras_resv2, not a model around it"):
        features(keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(2)]))
    with pytest.raises(ValueError, match=r"names='stage4' must be one of .*stage3"):
        features(ResNet(20), ["stage4"])


def test_every_architecture_has_its_builder():
    for key, row in ARCHITECTURES.items():
        assert getattr(keras_resv2, row.builder) is BUILDERS[key]
        assert row.builder in keras_resv2.__all__
    assert sum(name in keras_resv2.__all__ for name in (b.__name__ for b in BUILDERS.values())) == len(BUILDERS)
    assert {"resnet1202", "preact_resnet1001", "resnet200"} <= set(keras_resv2.list_architectures())


def test_builders_take_what_keras_applications_take():
    ours = inspect.signature(keras_resv2.ResNet50).parameters
    theirs = inspect.signature(keras.applications.ResNet50).parameters
    assert [name for name, given in ours.items() if given.kind is not given.KEYWORD_ONLY] == list(theirs)
    same = ("include_top", "input_tensor", "input_shape", "pooling", "classifier_activation")
    assert all(ours[name].default == theirs[name].default for name in same)


@pytest.mark.parametrize("pooling, shape", [(None, (None, None, None, 64)), ("avg", (None, 64)), ("max", (None, 64))])
def test_without_classifier(pooling, shape):
    assert keras_resv2.ResNet20(include_top=False, pooling=pooling).output_shape == shape


def test_input_tensor():
    pixels = keras.Input((48, 48, 3))
    halved = keras.layers.Rescaling(0.5)(pixels)
    model = keras_resv2.ResNet20(input_tensor=halved)
    assert model.input_shape == (None, 48, 48, 3)
    assert model.output_shape == (None, 10)
    assert isinstance(model.input, keras.KerasTensor)  # as that of any model with one input
    stock, folded = keras_resv2.to_stock_layers(model), keras_resv2.fold(model)
    image = np.random.default_rng(0).integers(0, 256, (1, 48, 48, 3)).astype("float32")
    for other in (stock, folded):
        np.testing.assert_allclose(other.predict(image, verbose=0), model.predict(image, verbose=0), atol=1e-5)


def test_models_around_a_network(pixels, tmp_path):
    """Statements about layers include those of the nested model."""
    body = keras_resv2.ResNet(8, include_top=False, pooling="avg", input_shape=(32, 32, 3))
    inputs = keras.Input((32, 32, 3), name="photograph")
    model = keras.Model(inputs, keras.layers.Dense(5)(body(inputs)))
    layers = keras.Sequential([body, keras.layers.Dense(5)])
    expected = keras_resv2.count_multiply_adds(keras_resv2.ResNet(8)) - 64 * 10 + 64 * 5
    assert keras_resv2.count_multiply_adds(model) == expected
    for whole in (model, layers):
        stock = keras_resv2.to_stock_layers(whole)
        np.testing.assert_allclose(stock.predict(pixels, verbose=0), whole.predict(pixels, verbose=0), atol=1e-5)
        kinds = {type(layer) for layer in stock.get_layer(body.name).layers}
        assert keras.layers.BatchNormalization in kinds and keras_resv2.BatchNormalization not in kinds
    with pytest.raises(ValueError, match=r"share their names, .* model\.get_layer"):
        save_weights(model, tmp_path / "weights.h5")
    any_size = keras_resv2.ResNet(8, include_top=False, pooling="avg")
    with pytest.raises(ValueError, match="accepts any size"):
        keras_resv2.count_multiply_adds(keras.Model(inputs, any_size(inputs)))


def test_whole_numbers_may_be_numpys():
    model = keras_resv2.ResNet(np.int64(8), classes=np.arange(5).max() + 1)
    assert model.output_shape == (None, 5)
    gates = keras_resv2.shortcuts.ExclusiveGating(bias=np.int64(-6))
    assert gates == keras_resv2.shortcuts.ExclusiveGating(-6.0) and type(gates.bias) is float
    for wrong in (np.True_, np.float64(20.0)):
        with pytest.raises(ValueError, match="whole number"):
            keras_resv2.ResNet(wrong)


def test_preprocessing_is_part_of_the_model(pixels):
    """Raw pixels into one model are normalized pixels into the other."""
    whole = keras_resv2.ResNet20()
    bare = keras_resv2.ResNet20(include_preprocessing=False)
    bare.set_weights(whole.get_weights())
    mean, std = np.array([125.307, 122.95, 113.865]), np.array([62.993, 62.089, 66.705])
    np.testing.assert_allclose(
        whole.predict(pixels, verbose=0), bare.predict((pixels - mean) / std, verbose=0), atol=1e-5
    )


def test_logits_and_probabilities(pixels):
    model = keras_resv2.ResNet20()
    logits = keras_resv2.ResNet20(classifier_activation=None)
    logits.set_weights(model.get_weights())
    exponentials = np.exp(logits.predict(pixels, verbose=0))
    np.testing.assert_allclose(
        model.predict(pixels, verbose=0), exponentials / exponentials.sum(1, keepdims=True), atol=1e-5
    )


@pytest.mark.parametrize("how", ["argument", "global"])
def test_mixed_precision_computes_in_bfloat16_and_ends_in_float32(how):
    if how == "global":
        keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = ResNet(20, dtype="mixed_bfloat16" if how == "argument" else None)
    finally:
        keras.config.set_dtype_policy("float32")
    assert model.get_layer("stage2_unit2_conv1").compute_dtype == "bfloat16"
    assert model.get_layer("stage2_unit2_conv1").kernel.dtype == "float32"
    assert model.output.dtype == "float32"


def test_initialisation_is_he_et_al():
    """Standard deviation sqrt(2 / fan_out) of a kernel, and BN that starts as the identity."""

    def kernels():
        keras.utils.set_random_seed(0)
        model = ResNet(20)
        names = ("stage3_unit2_conv1", "stage3_unit2_conv2")
        return model, *(keras.ops.convert_to_numpy(model.get_layer(name).kernel) for name in names)

    model, kernel, other = kernels()
    assert abs(kernel.std() / math.sqrt(2 / (9 * 64)) - 1) < 0.02 and abs(kernel.mean()) < 0.01 * kernel.std()
    assert abs((abs(kernel) > 2 * kernel.std()).mean() - 0.0455) < 0.005  # a normal distribution, not cut off
    assert not np.allclose(kernel, other) and np.array_equal(kernels()[1], kernel)
    bn = model.get_layer("stage3_unit2_bn1")
    assert (bn.momentum, bn.epsilon) == (0.9, 1e-5)


def test_unknown_architecture_names_the_nearest():
    with pytest.raises(ValueError, match="preact_resnet110"):
        keras_resv2.build("preactresnet110")


@pytest.mark.parametrize("builder", ["ResNet20", "PreActResNet20"])
def test_channels_first_is_the_same_network(builder, pixels):
    """Structure only: TensorFlow's CPU kernels do not support channels_first convolutions."""
    keras.config.set_image_data_format("channels_first")
    try:
        model = getattr(keras_resv2, builder)()
    finally:
        keras.config.set_image_data_format("channels_last")
    assert model.input_shape == (None, 3, 32, 32)
    assert model.get_layer("stage3_unit3_add").output.shape == (None, 64, 8, 8)
    assert model.count_params() == getattr(keras_resv2, builder)().count_params()


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="of Keras on TensorFlow")
def test_biases_that_keras_would_add_along_the_width_are_rejected():
    """If channels_first maps are as wide as they have channels: in stage 2 for images of 64 pixels."""
    keras.config.set_image_data_format("channels_first")
    try:
        with pytest.raises(ValueError, match=r"stage2_unit1_gate_conv .* 32, .* channels_last"):
            ResNet(8, shortcut="exclusive_gating", input_shape=(3, 64, 64))
        with pytest.raises(ValueError, match="stage2_unit1_conv2 "):
            ResNet(8, activation="full_preactivation", conv_bias=True, input_shape=(3, 64, 64))
        ResNet(8, shortcut="exclusive_gating", input_shape=(3, 32, 32))
        folded = keras_resv2.fold(ResNet(8, input_shape=(3, 64, 64)))
    finally:
        keras.config.set_image_data_format("channels_last")
    left = [layer.name for layer in folded.layers if layer.name.endswith(("bn1", "bn2", "stem_bn"))]
    assert left == ["stage2_unit1_bn1", "stage2_unit1_bn2"]


@pytest.mark.parametrize("form", ["plain", "folded", "saved"])
def test_a_network_computes_the_same_under_the_other_data_format(form, pixels, tmp_path):
    """As where Keras' configuration says channels_first, and a file or a command says channels last."""
    model = keras_resv2.ResNet(8, classifier_activation=None)
    if form == "folded":
        model = keras_resv2.fold(model)
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype="uint8")
    expected = model.predict(images, verbose=0)
    if form == "saved":
        model.save(tmp_path / "model.keras")
    keras.config.set_image_data_format("channels_first")
    try:
        if form == "saved":
            model = keras.models.load_model(tmp_path / "model.keras")
        model.predict_function = None  # compiled again
        np.testing.assert_allclose(model.predict(images, verbose=0), expected, atol=1e-5)
    finally:
        keras.config.set_image_data_format("channels_last")


def test_multiply_adds_of_other_layers():
    """Depthwise: 9 for each of 4 x 4 x 3 values; dense on feature maps: once for each position."""
    inputs = keras.Input((4, 4, 3))
    x = keras.layers.DepthwiseConv2D(3, padding="same", use_bias=False)(inputs)
    model = keras.Model(inputs, keras.layers.Dense(5, use_bias=False)(x))
    assert count_multiply_adds(model) == 9 * 4 * 4 * 3 + 4 * 4 * 3 * 5
    for layer in (keras.layers.SeparableConv2D(5, 3), keras.layers.Conv2DTranspose(5, 3)):
        with pytest.raises(ValueError, match=f"{type(layer).__name__}.* are not known"):
            count_multiply_adds(keras.Model(inputs, layer(inputs)))
    frames = keras.Input((2, 32, 32, 3))
    inside = keras.Model(frames, keras.layers.TimeDistributed(ResNet(8))(frames))
    with pytest.raises(ValueError, match="TimeDistributed"):
        count_multiply_adds(inside)


def test_multiply_adds_of_layers_called_twice():
    """By hand: a shared convolution of 9 * 3 * 5 weights on 8 x 8 and on 4 x 4 positions; a network on two images."""
    shared = keras.layers.Conv2D(5, 3, padding="same", use_bias=False)
    large, small = keras.Input((8, 8, 3)), keras.Input((4, 4, 3))
    assert count_multiply_adds(keras.Model([large, small], [shared(large), shared(small)])) == (64 + 16) * 135
    inner = ResNet(8)
    pair = [keras.Input((32, 32, 3)), keras.Input((32, 32, 3))]
    twice = keras.Model(pair, keras.layers.Add()([inner(x) for x in pair]))
    assert count_multiply_adds(twice) == 2 * count_multiply_adds(inner)
    any_size = [keras.Input((8, 8, 3)), keras.Input((None, None, 3))]
    with pytest.raises(ValueError, match="accepts any size"):
        count_multiply_adds(keras.Model(any_size, [shared(x) for x in any_size]))
    unbuilt = keras.Sequential([keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="no input shape"):
        count_multiply_adds(unbuilt)
    assert count_multiply_adds(keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])) == 6


def test_arguments_without_effect_make_equal_networks():
    """No convolution on a shortcut that could be activated."""
    for others in ({"projection": "A"}, {"projection": "A_average"}, {"shortcut": "none"}):
        made = [
            resolve_network(20, "full_preactivation", activated_shortcuts=which, **others)
            for which in ("none", "projections")
        ]
        assert made[0] == made[1]
    assert resolve_network(20, "full_preactivation") != resolve_network(
        20, "full_preactivation", activated_shortcuts="none"
    )


def test_feature_info_of_a_model_of_the_other_data_format():
    keras.config.set_image_data_format("channels_first")
    try:
        model = keras_resv2.ResNet(8)
    finally:
        keras.config.set_image_data_format("channels_last")
    assert [info.channels for info in keras_resv2.feature_info(model)] == [16, 32, 64]


@pytest.mark.parametrize("options", [{}, {"rolled": True}, {"stride_in": "last"}, {"include_top": False}])
@pytest.mark.parametrize("depth, stem", [(50, None), (34, "imagenet_unpooled"), (20, None), (18, "cifar")])
def test_feature_info_is_what_the_maps_have(depth, stem, options):
    """Compares with the sizes of the feature maps for an image of 256 x 128 pixels."""
    model = ResNet(depth, stem=stem, input_shape=(256, 128, 3), **options)
    maps = features(model).output
    found = {f.name: (256 // f.stride, 128 // f.stride, f.channels) for f in keras_resv2.feature_info(model)}
    assert found == {name: tuple(output.shape[1:]) for name, output in maps.items()}


@pytest.mark.parametrize("activation", ["original", "full_preactivation"])
def test_the_stem_before_its_pooling(activation):
    """Half the size of the image, as the first of timm's feature maps; CIFAR stems have no pooling."""
    maps = features(ResNet(18, activation=activation, input_shape=(64, 64, 3)), ["stem_conv", "stem", "stage1"]).output
    assert [tuple(maps[name].shape[1:]) for name in maps] == [(32, 32, 64), (16, 16, 64), (16, 16, 64)]
    with pytest.raises(ValueError, match="stem_conv"):
        features(ResNet(8), ["stem_conv"])
