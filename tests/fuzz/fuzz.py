"""A mutation fuzzer for all readers of untrusted files: cards, weight files, third-party checkpoints, images.

    python tests/fuzz/fuzz.py --cases 100000 --seed 7

Each case changes a good file and reads it. It must be refused by a ValueError, OSError or ImportError of one line, or
read as what it was: a weight file never gives other weights. The same seed gives the same cases; what fails is kept.
"""

import argparse
import io
import json
import pathlib
import random
import sys
import tempfile
import time
import warnings

import numpy as np
from PIL import Image

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parents[1])]  # as a script

import h5py  # noqa: E402
from mutation import mutate_bytes, mutate_json  # noqa: E402

from helpers import crafted  # noqa: E402
from helpers.memory import within  # noqa: E402
from keras_resv2.convert.readers import read_source  # noqa: E402
from keras_resv2.data.images import read_image  # noqa: E402
from keras_resv2.files import check_file_name  # noqa: E402
from keras_resv2.hub.readme import _text  # noqa: E402
from keras_resv2.storage.card import read_card  # noqa: E402
from keras_resv2.storage.weight_file import read_weights  # noqa: E402

ROOT = HERE.parents[1]
PUBLISHED = ROOT / "keras_resv2/storage/third_party"
CARDS = (ROOT / "weights/resnet20-cifar10/1/card.json", PUBLISHED / "preact_resnet50-imagenet/1/card.json")
REFUSALS = (ValueError, OSError, ImportError)
ATTRIBUTES = ([b"conv"], ["a", "conv"], "conv", "keras-resv2 weights 1", 5, [1.5], h5py.Empty("f4"), [b"/"])
ARRAYS = (np.zeros(3, "float32"), 5, "text", np.zeros((0, 3)), np.zeros(2, "complex64"), b"x")
SLOWEST_SECONDS, MOST_MEGABYTES = 10, 600


class Fuzzer:
    """Valid files of one kind, and how they are read.

    Args:
        folder: for files; it is the fuzzer's own.
    """

    suffixes = ("",)

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.files = self.make()

    def make(self):
        """Returns valid files as ``(suffix, bytes)``."""
        raise NotImplementedError

    def change(self, content, rng):
        return mutate_bytes(content, rng, [other for _, other in self.files])

    def read(self, path, original):
        """Reads a modified file and checks the result; `original` is the content of the valid file."""
        raise NotImplementedError

    def case(self, seed, number):
        """Runs one case; returns whether the file was rejected.

        Raises:
            AssertionError: with the place of the file, which is kept.
        """
        rng = random.Random(f"{seed} {type(self).__name__} {number}")
        suffix, original = rng.choice(self.files)
        path = self.folder / f"card{suffix}"
        path.write_bytes(self.change(original, rng))
        began, refused = time.perf_counter(), False
        try:
            self.read(path, original)
        except REFUSALS as error:
            refused = True
            problem = f"says {error}" if "\n" in str(error) else None
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"
        else:
            problem = None
        seconds = time.perf_counter() - began
        if problem is None and seconds > SLOWEST_SECONDS:
            problem = f"takes {seconds:.1f} s"
        others = [other.name for other in self.folder.iterdir() if other != path]
        if problem is None and others:
            problem = f"leaves {others}"
        if problem:
            kept = pathlib.Path(tempfile.mkdtemp(prefix="fuzz-"), path.name)
            kept.write_bytes(path.read_bytes())
            raise AssertionError(f"case {number} of seed {seed}, {type(self).__name__}, {kept}: {problem}")
        path.unlink()
        return refused


class Cards(Fuzzer):
    def make(self):
        return [(".json", path.read_bytes()) for path in CARDS]

    def change(self, content, rng):
        return mutate_json(json.loads(content), rng)

    def read(self, path, original):
        card = read_card(path)
        for name in (card.name, card.file):
            check_file_name(name, "name")
        assert all(isinstance(name, str) for name in card.class_names)
        if card.test_error is not None or card.origin is not None:
            _text(card, "me/weights", None)
        json.loads(card.to_json())


class WeightFiles(Fuzzer):
    def make(self):
        path, self.expected = self.folder / "w.h5", {}
        for half in (False, True):
            crafted.ours(path, half=half)
            self.expected[path.read_bytes()] = read_weights(path)
        path.unlink()
        return [(".h5", content) for content in self.expected]

    def read(self, path, original):
        for name, array in read_weights(path).items():
            np.testing.assert_array_equal(array, self.expected[original][name])


class ForeignFiles(Fuzzer):
    def make(self):
        tensors = {f"{name}.weight": np.ones((2, 3), "float32") for name in ("conv1", "bn1", "linear")}
        files = [(".h5", self._hdf5(crafted.as_legacy)), (".keras", self._hdf5(crafted.as_keras))]
        try:
            import safetensors.numpy

            files.append((".safetensors", safetensors.numpy.save(tensors, {"keras_resv2": '{"projection": "A"}'})))
        except ImportError:
            pass
        try:
            import torch
        except ImportError:
            return files
        for zipped in (True, False):
            content = io.BytesIO()
            state = {"state_dict": {key: torch.from_numpy(array) for key, array in tensors.items()}, "epoch": 3}
            torch.save(state, content, _use_new_zipfile_serialization=zipped)
            files.append((".pth", content.getvalue()))
        return files

    def _hdf5(self, write):
        values = np.arange(200, dtype="float32")
        path = self.folder / "made.h5"

        def packed(group):
            group.create_dataset("values", data=values, chunks=(64,), compression="gzip", shuffle=True)

        content = pathlib.Path(write(path, packed)).read_bytes()
        for made in self.folder.iterdir():
            made.unlink()
        return content

    def read(self, path, original):
        tensors = read_source(path).tensors
        assert all(array.dtype == np.float32 and isinstance(name, str) for name, array in tensors.items())


class Structures(ForeignFiles):
    """HDF5 files with random objects instead of random bytes: anything that h5py can write in place of weights."""

    def make(self):
        return [(".h5", b"")]

    def change(self, content, rng):
        memory = io.BytesIO()
        with h5py.File(memory, "w", libver=rng.choice(("earliest", "latest"))) as file:
            places = [file]
            for name in ("conv", "layers", "model_weights", "values", "index", "a", "vars", "0", "1"):
                if rng.random() < 0.6:
                    self._add(rng.choice(places), name, places, rng)
            for place in places:
                for name in ("layer_names", "layer_names0", "weight_names", "name", "format", "sha256"):
                    if rng.random() < 0.4:
                        place.attrs[name] = rng.choice(ATTRIBUTES)
        return memory.getvalue()

    def _add(self, place, name, places, rng):
        kind = rng.randrange(8)
        if name in place:
            return
        if kind < 3:
            places.append(place.create_group(name))
        elif kind == 3:
            place[name] = rng.choice(
                (np.zeros(3, "float32"), 5, "text", np.zeros((0, 3)), np.zeros(2, "complex64"), b"x")
            )
        elif kind == 4:
            place.create_dataset(name, (rng.choice((3, 10**6, 10**12)),), "float32", chunks=(3,))
        elif kind == 5:
            place[name] = rng.choice((h5py.SoftLink("/conv"), h5py.ExternalLink("x.h5", "/"), rng.choice(places)))
        elif kind == 6:
            place.create_dataset(name, data=["a", "b"], dtype=h5py.string_dtype())
        else:
            place[name] = rng.choice((np.dtype("float32"), np.array([True, False]), np.int64(3)))

    def read(self, path, original):
        for read in (read_weights, read_source):
            try:
                read(path)
            except REFUSALS as error:
                assert "\n" not in str(error)


class Images(Fuzzer):
    def make(self):
        pixels = np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype="uint8")
        files = []
        for name in ("PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP", "PPM", "TGA", "ICO", "SGI", "PCX"):
            content = io.BytesIO()
            Image.fromarray(pixels).save(content, name)
            files.append((".img", content.getvalue()))
        deep = io.BytesIO()
        Image.fromarray(pixels[..., 0].astype("uint16") * 200).save(deep, "PNG")
        return [*files, (".img", deep.getvalue())]

    def read(self, path, original):
        pixels = read_image(path, (16, 16))
        assert pixels.shape == (16, 16, 3) and pixels.dtype == np.uint8


KINDS = {kind.__name__: kind for kind in (Cards, WeightFiles, ForeignFiles, Structures, Images)}


def run(kind, cases, seed, start=0):
    """Runs cases of one kind.

    Args:
        kind: key of `KINDS`.
        cases: how many.
        seed: of all of them.
        start: number of the first.

    Returns:
        How many files were refused.

    Raises:
        AssertionError: if a case failed; the message has its number and the file.
    """
    with within(MOST_MEGABYTES, kind), tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fuzzer = KINDS[kind](folder)
        return sum(fuzzer.case(seed, number) for number in range(start, start + cases))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=1000, help="of each kind (default 1000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=int, default=0, help="number of the first case")
    parser.add_argument("--kind", choices=KINDS, action="append", help="what is read; all by default")
    arguments = parser.parse_args()
    for kind in arguments.kind or KINDS:
        began = time.perf_counter()
        refused = run(kind, arguments.cases, arguments.seed, arguments.start)
        seconds = time.perf_counter() - began
        print(f"{kind}: {arguments.cases:,} cases, {refused:,} refused, {seconds:.1f} s", flush=True)


if __name__ == "__main__":
    main()
