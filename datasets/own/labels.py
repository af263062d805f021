"""The user's own images with labels of several tasks: a table with a column per task, or SoftCPT's split file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dassl.metrics import METRICS
from dassl.utils.errors import UserError, counted, did_you_mean
from datasets import splits
from datasets.classnames import in_words
from datasets.folders import some
from datasets.own.splits import own_split
from datasets.own.tables import Listing, tags_of
from datasets.own.task import OwnTask
from datasets.source import SPLITS, Item, Source

NO_TAGS = "METRIC {} is for images with several labels (cat;dog), and every image has one; expected e.g. overall_acc"


def labels_source(
    name: str, listing: Listing, tasks: Sequence[OwnTask], columns: Sequence[str], split: Path | None
) -> Source:
    """A source of several tasks whose images share one split.

    Where a split has to be made, each image counts as one of its rarest class, so that rare classes are divided, too.

    Args:
        name: of the data.
        listing: the images with their cells.
        tasks: the tasks.
        columns: the column of each task.
        split: a split file of the user, or None.

    Raises:
        UserError: the labels contradict the declared classes.
    """
    where, notes = f"{name} ({listing.where})", []
    tagging = {column for task, column in zip(tasks, columns, strict=True) if task.tagging}
    cells = {  # {path: {column: labels}}
        path: {column: tags_of(cell) if column in tagging else [cell] for column, cell in own.items()}
        for path, own in listing.cells.items()
    }
    pairs = {
        path: [(column, label) for column, labels in own.items() for label in labels] for path, own in cells.items()
    }
    count = Counter(pair for own in pairs.values() for pair in own)
    rarest = {path: min(own, key=lambda pair: (count[pair], pair)) for path, own in pairs.items() if own}
    words = {path: f"{label} ({column})" for path, (column, label) in rarest.items()}
    for part, rows in listing.parts.items():
        listing.parts[part] = [(path, words[path]) for path, _ in rows if path in words]
    known, built = [], []
    for task, column in zip(tasks, columns, strict=True):
        own = Listing(listing.where, listing.folder)
        own.parts[None] = [(path, label) for path, labels in cells.items() for label in labels.get(column, ())]
        if not own.parts[None]:
            raise UserError(f"{where}: no image has a label in the column {column}")
        if task.tagging and not any(len(labels.get(column, ())) > 1 for labels in cells.values()):
            raise UserError(f"{where}, {task.key}: {NO_TAGS.format(task.metric)}")
        labels, names = task.classes(own, f"{where}, {task.key}")
        known.append({label: i for i, label in enumerate(labels)})
        built.append(task.task(names, own.notes))
        notes += [f"{task.key}: {note}" for note in own.notes]
    parts, origin, save = own_split(name, listing, split)
    for note in [*listing.notes, *notes]:
        print(f"{name}: {note}")
    items = {
        part: [
            Item(path, known[t][label], t)
            for path, _ in parts[part]
            for t, column in enumerate(columns)
            for label in cells[path].get(column, ())
        ]
        for part in SPLITS
    }
    return Source(name, str(listing.folder), built, **items, split_from=origin, save=save)


def split_dk_source(name: str, file: Path, tasks: Sequence[OwnTask]) -> Source:
    """A source from SoftCPT's split file {train, val, test: [[path, [label, …], [task, …]], …], meta: …}.

    Paths are relative to the file's folder. Names and classes come from `meta`, unless the tasks declare them.

    Raises:
        UserError: not such a file, another number of tasks, or an image in two splits.
        ValueError: labels outside the class list, or two labels of one task.
        FileNotFoundError: images that do not exist.
    """
    where, split, notes = f"{name} ({file})", splits.read_split(file, len(tasks)), []
    splits.check_labels(where, split)
    metrics = [task.metric if task.has_metric else split.metrics.get(t) or task.metric for t, task in enumerate(tasks)]
    tagging = {t for t, metric in enumerate(metrics) if metric in METRICS and METRICS.get(metric).tags}
    splits.check_once(where, split, tagging)
    every = [(item.task, item.path) for part in SPLITS for item in getattr(split, part)]
    for t in tagging:
        paths = [path for task, path in every if task == t]
        if len(set(paths)) == len(paths):
            raise UserError(f"{where}, {tasks[t].key}: {NO_TAGS.format(metrics[t])}")
    part_of = [(item.path, part) for part in SPLITS for item in getattr(split, part)]
    first = dict(reversed(part_of))
    if torn := sorted({f"{path} in {first[path]} and {part}" for path, part in part_of if first[path] != part}):
        raise UserError(f"{where}: {counted(len(torn), 'image')} in more than one split: {some(torn)}")
    splits.check_files(where, file.parent, split)
    built = []
    for t, (task, found) in enumerate(zip(tasks, split.classnames, strict=True)):
        own = task.task(_renamed(found, task, where), notes, name=in_words(split.task_names.get(t, "")))
        built.append(replace(own, metric=metrics[t], description=own.description or split.descriptions.get(t, "")))
    for note in notes:
        print(f"{name}: {note}")
    parts = {part: getattr(split, part) for part in SPLITS}
    return Source(name, str(file.parent), built, **parts, split_from=file.name)


def _renamed(found: Sequence[str], task: OwnTask, where: str) -> list[str]:
    """The class names of a split file, with the names that CLASSNAMES gives in place of them."""
    given = task.classnames or {}
    if isinstance(given, list):
        if len(given) != len(found):
            raise UserError(f"{where}, {task.key}: CLASSNAMES has {len(given)} names for {len(found)} classes")
        return list(map(in_words, given))
    numbers = {str(label): name for label, name in enumerate(found)}
    given = {numbers.get(key, key): name for key, name in given.items()}
    if unknown := [key for key in given if key not in found]:
        hint = did_you_mean(unknown[0], found)
        raise UserError(f"{where}, {task.key}: CLASSNAMES has a name for {unknown[0]!r}, which is not a class{hint}")
    return [in_words(given.get(name, name)) for name in found]
