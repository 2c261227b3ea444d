"""Mutations of files that are likely to pass the first checks. All draw from the given `random.Random`."""

import copy
import json

NUMBERS = (0, 1, 7, 8, 16, 127, 128, 255, 256, 65535, 1 << 20, (1 << 31) - 1, (1 << 32) - 1, 1 << 40, (1 << 64) - 1)
VALUES = (
    None, True, False, 0, -1, 1, 2.5, 1e308, 10**30, "", "x", "../../x.sh", "/etc/passwd", "a\nb", "\x1b]0;x\x07", "é",
    "\ud800", "x" * 5000, [], {}, [[]], [1, 2, 3], ["x"], [None], {"x": 1}, {"url": "http://127.0.0.1:9/x"}, "file:///x",
    [[[[[[[[[[[[1]]]]]]]]]]]],
)  # fmt: skip


def mutate_bytes(content, rng, others=()):
    """Applies one to four mutations: bits, numbers, cuts, repeats, and pieces of other files.

    Args:
        content: bytes.
        rng: `random.Random`.
        others: contents of other files.
    """
    content = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4))):
        if not content:
            break
        # Half of the changes near the beginning, where formats have their headers.
        place = rng.randrange(len(content) if rng.random() < 0.5 else min(len(content), 2048))
        kind = rng.randrange(7)
        if kind == 0:
            content[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            content[place] = rng.randrange(256)
        elif kind == 2:
            width = rng.choice((2, 4, 8))
            number = rng.choice(NUMBERS) & ((1 << 8 * width) - 1)
            content[place : place + width] = number.to_bytes(width, rng.choice(("little", "big")))
        elif kind == 3:
            del content[place : place + rng.choice((1, 4, 64, 10_000))]
        elif kind == 4:
            content[place:place] = content[place : place + rng.choice((1, 8, 512))] * rng.choice((1, 20))
        elif kind == 5 and others:
            other = rng.choice(others)
            start = rng.randrange(len(other))
            content[place : place + 256] = other[start : start + 256]
        elif kind == 6:
            del content[place:]
    return bytes(content)


def mutate_json(content, rng):
    """Replaces, removes, moves and nests values of a JSON document; sometimes its text is modified too.

    Args:
        content: dictionary.
        rng: `random.Random`.

    Returns:
        Bytes.
    """
    content = json.loads(json.dumps(content))
    for _ in range(rng.choice((1, 1, 2, 3))):
        place = content
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                break
            key = rng.choice(keys)
            if isinstance(place[key], (dict, list)) and rng.random() < 0.6:
                place = place[key]
                continue
            kind = rng.random()
            if kind < 0.6:
                place[key] = copy.deepcopy(rng.choice(VALUES))
            elif kind < 0.75:
                del place[key]
            elif kind < 0.9:
                place[key] = [place[key]] if rng.random() < 0.5 else {"x": place[key]}
            elif isinstance(place, dict):
                place[rng.choice(keys)] = copy.deepcopy(place[key])
            break
    text = json.dumps(content).encode()
    return mutate_bytes(text, rng) if rng.random() < 0.2 else text
