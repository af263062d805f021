"""Methods that compute what they learn from the frozen features of the training images at once, without gradients."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from dassl.data.data_manager import build_data_loader
from dassl.data.tasks import Task, TaskSpace
from dassl.data.transforms import build_transform
from dassl.engine.progress import progress
from dassl.utils import UserError
from dassl.utils.errors import NonFiniteLossError

from .base import MultiTaskTrainer
from .prompts import class_owners, unique

NEVER = -1e9  # logit of a class that cannot be predicted: below all others, and finite


class Samples(NamedTuple):
    """Images of one task: features (n, d) fp32, labels (n,) within the task, both on the CPU."""

    features: Tensor
    labels: Tensor


class ClassRows(nn.Module):
    """Tensors with a row for every class, found again by the class they belong to and not by their position.

    So a model of all tasks serves some of them, in any order. A class it has no row for is a UserError. Subclasses
    register tensors with N rows, nothing else. `seen` (N,): which classes had training images.
    """

    rows_are = "rows"  # what a message calls them

    def __init__(self, space: TaskSpace):
        super().__init__()
        self.owners = unique(class_owners(space))
        self.register_buffer("seen", torch.zeros(space.num_classes, dtype=torch.bool))

    def get_extra_state(self) -> list[str]:
        return self.owners

    def set_extra_state(self, state) -> None:
        """Nothing to set: `_load_from_state_dict` has matched the saved rows to the classes of the data."""

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs):
        saved = state_dict.setdefault(prefix + "_extra_state", self.owners)
        if saved != self.owners:
            if unknown := [owner for owner in self.owners if owner not in saved]:
                raise UserError(
                    f"this model has {self.rows_are} of the classes it was fitted on, and none was fitted for "
                    f"{unknown[0]!r} ({len(unknown)} of {len(self.owners)} are new to it). It serves no new classes "
                    "or tasks: fit one on training images of theirs"
                )
            rows = [saved.index(owner) for owner in self.owners]
            names = [name for name in (*self._parameters, *self._buffers) if prefix + name in state_dict]
            state_dict.update({prefix + name: state_dict[prefix + name][rows] for name in names})
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


class FittedTrainer(MultiTaskTrainer):
    """One pass over the training images under the test transform (no augmentation), and `fit` for each task.

    There is one epoch, after which the checkpoint `classifier/model.pth.tar-1` is written; OPTIM.* and the feature bank
    are not used. The features come from the feature cache, so all shots, seeds and methods share them. Tasks share
    nothing: one run of a suite and a run for each task give the same classifiers.
    """

    unread = ("OPTIM.", "DATALOADER.TRAIN_X.")
    needs_validation = False  # whether `fit` is given validation images

    # ---- what a method gives

    def fit(self, position: int, task: Task, train: Samples, val: Samples) -> None:
        """Set the rows of the classes of `task`, which stands at `position` of the space, in `self.model`."""
        raise NotImplementedError

    def logits(self, features: Tensor) -> Tensor:
        """Logits (B, N) of image features (B, d) fp32."""
        raise NotImplementedError

    def problems(self, cfg) -> list[str]:
        if cfg.MODEL.INIT_WEIGHTS:
            name = type(self).__name__
            return [f"MODEL.INIT_WEIGHTS {cfg.MODEL.INIT_WEIGHTS}: {name} starts from no weights; leave it empty"]
        return []

    # ---- what the engine calls

    def register_learner(self) -> None:
        self.max_epoch = 1
        self.run_extra["epochs"] = 1
        self.register_model("classifier", self.model)

    def build_data_loader(self) -> None:
        super().build_data_loader()
        cfg, dataset = self.cfg, self.dm.dataset
        if not dataset.train_x:
            return
        self.train_loader_x = build_data_loader(
            cfg,
            data_source=dataset.train_x,
            batch_size=cfg.DATALOADER.TEST.BATCH_SIZE,
            tfm=build_transform(cfg, is_train=False),
            is_train=False,
            image_root=getattr(dataset, "image_root", "") or cfg.DATASET.ROOT,
            tasks=[f"{task.id} ({task.key})" for task in dataset.space.tasks],
        )

    def before_train(self) -> None:
        super(MultiTaskTrainer, self).before_train()  # without the feature bank, which holds augmented views
        if self.bar is not None:  # it counts batches
            self.bar.close()
            self.bar = None

    @torch.no_grad()
    def run_epoch(self) -> None:
        if self.train_loader_x is None:
            raise UserError(f"{self.cfg.DATASET.NAME} has no training images, and {type(self).__name__} needs some")
        train = self.samples(self.train_loader_x, "training images")
        val = self.samples(self.val_loader if self.needs_validation else None, "validation images")
        for position, task in enumerate(self.space.tasks):
            self._note_seen(position, task, train[position].labels)
            self.fit(position, task, train[position], val[position])

    def model_inference(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> logits (B, N); a class without training images is never predicted."""
        return self.logits(self.encode_images(images).float()).masked_fill(~self.model.seen, NEVER)

    def samples(self, loader, what: str) -> list[Samples]:
        """The images of `loader` (None: no image), task by task.

        Raises NonFiniteLossError for features that are infinite or NaN, which a mean would hide.
        """
        if self.cfg.DATALOADER.FEATURE_CACHE:
            loader = self.from_features(loader, what)
        width = self.text_tower.output_dim
        features, labels, tasks = [torch.zeros(0, width)], [torch.zeros(0).long()], [torch.zeros(0).long()]
        for number, batch in enumerate(progress(loader or (), what), 1):
            features.append(self.encode_images(batch["img"]).float().cpu())
            if not features[-1].isfinite().all():
                self._batch = batch
                raise NonFiniteLossError(
                    f"the features of {what} are infinite or NaN in batch {number} of {len(loader)}"
                    f"{self._tasks_of_batch()}. The usual remedy: PREC fp32 instead of half precision"
                )
            labels.append(batch["label"])
            tasks.append(batch["task"])
        features, labels, tasks = torch.cat(features), torch.cat(labels), torch.cat(tasks)
        return [Samples(features[tasks == t], labels[tasks == t]) for t in range(self.space.num_tasks)]

    def _note_seen(self, position: int, task: Task, labels: Tensor) -> None:
        seen = torch.zeros(len(task.classnames), dtype=torch.bool)
        seen[labels] = True
        self.model.seen[self.space.columns(position)] = seen.to(self.device)
        if missing := (~seen).nonzero()[:, 0].tolist():
            names = ", ".join(task.classnames[label] for label in missing[:5]) + (", ..." if len(missing) > 5 else "")
            print(
                f"WARNING: task {task.id} ({task.name}) has classes without training images, never predicted: {names}"
            )
