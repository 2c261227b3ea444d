"""Opens HDF5 files safely: the whole structure of a file is checked before any of its data is read.

HDF5 files can do more than store arrays. They can refer to other files (external links, external storage, virtual
datasets), contain cyclic links, declare arrays of any size in a few bytes, and name filters that are loaded from
plugins. Weights need none of this, so files that use it are rejected.
"""

# h5py's low-level modules are compiled, without stubs.
# pyright: reportAttributeAccessIssue=false

import contextlib
import math
import os
import zlib
from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np

from keras_resv2.argument_checks import one_line
from keras_resv2.files import check_regular, read_limit
from keras_resv2.storage.hdf5_text import REFERENCE, attribute_content, read_texts

MOST_OBJECTS = 100_000
GZIP, SHUFFLE, FLETCHER32 = h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32
COMPRESSIONS = ((), (GZIP,), (SHUFFLE,), (SHUFFLE, GZIP))
PIPELINES = (*COMPRESSIONS, *((*filters, FLETCHER32) for filters in COMPRESSIONS))
LAYOUTS = (h5py.h5d.COMPACT, h5py.h5d.CONTIGUOUS, h5py.h5d.CHUNKED)
NUMBERS = (h5py.h5t.FLOAT, h5py.h5t.INTEGER)


@contextlib.contextmanager
def open_hdf5(source: str | os.PathLike | bytes, label: str | None = None) -> Iterator[h5py.File]:
    """Context manager that opens an HDF5 file for reading after checking that its content is harmless.

    Args:
        source: path of a file, or its content as bytes.
        label: name of the file in messages; None for its path.

    Yields:
        `h5py.File` that contains only groups, and datasets of numbers and text. Reading all datasets takes at most
        `keras_resv2.files.read_limit` bytes. Use `attribute` to read attributes.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if it is damaged or not HDF5, contains a link, storage layout, filter or type that weights do not
            need, or declares more data than its size allows.
    """
    if isinstance(source, bytes):
        size, label = len(source), label or "the file"
    else:
        size, label = check_regular(source), label or str(source)
    try:
        with _open(source) as file:
            if file.id.get_create_plist().get_sizes() != (8, 8):
                raise Refused("was not written in the way h5py writes files.")
            _check_objects(file, size)
            yield file
    except (OSError, KeyError, RuntimeError, OverflowError, UnicodeError, zlib.error) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ValueError(f"{label} is damaged or not HDF5: {one_line(error)}") from None
    except Refused as error:
        raise ValueError(f"{label} {error}") from None


class Refused(Exception):
    """Raised when the content of a file is rejected; the message is to follow the file's name."""


def attribute(item: Any, name: str) -> Any:
    """Reads an attribute of a group or dataset in a file opened by `open_hdf5`; None if it does not exist.

    Returns:
        A number, text, array of numbers or of bytes, or list of texts.

    Raises:
        Refused: if it is neither numbers nor text, or declares more data than the file can hold.
    """
    if name not in item.attrs:
        return None
    found = item.attrs.get_id(name)
    kind = found.get_type()
    if kind.get_class() not in (*NUMBERS, h5py.h5t.STRING):
        raise Refused(f"has an attribute {name!r} that is neither numbers nor text.")
    size, shape = item.file.id.get_filesize(), found.shape or ()
    if math.prod(shape) * kind.get_size() > size:
        raise Refused(f"has an attribute {name!r} that is larger than the file.")
    if kind.get_class() != h5py.h5t.STRING or not kind.is_variable_str():
        return item.attrs[name]
    read = _reader(_source(item.file), size)
    content = attribute_content(read, h5py.h5o.get_info(item.id).addr, name)
    if content is None:
        raise Refused(f"has an attribute {name!r} that is not stored in the way h5py stores attributes.")
    texts = read_texts(read, content[: math.prod(shape) * REFERENCE], read_limit(size))
    return texts if shape else "".join(texts)


def text(dataset: Any) -> str:
    """Reads the text in a dataset of a file opened by `open_hdf5`.

    Raises:
        Refused: if it does not contain text.
    """
    kind, size = dataset.id.get_type(), dataset.file.id.get_filesize()
    if kind.get_class() != h5py.h5t.STRING:
        raise Refused(f"is damaged: {dataset.name} is not text.")
    if not kind.is_variable_str():
        return dataset[()].decode()
    read, offset = _reader(_source(dataset.file), size), dataset.id.get_offset()
    if offset is None:
        raise Refused(f"contains {dataset.name}, a text that is not stored in the way h5py stores text.")
    return read_texts(read, read(offset, REFERENCE), read_limit(size))[0]


def _open(source):
    if isinstance(source, bytes):
        if not source:
            raise OSError("it is empty")
        return h5py.File(h5py.h5f.open_file_image(source))
    return h5py.File(source, "r")


def _source(file):
    """Returns the path of an open file, or its bytes if it was opened from memory."""
    return file.id.get_file_image() if file.driver == "core" else file.filename


def _reader(source, size):
    """Returns a function from an offset and a number of bytes to the bytes of a file."""
    if isinstance(source, bytes):
        return lambda offset, count: source[offset : offset + count]

    def read(offset, count):
        if not 0 <= offset < size:
            return b""
        with open(source, "rb") as file:
            file.seek(offset)
            return file.read(min(count, size))

    return read


def _check_objects(file, size):
    """Checks all objects, following only hard links."""
    limit = read_limit(size)
    groups, seen, total = [(file.id, "")], {_address(file.id)}, 0
    while groups:
        group, prefix = groups.pop()
        for name in group:
            path = f"{prefix}/{name.decode(errors='replace')}"
            if group.links.get_info(name).type != h5py.h5l.TYPE_HARD:
                raise Refused(f"contains a link, {path}, to elsewhere: weights are read from a single file.")
            item = h5py.h5o.open(group, name)
            address = _address(item)
            if address in seen:
                raise Refused(f"contains {path} a second time: cyclic links are not followed.")
            seen.add(address)
            if len(seen) > MOST_OBJECTS:
                raise Refused(f"contains more than {MOST_OBJECTS:,} groups and datasets.")
            if isinstance(item, h5py.h5g.GroupID):
                groups.append((item, path))
            elif isinstance(item, h5py.h5d.DatasetID):
                total += _check_dataset(item, path, size, limit)
                if total > limit:
                    raise Refused(f"declares {total:,} bytes of arrays but has {size:,}: too much for weights.")
            else:
                raise Refused(f"contains {path}, which is neither a group nor an array.")


def _address(item):
    found = h5py.h5o.get_info(item)
    return found.fileno, found.addr


def _check_dataset(dataset, path, size, limit):
    """Returns how many bytes reading a dataset takes."""
    kind, space, made = dataset.get_type(), dataset.get_space(), dataset.get_create_plist()
    text = kind.get_class() == h5py.h5t.STRING
    if kind.get_class() not in NUMBERS and not (text and space.get_simple_extent_type() == h5py.h5s.SCALAR):
        raise Refused(f"contains {path}, which is not an array of numbers.")
    if space.get_simple_extent_type() == h5py.h5s.NULL:
        raise Refused(f"contains {path}, which has no values.")
    if made.get_layout() not in LAYOUTS or made.get_external_count():
        raise Refused(f"contains {path}, whose values are stored elsewhere: weights are read from a single file.")
    filters = tuple(made.get_filter(i)[0] for i in range(made.get_nfilters()))
    if filters not in PIPELINES:
        raise Refused(f"contains {path}, which uses filters other than shuffle, gzip and checksums.")
    count = math.prod(space.get_simple_extent_dims())
    needed = count * max(kind.get_size(), np.dtype("float32").itemsize)
    if needed > limit:
        raise Refused(f"declares {needed:,} bytes for {path} but has {size:,}: too much for weights.")
    if made.get_layout() == h5py.h5d.CHUNKED:
        _check_chunks(dataset, path, math.prod(made.get_chunk()) * kind.get_size(), filters, size, limit)
    elif text and kind.is_variable_str():
        needed = 0  # `text` reads it
    elif count and dataset.get_storage_size() != count * kind.get_size():
        raise Refused(f"declares {path} but has no values for it.")
    return needed


def _check_chunks(dataset, path, nbytes, filters, size, limit):
    """Checks that every chunk is inside the file and expands to exactly its declared size."""
    if nbytes > limit:
        raise Refused(f"declares chunks of {nbytes:,} bytes for {path} but has {size:,}.")
    for i in range(dataset.get_num_chunks()):
        chunk = dataset.get_chunk_info(i)
        if chunk.byte_offset is None or chunk.byte_offset + chunk.size > size:
            raise Refused(f"is truncated: {path} is beyond its end.")
        if GZIP not in filters or chunk.filter_mask & 1 << filters.index(GZIP):
            continue
        _, packed = dataset.read_direct_chunk(chunk.chunk_offset)
        inflater = zlib.decompressobj()
        # HDF5 itself decompresses to any size.
        if len(inflater.decompress(packed, nbytes + 1)) != nbytes:
            raise Refused(f"contains {path}, which does not expand to its declared size.")
