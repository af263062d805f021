"""Zero-shot CLIP (Radford et al., "Learning Transferable Visual Models From Natural Language Supervision"): hand-made
prompts, one a task or an ensemble of several (their sec. 3.1.4).
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
import torch.nn.functional as F
import yaml
from open_clip import OPENAI_IMAGENET_TEMPLATES
from torch import Tensor, nn

from clip.text_tower import TextTower
from dassl.config import declare
from dassl.data.tasks import TaskSpace
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import UserError

from .base import PRECISION_HELP, PRECISIONS, MultiTaskTrainer

declare("TRAINER.ZSCLIP.PREC", "fp16", allowed=PRECISIONS, help=PRECISION_HELP)
declare(
    "TRAINER.ZSCLIP.TEMPLATES",
    "",
    help="YAML or JSON file, key or name of a task: templates; '': those that the datasets declare",
)
declare(
    "TRAINER.ZSCLIP.ENSEMBLE",
    "imagenet",
    allowed=("imagenet", "task", "both"),
    help="of ZeroshotCLIP2: CLIP's 80 templates for ImageNet, all templates of the task, or the one after the other",
)

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


def read_templates(path: str) -> dict[str, tuple[str, ...]]:
    """{task: templates} of a file, with task keys or names in lower case.

    Raises:
        FileNotFoundError: no such file.
        UserError: it is no YAML or JSON mapping of tasks to templates, each with one "{}".
    """
    if not path:
        return {}
    form = "a task's key or name with a template or a list of templates, such as\n  faces: ['an emoji of a {} face.']"
    try:
        text = Path(path).read_text(encoding="utf-8")
        content = json.loads(text) if path.endswith(".json") else yaml.safe_load(text)
    except FileNotFoundError:
        raise FileNotFoundError(f"TRAINER.ZSCLIP.TEMPLATES: there is no file {path}") from None
    except (ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"TRAINER.ZSCLIP.TEMPLATES: {path} cannot be read: {reason}; expected {form}") from None
    found = {}
    for name, templates in content.items() if isinstance(content, dict) else [("", content)]:
        templates = [templates] if isinstance(templates, str) else templates
        right = isinstance(templates, list) and templates and all(isinstance(t, str) for t in templates)
        if not name or not right or any(t.count("{}") != 1 for t in templates):
            raise UserError(
                f"TRAINER.ZSCLIP.TEMPLATES: {path} has {name!r}: {templates!r}; expected {form}\n"
                "where each template has one {} for the class name"
            )
        found[str(name).lower()] = tuple(templates)
    return found


def own_templates(cfg, space: TaskSpace) -> list[tuple[str, ...]]:
    """The templates of each task: of the file TRAINER.ZSCLIP.TEMPLATES where it has some, else of its dataset."""
    given = read_templates(cfg.TRAINER.ZSCLIP.TEMPLATES)
    found = []
    for task in space.tasks:
        names = [name for name in (task.key.lower(), task.name.lower()) if name in given]
        found.append(given[names[0]] if names else task.templates)
    if given:
        known = {name for task in space.tasks for name in (task.key.lower(), task.name.lower())}
        changed = [task.key for task in space.tasks if {task.key.lower(), task.name.lower()} & given.keys()]
        unused = ", ".join(name for name in given if name not in known)
        print(
            f"Templates of {', '.join(changed) or 'no task'} from {cfg.TRAINER.ZSCLIP.TEMPLATES}"
            + (f"; not among the tasks of this run: {unused}" if unused else "")
        )
    return found


@TRAINER_REGISTRY.register()
class ZeroshotCLIP(MultiTaskTrainer):
    """One hand-made template per task: the first that its dataset, or TRAINER.ZSCLIP.TEMPLATES, gives."""

    section = "ZSCLIP"
    learns = False
    unread = ("OPTIM.", "DATALOADER.TRAIN_X.")

    def check_cfg(self, cfg) -> None:
        read_templates(cfg.TRAINER.ZSCLIP.TEMPLATES)  # before anything slow
        super().check_cfg(cfg)

    @classmethod
    def templates(cls, cfg, space: TaskSpace) -> list[tuple[str, ...]]:
        """One tuple of templates for each task."""
        return [own[:1] for own in own_templates(cfg, space)]

    @classmethod
    def build_learner(cls, cfg, tower: TextTower, space: TaskSpace) -> HandPrompts:
        return HandPrompts(tower, space, cls.templates(cfg, space))


@TRAINER_REGISTRY.register()
class ZeroshotCLIP2(ZeroshotCLIP):
    """An ensemble for every task (TRAINER.ZSCLIP.ENSEMBLE): CLIP's 80 ImageNet templates, the task's own, or both."""

    @classmethod
    def templates(cls, cfg, space: TaskSpace) -> list[tuple[str, ...]]:
        which = cfg.TRAINER.ZSCLIP.ENSEMBLE
        own = [()] * space.num_tasks if which == "imagenet" else own_templates(cfg, space)
        general = () if which == "task" else ENSEMBLE
        return [tuple(dict.fromkeys((*mine, *general))) for mine in own]
