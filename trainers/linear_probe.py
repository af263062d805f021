"""LP-CLIP: logistic regression on frozen image features (Radford et al., "Learning Transferable Visual Models From
Natural Language Supervision", sec. 3.2; few-shot protocol of Zhou et al., "Learning to Prompt for Vision-Language
Models").

Each task uses scikit-learn's LogisticRegression (L-BFGS, L2) on the unnormalised features of its unaugmented training
images. C is chosen on min(shots, 4) validation images per class: the best of 1e6, 1e4, ..., 1e-6, refined by
eight bisection steps of log10 C within one decade to either side.
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
from dassl.config import at_least, between, declare
from dassl.data.tasks import Task, TaskSpace
from dassl.engine import TRAINER_REGISTRY
from dassl.metrics import METRICS
from dassl.utils import UserError, counted

from .base import FittedTrainer
from .choices import choice_metric
from .class_rows import ClassRows
from .samples import Samples, StartSamples
from .settings import arguments, declare_shared

KEY = "TRAINER.LINEARPROBE."
declare_shared("LINEARPROBE", PREC="fp16")
declare(KEY + "C", 0.0, allowed=at_least(0), help="inverse strength of the L2 penalty; 0: chosen on validation images")
declare(KEY + "STEPS", 8, allowed=between(1, 100), help="bisection steps in the search for C")
declare(KEY + "MAX_ITER", 1000, allowed=between(1, 1_000_000), help="maximum number of L-BFGS iterations")

DECADES = (6, 4, 2, 0, -2, -4, -6)  # log10 of the initial candidates


def search(score: Callable[[float], float], steps: int = 8) -> float:
    """Search log10 C as published: take the best candidate by score(log10 C), then bisect towards the better end.

    Ties select the first candidate, and in a bisection step the lower end. The better end of the last step is returned,
    even if an earlier value was better. No value is scored twice.
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
    """One logistic regression per task.

    Parameters: `weight` (N, d) and `bias` (N,); the buffer `c` (N,) is the C of each class's task, NaN if the training
    images of the task have fewer than two classes.

    Args:
        tower, space: as for every learner.
        c: inverse strength of the penalty; 0: chosen on validation images.
        steps: number of bisection steps in the search.
        max_iter: maximum number of L-BFGS iterations.
    """

    def __init__(self, tower: TextTower, space: TaskSpace, *, c: float = 0.0, steps: int = 8, max_iter: int = 1000):
        super().__init__(tower, space)
        self.given, self.steps, self.max_iter = c, steps, max_iter
        self.weight = nn.Parameter(torch.zeros(space.num_classes, tower.output_dim))
        self.bias = nn.Parameter(torch.zeros(space.num_classes))
        self.register_buffer("c", torch.full((space.num_classes,), math.nan))

    def start(self, samples: StartSamples) -> None:
        super().start(samples)
        for position, task in enumerate(self.space.tasks):
            val = None if self.given else samples.val[position]
            self.fit(position, task, samples.train[position], val)

    def predict(self, features: Tensor, columns: Tensor) -> Tensor:
        return features @ self.weight[columns].t() + self.bias[columns]

    def fit(self, position: int, task: Task, train: Samples, val: Samples | None) -> None:
        from sklearn.exceptions import ConvergenceWarning  # slow import, used by this method only
        from sklearn.linear_model import LogisticRegression

        present = train.labels.unique()
        columns = self.space.columns(position)
        if len(present) < 2:  # a classifier needs two classes
            return
        if val is not None and not len(val.labels):
            raise UserError(
                f"{KEY}C is chosen on validation images, but task {task.id} ({task.name}) has none; set {KEY}C"
            )
        x, y = train.features.double().numpy(), train.labels.numpy()

        @cache
        def fitted(exponent: float) -> LogisticRegression:
            model = LogisticRegression(C=10.0**exponent, solver="lbfgs", max_iter=self.max_iter)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)  # reported below, for the selected model
                return model.fit(x, y)

        def score(exponent: float) -> float:
            predicted = fitted(exponent).predict(val.features.double().numpy())
            return METRICS.get(choice_metric(task))(predicted, val.labels.numpy())

        exponent = math.log10(self.given) if val is None else search(score, self.steps)
        model = fitted(exponent)
        weight, bias = model.coef_, model.intercept_
        if len(present) == 2:  # the model has one row, for the second class
            weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
        rows = columns.start + present
        self.weight[rows] = torch.from_numpy(weight).to(self.weight)
        self.bias[rows] = torch.from_numpy(bias).to(self.bias)
        self.c[columns] = 10.0**exponent
        chosen = ""
        if val is not None:
            chosen = f", validation {choice_metric(task)} {score(exponent):.2f}% ({counted(len(val.labels), 'image')})"
        limit = "; L-BFGS stopped at MAX_ITER" if max(model.n_iter_) >= self.max_iter else ""
        print(f"task {task.id} ({task.name}): C {10.0**exponent:.3g}{chosen}{limit}")


@TRAINER_REGISTRY.register()
class LinearProbe(FittedTrainer):
    """Linear probe: one logistic regression per task.

    The search maximises the metric of the task (see `dassl.metrics`). With the same number of validation images per
    class, this equals the accuracy of the published search. Classes without training images are never predicted.
    results.json contains the C of each task under `C`.
    """

    section = "LINEARPROBE"

    @classmethod
    def build_learner(cls, cfg, tower: TextTower, space: TaskSpace) -> LinearClassifiers:
        return LinearClassifiers(tower, space, **arguments(cfg.TRAINER.LINEARPROBE, "C", "STEPS", "MAX_ITER"))

    def test(self, split: str | None = None) -> float:
        found = [self.model.c[self.space.columns(t)][0].item() for t in range(self.space.num_tasks)]
        keys = [task.key for task in self.space.tasks]
        self.run_extra["C"] = {key: None if math.isnan(c) else c for key, c in zip(keys, found, strict=True)}
        return super().test(split)
