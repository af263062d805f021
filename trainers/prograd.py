"""ProGrad (Zhu et al., "Prompt-aligned Gradient for Prompt Tuning"): CoOp whose steps do not contradict zero-shot CLIP.

Each context has two gradients: g_ce of the cross-entropy, and g_kl of the divergence KL(hand || prediction) from CLIP
with hand-made prompts; the negative of g_kl is the "general direction". If they conflict, the component of g_ce against
g_kl is removed: with u = g_kl / ||g_kl||,

    g = g_ce - lambda (g_ce . u) u   if g_ce . g_kl < 0,   else g = g_ce.

On a suite, both losses are means over the batch, and each image is classified within its own task. With TSC each task's
context is a separate tensor, so the gradients of each task are projected separately, as in a single-task run.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from clip.text_tower import TextTower
from dassl.config import above, at_least, declare
from dassl.data.tasks import Task, TaskSpace
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import UserError

from .base import Step
from .contexts import ContextLearner, ContextTrainer
from .losses import cosine_logits, divergence
from .settings import declare_shared

KEY = "TRAINER.PROGRAD."
declare_shared("PROGRAD", PREC="fp16", N_CTX=16, CTX_INIT="", CSC=False, TSC=False, CLASS_TOKEN_POSITION="end")
declare(KEY + "LAMBDA", 1.0, allowed=at_least(0), help="share of the conflicting part of the gradient that is removed")
declare(
    KEY + "TASK_LAMBDA",
    "",
    help="LAMBDA of single tasks by key, e.g. 'EuroSAT=0.8,OxfordFlowers=0.8'; other tasks use LAMBDA",
)
declare(KEY + "T", 1.0, allowed=above(0), help="temperature of both sides of the KL divergence")

# The published hand-made prompts; all other tasks use their zero-shot template.
TEMPLATES = {
    "Caltech101": "a photo of a {}.",
    "DescribableTextures": "a texture of {}.",
    "EuroSAT": "a centered satellite photo of {}.",
    "FGVCAircraft": "a type of aircraft, a photo of a {}.",
    "Food101": "a type of food, a photo of {}.",
    "OxfordFlowers": "a type of flower, a photo of a {}.",
    "OxfordPets": "a type of pet, a photo of a {}.",
    "StanfordCars": "a photo of a {}.",
    "SUN397": "a photo of a {}.",
    "UCF101": "a photo of a person doing {}.",
}


def template(task: Task) -> str:
    """Hand-made prompt with which a task is aligned."""
    return TEMPLATES.get(task.key, task.templates[0])


def task_rates(text: str) -> dict[str, float]:
    """Parse TRAINER.PROGRAD.TASK_LAMBDA into {key of a task: LAMBDA}. Raises UserError if it is malformed."""
    rates = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        key, _, rate = (word.strip() for word in part.partition("="))
        try:
            rates[key] = float(rate)
        except ValueError:
            rates[key] = math.nan
        if not key or not 0 <= rates[key] < math.inf:
            raise UserError(
                f"{KEY}TASK_LAMBDA {text!r}: {part!r} is not a task's key and a number of at least 0, such as "
                "'EuroSAT=0.8'; separate several tasks by commas"
            )
    return rates


def aligned(gradient: Tensor, general: Tensor, rate: float) -> Tensor:
    """Remove `rate` times the component of `gradient` against `general`; unchanged if they do not conflict.

    Both have the same, arbitrary shape. `general` may be zero, e.g. for a task that is not in the batch.
    """
    length = general.double().norm().to(general.dtype)  # squares of small gradients would vanish in fp32
    direction = general / length.clamp_min(torch.finfo(general.dtype).tiny)
    return gradient - rate * (gradient * direction).sum().clamp(max=0) * direction


class AlignedContexts(ContextLearner):
    """Learner with contexts, the published hand-made prompts, and the lambda of each task (`rates`)."""

    def __init__(self, tower: TextTower, space: TaskSpace, *, rates: list[float], **options):
        super().__init__(tower, space, **options)
        self.rates = rates
        self.hand_templates = [(template(task),) for task in space.tasks]


@TRAINER_REGISTRY.register()
class ProGrad(ContextTrainer):
    """One forward pass, two backward passes and one optimiser step per batch."""

    section = "PROGRAD"

    def problems(self, cfg) -> list[str]:
        c, found = cfg.TRAINER.PROGRAD, super().problems(cfg)
        try:
            task_rates(c.TASK_LAMBDA)
        except UserError as error:
            found.append(str(error))
        return found

    @classmethod
    def build_learner(cls, cfg, tower: TextTower, space: TaskSpace) -> AlignedContexts:
        c, keys = cfg.TRAINER.PROGRAD, [task.key for task in space.tasks]
        given = task_rates(c.TASK_LAMBDA)
        if absent := [key for key in given if key not in keys]:
            print(f"{KEY}TASK_LAMBDA: not among the tasks of this run: {', '.join(absent)}")
        rates = [given.get(key, c.LAMBDA) for key in keys]
        if len(set(rates)) > 1 and not c.TSC:
            raise UserError(
                f"{KEY}TASK_LAMBDA {c.TASK_LAMBDA!r}: these tasks share one tensor of contexts, which has one LAMBDA; "
                f"set {KEY}TSC True for one context per task"
            )
        return AlignedContexts(tower, space, rates=rates, **cls.options(c))

    def gradients(self, loss: Tensor, step: Step) -> None:
        """Compute gradients of `loss`, aligned with the gradients of the divergence from hand-made prompts.

        Under PREC amp the scaler scales both losses. The factor cancels in the direction, so the aligned gradient has
        the factor once, as the scaler expects.
        """
        hand = cosine_logits(step.frozen, self.model.hand_features()[step.columns], self.scale)
        own = self.task_of_column[step.columns] == step.task[:, None]
        kl = divergence(hand, step.logits, own, self.cfg.TRAINER.PROGRAD.T).mean()
        step.numbers["kl"] = kl.item()
        learned = [
            parameter for parameter in self.model.parameters() if parameter.requires_grad
        ]  # one, or one per task
        general = torch.autograd.grad(kl if self.scaler is None else self.scaler.scale(kl), learned, retain_graph=True)
        super().gradients(loss, step)
        rates = self.model.rates[: len(learned)]  # shared contexts have one lambda for all tasks
        for parameter, direction, rate in zip(learned, general, rates, strict=True):
            parameter.grad = aligned(parameter.grad, direction, rate)
