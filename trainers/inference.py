"""From the images of a batch to logits: the passes of a method, in training, in tests and in use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from clip.additions import Additions, TowerAdditions
from dassl.config import method_name
from dassl.utils import UserError

from .building import BuiltTrainer
from .step import spread, with_numbers


class InferenceTrainer(BuiltTrainer):
    """Passes of images through the towers and the `Learner`."""

    # ---- batches and the image tower

    def parse_batch(self, batch: dict) -> tuple[Tensor | None, Tensor | None, Tensor, Tensor, Tensor | None]:
        """(images (B, 3, H, W) or None, frozen features or None, label (R,), task (R,), rows) on the device.

        rows: (R,) position of each label's image in the batch; None if every image has one label.
        """
        parts = (batch.get(key) for key in ("img", "features", "label", "task"))
        images, features, label, task = (None if part is None else part.to(self.device) for part in parts)
        rows = None
        if label.ndim == 2:  # (B, N), several labels an image
            rows, task, label = self.space.decode(label)
        return images, features, label, task, rows

    def _tags(self, batch: dict, task: Tensor, rows: Tensor | None) -> Tensor | None:
        """All classes (R, N) of each label of a batch; None if no task is a tagging task, or labels are not coded."""
        if self.space.tagging is None or rows is None:
            return None
        return self.space.tags(batch["label"].to(self.device), rows, task)

    def _encode(
        self,
        images: Tensor | None,
        features: Tensor | None,
        added: Additions | None,
        task: Tensor | None,
        rows: Tensor | None = None,
    ):
        """Output of the image tower with the additions: (R, d), or the tuple of the tower if more is requested.

        Each of the B images passes the tower once, unless the additions depend on the task: then once per label.
        """
        if self.frozen:
            return spread(features if features is not None else self.frozen_features(images), rows)
        if images is None:
            raise ValueError(f"{type(self).__name__} changes the image tower: expected images, found features")
        images, added = images.to(self.device), (added or Additions()).take(task)
        if added.group is not None:
            images, rows = spread(images, rows), None
        start = self.start if images.ndim == 3 else 0  # tokens from the bank
        return spread(self.image_tower(images, added, start=start), rows)

    # ---- features and logits of the learner as it is

    @torch.no_grad()
    def _ready(self) -> tuple[TowerAdditions, Tensor | None]:
        """Additions and text features (N, d) of all classes, cached until the learner changes."""
        if self._prepared is None:
            with self._evaluating():
                added = self.model.additions()
                with self.autocast():
                    self._prepared = added, self.model.text(self.all_columns, added.text)
        return self._prepared

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        """Put the learner into evaluation mode."""
        training = self.model.training
        self.model.eval()
        try:
            yield
        finally:
            self.model.train(training)

    def additions(self) -> TowerAdditions:
        """Additions of the method to the towers in a test."""
        return self._ready()[0]

    def text_features(self) -> Tensor:
        """Text features of all classes (N, d). Raises UserError if the method's text features depend on the image."""
        if (text := self.prepared_text) is None:
            raise UserError(f"{method_name(self.cfg)} has no fixed text features of classes: they depend on the image")
        return text

    @property
    def prepared_text(self) -> Tensor | None:
        """Text features of all classes as a test uses them; None if they depend on the image."""
        return self._ready()[1]

    @property
    def compares_features(self) -> bool:
        """Whether the method compares one text feature per class with one feature per image."""
        text = self.prepared_text
        return text is not None and text.ndim == 2 and self.part != "local"

    @property
    def by_task(self) -> bool:
        """Whether the features of an image depend on its task."""
        added = self._ready()[0].image
        return self.model.by_task or (added is not None and added.sets > 1)

    @torch.no_grad()
    def encode_images(
        self,
        images: Tensor,
        task: Tensor | None = None,
        features: Tensor | None = None,
        rows: Tensor | None = None,
    ) -> Tensor:
        """Image features (R, d) for the comparison with text features, of images (B, 3, H, W) with their tasks (R,).

        `features`: the frozen tower's features of the images, if known. `rows`: see `Step`. Raises UserError if image
        features depend on the task and no task is given.
        """
        if task is None and self.by_task:
            raise UserError(
                f"{method_name(self.cfg)}: every task has its own image features; give the task of each image"
            )
        with self.autocast():
            return self.model.image(self._encode(images, features, self._ready()[0].image, task, rows), task)

    @torch.no_grad()
    def tower_output(self, images: Tensor, task: Tensor | None = None):
        """Output of the image tower with the method's additions for images (B, 3, H, W), which `learner.image` gets."""
        with self.autocast():
            return self._encode(images, None, self._ready()[0].image, task)

    @torch.no_grad()
    def model_inference(
        self,
        images: Tensor | None,
        task: Tensor | None = None,
        features: Tensor | None = None,
        rows: Tensor | None = None,
    ) -> Tensor:
        """Logits (R, N) of images (B, 3, H, W), or of their frozen `features`, over the classes of all tasks.

        With the `task` (R,) of each image, logits of other tasks' classes may be -inf, so that they are never
        predicted. Without `task`, each class is compared with the image features of the class's task. `rows`: see
        `Step`.
        """
        text = self._ready()[1]

        def logits(columns: Tensor, task: Tensor | None) -> Tensor:
            image = self.encode_images(images, task, features, rows)
            own = text if text is None or columns is self.all_columns else text[columns]
            with self._evaluating():
                return with_numbers(self.model.logits(image, own, columns, task))[0]

        if not self.by_task:
            return logits(self.all_columns, task)
        if task is not None:
            return logits(self.all_columns, task).masked_fill(~self.space.mask(task), float("-inf"))
        count = (features if images is None else images).shape[0]
        spans = [self.all_columns[self.space.columns(t)] for t in range(self.space.num_tasks)]
        tasks = [torch.full((count,), t, device=self.device) for t in range(self.space.num_tasks)]
        return torch.cat([logits(*pair) for pair in zip(spans, tasks, strict=True)], 1)
