"""Checkpoints as written by training code: the network is found among other content."""

import argparse
import collections
import pathlib
import types

import keras
import numpy as np
import pytest

import keras_resv2
from helpers.comparing import RAW, assert_same, images, randomised, run_torch
from keras_resv2 import convert
from keras_resv2.convert.equivalence import with_epsilon
from keras_resv2.convert.readers import read_source
from keras_resv2.models.weights import model_arrays

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
nn = torch.nn


def network(n=1, seed=0, **options):
    """ResNet of 6n+2 layers with random batch normalization."""
    from helpers import torch_networks

    options = {"option": "B", "word": "shortcut", **options}
    return torch_networks.shaken(torch_networks.CifarNetwork(torch_networks.Original, n, **options), seed)


@pytest.fixture(scope="module")
def state():
    return network().state_dict()


@pytest.fixture(scope="module")
def weights(state):
    return convert.detect(state).weights


def assert_equal(found, weights):
    assert found.keys() == weights.keys()
    assert all(np.array_equal(found[name], weights[name]) for name in weights)


# Our own files


@pytest.mark.parametrize("ending", ["pt", "pth", "safetensors"])
@pytest.mark.parametrize("arguments", [
    dict(activation="full_preactivation"),
    dict(activation="full_preactivation", projection="B", activated_shortcuts="none", preprocessing="tf"),
    dict(projection="A_average", stem="cifar_strided"),
])  # fmt: skip
def test_the_structure_travels_in_every_file_of_ours(arguments, ending, tmp_path, pixels):
    """Compares logits after a round trip; the same tensors read in another layout give different ones."""
    if ending == "safetensors":
        pytest.importorskip("safetensors", reason="safetensors is not installed")
    ours = randomised(keras_resv2.ResNet(8, **arguments, classifier_activation=None))
    convert.save_pytorch(ours, tmp_path / f"ours.{ending}", layout="cifar")
    expected = ours.predict(pixels, verbose=0)
    for source in (tmp_path / f"ours.{ending}", convert.to_pytorch(ours, "cifar")):
        found = convert.detect(source)
        assert found.assumed == ()
        assert_same(found.build(classifier_activation=None).predict(pixels, verbose=0), expected)
    other = convert.from_pytorch(dict(convert.to_pytorch(ours, "cifar")), classifier_activation=None)
    assert np.abs(other.predict(pixels, verbose=0) - expected).max() > 0.02 * np.ptp(expected)


@pytest.mark.parametrize("depth, arguments, size", [
    (20, dict(branch="bottleneck", stride_in="last"), 32),
    (20, dict(branch="bottleneck", stride_in="last", stride_on="3x3"), 32),
    (8, dict(stride_in="last", projection="B"), 32),
    (18, dict(classes=10), 48),
])  # fmt: skip
def test_the_place_of_strides_travels_too(depth, arguments, size):
    ours = randomised(keras_resv2.ResNet(depth, **arguments, input_shape=(size, size, 3), classifier_activation=None))
    x = np.random.default_rng(0).integers(0, 256, (2, size, size, 3), dtype="uint8")
    found = convert.detect(convert.to_pytorch(ours, "cifar")).build(
        classifier_activation=None, input_shape=(size, size, 3)
    )
    assert_same(found.predict(x, verbose=0), ours.predict(x, verbose=0))


def test_pytorch_reads_our_files_with_metadata(tmp_path):
    """`load_state_dict` accepts it strictly; the module keeps its own state."""
    ours = randomised(keras_resv2.ResNet(8, projection="B", **RAW))
    convert.save_pytorch(ours, tmp_path / "ours.pt", layout="cifar")
    theirs, x = network(), images((32, 32))
    theirs.load_state_dict(torch.load(tmp_path / "ours.pt", weights_only=True), strict=True)
    assert_same(ours.predict(x, verbose=0), run_torch(torch, theirs.eval(), x))
    assert not hasattr(theirs.state_dict(), "keras_resv2")


@pytest.mark.parametrize("said", ['{"stem": ["a"]}', '{"conv_bias": 7}', '{"projection": {"x": 1}}', "[1", 5,
    '{"epsilon": "1"}', '{"zero_channels": []}', '{"preprocessing": {"a": []}}', f'{{"epsilon": {10**400}}}',
    f'{{"preprocessing": [[{10**400}, 1, 1], [1, 1, 1]]}}'])  # fmt: skip
def test_metadata_of_a_file_is_checked(state, said):
    bad = collections.OrderedDict(state)
    bad._metadata = {"keras_resv2": said}
    with pytest.raises(ValueError) as error:
        convert.detect(bad).build()
    assert "\n" not in str(error.value)


# Endings and objects beside the tensors


@pytest.mark.parametrize("name", ["m.th", "m.pkl", "m.PTH", "m.pyth", "m", "m.tar", "m.h5.bak", "m.safetensors"])
@pytest.mark.parametrize("zipped", [True, False])
def test_any_ending(state, weights, name, zipped, tmp_path):
    torch.save(state, tmp_path / name, _use_new_zipfile_serialization=zipped)
    assert_equal(convert.detect(tmp_path / name).weights, weights)


@pytest.mark.parametrize("wrap", [
    lambda state: {"state_dict": state, "args": argparse.Namespace(lr=0.1, betas=(0.9, 0.99), out=pathlib.Path("x"))},
    lambda state: {"state_dict": state, "best_prec1": np.float64(92.1), "epoch": np.int64(3), "acc": np.float32(0.9)},
    lambda state: {"state_dict": state, "config": types.SimpleNamespace(model="resnet8")},
], ids=["Namespace", "NumPy scalars", "SimpleNamespace"])  # fmt: skip
@pytest.mark.parametrize("zipped", [True, False])
def test_objects_beside_the_tensors(state, weights, wrap, zipped, tmp_path):
    if tuple(map(int, torch.__version__.split(".")[:2])) < (2, 7):
        pytest.skip("PyTorch reads objects beside tensors by name since 2.7")
    torch.save(wrap(state), tmp_path / "checkpoint.pth", _use_new_zipfile_serialization=zipped)
    assert_equal(convert.detect(tmp_path / "checkpoint.pth").weights, weights)


def test_the_checkpoints_of_timm_as_it_writes_them(torchvision, weights, state, tmp_path):
    timm = pytest.importorskip("timm.utils", reason="timm is not installed")
    model, average = network(), network()
    model.load_state_dict(state)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    arguments = argparse.Namespace(model="resnet8", lr=0.1, output=str(tmp_path))
    saver = timm.CheckpointSaver(
        model=model, optimizer=optimizer, args=arguments, model_ema=timm.ModelEmaV2(average),
        checkpoint_dir=str(tmp_path), recovery_dir=str(tmp_path),
    )  # fmt: skip
    saver.save_checkpoint(0, metric=np.float64(91.5))
    (path,) = [path for path in tmp_path.iterdir() if path.name.startswith("checkpoint")]
    found = convert.detect(path)
    assert_equal(found.weights, weights)
    assert "'state_dict_ema.'" in found.assumed[0]
    expected = convert.detect(average.state_dict()).weights
    assert_equal(convert.detect(path, prefix="state_dict_ema").weights, expected)


# Prefixes and copies


def prefixed(state, prefix):
    return {prefix + name: value for name, value in state.items()}


@pytest.mark.parametrize("wrap, others", [
    (lambda state, other: prefixed(state, "encoder.") | {"head.0.weight": torch.ones(3, 3)}, "outside of 'encoder.'"),
    (lambda state, other: prefixed(state, "student.") | prefixed(other, "teacher."), "not 'teacher.'"),
    (lambda state, other: prefixed(state, "1.") | {"0.mean": torch.ones(3), "0.std": torch.ones(3)}, "outside of '1.'"),
    (lambda state, other: {"state_dict": prefixed(state, "model.") | {"loss.weight": torch.ones(10)}}, "loss.weight"),
    (lambda state, other: {"state_dict": state, "model_ema": other}, "not 'model_ema.'"),
    (lambda state, other: {"ema_state_dict": prefixed(other, "module."), "model": state}, "not 'ema_state_dict.module"),
    (lambda state, other: {"state_dict": {**prefixed(state, "model."), **prefixed(other, "ema.module.")}}, "ema"),
    (lambda state, other: {"model": prefixed(state, "backbone._orig_mod.")}, None),
    (lambda state, other: {"net": {"whatever": prefixed(state, "a.b.")}}, None),
    (lambda state, other: {"swa": state}, None),
    (lambda state, other: {"state_dict": {"criterion.weight": torch.ones(10), **prefixed(state, "module.resnet.")}},
     "criterion"),
    (lambda state, other: {k.replace("layer1.0", "layer1.0._checkpoint_wrapped_module"): v for k, v in state.items()},
     None),
])  # fmt: skip
def test_a_network_among_other_things(state, weights, wrap, others):
    content = wrap(state, network(seed=1).state_dict())
    found = convert.detect(content)
    assert_equal(found.weights, weights)
    about = [phrase for phrase in found.assumed if "prefix=" in phrase or "outside of" in phrase]
    assert len(about) == (others is not None) and (others or "") in " ".join(about)


def test_ambiguous_networks_are_rejected(state, weights):
    both = prefixed(network(seed=1).state_dict(), "encoder_q.") | prefixed(state, "encoder_k.")
    with pytest.raises(ValueError, match=r"2 networks, under 'encoder_q\.', 'encoder_k\.': say which with prefix="):
        convert.detect(both)
    assert_equal(convert.detect(both, prefix="encoder_k").weights, weights)
    with pytest.raises(ValueError, match=r"no network under 'encoder', but under 'encoder_q\.'"):
        convert.detect(both, prefix="encoder")


def test_a_body_inside_a_module_is_compared(state):
    """Its classifier is outside of it and is ignored, which is reported."""
    module = nn.Module()
    module.encoder, module.head = network(), nn.Linear(64, 5)
    module.encoder.linear = nn.Identity()
    found = convert.detect(module)
    assert found.classes is None and "head.weight, head.bias" in found.assumed[0] and len(found.assumed) == 2


# Weights in parts, and biases


def test_pruned_and_weight_normalized_networks(weights):
    from torch.nn.utils import parametrizations, prune

    module, x = network(), images((32, 32))
    prune.l1_unstructured(module.layer1[0].conv1, "weight", 0.6)
    prune.l1_unstructured(module.linear, "bias", 0.5)
    parametrizations.weight_norm(module.layer2[0].conv2)
    torch.nn.utils.weight_norm(module.layer3[0].conv1)
    module.layer3[0].conv1.weight_g.data *= 1.5
    found = convert.detect(module.state_dict())
    assert (found.weights["stage1_unit1_conv1/kernel"] == 0).mean() == pytest.approx(0.6, abs=0.01)
    assert_same(found.build(**RAW).predict(x, verbose=0), run_torch(torch, module, x))


def with_biases(module):
    """The same network with random biases in all of its convolutions."""
    torch.manual_seed(3)
    for parent in list(module.modules()):
        for name, part in list(parent.named_children()):
            if isinstance(part, nn.Conv2d):
                options = dict(stride=part.stride, padding=part.padding, bias=True)
                setattr(parent, name, nn.Conv2d(part.in_channels, part.out_channels, part.kernel_size, **options))
    return module.eval()


@pytest.mark.parametrize("bottleneck", [False, True])
def test_biases_of_convolutions(bottleneck):
    """Before batch normalization they are folded into its mean; in pre-activation networks others remain biases."""
    from helpers import torch_networks

    module, x = with_biases(network()), images((32, 32))
    found = convert.detect(module.state_dict())
    assert found.arguments == {"projection": "B"}
    assert_same(found.build(**RAW).predict(x, verbose=0), run_torch(torch, module, x))
    options = dict(expansion=4 if bottleneck else 1, last_bn=True, first_bn=False, bottleneck=bottleneck)
    module = torch_networks.CifarNetwork(torch_networks.PreActivation, 1, activated=True, **options)
    module = with_biases(torch_networks.shaken(module))
    module.layer2[0].conv2.bias = module.linear.bias = None  # some have none
    found = convert.detect(module.state_dict())
    assert found.arguments["conv_bias"] and found.classes == 10
    assert found.architecture == f"preact_resnet{11 if bottleneck else 8}"
    assert_same(found.build(**RAW).predict(9 * x, verbose=0), run_torch(torch, module, 9 * x))


# Depths


@pytest.mark.parametrize("n, architecture", [(1, "resnet8"), (2, "resnet14"), (4, "resnet26"), (6, "resnet38")])
def test_other_depths(n, architecture):
    found = convert.detect(network(n).state_dict())
    assert (found.architecture, found.arguments) == (architecture, {"projection": "B"})


def test_a_weight_folder_of_another_depth(state, tmp_path):
    found = convert.detect(state)
    folder = convert.write_folder(found.weights, convert.make_card(found, "mine", 1, "cifar10"), tmp_path)
    card = keras_resv2.pretrained_card(str(folder))
    assert card.architecture == "resnet8"
    arrays = model_arrays(keras_resv2.from_pretrained(str(folder)))
    assert all(np.array_equal(arrays[name], found.weights[name]) for name in arrays)
    with pytest.raises(ValueError, match="resnet9"):
        convert.detect(state, "resnet9")


# Networks that are none of ours, by what they have


@pytest.mark.parametrize("name, words", [
    ("resnet26d", "a deep stem of several convolutions"),
    ("resnetv2_50d", "a deep stem of several convolutions"),
    ("resnetv2_50x1_bit", "normalized by groups"),
    ("resnet50_gn", "normalized by groups"),
    ("seresnet50", "attention in its units"),
    ("resnext50_32x4d", "convolutions in groups"),
])  # fmt: skip
def test_refusals_name_the_reason(torchvision, name, words):
    timm = pytest.importorskip("timm", reason="timm is not installed")
    with torch.device("meta"):
        shapes = timm.create_model(name).state_dict()
    with pytest.raises(ValueError, match=f"{words}.*no such networks are read"):
        convert.detect({key: np.zeros(value.shape, "float32") for key, value in shapes.items()})


# Keras


@pytest.fixture(scope="module")
def application():
    """A network of keras.applications that ends in sigmoid."""
    options = dict(weights=None, classes=3, classifier_activation="sigmoid", input_shape=(32, 32, 3))
    return randomised(keras.applications.ResNet50(**options))


@pytest.mark.parametrize("form", ["model", "whole.keras", "w.weights.h5", "whole.h5"])
def test_a_keras_network_inside_another(application, form, tmp_path):
    body = keras.Model(application.input, application.get_layer("avg_pool").output, name="body")
    outer = keras.Sequential([keras.Input((32, 32, 3)), body, keras.layers.Dense(3)])
    source = outer
    if form != "model":
        source = tmp_path / form
        (outer.save_weights if "weights" in form else outer.save)(source)
    found = convert.detect(source)
    assert found.architecture == "resnet50" and found.classes is None
    kernel = keras.ops.convert_to_numpy(application.get_layer("conv2_block1_2_conv").kernel)
    assert np.array_equal(found.weights["stage1_unit1_conv2/kernel"], kernel)
    assert any("dense" in phrase for phrase in found.assumed)


def test_the_activation_of_a_keras_classifier_is_kept(application, tmp_path):
    application.save(tmp_path / "whole.keras")
    for source in (application, tmp_path / "whole.keras"):
        found = convert.detect(source)
        assert found.classifier_activation == "sigmoid"
        with pytest.raises(ValueError, match="ends in sigmoid, and the networks of weight folders end in softmax"):
            convert.make_card(found, "mine", 1, "unknown")
    assert found.build().get_layer("head_dense").activation is keras.activations.sigmoid
    application.save_weights(tmp_path / "alone.weights.h5")
    assert any("softmax" in phrase for phrase in convert.detect(tmp_path / "alone.weights.h5").assumed)


def test_a_keras_model_of_other_outputs_is_refused(application):
    def other(layer):
        config = layer.get_config()
        if isinstance(layer, keras.layers.Activation):
            config["activation"] = "silu"
        return type(layer).from_config(config)

    changed = keras.models.clone_model(application, clone_function=other)
    changed.set_weights(application.get_weights())
    with pytest.raises(ValueError, match="gives other outputs than resnet50"):
        convert.detect(changed)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="SavedModels need Keras on TensorFlow")
@pytest.mark.parametrize("form", ["saved_model", "ckpt", "ckpt.index"])
def test_saved_models_and_checkpoints_of_tensorflow(application, form, tmp_path):
    import tensorflow as tf

    if form == "saved_model":
        application.export(tmp_path / form, verbose=False)
    else:
        tf.train.Checkpoint(model=application).write(str(tmp_path / "ckpt"))
    found, expected = convert.detect(tmp_path / form), convert.detect(model_dictionary(application))
    assert (found.architecture, found.classes) == ("resnet50", 3)
    assert_equal(found.weights, expected.weights)


def model_dictionary(model):
    return {f"{layer.name}/{w.name}": keras.ops.convert_to_numpy(w) for layer in model.layers for w in layer.weights}


def test_damaged_checkpoints_of_tensorflow(tmp_path):
    (tmp_path / "ckpt.index").write_bytes(b"no index" * 20)
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved/saved_model.pb").write_bytes(b"")
    for name in ("ckpt", "saved"):
        with pytest.raises((ValueError, FileNotFoundError)) as error:
            convert.detect(tmp_path / name)
        assert "\n" not in str(error.value) and str(tmp_path / name) in str(error.value)


def test_safetensors_that_begin_as_a_pickle(tmp_path):
    """The first byte is the lowest of the header's length, a multiple of 8: one of 32 files begins with 0x80."""
    pytest.importorskip("safetensors", reason="safetensors is not installed")
    from safetensors.numpy import save_file

    arrays = {name: np.zeros(shape, "float32") for name, shape in (("conv1.weight", (16, 3, 3, 3)), ("bn1.bias", 16))}
    path = tmp_path / "model.safetensors"
    for length in range(256):
        save_file(arrays, path, {"note": "x" * length})
        if path.read_bytes()[:1] == b"\x80":
            break
    assert path.read_bytes()[:1] == b"\x80"
    assert read_source(path).tensors.keys() == arrays.keys()


def test_epsilon_of_nought():
    """torchvision's detectors have it (`overwrite_eps`); where the variance becomes negative, gamma changes instead."""
    arrays = {"stem_bn/gamma": np.ones(2), "stem_bn/moving_variance": np.array([0.25, 1e-6])}
    found = with_epsilon(arrays, 0.0)
    np.testing.assert_allclose(found["stem_bn/moving_variance"], [0.25 - 1e-5, 0], rtol=1e-6)
    np.testing.assert_allclose(found["stem_bn/gamma"], [1, np.sqrt(10)], rtol=1e-6)
    with pytest.raises(ValueError, match="would be infinite"):
        with_epsilon({"stem_bn/moving_variance": np.zeros(1)}, 0.0)


def test_a_module_whose_epsilon_is_nought():
    module = network()
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.eps = 0.0
    found, x = convert.detect(module), images((32, 32))
    assert_same(found.build(**RAW).predict(x, verbose=0), run_torch(torch, module, x))
