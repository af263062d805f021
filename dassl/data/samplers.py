"""The order in which a loader visits the images: a function of (seed, epoch)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from difflib import get_close_matches

import torch
from torch.utils.data import Sampler

from dassl.data.views import Epoch, view_seed


class KeyedSampler(Sampler):
    """Base of the random samplers: `order(generator)` with a generator seeded from (seed, epoch).

    Args:
        data_source: M items.
        seed: of the run.
        epoch: shared with the views of the same loader.
    """

    def __init__(self, data_source: Sequence, seed: int = 0, epoch: Epoch | None = None):
        self.data_source = data_source
        self.seed = seed
        self.epoch = epoch or Epoch()

    def set_epoch(self, epoch: int):
        self.epoch.set(epoch)

    def __iter__(self) -> Iterator[int]:
        return iter(self._indices(self.epoch.begin_pass()))

    def _indices(self, epoch: int) -> list[int]:
        return self.order(torch.Generator().manual_seed(view_seed(self.seed, epoch, type(self).__name__)))

    def __len__(self):
        return len(self.data_source)

    def order(self, generator: torch.Generator) -> list[int]:
        """Positions in `data_source`, in the order of the epoch."""
        raise NotImplementedError


def _shuffled(items: Sequence, generator: torch.Generator) -> list:
    return [items[i] for i in torch.randperm(len(items), generator=generator).tolist()]


def _grouped(data_source: Sequence, key) -> dict:
    groups = defaultdict(list)
    for index, item in enumerate(data_source):
        groups[key(item)].append(index)
    return dict(groups)


class RandomSampler(KeyedSampler):
    """Every item once, shuffled."""

    def order(self, generator):
        return torch.randperm(len(self.data_source), generator=generator).tolist()


class SequentialSampler(KeyedSampler):
    """Every item once, in the order of the dataset."""

    def _indices(self, epoch):
        return range(len(self.data_source))


class _Batched(KeyedSampler):
    """Samplers whose epoch is shorter than the data where the groups are uneven."""

    def __len__(self):
        return len(self._indices(self.epoch.value))


class RandomDomainSampler(_Batched):
    """Batches of `n_domain` random domains with equally many images each; no image twice in an epoch.

    Ends when fewer than `n_domain` domains have enough images left.
    """

    def __init__(self, data_source, batch_size: int, n_domain: int = 0, seed: int = 0, epoch: Epoch | None = None):
        super().__init__(data_source, seed, epoch)
        self.groups = _grouped(data_source, lambda item: item.domain)
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


class SeqDomainSampler(_Batched):
    """Batches of one domain each, domain after domain, again and again, until one of them runs short."""

    def __init__(self, data_source, batch_size: int, seed: int = 0, epoch: Epoch | None = None):
        super().__init__(data_source, seed, epoch)
        self.groups = _grouped(data_source, lambda item: item.domain)
        self.batch_size = batch_size

    def order(self, generator):
        domains = [_shuffled(self.groups[domain], generator) for domain in sorted(self.groups)]
        rounds = min(map(len, domains)) // self.batch_size
        size = self.batch_size
        return [i for r in range(rounds) for indices in domains for i in indices[r * size : (r + 1) * size]]


class RandomClassSampler(_Batched):
    """Batches of `batch_size // n_ins` random classes with `n_ins` images each.

    A class with fewer images is drawn from with replacement. Ends when too few classes have images left. Classes of
    different tasks are different classes.
    """

    def __init__(self, data_source, batch_size: int, n_ins: int, seed: int = 0, epoch: Epoch | None = None):
        super().__init__(data_source, seed, epoch)
        if n_ins < 1 or batch_size % n_ins:
            raise ValueError(f"N_INS is {n_ins}, expected a divisor of BATCH_SIZE ({batch_size})")
        self.groups = _grouped(data_source, lambda item: (getattr(item, "task", 0), item.label))
        self.n_ins = n_ins
        self.n_classes = batch_size // n_ins
        if self.n_classes > len(self.groups):
            raise ValueError(
                f"batches of {self.n_classes} classes (BATCH_SIZE {batch_size} / N_INS {n_ins}) are not possible: the "
                f"training images have {len(self.groups)}"
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


SAMPLERS = ("RandomSampler", "SequentialSampler", "RandomDomainSampler", "SeqDomainSampler", "RandomClassSampler")


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
    """The sampler of that name over M items; it yields positions in `data_source`.

    Args:
        sampler_type: one of `SAMPLERS`.
        cfg: where given, its SEED counts.
        n_domain: domains a batch (RandomDomainSampler; 0 = all).
        n_ins: images a class (RandomClassSampler).
        epoch: shared with the views of the same loader.

    Raises:
        ValueError: an unknown name, or groups that do not fit the batch size.
    """
    if cfg is not None and cfg.SEED >= 0:
        seed = cfg.SEED
    rest = {"seed": seed, "epoch": epoch}
    if sampler_type == "RandomSampler":
        return RandomSampler(data_source, **rest)
    if sampler_type == "SequentialSampler":
        return SequentialSampler(data_source, **rest)
    if sampler_type == "RandomDomainSampler":
        return RandomDomainSampler(data_source, batch_size, n_domain, **rest)
    if sampler_type == "SeqDomainSampler":
        return SeqDomainSampler(data_source, batch_size, **rest)
    if sampler_type == "RandomClassSampler":
        return RandomClassSampler(data_source, batch_size, n_ins, **rest)
    near = get_close_matches(str(sampler_type), SAMPLERS, n=1, cutoff=0.3)
    hint = f"did you mean {near[0]}? " if near else ""
    raise ValueError(f"unknown sampler {sampler_type!r}; {hint}known: {', '.join(SAMPLERS)}")
