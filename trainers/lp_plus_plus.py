"""LP++ (Huang et al., "LP++: A Surprisingly Strong Linear Probe for Few-Shot CLIP", CVPR 2024), trainer name
LPPlusPlus.

A linear classifier whose rows are blended with the text features by one learned number per class, per task:

    l_k = f w_k + c_k + alpha_k f t_k        f, t_k: unit features of image and text; no temperature

w_k starts as the sum of the class's image features, c_k in U(+-1/sqrt d), all alpha_k as 250 times the mean f t_y over
the N training images. EPOCHS steps of the whole set: w and c by SGD with momentum 0.9 and the rate 4 N / L, L the
largest eigenvalue of F^T F; alpha in every tenth step by plain descent. The epoch is chosen on validation images, the
latest of the best, or given (EPOCH).

The published code never resets alpha's gradient, so each of its steps takes the sum of all gradients since the start,
with the rate N / (4 max_k sum_i (f_i t_k)^2). Here the gradient is that of the step, and the rate 16 times as large, as
the bound behind the rate of w allows. LEGACY_ACCUMULATED_ALPHA True gives the published sum and rate.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clip.text_tower import TextTower
from dassl.config import at_least, between, declare
from dassl.data.tasks import Task, TaskSpace
from dassl.engine import TRAINER_REGISTRY

from .base import FittedTrainer
from .blended_probe import Probe, descend, initial, rates
from .choices import Choices, samples_to_choose, scores
from .class_rows import seen_classes
from .learner import Learner
from .rows import OwnedRows, class_owners
from .samples import Samples, StartSamples, task_generator
from .settings import arguments, declare_shared

KEY = "TRAINER.LPPLUSPLUS."
SCHEDULE = {"momentum": 0.9, "alpha_every": 10}
declare_shared("LPPLUSPLUS", PREC="fp16", TEMPLATES="", CHOSEN_ON="val")
declare(KEY + "EPOCHS", 300, allowed=between(1, 100_000), help="steps of the whole training set, if EPOCH is 0")
declare(KEY + "EPOCH", 0, allowed=at_least(0), help="number of steps; 0: the best of EPOCHS is chosen")
declare(KEY + "AUGMENTED", True, help="fit one augmented view of each image, as published; False: the image itself")
declare(KEY + "LEGACY_ACCUMULATED_ALPHA", False, help="never reset alpha's gradient, with the published smaller rate")


class BlendedProbes(OwnedRows, Learner):
    """One LP++ classifier per task: `weight` (N, d), `bias` (N,), `alpha` (N,). New classes are refused.

    A task without training images is predicted by zero-shot CLIP. Arguments are the settings of the module; `seed`
    decides the initial biases.
    """

    def __init__(self, tower: TextTower, space: TaskSpace, *, epochs: int = 300, epoch: int = 0,
                 augmented: bool = True, accumulated: bool = False, chosen_on: str = "val", seed: int = 1):  # fmt: skip
        super().__init__(tower, space)
        self.epochs, self.given, self.chosen_on, self.seed = epochs, epoch, chosen_on, seed
        self.augmented, self.accumulated, self.schedule = augmented, accumulated, SCHEDULE
        self.weight = nn.Parameter(torch.zeros(space.num_classes, tower.output_dim))
        self.bias = nn.Parameter(torch.zeros(space.num_classes))
        self.alpha = nn.Parameter(torch.zeros(space.num_classes))
        self.choices = Choices(space, epoch=epoch or epochs)
        self.own(class_owners(space), "class", "classifier", ("weight", "bias", "alpha"))

    def text(self, select: Tensor, added=None) -> None:
        """Return None: the logits are not cosines of one text feature per class."""

    def logits(self, image: Tensor, text: None, columns: Tensor, task: Tensor | None = None) -> Tensor:
        probe = Probe(self.weight[columns], self.bias[columns], self.alpha[columns])
        return probe.logits(F.normalize(image.float(), dim=-1), self.hand_features()[columns])

    def start(self, samples: StartSamples) -> None:
        judges = [None] * self.space.num_tasks
        if not self.given:
            judges = samples_to_choose(samples, self.chosen_on, self.space, f"{KEY}EPOCH {self.epochs}")
        train = samples.views(1)[0] if self.augmented else samples.train
        for position, (task, own, judge) in enumerate(zip(self.space.tasks, train, judges, strict=True)):
            seen_classes(task, own.labels, "which are rarely predicted" if len(own.labels) else "which are zero-shot")
            self.alpha[self.space.columns(position)] = self.scale
            if len(own.labels):
                self.fit(position, own, judge)

    def first_bias(self, task: Task) -> Tensor:
        """Biases (C,) before the first step, which depend on the seed and the task."""
        bound, generator = self.weight.shape[1] ** -0.5, task_generator(self.seed, task)
        return torch.empty(len(task.classnames)).uniform_(-bound, bound, generator=generator)

    def fit(self, position: int, train: Samples, judge: Samples | None) -> None:
        """Train the classifier of the task at `position`; the images `judge` choose the epoch, if given."""
        task, columns, device = self.space.tasks[position], self.space.columns(position), self.weight.device
        images, labels = F.normalize(train.features.to(device), dim=-1), train.labels.to(device)
        texts = self.hand_features()[columns]
        lr, unit = rates(images, texts)
        probe = initial(images, labels, texts, self.first_bias(task).to(device))
        how = {"lr": lr, "lr_alpha": unit / 4 if self.accumulated else 4 * unit, "accumulated": self.accumulated}
        steps = descend(probe, images, labels, texts, epochs=self.given or self.epochs, **how, **self.schedule)
        judged = None if judge is None else F.normalize(judge.features.to(device), dim=-1)
        best, score, chosen = probe, -1.0, self.given
        for epoch, (_, probe) in enumerate(steps, 1):
            if judge is not None:
                predicted = probe.logits(judged, texts).argmax(1).cpu()
                found = scores(predicted[None], judge.labels, task).item()
                if found >= score:  # the latest of equals, as published
                    best, score, chosen = Probe(*(part.clone() for part in probe)), found, epoch
        for parameter, value in zip((self.weight, self.bias, self.alpha), best, strict=True):
            parameter[columns] = value
        if judge is not None:
            self.choices.choose(position, self.chosen_on, score, epoch=chosen)


@TRAINER_REGISTRY.register()
class LPPlusPlus(FittedTrainer):
    """Linear probe with class-wise shares of the text features."""

    section = "LPPLUSPLUS"

    def load_critical_settings(self, c) -> dict[str, object]:
        return {"TEMPLATES": c.TEMPLATES}

    @classmethod
    def build_learner(cls, cfg, tower: TextTower, space: TaskSpace) -> BlendedProbes:
        c = cfg.TRAINER.LPPLUSPLUS
        own = arguments(c, "EPOCHS", "EPOCH", "AUGMENTED", "CHOSEN_ON")
        return BlendedProbes(tower, space, accumulated=c.LEGACY_ACCUMULATED_ALPHA, seed=cfg.SEED, **own)
