"""What TaskRes and CLAP share: a learned row per class beside the text features of hand-made prompts."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from clip.text_tower import TextTower
from dassl.config import declare
from dassl.data.tasks import TaskSpace

from .base import MultiTaskTrainer
from .hand import HandPrompts
from .learner import Learner
from .rows import OwnedRows, class_owners
from .settings import declare_shared
from .templates import Forms, task_templates


def declare_text_rows(section: str) -> None:
    """Declare the settings of hand-made prompts that TaskRes and CLAP share."""
    declare_shared(section, PREC="fp16", TEMPLATES="")
    declare(
        f"TRAINER.{section}.LEGACY_UNDERSCORES",
        False,
        help="keep the underscores of class names in the prompts, as the published code does",
    )


class TextRows(OwnedRows, Learner):
    """A learner with one row per class. A class that is new to a loaded model keeps its initial row.

    Parameter `rows` (N, d), zero at first. `base` (N, d) are the text features of the classes as the text tower gives
    them, without normalisation; with several templates, their mean.

    Args:
        tower, space: as for every learner.
        templates: the texts of each task, see `HandPrompts`.
        underscores: keep the underscores of class names.
    """

    def __init__(self, tower: TextTower, space: TaskSpace, *, templates: list[Forms], underscores: bool = False):
        super().__init__(tower, space)
        self.hand = HandPrompts(tower, space, templates, raw=True, underscores=underscores)
        self.rows = nn.Parameter(torch.zeros_like(self.base))
        self.own(class_owners(space), "class", "row", tensors=("rows",), new="initial")

    @property
    def base(self) -> Tensor:
        return self.hand.features


class TextRowsTrainer(MultiTaskTrainer):
    """A method with rows beside text features; `options` are the arguments of its learner that all methods share."""

    @classmethod
    def options(cls, cfg, space: TaskSpace) -> dict:
        c = cfg.TRAINER[cls.section]
        templates = task_templates(c.TEMPLATES, f"TRAINER.{cls.section}.TEMPLATES", space, quiet=True)
        return {"templates": templates, "underscores": c.LEGACY_UNDERSCORES}
