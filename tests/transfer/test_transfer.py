"""Freezing and fine-tuning: what stays as it was, what is learned, and what bad input gets."""

import itertools
import pickle
import shutil
import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest
from PIL import Image

import keras_resv2
from keras_resv2.models.pixels import takes_raw_pixels
from keras_resv2.transfer import cross_validation, split_images
from keras_resv2.transfer.augmentation import AugmentedBatches
from keras_resv2.transfer.callbacks import BestWeights
from keras_resv2.transfer.checks import input_spec_of
from keras_resv2.transfer.class_weights import balance
from keras_resv2.transfer.discriminative_learning_rates import DiscriminativeAdam, learning_rate_factors
from keras_resv2.transfer.freezing import check_batch_norm_trains, set_batch_norm
from keras_resv2.transfer.head import body_of
from keras_resv2.transfer.input_spec import InputSpec
from keras_resv2.transfer.inputs import open_inputs
from keras_resv2.transfer.results import Results, evaluate_logits

MOVING = ("moving_mean", "moving_variance")


def weights_of(model, pick=lambda layer: True):
    return {w.path: keras.ops.convert_to_numpy(w) for layer in model.layers if pick(layer) for w in layer.weights}


def same(before, after):
    assert before, "nothing was compared"
    return all(np.array_equal(before[path], after[path]) for path in before)


def is_batch_norm(layer):
    return isinstance(layer, keras.layers.BatchNormalization)


def fit(model, pixels, epochs=2):
    model.compile(keras.optimizers.SGD(0.1, weight_decay=0.1), "sparse_categorical_crossentropy", jit_compile=False)
    model.fit(pixels, np.arange(len(pixels)) % 4, epochs=epochs, batch_size=4, verbose=0)


@pytest.fixture
def small():
    return keras_resv2.ResNet(8, activation="full_preactivation", classes=4)


def test_frozen_layers_and_their_statistics_stay_in_fit(small, pixels):
    keras_resv2.freeze(small, until="stage2")
    place = [layer.name for layer in small.layers].index("stage2_unit1_preact_bn")
    frozen, free = small.layers[:place], small.layers[place:]
    before = weights_of(small)
    fit(small, pixels)
    after = weights_of(small)
    assert same({p: v for p, v in before.items() if p.startswith(tuple(f"{x.name}/" for x in frozen))}, after)
    changed = [w.path for layer in free for w in layer.weights if not np.array_equal(before[w.path], after[w.path])]
    assert len(changed) == sum(len(layer.weights) for layer in free)


def test_a_frozen_network_works_in_training_as_in_predict(small, pixels):
    """By hand: with all frozen, the loss that `fit` reports is that of the outputs of `predict`."""
    fit(small, pixels)  # statistics that are not those of a batch
    keras_resv2.freeze(small, until=None)
    small.compile("sgd", "sparse_categorical_crossentropy", jit_compile=False)
    labels = np.arange(len(pixels)) % 4
    probabilities = small.predict(pixels, verbose=0)
    expected = -np.log(probabilities[np.arange(len(pixels)), labels]).mean()
    seen = small.fit(pixels, labels, batch_size=len(pixels), epochs=1, verbose=0).history["loss"][0]
    assert seen == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("until, first", [("head_dense", "head_dense"), ("head", "head_bn"), ("stage3", "stage3")])
def test_freeze_until(small, until, first):
    keras_resv2.freeze(small, until=until)
    trainable = [layer.name for layer in small.layers if layer.trainable and layer.weights]
    assert trainable[0].startswith(first)
    names = [layer.name for layer in small.layers if layer.weights]
    assert trainable == names[names.index(trainable[0]) :]


def test_unfreeze_leaves_batch_normalization_frozen(small, pixels):
    fit(small, pixels)
    keras_resv2.unfreeze(keras_resv2.freeze(small))
    before = weights_of(small)
    fit(small, pixels)
    after = weights_of(small)
    assert same({w.path: before[w.path] for x in small.layers if is_batch_norm(x) for w in x.weights}, after)
    kernels = [path for path in before if path.endswith("kernel")]
    assert not any(np.array_equal(before[path], after[path]) for path in kernels)


def test_unfreeze_since_keeps_what_comes_before(small):
    keras_resv2.freeze(small)
    keras_resv2.unfreeze(small, since="stage3", batch_norm=True)
    assert [x.name for x in small.layers if x.weights and not x.trainable][-1].startswith("stage2")
    assert all(x.trainable for x in small.layers if x.name.startswith(("stage3", "head")))


def test_a_model_that_is_frozen_whole_is_not_fine_tuned(small):
    """As Keras' guides freeze a body, here with its classifier; it would return untrained, without a word."""
    small.trainable = False
    with pytest.raises(ValueError, match=r"all layers of model .* are frozen.*unfreeze"):
        keras_resv2.fine_tune(small, (np.zeros((4, 32, 32, 3), "uint8"), np.arange(4) % 2), None, verbose=0)


def test_unfreeze_after_the_whole_model_was_frozen(small):
    small.trainable = False
    keras_resv2.unfreeze(small, batch_norm=True)
    assert len(small.trainable_variables) == len(
        keras_resv2.ResNet(8, activation="full_preactivation").trainable_variables
    )


def test_batch_normalization_of_rolled_units_freezes_too(pixels):
    model = keras_resv2.ResNet(20, rolled=True, classes=4)
    keras_resv2.unfreeze(model)
    before = weights_of(model)
    fit(model, pixels)
    after = weights_of(model)
    batch_norm = [p for p in before if "_bn" in p or "/bn" in p]
    assert len(batch_norm) > 20
    assert same({p: before[p] for p in batch_norm}, after)
    assert not any(np.array_equal(before[p], after[p]) for p in before if p not in batch_norm and "bias" not in p)
    keras_resv2.unfreeze(model, batch_norm=True)
    assert len(model.trainable_variables) == len(keras_resv2.ResNet(20, rolled=True).trainable_variables)


def test_other_networks_freeze_too():
    model = keras.applications.MobileNetV2(weights=None, input_shape=(32, 32, 3), classes=3)
    keras_resv2.freeze(model, until="block_16_expand")
    assert not model.get_layer("block_15_add").trainable and model.get_layer("block_16_expand").trainable
    set_batch_norm(model.layers, trainable=False)
    assert not any(layer.trainable for layer in model.layers if is_batch_norm(layer))


@pytest.mark.parametrize("change", [keras_resv2.freeze, keras_resv2.unfreeze])
def test_unknown_place_names_the_nearest(small, change):
    with pytest.raises(ValueError, match=r"'stage9'.*nearest: stage3"):
        change(small, "stage9")


def test_rates_fall_from_stage_to_stage(small):
    factors = learning_rate_factors(small, 0.5)
    by_part = {path.split("/")[0].split("_")[0]: factor for path, factor in factors.items() if "dense" not in path}
    assert by_part == {"stem": 0.0625, "stage1": 0.125, "stage2": 0.25, "stage3": 0.5, "head": 0.5}
    assert factors["head_dense/kernel"] == 1


def test_adam_moves_each_weight_by_its_own_rate():
    """By hand: with gradients of 1 Adam moves a weight by its rate in every step (arXiv 1412.6980, section 2.1)."""
    weights = [keras.Variable(np.zeros(2, "float32"), name=name) for name in ("a", "b")]
    optimizer = DiscriminativeAdam(0.1, factors={weights[1].path: 0.25})
    for _ in range(2):
        optimizer.apply([keras.ops.ones(2), keras.ops.ones(2)], weights)
    assert np.allclose(weights[0], -0.2, atol=1e-5) and np.allclose(weights[1], -0.05, atol=1e-5)


@pytest.fixture(scope="module")
def digits_300(digits):
    """300 digits to train on and all test digits, of other writers."""
    (images, labels), test = digits
    return (images[:300], labels[:300]), test


@pytest.fixture(scope="module")
def tuned(digits_300):
    """Of ten epochs on those digits: (model, history, what its batch normalization was before)."""
    model = keras_resv2.from_pretrained("preact_resnet20-cifar10", classes=10)
    before = weights_of(model, is_batch_norm)
    model, history = keras_resv2.fine_tune(
        model, digits_300[0], epochs=10, patience=10, augment=("crop",), verbose=0
    )  # fmt: skip
    return model, history, before


@pytest.fixture(scope="module", autouse=True)
def no_folds():
    """The validation images alone decide: cross-validation has its own tests, and takes time in these."""
    few, cross_validation.FEW = cross_validation.FEW, 0
    yield
    cross_validation.FEW = few


@pytest.fixture
def quick_classifier(monkeypatch):
    """Two steps for the classifier: for tests of what else `fine_tune` does."""
    monkeypatch.setattr("keras_resv2.transfer.head.STEPS", 2)
    monkeypatch.setattr("keras_resv2.transfer.head.EPOCHS", 1)


def test_fine_tuning_learns_digits_and_does_not_touch_statistics(tuned, digits_300):
    _, (images, labels) = digits_300
    model, history, before = tuned
    assert same(before, weights_of(model, is_batch_norm))
    assert all(layer.trainable != is_batch_norm(layer) for layer in model.layers if layer.weights)
    assert [row["phase"] for row in history] == ["head"] + ["body"] * 10
    best = next(row for row in history if row["best"])
    assert best["phase"] == "body" and best["validation_error"] < history[0]["validation_error"] / 2
    assert history[-1]["validation_error"] < history[0]["validation_error"] / 2
    wrong = model.predict(images, verbose=0).argmax(1) != labels
    assert 100 * wrong.mean() < 30  # by chance: 90


def test_the_weights_kept_are_those_of_the_row_marked_best(digits_300):
    (images, labels), _ = digits_300
    parts = split_images(labels, (0.7, 0.3))
    train, validation = ((images[part], labels[part]) for part in parts)
    model = keras_resv2.from_pretrained("resnet20-cifar10", classes=10)
    model, history = keras_resv2.fine_tune(model, train, validation, epochs=4, verbose=0)
    wrong = (model.predict(validation[0], verbose=0).argmax(1) != validation[1]).mean()
    (best,) = [row for row in history if row["best"]]
    assert 100 * wrong == pytest.approx(best["validation_error"], abs=1e-3)


def test_a_body_that_is_not_kept_is_warned_of(digits_300):
    train, _ = digits_300
    model = keras_resv2.from_pretrained("resnet20-cifar10", classes=10)
    with pytest.warns(UserWarning, match="only the classifier is trained"):
        _, history = keras_resv2.fine_tune(model, train, epochs=2, learning_rate=0.1, verbose=0)
    assert [row["phase"] for row in history if row["best"]] == ["head"]


def test_linear_probe_leaves_the_body_alone(digits_300):
    train, _ = digits_300
    model = keras_resv2.freeze(keras_resv2.from_pretrained("resnet20-cifar10", classes=10))
    before = weights_of(model, lambda layer: layer.name != "head_dense")
    model, history = keras_resv2.fine_tune(model, train, epochs=5, verbose=0)
    assert [row["phase"] for row in history] == ["head"]
    assert same(before, weights_of(model, lambda layer: layer.name != "head_dense"))
    assert history[0]["validation_error"] < 60


@pytest.mark.parametrize("warmup, rows", [(0, 1 + 2), (0.1, 1 + 3 + 2)])
def test_patience_stops(digits_300, warmup, rows):
    """240 images are 7 steps an epoch, 63 in 9; 20 of them, the warm-up, end in the third epoch."""
    train, _ = digits_300
    _, history = keras_resv2.fine_tune(
        keras_resv2.ResNet(8), train, epochs=9, learning_rate=1e-10, warmup=warmup, patience=2, verbose=0
    )
    assert len(history) == rows  # nothing gets better than the classifier alone


def test_no_patience_waits_for_the_first_epoch_that_is_no_better():
    """As in Keras: not for the end of the warm-up."""
    callback = BestWeights(keras_resv2.ResNet(8), iter([]), 0)
    callback.patience = 0
    stopped = []
    for waited in (0, 0, 1):
        callback._network.stop_training, callback._waited = False, waited
        callback.add = lambda *a: Results(np.zeros(1), np.zeros(1), np.ones(1))
        callback.on_epoch_end(5, {"loss": 1.0, "accuracy": 0.5})
        stopped.append(callback._network.stop_training)
    assert stopped == [False, False, True]


def test_warmup_steps():
    """By hand: a tenth of 1,000; at least 20; half of 30; all but one; none."""
    from keras_resv2.transfer.body import warmup_steps

    asked = [(0.1, 1000), (0.1, 150), (0.1, 30), (1.0, 40), (0.0, 40)]
    assert [warmup_steps(*each) for each in asked] == [100, 20, 15, 39, 0]


class Batches(keras.utils.PyDataset):
    def __init__(self, images, labels):
        super().__init__()
        self.images, self.labels = images, labels

    def __len__(self):
        return 3

    def __getitem__(self, i):
        return self.images[i::3], self.labels[i::3]


def given_as(kind, images, labels, folder):
    """The same images in each form that `fine_tune` takes."""
    if kind == "tf.data":
        tf = pytest.importorskip("tensorflow", reason="TensorFlow is not installed")
        return tf.data.Dataset.from_tensor_slices((images, labels)).batch(3)
    if kind == "PyDataset":
        return Batches(images, labels)
    if kind == "DataLoader":
        torch = pytest.importorskip("torch", reason="PyTorch is not installed")
        pairs = torch.utils.data.TensorDataset(torch.tensor(images), torch.tensor(labels))
        return torch.utils.data.DataLoader(pairs, batch_size=3)
    if kind == "list":
        return [(images[i::2], labels[i::2]) for i in range(2)]
    if kind == "folder":
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            (folder / str(label)).mkdir(exist_ok=True)
            Image.fromarray(image).save(folder / str(label) / f"{i}.png")
        return str(folder)
    return images, labels


def labels_by_image(batches):
    """{bytes of an image: its label, or the class of its row}, of batches of either."""
    pairs = (zip(np.asarray(images), np.asarray(labels), strict=True) for images, labels, *_ in batches)
    return {
        image.astype("uint8").tobytes(): int(label if np.ndim(label) == 0 else np.argmax(label))
        for image, label in itertools.chain(*pairs)
    }


GIVEN = [*itertools.product(("arrays", "tf.data", "PyDataset", "DataLoader", "list"), (False, True)), ("folder", False)]


@pytest.mark.parametrize("kind, one_hot", GIVEN)
def test_all_kinds_of_images_have_their_labels(kind, one_hot, pixels, tmp_path):
    """As the classifier sees them, once through; and as `fit` does, twice."""
    labels = np.array([0, 1, 1, 0, 2, 0, 1, 2])
    given = given_as(kind, pixels, np.eye(3, dtype="float32")[labels] if one_hot else labels, tmp_path)
    train, validation = open_inputs(given, given, InputSpec((32, 32, 3), 3), 0)
    expected = labels_by_image([(pixels, labels)])
    assert len(expected) == 8
    for each in (train, validation, train):
        batches = list(each.batches())
        assert labels_by_image(batches) == expected and sum(len(batch[1]) for batch in batches) == 8
    if kind in ("arrays", "folder"):
        return
    data, steps = train.for_fit(len(batches), None, soft=one_hot)
    for _ in range(2):
        if kind == "PyDataset":
            batches = [data[i] for i in range(data.num_batches)]
        else:
            batches = list(itertools.islice(data, steps))
        assert labels_by_image(batches) == expected


@pytest.mark.parametrize("kind, one_hot", GIVEN)
def test_all_kinds_of_images_train(kind, one_hot, pixels, tmp_path, quick_classifier):
    labels = np.arange(8) % 2
    given = given_as(kind, pixels, np.eye(2, dtype="float32")[labels] if one_hot else labels, tmp_path)
    model = keras_resv2.ResNet(8, classes=2)
    before = weights_of(model, lambda layer: layer.name == "stem_conv")
    _, history = keras_resv2.fine_tune(
        model, given, given, epochs=1, learning_rate=0.001, class_weight="balanced", verbose=0
    )  # fmt: skip
    assert [row["phase"] for row in history] == ["head", "body"]
    assert all(np.isfinite(row["validation_loss"]) for row in history)
    keras_resv2.fine_tune(model, given, None, epochs=1, verbose=0)  # nothing to choose by: the last weights are kept
    assert not same(before, weights_of(model, lambda layer: layer.name == "stem_conv"))


def of_errors(wrong, losses):
    """`Results` of so many images classified wrongly, with these losses of single images."""
    losses = np.asarray(losses, "float64")
    return Results(losses, np.arange(len(losses)) < wrong, np.ones(len(losses)))


def kept(*found):
    """Index of the weights that are kept after validations with these results, the first of the classifier alone."""
    model = keras_resv2.ResNet(8, classes=2)
    bias, results = model.get_layer("head_dense").bias, iter(found)
    report = BestWeights(model, lambda: next(results), verbose=0)
    for number in range(len(found)):
        bias.assign([number, 0])
        report.add("body" if number else "head", 1.0, 0.5)
    report.restore()
    assert [row["best"] for row in report.history].index(True) == int(bias[0])
    return int(bias[0])


def test_the_lowest_loss_among_errors_within_noise_is_kept():
    """By hand, of 96 images: 8 wrong are 8.33 %, plus sqrt(0.1 * 0.9 / 100) = 3 %: up to 10 wrong are as good."""

    def row(wrong, loss):
        return of_errors(wrong, np.full(96, loss))

    alone = row(40, 2.0)
    assert kept(alone, row(8, 0.5), row(10, 0.4)) == 2  # as few mistakes, and a lower loss
    assert kept(alone, row(8, 0.5), row(10, 0.6)) == 1
    assert kept(alone, row(8, 0.5), row(11, 0.1)) == 1  # more mistakes than noise explains
    assert kept(alone, row(20, 0.2), row(11, 0.3), row(8, 0.5)) == 3  # 11 of 96 are not within noise of 8
    assert kept(alone, row(9, 0.3), row(20, 0.2), row(8, 0.5)) == 1  # found again when a lower error makes it near


def test_the_classifier_alone_is_kept_unless_mistakes_or_loss_are_fewer():
    """By hand: 4 images, one wrong, a loss of 2."""
    alone = of_errors(1, [2.0, 2.0, 2.0, 2.0])
    for wrong, losses, keeps in (
        (0, [1.0, 1.0, 1.0, 3.0], 1),
        (1, [1.0, 1.1, 1.0, 0.9], 1),
        (2, [1.0, 1.1, 1.0, 0.9], 0),  # a lower loss with more mistakes
        (1, [2.0, 2.0, 2.0, 2.1], 0),  # as many, with a higher loss
        (0, [2.0, 2.0, 2.0, 2.1], 1),  # fewer mistakes with a higher loss
    ):
        assert of_errors(wrong, losses).beats(alone) == bool(keeps)
        assert kept(alone, of_errors(wrong, losses)) == keeps
    weights = np.array([1.0, 1.0, 1.0, 0.0])  # the image that got worse does not count
    better = Results(np.array([1.0, 1.1, 1.0, 9.0]), np.zeros(4, bool), weights)
    assert better.beats(Results(alone.losses, alone.wrong, weights)) and better.count == 3


def test_losses_are_those_of_another_library():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    logits, labels = np.random.default_rng(0).normal(0, 3, (20, 4)), np.arange(20) % 4
    rows = np.random.default_rng(1).dirichlet(np.ones(4), 20)
    loss = torch.nn.functional.cross_entropy
    for target in (labels, rows):
        expected = loss(torch.tensor(logits), torch.tensor(target), reduction="none").numpy()
        assert np.allclose(evaluate_logits(logits, target).losses, expected, atol=1e-6)


def test_weights_that_no_loss_has_seen_are_not_kept():
    """Without validation the loss that is NaN is of the weights after the epoch before."""
    model = keras_resv2.ResNet(8, classes=2)
    bias = model.get_layer("head_dense").bias
    report = BestWeights(model, None, verbose=0)
    for epoch, loss in enumerate((1.0, 0.5, 0.4)):
        bias.assign([epoch, 0])
        report.add("body", loss, 0.5)
    with pytest.raises(FloatingPointError):
        report.add("body", float("nan"), 0.5)
    assert int(bias[0]) == 1


def test_balanced_weights_by_hand():
    assert balance("balanced", np.array([0, 0, 0, 1]), 2).tolist() == pytest.approx([2 / 3, 2.0])
    rows = np.array([[1, 0], [0.5, 0.5], [1, 0], [0.5, 0.5]])  # as many images of each as above
    assert balance("balanced", rows, 2).tolist() == pytest.approx([2 / 3, 2.0])


BRIGHT = np.clip(np.random.default_rng(0).normal(60, 20, (40, 32, 32, 3)), 0, 255).astype("uint8")
OF_BRIGHT = np.arange(40) % 2
BRIGHT[OF_BRIGHT == 1] += 120


def probe(train, validation=None, **options):
    """A linear probe on dark and bright noise, which not all weights separate as well: model and row of the history."""
    model = keras_resv2.from_pretrained("resnet20-cifar10@2", classes=2)
    model, history = keras_resv2.fine_tune(model, train, validation, epochs=0, verbose=0, **options)
    return model, history[0]


@pytest.mark.parametrize("kind", ["arrays", "tf.data", "list", "PyDataset"])
def test_images_of_weight_zero_are_not_learned(kind):
    """Two thirds of the images have the wrong label, and weight 0."""
    images, labels = np.concatenate([BRIGHT, BRIGHT, BRIGHT]), np.concatenate([OF_BRIGHT, 1 - OF_BRIGHT, 1 - OF_BRIGHT])
    weights = np.repeat([1.0, 0.0, 0.0], 40)
    order = np.random.default_rng(1).permutation(120)
    arrays = images[order], labels[order], weights[order]
    if kind == "tf.data":
        tf = pytest.importorskip("tensorflow", reason="TensorFlow is not installed")
        arrays = tf.data.Dataset.from_tensor_slices(arrays).batch(30)
    elif kind == "list":
        arrays = [tuple(array[i : i + 30] for array in arrays) for i in range(0, 120, 30)]
    elif kind == "PyDataset":
        arrays = Triples(*arrays)
    model, row = probe(arrays)
    assert (model.predict(BRIGHT, verbose=0).argmax(1) == OF_BRIGHT).mean() > 0.95 and row["train_error"] < 5
    if kind != "arrays":  # the second part trains with them too
        model = keras_resv2.fine_tune(model, arrays, None, epochs=2, learning_rate=0.001, verbose=0).model
        assert (model.predict(BRIGHT, verbose=0).argmax(1) == OF_BRIGHT).mean() > 0.8  # most labels are wrong


class Triples(keras.utils.PyDataset):
    def __init__(self, *arrays):
        super().__init__()
        self.arrays = arrays

    def __len__(self):
        return 4

    def __getitem__(self, i):
        return tuple(array[30 * i : 30 * i + 30] for array in self.arrays)


def test_a_pydataset_reaches_worker_processes(pixels):
    """Keras pickles it for worker processes on platforms that do not fork."""
    batches = Batches(pixels, np.arange(8) % 2)
    train, _ = open_inputs(batches, None, InputSpec((32, 32, 3), 2), 0)
    data, _ = train.for_fit(3, np.array([1.0, 3.0]))
    copied = pickle.loads(pickle.dumps(data))
    for i in range(3):
        for array, again in zip(data[i], copied[i], strict=True):
            np.testing.assert_array_equal(array, again)


def test_batch_normalization_that_cannot_train_is_an_error(pixels):
    model = keras_resv2.ResNet(8, classes=2)
    data = pixels, np.arange(8) % 2
    keras_resv2.unfreeze(model)
    with pytest.raises(ValueError, match=r"all batch normalization of the model is frozen.*unfreeze.*batch_norm=True"):
        keras_resv2.fine_tune(model, data, batch_norm="trained")
    for trains in (keras_resv2.freeze(keras_resv2.ResNet(8, classes=2)), keras_resv2.unfreeze(model, batch_norm=True)):
        check_batch_norm_trains(trains)  # a linear probe; and what the message says
    x = keras.Input((32, 32, 3))
    plain = keras.layers.BatchNormalization(center=False, scale=False)(keras.layers.Conv2D(4, 3)(x))
    check_batch_norm_trains(keras.Model(x, keras.layers.Dense(2)(keras.layers.Flatten()(plain))))


def test_wrong_data_are_refused_before_images_are_decoded(tmp_path, monkeypatch):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.png").write_bytes(b"not an image")
    model = keras_resv2.ResNet(8, classes=3)
    with pytest.raises(ValueError, match=r"has 2 classes \(cat, dog\), but the model has 3 outputs"):
        keras_resv2.fine_tune(model, tmp_path)
    model = keras_resv2.ResNet(8, classes=2)
    with pytest.raises(FileNotFoundError, match="vall' is not an existing folder"):
        keras_resv2.fine_tune(model, tmp_path, str(tmp_path / "vall"))
    with pytest.raises(ValueError, match=r"validation=1.5 must be a fraction"):
        keras_resv2.fine_tune(model, tmp_path, 1.5)


@pytest.mark.parametrize("labels", ["indices", "column", "one-hot"])
@pytest.mark.parametrize("weighted", [False, True])
def test_datasets_of_unknown_shape(labels, weighted, pixels):
    """What `tf.numpy_function` returns has no static shape; batches as `fit` gets them are those of the arrays."""
    tf = pytest.importorskip("tensorflow", reason="TensorFlow is not installed")
    indices = np.arange(8) % 2
    given = {"indices": indices, "column": indices[:, None], "one-hot": np.eye(2, dtype="float32")[indices]}[labels]
    of_type = "float32" if labels == "one-hot" else "int64"

    def load(i):
        return tf.numpy_function(lambda i: (pixels[i : i + 4], given[i : i + 4]), [i], ("uint8", of_type))

    dataset, spec = tf.data.Dataset.range(0, 8, 4).map(load), InputSpec((32, 32, 3), 2)
    soft, factors = labels == "one-hot", np.array([1.0, 3.0], "float32") if weighted else None
    data, _ = open_inputs(dataset, None, spec, 0)[0].for_fit(2, factors, soft)
    assert data.element_spec[0].shape == (None, 32, 32, 3)
    for first, (images, of_batch, *weights) in zip((0, 4), data, strict=True):
        part = slice(first, first + 4)
        np.testing.assert_array_equal(images, pixels[part])
        np.testing.assert_array_equal(of_batch, (given if soft else indices)[part])
        assert not weights if factors is None else np.array_equal(weights[0], factors[indices[part]])
    mixed, _ = open_inputs(dataset, None, spec, 0)[0].for_fit(2, None, soft=True)  # because the validation labels are
    np.testing.assert_array_equal(next(iter(mixed))[1], np.eye(2)[indices[:4]])
    model = keras_resv2.ResNet(8, classes=2)
    keras_resv2.fine_tune(model, dataset, None, epochs=1, learning_rate=0.01, verbose=0)


def test_weights_reach_the_second_part(quick_classifier):
    """Batches as `fit` gets them, by hand: an image's own weight times that of its class."""
    images, labels, own = np.zeros((4, 8, 8, 3), "uint8"), np.array([0, 1, 1, 0]), np.array([1.0, 2.0, 0.0, 0.5])
    factors = np.array([1.0, 3.0])
    train, _ = open_inputs([(images, labels, own)], None, InputSpec((8, 8, 3), 2), 0)
    data, steps = train.for_fit(1, factors)
    assert steps == 1
    for _ in range(2):  # it begins again
        assert next(data)[2].tolist() == [1, 6, 0, 0.5]
    plain, _ = open_inputs([(images, labels)], None, InputSpec((8, 8, 3), 2), 0)
    assert next(plain.for_fit(1, factors)[0])[2].tolist() == [1, 3, 3, 1] and len(next(plain.for_fit(1)[0])) == 2
    rows, _ = open_inputs([(images, np.array([[1, 0], [0.5, 0.5]] * 2))], None, InputSpec((8, 8, 3), 2), 0)
    assert next(rows.for_fit(1, factors, soft=True)[0])[2].tolist() == [1, 2, 1, 2]
    batches = AugmentedBatches(images, labels, 2, (), weights=own)
    assert sorted(weight for i in range(2) for weight in batches[i][2]) == [0, 0.5, 1, 2]


def test_soft_labels_are_learned_as_shares():
    """Images that are of the second class by three quarters get that probability, and not 1."""
    rows = np.where(OF_BRIGHT[:, None], [0.25, 0.75], [1.0, 0.0])
    model, row = probe((BRIGHT, rows))
    probabilities = model.predict(BRIGHT, verbose=0)
    assert np.abs(probabilities - rows).mean() < 0.08
    by_hand = -(rows * np.log(probabilities)).sum(1).mean()
    assert row["train_loss"] == pytest.approx(by_hand, abs=1e-4)
    validation = BRIGHT, OF_BRIGHT  # numbers, where training has shares
    _, history = keras_resv2.fine_tune(
        model, (BRIGHT, rows), validation, epochs=1, learning_rate=1e-4, batch_size=20, verbose=0
    )
    assert np.isfinite(history[-1]["validation_loss"]) and history[-1]["validation_error"] < 10


def test_lists_of_images_with_lists_of_labels():
    model, row = probe((list(BRIGHT), OF_BRIGHT.tolist()))
    assert row["train_error"] < 5
    two = [(BRIGHT[:20], OF_BRIGHT[:20]), (BRIGHT[20:], OF_BRIGHT[20:])]  # two batches, not images and labels
    assert probe(two)[1]["train_error"] < 5


def test_an_image_data_generator(quick_classifier):
    image = pytest.importorskip("keras.src.legacy.preprocessing.image", reason="this Keras has no ImageDataGenerator")
    flow = image.ImageDataGenerator(horizontal_flip=True).flow(BRIGHT, np.eye(2)[OF_BRIGHT], batch_size=16, seed=0)
    model = keras_resv2.ResNet(8, classes=2)
    _, history = keras_resv2.fine_tune(model, flow, (BRIGHT, OF_BRIGHT), epochs=1, learning_rate=1e-3, verbose=0)
    assert [row["phase"] for row in history] == ["head", "body"]


def test_callbacks_see_the_validation(quick_classifier):
    """One that is not in a list; and the figures of the validation images, which are the history's."""
    seen = []
    look = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(logs["val_loss"]))
    model, data = keras_resv2.ResNet(8, classes=2), (BRIGHT, OF_BRIGHT)
    _, history = keras_resv2.fine_tune(model, data, 0.5, epochs=1, learning_rate=1e-3, callbacks=look, verbose=0)
    assert seen == [history[-1]["validation_loss"]]
    keras_resv2.fine_tune(
        model, data, None, epochs=1, callbacks=keras.callbacks.TerminateOnNaN(), class_weight=[1, 2], verbose=0
    )


@pytest.mark.parametrize("activation, words", [("sigmoid", "do not exclude each other"), ("relu", "'relu'")])
def test_classifiers_of_another_kind_are_refused(activation, words, pixels):
    model = keras_resv2.ResNet(8, classes=2, classifier_activation=activation)
    with pytest.raises(ValueError, match=words):
        keras_resv2.fine_tune(model, (pixels, LABELS))
    one = keras_resv2.ResNet(8, classes=1, classifier_activation=None)
    with pytest.raises(ValueError, match="one output"):
        keras_resv2.fine_tune(one, (pixels, LABELS))


@pytest.mark.parametrize("last", [keras.ops.softmax, keras.ops.sigmoid, lambda logits: logits / 2.0])
def test_an_operation_after_the_classifier_is_refused(last, pixels):
    """It is not among `model.layers`, so that its probabilities would be trained as logits."""
    logits = keras_resv2.ResNet(8, classes=2, classifier_activation=None)
    model = keras.Model(logits.input, last(logits.output))
    with pytest.raises(ValueError, match=r"ends with '.*', not with a Dense layer of class scores"):
        keras_resv2.fine_tune(model, (pixels, LABELS))


def test_a_softmax_layer_after_the_classifier(quick_classifier):
    logits = keras_resv2.ResNet(8, classes=2, classifier_activation=None)
    model = keras.Model(logits.input, keras.layers.Softmax()(logits.output))
    model, history = keras_resv2.fine_tune(model, (BRIGHT, OF_BRIGHT), None, epochs=1, learning_rate=1e-3, verbose=0)
    probabilities = model.predict(BRIGHT, verbose=0)
    assert np.allclose(probabilities.sum(1), 1, atol=1e-5) and history[-1]["train_loss"] < 3


def test_the_lower_rate_follows_where_the_first_is_of_no_use(monkeypatch, quick_classifier):
    """Where nothing beats the classifier alone both rates are tried, each from its weights; else the first is kept."""
    from keras_resv2.transfer import fine_tuning

    for beats, rates in ((False, [0.003, 0.0003]), (True, [0.003])):
        monkeypatch.setattr(Results, "beats", lambda self, other, beats=beats: beats)
        monkeypatch.setattr(fine_tuning, "RATES", (0.003, 0.0003))
        _, history = keras_resv2.fine_tune(keras_resv2.ResNet(8, classes=2), (BRIGHT, OF_BRIGHT), epochs=1, verbose=0)
        assert [row["learning_rate"] for row in history if row["phase"] == "body"] == rates
        assert history[0]["best"] != beats


def test_the_lower_rate_follows_where_the_first_diverges_at_once(monkeypatch, quick_classifier):
    """The loss of its first epoch is no number: the history has no row of it."""
    from keras_resv2.transfer import fine_tuning

    monkeypatch.setattr(fine_tuning, "RATES", (np.inf, 0.0003))
    train, validation = (BRIGHT, OF_BRIGHT), [(BRIGHT, OF_BRIGHT)]
    monkeypatch.setattr(cross_validation, "is_needed", lambda *images: False)
    model, history = keras_resv2.fine_tune(keras_resv2.ResNet(8, classes=2), train, validation, epochs=1, verbose=0)
    assert [row["learning_rate"] for row in history if row["phase"] == "body"] == [0.0003]
    assert all(np.isfinite(value).all() for value in model.get_weights())


def diverge(model, train):
    with pytest.raises(FloatingPointError, match="lower learning_rate"):
        keras_resv2.fine_tune(model, train, None, epochs=4, learning_rate=np.inf, verbose=0)


def interrupt(model, train):
    def stop(epoch, logs):
        raise KeyboardInterrupt

    callback = keras.callbacks.LambdaCallback(on_epoch_end=stop)
    with pytest.raises(KeyboardInterrupt):
        keras_resv2.fine_tune(model, train, None, epochs=4, callbacks=[callback], verbose=0)


@pytest.mark.parametrize("end", [diverge, interrupt])
def test_a_run_that_ends_early_leaves_a_model_that_works(end, pixels, tmp_path, quick_classifier):
    model = keras_resv2.ResNet(8, classes=2)
    end(model, (pixels, np.arange(8) % 2))
    assert all(np.isfinite(value).all() for value in model.get_weights())
    model.save(tmp_path / "model.keras")
    opened = keras.models.load_model(tmp_path / "model.keras")
    assert np.allclose(opened.predict(pixels, verbose=0), model.predict(pixels, verbose=0), atol=1e-5)


def test_fit_may_go_on_after_fine_tuning(tuned, digits_300):
    train, (images, labels) = digits_300
    model, *_ = tuned
    weights = model.get_weights()
    before = model.evaluate(images, labels, verbose=0)[1]
    model.fit(*train, epochs=2, verbose=0)
    assert model.evaluate(images, labels, verbose=0)[1] > before - 0.03
    model.set_weights(weights)  # other tests take it too


@pytest.mark.parametrize("build", ["Sequential", "functional"])
def test_a_body_inside_another_model(build, pixels, quick_classifier):
    body = keras_resv2.ResNet(8, include_top=False, pooling="avg", name="body")
    end = keras.layers.Dense(2, name="mine")
    if build == "Sequential":
        model = keras.Sequential([keras.Input((32, 32, 3)), body, end])
    else:
        inputs = keras.Input((32, 32, 3))
        model = keras.Model(inputs, end(body(inputs)))

    def trainable():
        return {weight.path.split("/")[-2] for weight in model.trainable_variables}

    everything = trainable()
    keras_resv2.freeze(model)
    assert trainable() == {"mine"}
    keras_resv2.unfreeze(model, since="stage3", batch_norm=True)
    assert trainable() == {name for name in everything if name.startswith("stage3") or name == "mine"}
    keras_resv2.unfreeze(model, batch_norm=True)
    keras_resv2.freeze(model, until="stage2")
    assert trainable() == {name for name in everything if not name.startswith(("stem", "stage1"))}
    keras_resv2.unfreeze(model)
    assert trainable() == {name for name in everything if "bn" not in name}
    factors = learning_rate_factors(model, 0.5)
    by_part = {path.split("/")[-2].split("_")[0]: factor for path, factor in factors.items()}
    assert by_part == {"stem": 0.0625, "stage1": 0.125, "stage2": 0.25, "stage3": 0.5, "mine": 1}
    _, history = keras_resv2.fine_tune(model, (pixels, np.arange(8) % 2), None, epochs=1, verbose=0)
    assert [row["phase"] for row in history] == ["head", "body"]


def test_a_network_without_classifier_is_frozen_whole():
    assert not keras_resv2.freeze(keras_resv2.ResNet(8, include_top=False)).trainable_variables


def test_saved_model_opens_again(tuned, digits_300, tmp_path):
    _, (images, _) = digits_300
    model, *_ = tuned
    model.save(tmp_path / "model.keras")
    opened = keras.models.load_model(tmp_path / "model.keras")
    assert np.allclose(opened.predict(images, verbose=0), model.predict(images, verbose=0), atol=1e-5)


def test_a_checkpoint_that_keras_writes_meanwhile_opens(pixels, tmp_path, quick_classifier):
    """With the learning rates of its layers, where the package is imported."""
    model = keras_resv2.ResNet(8)
    keeps = keras.callbacks.ModelCheckpoint(tmp_path / "kept.keras")
    keras_resv2.fine_tune(model, (pixels, np.arange(8)), None, epochs=1, verbose=0, callbacks=[keeps])
    code = (
        "import sys, keras_resv2, keras; optimizer = keras.models.load_model(sys.argv[1]).optimizer;"
        "print(sorted({round(factor, 4) for factor in optimizer.get_config()['factors'].values()}))"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "kept.keras"], capture_output=True, text=True)
    assert done.stdout.strip() == "[0.4096, 0.512, 0.64, 0.8, 1.0]", done.stderr[-2000:]


def test_half_precision_is_trained_with_a_scaled_loss(pixels, quick_classifier):
    """Keras would scale it for the global policy alone. float16's gradients of less than 6e-8 are zero."""
    seen = []
    look = keras.callbacks.LambdaCallback(on_train_begin=lambda logs: seen.append(type(look.model.optimizer)))
    model = keras_resv2.ResNet(8, classes=2, dtype="mixed_float16")
    _, history = keras_resv2.fine_tune(
        model, (pixels, np.arange(8) % 2), None, epochs=2, verbose=0, callbacks=[look]
    )  # fmt: skip
    assert seen == [keras.optimizers.LossScaleOptimizer] and isinstance(model.optimizer, seen[0])
    assert np.isfinite(history[-1]["train_loss"])
    bfloat16 = keras_resv2.ResNet(8, classes=2, dtype="mixed_bfloat16")
    keras_resv2.fine_tune(bfloat16, (pixels, np.arange(8) % 2), None, epochs=0, verbose=0)
    assert not isinstance(bfloat16.optimizer, keras.optimizers.LossScaleOptimizer)


def test_channels_first_is_refused():
    keras.config.set_image_data_format("channels_first")
    try:
        model = keras_resv2.ResNet(8, classes=2)
        with pytest.raises(ValueError, match="channels_last"):
            keras_resv2.fine_tune(model, (np.zeros((8, 3, 32, 32), "uint8"), LABELS))
    finally:
        keras.config.set_image_data_format("channels_last")


IMAGES = np.zeros((8, 32, 32, 3), "uint8")
LABELS = np.arange(8) % 2
BAD = {
    "size": ((IMAGES[:, :28, :28], LABELS), {}, ValueError, r"prepare_images\(images, \(32, 32\)\)"),
    "grey": ((IMAGES[..., 0], LABELS), {}, ValueError, "prepare_images"),
    "counts": ((IMAGES, LABELS[:5]), {}, ValueError, "8 images but 5 labels"),
    "labels": ((IMAGES, LABELS + 1), {}, ValueError, "labels range from 1 to 2, but the model has 2 classes"),
    "text": ((IMAGES, np.array(["cat"] * 8)), {}, ValueError, "class indices"),
    "fraction": ((IMAGES, LABELS), {"validation": 1.5}, ValueError, "fraction between 0 and 1"),
    "few": ((IMAGES[:3], np.array([0, 0, 1])), {}, ValueError, "class 1 has 1 images"),
    "columns": ((IMAGES, np.eye(3)[LABELS]), {}, ValueError, "but the model has 2 classes"),
    "nan": ((IMAGES * np.float32("nan"), LABELS), {}, ValueError, "NaN or infinite"),
    "once": (iter([(IMAGES, LABELS)]), {"validation": None}, TypeError, "only once"),
    "dictionaries": ([{"image": IMAGES}], {"validation": None}, TypeError, r"must be \(images, labels\) .*not a dict"),
    "single": (list(zip(IMAGES, LABELS, strict=True)), {"validation": None}, ValueError, r"\.batch\(32\)"),
    "weights": ((IMAGES, LABELS), {"class_weight": "balancd"}, ValueError, '"balanced", a dictionary'),
    "weights of None": ((IMAGES, LABELS), {"class_weight": {0: None}}, ValueError, "class 0 is None"),
    "negative": ((IMAGES, LABELS), {"class_weight": [1, -2]}, ValueError, "class 1 is -2"),
    "too many weights": ((IMAGES, LABELS), {"class_weight": [1, 2, 3]}, ValueError, "a list of 2 factors"),
    "no weights": ((IMAGES, LABELS), {"class_weight": [0, 0]}, ValueError, "0 for every class"),
    "several labels": ((IMAGES, np.ones((8, 2))), {}, ValueError, r"row 0 of the labels is \[1.0, 1.0\]"),
    "no label": ((IMAGES, np.zeros((8, 2))), {}, ValueError, "sum to 1"),
    "nan label": ((IMAGES, np.full((8, 2), np.nan)), {}, ValueError, "row 0 of the labels"),
    "rows in batches": ([(IMAGES, np.ones((8, 2)))], {"validation": None}, ValueError, "Several labels per image"),
    "sample weights": ((IMAGES, LABELS, np.ones(3)), {}, ValueError, r"must be \(8,\)"),
    "negative sample": ((IMAGES, LABELS, -np.ones(8)), {}, ValueError, "at least 0"),
    "no sample": ((IMAGES, LABELS, np.zeros(8)), {}, ValueError, "all sample weights are 0"),
    "four": ([(IMAGES, LABELS, LABELS, LABELS)], {"validation": None}, TypeError, "not a tuple of 4"),
    "plateau": ((IMAGES, LABELS), {"callbacks": keras.callbacks.ReduceLROnPlateau()}, ValueError, "leave it out"),
    "callbacks": ((IMAGES, LABELS), {"callbacks": ["early"]}, TypeError, "keras.callbacks.Callback"),
    "weight": ((IMAGES, LABELS), {"class_weight": {2: 1.0}}, ValueError, "0 to 1"),
    "batch": ((IMAGES, LABELS), {"batch_size": 0}, ValueError, "batch_size=0 must be"),
    "no batch": ((IMAGES, LABELS), {"batch_size": None}, ValueError, "batch_size=None must be"),
    "epochs": ((IMAGES, LABELS), {"epochs": -1}, ValueError, "epochs=-1 must be"),
    "patience": ((IMAGES, LABELS), {"patience": "5"}, ValueError, "patience='5' must be"),
    "no seed": ((IMAGES, LABELS), {"seed": None}, ValueError, "seed=None must be"),
    "negative seed": ((IMAGES, LABELS), {"seed": -1}, ValueError, "seed=-1 must be"),
    "images of Pillow": (([Image.new("RGB", (40, 40))] * 8, LABELS), {}, ValueError, r"prepare_images"),
    "rate": ((IMAGES, LABELS), {"learning_rate": -1.0}, ValueError, "learning_rate=-1.0 must be"),
    "schedule": ((IMAGES, LABELS), {"learning_rate": "cosine"}, ValueError, "must be a number above 0"),
    "warm-up": ((IMAGES, LABELS), {"warmup": 2}, ValueError, "warmup=2 must be a fraction"),
    "kind": (7, {}, TypeError, "not int.$"),
    "keras habit": (IMAGES, {"validation": LABELS}, TypeError, r"fine_tune\(model, \(images, labels\)\)"),
    "tensors": (keras.ops.zeros((8, 32, 32, 3)), {"validation": None}, TypeError, r"Pass both as one argument"),
    "folder": ("no/such/folder", {}, FileNotFoundError, "not an existing folder"),
    "augment": ((IMAGES, LABELS), {"augment": "rotate"}, ValueError, "augment='rotate'"),
    "batch_norm": ((IMAGES, LABELS), {"batch_norm": "off"}, ValueError, "batch_norm='off'"),
    "batches": (Batches(IMAGES, LABELS), {}, ValueError, "batches cannot be split"),
}


@pytest.fixture(scope="module")
def untrained():
    """A network that every case of `BAD` must leave as it is."""
    return keras_resv2.ResNet(8, classes=2)


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_before_training(case, untrained):
    train, arguments, error, message = BAD[case]
    before = weights_of(untrained)
    with pytest.raises(error, match=message):
        keras_resv2.fine_tune(untrained, train, **arguments)
    assert same(before, weights_of(untrained))


class Subclassed(keras.Model):
    def call(self, inputs):
        return inputs


@pytest.mark.parametrize("make, words", [
    (lambda: keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(2)]), "no input shape"),
    (Subclassed, "not a functional keras.Model"),
])  # fmt: skip
def test_models_without_a_graph_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        keras_resv2.fine_tune(make(), (IMAGES, LABELS))
    with pytest.raises(ValueError, match=words):
        body_of(make())


def test_a_name_is_no_model():
    with pytest.raises(TypeError, match="from_pretrained"):
        keras_resv2.fine_tune("resnet20-cifar10", (IMAGES, LABELS))


@pytest.mark.parametrize(
    "scaled", [lambda x: x / 255.0, lambda x: (x - 120.0) / 60, lambda x: x.astype("uint16") * 257]
)
def test_pixels_on_another_scale_are_refused(scaled, pixels):
    """Of a network that normalizes them itself; constant shortcuts are no preprocessing."""
    model = keras_resv2.ResNet(8, classes=2)
    for train in ((scaled(pixels), LABELS), [(scaled(pixels), LABELS)]):
        with pytest.raises(ValueError, match=r"train: pixels range from .* but the model expects 0 to 255"):
            keras_resv2.fine_tune(model, train, None, epochs=0, verbose=0)
    other = keras_resv2.ResNet(8, include_preprocessing=False, shortcut="constant_scaling")
    assert takes_raw_pixels(model) and not takes_raw_pixels(other)


def test_endless_batches_are_refused(pixels):
    tf = pytest.importorskip("tensorflow", reason="TensorFlow is not installed")
    endless = tf.data.Dataset.from_tensor_slices((pixels, np.arange(8) % 2)).batch(4).repeat()
    with pytest.raises(ValueError, match="never ends"):
        keras_resv2.fine_tune(keras_resv2.ResNet(8, classes=2), endless, None)


def test_endless_generators_are_reported(pixels, monkeypatch):
    """Of a generator TensorFlow does not know whether it ends."""
    tf = pytest.importorskip("tensorflow", reason="TensorFlow is not installed")
    monkeypatch.setattr("keras_resv2.transfer.inputs.MANY", 3)

    def endless():
        while True:
            yield pixels, LABELS

    data = tf.data.Dataset.from_generator(endless, output_types=("uint8", "int64"))
    model = keras_resv2.ResNet(8, classes=2)
    with pytest.warns(UserWarning, match="train: 3 batches have been read. If this dataset never ends"):
        batches = open_inputs(data, None, input_spec_of(model), 0)[0].batches()
        for _ in range(4):
            next(batches)


def test_a_distributed_dataset_is_refused(pixels):
    tf = pytest.importorskip("tensorflow", reason="TensorFlow is not installed")
    data = tf.data.Dataset.from_tensor_slices((pixels, np.arange(8) % 2)).batch(4)
    distributed = tf.distribute.MirroredStrategy(["CPU:0"]).experimental_distribute_dataset(data)
    model = keras_resv2.ResNet(8, classes=2)
    if callable(getattr(distributed, "cardinality", None)):
        pytest.skip("with one device this is an ordinary dataset")
    with pytest.raises(TypeError, match="is a distributed dataset"):
        keras_resv2.fine_tune(model, distributed, None)


def test_a_dataset_of_unknown_size_ends_without_a_warning(pixels, quick_classifier):
    tf = pytest.importorskip("tensorflow", reason="TensorFlow is not installed")
    data = tf.data.Dataset.from_tensor_slices((pixels, np.arange(8) % 2)).filter(lambda *_: True).batch(4)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        _, history = keras_resv2.fine_tune(keras_resv2.ResNet(8, classes=2), data, None, epochs=2, verbose=0)
    assert [row["phase"] for row in history] == ["head", "body", "body"]


def test_a_model_without_classifier_is_refused(pixels):
    with pytest.raises(ValueError, match="Dense layer"):
        keras_resv2.fine_tune(keras_resv2.ResNet(8, include_top=False), (pixels, np.arange(8) % 2))


def test_augmented_batches_shift_and_mirror():
    """Each image is a window of the reflected image, or of its mirror image: found by search."""
    images = np.random.default_rng(0).integers(0, 256, (6, 16, 16, 3), dtype="uint8")
    batches = AugmentedBatches(images, np.arange(6), 3, seed=1)
    padded = np.pad(images, [(0, 0), (2, 2), (2, 2), (0, 0)], mode="reflect")
    seen, places = [], set()
    for _ in range(4):
        for index in range(len(batches)):
            for image, label in zip(*batches[index], strict=True):
                seen.append(label)
                found = [
                    (row, column, step)
                    for row, column, step in itertools.product(range(5), range(5), (1, -1))
                    if np.array_equal(padded[label, row : row + 16, column : column + 16][:, ::step], image)
                ]
                assert len(found) == 1
                places.add(found[0])
        batches.on_epoch_end()
    assert np.bincount(seen).tolist() == [4] * 6
    assert {step for *_, step in places} == {1, -1} and len(places) > 12


def test_batches_are_the_same_for_the_same_seed():
    images, labels = np.random.default_rng(0).integers(0, 256, (9, 8, 8, 3), dtype="uint8"), np.arange(9)
    one, same_seed, other = (AugmentedBatches(images, labels, 4, seed=seed)[1] for seed in (3, 3, 4))
    assert np.array_equal(one[0], same_seed[0]) and not np.array_equal(one[1], other[1])


def test_split_is_stratified_and_complete():
    labels = np.repeat([0, 1, 2], [100, 40, 4])
    parts = split_images(labels, (0.7, 0.15, 0.15), seed=5)
    assert sorted(np.concatenate(parts)) == list(range(144))
    assert [np.bincount(labels[part]).tolist() for part in parts] == [[70, 28, 2], [15, 6, 1], [15, 6, 1]]
    assert all(map(np.array_equal, parts, split_images(labels, (0.7, 0.15, 0.15), seed=5)))


def test_a_split_takes_class_indices():
    with pytest.raises(ValueError, match="must be class indices"):
        split_images(np.eye(3)[np.arange(30) % 3], (0.8, 0.2))
    with pytest.raises(ValueError, match="must be positive and sum to 1"):
        split_images(np.arange(30) % 3, (float("nan"), 0.2))
    column = split_images((np.arange(30) % 3)[:, None], (0.8, 0.2))
    assert all(map(np.array_equal, column, split_images(np.arange(30) % 3, (0.8, 0.2))))


def test_prepare_images_makes_grey_and_other_sizes_fit():
    grey = np.full((2, 8, 8, 1), 77, "uint8")
    assert np.array_equal(keras_resv2.prepare_images(grey, (32, 32)), np.full((2, 32, 32, 3), 77))
    color = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype="uint8")
    assert np.array_equal(keras_resv2.prepare_images(color, (32, 32)), color)
    sizes = [color[0], color[1, :20], grey[0], grey[1, ..., 0]]
    found = keras_resv2.prepare_images(sizes, (32, 32))
    assert all(
        np.array_equal(a, keras_resv2.prepare_images(b[None], (32, 32))[0]) for a, b in zip(found, sizes, strict=True)
    )
    with pytest.warns(UserWarning, match=r"three grayscale images.*transpose\(1, 2, 0\)\[None\]"):
        assert keras_resv2.prepare_images(color[0].transpose(2, 0, 1), (32, 32)).shape == (3, 32, 32, 3)
    with pytest.raises(ValueError, match="uint8"):
        keras_resv2.prepare_images(grey / 255, (32, 32))
    with pytest.raises(ValueError, match=r"images\[None\]"):
        keras_resv2.prepare_images(color[0], (32, 32))
    with pytest.raises(ValueError, match="size=32"):
        keras_resv2.prepare_images(color, 32)


def test_read_folder(image_folder, tmp_path):
    read = keras_resv2.read_folder(image_folder / "train", (24, 32))
    assert read.images.shape == (24, 24, 32, 3) and read.class_names == ("blue", "green", "red")
    means = read.images.mean((1, 2)).argmax(1)  # channel that is brightest
    assert np.array_equal(np.array([2, 1, 0])[means], read.labels)
    (tmp_path / "cat").mkdir()
    (tmp_path / "dog").mkdir()
    Image.new("L", (50, 20), 9).save(tmp_path / "cat" / "grey.png")
    Image.new("RGBA", (9, 9), (0, 0, 0, 0)).save(tmp_path / "dog" / "clear.png")
    (tmp_path / "dog" / "broken.jpg").write_bytes(b"not an image")
    (tmp_path / "dog" / "notes.txt").write_text("not an image")
    found = keras_resv2.read_folder(tmp_path, (8, 8))
    assert found.paths == ("cat/grey.png", "dog/clear.png")
    assert found.images[0].mean() == 9 and found.images[1].mean() == 255
    assert len(found.damaged) == 1 and "broken.jpg" in found.damaged[0]
    with pytest.raises(ValueError, match=r"broken\.jpg is not a readable image"):
        keras_resv2.read_folder(tmp_path, (8, 8), damaged="raise")
    with pytest.raises(ValueError, match="contains dog, not one of the classes cat, cow"):
        keras_resv2.read_folder(tmp_path, (8, 8), class_names=("cat", "cow"))
    with pytest.raises(
        ValueError, match=r"contains train and val, each with class folders: choose one of them, such as .*train"
    ):
        keras_resv2.read_folder(image_folder, (8, 8))


def test_validation_folders_have_the_classes_of_training(image_folder, tmp_path):
    """A class that validation has and training lacks would shift all labels after it."""
    shutil.copytree(image_folder / "val", tmp_path / "val")
    (tmp_path / "val" / "amber").mkdir()
    model = keras_resv2.ResNet(8, classes=3)
    with pytest.raises(ValueError, match="amber"):
        keras_resv2.fine_tune(model, image_folder / "train", tmp_path / "val", verbose=0)


def test_labels_of_a_validation_folder_follow_the_names_of_the_training_classes(image_folder, tmp_path):
    """`read_folder` numbers the classes that it finds; validation images need not have all."""
    from keras_resv2.transfer.input_spec import InputSpec
    from keras_resv2.transfer.inputs import open_inputs

    shutil.copytree(image_folder / "val", tmp_path / "val")
    shutil.rmtree(tmp_path / "val" / "blue")
    train, validation = (
        keras_resv2.read_folder(root / name, (32, 32)) for root, name in ((image_folder, "train"), (tmp_path, "val"))
    )
    _, opened = open_inputs(train, validation, InputSpec((32, 32, 3), 3), 0)
    assert opened.class_indices.tolist() == [1, 1, 1, 2, 2, 2] and train.class_names == ("blue", "green", "red")
    (tmp_path / "val" / "red").rename(tmp_path / "val" / "rad")
    with pytest.raises(ValueError, match="validation: the training images have no class rad"):
        open_inputs(train, keras_resv2.read_folder(tmp_path / "val", (32, 32)), InputSpec((32, 32, 3), 3), 0)


def test_a_folder_has_as_many_classes_as_the_model(image_folder, quick_classifier):
    """Else the new classes would take the outputs, and names, of the pretrained ones."""
    with pytest.raises(ValueError, match=r"train has 3 classes \(blue, green, red\).* 10 outputs.*classes=3"):
        keras_resv2.fine_tune(keras_resv2.ResNet(8), image_folder / "train", verbose=0)
    model = keras_resv2.ResNet(8, classes=3)
    result = keras_resv2.fine_tune(model, image_folder / "train", image_folder / "val", epochs=0, verbose=0)
    assert result.class_names == ("blue", "green", "red")
    same, history = result
    assert same is model and history is result.history
