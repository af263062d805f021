"""Tokens of a shared representation space in both towers, for MMRL (mmrl.py) and MMRL++ (mmrlpp.py): learner, trainer
and the settings that both read. The equations are in mmrl.py.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clip.additions import Additions, Tokens, TowerAdditions
from clip.image_tower import ImageTower
from clip.text_tower import TextTower
from dassl.config import between, declare
from dassl.data.tasks import TaskSpace
from dassl.utils import UserError

from .base import MultiTaskTrainer, Step
from .learner import Learner
from .losses import cosine_logits
from .prompt_sets import TaskPrompts
from .rows import task_owners
from .settings import declare_shared


def declare_representation(section: str) -> None:
    """Declare the settings that MMRL and MMRL++ share."""
    key = f"TRAINER.{section}."
    declare_shared(section, PREC="amp", SCALE=0.0, TSC=False, TEMPLATES="")
    declare(key + "N_REP_TOKENS", 5, allowed=between(1, 1000), help="K, tokens of the representation space")
    declare(key + "REP_DIM", 512, allowed=between(1, 16_384), help="r, width of the representation space")
    declare(key + "REP_LAYERS", (6, 7, 8, 9, 10, 11, 12), help="layers of both towers with tokens, counted from 1")
    declare(key + "ALPHA", 0.7, allowed=between(0, 1), help="share of the class token in loss and prediction")
    declare(key + "REG_WEIGHT", 0.5, allowed=between(0, 1e6), help="weight of the distances to frozen features")


class RepresentationLearner(Learner):
    """Learner with one representation space `sets.<g>` for all tasks, or one per task.

    Args:
        tower, space: as for every learner.
        sets: one module or one per task; a call returns text tokens (G, I, K, D) and image tokens (G, I, K, W). Each
            module has the `projection` (W, d) of its second feature.
        layers: the I layers, from 0.
        share: weight of new tokens where they replace others.
        alpha: share of the class token in the prediction.
    """

    def __init__(self, tower: TextTower, space: TaskSpace, sets, layers, share: float, alpha: float):
        super().__init__(tower, space)
        self.sets, self.layers, self.share, self.alpha = sets, layers, share, alpha
        names = [task.templates[0].format(name.replace("_", " ")) for task in space.tasks for name in task.classnames]
        # nothing is added before the first of the layers, so the tokens of the sentences are constants there
        self.sentences = tower.before(tower.texts(names), layers[0])

    def additions(self) -> TowerAdditions:
        with torch.autocast(self.tower.device.type, enabled=False):  # the same result in a step and in a test
            text, image = self.sets()
        into = {"layers": self.layers, "share": self.share}
        return TowerAdditions(Additions(Tokens(text, insert=True, **into)), Additions(Tokens(image, keep=True, **into)))

    def text(self, select: Tensor, added: Additions | None = None) -> Tensor:
        return self.tower(self.sentences.part(select), self.text_additions(select, added))

    def image(self, features: tuple[Tensor, Tensor], task: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Features (B, d) of the class token, and of the mean of the representation tokens."""
        of_class, outputs = features
        with torch.autocast(self.tower.device.type, enabled=False):
            mean = outputs.float().mean(1)  # (B, W)
            if len(self.sets) == 1:
                return of_class, mean @ self.sets[0].projection
            projection = torch.stack([own.projection for own in self.sets])  # (T, W, d)
            return of_class, torch.einsum("bw,bwd->bd", mean, projection[task])

    def both(self, image: tuple[Tensor, Tensor], text: Tensor) -> tuple[Tensor, Tensor]:
        """Logits z and z_r, (B, N') each."""
        return cosine_logits(image[0], text, self.scale), cosine_logits(image[1], text, self.scale)

    def logits(self, image, text: Tensor, columns: Tensor, task: Tensor | None = None) -> Tensor:
        z, z_r = self.both(image, text)
        fused = self.alpha * z + (1 - self.alpha) * z_r
        return torch.where((self.known & self.known_data)[columns], fused, z)


class RepresentationTrainer(MultiTaskTrainer):
    """Trainer of MMRL and MMRL++; subclasses set `section`, `representation_space` and `share`."""

    representation_space: type[nn.Module]  # called with (clip, number of layers, K, r, **space_options(c))

    def problems(self, cfg) -> list[str]:
        layers, key = list(cfg.TRAINER[self.section].REP_LAYERS), f"TRAINER.{self.section}.REP_LAYERS"
        right = all(isinstance(n, int) and n > 0 for n in layers) and layers == sorted(set(layers)) != []
        found = [] if right else [f"{key} {layers}: expected layers in rising order, counted from 1, such as (6, 7, 8)"]
        found += self.image_problems(cfg, min(layers, default=1) - 1 if right else 0) + self.text_problems(cfg)
        return found + self.output_problems(cfg, "outputs of prompt tokens")

    def load_critical_settings(self, c) -> dict[str, object]:
        return {"REP_LAYERS": list(c.REP_LAYERS)}

    @classmethod
    def space_options(cls, c) -> dict:
        """Further keyword arguments of `representation_space` from the section `c`."""
        return {}

    @classmethod
    def share(cls, c) -> float:
        """Weight of new tokens where they replace the outputs of the tokens before."""
        return 1.0

    @classmethod
    def build_learner(cls, cfg, tower: TextTower, space: TaskSpace) -> RepresentationLearner:
        c = cfg.TRAINER[cls.section]
        deepest = min(len(tower.blocks), ImageTower(tower.clip).require_prompts()[0])
        if max(c.REP_LAYERS) > deepest:
            raise UserError(
                f"TRAINER.{cls.section}.REP_LAYERS {list(c.REP_LAYERS)}: this CLIP has {deepest} layers, counted from 1"
            )

        options = cls.space_options(c)

        def make() -> nn.Module:
            return cls.representation_space(tower.clip, len(c.REP_LAYERS), c.N_REP_TOKENS, c.REP_DIM, **options)

        sets = TaskPrompts(make, task_owners(space) if c.TSC else None, "representation space")
        layers = [layer - 1 for layer in c.REP_LAYERS]
        return RepresentationLearner(tower, space, sets, layers, cls.share(c), c.ALPHA)

    def loss(self, step: Step) -> tuple[Tensor, dict[str, float]]:
        c = self.cfg.TRAINER[self.section]
        ce, ce_rep = (
            self.classification_loss(logits, step.columns, step.task, step.target)
            for logits in self.model.both(step.image, step.text)
        )
        moved = 1 - F.cosine_similarity(step.image[0].float(), step.frozen.float(), dim=-1).mean()
        cosine = F.cosine_similarity(step.text.float(), self.model.hand_features()[step.columns], dim=-1)
        apart = self.class_mean(1 - cosine, step)
        total = c.ALPHA * ce + (1 - c.ALPHA) * ce_rep + c.REG_WEIGHT * (moved + apart)
        return total, {"rep": ce_rep.item(), "image": moved.item(), "text": apart.item()}
