"""Malicious files: each uses a feature that weights never need."""

import io
import json
import os
import struct
import zipfile
import zlib

import h5py
import numpy as np

from keras_resv2.storage.weight_file import FORMAT, write_weights

# A network's weights in small: what a weight file may hold without any network.
ARRAYS = {
    "stem_conv/kernel": np.arange(108, dtype="float32").reshape(3, 3, 3, 4) / 100,
    "stem_bn/moving_variance": np.ones(4, "float32"),
    "head_dense/kernel": np.ones((4, 2), "float32"),
    "head_dense/bias": np.array([0.25, -0.5], "float32"),
}
INDEX = json.dumps([{"name": "w", "shape": [3], "offset": 0}])


def ours(path, **options):
    """A weight file of `ARRAYS`."""
    write_weights(ARRAYS, path, **options)
    return path


def with_values(path, values, index=INDEX):
    """Writes a weight file whose array is created by `values(file)`; returns its path."""
    with h5py.File(path, "w") as file:
        file.attrs["format"] = FORMAT
        file["index"] = index
        values(file)
    return path


def external_storage(file):
    file.create_dataset("values", (3,), "float32", external=[("/etc/passwd", 0, 12)])


def external_link(file):
    file["values"] = h5py.ExternalLink("other.h5", "/values")


def link_to_a_pipe(file):
    pipe = f"{file.file.filename}.pipe"
    os.mkfifo(pipe)
    file["values"] = h5py.ExternalLink(pipe, "/values")


def virtual_dataset(file):
    layout = h5py.VirtualLayout((3,), "float32")
    layout[:] = h5py.VirtualSource("other.h5", "values", (3,))
    file.create_virtual_dataset("values", layout)


def soft_link(file):
    file["kept"] = np.zeros(3, "float32")
    file["values"] = h5py.SoftLink("/kept")


def soft_loop(file):
    file["values"], file["other"] = h5py.SoftLink("/other"), h5py.SoftLink("/values")


def hard_loop(file):
    file["values"] = np.zeros(3, "float32")
    file.create_group("group")["back"] = file["/"]


def unknown_filter(file):
    file.create_dataset("values", data=np.zeros(3, "float32"), chunks=(3,), compression="lzf")


def compound_type(file):
    file["values"] = np.zeros(3, [("a", "float32"), ("b", "float32")])


def named_type(file):
    file["values"] = np.dtype("float32")


def eight_gigabytes(file):
    file.create_dataset("values", (2 << 30,), "float32")


def eight_gigabytes_in_chunks(file):
    file.create_dataset("values", (2 << 30,), "float32", chunks=(1 << 20,), compression="gzip")


def no_values(file):
    file.create_dataset("values", data=h5py.Empty("float32"))


def gzip_bomb(file):
    """Writes one chunk of 1 MB that expands to 100 MB."""
    values = file.create_dataset("values", (250_000,), "float32", chunks=(250_000,), compression="gzip")
    values.id.write_direct_chunk((0,), zlib.compress(bytes(100_000_000), 9))


REFUSED = {
    external_storage: "stored elsewhere",
    external_link: "to elsewhere",
    link_to_a_pipe: "to elsewhere",
    virtual_dataset: "stored elsewhere",
    soft_link: "to elsewhere",
    soft_loop: "to elsewhere",
    hard_loop: "a second time",
    unknown_filter: "filters other than",
    compound_type: "not an array of numbers",
    named_type: "neither a group nor an array",
    eight_gigabytes: "declares 8,589,934,592 bytes",
    eight_gigabytes_in_chunks: "declares 8,589,934,592 bytes",
    no_values: "has no values",
    gzip_bomb: "does not expand to its declared size",
}


def as_legacy(path, values):
    """Writes a Keras 2 file with one array; returns its path."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"conv"]
        group = file.create_group("conv")
        group.attrs["weight_names"] = [b"values"]
        values(group)
    return path


def as_keras(path, values):
    """Writes a .keras archive with the same file; returns its path."""
    inner = as_legacy(f"{path}.inner.h5", values)
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(inner, "model.weights.h5")
    return path


def text_of_four_gigabytes(path, marker):
    """A weight file with the length of a text, found by its true length, replaced by 4 GiB."""
    with h5py.File(path, "w") as file:  # the older form, whose headers have no checksums
        file.attrs["format"] = FORMAT
        file["index"] = INDEX + " " * 500
        file["values"] = np.zeros(3, "float32")
    content = path.read_bytes()
    length = struct.pack("<I", len({"index": INDEX + " " * 500, "format": FORMAT}[marker]))
    places = [i for i in range(len(content) - 16) if content[i : i + 4] == length]
    references = [i for i in places if content[i + 12 : i + 16] in (b"\1\0\0\0", b"\2\0\0\0")]
    assert references
    changed = bytearray(content)
    for i in references:
        changed[i : i + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(changed)
    return path


def png(width, height):
    """A PNG that declares a large size but contains hardly any data."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


def deflated(content):
    """The same zip archive with its files compressed."""
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry.filename))
    return packed.getvalue()
