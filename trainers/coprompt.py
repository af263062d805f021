"""CoPrompt (Roy and Etemad, "Consistency-guided Prompt Learning for Vision-Language Models", ICLR 2024), trainer name
CoPrompt.

MaPLe's prompts and two adapters A(x) = relu(U relu(V x)) after the towers: f' = a A(f) + (1 - a) f, and likewise for
text. Both adapted features stay near features of frozen CLIP: text near one of several sentences per class, which is
drawn in each step; image near the feature of a second view of the image. Loss:
CE + W [(1 - mean_c cos(g'_c, Q_mc)) + (1 - mean_b cos(f'_b, F(x2_b)))], or squared distances with DISTILL mse.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from clip.text_tower import TextTower
from dassl.config import between, declare
from dassl.data.tasks import TaskSpace
from dassl.engine import TRAINER_REGISTRY

from .adapters import Adapters
from .base import Step
from .deep import DeepLearner
from .maple import MaPLe, declare_coupled
from .rows import task_owners
from .templates import even_texts, from_file, template_problems

KEY = "TRAINER.COPROMPT."
declare_coupled("COPROMPT", depth=12)
declare(KEY + "W", 8.0, allowed=between(0, 1e6), help="weight of the distances to frozen features")
declare(KEY + "DISTILL", "cosine", allowed=("cosine", "mse"), help="distance of normalised features")
declare(KEY + "IMAGE_ADAPTER", 0.1, allowed=between(0, 1), help="share of the adapter in image features")
declare(KEY + "TEXT_ADAPTER", 0.2, allowed=between(0, 1), help="share of the adapter in text features")
declare(
    KEY + "SENTENCES",
    "",
    help="YAML or JSON file {class: [sentences]}, or {task: {class: [sentences]}}; '': all templates of each task",
)


class Consistent(DeepLearner):
    """MaPLe's learner with adapters, and the frozen features `targets` of the sentences, (M, C, d) per task."""

    def settle(self, shares: tuple[float, float], sentences: list, per_task: bool) -> Consistent:
        """Add the adapters, with their `shares` in image and text features, and encode the sentences."""
        owners, d = task_owners(self.space) if per_task else None, self.tower.output_dim
        self.adapt_image, self.adapt_text = Adapters(d, owners), Adapters(d, owners)
        self.shares, self.by_task = shares, per_task
        self.targets = [
            torch.stack([F.normalize(self.tower.encode(list(form)).float(), dim=-1) for form in zip(*own, strict=True)])
            for own in sentences
        ]
        return self

    def image(self, features: Tensor, task: Tensor | None = None) -> Tensor:
        share = self.shares[0]
        return share * self.adapt_image(features, task) + (1 - share) * features.float()

    def text(self, select: Tensor, added=None) -> Tensor:
        share, found = self.shares[1], super().text(select, added).float()
        return share * self.adapt_text(found, self.task_of_column[select]) + (1 - share) * found


@TRAINER_REGISTRY.register()
class CoPrompt(MaPLe):
    """MaPLe with adapters, consistent with frozen CLIP."""

    section = "COPROMPT"
    learner = Consistent
    views = 2

    def problems(self, cfg) -> list[str]:
        return super().problems(cfg) + template_problems(cfg.TRAINER.COPROMPT.SENTENCES, KEY + "SENTENCES")

    def load_critical_settings(self, c) -> dict[str, object]:
        shares = {"IMAGE_ADAPTER": c.IMAGE_ADAPTER, "TEXT_ADAPTER": c.TEXT_ADAPTER}
        return super().load_critical_settings(c) | shares

    @classmethod
    def build_learner(cls, cfg, tower: TextTower, space: TaskSpace) -> Consistent:
        c = cfg.TRAINER.COPROMPT
        forms = from_file(c.SENTENCES, KEY + "SENTENCES", space, [task.templates for task in space.tasks])
        sentences = [
            even_texts(task.classnames, own, f"{KEY}SENTENCES {c.SENTENCES}, {task.key}")
            for task, own in zip(space.tasks, forms, strict=True)
        ]
        learner = super().build_learner(cfg, tower, space)
        return learner.settle((c.IMAGE_ADAPTER, c.TEXT_ADAPTER), sentences, c.TSC)

    def draw(self) -> list[int]:
        """The sentence of each task in this step."""
        return [int(torch.randint(len(own), ())) for own in self.model.targets]

    def distance(self, found: Tensor, target: Tensor) -> Tensor:
        """Distances (M,) of features (M, d) from normalised ones."""
        if self.cfg.TRAINER.COPROMPT.DISTILL == "mse":
            return (F.normalize(found, dim=-1) - target).square().mean(-1)
        return 1 - F.cosine_similarity(found, target, dim=-1)

    def loss(self, step: Step) -> tuple[Tensor, dict[str, float]]:
        target = torch.cat([own[m] for own, m in zip(self.model.targets, self.draw(), strict=True)])[step.columns]
        apart = self.class_mean(self.distance(step.text, target), step)
        second = F.normalize(step.per_label(self.frozen_features(step.more_views[0])).float(), dim=-1)
        moved = self.distance(step.image, second).mean()
        total = super().loss(step) + self.cfg.TRAINER.COPROMPT.W * (apart + moved)
        return total, {"text": apart.item(), "image": moved.item()}
