"""ProLIP (Fahes et al., "CLIP's Visual Embedding Projector is a Few-shot Cornucopia", 2024), trainer name ProLIP.

The last projection M (W, d) of the image tower is learned, from CLIP's own M0; the bias of a ResNet's projection is
frozen. Logits s cos(x M + bias, t_k) of unprojected features x (W,) and text features t_k (d,) of hand-made prompts.
Loss: cross-entropy + lambda |M - M0|^2, the sum over all entries. Adam with epsilon 1e-4 and a cosine schedule to 0
takes STEPS steps; step i (from 0) is on all training images, in view (i + 1) mod V of V stored views.

Without validation images: learning rate LR and lambda = 1 / shots, or 1 / shots^2 with LAMBDA_POWER 2. With SEARCH,
both are chosen on validation images, the first best of LRS x LAMBDAS. The published code trains in half precision on a
GPU, where a step of 1e-5 is near the spacing of the weights; here M is in fp32.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from clip.additions import Additions, TowerAdditions
from clip.image_tower import ImageTower
from clip.text_tower import TextTower
from dassl.config import above, at_least, between, declare
from dassl.data.tasks import TaskSpace
from dassl.engine import TRAINER_REGISTRY

from .base import FittedTrainer
from .choices import Choices, first_best, samples_to_choose
from .class_rows import seen_classes
from .learner import Learner
from .projections import ProjectionDescent, Projections, project
from .rows import apply_by_task, task_owners
from .samples import Samples, StartSamples
from .settings import arguments, declare_shared

LRS = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8)
LAMBDAS = (10.0, 1.0, 0.1, 0.01, 0.001, 0.0001, 0.0)

KEY = "TRAINER.PROLIP."
declare_shared("PROLIP", PREC="fp16", SCALE=0.0, TEMPLATES="", TSC=False)
declare(KEY + "STEPS", 300, allowed=between(1, 1_000_000), help="steps, each on all training images")
declare(KEY + "LR", 1e-5, allowed=above(0), help="learning rate of the first step")
declare(
    KEY + "LAMBDA", -1.0, allowed=at_least(-1), help="weight of the squared distance to CLIP's projection; -1: by shots"
)
declare(KEY + "LAMBDA_POWER", 1.0, allowed=at_least(0), help="p of the weight 1 / shots^p that LAMBDA -1 stands for")
declare(KEY + "SEARCH", False, help="choose learning rate and weight on validation images, in place of LR and LAMBDA")


class ProjectedImages(Learner):
    """Learner with one projection for all tasks, or one per task.

    Args:
        tower, space: as for every learner.
        per_task: one projection per task.
        steps, lr: number of steps, and learning rate of the first.
        weight: lambda; negative: 1 / shots^power.
        shots: training images per class; 0: the mean number of a projection's training images per class.
        search: choose lr and lambda on validation images.
        views: V, number of views.
    """

    adam = {"eps": 1e-4}

    def __init__(self, tower: TextTower, space: TaskSpace, *, per_task: bool = False, steps: int = 300,
                 lr: float = 1e-5, weight: float = -1.0, power: float = 1.0, shots: int = 0,
                 search: bool = False, views: int = 300):  # fmt: skip
        super().__init__(tower, space)
        self.steps, self.lr, self.weight, self.power, self.shots = steps, lr, weight, power, shots
        self.searches, self.views, self.by_task = search, views, per_task
        self.initial, self.bias = ImageTower(tower.clip).projection()  # (W, d), (d,) or None
        self.projections = Projections(self.initial, task_owners(space) if per_task else None)
        self.choices = Choices(space, **{"lr": lr, "lambda": weight})

    def additions(self) -> TowerAdditions:
        return TowerAdditions(image=Additions(unprojected=True))

    def image(self, features: Tensor, task: Tensor | None = None) -> Tensor:
        functions = [partial(project, projection=own, bias=self.bias) for own in self.projections.weight]
        return apply_by_task(features, task, functions)

    def descent(self) -> ProjectionDescent:
        texts = [self.hand_features()[self.space.columns(t)] for t in range(self.space.num_tasks)]
        return ProjectionDescent(self.initial, self.bias, texts, self.scale, self.steps, **self.adam)

    def start(self, samples: StartSamples) -> None:
        tasks, weight = list(range(self.space.num_tasks)), self.projections.weight
        groups = [[t] for t in tasks] if self.by_task else [tasks]
        val = samples_to_choose(samples, "val", self.space, f"{KEY}SEARCH False") if self.searches else None
        views = samples.views(self.views)
        for task, own in zip(self.space.tasks, views[0], strict=True):
            seen_classes(task, own.labels, "which are known by their prompts only")
        if self.searches:
            for g, group in enumerate(groups):
                weight[g] = self.search(views, group, val)
            return
        weights = [[self.weight if self.weight >= 0 else self.by_shots(views[0], group)] for group in groups]
        for g, found in enumerate(self.descent()(views, groups, self.lr, weights, "steps")):
            weight[g] = found[0]
            for t in groups[g]:
                self.choices.choose(t, "", **{"lr": self.lr, "lambda": weights[g][0]})

    def by_shots(self, view: list[Samples], group: list[int]) -> float:
        """lambda = 1 / shots^power of a projection for the tasks in `group`."""
        images = sum(len(view[t].labels) for t in group)
        classes = sum(len(self.space.tasks[t].classnames) for t in group)
        return (self.shots or max(images, 1) / classes) ** -self.power

    def search(self, views: Sequence[list[Samples]], group: list[int], val: list[Samples]) -> Tensor:
        """The projection (W, d) of the tasks in `group` with the first best setting by their mean score on `val`."""
        descent, best = self.descent(), None
        for lr in LRS:
            (found,) = descent(views, [group], lr, [LAMBDAS], f"search, learning rate {lr:g}")  # (S, W, d)
            own = torch.stack([descent.score(found, t, self.space.tasks[t], val[t]) for t in group])  # (tasks, S)
            mean = own.mean(0)
            top = first_best(mean)
            if best is None or mean[top] > best[0]:
                best = mean[top], own[:, top], lr, LAMBDAS[top], found[top].clone()
        _, own, lr, weight, projection = best
        for t, score in zip(group, own.tolist(), strict=True):
            self.choices.choose(t, "val", score, **{"lr": lr, "lambda": weight})
        return projection


@TRAINER_REGISTRY.register()
class ProLIP(FittedTrainer):
    """The image projection, learned near CLIP's own. DATALOADER.VIEWS is V; 0: as many views as steps."""

    section = "PROLIP"

    def problems(self, cfg) -> list[str]:
        c = cfg.TRAINER.PROLIP
        found = super().problems(cfg) + self.output_problems(cfg, "features before a last projection")
        if -1 < c.LAMBDA < 0:
            found.append(f"{KEY}LAMBDA {c.LAMBDA}: expected a weight >= 0, or -1 for 1 / shots")
        return found

    @classmethod
    def build_learner(cls, cfg, tower: TextTower, space: TaskSpace) -> ProjectedImages:
        c = cfg.TRAINER.PROLIP
        data = {"shots": max(cfg.DATASET.NUM_SHOTS, 0), "views": cfg.DATALOADER.VIEWS or c.STEPS}
        own = {"per_task": c.TSC, "weight": c.LAMBDA, "power": c.LAMBDA_POWER, **arguments(c, "STEPS", "LR", "SEARCH")}
        return ProjectedImages(tower, space, **own, **data)
