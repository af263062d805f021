"""The dataset class behind every registered name: tasks of one or several datasets, as a run asks for them."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from dassl.data.datasets import DATASET_REGISTRY, DatasetBaseMT, DatumMT
from dassl.data.datasets.base_dataset import labels_of
from dassl.data.tasks import Task, TaskSpace
from dassl.runs.record import CONFIG
from dassl.utils import UserError, counted
from datasets.fewshot import base_new
from datasets.fewshot_files import find_files, record_of
from datasets.fewshot_match import choose
from datasets.folders import quoted, some
from datasets.reading import read_sources
from datasets.sample import Sample
from datasets.source import SPLITS, Places, Source
from datasets.suites import SOURCES, SUITES, Asked, SuiteTask, asked, expand, hint_of
from datasets.verify import no_test_image


class Suite(DatasetBaseMT):
    """Tasks of one or several datasets, after task subset, base/new classes and few-shot sampling.

    Only the datasets of the chosen tasks are read.

    Attributes:
        sources: {dataset: its tasks and its full split}.
        suite_tasks: keys of all tasks of the suite.
        split_hash: hash of the full splits of the chosen tasks, before sampling.
        fewshot_split: name and hash of the files of DATASET.FEWSHOT_SPLIT; None if images are drawn.
        more_images: whether there are training images that have not been drawn.
        unknown: test images of the new classes, if the classes are the base classes, for TEST.CONFIDENCE.
        places: for each list of images their places in the splits, for messages about bad images.
        advice: the command that lists all bad images.

    Args:
        cfg: reads DATASET.{ROOT, NAME, TASKS, TASK_NAMES, NUM_SHOTS, NESTED_SHOTS, FEWSHOT_SPLIT, IMBALANCE, VAL_SHOTS,
            SUBSAMPLE_CLASSES, SUBSAMPLE_TASKS}, SEED, TEST.{NO_TEST, CONFIDENCE}, OUTPUT_DIR, and where ROOT
            does not exist DATALOADER.{OLD_DATA_PATH, NEW_DATA_PATH}.

    Raises:
        MissingData: all datasets that are missing.
        UserError: data or settings that contradict themselves.
    """

    TASKS: tuple[str, ...] = ()

    @classmethod
    def task_keys(cls, cfg) -> list[str]:
        """Keys of all tasks of the suite, before DATASET.SUBSAMPLE_TASKS; position = number of the task."""
        return [task.key for task in expand(list(cfg.DATASET.TASKS) or cls.TASKS)]

    def __init__(self, cfg):
        settings, wanted = cfg.DATASET, asked(cfg, self.TASKS)
        files = _fewshot_files(cfg, wanted)
        self.sources = read_sources(wanted.name, wanted.sources, wanted.root)
        listed = {
            name: choose(path, self.sources[name], getattr(wanted.sources[name], "row", None), settings.NUM_SHOTS)
            for name, path in files.items()
        }
        most = max((each.shots for each in listed.values()), default=0)
        self.fewshot_split = record_of(settings.FEWSHOT_SPLIT, files, most) if files else None
        self.suite_tasks = [task.key for task in wanted.every]
        self.more_images = False
        names = new_names(settings.TASK_NAMES, wanted.every)
        samples = {name: Sample(source, cfg, listed.get(name)) for name, source in self.sources.items()}
        several = any(source.several for source in self.sources.values())
        known: dict[tuple[str, str, str], DatumMT] = {}  # images that may get more labels
        splits: dict[str, list[DatumMT]] = {split: [] for split in SPLITS}
        unknown: list[DatumMT] = []  # of new classes
        places = {split: Places(split) for split in SPLITS} | {"unknown": Places("test")}
        space, digest = [], hashlib.sha256()
        for number, (dataset, index, key) in zip(wanted.numbers, wanted.tasks, strict=True):
            source = self.sources[dataset]
            digest.update(source.split_digest(index).encode())
            declared = source.tasks[index]
            labels = base_new(len(declared.classnames), settings.SUBSAMPLE_CLASSES)
            if not labels:
                print(f"{declared.name}: its only class is a base class, so the task is left out of the new classes")
                continue
            classnames = [declared.classnames[label] for label in labels]
            name = names.get((dataset, key), declared.name)
            task = replace(declared, name=name, classnames=classnames, id=number)
            new_label = {label: position for position, label in enumerate(labels)}
            for split in SPLITS:
                kept, more = samples[dataset].places(index, split, new_label)
                self.more_images |= split == "train" and more
                for part, chosen in kept.items():
                    new = []
                    for place in chosen:
                        item = getattr(source, part)[place]
                        label = new_label[item.label]
                        if several and (first := known.get((dataset, split, item.path))):
                            if (len(space), label) not in labels_of(first):  # a file may list an image twice
                                first.label.append(label)
                                first.task.append(len(space))
                            continue
                        where = ([label], [len(space)]) if several else (label, len(space))
                        datum = DatumMT(f"{source.root}/{item.path}", *where, item.domain, task.classnames[label])
                        splits[split].append(datum)
                        new.append(place)
                        if several:
                            known[dataset, split, item.path] = datum
                    places[split].add(source, new, part)
            if settings.SUBSAMPLE_CLASSES == "base" and cfg.TEST.CONFIDENCE:
                others = _unknown(samples[dataset], index, new_label)
                unknown += [_unknown_item(source, place, len(space)) for place in others]
                places["unknown"].add(source, others)
            space.append(task)
        _note_shots(settings, space, splits["train"])
        _check(cfg, space, {task for item in splits["test"] for task, _ in labels_of(item)})
        roots = {source.root for source in self.sources.values()}
        self.image_root = roots.pop() if len(roots) == 1 else sorted(roots, key=lambda path: (-len(path), path))
        self.domains = next(iter(self.sources.values())).domains if len(self.sources) == 1 else ()
        self.split_hash = digest.hexdigest()
        self.advice = f"python -m datasets.check {quoted(os.path.join(cfg.OUTPUT_DIR, CONFIG))} --deep"
        self.places = {"train_x" if split == "train" else split: found for split, found in places.items()}
        self.unknown = unknown
        super().__init__(TaskSpace(tuple(space)), splits["train"], splits["val"] or None, splits["test"])


def _unknown(sample: Sample, task: int, known: Container[int]) -> list[int]:
    """Places of the test images of a task that have none of the `known` labels."""
    items, labels = sample.source.test, range(len(sample.source.tasks[task].classnames))
    of_known, others = (
        sample.places(task, "test", {label for label in labels if (label in known) == wanted})[0]["test"]
        for wanted in (True, False)
    )
    paths = {items[place].path for place in of_known}  # an image may have several labels
    return [place for place in others if items[place].path not in paths]


def _unknown_item(source: Source, place: int, task: int) -> DatumMT:
    """A test image of none of the classes of the task at position `task`."""
    item = source.test[place]
    return DatumMT(f"{source.root}/{item.path}", -1, task, item.domain, source.tasks[item.task].classnames[item.label])


def _check(cfg, space: Sequence[Task], tested: set[int]) -> None:
    """Raise UserError if there are no classes, or tasks without a test image that a run would test.

    Args:
        cfg: the configuration.
        space: the tasks.
        tested: positions of the tasks with test images.
    """
    name, classes = cfg.DATASET.NAME, cfg.DATASET.SUBSAMPLE_CLASSES
    if not space:
        raise UserError(f"{name}: DATASET.SUBSAMPLE_CLASSES {classes!r} leaves no class")
    untested = [task.key for i, task in enumerate(space) if i not in tested]
    if untested and not cfg.TEST.NO_TEST:
        half = "" if classes == "all" else f"in the {classes} classes there is "
        raise UserError(f"{name}: {half}{no_test_image(untested)}")


def _note_shots(settings, space: Sequence[Task], train: Sequence[DatumMT]) -> None:
    """Print which classes have fewer training images than DATASET.NUM_SHOTS; all of these are used."""
    shots = settings.NUM_SHOTS
    if shots == 0:
        print("DATASET.NUM_SHOTS 0: all training images are used, as with -1")
    counts = Counter(pair for item in train for pair in labels_of(item))
    for position, task in enumerate(space):
        found = {name: counts[position, label] for label, name in enumerate(task.classnames)}
        if settings.IMBALANCE > 1 and shots > 0:
            smallest, largest = min(found.values()), max(found.values())
            print(f"{task.key}: {smallest} to {largest} training images per class (DATASET.IMBALANCE)")
            continue
        fewer = [f"{name}: {count}" for name, count in found.items() if count < shots]
        if fewer:
            print(
                f"{task.key}: {counted(len(fewer), 'class')} of {len(found)} with fewer training images than "
                f"DATASET.NUM_SHOTS {shots}, all of which are used ({some(fewer)})"
            )


def _fewshot_files(cfg, wanted: Asked) -> dict[str, Path]:
    """{dataset: its file of DATASET.FEWSHOT_SPLIT}, of the datasets with training images; {} without the setting."""
    settings = cfg.DATASET
    if not settings.FEWSHOT_SPLIT:
        return {}
    aliases = {
        name: _aliases(name, source) for name, source in wanted.sources.items() if not getattr(source, "test_only", 0)
    }
    known = {alias for name, source in SOURCES.items() for alias in _aliases(name, source)}
    return find_files(settings.FEWSHOT_SPLIT, wanted.root, aliases, known, settings.NUM_SHOTS, cfg.SEED)


def _aliases(name: str, source) -> list[str]:
    """Names of a dataset in paths: its own, and those of its folder."""
    row = getattr(source, "row", None)
    return [name, *((row.folder, *row.other_folders) if row else ())]


def new_names(given: Sequence[Mapping], tasks: Sequence[SuiteTask]) -> dict[tuple[str, str], str]:
    """{(dataset, task key): task name} of DATASET.TASK_NAMES.

    Args:
        given: [{key of a task, or dataset/key: name}, …].
        tasks: all tasks of the suite.

    Raises:
        UserError: a task that the suite does not have, or a name that is not a text.
    """
    known = {task.key: (task.dataset, task.key) for task in tasks}
    known |= {f"{task.dataset}/{task.key}": (task.dataset, task.key) for task in tasks}
    found = {}
    for entry in given:
        for key, text in entry.items() if isinstance(entry, Mapping) else [(entry, None)]:
            if not isinstance(text, str) or not text.strip():
                raise UserError(
                    f"DATASET.TASK_NAMES: expected KEY: name of the task, found {key!r}"
                    + (f": {text!r}" if isinstance(entry, Mapping) else "")
                )
            if key not in known:
                keys = [name for name in known if "/" not in name]
                raise UserError(f"DATASET.TASK_NAMES: this suite has no task {key!r}{hint_of(str(key), keys)}")
            found[known[key]] = text.strip()
    return found


def register(name: str, tasks: tuple[str, ...], doc: str) -> type[Suite]:
    """Register the dataset class `name`, which loads `tasks`."""
    cls = type(name, (Suite,), {"TASKS": tasks, "__doc__": doc, "__module__": "datasets"})
    DATASET_REGISTRY.register()(cls)
    return cls


def register_all() -> dict[str, type[Suite]]:
    """Register every dataset and suite under its published name. Called once, when the package is imported."""
    classes = {name: register(name, (name,), f"{name} by itself.") for name in SOURCES}
    for name, tasks in SUITES.items():
        classes[name] = register(name, tasks, f"{name}: {', '.join(tasks)}.")
    DATASET_REGISTRY.register()(Suite)
    return {**classes, "Suite": Suite}
