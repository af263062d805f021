"""Few-shot samples, base and new classes, subsets of tasks: pure functions without files and caches.

A sample depends only on a hash of (seed, image key): not on the order of a folder listing, the machine, the place of
the data, or earlier samples. The images of a class are ranked once and the first k are taken. Samples are therefore
nested: 1 shot is part of 2 shots, which is part of 4, and so on.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Hashable, Sequence
from heapq import nsmallest
from typing import Any, TypeVar

T = TypeVar("T")
MAX_VAL_SHOTS = 4  # SoftCPT and CoOp validate on min(k, 4) images per class


def rank(seed: int | str, key: str) -> str:
    """Rank of the image `key` in the sample of `seed`: a hex digest. Images with the lowest ranks are drawn first."""
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
    """Draw up to `shots` items of every group; the result keeps the order of `items`.

    Args:
        items: the items to draw from, by default objects with `path` (the image key) and `label`.
        shots: k images per group; smaller groups are kept whole. A number below 1 keeps everything.
        seed: seed of the sample; 0 is a seed.
        nested: whether the k-shot sample contains all smaller ones of its seed; False draws independently for each k.
        key, group: image key and group (class) of an item.
    """
    if shots < 1:
        return list(items)
    salt: int | str = seed if nested else f"{seed}/{shots}"
    groups: dict[Hashable, list[int]] = {}
    for position, item in enumerate(items):
        groups.setdefault(group(item), []).append(position)
    chosen: list[int] = []
    for positions in groups.values():  # group by group, to save memory
        ranked = ((rank(salt, image), image, position) for position in positions for image in [key(items[position])])
        chosen += [position for _, _, position in nsmallest(shots, ranked)]
    return [items[position] for position in sorted(chosen)]


def val_shots(shots: int) -> int:
    """Number of validation images per class for `shots` training images: min(k, 4); 0 (all) if `shots` is below 1."""
    return min(shots, MAX_VAL_SHOTS) if shots >= 1 else 0


def base_new(count: int, which: str) -> list[int]:
    """Positions of a half of `count` classes or tasks: "base" (first ceil(count / 2)), "new" (the others), or "all"."""
    half = (count + 1) // 2
    halves = {"all": range(count), "base": range(half), "new": range(half, count)}
    if which not in halves:
        raise ValueError(f"DATASET.SUBSAMPLE_CLASSES is {which!r}; expected all, base or new")
    return list(halves[which])


def task_subset(wanted: Any, keys: Sequence[str]) -> list[int]:
    """Positions of the wanted tasks among all tasks of a suite, in the order of the suite and each once.

    Args:
        wanted: "all", "base", "new", "task<i>", a task's key, a number, or a list (or comma-separated text) of these.
        keys: the keys of all tasks, in order.

    Raises:
        ValueError: a task that the suite does not have, or no task at all.
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
                f"DATASET.SUBSAMPLE_TASKS: this suite has no task {text!r}; use all, base, new, "
                f"task0 to task{len(keys) - 1}, or one of {', '.join(keys)}; separate several by commas"
            )
    if not found:
        raise ValueError(f"DATASET.SUBSAMPLE_TASKS is {wanted!r}: no task of {len(keys)} is left")
    return sorted(found)
