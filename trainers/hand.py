"""Hand-made prompts: fixed text features of all classes, from templates such as "a photo of a {}." or sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clip.layers import at_least_fp32
from clip.text_tower import TextTower
from dassl.config import declare
from dassl.data.tasks import TaskSpace

from .templates import Forms, class_texts, even_texts

declare(
    "TRAINER.ZSCLIP.TEMPLATES",
    "",
    help="YAML or JSON file {key or name of a task: templates, or {class: sentences}}; '': templates of the datasets",
)


class HandPrompts(nn.Module):
    """Fixed text features of all classes: the normalised mean over texts of normalised features. No parameters.

    Args:
        tower: encodes the prompts.
        space: the tasks and their classes.
        templates: the texts of each task: templates, in which "{}" stands for the class name, or {class: its texts}.
            Underscores of class names become spaces. Default: the first template of each task.
        raw: the mean over texts of the features as the tower gives them, without normalisation.
        underscores: keep the underscores of class names.

    Attributes:
        features: (N, d), normalised unless `raw`.
    """

    def __init__(
        self,
        tower: TextTower,
        space: TaskSpace,
        templates: list[Forms] | None = None,
        raw: bool = False,
        underscores: bool = False,
    ):
        super().__init__()
        parts = []
        templates = [task.templates[:1] for task in space.tasks] if templates is None else templates
        for task, own in zip(space.tasks, templates, strict=True):
            parts.append(mean_features(tower, task.classnames, own, raw, underscores))
        self.features = torch.cat(parts)  # (N, d)

    def forward(self, select: Tensor) -> Tensor:
        """Features (N', d) of the classes in the columns `select` (N',)."""
        return self.features[select]


def encode_templates(
    tower: TextTower, classnames: Sequence[str], forms: Forms, underscores: bool = False, where: str = ""
) -> Tensor:
    """Features (M, C, d) of C classes with M texts each, not normalised. `underscores`: keep those of class names.

    Raises UserError if classes have different numbers of sentences; `where` is for the message.
    """
    if isinstance(forms, Mapping):
        rows = even_texts(classnames, forms, where)
    else:
        rows = class_texts(classnames, forms, underscores)
    return torch.stack([at_least_fp32(tower.encode(list(texts))) for texts in zip(*rows, strict=True)])


def mean_features(
    tower: TextTower, classnames: Sequence[str], forms: Forms, raw: bool = False, underscores: bool = False
) -> Tensor:
    """Features (C, d) of C classes: see `HandPrompts`."""
    if not isinstance(forms, Mapping):
        features = encode_templates(tower, classnames, forms, underscores)
        return features.mean(0) if raw else F.normalize(F.normalize(features, dim=-1).mean(0), dim=-1)
    rows = class_texts(classnames, forms, underscores)
    features = at_least_fp32(tower.encode([text for texts in rows for text in texts]))
    features = (features if raw else F.normalize(features, dim=-1)).split([len(texts) for texts in rows])
    mean = torch.stack([own.mean(0) for own in features])
    return mean if raw else F.normalize(mean, dim=-1)
