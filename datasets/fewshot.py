"""Few-shot samples, base and new classes, subsets of tasks: pure functions without files and caches.

A sample depends only on a hash of (seed, image key): not on the order of a folder listing, the machine, the place of
the data, or earlier samples. The images of a class are ranked once and the first k are taken. Samples are therefore
nested: 1 shot is part of 2 shots, which is part of 4, and so on.

Where images have labels of several tasks, `few_shot_labels` draws k labels of every class from few images. With one
label per image it draws the same sample as `few_shot`.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from heapq import heapify, heappop, heappush, nsmallest
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
    quota: Callable[[Hashable, int], int] = lambda _, shots: shots,
) -> list[T]:
    """Draw up to `shots` items of every group; the result keeps the order of `items`.

    Args:
        items: the items to draw from, by default objects with `path` (the image key) and `label`.
        shots: k images per group; smaller groups are kept whole. A number below 1 keeps everything.
        seed: seed of the sample; 0 is a seed.
        nested: whether the k-shot sample contains all smaller ones of its seed; False draws independently for each k.
        key, group: image key and group (class) of an item.
        quota: function from (group, k) to the number of images of the group; it must not fall if k grows.
    """
    if shots < 1:
        return list(items)
    salt: int | str = seed if nested else f"{seed}/{shots}"
    groups: dict[Hashable, list[int]] = {}
    for position, item in enumerate(items):
        groups.setdefault(group(item), []).append(position)
    chosen: list[int] = []
    for own, positions in groups.items():  # group by group, to save memory
        ranked = ((rank(salt, image), image, position) for position in positions for image in [key(items[position])])
        chosen += [position for _, _, position in nsmallest(quota(own, shots), ranked)]
    return [items[position] for position in sorted(chosen)]


def few_shot_labels(
    items: Sequence[T],
    shots: int,
    seed: int,
    nested: bool = True,
    *,
    key: Callable[[T], str] = lambda item: item.path,
    group: Callable[[T], Hashable] = lambda item: (item.task, item.label),
    quota: Callable[[Hashable, int], int] = lambda _, shots: shots,
) -> list[T]:
    """Draw `shots` labels of every group, or all it has, where one image may have labels of several groups.

    An item is one label; items with the same key belong to one image. Round r = 1, ..., k brings every group to r
    labels:

    1. While a group has fewer than r chosen images and further images have its label, the image that serves most of
       these groups is chosen; of several, the one with the lowest rank.
    2. Images of this round without which every group still has r images are removed, the last one first.
    3. Each group draws the label of its lowest-ranked chosen image that it has not drawn.

    Labels of chosen images that no group draws count as missing, so every group has exactly k labels. A sample of k
    shots contains all smaller ones of its seed. Arguments as in `few_shot`; the result keeps the order of `items`.
    """
    if shots < 1:
        return list(items)
    salt: int | str = seed if nested else f"{seed}/{shots}"
    images: dict[str, dict[Hashable, int]] = {}  # image: {group: position of the label}
    for position, item in enumerate(items):
        images.setdefault(key(item), {})[group(item)] = position
    order = {image: place for place, (_, image) in enumerate(sorted((rank(salt, image), image) for image in images))}
    carriers: dict[Hashable, list[str]] = {}  # group: its images, by rank
    for image in order:
        for own in images[image]:
            carriers.setdefault(own, []).append(image)
    chosen: set[str] = set()
    found: Counter[Hashable] = Counter()  # number of chosen images of each group
    drawn: dict[Hashable, set[str]] = {own: set() for own in carriers}
    for r in range(1, shots + 1):
        wanted = {own: min(quota(own, r), len(there)) for own, there in carriers.items()}
        added = _cover({own for own in carriers if found[own] < wanted[own]}, images, carriers, chosen, order)
        chosen.update(added)
        found.update(own for image in added for own in images[image])
        for image in reversed(added):
            if all(found[own] > wanted[own] for own in images[image]):
                chosen.remove(image)
                found.subtract(images[image].keys())
        for own, there in carriers.items():
            new = (image for image in there if image in chosen and image not in drawn[own])
            drawn[own].update(nsmallest(wanted[own] - len(drawn[own]), new, key=order.__getitem__))
        if all(len(drawn[own]) == len(there) for own, there in carriers.items()):
            break
    return [items[place] for place in sorted(images[image][own] for own, there in drawn.items() for image in there)]


def _cover(
    lacking: set[Hashable],
    images: Mapping[str, Collection[Hashable]],
    carriers: Mapping[Hashable, Sequence[str]],
    chosen: set[str],
    order: Mapping[str, int],
) -> list[str]:
    """Images that give each of the `lacking` groups one more, chosen greedily. They are not among the chosen ones."""

    def gain(image: str) -> int:
        return sum(own in lacking for own in images[image])

    candidates = {image for own in lacking for image in carriers[own]} - chosen
    heap = [(-gain(image), order[image], image) for image in candidates]
    heapify(heap)
    added = []
    while lacking:
        before, place, image = heappop(heap)
        now = gain(image)
        if now == -before:  # the gain of an image only falls, so no other image has a larger one
            added.append(image)
            lacking.difference_update(images[image])
        elif now:
            heappush(heap, (-now, place, image))
    return added


def long_tail(shots: int, ratio: float, position: int, count: int) -> int:
    """Images of a class in a long-tailed sample: k * ratio^(-position / (count - 1)), rounded, at least one.

    So the first of `count` classes has k images and the last one k / ratio (Cui et al., "Class-Balanced Loss Based on
    Effective Number of Samples", CVPR 2019, section 5).
    """
    return max(1, round(shots * ratio ** (-position / max(count - 1, 1))))


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
