"""CoPrompt (Roy and Etemad, "Consistency-guided Prompt Learning for Vision-Language Models", ICLR 2024), trainer name
CoPrompt.

MaPLe's prompts and two adapters A(x) = relu(U relu(V x)) after the towers: f' = a A(f) + (1 - a) f, and likewise for
text. Both adapted features stay near features of frozen CLIP: text near one of several sentences per class, which is
drawn in each step; image near the feature of a second view of the image. Loss:
CE + W [(1 - mean_c cos(g'_c, Q_mc)) + (1 - mean_b cos(f'_b, F(x2_b)))], or squared distances with DISTILL mse.
"""

from __future__ import annotations

import os

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clip.text_tower import TextTower
from dassl.config import between, declare
from dassl.data.tasks import TaskSpace
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import UserError, read_json
from dassl.utils.errors import near_path

from .base import MultiTaskTrainer, Step
from .deep import DeepLearner, build_deep, declare_deep, deep_critical_settings
from .losses import class_weights
from .maple import Coupling, coupled_problems
from .rows import OwnedRows, task_owners
from .settings import declare_shared

KEY = "TRAINER.COPROMPT."
declare_shared("COPROMPT", PREC="fp16", N_CTX=2, CTX_INIT="a photo of a")
declare(
    KEY + "PROMPT_DEPTH", 12, allowed=between(-1, 1000), help="J, layers of each tower with prompts; -1: all layers"
)
declare_deep("COPROMPT")
declare(KEY + "W", 8.0, allowed=between(0, 1e6), help="weight of the distances to frozen features")
declare(KEY + "DISTILL", "cosine", allowed=("cosine", "mse"), help="distance of normalised features")
declare(KEY + "IMAGE_ADAPTER", 0.1, allowed=between(0, 1), help="share of the adapter in image features")
declare(KEY + "TEXT_ADAPTER", 0.2, allowed=between(0, 1), help="share of the adapter in text features")
declare(
    KEY + "SENTENCES",
    "",
    help="JSON file {class: [sentences]}, or {task: {class: [sentences]}}; '': the hand-made templates of each task",
)


class Adapters(OwnedRows):
    """A(x) = relu(U relu(V x)) for all tasks, or one per task: `down` V (G, d / 4, d), `up` U (G, d, d / 4)."""

    def __init__(self, d: int, owners: list[str] | None):
        super().__init__()
        drawn = [(nn.Linear(d, d // 4, bias=False), nn.Linear(d // 4, d, bias=False)) for _ in owners or "x"]
        self.down = nn.Parameter(torch.stack([first.weight.detach() for first, _ in drawn]))
        self.up = nn.Parameter(torch.stack([last.weight.detach() for _, last in drawn]))
        self.own(owners, "task", "adapter")

    def forward(self, x: Tensor, row: Tensor | None) -> Tensor:
        """x (M, d) -> (M, d). `row` (M,): task of each x; only read if there is one adapter per task."""
        x = x.float()
        if len(self.down) == 1:
            return F.linear(F.linear(x, self.down[0]).relu(), self.up[0]).relu()
        hidden = torch.einsum("md,mhd->mh", x, self.down[row]).relu()
        return torch.einsum("mh,mdh->md", hidden, self.up[row]).relu()


class Consistent(DeepLearner):
    """MaPLe's learner with adapters, and the frozen features `targets` of the sentences, (M, C, d) per task."""

    def settle(self, c) -> Consistent:
        owners, d = task_owners(self.space) if c.TSC else None, self.tower.output_dim
        self.adapt_image, self.adapt_text = Adapters(d, owners), Adapters(d, owners)
        self.shares, self.by_task = (c.IMAGE_ADAPTER, c.TEXT_ADAPTER), c.TSC
        sentences = read_sentences(c.SENTENCES, self.space)
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


def read_sentences(path: str, space: TaskSpace) -> list[list[list[str]]]:
    """Sentences of each class, [task][class][m]; every class of a task has the same number of them.

    Raises:
        UserError: the file is not as expected, or a class has no sentences or another number of them.
    """
    if not path:
        return [
            [[form.format(name.replace("_", " ")) for form in task.templates] for name in task.classnames]
            for task in space.tasks
        ]
    setting, given, found = f"{KEY}SENTENCES {path}", read_json(path), []
    for task in space.tasks:
        own = given.get(task.key, given.get(task.name, given)) if isinstance(given, dict) else {}
        own = own if isinstance(own, dict) else given  # the list of a class that is called like the task
        own = {str(name).replace("_", " ").lower(): rows for name, rows in own.items()}
        rows = [own.get(name.replace("_", " ").lower()) for name in task.classnames]
        for name, sentences in zip(task.classnames, rows, strict=True):
            if not sentences or not isinstance(sentences, list) or not all(isinstance(s, str) for s in sentences):
                raise UserError(f"{setting}: no sentences for {name!r} of {task.key}; expected {{class: [sentences]}}")
        if len(set(map(len, rows))) > 1:
            name, least = min(zip(task.classnames, rows, strict=True), key=lambda pair: len(pair[1]))
            raise UserError(
                f"{setting}: {name!r} of {task.key} has {len(least)} sentences, another class {max(map(len, rows))}; "
                "all classes of a task need the same number"
            )
        found.append(rows)
    return found


@TRAINER_REGISTRY.register()
class CoPrompt(MultiTaskTrainer):
    """MaPLe with adapters, consistent with frozen CLIP."""

    section = "COPROMPT"
    views = 2

    def problems(self, cfg) -> list[str]:
        c = cfg.TRAINER.COPROMPT
        found = self.image_problems(cfg) + coupled_problems(KEY, c)
        if c.SENTENCES and not os.path.isfile(c.SENTENCES):
            found.append(f"{KEY}SENTENCES {c.SENTENCES}: no such file{near_path(c.SENTENCES)}")
        return found

    def load_critical_settings(self, c) -> dict[str, object]:
        return deep_critical_settings(c) | {"IMAGE_ADAPTER": c.IMAGE_ADAPTER, "TEXT_ADAPTER": c.TEXT_ADAPTER}

    @classmethod
    def build_learner(cls, cfg, tower: TextTower, space: TaskSpace) -> Consistent:
        c = cfg.TRAINER.COPROMPT
        return build_deep(c, tower, space, lambda: Coupling(tower, c), c.N_CTX, Consistent).settle(c)

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
        weight = class_weights(self.task_of_column[step.columns], step.task)
        apart = weight @ self.distance(step.text, target)
        second = F.normalize(self.frozen_features(step.more_views[0]).float(), dim=-1)
        moved = self.distance(step.image, second).mean()
        total = super().loss(step) + self.cfg.TRAINER.COPROMPT.W * (apart + moved)
        return total, {"text": apart.item(), "image": moved.item()}
