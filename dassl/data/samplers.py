"""Samplers: the order in which a loader visits the images, a function of (seed, epoch)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Sampler

from dassl.data.datasets.base_dataset import labels_of
from dassl.data.views import Drawn, Epoch, view_seed
from dassl.utils import check_availability


class KeyedSampler(Sampler):
    """Base class. `order(generator)` is called with a generator seeded from (seed, epoch).

    Args:
        data_source: M items.
        seed: seed of the run.
        epoch: current epoch, shared with the views of the same loader.
    """

    def __init__(self, data_source: Sequence, seed: int = 0, epoch: Epoch | None = None):
        self.data_source = data_source
        self.seed = seed
        self.epoch = epoch or Epoch()

    def set_epoch(self, epoch: int):
        self.epoch.set(epoch)

    def __iter__(self) -> Iterator[int]:
        views = self.epoch.begin_pass()
        indices = self._indices(self.epoch.value)
        return (Drawn.at(index, views) for index in indices)

    def _indices(self, epoch: int) -> list[int]:
        return self.order(torch.Generator().manual_seed(view_seed(self.seed, epoch, type(self).__name__)))

    def __len__(self):
        return len(self.data_source)

    def order(self, generator: torch.Generator) -> list[int]:
        """Indices into `data_source` in the order of the epoch."""
        raise NotImplementedError


class RandomSampler(KeyedSampler):
    """Every item once, shuffled."""

    def order(self, generator):
        return torch.randperm(len(self.data_source), generator=generator).tolist()


class SequentialSampler(KeyedSampler):
    """Every item once, in the order of the dataset."""

    def _indices(self, epoch):
        return range(len(self.data_source))


class TaskBalancedSampler(KeyedSampler):
    """As many draws as there are items, of the tasks in turn: each round takes one image of every task, shuffled.

    The images of a task are used up before one is drawn again, so images of small tasks recur within an epoch. An image
    with labels of several tasks is drawn for one of them and brings its other labels along.
    """

    def order(self, generator):
        of_task = defaultdict(list)
        for index, item in enumerate(self.data_source):
            for task in dict.fromkeys(task for task, _ in labels_of(item)):
                of_task[task].append(index)
        left = {task: [] for task in sorted(of_task)}
        output = []
        while len(output) < len(self.data_source):
            for task in _shuffled(list(left), generator):
                left[task] = left[task] or _shuffled(of_task[task], generator)
                output.append(left[task].pop())
        return output[: len(self.data_source)]


# ---- compatibility: Dassl's samplers by domain and by class; no method here uses them ----


class GroupSampler(KeyedSampler):
    """Base class of samplers whose epoch leaves out images if the groups differ in size."""

    def __len__(self):
        return len(self._indices(self.epoch.value))

    def grouped(self, key) -> dict:
        """{key(item): indices into `data_source`}."""
        groups = defaultdict(list)
        for index, item in enumerate(self.data_source):
            groups[key(item)].append(index)
        return dict(groups)


def _shuffled(items: Sequence, generator: torch.Generator) -> list:
    return [items[i] for i in torch.randperm(len(items), generator=generator).tolist()]


class RandomDomainSampler(GroupSampler):
    """Batches of `n_domain` random domains (0: all) with equally many images each, no image twice in an epoch.

    The epoch ends when fewer than `n_domain` domains have enough images left.
    """

    def __init__(self, data_source, batch_size: int, n_domain: int = 0, seed: int = 0, epoch: Epoch | None = None):
        super().__init__(data_source, seed, epoch)
        self.groups = self.grouped(lambda item: item.domain)
        self.n_domain = n_domain if n_domain > 0 else len(self.groups)
        if self.n_domain > len(self.groups):
            raise ValueError(f"N_DOMAIN is {n_domain}, but the training images have {len(self.groups)} domains")
        if batch_size % self.n_domain:
            raise ValueError(f"BATCH_SIZE {batch_size} cannot be shared equally by N_DOMAIN {self.n_domain} domains")
        self.per_domain = batch_size // self.n_domain

    def order(self, generator):
        left = {domain: _shuffled(indices, generator) for domain, indices in self.groups.items()}
        output = []
        while True:
            able = [domain for domain, indices in left.items() if len(indices) >= self.per_domain]
            if len(able) < self.n_domain:
                return output
            for domain in _shuffled(able, generator)[: self.n_domain]:
                output += left[domain][: self.per_domain]
                left[domain] = left[domain][self.per_domain :]


class SeqDomainSampler(GroupSampler):
    """Batches of one domain each, one domain after the other, repeated until a domain has no full batch left."""

    def __init__(self, data_source, batch_size: int, seed: int = 0, epoch: Epoch | None = None):
        super().__init__(data_source, seed, epoch)
        self.groups = self.grouped(lambda item: item.domain)
        self.batch_size = batch_size

    def order(self, generator):
        domains = [_shuffled(self.groups[domain], generator) for domain in sorted(self.groups)]
        rounds = min(map(len, domains)) // self.batch_size
        size = self.batch_size
        return [i for r in range(rounds) for indices in domains for i in indices[r * size : (r + 1) * size]]


class RandomClassSampler(GroupSampler):
    """Batches of `batch_size // n_ins` random classes with `n_ins` images each.

    Images of a class with fewer than `n_ins` images are drawn with replacement. Classes of different tasks are
    different classes. The epoch ends when too few classes have images left.
    """

    def __init__(self, data_source, batch_size: int, n_ins: int, seed: int = 0, epoch: Epoch | None = None):
        super().__init__(data_source, seed, epoch)
        if n_ins < 1 or batch_size % n_ins:
            raise ValueError(f"N_INS is {n_ins}, expected a divisor of BATCH_SIZE ({batch_size})")
        self.groups = self.grouped(lambda item: tuple(labels_of(item)))
        self.n_ins = n_ins
        self.n_classes = batch_size // n_ins
        if self.n_classes > len(self.groups):
            raise ValueError(
                f"a batch needs {self.n_classes} classes (BATCH_SIZE {batch_size} / N_INS {n_ins}), but the training "
                f"images have {len(self.groups)}; use a smaller BATCH_SIZE or a larger N_INS"
            )

    def order(self, generator):
        left = {}
        for name, indices in self.groups.items():
            chosen = _shuffled(indices, generator)
            short = self.n_ins - len(chosen)
            if short > 0:
                chosen += [indices[i] for i in torch.randint(len(indices), (short,), generator=generator).tolist()]
            left[name] = [chosen[i : i + self.n_ins] for i in range(0, len(chosen) - self.n_ins + 1, self.n_ins)]
        output = []
        while True:
            able = [name for name, parts in left.items() if parts]
            if len(able) < self.n_classes:
                return output
            for name in _shuffled(able, generator)[: self.n_classes]:
                output += left[name].pop(0)


SAMPLERS = {  # name -> class, and the arguments of `build_sampler` that the class takes
    "RandomSampler": (RandomSampler, ()),
    "SequentialSampler": (SequentialSampler, ()),
    "TaskBalancedSampler": (TaskBalancedSampler, ()),
    "RandomDomainSampler": (RandomDomainSampler, ("batch_size", "n_domain")),
    "SeqDomainSampler": (SeqDomainSampler, ("batch_size",)),
    "RandomClassSampler": (RandomClassSampler, ("batch_size", "n_ins")),
}


def build_sampler(
    sampler_type: str,
    cfg=None,
    data_source: Sequence | None = None,
    batch_size: int = 32,
    n_domain: int = 0,
    n_ins: int = 16,
    seed: int = 0,
    epoch: Epoch | None = None,
) -> Sampler:
    """Build the sampler with this name. It yields indices into `data_source` (M items).

    Args:
        sampler_type: one of `SAMPLERS`.
        cfg: if given, its SEED replaces `seed` unless it is negative.
        n_domain: domains per batch (RandomDomainSampler; 0: all).
        n_ins: images per class in a batch (RandomClassSampler).
        epoch: current epoch, shared with the views of the same loader.

    Raises:
        ValueError: an unknown name, or groups that do not fit the batch size.
    """
    check_availability(sampler_type, SAMPLERS, "sampler")
    if cfg is not None and cfg.SEED >= 0:
        seed = cfg.SEED
    kind, wanted = SAMPLERS[sampler_type]
    sizes = {"batch_size": batch_size, "n_domain": n_domain, "n_ins": n_ins}
    return kind(data_source, **{name: sizes[name] for name in wanted}, seed=seed, epoch=epoch)
