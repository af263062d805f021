"""MMRL (Guo and Gu, "MMRL: Multi-Modal Representation Learning for Vision-Language Models", CVPR 2025), trainer name
MMRL.

Tokens of a shared representation space R (K, r) enter the later layers of both towers. In the image tower, the mean of
their outputs gives a second feature f_r beside the feature f_c of the class token. With z, z_r the logits of both
features against the text features g, the loss is
ALPHA CE(z) + (1 - ALPHA) CE(z_r) + REG_WEIGHT (1 - cos(f_c, F) + 1 - cos(g, G)), F and G frozen features of the same
view and sentence. Classes of training are predicted by ALPHA z + (1 - ALPHA) z_r. New classes, and other data sets with
the same classes, are predicted by z alone.
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
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import UserError

from .base import MultiTaskTrainer, Step
from .deep import TaskPrompts
from .learner import Learner
from .losses import class_weights, cosine_logits
from .rows import task_owners
from .settings import declare_shared


def declare_representation(section: str) -> None:
    """Declare the settings that MMRL and MMRL++ share."""
    key = f"TRAINER.{section}."
    declare_shared(section, PREC="amp", TSC=False)
    declare(key + "N_REP_TOKENS", 5, allowed=between(1, 1000), help="K, tokens of the representation space")
    declare(key + "REP_DIM", 512, allowed=between(1, 16_384), help="r, width of the representation space")
    declare(key + "REP_LAYERS", (6, 7, 8, 9, 10, 11, 12), help="layers of both towers with tokens, counted from 1")
    declare(key + "ALPHA", 0.7, allowed=between(0, 1), help="share of the class token in loss and prediction")
    declare(key + "REG_WEIGHT", 0.5, allowed=between(0, 1e6), help="weight of the distances to frozen features")
    declare(key + "SCALE", 0.0, allowed=between(0, 1e6), help="scale of the cosines; 0: CLIP's own; published: 100")


class RepresentationSpace(nn.Module):
    """R and a linear map per layer and tower: () -> text tokens (I, K, D), image tokens (I, K, W), projection (W, d).

    The maps of a tower start as copies of one drawn map, as in the published code.
    """

    def __init__(self, clip, layers: int, count: int, width: int, c):
        super().__init__()
        self.rep = nn.Parameter(torch.empty(count, width).normal_(std=0.02))
        W, d = clip.visual.proj.shape
        for name, out in (("text", clip.ln_final.weight.shape[0]), ("image", W)):
            drawn = nn.Linear(width, out)
            setattr(self, f"{name}_weight", nn.Parameter(drawn.weight.detach().expand(layers, -1, -1).clone()))
            setattr(self, f"{name}_bias", nn.Parameter(drawn.bias.detach().expand(layers, -1).clone()))
        self.projection = nn.Parameter(torch.empty(W, d).normal_(std=W**-0.5))

    def forward(self) -> tuple[Tensor, Tensor, Tensor]:
        text, image = (
            self.rep @ weight.transpose(-1, -2) + bias[:, None]
            for weight, bias in ((self.text_weight, self.text_bias), (self.image_weight, self.image_bias))
        )
        return text, image, self.projection


class RepresentationLearner(Learner):
    """Learner with one representation space `sets.<g>` for all tasks, or one per task.

    Args:
        tower, space: as for every learner.
        sets: module whose call returns text tokens (G, I, K, D), image tokens (G, I, K, W), projections (G, W, d).
        layers: the I layers, from 0.
        share: weight of new tokens where they replace others.
        alpha: share of the class token in the prediction.
        scale: scale of the cosines; 0: CLIP's own.
    """

    def __init__(self, tower: TextTower, space: TaskSpace, sets, layers, share: float, alpha: float, scale: float):
        super().__init__(tower, space)
        self.sets, self.layers, self.share, self.alpha, self._scale = sets, layers, share, alpha, scale
        names = [task.templates[0].format(name.replace("_", " ")) for task in space.tasks for name in task.classnames]
        # nothing is added before the first of the layers, so the tokens of the sentences are constants there
        self.sentences = tower.before(tower.texts(names), layers[0])

    @property
    def scale(self) -> Tensor:
        return torch.tensor(self._scale) if self._scale else super().scale

    def additions(self) -> TowerAdditions:
        with torch.autocast(self.tower.device.type, enabled=False):  # the same result in a step and in a test
            text, image, _ = self.sets()
        into = {"layers": self.layers, "share": self.share}
        return TowerAdditions(Additions(Tokens(text, insert=True, **into)), Additions(Tokens(image, keep=True, **into)))

    def text(self, select: Tensor, added: Additions | None = None) -> Tensor:
        return self.tower(self.sentences.part(select), self.text_additions(select, added))

    def image(self, features: tuple[Tensor, Tensor], task: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Features (B, d) of the class token, and of the mean of the representation tokens."""
        of_class, outputs = features
        with torch.autocast(self.tower.device.type, enabled=False):
            projection, mean = self.sets()[2], outputs.float().mean(1)  # (G, W, d), (B, W)
            if len(projection) == 1:
                return of_class, mean @ projection[0]
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

    representation_space: type[nn.Module] = RepresentationSpace

    def problems(self, cfg) -> list[str]:
        layers, key = list(cfg.TRAINER[self.section].REP_LAYERS), f"TRAINER.{self.section}.REP_LAYERS"
        right = all(isinstance(n, int) and n > 0 for n in layers) and layers == sorted(set(layers)) != []
        found = [] if right else [f"{key} {layers}: expected layers in rising order, counted from 1, such as (6, 7, 8)"]
        return found + self.image_problems(cfg, min(layers, default=1) - 1 if right else 0)

    def load_critical_settings(self, c) -> dict[str, object]:
        return {"REP_LAYERS": list(c.REP_LAYERS)}

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

        def make() -> nn.Module:
            return cls.representation_space(tower.clip, len(c.REP_LAYERS), c.N_REP_TOKENS, c.REP_DIM, c)

        sets = TaskPrompts(make, task_owners(space) if c.TSC else None, "representation space")
        layers = [layer - 1 for layer in c.REP_LAYERS]
        return RepresentationLearner(tower, space, sets, layers, cls.share(c), c.ALPHA, c.SCALE)

    def loss(self, step: Step) -> tuple[Tensor, dict[str, float]]:
        c = self.cfg.TRAINER[self.section]
        ce, ce_rep = (
            self.classification_loss(logits, step.columns, step.task, step.target)
            for logits in self.model.both(step.image, step.text)
        )
        moved = 1 - F.cosine_similarity(step.image[0].float(), step.frozen.float(), dim=-1).mean()
        apart = 1 - F.cosine_similarity(step.text.float(), self.model.hand_features()[step.columns], dim=-1)
        apart = class_weights(self.task_of_column[step.columns], step.task) @ apart
        total = c.ALPHA * ce + (1 - c.ALPHA) * ce_rep + c.REG_WEIGHT * (moved + apart)
        return total, {"rep": ce_rep.item(), "image": moved.item(), "text": apart.item()}


declare_representation("MMRL")


@TRAINER_REGISTRY.register()
class MMRL(RepresentationTrainer):
    """Tokens of a shared representation space in both towers: one space for all tasks, or one per task (TSC)."""

    section = "MMRL"
