"""ProGrad (Zhu et al., "Prompt-aligned Gradient for Prompt Tuning"): CoOp whose steps do not go against zero-shot CLIP.

Two gradients of each context: g_ce of the cross-entropy, and g_kl of the divergence KL(hand || prediction) from CLIP
with hand-made prompts, whose negative is the "general direction". Where the two conflict, what g_ce has against g_kl is
taken out: with u = g_kl / ||g_kl||,

    g = g_ce - lambda (g_ce . u) u   if g_ce . g_kl < 0,   else g = g_ce.

On a suite both losses are over the classes of each image's own task, means over the batch. With TSC each task's context
is a tensor of its own, so each task's gradients are projected by themselves, as in a run of the task alone.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from clip.text_tower import TextTower
from dassl.config import at_least, declare
from dassl.data.tasks import Task, TaskSpace
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import UserError

from .base import PRECISION_HELP, PRECISIONS
from .losses import cosine_logits
from .mtcoop_hard import HardSharedPrompts, MTCoOpHard
from .prompts import POSITIONS
from .zsclip import HandPrompts

KEY = "TRAINER.PROGRAD."
declare(KEY + "PREC", "fp16", allowed=PRECISIONS, help=PRECISION_HELP)
declare(KEY + "N_CTX", 16, allowed=at_least(1), help="L, context tokens")
declare(KEY + "CTX_INIT", "", help="initial words of the context, of N_CTX tokens; '': drawn from N(0, 0.02)")
declare(KEY + "CSC", False, help="a context of its own for every class; all of them are one tensor in the projection")
declare(KEY + "TSC", False, help="a context of its own for every task, for joint runs on a suite")
declare(KEY + "CLASS_TOKEN_POSITION", "end", allowed=POSITIONS, help="of the class name")
declare(KEY + "LAMBDA", 1.0, allowed=at_least(0), help="share of the conflicting part that is taken out")
declare(
    KEY + "TASK_LAMBDA",
    "",
    help="LAMBDA of single tasks, such as 'EuroSAT=0.8,OxfordFlowers=0.8' (keys of tasks); the others have LAMBDA",
)
declare(KEY + "T", 1.0, help="temperature of both sides of the KL divergence")

# The published hand prompts; a task that is not here has its own zero-shot template.
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
    """The hand prompt that a task is aligned with."""
    return TEMPLATES.get(task.key, task.templates[0])


def task_rates(text: str) -> dict[str, float]:
    """{key of a task: LAMBDA} of TRAINER.PROGRAD.TASK_LAMBDA. Raises UserError for what cannot be read."""
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
                "'EuroSAT=0.8'; several are separated by commas"
            )
    return rates


def divergence(teacher: Tensor, student: Tensor, own: Tensor, temperature: float) -> Tensor:
    """T^2 KL(teacher || student) of the softmax over each sample's own columns at temperature T: the mean of B samples.

    The published code leaves out the teacher's entropy, a constant: its numbers are larger, its gradients the same.
    teacher, student: logits (B, N'); own (B, N'): True on the columns of each sample's task.
    """
    log_p, log_q = (
        (logits / temperature).masked_fill(~own, float("-inf")).log_softmax(-1).masked_fill(~own, 0.0)
        for logits in (teacher, student)
    )
    return temperature**2 * (own * log_p.exp() * (log_p - log_q)).sum(-1).mean()


def aligned(gradient: Tensor, general: Tensor, rate: float) -> Tensor:
    """`gradient` without `rate` times its part against `general`; unchanged where they agree (both of any one shape).

    `general` may be zero, as for a task that is not in the batch.
    """
    length = general.double().norm().to(general.dtype)  # squares of small gradients would vanish in fp32
    direction = general / length.clamp_min(torch.finfo(general.dtype).tiny)
    return gradient - rate * (gradient * direction).sum().clamp(max=0) * direction


@TRAINER_REGISTRY.register()
class ProGrad(MTCoOpHard):
    """One forward, two backward passes and one optimiser step a batch."""

    section = "PROGRAD"
    position = "CLASS_TOKEN_POSITION"
    words_set_length = False

    def problems(self, cfg) -> list[str]:
        c, found = cfg.TRAINER.PROGRAD, super().problems(cfg)
        if c.T <= 0:
            found.append(f"{KEY}T {c.T}: expected a temperature above 0 (published: 1)")
        try:
            task_rates(c.TASK_LAMBDA)
        except UserError as error:
            found.append(str(error))
        return found

    @classmethod
    def build_learner(cls, cfg, tower: TextTower, space: TaskSpace) -> HardSharedPrompts:
        learner = super().build_learner(cfg, tower, space)
        c, keys = cfg.TRAINER.PROGRAD, [task.key for task in space.tasks]
        given = task_rates(c.TASK_LAMBDA)
        if absent := [key for key in given if key not in keys]:
            print(f"{KEY}TASK_LAMBDA: not among the tasks of this run: {', '.join(absent)}")
        learner.rates = [given.get(key, c.LAMBDA) for key in keys]
        if len(set(learner.rates)) > 1 and not c.TSC:
            raise UserError(
                f"{KEY}TASK_LAMBDA {c.TASK_LAMBDA!r}: these tasks share a tensor of contexts, which has one LAMBDA; "
                f"give {KEY}TSC True, a context for every task"
            )
        learner.hand = HandPrompts(tower, space, [(template(task),) for task in space.tasks])  # no parameters
        return learner

    def step(self, features: Tensor, columns: Tensor, task: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        with self.autocast():
            text = self.model(columns)  # (N', d)
        logits = cosine_logits(features, text, self.scale)  # (B, N')
        hand = cosine_logits(features, self.model.hand(columns), self.scale)
        own = self.task_of_column[columns] == task[:, None]
        self.kl = divergence(hand, logits, own, self.cfg.TRAINER.PROGRAD.T)
        return self.loss(logits, columns, task, target), logits

    def model_backward(self, loss: Tensor) -> None:
        """Gradients of `loss`, aligned with those of `self.kl`, into the parameters.

        Under PREC amp both losses have the scaler's factor. It cancels in the direction, so the aligned gradient has
        that factor too, as the scaler expects.
        """
        learned = [parameter for parameter in self.model.parameters() if parameter.requires_grad]  # one, or one a task
        kl = self.kl if self.scaler is None else self.scaler.scale(self.kl)
        general = torch.autograd.grad(kl, learned, retain_graph=True)
        self.kl = self.kl.detach()  # what it was computed from is not kept until the next step
        super().model_backward(loss)
        rates = self.model.rates[: len(learned)]  # contexts that are shared have the same for all tasks
        for parameter, direction, rate in zip(learned, general, rates, strict=True):
            parameter.grad = aligned(parameter.grad, direction, rate)

    def forward_backward(self, batch: dict) -> dict[str, float]:
        return {**super().forward_backward(batch), "kl": self.kl.item()}
