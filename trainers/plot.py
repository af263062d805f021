"""PLOT (Chen et al., "PLOT: Prompt Learning with Optimal Transport for Vision-Language Models"): several prompts per
class.

Each class has M contexts, which give M text features w_1 ... w_M. The transport plan with the least cost matches them
with the P local features x_1 ... x_P of an image (its patches); the cost is 1 - cos (`sinkhorn.py`). The logit of a
class is

    s <plan, cos(w_m, x_p)>

with CLIP's scale s. The plan is treated as a constant in the gradient. Images are matched with the classes of their own
task only.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clip.additions import Additions, TowerAdditions
from clip.text_tower import Prompts, TextTower
from dassl.config import above, at_least, between, declare
from dassl.data.tasks import TaskSpace
from dassl.engine import TRAINER_REGISTRY

from .contexts import ContextLearner, ContextTrainer
from .prompts import PromptLearner
from .settings import declare_shared
from .sinkhorn import transport_plan

KEY = "TRAINER.PLOT."
declare_shared("PLOT", PREC="fp16", N_CTX=16, CSC=False, TSC=False, CLASS_TOKEN_POSITION="end")
declare(KEY + "N", 4, allowed=between(1, 1000), help="M, number of prompts per class")
declare(
    KEY + "CTX_INIT",
    "",
    help="initial words of the contexts (N_CTX tokens), with noise for all but the first prompt; '': N(0, 0.02)",
)
declare(
    KEY + "EPS", 0.1, allowed=above(0), help="weight of the entropy of the transport plan, in units of the cost 1 - cos"
)
declare(KEY + "MAX_ITER", 100, allowed=between(1, 1_000_000), help="maximum number of Sinkhorn iterations")
declare(
    KEY + "THRESH", 1e-2, allowed=at_least(0), help="Sinkhorn stops if the mean change of the row scaling is smaller"
)

PIECE = 2**26  # number of similarities matched at a time: 256 MB in fp32


class SeveralPrompts(PromptLearner):
    """Learn M prompts per name: `forward(select (N',)) -> Prompts`, the M prompts of a name one after the other.

    Contexts have a dimension M before L: `ctx` (M, L, D), (N, M, L, D), or `learners.<t>.ctx` (M, L, D). Identical
    prompts would get identical gradients and stay identical. So noise from N(0, 0.02) is added to initial words of all
    prompts but the first.
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


def match(
    local: Tensor, text: Tensor, eps: float = 0.1, max_iter: int = 100, threshold: float = 1e-2
) -> tuple[Tensor, Tensor]:
    """Match B images with C classes: <plan, similarity> (B, C), and entropies (B, C) of the plans in nats, in fp32.

    local (B, P, d) and text (C, M, d) need not be normalised. Images are matched in pieces of at most PIECE
    similarities; each piece stops its iterations separately.
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


class TransportPrompts(ContextLearner):
    """The learner of PLOT: text features (N', M, d) of M prompts per class, matched with local image features."""

    def __init__(
        self,
        tower: TextTower,
        space: TaskSpace,
        *,
        eps: float = 0.1,
        max_iter: int = 100,
        threshold: float = 1e-2,
        **own,
    ):
        super().__init__(tower, space, prompts=SeveralPrompts, **own)
        self.sinkhorn = eps, max_iter, threshold

    def additions(self) -> TowerAdditions:
        return TowerAdditions(image=Additions(local=True))

    def text(self, select: Tensor, added=None) -> Tensor:
        return super().text(select).unflatten(0, (len(select), -1))

    def logits(self, image: Tensor, text: Tensor, columns: Tensor, task: Tensor | None = None):
        """Logits (B, N') of local features (B, P, d), and the mean entropy of the plans.

        If the task of an image is known, the image is matched with the classes of this task only, as in a single-task
        run; all other logits are -inf.
        """
        logits = image.new_full((len(image), len(columns)), float("-inf"), dtype=torch.float32)
        entropies = []
        owner = self.task_of_column[columns]
        for t in (owner if task is None else task).unique():
            images = torch.arange(len(image), device=image.device) if task is None else (task == t).nonzero()[:, 0]
            own = (owner == t).nonzero()[:, 0]
            values, entropy = match(image[images], text[own], *self.sinkhorn)
            logits[images[:, None], own] = self.scale.float() * values
            entropies.append(entropy.flatten())
        return logits, {"entropy": torch.cat(entropies).mean().item()}


@TRAINER_REGISTRY.register()
class PLOT(ContextTrainer):
    """CoOp with several prompts per class and optimal transport instead of the cosine."""

    section = "PLOT"
    learner = TransportPrompts

    def problems(self, cfg) -> list[str]:
        return super().problems(cfg) + self.output_problems(cfg, "local tokens")

    @classmethod
    def options(cls, c) -> dict:
        return super().options(c) | {"n_prompts": c.N, "eps": c.EPS, "max_iter": c.MAX_ITER, "threshold": c.THRESH}
