"""Suites: lists of tasks, and the one dataset class that every registered name is made from.

A task is written as the name of a dataset ("OxfordPets", or "Fashion20" for all of its tasks), as dataset/task
("Icon13/faces"), or as a mapping that describes somebody's own images (`datasets.own`). `DATASET.TASKS` replaces the
list of any suite; the name `Suite` has no list of its own.
"""

from __future__ import annotations

import hashlib
import os
from array import array
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches

from dassl.data.datasets import DATASET_REGISTRY, DatasetBaseMT, DatumMT
from dassl.data.tasks import Task, TaskSpace
from dassl.data.views import replace_prefix
from dassl.utils import UserError
from datasets.doctor.oddities import untested
from datasets.doctor.report import absent, refusal, require_usable
from datasets.fewshot import base_new, few_shot, task_subset, val_shots
from datasets.folders import q
from datasets.icon13.source import ICON13
from datasets.icon13.styles import STYLED
from datasets.own import own_tasks
from datasets.rows import RowSource
from datasets.source import SPLITS, Places, Source
from datasets.table import GENERAL10, PLANT6, ROWS, RS8

# Everything that can be read: name -> an object with `task_keys`, `missing(root)` and `load(root)`.
SOURCES = {"Icon13": ICON13, **STYLED, **{name: RowSource(row) for name, row in ROWS.items()}}

# The five tasks whose class names align least with the drawings, hence where there is most to learn.
ICON5 = ("faces", "hands", "produce", "mammals", "dishes")

# CoOp's eleven datasets, which are General-10 and ImageNet, in the order of most papers' tables.
GENERAL11 = (
    "ImageNet",
    "Caltech101",
    "OxfordPets",
    "StanfordCars",
    "OxfordFlowers",
    "Food101",
    "FGVCAircraft",
    "SUN397",
    "DescribableTextures",
    "EuroSAT",
    "UCF101",
)

SUITES: dict[str, tuple[str, ...]] = {
    "General10": tuple(row.name for row in GENERAL10),
    "General11": GENERAL11,
    "Plant6": tuple(row.name for row in PLANT6),
    "RS8": RS8,
    **{name.replace("13", "5"): tuple(f"{name}/{key}" for key in ICON5) for name in ("Icon13", *STYLED)},
}


def known_sources(tasks: Sequence[str | Mapping], moved: Callable[[str], str] = str) -> dict:
    """Everything that can be read, with the own data that a list of tasks describes.

    Args:
        tasks: as users write it.
        moved: what becomes of a folder of own data that is not there.

    Raises:
        ValueError: what is wrong with an entry; two tasks of one name; the name of a registered dataset.
    """
    own = own_tasks(tasks, moved)[1]
    if taken := [name for name in own if name in SOURCES]:
        raise ValueError(f"DATASET.TASKS: {taken[0]} is a registered dataset; give your own data another NAME")
    return {**SOURCES, **own}


def expand(tasks: Sequence[str | Mapping]) -> list[tuple[str, int, str]]:
    """[(dataset, index of the task within it, task key)] of a list of tasks as users write it.

    Raises:
        ValueError: an unknown dataset or task, a task named twice, or no task at all.
    """
    known = known_sources(tasks)
    found: list[tuple[str, int, str]] = []
    for entry in own_tasks(tasks)[0]:
        name, _, key = entry.partition("/")
        if name not in known:
            hint = f"; own data are listed as {{ROOT: {entry}}}" if os.path.exists(entry) else _nearest(name, known)
            raise ValueError(f"DATASET.TASKS: there is no dataset {name!r}{hint}")
        keys = known[name].task_keys
        if key and key not in keys:
            raise ValueError(f"DATASET.TASKS: {name} has no task {key!r}{_nearest(key, keys)}")
        found += [(name, keys.index(k), k) for k in ([key] if key else keys)]
    twice = sorted({f"{name}/{key}" for name, i, key in found if found.count((name, i, key)) > 1})
    if twice:
        raise ValueError(f"DATASET.TASKS names a task more than once: {', '.join(twice)}")
    owners = {key: name for name, _, key in found}
    if clash := next(((name, key) for name, _, key in found if owners[key] != name), None):
        raise ValueError(
            f"DATASET.TASKS: {clash[0]} and {owners[clash[1]]} have both a task {clash[1]!r}; give yours another NAME"
        )
    if not found:
        raise ValueError(
            "DATASET.TASKS is empty; list datasets, tasks of them, or your own data, such as "
            "[OxfordPets, Icon13/faces, {ROOT: photos}]"
        )
    return found


def _nearest(name: str, known) -> str:
    lower = {k.lower(): k for k in known}
    near = get_close_matches(name.lower(), lower, n=1, cutoff=0.5)
    return f"; did you mean {lower[near[0]]!r}?" if near else f"; known: {', '.join(sorted(known))}"


def read_sources(suite: str, names: Sequence[str], root: str, known: Mapping | None = None) -> dict[str, Source]:
    """Read the named datasets below `root`, of those in `known` (`known_sources`; by default the registered ones).

    Raises:
        FileNotFoundError: naming all that are missing at once: where each was looked for, and what belongs there.
        ValueError: a dataset that is there but contradicts itself or its declaration.
    """
    known = SOURCES if known is None else known
    return require_usable(suite, {name: known[name] for name in names}, root)


class Suite(DatasetBaseMT):
    """Tasks of one or several datasets, after task subset, base/new classes and few-shot sampling.

    Only the datasets of the chosen tasks are read. `split_hash` is that of their full splits, before sampling.
    `places` says of each list of images where they stand in the splits, `advice` what lists all bad ones: for messages.

    Args:
        cfg: reads DATASET.{ROOT, NAME, TASKS, TASK_NAMES, NUM_SHOTS, NESTED_SHOTS, SUBSAMPLE_CLASSES, SUBSAMPLE_TASKS},
            SEED, TEST.NO_TEST, OUTPUT_DIR, and DATALOADER.{OLD_DATA_PATH, NEW_DATA_PATH} where ROOT does not exist.

    Raises:
        FileNotFoundError: datasets that are missing, all at once.
        ValueError: data or settings that contradict themselves.
    """

    TASKS: tuple[str, ...] = ()

    @classmethod
    def task_keys(cls, cfg) -> list[str]:
        """Keys of all tasks, before DATASET.SUBSAMPLE_TASKS takes some of them; position = number. Reads no data."""
        return [key for _, _, key in expand(list(cfg.DATASET.TASKS) or cls.TASKS)]

    def __init__(self, cfg):
        wanted = cfg.DATASET
        root = _root(cfg)
        entries = list(wanted.TASKS) or self.TASKS
        tasks = expand(entries)
        known = known_sources(entries, lambda path: replace_prefix(path, *_moves(cfg)))
        self.suite_tasks = self.task_keys(cfg)
        chosen = [(i, *tasks[i]) for i in task_subset(wanted.SUBSAMPLE_TASKS, [key for _, _, key in tasks])]
        sources = read_sources(wanted.NAME, list(dict.fromkeys(name for _, name, _, _ in chosen)), root, known)

        self.sources = sources
        space, digest = [], hashlib.sha256()
        splits: dict[str, list[DatumMT]] = {split: [] for split in SPLITS}
        places = {split: Places(split) for split in SPLITS}
        renamed = new_names(wanted.TASK_NAMES, tasks)
        by_task = {name: _by_task(source) for name, source in sources.items()}
        self.more_images = False  # whether there are training images that have not been drawn
        for number, name, index, key in chosen:
            source = sources[name]
            digest.update(source.split_digest(index).encode())
            declared = source.tasks[index]
            labels = base_new(len(declared.classnames), wanted.SUBSAMPLE_CLASSES)
            if not labels:
                print(f"{declared.name}: its only class is a base class, so the task is left out of the new classes")
                continue
            task = Task(
                declared.key,
                renamed.get((name, key), declared.name),
                tuple(declared.classnames[label] for label in labels),
                declared.metric,
                declared.templates,
                declared.description,
                id=number,
                task_of=declared.task_of,
            )
            new_label = {label: position for position, label in enumerate(labels)}
            for split, numbers in by_task[name][index].items():
                items = getattr(source, split)
                kept = [place for place in numbers if items[place].label in new_label]
                if split != "test":
                    shots = val_shots(wanted.NUM_SHOTS) if split == "val" else wanted.NUM_SHOTS
                    there, kept = len(kept), _drawn(items, kept, shots, cfg)
                    self.more_images |= split == "train" and len(kept) < there
                for item in map(items.__getitem__, kept):
                    label = new_label[item.label]
                    path = f"{source.root}/{item.path}"
                    splits[split].append(DatumMT(path, label, len(space), item.domain, task.classnames[label]))
                places[split].add(source, kept)
            space.append(task)
        if not space:
            raise ValueError(f"{wanted.NAME}: DATASET.SUBSAMPLE_CLASSES {wanted.SUBSAMPLE_CLASSES!r} leaves no class")
        tested = {item.task for item in splits["test"]}
        if (bare := [task.key for i, task in enumerate(space) if i not in tested]) and not cfg.TEST.NO_TEST:
            half = "" if wanted.SUBSAMPLE_CLASSES == "all" else f"in the {wanted.SUBSAMPLE_CLASSES} classes there is "
            raise UserError(f"{wanted.NAME}: {half}{untested(bare)}")
        roots = {source.root for source in sources.values()}
        self.image_root = roots.pop() if len(roots) == 1 else sorted(roots, key=lambda path: (-len(path), path))
        self.domains = next(iter(sources.values())).domains if len(sources) == 1 else ()
        self.split_hash = digest.hexdigest()
        self.advice = f"python -m datasets.check {q(os.path.join(cfg.OUTPUT_DIR, 'config.yaml'))} --deep"
        self.places = {"train_x": places["train"], "val": places["val"], "test": places["test"]}
        super().__init__(TaskSpace(tuple(space)), splits["train"], splits["val"] or None, splits["test"])


def _root(cfg) -> str:
    """Absolute DATASET.ROOT; one that is gone moves with DATALOADER.OLD_DATA_PATH and NEW_DATA_PATH."""
    if not cfg.DATASET.ROOT:
        return ""
    root = os.path.abspath(os.path.expanduser(cfg.DATASET.ROOT))
    if os.path.isdir(root):
        return root
    return replace_prefix(root, *_moves(cfg))


def _moves(cfg) -> tuple[str, str]:
    return cfg.DATALOADER.OLD_DATA_PATH, cfg.DATALOADER.NEW_DATA_PATH


def _by_task(source: Source) -> list[dict[str, array]]:
    """Places, in the lists of the source, of the images of each task and split.

    They are sorted by path, so that the order of a listing is forgotten.
    """
    parts = [{split: array("I") for split in SPLITS} for _ in source.tasks]
    for split in SPLITS:
        items = getattr(source, split)
        for place in sorted(range(len(items)), key=items.__getitem__):
            parts[items[place].task][split].append(place)
    return parts


def _drawn(items: Sequence, places: Sequence[int], shots: int, cfg) -> list[int]:
    """The few-shot sample of the images at `places`, as places."""
    nested = cfg.DATASET.NESTED_SHOTS
    return few_shot(
        places, shots, cfg.SEED, nested, key=lambda place: items[place].path, group=lambda place: items[place].label
    )


def new_names(given: Sequence[Mapping], tasks: Sequence[tuple[str, int, str]]) -> dict[tuple[str, str], str]:
    """{(dataset, task key): task name} of DATASET.TASK_NAMES, whose keys are those of tasks, or dataset/key.

    Args:
        given: [{key: name}, …].
        tasks: what `expand` gives.

    Raises:
        ValueError: a task that the suite does not have, or no text for a name.
    """
    known = {key: (name, key) for name, _, key in tasks} | {f"{name}/{key}": (name, key) for name, _, key in tasks}
    found = {}
    for entry in given:
        for key, text in entry.items() if isinstance(entry, Mapping) else [(entry, None)]:
            if not isinstance(text, str) or not text.strip():
                raise ValueError(
                    f"DATASET.TASK_NAMES: expected KEY: name of the task, found {key!r}"
                    + (f": {text!r}" if isinstance(entry, Mapping) else "")
                )
            if key not in known:
                keys = [name for name in known if "/" not in name]
                raise ValueError(f"DATASET.TASK_NAMES: this suite has no task {key!r}{_nearest(str(key), keys)}")
            found[known[key]] = text.strip()
    return found


def refuse_training(cfg) -> None:
    """To be called before anything slow begins.

    Raises:
        UserError: a dataset of cfg.DATASET has nothing but test images.
        FileNotFoundError: the images to train on are not there, though the others are.
    """
    cls = DATASET_REGISTRY.get(cfg.DATASET.NAME) if cfg.DATASET.NAME in {*SOURCES, *SUITES, "Suite"} else None
    if cls is None:
        return  # somebody's own class, of which nothing is known before it is built
    tasks = expand(list(cfg.DATASET.TASKS) or cls.TASKS)
    chosen = task_subset(cfg.DATASET.SUBSAMPLE_TASKS, [key for _, _, key in tasks])
    names = dict.fromkeys(tasks[i][0] for i in chosen)
    test_only = [name for name in names if getattr(SOURCES.get(name), "test_only", False)]
    if test_only:
        raise UserError(
            f"{', '.join(test_only)}: for testing only, there are no training images. Train on another dataset, such "
            "as ImageNet, and test that model here: --eval-only --model-dir FOLDER_OF_THE_RUN"
        )
    rows = {
        name: SOURCES[name] for name in names if getattr(getattr(SOURCES.get(name), "row", None), "train_folders", ())
    }
    root = _root(cfg)
    found = [report for name, source in rows.items() if (report := absent(name, source, root))]
    if found and not any(source.missing(root, train=False) for source in rows.values()):  # else all is said at once
        raise FileNotFoundError("\n".join(refusal(cfg.DATASET.NAME, found, rows, root, brief=True)))


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
