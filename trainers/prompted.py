"""What methods with prompts in the image tower share: images go through the tower live, under their task's prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from clip.image_tower import ImageTower, VisualPrompts
from clip.model import CLIP
from dassl.data.tasks import TaskSpace
from dassl.utils import UserError

from .base import MultiTaskTrainer
from .losses import cosine_logits
from .prompts import saved_rows, unique


class TaskPrompts(nn.ModuleList):
    """G sets of prompts: one for all tasks, or one for each of `owners` (task keys), each made by `make`.

    `forward()` stacks what they give, tuples of tensors (...) or None: a tuple of (G, ...) or None. A set is saved with
    its owner, so that a model of all tasks serves some of them, in any order; UserError for a task without a set.
    """

    def __init__(self, make: Callable[[], nn.Module], owners: Sequence[str] | None = None):
        super().__init__(make() for _ in owners or [""])
        self.owners = unique(owners) if owners else None

    def forward(self) -> tuple[Tensor | None, ...]:
        parts = zip(*(own() for own in self), strict=True)
        return tuple(None if part[0] is None else torch.stack(part) for part in parts)

    def get_extra_state(self) -> list[str] | None:
        return self.owners

    def set_extra_state(self, state) -> None:
        """Nothing to set: `_load_from_state_dict` has matched the saved owners to those of the data."""

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs):
        saved = state_dict.setdefault(prefix + "_extra_state", self.owners)
        if saved and self.owners and saved != self.owners:
            rows = saved_rows(saved, self.owners, "task of this model", "set of prompts")
            heads = tuple(f"{prefix}{row}." for row in range(len(saved)))
            kept = {key: state_dict.pop(key) for key in list(state_dict) if key.startswith(heads)}
            for key, value in kept.items():
                row, _, name = key.removeprefix(prefix).partition(".")
                if int(row) in rows:
                    state_dict[f"{prefix}{rows.index(int(row))}.{name}"] = value
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


class PromptedLearner(nn.Module):
    """A learner with prompts in the image tower, in G sets: one for all T tasks (`shared`), or one for each.

    `forward(select (N',)) -> (N', d)` are text features, as of every learner. `prompts()` gives the tokens that go into
    both towers: text (G, I, L, D) or None, visual (G, I, K, W), one I for each tower. Who has made them already gives
    the text part as a second argument of `forward`.
    """

    def __init__(self, space: TaskSpace, shared: bool, device: torch.device):
        super().__init__()
        self.task_of_column = space.task_of_column.to(device)
        self.groups = 1 if shared else space.num_tasks
        tasks = torch.arange(space.num_tasks, device=device)
        self.owner = torch.zeros_like(tasks) if shared else tasks  # (T,) set of each task

    def prompts(self) -> tuple[Tensor | None, Tensor]:
        raise NotImplementedError

    def forward(self, select: Tensor, text: Tensor | None = None) -> Tensor:
        raise NotImplementedError


class PromptedTrainer(MultiTaskTrainer):
    """Trains a `PromptedLearner`. In a test, prompts and text features are made once, images go through the tower.

    Settings of the section: DROPOUT, of the visual prompts in training.
    """

    frozen_features = False
    vit_only = True

    def build_on(self, clip: CLIP, space: TaskSpace, precision: str = "fp32") -> None:
        super().build_on(clip, space, precision)
        self.image_tower = ImageTower(clip, checkpoint=self.cfg.MODEL.IMAGE_CHECKPOINT)
        self._visual: tuple[Tensor, Tensor] | None = None

    def step(self, images: Tensor, columns: Tensor, task: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """(scalar loss, logits (B, N')) from images (B, 3, H, W) of any tasks, in one pass through each tower."""
        text, visual = self.model.prompts()
        prompts = VisualPrompts(visual, self._group(task), dropout=self.cfg.TRAINER[self.section].DROPOUT)
        with self.autocast():
            features = self.image_tower(images, prompts=prompts)  # (B, d)
            text = self.model(columns, text)  # (N', d)
        logits = cosine_logits(features, text, self.scale)
        return self.loss(logits, columns, task, target), logits

    def _group(self, task: Tensor) -> Tensor | None:
        return None if self.model.groups == 1 else self.model.owner[task]

    def parse_batch_test(self, batch: dict) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """((images, task (B,)), labels (B,)): the task says which prompts an image takes."""
        image, label = super().parse_batch_test(batch)
        return (image, batch["task"].to(self.device)), label

    @torch.no_grad()
    def visual_prompts(self, task: Tensor | None = None) -> VisualPrompts:
        """The learned prompts as images of the tasks `task` (B,) take them; None where all tasks have the same.

        Raises UserError when they differ and no task is given.
        """
        if task is None and self.model.groups > 1:
            raise UserError(
                f"{type(self).__name__}: every task has its own visual prompts; give the task of each image"
            )
        text = self.text_features()
        if self._visual is None or self._visual[0] is not text:  # as old as the text features, which training forgets
            self._visual = text, self.model.prompts()[1]
        return VisualPrompts(self._visual[1], None if task is None else self._group(task))

    @torch.no_grad()
    def encode_images(self, images: Tensor | tuple[Tensor, Tensor]) -> Tensor:
        """Features (B, d) under the learned prompts of images (B, 3, H, W), or of (images, task (B,))."""
        images, task = images if isinstance(images, tuple) else (images, None)
        prompts = self.visual_prompts(task)
        with self.autocast():
            return self.image_tower(images.to(self.device), prompts=prompts)

    @torch.no_grad()
    def model_inference(self, images: Tensor | tuple[Tensor, Tensor]) -> Tensor:
        """Images, or (images, task (B,)) -> logits (B, N).

        Where every task has prompts of its own: with the tasks given, the classes of other tasks have -inf, which no
        argmax and no softmax can take for a prediction; without, each class is compared with the image under the
        prompts of its own task, a pass through the image tower for each.
        """
        images, task = images if isinstance(images, tuple) else (images, None)
        text = self.text_features()
        if self.model.groups == 1:
            return cosine_logits(self.encode_images(images), text, self.scale)
        if task is not None:
            logits = cosine_logits(self.encode_images((images, task)), text, self.scale)
            return logits.masked_fill(~self.space.mask(task), float("-inf"))
        found = []
        for t in range(self.space.num_tasks):
            features = self.encode_images((images, torch.full((len(images),), t, device=self.device)))
            found.append(cosine_logits(features, text[self.space.columns(t)], self.scale))
        return torch.cat(found, 1)
