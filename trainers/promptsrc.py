"""PromptSRC (Khattak et al., "Self-regulating Prompts: Foundational Model Adaptation without Forgetting", ICCV 2023),
trainer name PromptSRC.

Independent prompts in both towers (see ivlp.py), kept near frozen CLIP by three losses:
CE + TEXT_LOSS_WEIGHT mean|q - G| + IMAGE_LOSS_WEIGHT mean|p - F| + KL(softmax(s F G^T) || softmax(s p q^T)). p, q are
the normalised prompted features; F the frozen feature of the same view; G the normalised mean of the raw text features
of 60 templates. The trained prompts are the Gaussian-weighted mean of the prompts at the end of each epoch.
Published settings: 4 + 4 prompts in 9 layers (3 in cross-dataset and domain-generalisation experiments).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from clip.text_tower import TextTower
from dassl.config import between, declare
from dassl.data.tasks import TaskSpace
from dassl.engine import TRAINER_REGISTRY

from .base import Step
from .deep import DeepLearner
from .ivlp import IVLP, declare_independent
from .losses import cosine_logits, divergence
from .zsclip import ENSEMBLE

KEY = "TRAINER.PROMPTSRC."
declare_independent("PROMPTSRC", prompts=4, depth=9)
declare(KEY + "TEXT_LOSS_WEIGHT", 25.0, allowed=between(0, 1e6), help="weight of the distance of text features")
declare(KEY + "IMAGE_LOSS_WEIGHT", 10.0, allowed=between(0, 1e6), help="weight of the distance of image features")
declare(
    KEY + "GPA_MEAN",
    15.0,
    allowed=between(0, 1e6),
    help="mean of the Gaussian weights of the epochs, which are counted from 1",
)
declare(
    KEY + "GPA_STD",
    1.0,
    allowed=between(1e-3, 1e6),
    help="standard deviation of the Gaussian weights",
)
declare(KEY + "TEMPLATES", (), help="templates of the frozen text features; (): the first 60 of CLIP's for ImageNet")
declare(KEY + "LEGACY_KL", False, help="divide the divergence by the number of classes, as the published code does")


def gaussian_weights(epochs: int, mean: float, std: float) -> Tensor:
    """Weights (E,) of the epochs 1 ... E, proportional to exp(-(e - mean)^2 / (2 std^2)), with sum 1."""
    e = torch.arange(1, epochs + 1, dtype=torch.double)
    return (-((e - mean) ** 2) / (2 * std**2)).softmax(0)  # right even if all exponentials underflow


class SelfRegulated(DeepLearner):
    """Learner with the frozen text features `target` (N, d), and running sums of the learned tensors as buffers.

    The sums lie beside their tensors, so checkpoints contain them and match their rows by owner.
    """

    @torch.no_grad()
    def settle(self, templates: tuple[str, ...]) -> SelfRegulated:
        names = [name.replace("_", " ") for name in self.space.classnames]
        raw = sum(self.tower.encode([form.format(name) for name in names]).float() for form in templates)
        self.target = F.normalize(raw / len(templates), dim=-1)
        for module in list(self.modules()):
            for name, parameter in list(module.named_parameters(recurse=False)):
                module.register_buffer(f"{name}_sum", torch.zeros_like(parameter))
        return self

    @torch.no_grad()
    def add(self, weight: float, last: bool) -> None:
        """Add the learned tensors to their sums with this weight; after the `last` epoch, set them to the sums."""
        for module in self.modules():
            for name, parameter in module.named_parameters(recurse=False):
                total = getattr(module, f"{name}_sum")
                total.add_(parameter, alpha=weight)
                if last:
                    parameter.copy_(total)


@TRAINER_REGISTRY.register()
class PromptSRC(IVLP):
    """Independent prompts near frozen CLIP, averaged over epochs."""

    section = "PROMPTSRC"
    learner = SelfRegulated

    @classmethod
    def build_learner(cls, cfg, tower: TextTower, space: TaskSpace) -> SelfRegulated:
        templates = tuple(cfg.TRAINER.PROMPTSRC.TEMPLATES) or ENSEMBLE[:60]
        return super().build_learner(cfg, tower, space).settle(templates)

    def loss(self, step: Step) -> tuple[Tensor, dict[str, float]]:
        c, target = self.cfg.TRAINER.PROMPTSRC, self.model.target[step.columns]
        text, image, frozen = (F.normalize(x.float(), dim=-1) for x in (step.text, step.image, step.frozen))
        apart, moved = self.class_mean((text - target).abs().mean(-1), step), (image - frozen).abs().mean()
        own = self.task_of_column[step.columns] == step.task[:, None]
        kl = divergence(cosine_logits(frozen, target, self.scale), step.logits, own)  # (B,)
        kl = (kl / own.sum(-1) if c.LEGACY_KL else kl).mean()
        total = super().loss(step) + c.TEXT_LOSS_WEIGHT * apart + c.IMAGE_LOSS_WEIGHT * moved + kl
        return total, {"text": apart.item(), "image": moved.item(), "kl": kl.item()}

    def run_epoch(self) -> None:
        super().run_epoch()
        self.aggregate()

    def aggregate(self) -> None:
        """Add the learned tensors at the end of an epoch to their sums, which replace them at the end of the last."""
        c, last = self.cfg.TRAINER.PROMPTSRC, self.epoch + 1 == self.max_epoch
        self.model.add(gaussian_weights(self.max_epoch, c.GPA_MEAN, c.GPA_STD)[self.epoch].item(), last)
        self._prepared = None
