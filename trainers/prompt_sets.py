"""How tasks share the prompts of both towers: one set for all, one set per task, or sets made from task names.

A *maker* is a module that turns raw prompts into the prompts of both towers. It has `shapes`, the shape (I, n, width)
of each kind of raw prompts; `initial()`, their initial values; and `forward(*raw) -> (text, visual)`: text prompts
(..., I_t, n, D) and visual prompts (..., I_v, m, W), or None for a tower without prompts. Leading axes pass through.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from clip.text_tower import TextTower
from dassl.config import between, declare
from dassl.data.tasks import TaskSpace

from .meta_networks import build_meta_network, meta_network_problems
from .prompts import NameTokens, PromptLearner
from .rows import TaskModules
from .settings import unread_problems

SOFT_ONLY = ("TASK_N_CTX", "PG_TYPE", "PG_HIDDEN", "PG_HEADS", "PG_LAYERS")


class LearnedPrompts(nn.Module):
    """Directly learned raw prompts `prompts.<i>`, and the maker `unify` that turns them into (text, visual) prompts."""

    def __init__(self, maker: nn.Module):
        super().__init__()
        self.unify = maker
        self.prompts = nn.ParameterList(maker.initial())

    def forward(self) -> tuple[Tensor | None, Tensor | None]:
        return self.unify(*self.prompts)


class TaskPrompts(TaskModules):
    """One module with prompts for all tasks, or one module per task. A call stacks their prompts: (G, …) each."""

    def forward(self) -> tuple[Tensor | None, ...]:
        parts = zip(*(own() for own in self), strict=True)
        return tuple(None if part[0] is None else torch.stack(part) for part in parts)


class GeneratedPrompts(nn.Module):
    """Prompts of T tasks, whose raw prompts a meta network makes from the text feature of each task's name (SoftCPT).

    Parameters: `prompt_gen.<i>`, one meta network per kind of raw prompts; `unify`, the maker, shared by all tasks;
    with `task_n_ctx` > 0 also `task_prompt_learner.ctx` (M, D).
    """

    def __init__(self, tower: TextTower, space: TaskSpace, maker: Callable[[], nn.Module], task_n_ctx: int = 0, **meta):
        super().__init__()
        self.tower = tower
        names = [task.name for task in space.tasks]
        if task_n_ctx:
            self.task_prompt_learner = PromptLearner(tower, names, task_n_ctx)
        else:
            self.features = frozen_features(tower, names)
        self.unify = maker()
        self.prompt_gen = nn.ModuleList(
            build_meta_network(dims=(tower.output_dim,), n_ctx=layers * count, width=width, **meta)
            for layers, count, width in self.unify.shapes
        )

    def task_features(self) -> Tensor:
        """Task features (T, d), not normalised, as in SoftCPT."""
        if hasattr(self, "task_prompt_learner"):
            return self.tower(self.task_prompt_learner())
        return self.features

    def forward(self) -> tuple[Tensor | None, Tensor | None]:
        f = self.task_features()
        raw = [
            network(f).unflatten(1, shape[:2])  # (T, I, n, width)
            for network, shape in zip(self.prompt_gen, self.unify.shapes, strict=True)
        ]
        return self.unify(*raw)


@torch.no_grad()
def frozen_features(tower: TextTower, names: list[str]) -> Tensor:
    """Text features (T, d) of task names without context: [SOS] name . [EOS]."""
    tokens = NameTokens(tower, names)
    tokens.check(0)
    empty = torch.zeros(1, 0, tower.width, device=tower.device)
    return tower(tokens.fill(empty, torch.zeros(len(names), dtype=torch.long, device=tower.device)))


def declare_generated(section: str) -> None:
    """Declare the settings of `GeneratedPrompts`, which are read with SHARING soft."""
    key = f"TRAINER.{section}."
    declare(
        key + "TASK_N_CTX",
        0,
        allowed=between(0, 1000),
        help="M, number of learnable context tokens of the task prompts, shared by tasks; 0: task features are fixed",
    )
    declare(
        key + "PG_TYPE", "lin", allowed=("lin", "mlp", "transformer"), help="meta network of SHARING soft, as in MTCoOp"
    )
    declare(
        key + "PG_HIDDEN", 0, allowed=between(0, 16_384), help="hidden width of mlp (0: D_u // 8), transformer (0: D_u)"
    )
    declare(key + "PG_HEADS", 8, allowed=between(1, 1024), help="attention heads of transformer")
    declare(key + "PG_LAYERS", 1, allowed=between(1, 100), help="layers of transformer")


def generated_problems(key: str, c) -> list[str]:
    """Contradictions among the settings of the section `c`, whose keys begin with `key`."""
    if c.SHARING == "soft":
        return meta_network_problems(key, c)
    return unread_problems(key, c, "SHARING", dict.fromkeys(SOFT_ONLY, ("soft",)))


def generated_critical_settings(c) -> dict[str, object]:
    """Settings of a section that a checkpoint's shapes do not reveal."""
    return {"PG_HEADS": c.PG_HEADS} if c.SHARING == "soft" and c.PG_TYPE == "transformer" else {}


def generated_settings(c) -> dict:
    """Keyword arguments of `GeneratedPrompts` from a section of the configuration."""
    meta = {"pg_type": c.PG_TYPE, "hidden": c.PG_HIDDEN, "heads": c.PG_HEADS, "layers": c.PG_LAYERS}
    return {"task_n_ctx": c.TASK_N_CTX, **meta}
