"""LP-CLIP: logistic regression on frozen image features (Radford et al., "Learning Transferable Visual Models From
Natural Language Supervision", sec. 3.2; few-shot protocol of Zhou et al., "Learning to Prompt for Vision-Language
Models").

For each task: scikit-learn's LogisticRegression (L-BFGS, L2) on the unnormalised features of the unaugmented training
images. Its C is searched for on min(shots, 4) validation images a class: the best of 1e6, 1e4, ..., 1e-6, then eight
steps of bisection of log10 C in the interval of one decade to either side.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

from clip.text_tower import TextTower
from dassl.config import at_least, declare
from dassl.data.tasks import Task, TaskSpace
from dassl.engine import TRAINER_REGISTRY
from dassl.metrics import METRICS
from dassl.utils import UserError, counted

from .base import PRECISION_HELP, PRECISIONS
from .fitted import ClassRows, FittedTrainer, Samples

KEY = "TRAINER.LINEARPROBE."
declare(KEY + "PREC", "fp16", allowed=PRECISIONS, help=PRECISION_HELP)
declare(KEY + "C", 0.0, allowed=at_least(0), help="inverse strength of the L2 penalty; 0: searched for")
declare(KEY + "STEPS", 8, allowed=at_least(1), help="steps of bisection in the search of C")
declare(KEY + "MAX_ITER", 1000, allowed=at_least(1), help="iterations of L-BFGS at most")

DECADES = (6, 4, 2, 0, -2, -4, -6)  # log10 of the first candidates


def search(score: Callable[[float], float], steps: int = 8) -> float:
    """log10 C as published: the candidate with the best score(log10 C), then bisection towards the better end.

    The first of several best candidates counts, in a step the lower end. The better end of the last step is returned,
    whatever was seen before. No value is scored twice.
    """
    score = cache(score)
    peak = max(DECADES, key=score)
    low, high = peak - 1.0, peak + 1.0
    for _ in range(steps):
        middle = (low + high) / 2
        if score(low) < score(high):
            found, low = high, middle
        else:
            found, high = low, middle
    return found


class LinearClassifiers(ClassRows):
    """Linear classifiers of all tasks: `forward(features (B, d)) -> logits (B, N)`.

    Parameters: `weight` (N, d) and `bias` (N,); the buffer `c` (N,) holds the C of each class's task, NaN where none
    was needed.
    """

    rows_are = "the classifiers"

    def __init__(self, space: TaskSpace, width: int):
        super().__init__(space)
        self.weight = nn.Parameter(torch.zeros(space.num_classes, width))
        self.bias = nn.Parameter(torch.zeros(space.num_classes))
        self.register_buffer("c", torch.full((space.num_classes,), math.nan))

    def forward(self, features: Tensor) -> Tensor:
        return features @ self.weight.t() + self.bias


@TRAINER_REGISTRY.register()
class LinearProbe(FittedTrainer):
    """A logistic regression for each task.

    The number that the search maximises is the metric the task declares, from `dassl.metrics` like every other number
    here; with as many validation images of every class that is the accuracy of the published search. A class without
    training images is never predicted. results.json has the C of each task under `C`.
    """

    section = "LINEARPROBE"

    @property
    def needs_validation(self) -> bool:
        return not self.cfg.TRAINER.LINEARPROBE.C

    @classmethod
    def build_learner(cls, cfg, tower: TextTower, space: TaskSpace) -> LinearClassifiers:
        return LinearClassifiers(space, tower.output_dim)

    def fit(self, position: int, task: Task, train: Samples, val: Samples) -> None:
        from sklearn.exceptions import ConvergenceWarning  # slow to import, and only this method wants it
        from sklearn.linear_model import LogisticRegression

        present = train.labels.unique()
        columns = self.space.columns(position)
        if len(present) < 2:  # nothing to tell apart
            return
        c = self.cfg.TRAINER.LINEARPROBE
        if not c.C and not len(val.labels):
            raise UserError(
                f"{KEY}C is searched for on validation images, and task {task.id} ({task.name}) has none; give {KEY}C"
            )
        x, y = train.features.double().numpy(), train.labels.numpy()
        val_x, val_y = val.features.double().numpy(), val.labels.numpy()

        @cache
        def fitted(exponent: float) -> LogisticRegression:
            model = LogisticRegression(C=10.0**exponent, solver="lbfgs", max_iter=c.MAX_ITER)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)  # told below, of the model that is used
                return model.fit(x, y)

        def score(exponent: float) -> float:
            return METRICS.get(task.metric)(fitted(exponent).predict(val_x), val_y)

        exponent = math.log10(c.C) if c.C else search(score, c.STEPS)
        model = fitted(exponent)
        weight, bias = model.coef_, model.intercept_
        if len(present) == 2:  # one row, of the second class
            weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
        rows = columns.start + present
        self.model.weight[rows] = torch.from_numpy(weight).float().to(self.device)
        self.model.bias[rows] = torch.from_numpy(bias).float().to(self.device)
        self.model.c[columns] = 10.0**exponent
        chosen = "" if c.C else f", validation {task.metric} {score(exponent):.2f}% ({counted(len(val_y), 'image')})"
        limit = "; L-BFGS stopped at MAX_ITER" if max(model.n_iter_) >= c.MAX_ITER else ""
        print(f"task {task.id} ({task.name}): C {10.0**exponent:.3g}{chosen}{limit}")

    def logits(self, features: Tensor) -> Tensor:
        return self.model(features)

    def test(self, split: str | None = None) -> float:
        found = [self.model.c[self.space.columns(t)][0].item() for t in range(self.space.num_tasks)]
        keys = [task.key for task in self.space.tasks]
        self.run_extra["C"] = {key: None if math.isnan(c) else c for key, c in zip(keys, found, strict=True)}
        return super().test(split)
