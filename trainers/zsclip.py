"""Zero-shot CLIP (Radford et al., "Learning Transferable Visual Models From Natural Language Supervision"): hand-made
prompts, one per task or an ensemble of several (their sec. 3.1.4).
"""

from __future__ import annotations

from open_clip import OPENAI_IMAGENET_TEMPLATES

from clip.text_tower import TextTower
from dassl.config import declare
from dassl.data.tasks import TaskSpace
from dassl.engine import TRAINER_REGISTRY

from .base import MultiTaskTrainer
from .learner import Learner
from .settings import declare_shared
from .templates import Forms, first_of, joined, own_templates, template_problems

declare_shared("ZSCLIP", PREC="fp16")
declare(
    "TRAINER.ZSCLIP.ENSEMBLE",
    "imagenet",
    allowed=("imagenet", "task", "both"),
    help="templates of ZeroshotCLIP2: CLIP's 80 for ImageNet, all of the task, or both",
)

ENSEMBLE = tuple(template("{}") for template in OPENAI_IMAGENET_TEMPLATES)  # CLIP's 80 prompts for ImageNet


@TRAINER_REGISTRY.register()
class ZeroshotCLIP(MultiTaskTrainer):
    """Zero-shot CLIP with one template per task: the first in TRAINER.ZSCLIP.TEMPLATES, else of the dataset."""

    section = "ZSCLIP"
    learns = False
    ignored_settings = ("OPTIM.", "DATALOADER.TRAIN_X.", "LOSS.")

    def problems(self, cfg) -> list[str]:
        return template_problems(cfg.TRAINER.ZSCLIP.TEMPLATES, "TRAINER.ZSCLIP.TEMPLATES")

    @classmethod
    def templates(cls, cfg, space: TaskSpace) -> list[Forms]:
        """Return the texts of each task."""
        return [first_of(own) for own in own_templates(cfg, space)]

    @classmethod
    def build_learner(cls, cfg, tower: TextTower, space: TaskSpace) -> Learner:
        learner = Learner(tower, space)
        learner.hand_templates = cls.templates(cfg, space)
        return learner


@TRAINER_REGISTRY.register()
class ZeroshotCLIP2(ZeroshotCLIP):
    """Zero-shot CLIP with ensembles (TRAINER.ZSCLIP.ENSEMBLE): CLIP's 80 ImageNet templates, the task's, or both."""

    @classmethod
    def templates(cls, cfg, space: TaskSpace) -> list[Forms]:
        which = cfg.TRAINER.ZSCLIP.ENSEMBLE
        own = [()] * space.num_tasks if which == "imagenet" else own_templates(cfg, space)
        general = () if which == "task" else ENSEMBLE
        return [joined(templates, general) for templates in own]
