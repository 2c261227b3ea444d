"""Cross-validation in fine-tuning: when it decides, what its folds see, what it costs, what the history says."""

import keras
import numpy as np
import pytest

import keras_resv2
from keras_resv2.transfer import cross_validation
from keras_resv2.transfer.body import BodyTraining
from keras_resv2.transfer.callbacks import BestWeights
from keras_resv2.transfer.cross_validation import FOLDS, CrossValidation, assign_folds, is_needed
from keras_resv2.transfer.input_spec import InputSpec
from keras_resv2.transfer.inputs import open_inputs
from keras_resv2.transfer.results import Results, evaluate_logits

IMAGES = np.random.default_rng(0).integers(0, 256, (30, 32, 32, 3), dtype="uint8")
LABELS = np.arange(30) % 3


@pytest.fixture
def quick(monkeypatch):
    """Two steps for the classifier."""
    monkeypatch.setattr("keras_resv2.transfer.head.STEPS", 2)
    monkeypatch.setattr("keras_resv2.transfer.head.EPOCHS", 1)


def results(wrong, count=24, loss=1.0):
    """`Results` of so many images, the first of them wrong."""
    return Results(np.full(count, loss), np.arange(count) < wrong, np.ones(count))


@pytest.fixture
def held_out(monkeypatch):
    """Sets how many of 24 images are wrong: `held_out(classifier, {learning rate: body})`; nothing is trained.

    Returns the learning rates that folds were trained at.
    """
    tried = []

    def fit(self, batches, epochs, steps_per_epoch=None, callbacks=()):
        callback, *_ = callbacks
        callback.set_model(self.model)
        callback.on_train_begin()
        self.model.stop_training = False
        for epoch in range(epochs):
            if not self.model.stop_training:
                callback.on_epoch_end(epoch, {"loss": 0.5, "accuracy": 0.75})

    def set_results(alone, bodies):
        def train_bodies(self, learning_rate):
            tried.append(learning_rate)
            return 0.5, 0.25, results(bodies[learning_rate])

        monkeypatch.setattr(CrossValidation, "train_classifiers", lambda self, initial: (0.5, 0.25, results(alone)))
        monkeypatch.setattr(CrossValidation, "train_bodies", train_bodies)
        monkeypatch.setattr("keras_resv2.transfer.fine_tuning.fit_classifier", lambda *arguments: None)
        monkeypatch.setattr(BodyTraining, "fit", fit)
        return tried

    return set_results


def tune(validation=0.2, **options):
    model = keras_resv2.ResNet(8, classes=3)
    options = {"epochs": 1, "verbose": 0, **options}
    return keras_resv2.fine_tune(model, (IMAGES, LABELS), validation, **options)


def test_folds_have_every_class_in_its_share():
    """By hand: 7, 4 and 1 images in 3 folds."""
    classes = np.random.default_rng(1).permutation(np.repeat([0, 1, 2], [7, 4, 1]))
    folds = assign_folds(classes, 3, seed=0)
    assert np.bincount(folds).tolist() == [4, 4, 4]
    for label, counts in ((0, [2, 2, 3]), (1, [1, 1, 2]), (2, [0, 0, 1])):
        assert sorted(np.bincount(folds[classes == label], minlength=3)) == counts
    assert np.array_equal(folds, assign_folds(classes, 3, seed=0))
    assert not np.array_equal(folds, assign_folds(classes, 3, seed=1))


def test_they_are_needed_for_few_validation_images_in_memory():
    spec = InputSpec((32, 32, 3), 3)
    arrays, batches = (IMAGES, LABELS), [(IMAGES, LABELS)]
    many = (np.repeat(IMAGES, 4, axis=0)[:100], np.repeat(LABELS, 4)[:100])
    fewer = (many[0][:99], many[1][:99])
    for train, validation, needed in (
        (arrays, 0.2, True),
        (arrays, fewer, True),
        (arrays, many, False),
        (arrays, batches, False),
        (batches, arrays, False),
        (arrays, None, False),
    ):
        assert is_needed(*open_inputs(train, validation, spec, 0)) is needed


@pytest.mark.filterwarnings("ignore:training the body")
@pytest.mark.parametrize("options", [{"validation": None}, {"epochs": 0}, {"validation": (IMAGES, LABELS)}])
def test_nothing_is_held_out_without_need(options, held_out, monkeypatch):
    """No validation images; only the classifier; as many validation images as are enough."""
    monkeypatch.setattr(cross_validation, "FEW", 30)
    tried = held_out(9, {0.003: 0, 0.0003: 0})
    _, history = tune(**options)
    assert not tried and "folds" not in [row["phase"] for row in history]


@pytest.mark.parametrize("wrong, bodies, tried, trained", [
    (9, {0.003: 3}, [0.003], 0.003),
    (9, {0.003: 12, 0.0003: 3}, [0.003, 0.0003], 0.0003),
    (9, {0.003: 10, 0.0003: 9}, [0.003, 0.0003], None),  # as many wrong, with the same loss
])  # fmt: skip
def test_the_folds_choose_what_is_trained(wrong, bodies, tried, trained, held_out, monkeypatch):
    """Whatever six validation images say: the classifier alone makes no mistake on them, and the body three."""
    seen = iter([results(0, 6)] + [results(3, 6)] * 2)
    monkeypatch.setattr("keras_resv2.transfer.fine_tuning._validate", lambda *arguments: lambda: next(seen))
    found = held_out(wrong, bodies)
    if trained is None:
        with pytest.warns(UserWarning, match="only the classifier is trained"):
            _, history = tune()
    else:
        _, history = tune()
    assert found == tried
    rows = [(row["phase"], row["learning_rate"]) for row in history]
    body = [("body", trained)] if trained else []
    assert rows == [("head", 0.01), ("folds", 0.01), *(("folds", rate) for rate in tried), *body]
    folds = [row for row in history if row["phase"] == "folds"]
    errors = [100 * n / 24 for n in (wrong, *map(bodies.get, tried))]
    assert [row["validation_error"] for row in folds] == pytest.approx(errors)
    assert all(row["train_error"] == 25 and row["epoch"] == i + 1 for i, row in enumerate(folds))
    (best,) = [row for row in history if row["best"]]
    assert best["phase"] == ("body" if trained else "head")


def test_the_last_weights_are_kept_where_folds_decide(held_out, monkeypatch):
    """Of three epochs, although another one makes fewer mistakes on six validation images; nor do they stop it."""
    seen = iter([results(2, 6), results(0, 6), results(2, 6), results(3, 6)])
    monkeypatch.setattr("keras_resv2.transfer.fine_tuning._validate", lambda *arguments: lambda: next(seen))
    held_out(9, {0.003: 3})
    _, history = tune(epochs=3)
    assert [row["best"] for row in history if row["phase"] == "body"] == [False, False, True]


@pytest.mark.parametrize("validation, kept", [(4, "body"), (8, "head")])
def test_held_out_and_validation_images_decide_together(validation, kept, held_out, monkeypatch):
    """By hand: of 24 images held out the body has 6 fewer wrong, of the validation images 4 or 8 more."""
    seen = iter([results(0, 10), results(validation, 10)])
    monkeypatch.setattr("keras_resv2.transfer.fine_tuning._validate", lambda *arguments: lambda: next(seen))
    held_out(9, {0.003: 3})
    if kept == "head":
        with pytest.warns(UserWarning, match="only the classifier is trained"):
            _, history = tune()
    else:
        _, history = tune()
    assert [row["phase"] for row in history if row["best"]] == [kept]


def test_a_fold_sees_the_other_images_and_the_weights_of_before(monkeypatch, quick):
    """Nothing is learned from images that are held out: not by the classifier, not by the body, not in its weights."""
    model = keras_resv2.ResNet(8, classes=3)
    heads, bodies, tested, before = [], [], [], []
    of_classifier = model.get_layer("head_dense").get_weights()
    stem = model.get_layer("stem_conv")
    initial_stem = stem.get_weights()[0]

    def fit_classifier(classifier, features, labels, weights, seed):
        before.append(all(map(np.array_equal, classifier.get_weights(), of_classifier)))
        heads.append({row.tobytes() for row in features})
        classifier.set_weights([value + len(heads) for value in classifier.get_weights()])

    class Batches(cross_validation.AugmentedBatches):
        def __init__(self, images, labels, *rest):
            super().__init__(images, labels, *rest)
            bodies.append({image.tobytes() for image in images})

    def fit(self, batches, epochs, *rest, **options):
        fold = len(bodies) - 1
        assert np.array_equal(stem.get_weights()[0], initial_stem)
        assert np.allclose(self.model.get_layer("head_dense").bias, of_classifier[1] + 2 + fold % FOLDS)
        assert int(self.model.optimizer.iterations) == 0
        self.model.optimizer.iterations.assign(7)
        stem.set_weights([initial_stem + 1])
        return type("History", (), {"history": {"loss": [0.5], "accuracy": [0.75]}})

    compute = cross_validation.Features.compute

    def spy(self, images, divide=False):
        tested.append({image.tobytes() for image in images.images})
        return compute(self, images, divide)

    monkeypatch.setattr("keras_resv2.transfer.fine_tuning.fit_classifier", fit_classifier)
    monkeypatch.setattr(cross_validation, "fit_classifier", fit_classifier)
    monkeypatch.setattr(cross_validation, "AugmentedBatches", Batches)
    monkeypatch.setattr(BodyTraining, "fit", fit)
    monkeypatch.setattr(cross_validation.Features, "compute", spy)
    monkeypatch.setattr(Results, "beats", lambda self, other: False)
    with pytest.warns(UserWarning, match="only the classifier is trained"):
        tune_model, _ = keras_resv2.fine_tune(model, (IMAGES, LABELS), 0.2, epochs=1, verbose=0)
    assert before == [True] * (1 + FOLDS)
    all_features, train, folds = heads[0], tested[0], tested[-FOLDS:]
    assert len(train) == 24 and set.union(*folds) == train and sum(map(len, folds)) == 24
    assert len(bodies) == 2 * FOLDS  # two learning rates
    for fold in range(FOLDS):
        assert bodies[fold] == train - folds[fold] == bodies[FOLDS + fold]
        assert heads[1 + fold] < all_features and len(heads[1 + fold]) == 16
    assert np.array_equal(stem.get_weights()[0], initial_stem)  # of the classifier alone
    assert np.allclose(tune_model.get_layer("head_dense").bias, of_classifier[1] + 1)


@pytest.mark.parametrize("epochs, batch_size, steps, most", [
    (60, 8, 180, 300),  # 24 images: 3 steps an epoch, of 16 images in a fold 2; a fold has 100 at least
    (None, 8, 180, 300),
    (4, 8, 12, 36),  # but no more than the training
    (30, 2, 360, 360),
])  # fmt: skip
def test_the_steps_of_the_folds_are_bounded(epochs, batch_size, steps, most, monkeypatch):
    taken = []

    def fit(self, batches, epochs, steps_per_epoch=None, callbacks=()):
        taken.append((len(batches) * epochs, len(callbacks)))
        return type("History", (), {"history": {"loss": [0.5], "accuracy": [0.75]}})

    monkeypatch.setattr(BodyTraining, "fit", fit)
    for module in ("fine_tuning", "cross_validation"):
        monkeypatch.setattr(f"keras_resv2.transfer.{module}.fit_classifier", lambda *arguments: None)
    monkeypatch.setattr(Results, "beats", lambda self, other: True)
    monkeypatch.setattr(BestWeights, "only_the_classifier", lambda self: False)
    callback = keras.callbacks.Callback()
    tune(epochs=epochs, batch_size=batch_size, callbacks=callback)
    *folds, training = taken
    assert training == (steps, 2) and len(folds) == FOLDS
    assert sum(count for count, _ in folds) <= most + 2 * FOLDS  # each is rounded up to whole epochs
    assert not any(callbacks for _, callbacks in folds)


def test_an_interruption_leaves_the_classifier_alone(monkeypatch, quick):
    def fit(self, *rest):
        self.model.get_layer("stem_conv").set_weights([np.full((3, 3, 3, 16), np.nan)])
        raise KeyboardInterrupt

    monkeypatch.setattr(BodyTraining, "fit", fit)
    model = keras_resv2.ResNet(8, classes=3)
    before = model.get_layer("stem_conv").get_weights()[0]
    with pytest.raises(KeyboardInterrupt):
        keras_resv2.fine_tune(model, (IMAGES, LABELS), epochs=1, verbose=0)
    assert np.array_equal(before, model.get_layer("stem_conv").get_weights()[0])
    assert np.isfinite(model.predict(IMAGES, verbose=0)).all()


def test_folds_that_diverge_lose():
    """Every image counts as wrong, not as one of class 0."""
    diverged = evaluate_logits(np.full((4, 3), np.nan), np.zeros(4, int))
    assert diverged.error == 1 and not diverged.beats(results(4, 4)) and results(3, 4).beats(diverged)


def test_the_same_seed_gives_the_same_folds_and_lines(quick, capsys):
    """Sample weights and class weights too; another seed holds out other images."""
    images = np.clip(IMAGES // 3 + 60 * LABELS[:, None, None, None], 0, 255).astype("uint8")
    rows, weights = [], keras_resv2.ResNet(8, classes=3).get_weights()
    for seed in (1, 1, 2):
        model = keras_resv2.ResNet(8, classes=3)
        model.set_weights(weights)
        data = images, LABELS, np.linspace(0.5, 1.5, 30)
        options = {"epochs": 1, "learning_rate": 0.001, "class_weight": "balanced", "seed": seed, "verbose": 1}
        _, history = keras_resv2.fine_tune(model, data, **options)
        rows.append([{**row, "seconds": None} for row in history])
    assert [row["train_loss"] for row in rows[0]] != pytest.approx([row["train_loss"] for row in rows[2]], rel=1e-2)
    for one, same in zip(*rows[:2], strict=True):
        assert one.keys() == same.keys()
        assert all(one[key] == pytest.approx(same[key], rel=1e-3) for key in one if key not in ("phase", "seconds"))
    printed = capsys.readouterr().out.splitlines()
    assert printed[1].startswith("folds   1: loss ") and "; held-out images: loss " in printed[1]


def test_validation_images_that_mislead_do_not_decide(digits):
    """Digits that the classifier alone reads wrong, labelled as it reads them: five validation images for it alone.

    Few epochs are enough: after a short warm-up, full steps of Adam once ruined the body.
    """
    (images, labels), (test_images, test_labels) = digits
    train = images[:240], labels[:240]
    options = {"augment": ("crop",), "verbose": 0}

    def new():
        keras.utils.set_random_seed(0)
        return keras_resv2.from_pretrained("preact_resnet20-cifar10@1", classes=10)

    alone, _ = keras_resv2.fine_tune(new(), train, None, epochs=0, **options)
    read = alone.predict(images[240:400], verbose=0).argmax(1)
    misread = np.flatnonzero(read != labels[240:400])[:5]
    validation = images[240:400][misread], read[misread]
    model, history = keras_resv2.fine_tune(new(), train, validation, epochs=5, **options)
    assert history[0]["validation_error"] == 0  # of the classifier alone
    best = next(row for row in history if row["best"])
    assert best["phase"] == "body" and best["validation_error"] > 0
    classifier, body = [row for row in history if row["phase"] == "folds"][:2]
    assert body["validation_error"] < classifier["validation_error"] / 1.5
    errors = [keras_resv2.measure_error(network, test_images, test_labels) for network in (alone, model)]
    assert errors[1] < errors[0]
