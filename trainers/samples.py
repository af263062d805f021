"""Samples for the start of a learner: frozen features of images, with or without augmentation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.transforms import Compose, RandomHorizontalFlip

from dassl.config import method_name
from dassl.data.data_manager import build_data_loader
from dassl.data.tasks import Task
from dassl.data.transforms import build_transform
from dassl.data.views import view_seed
from dassl.engine.progress import progress
from dassl.utils import UserError, preserved_rng
from dassl.utils.errors import NonFiniteLossError
from features.loader import FeatureLoader, label_rows


class Samples(NamedTuple):
    """Images of one task: features (n, d) in fp32 and labels (n,) within the task, both on the CPU."""

    features: Tensor
    labels: Tensor


class StartSamples:
    """Frozen features for the start of a learner: `train`, `val` and `test` are lists of T `Samples`, one per task.

    Images have the test transform, without augmentation. Each list is read at its first access, so features are
    computed only for methods that need them. A learner that requests unprojected features gets them here, too.

    Args:
        read: function from the name of a split to its list.
        read_views: function from V to V lists, see `views`.
    """

    def __init__(
        self,
        read: Callable[[str], list[Samples]],
        read_views: Callable[[int], Sequence[list[Samples]]] | None = None,
    ):
        self._read, self._read_views = read, read_views

    @cached_property
    def train(self) -> list[Samples]:
        return self._read("train")

    @cached_property
    def val(self) -> list[Samples]:
        return self._read("val")

    @cached_property
    def mirrored(self) -> list[Samples]:
        """The training images under the test transform, then mirrored."""
        return self._read("mirrored")

    @cached_property
    def test(self) -> list[Samples]:
        """For published searches on test images only; see `choices`."""
        return self._read("test")

    def views(self, count: int) -> Sequence[list[Samples]]:
        """The first `count` augmented views of the training images: views[v] is a list of T `Samples`.

        All views have the same images in the same order, with the training transform. They are the views of the first
        epochs of training, and come from the feature bank. A view is read when it is accessed.
        """
        return self._read_views(count)


def read_samples(trainer, split: str) -> list[Samples]:
    """Read the images of a split under the test transform: one `Samples` per task. `mirrored`: of training, mirrored.

    Raises UserError without training images, and NonFiniteLossError for infinite or NaN features, which a mean would
    hide.
    """
    cfg, dataset = trainer.cfg, trainer.dm.dataset
    kinds = {"train": "training", "mirrored": "mirrored training", "val": "validation", "test": "test"}
    what = kinds[split] + " images"
    loader = trainer.val_loader if split == "val" else trainer.test_loader
    loader = getattr(loader, "loader", loader)  # of images, where a test has put features in their place
    if split in ("train", "mirrored"):
        _require_images(trainer)
        transform = build_transform(cfg, is_train=False)
        if split == "mirrored":
            transform = Compose([*transform.transforms, RandomHorizontalFlip(p=1.0)])
        loader = build_data_loader(
            cfg,
            data_source=dataset.train_x,
            batch_size=cfg.DATALOADER.TEST.BATCH_SIZE,
            tfm=transform,
            is_train=False,
            image_root=getattr(dataset, "image_root", "") or cfg.DATASET.ROOT,
            tasks=[f"{task.id} ({task.key})" for task in dataset.space.tasks],
            space=dataset.space,
        )
    part = "" if trainer.part == "local" else trainer.part
    if cfg.DATALOADER.FEATURE_CACHE:
        loader = trainer.from_features(loader, what, part=part)
    features, labels, tasks = [], [torch.zeros(0).long()], [torch.zeros(0).long()]
    with preserved_rng():  # a loader draws random numbers, and results must not depend on the state of the cache
        for number, batch in enumerate(progress(loader or (), what), 1):
            found = batch["features"] if "features" in batch else trainer.frozen_features(batch["img"], part=part)
            found, label, task = found.float().cpu(), batch["label"], batch["task"]
            if label.ndim == 2:  # several labels an image
                image, task, label = trainer.space.decode(label)
                found = found[image]
            features.append(found)
            if not features[-1].isfinite().all():
                trainer._batch = batch
                raise NonFiniteLossError(
                    f"the features of {what} are infinite or NaN in batch {number} of {len(loader)}"
                    f"{trainer._tasks_of_batch()}. The usual remedy: PREC fp32 instead of half precision"
                )
            labels.append(label)
            tasks.append(task)
    if not features:
        features = [torch.zeros(0, trainer.image_tower.output_dim)]
    return _by_task(torch.cat(features), torch.cat(labels), torch.cat(tasks), trainer.space.num_tasks)


class Views(Sequence):
    """V augmented views of the training images of a run: item v is a list of T `Samples`."""

    def __init__(self, trainer, count: int):
        _require_images(trainer)
        loader, self.count, self.tasks, self.kept = trainer.dm.train_loader_x, count, trainer.space.num_tasks, {}
        if trainer.cfg.DATALOADER.FEATURE_CACHE:
            loader = trainer.from_features(loader, "training views", range(count))
        self.loader, self.encode = loader, trainer.frozen_features
        self.batch_size = trainer.cfg.DATALOADER.TEST.BATCH_SIZE

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, view: int) -> list[Samples]:
        if not 0 <= view < self.count:
            raise IndexError(f"view {view} of {self.count}")
        if isinstance(self.loader, FeatureLoader):
            features, labels = self.loader.rows(view), self.loader.labels
        else:  # without a bank, the features are kept in memory
            if view not in self.kept:
                self.kept[view] = torch.cat(list(self._computed(view)))
            items = self.loader.dataset.data_source
            features, labels = self.kept[view], label_rows(items)
        image, task, label = labels.T
        return _by_task(features[image], label, task, self.tasks)

    def _computed(self, view: int) -> Iterator[Tensor]:
        views = self.loader.dataset
        for first in range(0, len(views), self.batch_size):
            pairs = [(view, i) for i in range(first, min(first + self.batch_size, len(views)))]
            yield self.encode(torch.stack([item["img"] for item in views.views(pairs)])).float().cpu()


def task_generator(seed: int, task: Task) -> torch.Generator:
    """Random numbers of one task in a run with this seed; they do not depend on the other tasks of the run."""
    return torch.Generator().manual_seed(view_seed(seed, 0, task.owner))


def _by_task(features: Tensor, labels: Tensor, tasks: Tensor, num_tasks: int) -> list[Samples]:
    return [Samples(features[tasks == t], labels[tasks == t]) for t in range(num_tasks)]


def _require_images(trainer) -> None:
    if not trainer.dm.dataset.train_x:
        name = method_name(trainer.cfg)
        raise UserError(f"{trainer.cfg.DATASET.NAME} has no training images, but {name} needs them")
