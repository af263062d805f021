"""Training, validation and test images of somebody's own data: as the data give them, and by a rule what they lack."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path

from dassl.utils import UserError, atomic_write, counted
from datasets.fewshot import rank
from datasets.folders import are, some
from datasets.own.forms import Listing
from datasets.source import SPLITS
from datasets.splits import SPLIT_SEED

FORMAT = 1
Rows = list[tuple[str, str]]  # (path, label)

# What is made where the data do not say: name of the part that is lacking, or "all" -> the rule in words.
RULES = {
    "all": "per class: 50 % train, 20 % validation, 30 % test",
    "val": "the given test images; of the given training images per class 80 % train, 20 % validation",
    "test": "the given validation images; of the given training images per class 70 % train, 30 % test",
}


def own_split(
    name: str, listing: Listing, file: Path | None = None
) -> tuple[dict[str, Rows], str, Callable[[], None] | None]:
    """Divide a listing.

    Args:
        name: of the task; a split that is made belongs into split_own_<name>.json beside the images.
        listing: what was found; its notes grow.
        file: a split file, which then decides alone.

    Returns: ({part: [(path, label)]}, where the division comes from, in words, what saves a split that was made).

    Raises:
        UserError: nothing to train or test on, or a split file that contradicts the data.
        FileNotFoundError: images of the split file that are gone.
    """
    parts = {part: list(listing.parts.get(part, ())) for part in SPLITS}
    pool = list(listing.parts.get(None, ()))
    if file:
        pool += [row for rows in parts.values() for row in rows]
        made = _by_file(name, file, pool, listing, "")
        if not made["test"]:
            raise UserError(f"{name}: {file} has no image to test on; expected some under test")
        return made, str(file), None
    if not pool and not parts["train"] and not parts["test"]:
        raise UserError(f"{name} ({listing.where}): found validation images alone, expected some to train or test on")
    if not pool and parts["test"] and (parts["val"] or not parts["train"]):
        return parts, str(listing.where), None
    rule = "val" if parts["test"] else "test" if parts["val"] else "all"
    pool, parts["train"] = pool or parts["train"], []
    file, save = listing.folder / f"split_own_{name}.json", None
    if file.is_file():
        anew = f", or delete {file} to have the images divided anew"
        made, words = _by_file(name, file, pool, listing, anew), file.name
        if not parts["test"] and not made["test"]:  # made while the data had test images of their own
            raise UserError(f"{name}: neither {listing.where} nor {file} has images to test on; put them back{anew}")
    else:
        made, words = by_rule(pool, rule), RULES[rule]
        save = partial(_save, name, file, words, made)
    return {part: parts[part] + made[part] for part in SPLITS}, words, save


def by_rule(pool: Rows, rule: str) -> dict[str, Rows]:
    """Divide by one of `RULES`, drawing by a hash of the paths. Every class has an image to train on, and one of at
    least two images has one for the test.
    """
    classes = defaultdict(list)
    for path, label in pool:
        classes[label].append(path)
    parts: dict[str, Rows] = {part: [] for part in SPLITS}
    for label, paths in classes.items():
        paths.sort(key=lambda path: (rank(f"split{SPLIT_SEED}", path), path))
        train, val = _shares(len(paths), rule)
        for number, path in enumerate(paths):
            part = "train" if number < train else "val" if number < train + val else "test"
            parts[part].append((path, label))
    return parts


def _shares(count: int, rule: str) -> tuple[int, int]:
    """How many of a class's `count` images train and validate; the rest test."""
    if rule == "val":
        val = round(0.2 * count)
        return count - val, val
    if rule == "test":
        return count - (max(round(0.3 * count), 1) if count > 1 else 0), 0
    train, val = max(round(0.5 * count), 1), round(0.2 * count)
    if count > 1 and train + val == count:  # of three images two would train and one validate
        val -= 1
    return train, val


def _by_file(name: str, file: Path, pool: Rows, listing: Listing, anew: str) -> dict[str, Rows]:
    """Divide by {train, val, test: [path, or a list that begins with one]}; labels stay the data's own.

    `anew`: how to have another split made, for messages.
    """
    try:
        with open(file, encoding="utf-8") as stream:
            content = json.load(stream)
        entries = [(entry if isinstance(entry, str) else str(entry[0]), p) for p in SPLITS for entry in content[p]]
    except (ValueError, AttributeError, TypeError, IndexError, KeyError) as error:
        text = f"{type(error).__name__}: {error}"
        raise UserError(f"{file} is no split file ({text}); expected {{train, val, test: [path, …]}}{anew}") from None
    part_of, labels = dict(entries), dict(pool)
    if len(part_of) < len(entries):
        raise UserError(
            f"{file} names {counted(len(entries) - len(part_of), 'image')} more than once; expected one part each"
        )
    if gone := [path for path in part_of if path not in labels]:
        raise FileNotFoundError(
            f"{name}: {len(gone):,} of {len(part_of):,} images of {file} {are(len(gone))} not in {listing.where}: "
            f"{some(gone)}; put them back{anew or ', or correct the file'}"
        )
    new = [path for path in labels if path not in part_of]
    if lost := sorted({labels[path] for path in new} - {labels[path] for path in part_of}):
        raise UserError(f"{name}: {file} has no image of the classes {some(lost)}; add some{anew}")
    if new:
        listing.notes.append(
            f"left out: {counted(len(new), 'image')} that {file.name} does not have ({some(new)}){anew}"
        )
    parts: dict[str, Rows] = {part: [] for part in SPLITS}
    for path, part in part_of.items():
        parts[part].append((path, labels[path]))
    return parts


def _save(name: str, file: Path, words: str, parts: dict[str, Rows]) -> None:
    content = {"format": FORMAT, "task": name, "rule": words, "seed": SPLIT_SEED}
    content.update({part: sorted(path for path, _ in parts[part]) for part in SPLITS})
    counts = ", ".join(f"{len(parts[part]):,} {part}" for part in SPLITS if parts[part])
    try:
        with atomic_write(file) as stream:
            json.dump(content, stream, ensure_ascii=False, indent=0)
        print(f"{name}: images divided ({counts}), saved as {file}")
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else error
        print(f"{name}: images divided ({counts}), not saved ({file.parent}: {reason}); it is the same each time")
