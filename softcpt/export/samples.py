"""Images for the checks of an export: the run's own test images, or images that are given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dassl.data.datasets.base_dataset import labels_of
from dassl.utils import UserError
from softcpt.images import Entry, entries, in_batches, stacked
from softcpt.model import Classifier

CHECKED, MEASURED = 32, 2000  # images of a check, and of a measurement of accuracy, at most


@dataclass
class Samples:
    """Images with labels {key of a task: class}; labels are empty for images without."""

    entries: list[Entry]
    labels: list[dict[str, int]]
    why_none: str = ""  # why there is no image

    def of(self, model: Classifier) -> Samples:
        """The images of the tasks of `model`; all if they have no labels."""
        kept = [i for i, own in enumerate(self.labels) if not own or own.keys() & set(model.tasks)]
        return Samples([self.entries[i] for i in kept], [self.labels[i] for i in kept], self.why_none)

    def spread(self, count: int) -> Samples:
        """At most `count` of the images, at even distances."""
        places = np.unique(np.linspace(0, len(self.entries) - 1, min(count, len(self.entries))).round().astype(int))
        return Samples([self.entries[i] for i in places], [self.labels[i] for i in places], self.why_none)

    def batches(self, model: Classifier) -> Iterator[tuple[Tensor, list[dict[str, int]]]]:
        """Prepared images (B, 3, H, W) with their labels. Images that cannot be read are left out."""
        items = list(zip(self.entries, self.labels, strict=True))
        for batch, images in in_batches(items, lambda item: model.prepare(item[0]), 64):
            pairs = [(i, own) for i, (_, own) in zip(images, batch, strict=True) if isinstance(i, Tensor)]
            if pairs:
                yield stacked([image for image, _ in pairs]), [own for _, own in pairs]

    def images(self, model: Classifier) -> Tensor:
        """Prepared images of a check (B, 3, H, W)."""
        found = [images for images, _ in self.spread(CHECKED).batches(model)]
        if not found:
            raise UserError("none of the images for the checks can be read; give others: --images IMAGE ...")
        return torch.cat(found)


def find_samples(model: Classifier, given: Sequence[str] = ()) -> Samples:
    """The images `given`, else the run's test images. If the run's data are not there, there are no samples."""
    if given:
        found = entries(list(given))
        return Samples(found, [{}] * len(found))
    dataset, why_none = model.dataset()
    if dataset is None:
        return Samples([], [], why_none)
    keys, found = [task.key for task in dataset.space.tasks], ([], [])
    for item in dataset.test or ():
        labels = {keys[task]: label for task, label in labels_of(item)}
        found[0].append(Entry(item.impath))
        found[1].append(labels)
    return Samples(*found, "" if found[0] else "its data have no test image")
