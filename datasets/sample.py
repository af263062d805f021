"""The few-shot sample of a dataset that has been read, as DATASET.NUM_SHOTS and related settings ask for it."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Collection, Container
from functools import cached_property

from datasets.fewshot import few_shot, few_shot_labels, long_tail, rank, val_shots
from datasets.fewshot_match import Chosen
from datasets.source import SPLITS, Source


class Sample:
    """The images of a source that a run uses, or their labels if images have several.

    Images with several labels are drawn for all tasks and classes of the source at once. So a run of some of its tasks
    or classes has the same labels of these as a run of all. An image that is drawn for a class of a tagging task has
    all its classes of that task, because the others would count as absent.

    Attributes:
        source: the dataset.

    Args:
        source: the dataset.
        cfg: reads DATASET.{NUM_SHOTS, NESTED_SHOTS, IMBALANCE, VAL_SHOTS} and SEED.
        listed: images that a file of DATASET.FEWSHOT_SPLIT lists, in place of drawing.
    """

    def __init__(self, source: Source, cfg, listed: Chosen | None = None):
        self.source, self.cfg, self.listed = source, cfg, listed

    def places(self, task: int, split: str, labels: Container[int]) -> tuple[dict[str, list[int]], bool]:
        """The images, or labels, of some classes of a task that a run uses as its `split`.

        Returns: {part of the source's split: places in it}, sorted by path and thus independent of the order of a
            folder listing; whether `split` has more images of these classes.
        """
        items = getattr(self.source, split)
        there = [place for place in self._by_task[task][split] if items[place].label in labels]
        if split == "test":
            return {split: there}, False
        if split == "val" and self.cfg.DATASET.VAL_SHOTS == 0:
            return {split: []}, False
        if self.listed and (split == "train" or self.listed.val is not None):
            kept = self.listed.places(self.source, split, task, labels)
            return kept, sum(map(len, kept.values())) < len(there)
        if self.source.several:
            kept = [place for place in there if place in self._shared[split]]
        else:
            used = self._listed_for_training(split)
            kept = self._draw(few_shot, [place for place in there if items[place].path not in used], split)
        return {split: kept}, len(kept) < len(there)

    @cached_property
    def _by_task(self) -> list[dict[str, array]]:
        """For each task and split the places of its labels, sorted by path."""
        parts = [{split: array("I") for split in SPLITS} for _ in self.source.tasks]
        for split in SPLITS:
            items = getattr(self.source, split)
            for place in sorted(range(len(items)), key=items.__getitem__):
                parts[items[place].task][split].append(place)
        return parts

    @cached_property
    def _shared(self) -> dict[str, set[int]]:
        """For training and validation the places of the labels drawn from images with several labels."""
        found = {}
        for split in SPLITS[:2]:
            used = self._listed_for_training(split)
            places = [place for place, item in enumerate(getattr(self.source, split)) if item.path not in used]
            found[split] = self.source.with_tags(split, self._draw(few_shot_labels, places, split))
        return found

    def _listed_for_training(self, split: str) -> set[str]:
        """Paths of the images of a part of the split that the file of DATASET.FEWSHOT_SPLIT lists for training."""
        items = getattr(self.source, split)
        return {items[place.index].path for place in self.listed.train if place.part == split} if self.listed else set()

    def _draw(self, draw: Callable, places: Collection[int], split: str) -> list[int]:
        """The places that `few_shot` or `few_shot_labels` draws."""
        settings, items = self.cfg.DATASET, getattr(self.source, split)
        shots = max(settings.NUM_SHOTS, self.listed.shots) if self.listed else settings.NUM_SHOTS
        if split == "val":
            shots = settings.VAL_SHOTS if settings.VAL_SHOTS > 0 else val_shots(shots)
        return draw(
            places,
            shots,
            self.cfg.SEED,
            settings.NESTED_SHOTS,
            key=lambda place: items[place].path,
            group=lambda place: items[place][1:3],
            quota=self._quota if split == "train" else lambda _, shots: shots,
        )

    def _quota(self, group: tuple[int, int], shots: int) -> int:
        """Number of training images of a class, (label, task), in a sample of so many shots."""
        label, task = group
        if self.cfg.DATASET.IMBALANCE == 1:
            return shots
        order = self._tails[task]
        return long_tail(shots, self.cfg.DATASET.IMBALANCE, order[label], len(order))

    @cached_property
    def _tails(self) -> list[list[int]]:
        """For each task the positions of its classes from the largest to the smallest, drawn from SEED."""
        found = []
        for task in self.source.tasks:
            ranked = sorted(task.classnames, key=lambda name: rank(f"{self.cfg.SEED}/tail", f"{task.key}\0{name}"))
            found.append([ranked.index(name) for name in task.classnames])
        return found
