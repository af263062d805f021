"""PLOT (Chen et al., "PLOT: Prompt Learning with Optimal Transport for Vision-Language Models"): a class has several
prompts.

Each class has M contexts, so M text features w_1 ... w_M, which are matched with the P local features x_1 ... x_P of an
image (its patches) by the cheapest transport plan at the cost 1 - cos (`sinkhorn.py`). A class's logit is

    s <plan, cos(w_m, x_p)>

with CLIP's scale s; the plan is a constant in the gradient. An image is matched with the classes of its own task only.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clip.text_tower import Prompts, TextTower
from dassl.config import at_least, declare
from dassl.data.tasks import TaskSpace
from dassl.engine import TRAINER_REGISTRY

from .base import PRECISION_HELP, PRECISIONS
from .mtcoop_hard import MTCoOpHard
from .prompts import POSITIONS, PromptLearner, class_owners
from .sinkhorn import transport_plan

KEY = "TRAINER.PLOT."
declare(KEY + "PREC", "fp16", allowed=PRECISIONS, help=PRECISION_HELP + "; so is the matching")
declare(KEY + "N", 4, allowed=at_least(1), help="M, prompts of each class")
declare(KEY + "N_CTX", 16, allowed=at_least(1), help="L, context tokens of each prompt")
declare(
    KEY + "CTX_INIT",
    "",
    help="initial words of the contexts, of N_CTX tokens; all prompts but the first add noise; '': N(0, 0.02)",
)
declare(KEY + "CSC", False, help="contexts of their own for every class")
declare(KEY + "TSC", False, help="contexts of their own for every task, for joint runs on a suite")
declare(KEY + "CLASS_TOKEN_POSITION", "end", allowed=POSITIONS, help="of the class name")
declare(KEY + "EPS", 0.1, help="weight of the plan's entropy, in units of the cost 1 - cos")
declare(KEY + "MAX_ITER", 100, allowed=at_least(1), help="most Sinkhorn iterations")
declare(KEY + "THRESH", 1e-2, allowed=at_least(0), help="mean change of the row scaling below which they stop")

PIECE = 2**26  # similarities that are matched at a time: 256 MB in fp32


class SeveralPrompts(PromptLearner):
    """M prompts in place of each one of PromptLearner's: `forward(select (N',)) -> Prompts`, M of each name in turn.

    Contexts have a dimension M before L: `ctx` (M, L, D), (N, M, L, D), or `learners.<t>.ctx` (M, L, D). Prompts that
    begin equal would get equal gradients and remain one prompt, so N(0, 0.02) noise is added to initial words for all
    but the first.
    """

    def __init__(self, tower: TextTower, names, n_prompts: int = 4, n_ctx: int = 16, init: str = "", **options):
        super().__init__(tower, names, n_ctx, init, **options)
        self.n_prompts = n_prompts
        for name, context in list(self.named_parameters()):
            module, _, leaf = name.rpartition(".")
            first = context.detach().unsqueeze(-3)  # (..., 1, L, D)
            others = torch.empty(*first.shape[:-3], n_prompts - 1, *first.shape[-2:]).normal_(std=0.02)
            every = torch.cat([first, first + others if init else others], -3)
            setattr(self.get_submodule(module), leaf, nn.Parameter(every))

    def named_contexts(self, select: Tensor | None = None) -> Iterator[tuple[str, Tensor]]:
        for name, contexts in super().named_contexts(select):
            yield from ((f"{name}, prompt {number}", context) for number, context in enumerate(contexts, 1))

    def forward(self, select: Tensor | None = None) -> Prompts:
        if select is None:
            select = torch.arange(len(self.names), device=self.names.length.device)
        contexts, group = self.contexts(select)  # (G, M, L, D), (N',)
        each = torch.arange(self.n_prompts, device=group.device)
        group = (group[:, None] * self.n_prompts + each).flatten()
        return self.names.fill(contexts.flatten(0, 1), group, select.repeat_interleave(self.n_prompts))


class TransportPrompts(nn.Module):
    """Text features of the prompts of each class: `forward(select (N',)) -> (N', M, d)`."""

    def __init__(self, tower: TextTower, space: TaskSpace, *, sharing: str = "all", **options):
        super().__init__()
        self.tower = tower
        owners = class_owners(space) if sharing == "class" else [task.owner for task in space.tasks]
        self.prompt_learner = SeveralPrompts(
            tower, space.classnames, sharing=sharing, task_of_name=space.task_of_column, owners=owners, **options
        )

    def forward(self, select: Tensor) -> Tensor:
        return self.tower(self.prompt_learner(select)).unflatten(0, (len(select), -1))


def match(
    local: Tensor, text: Tensor, eps: float = 0.1, max_iter: int = 100, threshold: float = 1e-2
) -> tuple[Tensor, Tensor]:
    """<plan, similarity> (B, C) of B images with C classes, and the plans' entropies (B, C) in nats, in fp32.

    local (B, P, d) and text (C, M, d) need not be normalised. Images beyond PIECE similarities are matched in pieces,
    each with its own end of iterations.
    """
    local, text = F.normalize(local.float(), dim=-1), F.normalize(text.float(), dim=-1)
    (B, P, _), (C, M, _) = local.shape, text.shape
    values, entropies = [], []
    for part in local.split(max(1, PIECE // (C * M * P))):
        similarity = torch.einsum("bpd,cmd->bcmp", part, text).flatten(0, 1)
        plan, entropy = transport_plan(similarity.detach(), eps, max_iter, threshold)
        values.append((plan * similarity).sum((1, 2)))
        entropies.append(entropy)
    return torch.cat(values).view(B, C), torch.cat(entropies).view(B, C)


@TRAINER_REGISTRY.register()
class PLOT(MTCoOpHard):
    """Images are their local features; those of a task are matched with its classes as in a run of the task alone."""

    section = "PLOT"
    prompts = TransportPrompts
    position = "CLASS_TOKEN_POSITION"
    words_set_length = False
    local_features = True

    def problems(self, cfg) -> list[str]:
        c, found = cfg.TRAINER.PLOT, super().problems(cfg)
        if c.EPS <= 0:
            found.append(f"{KEY}EPS {c.EPS}: expected a number above 0 (published: 0.1)")
        return found

    @classmethod
    def options(cls, c) -> dict:
        return super().options(c) | {"n_prompts": c.N}

    def _match(self, local: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, C) and the plans' entropies (B, C)."""
        c = self.cfg.TRAINER.PLOT
        values, entropy = match(local, text, c.EPS, c.MAX_ITER, c.THRESH)
        return self.scale.float() * values, entropy

    def _logits(self, local: Tensor, text: Tensor, task: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, N') over `columns` of local (B, P, d) with text (N', M, d), -inf outside of each image's `task`
        (B,), and the mean entropy of the plans.
        """
        logits = local.new_full((len(local), len(columns)), float("-inf"), dtype=torch.float32)
        entropies = []
        for t in task.unique():
            images, own = (task == t).nonzero()[:, 0], (self.task_of_column[columns] == t).nonzero()[:, 0]
            values, entropy = self._match(local[images], text[own])
            logits[images[:, None], own] = values
            entropies.append(entropy.flatten())
        return logits, torch.cat(entropies).mean()

    def step(self, features: Tensor, columns: Tensor, task: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        with self.autocast():
            text = self.model(columns)  # (N', M, d)
        logits, self.entropy = self._logits(features, text, task, columns)
        return self.loss(logits, columns, task, target), logits

    def forward_backward(self, batch: dict) -> dict[str, float]:
        return {**super().forward_backward(batch), "entropy": self.entropy.item()}

    def parse_batch_test(self, batch: dict) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """((images, task (B,)), labels): of the suite's classes only those of an image's task are matched with it."""
        images, label = super().parse_batch_test(batch)
        return (images, batch["task"].to(self.device)), label

    def model_inference(self, input: Tensor | tuple[Tensor, Tensor]) -> Tensor:
        """Logits (B, N) of images (B, 3, H, W); of (images, task (B,)) those of their own tasks, -inf elsewhere."""
        images, task = input if isinstance(input, tuple) else (input, None)
        local, text = self.encode_images(images), self.text_features()
        if task is not None:
            return self._logits(local, text, task, self.all_columns)[0]
        tasks = map(self.space.columns, range(self.space.num_tasks))
        return torch.cat([self._match(local, text[columns])[0] for columns in tasks], 1)
