"""Random damage to files: to their bytes, and to the values of JSON and YAML files."""

from __future__ import annotations

import json
import random
from pathlib import Path

import yaml

# Values that a program may meet where it expects another one.
ODD = (
    None,
    True,
    -1,
    0,
    3,
    10**30,
    1e308,
    float("nan"),
    float("-inf"),
    "",
    "x" * 3000,
    "a\0b",
    "\udce9",
    "../../etc",
    "{}{}",
    [],
    [[]],
    [None],
    {},
    {"": 1},
    {"a": {"b": [1, "c"]}},
)


def damage_bytes(data: bytes, rng: random.Random) -> bytes:
    """A copy of `data` (not empty) that differs: some bytes flipped, replaced, removed, doubled, or its end cut off."""
    while True:
        start = rng.randrange(len(data))
        end = min(len(data), start + rng.choice((1, 1, 4, 64, 4096)))
        part = data[start:end]
        kind = rng.randrange(8)
        if kind == 0:
            found = data[:start]
        elif kind == 1:
            found = data[:start] + data[end:]
        elif kind == 2:
            found = data[:end] + part + data[end:]
        elif kind == 3:
            found = data[:start] + bytes(len(part)) + data[end:]
        elif kind == 4:
            found = data[:start] + rng.randbytes(len(part)) + data[end:]
        elif kind == 5:
            found = data + rng.randbytes(rng.choice((1, 600)))
        else:
            found = bytearray(data)
            for _ in range(rng.choice((1, 1, 2, 8))):
                found[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        if bytes(found) != data:
            return bytes(found)


def damage_value(value, rng: random.Random):
    """A copy of a nested value in which one part is replaced by an odd one, removed or renamed."""
    value = json.loads(json.dumps(value))
    places = list(_places(value))
    if not places:
        return rng.choice(ODD)
    parent, key = rng.choice(places)
    kind = rng.randrange(6)
    if kind == 0:
        del parent[key]
    elif kind == 1 and isinstance(parent, dict):
        parent[str(key) + rng.choice("xX_")] = parent.pop(key)
    elif kind == 2:
        other, name = rng.choice(places)
        parent[key] = json.loads(json.dumps(other[name])) if name in _keys(other) else None
    else:
        parent[key] = rng.choice(ODD)
    return value


def _keys(parent):
    return parent.keys() if isinstance(parent, dict) else range(len(parent))


def _places(value):
    """(parent, key) of all parts."""
    for key in _keys(value) if isinstance(value, (dict, list)) else ():
        yield value, key
        yield from _places(value[key])


def damage(path: Path, rng: random.Random) -> str:
    """Damage one file in place. Returns what was done, for the message of a failed test."""
    kind = rng.randrange(20)
    data = path.read_bytes()
    if kind == 0:
        path.unlink()
        path.mkdir()
        return f"{path.name}: a folder"
    if kind == 1:
        path.write_bytes(b"")
        return f"{path.name}: empty"
    if kind == 2:
        path.write_bytes(rng.randbytes(2000))
        return f"{path.name}: random bytes"
    if path.suffix in (".json", ".yaml") and kind < 16:
        if kind == 3:
            path.write_text("[" * 20000)
            return f"{path.name}: brackets"
        text = data.decode()
        value = damage_value(yaml.safe_load(text) if path.suffix == ".yaml" else json.loads(text), rng)
        try:
            path.write_text(yaml.safe_dump(value) if path.suffix == ".yaml" else json.dumps(value))
        except (UnicodeError, yaml.YAMLError):
            path.write_text(json.dumps(value))
        return f"{path.name}: another value"
    path.write_bytes(damage_bytes(data, rng))
    return f"{path.name}: other bytes"
