"""How long texts of variable length in an HDF5 file are, before HDF5 reads them.

A text is stored as a reference: its length (4 bytes), and where its bytes are (8 and 4). HDF5 makes room for the
length that is declared, up to 4 GiB, before it looks whether the bytes are there. h5py does not show the reference
of an attribute, so it is read from the object header as the HDF5 file format specification 3.0 has it (section IV).
"""

REFERENCE = 16
CONTINUATION, ATTRIBUTE = 0x10, 0x0C
MOST_BLOCKS = 100


def lengths(references):
    """The lengths that a sequence of references declares, in bytes.

    Example:

    >>> lengths(bytes([5, 0, 0, 0] + 12 * [0] + [255, 255, 0, 0] + 12 * [0]))
    [5, 65535]
    """
    return [_number(references[start : start + 4]) for start in range(0, len(references), REFERENCE)]


def attribute_content(read, address, name):
    """The bytes of an attribute as they lie in the file.

    Args:
        read: function from an offset in the file and a number of bytes to bytes.
        address: of the object that has the attribute.
        name: of the attribute.

    Returns:
        Bytes; None if the object's header does not hold the attribute.
    """
    for content in _attributes(read, address):
        version, sizes = content[0], [_number(content[i : i + 2]) for i in (2, 4, 6)]
        start = 9 if version == 3 else 8
        padded = [-(-size // 8) * 8 for size in sizes] if version == 1 else sizes
        if content[start : start + sizes[0]].rstrip(b"\0") == name.encode():
            return content[start + sum(padded) :]
    return None


def _attributes(read, address):
    """Contents of the attribute messages of an object header."""
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
                # A modern block starts with a signature and ends with a checksum, 4 bytes each.
                blocks.append((place + 4, length - 8) if modern else (place, length))
            elif kind == ATTRIBUTE and size > REFERENCE // 2:
                yield content
            position += prefix + size


def _number(data):
    return int.from_bytes(data, "little")
