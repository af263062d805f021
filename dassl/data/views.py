"""Augmented views that depend on (seed, epoch, image key) and on nothing else.

A view does not depend on the number of worker processes, their start method, the order of the images, the batch size
or on whether the run was resumed. The random number generators of torch, numpy and Python are seeded from the key of
the item before it is made. Afterwards they are restored, so that the main process keeps its own random sequence.
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
    """The key of an image in caches and random numbers: its path relative to `image_root`, with forward slashes.

    Moving a data root therefore does not change results. The key of an image outside `image_root` is its whole path.
    With several roots, the first one that contains the image counts.
    """
    if not isinstance(image_root, str):
        image_root = next((root for root in image_root if datum.impath.startswith(f"{root}/")), "")
    return relative_path(datum.impath, image_root)


def replace_prefix(path: str, old: str = "", new: str = "") -> str:
    """Replace `old` by `new` at the beginning of `path`; a path that does not begin with `old` is unchanged."""
    if not old:
        return path
    old, new = old.rstrip("/\\"), new.rstrip("/\\")
    rest = path[len(old) :]
    return new + rest if path.startswith(old) and (not rest or rest[0] in "/\\") else path


def relocate(items: Sequence, old: str = "", new: str = "") -> Sequence:
    """Apply `replace_prefix` to the paths of all items (DATALOADER.OLD_DATA_PATH, NEW_DATA_PATH)."""
    return [replace(item, impath=replace_prefix(item.impath, old, new)) for item in items] if old else items


def view_seed(seed: int, epoch: int, key: str) -> int:
    """A hash of (seed, epoch, key) with 64 bits, the same on every machine."""
    text = f"{seed}\0{epoch}\0{key}".encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def seed_generators(seed: int):
    """Seed the CPU generators of torch, numpy and Python with `seed` (64 bits). Takes about 10 microseconds."""
    # torch.manual_seed would also seed every GPU, but images are made on the CPU
    torch.default_generator.manual_seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)
    random.seed(seed)


@contextmanager
def kept_generators():
    """Restore the CPU generators of torch, numpy and Python after the block.

    Takes 0.1 ms, mostly for numpy's generator, so it is used once per batch. It does nothing in a worker of a loader:
    workers only make items, each with its own seed, so they have no random sequence to keep.
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
    """The number of the current epoch, in memory shared with all workers.

    The engine calls `set`. If nobody does, each pass over the loader counts as one epoch.
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
        """Begin a pass over the loader, in the main process. Returns the epoch of the pass."""
        if self._automatic:
            self._shared[0] = self._passes
            self._passes += 1
        return self.value


class KeyedViews(Dataset):
    """A dataset that seeds the random generators from (seed, epoch, image key) before it makes an item.

    Attributes of the inner dataset are available as attributes of this one.

    Args:
        dataset: inner dataset, which makes the items (a DatasetWrapper, or anything with `__getitem__` and `__len__`).
        data_source: M items (Datum, DatumMT), in the order of `dataset`.
        seed: seed of the run.
        epoch: current epoch; None: always epoch 0 (evaluation).
        image_root: folder or folders to which image keys are relative.
        name: name of the dataset, for messages.
        tasks: T names of the tasks, for messages.
        places: M texts with the position of each item in its split, for messages; () if unknown.
        advice: command that lists all unreadable images, for messages.

    Raises (from `__getitem__`):
        BrokenImageError, MissingImageError: the text adds dataset, task and class.
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
        """Items of the given (epoch, index) pairs, regardless of the current epoch."""
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
        return ", ".join(parts) + (f". To list all unreadable images: {self.advice}" if self.advice else "")

    def __getattr__(self, name: str):
        # Special methods are not forwarded: the loader would bypass the seeding. While unpickling, before __init__, the
        # inner dataset does not exist yet.
        if name.startswith("__") or "dataset" not in self.__dict__:
            raise AttributeError(name)
        return getattr(self.dataset, name)
