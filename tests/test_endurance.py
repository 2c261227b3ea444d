"""Long-lived processes: memory over many calls and openings, many threads on one model, forked workers.

KERAS_RESV2_STRESS=20 makes 2,000 predictions and 200 openings of what are 100 and 10.
"""

import ctypes
import gc
import multiprocessing
import os
import subprocess
import sys
import threading
import weakref

import keras
import numpy as np
import pytest
from PIL import Image

import keras_resv2
from helpers.paths import STRESS
from keras_resv2 import embedding
from keras_resv2.embedding import embed
from keras_resv2.models import graph as graphs

NAME = "resnet20-cifar10"
MIB = 2**20
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="memory is read from Linux' /proc")


def growth(call, times, first=5):
    """Returns the growth of the process in MiB over calls; the first ones may fill caches."""
    for _ in range(first):
        call()
    before = resident()
    for _ in range(times):
        call()
    return resident() - before


def resident():
    """Returns the memory in use in MiB, without free memory that has not been returned yet."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / MIB


@needs_linux
def test_predictions_take_no_memory(pixels):
    """Leaking a MiB per call would be 100 MiB, and an image 12 KiB per call: noise is a few MiB."""
    model = keras_resv2.ResNet(8)
    probabilities = model.predict_on_batch(pixels)
    found = growth(lambda: keras_resv2.decode_predictions(model.predict_on_batch(pixels), NAME), 100 * STRESS)
    assert found < 20
    np.testing.assert_array_equal(model.predict_on_batch(pixels), probabilities)


@needs_linux
def test_embedding_does_not_leak_memory(pixels):
    model = keras_resv2.ResNet(8)
    assert growth(lambda: (embed(NAME, pixels), embed(model, pixels)), 30 * STRESS, first=2) < 15


def test_embedding_compiles_a_network_once(pixels, monkeypatch):
    made = []
    embedding._open_body.cache_clear()
    original = keras.Model.make_predict_function
    monkeypatch.setattr(
        keras.Model, "make_predict_function", lambda self, *a: made.append(weakref.ref(self)) or original(self, *a)
    )
    model = keras_resv2.ResNet(8)
    first, tuned = embed(NAME, pixels), embed(model, pixels)
    model.get_layer("stem_conv").kernel.assign(model.get_layer("stem_conv").kernel * 2)
    again, changed = embed(NAME, pixels), embed(model, pixels)
    assert len({id(network()) for network in made}) == 2
    np.testing.assert_array_equal(first, again)
    assert np.abs(tuned - changed).max() > 1e-3  # weights that change are seen
    body, kept = made[1], weakref.ref(model)
    del model
    gc.collect(), gc.collect()  # the body goes after the model
    assert kept() is None and body() is None  # neither keeps the other


@needs_linux
def test_openings_take_no_memory():
    """A leaked network takes 1.1 MiB for its weights, and more for its layers. Noise is about 9 MiB."""
    networks, times = [], 10 * STRESS
    found = growth(lambda: networks.append(weakref.ref(keras_resv2.from_pretrained(NAME))), times, first=3)
    assert found < 10 + 0.5 * times
    assert not [network for network in networks if network() is not None]


def in_threads(count, work):
    """Results of ``work(i)`` in threads that start together."""
    barrier, results = threading.Barrier(count), [None] * count

    def run(i):
        barrier.wait()
        results[i] = work(i)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_twenty_threads_on_one_model():
    """Each thread has its own images: none gets the results of another, even in the first call, which compiles."""
    model = keras_resv2.ResNet(8, classifier_activation=None)
    images = np.random.default_rng(0).integers(0, 256, (20, 4, 32, 32, 3), dtype="uint8")
    found = in_threads(20, lambda i: [model.predict_on_batch(images[i]) for _ in range(3 * STRESS)])
    expected = [np.asarray(model(batch)) for batch in images]
    assert np.abs(expected[0] - expected[1]).max() > 0.01
    for answers, logits in zip(found, expected, strict=True):
        for answer in answers:
            np.testing.assert_allclose(answer, logits, rtol=1e-3, atol=1e-3)


def test_threads_open_networks_at_once(pixels):
    """The interpreter's settings are restored afterwards, and every network is complete."""
    limit = sys.getrecursionlimit()
    assert gc.isenabled()
    models = in_threads(6, lambda _: keras_resv2.from_pretrained(NAME, classifier_activation=None))
    assert (sys.getrecursionlimit(), gc.isenabled()) == (limit, True)
    expected = np.asarray(models[0](pixels))
    for model in models[1:]:
        np.testing.assert_array_equal(model(pixels), expected)


def test_the_last_thread_restores_the_interpreter():
    """The first one to enter exits first."""
    limit, entered, leave = sys.getrecursionlimit(), threading.Event(), threading.Event()

    def build():
        with graphs.deep_graph():
            entered.set()
            leave.wait(60)

    other = threading.Thread(target=build)
    with graphs.deep_graph():
        other.start()
        assert entered.wait(60)
    inside = sys.getrecursionlimit(), gc.isenabled()
    leave.set()
    other.join()
    assert inside == (graphs.RECURSION_LIMIT, False)
    assert (sys.getrecursionlimit(), gc.isenabled()) == (limit, True)


@pytest.fixture
def fork():
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("this system does not fork")
    return multiprocessing.get_context("fork")


def _read(path):
    pixels = keras_resv2.read_image(path, (32, 32))
    return pixels, keras_resv2.pretrained_card(NAME).test_error, keras_resv2.list_pretrained()


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning", "ignore:os.fork:RuntimeWarning")
def test_forked_workers_read_images_and_cards(fork, pixels, tmp_path):
    """Like workers of a data loader, forked from a process whose backend is already running."""
    paths = [tmp_path / f"{i}.png" for i in range(len(pixels))]
    for path, image in zip(paths, pixels, strict=True):
        Image.fromarray(image).save(path)
    with fork.Pool(2) as pool:
        found = pool.map_async(_read, paths).get(timeout=60)
    for image, (read, error, names) in zip(pixels, found, strict=True):
        np.testing.assert_array_equal(read, image)
        assert error == keras_resv2.pretrained_card(NAME).test_error and names == keras_resv2.list_pretrained()


SERVER = """
import os, sys
import keras_resv2
keras_resv2.pretrained_card("resnet20-cifar10")  # what a server looks at before it forks
workers = []
for i in range(2):
    pid = os.fork()
    if pid == 0:
        import numpy as np
        pixels = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype="uint8")
        model = keras_resv2.from_pretrained("resnet20-cifar10", classifier_activation=None)
        np.save(os.path.join(sys.argv[1], f"{i}.npy"), model(pixels))
        sys.stdout.flush()
        os._exit(0)
    workers.append(pid)
assert "tensorflow" not in sys.modules
assert all(os.waitpid(pid, 0)[1] == 0 for pid in workers)
"""


def test_a_server_that_forks_before_it_opens_a_network(fork, pixels, tmp_path):
    subprocess.run([sys.executable, "-c", SERVER, tmp_path], check=True, timeout=120)
    expected = keras_resv2.from_pretrained(NAME, classifier_activation=None)(pixels)
    for i in range(2):
        np.testing.assert_allclose(np.load(tmp_path / f"{i}.npy"), expected, rtol=1e-3, atol=1e-3)
