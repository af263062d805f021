"""Zero-shot CLIP (Radford et al., "Learning Transferable Visual Models From Natural Language Supervision"): hand-made
prompts.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from open_clip import OPENAI_IMAGENET_TEMPLATES
from torch import Tensor, nn

from clip.text_tower import TextTower
from dassl.config import declare
from dassl.data.tasks import TaskSpace
from dassl.engine import TRAINER_REGISTRY

from .base import PRECISION_HELP, PRECISIONS, MultiTaskTrainer

declare("TRAINER.ZSCLIP.PREC", "fp16", allowed=PRECISIONS, help=PRECISION_HELP)

ENSEMBLE = tuple(template("{}") for template in OPENAI_IMAGENET_TEMPLATES)  # CLIP's 80 prompts for ImageNet


class HandPrompts(nn.Module):
    """Fixed text features of every class: the normalised mean over templates of normalised features. No parameters.

    `templates`: one tuple of templates for each task; "{}" stands for the class name, underscores in it become spaces.
    """

    def __init__(self, tower: TextTower, space: TaskSpace, templates: list[tuple[str, ...]]):
        super().__init__()
        parts = []
        for task, own in zip(space.tasks, templates, strict=True):
            names = [name.replace("_", " ") for name in task.classnames]
            features = torch.stack([tower.encode([t.format(name) for name in names]).float() for t in own])
            parts.append(F.normalize(F.normalize(features, dim=-1).mean(0), dim=-1))  # (C, d)
        self.features = torch.cat(parts)  # (N, d)

    def forward(self, select: Tensor) -> Tensor:
        return self.features[select]


@TRAINER_REGISTRY.register()
class ZeroshotCLIP(MultiTaskTrainer):
    """One hand-made template per task (its first), as the task's dataset declares it."""

    section = "ZSCLIP"
    learns = False

    @classmethod
    def templates(cls, space: TaskSpace) -> list[tuple[str, ...]]:
        return [task.templates[:1] for task in space.tasks]

    @classmethod
    def build_learner(cls, cfg, tower: TextTower, space: TaskSpace) -> HandPrompts:
        return HandPrompts(tower, space, cls.templates(space))


@TRAINER_REGISTRY.register()
class ZeroshotCLIP2(ZeroshotCLIP):
    """The ensemble of CLIP's 80 ImageNet templates, for every task."""

    @classmethod
    def templates(cls, space: TaskSpace) -> list[tuple[str, ...]]:
        return [ENSEMBLE] * space.num_tasks
