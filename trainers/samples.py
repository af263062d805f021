"""Samples for the start of a learner: frozen features of training images without augmentation."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from dassl.config import method_name
from dassl.data.data_manager import build_data_loader
from dassl.data.transforms import build_transform
from dassl.engine.progress import progress
from dassl.utils import UserError, preserved_rng
from dassl.utils.errors import NonFiniteLossError


class Samples(NamedTuple):
    """Images of one task: features (n, d) in fp32 and labels (n,) within the task, both on the CPU."""

    features: Tensor
    labels: Tensor


class StartSamples:
    """Frozen features for the start of a learner: `train` and `val` are lists of T `Samples`, one per task.

    Images have the test transform, without augmentation. Each list is read at its first access, so the features of
    validation images are computed only for methods that need them.
    """

    def __init__(self, read: Callable[[str], list[Samples]]):
        self._read = read

    @cached_property
    def train(self) -> list[Samples]:
        return self._read("train")

    @cached_property
    def val(self) -> list[Samples]:
        return self._read("val")


def read_samples(trainer, split: str) -> list[Samples]:
    """Read the images of a split under the test transform: one `Samples` per task.

    Raises UserError without training images, and NonFiniteLossError for infinite or NaN features, which a mean would
    hide.
    """
    cfg, dataset, what = trainer.cfg, trainer.dm.dataset, "training images" if split == "train" else "validation images"
    loader = trainer.val_loader
    if split == "train":
        if not dataset.train_x:
            raise UserError(f"{cfg.DATASET.NAME} has no training images, but {method_name(cfg)} needs them")
        loader = build_data_loader(
            cfg,
            data_source=dataset.train_x,
            batch_size=cfg.DATALOADER.TEST.BATCH_SIZE,
            tfm=build_transform(cfg, is_train=False),
            is_train=False,
            image_root=getattr(dataset, "image_root", "") or cfg.DATASET.ROOT,
            tasks=[f"{task.id} ({task.key})" for task in dataset.space.tasks],
        )
    if cfg.DATALOADER.FEATURE_CACHE:
        loader = trainer.from_features(loader, what, local=False)
    width = trainer.image_tower.output_dim
    features, labels, tasks = [torch.zeros(0, width)], [torch.zeros(0).long()], [torch.zeros(0).long()]
    with preserved_rng():  # a loader draws random numbers, and results must not depend on the state of the cache
        for number, batch in enumerate(progress(loader or (), what), 1):
            found = batch["features"] if "features" in batch else trainer.frozen_features(batch["img"], local=False)
            features.append(found.float().cpu())
            if not features[-1].isfinite().all():
                trainer._batch = batch
                raise NonFiniteLossError(
                    f"the features of {what} are infinite or NaN in batch {number} of {len(loader)}"
                    f"{trainer._tasks_of_batch()}. The usual remedy: PREC fp32 instead of half precision"
                )
            labels.append(batch["label"])
            tasks.append(batch["task"])
    features, labels, tasks = torch.cat(features), torch.cat(labels), torch.cat(tasks)
    return [Samples(features[tasks == t], labels[tasks == t]) for t in range(trainer.space.num_tasks)]
