"""Few-shot samples, base and new classes, subsets of tasks: pure functions, no files, no caches.

Which images are drawn is decided by a hash of (seed, image key) and by nothing else, so the sample does not depend
on the order in which files were listed, on the machine, on where the data lies, or on what was drawn before. Ranking
a class's images once and taking the first k makes the samples nested: 1 shot is within 2 shots, within 4, and so on.
There is nothing to cache and therefore nothing that can go stale.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Hashable, Sequence
from heapq import nsmallest
from typing import Any, TypeVar

T = TypeVar("T")
MAX_VAL_SHOTS = 4  # SoftCPT and CoOp validate on min(k, 4) images a class


def rank(seed: int | str, key: str) -> str:
    """Rank of an image in the draw of `seed`: a hex digest; the lowest ranks are drawn first."""
    return hashlib.sha256(f"{seed}\0{key}".encode()).hexdigest()


def few_shot(
    items: Sequence[T],
    shots: int,
    seed: int,
    nested: bool = True,
    *,
    key: Callable[[T], str] = lambda item: item.path,
    group: Callable[[T], Hashable] = lambda item: item.label,
) -> list[T]:
    """Up to `shots` items of every group, in the order of `items`.

    Args:
        items: what to draw from, by default objects with `path` (the image key) and `label`.
        shots: k images a group; a group with fewer keeps all of them, below 1 everything is kept.
        seed: seed of the draw, 0 included.
        nested: the k-shot sample contains every smaller one of the same seed; False draws afresh for each k.
        key, group: image key and group (class) of an item.
    """
    if shots < 1:
        return list(items)
    salt: int | str = seed if nested else f"{seed}/{shots}"
    groups: dict[Hashable, list[int]] = {}
    for position, item in enumerate(items):
        groups.setdefault(group(item), []).append(position)
    chosen: list[int] = []
    for positions in groups.values():  # one after the other: the ranks of a million images are never held at once
        ranked = ((rank(salt, image), image, position) for position in positions for image in [key(items[position])])
        chosen += [position for _, _, position in nsmallest(shots, ranked)]
    return [items[position] for position in sorted(chosen)]


def val_shots(shots: int) -> int:
    """Validation images a class that go with `shots` training images: min(k, 4), everything (0) below one shot."""
    return min(shots, MAX_VAL_SHOTS) if shots >= 1 else 0


def base_new(count: int, which: str) -> list[int]:
    """Positions of a half of `count` things: "base" the first ceil(count / 2), "new" the rest, "all" all of them."""
    half = (count + 1) // 2
    halves = {"all": range(count), "base": range(half), "new": range(half, count)}
    if which not in halves:
        raise ValueError(f"DATASET.SUBSAMPLE_CLASSES is {which!r}; it must be one of all, base, new")
    return list(halves[which])


def task_subset(wanted: Any, keys: Sequence[str]) -> list[int]:
    """Positions of the wanted tasks among all tasks of a suite, without repetition, in the suite's order.

    Args:
        wanted: "all", "base", "new", "task<i>", a task's key, a number, or a list (or comma-separated text) of these.
        keys: the keys of all tasks, in order.

    Raises:
        ValueError: for a task the suite does not have, or when nothing is left.
    """
    parts = list(wanted) if isinstance(wanted, (list, tuple)) else [wanted]
    parts = [p for part in parts for p in (part.split(",") if isinstance(part, str) else [part])]
    found: set[int] = set()
    for part in parts:
        text = str(part).strip()
        number = re.fullmatch(r"(?:task)?(\d+)", text)
        if text in ("all", "base", "new"):
            found.update(base_new(len(keys), text))
        elif text in keys:
            found.add(list(keys).index(text))
        elif number and int(number[1]) < len(keys):
            found.add(int(number[1]))
        else:
            raise ValueError(
                f"DATASET.SUBSAMPLE_TASKS: {text!r} is no task of this suite; use all, base, new, "
                f"task0 to task{len(keys) - 1}, or any of {', '.join(keys)}, several separated by commas"
            )
    if not found:
        raise ValueError(f"DATASET.SUBSAMPLE_TASKS is {wanted!r}: this leaves no task of {len(keys)}")
    return sorted(found)
