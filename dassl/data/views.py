"""Augmented views that are a function of (seed, epoch, image key), and of nothing else.

A view does not depend on the number of worker processes, on how they are started, on the order of the images, on the
batch size or on whether the run was resumed. While an item is made, the random number generators of torch, numpy and
Python are seeded from its key; afterwards they are put back, so that the main process keeps its own sequence.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from torch.utils.data import Dataset, get_worker_info

from dassl.data.datasets.base_dataset import relative_path
from dassl.data.images import BrokenImageError, MissingImageError, decoded_once


def image_key(datum, image_root: str | Sequence[str] = "") -> str:
    """What identifies an image in caches and random numbers: its path below `image_root`, with forward slashes.

    Moving a data root therefore changes no result. An image elsewhere is known by its whole path. Of several roots the
    first that the image lies below counts.
    """
    if not isinstance(image_root, str):
        image_root = next((root for root in image_root if datum.impath.startswith(f"{root}/")), "")
    return relative_path(datum.impath, image_root)


def replace_prefix(path: str, old: str = "", new: str = "") -> str:
    """`path` with `new` in place of a leading `old`; unchanged where it does not begin with it."""
    if not old:
        return path
    old, new = old.rstrip("/\\"), new.rstrip("/\\")
    rest = path[len(old) :]
    return new + rest if path.startswith(old) and (not rest or rest[0] in "/\\") else path


def relocate(items: Sequence, old: str = "", new: str = "") -> Sequence:
    """The items with `new` in place of a leading `old` in their paths (DATALOADER.OLD_DATA_PATH, NEW_DATA_PATH)."""
    return [replace(item, impath=replace_prefix(item.impath, old, new)) for item in items] if old else items


def view_seed(seed: int, epoch: int, key: str) -> int:
    """64 well-mixed bits from (seed, epoch, key), equal on every machine."""
    text = f"{seed}\0{epoch}\0{key}".encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def seed_generators(seed: int):
    """Start the CPU generators of torch, numpy and Python from `seed` (64 bits); about 10 microseconds."""
    # torch.manual_seed would also visit every GPU; images are made on the CPU.
    torch.default_generator.manual_seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)
    random.seed(seed)


@contextmanager
def kept_generators():
    """Run a block that may seed or draw; then put the CPU generators of torch, numpy and Python back as they were.

    Costs 0.1 ms, nearly all of it numpy's, so it is done once a batch. Nothing is done in a loader's worker: it makes
    nothing but items, each of them seeded, so there is no sequence to keep.
    """
    if get_worker_info() is not None:
        yield
        return
    saved = torch.get_rng_state(), np.random.get_state(), random.getstate()
    try:
        yield
    finally:
        torch.set_rng_state(saved[0])
        np.random.set_state(saved[1])
        random.setstate(saved[2])


class Epoch:
    """The number of the current epoch, seen by every worker through shared memory.

    `set` is what the engine calls. Where nobody does, each pass over the loader counts as an epoch of its own.
    """

    def __init__(self, value: int = 0):
        self._shared = torch.tensor([value], dtype=torch.int64).share_memory_()
        self._automatic = True
        self._passes = 0

    @property
    def value(self) -> int:
        return int(self._shared[0])

    def set(self, value: int):
        self._automatic = False
        self._shared[0] = value

    def begin_pass(self) -> int:
        """Called at the start of each pass, in the main process; returns the epoch it belongs to."""
        if self._automatic:
            self._shared[0] = self._passes
            self._passes += 1
        return self.value


class KeyedViews(Dataset):
    """A dataset whose items are made under random numbers seeded from (seed, epoch, image key).

    Attributes of the dataset inside are reachable from here.

    Args:
        dataset: makes the items (a DatasetWrapper, or anything with `__getitem__` and `__len__`).
        data_source: M items (Datum, DatumMT), in the order of `dataset`.
        seed: of the run.
        epoch: the current epoch; None keeps the views of epoch 0 for ever (evaluation).
        image_root: folder, or folders, the image keys are relative to.
        name: of the dataset, for messages.
        tasks: T texts, what the tasks are called in messages.
        places: M texts, where the items stand in their splits, for messages; () where nothing is known.
        advice: a command that lists all images that cannot be read, for messages.

    Raises (from `__getitem__`):
        BrokenImageError, MissingImageError: with dataset, task and class added.
    """

    def __init__(
        self,
        dataset,
        data_source: Sequence,
        seed: int,
        epoch: Epoch | None = None,
        image_root: str | Sequence[str] = "",
        name: str = "",
        tasks: Sequence[str] = (),
        places: Sequence[str] = (),
        advice: str = "",
    ):
        self.dataset = dataset
        self.data_source = data_source
        self.seed, self.epoch, self.image_root = seed, epoch, image_root
        self.name, self.tasks, self.places, self.advice = name, tuple(tasks), places, advice

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index: int):
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list:
        epoch = self.epoch.value if self.epoch is not None else 0
        with kept_generators():
            return [self._make(index, epoch) for index in indices]

    def views(self, pairs: Sequence[tuple[int, int]]) -> list:
        """Items of (epoch, index) pairs, whatever the current epoch is."""
        with kept_generators(), decoded_once():
            return [self._make(index, epoch) for epoch, index in pairs]

    def _make(self, index: int, epoch: int):
        item = self.data_source[index]
        seed_generators(view_seed(self.seed, epoch, image_key(item, self.image_root)))
        try:
            return self.dataset[index]
        except (BrokenImageError, MissingImageError) as e:
            raise type(e)(f"{e}; {self._where(item, index)}") from e

    def _where(self, item, index: int) -> str:
        task = getattr(item, "task", 0)
        parts = [f"dataset {self.name}"] if self.name else []
        if self.tasks:
            parts.append(f"task {self.tasks[task]}")
        parts.append(f"class {item.label}" + (f" ({item.classname})" if item.classname else ""))
        if len(self.places) == len(self.data_source):
            parts.append(self.places[index])
        return ", ".join(parts) + (f". What else cannot be read: {self.advice}" if self.advice else "")

    def __getattr__(self, name: str):
        # Nothing special, which would lead the loader past the seeding; nothing before __init__ (pickle).
        if name.startswith("__") or "dataset" not in self.__dict__:
            raise AttributeError(name)
        return getattr(self.dataset, name)
