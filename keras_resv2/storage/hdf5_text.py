"""Reads variable-length text in HDF5 files without the HDF5 library.

Text is stored as a reference: its length (4 bytes), and the address (8) and index (4) of an object in a global heap
that contains its bytes. HDF5 allocates the declared length, up to 4 GiB, before it checks that the bytes exist, and
hangs on some damaged heaps. So object headers (section IV.A) and global heaps (III.E) are parsed here, following the
HDF5 file format specification 3.0.
"""

from collections.abc import Callable

REFERENCE = 16
CONTINUATION, ATTRIBUTE = 0x10, 0x0C
MOST_BLOCKS = 100


def read_texts(read: Callable[[int, int], bytes], references: bytes, limit: int) -> list[str]:
    """Reads the texts of a sequence of references.

    Args:
        read: function from an offset in the file and a number of bytes to bytes.
        references: bytes, 16 for each text.
        limit: maximum total number of bytes.

    Returns:
        List of text.

    Raises:
        OSError: if a reference is invalid, or the texts declare more bytes than `limit`.
    """
    heaps, texts, total = {}, [], 0
    for start in range(0, len(references), REFERENCE):
        reference = references[start : start + REFERENCE]
        length, address, number = _number(reference[:4]), _number(reference[4:12]), _number(reference[12:])
        total += length
        if total > limit:
            raise OSError(f"it declares {total:,} bytes of text, more than it contains")
        if address not in heaps:
            heaps[address] = _heap(read, address) if length else {}
        content = heaps[address].get(number, b"") if length else b""
        if len(content) < length:
            raise OSError("a reference to a text is invalid")
        texts.append(content[:length].rstrip(b"\0").decode())
    return texts


def _heap(read, address):
    """Returns the objects of a global heap by index."""
    head = read(address, 16)
    if head[:4] != b"GCOL":
        return {}
    block, position, objects = read(address, _number(head[8:16])), 16, {}
    while position + 16 <= len(block):
        number, size = _number(block[position : position + 2]), _number(block[position + 8 : position + 16])
        if not number:  # the free space at the end
            break
        objects[number] = block[position + 16 : position + 16 + size]
        position += 16 + -(-size // 8) * 8
    return objects


def attribute_content(read: Callable[[int, int], bytes], address: int, name: str) -> bytes | None:
    """Returns the raw bytes of an attribute.

    Args:
        read: function from an offset in the file and a number of bytes to bytes.
        address: address of the object that has the attribute.
        name: name of the attribute.

    Returns:
        Bytes; None if the object's header does not contain the attribute.
    """
    for content in _attributes(read, address):
        version, sizes = content[0], [_number(content[i : i + 2]) for i in (2, 4, 6)]
        start = 9 if version == 3 else 8
        padded = [-(-size // 8) * 8 for size in sizes] if version == 1 else sizes
        if content[start : start + sizes[0]].rstrip(b"\0") == name.encode():
            return content[start + sum(padded) :]
    return None


def _attributes(read, address):
    """Returns the contents of the attribute messages of an object header."""
    start = read(address, 64)
    modern = start[:4] == b"OHDR"
    if modern:
        flags = start[5]
        position = 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
        width, prefix = 1 << (flags & 3), 6 if flags & 4 else 4
        blocks = [(address + position + width, _number(start[position : position + width]))]
    else:
        prefix, blocks = 8, [(address + 16, _number(start[8:12]))]
    for _ in range(MOST_BLOCKS):
        if not blocks:
            return
        block, position = read(*blocks.pop()), 0
        while position + prefix <= len(block):
            kind = block[position] if modern else _number(block[position : position + 2])
            size = _number(block[position + 1 : position + 3] if modern else block[position + 2 : position + 4])
            content = block[position + prefix : position + prefix + size]
            if kind == CONTINUATION:
                place, length = _number(content[:8]), _number(content[8:16])
                # A version 2 block starts with a signature and ends with a checksum, 4 bytes each.
                blocks.append((place + 4, length - 8) if modern else (place, length))
            elif kind == ATTRIBUTE and size > REFERENCE // 2:
                yield content
            position += prefix + size


def _number(data):
    return int.from_bytes(data, "little")
