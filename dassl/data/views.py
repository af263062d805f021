"""Augmented views that depend on (seed, epoch, image key) and on nothing else.

A view does not depend on the number of worker processes, their start method, the order of the images, the batch size
or on whether the run was resumed. The random number generators of torch, numpy and Python are seeded from the key of
the item before it is made. Afterwards they are restored, so that the main process keeps its own random sequence.

The epoch travels with the index: the samplers of this project yield indices of the class `Drawn`. Any other index, such
as one of `DataLoader(loader.dataset, shuffle=True)` in code written for Dassl, gives a new random view each time.
"""

from __future__ import annotations

import copy
import hashlib
import random
from collections.abc import Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch.utils.data import Dataset, get_worker_info

from dassl.data.datasets.base_dataset import labels_of, relative_path
from dassl.data.images import BrokenImageError, MissingImageError, decoded_once


def image_key(datum, image_root: str | Sequence[str] = "") -> str:
    """The key of an image in caches and random numbers: its path relative to `image_root`, with forward slashes.

    Moving a data root therefore does not change results. The key of an image outside `image_root` is its whole path.
    With several roots, the first one that contains the image counts.
    """
    return path_key(datum.impath, image_root)


def path_key(impath: str, image_root: str | Sequence[str] = "") -> str:
    """`image_key` of the image with the path `impath`."""
    if not isinstance(image_root, str):
        image_root = next((root for root in image_root if impath.startswith(f"{root}/")), "")
    return relative_path(impath, image_root)


def replace_prefix(path: str, old: str = "", new: str = "") -> str:
    """Replace `old` by `new` at the beginning of `path`; a path that does not begin with `old` is unchanged."""
    if not old:
        return path
    old, new = old.rstrip("/\\"), new.rstrip("/\\")
    rest = path[len(old) :]
    return new + rest if path.startswith(old) and (not rest or rest[0] in "/\\") else path


def relocate(items: Sequence, old: str = "", new: str = "") -> Sequence:
    """Apply `replace_prefix` to the paths of all items (DATALOADER.OLD_DATA_PATH, NEW_DATA_PATH), in copies."""
    if not old:
        return items
    copies = [copy.copy(item) for item in items]
    for item in copies:
        item._impath = replace_prefix(item.impath, old, new)
    return copies


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


class Drawn(int):
    """An index with the epoch whose view is wanted. Elsewhere it is an ordinary integer."""

    epoch: int | str

    @classmethod
    def at(cls, index: int, epoch: int | str) -> Drawn:
        drawn = cls(index)
        drawn.epoch = epoch
        return drawn


class Epoch:
    """The number of the current epoch, for the sampler of a loader.

    The engine calls `set`. If nobody does, each pass over the loader counts as one epoch.
    """

    def __init__(self, value: int = 0):
        self.value = value
        self._automatic = True
        self._passes = 0

    def set(self, value: int):
        self._automatic = False
        self.value, self._passes = value, 0

    def begin_pass(self) -> int | str:
        """Begin a pass over the loader. Returns what decides the views of the pass: the epoch, a number.

        A further pass within an epoch of the engine has views of its own; for it, the result is a text.
        """
        done, self._passes = self._passes, self._passes + 1
        if self._automatic:
            self.value = done
            return done
        return f"{self.value} pass {done}" if done else self.value


class KeyedViews(Dataset):
    """A dataset that seeds the random generators from (seed, epoch, image key) before it makes an item.

    The epoch is that of the index (`Drawn`). For an ordinary index nothing is seeded: the view is a new one each time.
    Attributes of the inner dataset can be read and set as attributes of this one, e.g. `transform`.

    Attributes:
        changes: how often an attribute of the inner dataset was set.

    Args:
        dataset: inner dataset, which makes the items (a DatasetWrapper, or anything with `__getitem__` and `__len__`).
        data_source: M items (Datum, DatumMT), in the order of `dataset`.
        seed: seed of the run.
        epoch: current epoch of the loader; None: always epoch 0 (evaluation), until an attribute is set.
        image_root: folder or folders to which image keys are relative.
        name: name of the dataset, for messages.
        tasks: T names of the tasks, for messages.
        places: M texts with the position of each item in its split, for messages; () if unknown.
        advice: command that lists all unreadable images, for messages.
        cycle: number of different views of an image, which recur in this order; 0: a new view in every epoch.

    Raises (from `__getitem__`):
        BrokenImageError, MissingImageError: the text adds dataset, task and class.
    """

    _own = ("dataset", "seed", "epoch", "image_root", "name", "tasks", "places", "advice", "cycle", "changes")

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
        cycle: int = 0,
    ):
        self.dataset = dataset
        self.__dict__["data_source"] = data_source
        self.seed, self.epoch, self.image_root = seed, epoch, image_root
        self.name, self.tasks, self.places, self.advice = name, tuple(tasks), places, advice
        self.cycle = cycle
        self.changes = 0

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index: int):
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list:
        if not any(isinstance(index, Drawn) for index in indices):
            return [self._item(index) for index in indices]
        with kept_generators():
            return [self._make(index, index.epoch) for index in indices]

    def view(self, epoch: int | str) -> int | str:
        """The view of all images in `epoch`: the epoch itself, or with `cycle` its remainder."""
        return epoch % self.cycle if self.cycle and isinstance(epoch, int) else epoch

    def views(self, pairs: Sequence[tuple[int, int]]) -> list:
        """Items of the given (epoch, index) pairs, regardless of the current epoch."""
        with kept_generators(), decoded_once():
            return [self._make(index, epoch) for epoch, index in pairs]

    def _make(self, index: int, epoch: int | str):
        if self.epoch is None and not self.changes:
            epoch = 0
        seed_generators(view_seed(self.seed, self.view(epoch), image_key(self.data_source[index], self.image_root)))
        return self._item(index)

    def _item(self, index: int):
        try:
            return self.dataset[int(index)]
        except (BrokenImageError, MissingImageError) as e:
            raise type(e)(f"{e}; {self._where(self.data_source[index], int(index))}") from e

    def _where(self, item, index: int) -> str:
        task, label = labels_of(item)[0]
        parts = [f"dataset {self.name}"] if self.name else []
        if self.tasks:
            parts.append(f"task {self.tasks[task]}")
        parts.append(f"class {label}" + (f" ({item.classname})" if item.classname else ""))
        if len(self.places) == len(self.data_source):
            parts.append(self.places[index])
        return ", ".join(parts) + (f". To list all unreadable images: {self.advice}" if self.advice else "")

    def __getattr__(self, name: str):
        # Special methods are not forwarded: the loader would bypass the seeding. While unpickling, before __init__, the
        # inner dataset does not exist yet.
        if name.startswith("__") or "dataset" not in self.__dict__:
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __setattr__(self, name: str, value):
        if name in self._own:
            super().__setattr__(name, value)
            return
        if name == "data_source":
            self.__dict__[name] = value
        setattr(self.dataset, name, value)
        self.changes += 1
