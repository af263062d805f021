"""The training images of a run that resemble an image, and how sure a run is of its test images."""

from __future__ import annotations

import csv
import os
from collections import defaultdict

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from dassl.data.datasets.base_dataset import labels_of
from dassl.runs.record import PREDICTIONS

from .images import Entry, in_batches, stacked
from .model import Classifier

RARE = 5  # per cent of the images that are beyond a threshold


class Neighbours:
    """Training images of a run, as unit features of the frozen image tower.

    Attributes:
        why_none: why there are no images, in one line; "" if there are.
        usual: cosine that RARE per cent of the training images do not reach with the nearest other one.
    """

    def __init__(self, model: Classifier):
        self.model = model
        self.images: list[tuple[str, str]] = []  # (path, names of the classes)
        self.features, self.usual = torch.zeros(0, 1), -1.0
        dataset, self.why_none = model.dataset()
        if dataset is None:
            return
        parts = []
        for batch, images in in_batches(list(dataset.train_x), lambda item: model.prepare(Entry(item.impath)), 64):
            readable = [item for item, image in zip(batch, images, strict=True) if isinstance(image, Tensor)]
            if readable:
                parts.append(self.encode(stacked(images)))
                self.images += [(item.impath, self._classes(item)) for item in readable]
        if not parts:
            self.why_none = "no training image can be read"
            return
        self.features = torch.cat(parts)  # (M, d)
        some = torch.arange(0, len(self.features), max(1, len(self.features) // 2000))  # enough for a percentile
        cosines = self.features[some] @ self.features.t()
        cosines[torch.arange(len(some)), some] = -1.0
        self.usual = float(np.percentile(cosines.max(1).values.numpy(), RARE))

    def _classes(self, item) -> str:
        return ", ".join(self.model.space.tasks[task].classnames[label] for task, label in labels_of(item))

    def encode(self, images: Tensor) -> Tensor:
        """Unit features (B, d) of prepared images (B, 3, H, W)."""
        trainer = self.model.trainer
        return F.normalize(trainer.joint_features(trainer.frozen_features(images)).float().cpu(), dim=-1)

    def nearest(self, image: Image.Image, count: int = 6) -> list[tuple[str, str, float]]:
        """(path, class, cosine) of the most similar training images, the most similar first."""
        if self.why_none:
            return []
        similarity = self.features @ self.encode(self.model.preprocess(image)[None])[0]  # (M,)
        best = similarity.topk(min(count, len(similarity)))
        return [(*self.images[i], value) for i, value in zip(best.indices.tolist(), best.values.tolist(), strict=True)]


def thresholds(run: str | os.PathLike) -> dict[str, float]:
    """{key of a task: largest probability that RARE per cent of its test images stay below}; {} if not recorded.

    The run's predictions.csv tells it, so the test images need not be there.
    """
    sure = defaultdict(list)
    try:
        with open(os.path.join(run, PREDICTIONS), encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                sure[row["task"]].append(float(row["probability1"]))
    except (OSError, KeyError, ValueError):
        return {}
    return {task: float(np.percentile(values, RARE)) for task, values in sure.items()}
