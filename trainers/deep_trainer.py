"""Trainer and settings of deep prompts in their published form, for MaPLe, IVLP, PromptSRC and CoPrompt.

In both towers the prompts of a layer replace the outputs of the prompts before; the visual prompts of the first layer
pass the tower's first LayerNorm. Tasks share the prompts as SHARING and TSC say.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from clip.text_tower import TextTower
from dassl.config import declare
from dassl.data.tasks import TaskSpace
from dassl.utils import UserError

from .base import MultiTaskTrainer
from .deep import DeepLearner
from .prompt_sets import (
    GeneratedPrompts,
    LearnedPrompts,
    TaskPrompts,
    declare_generated,
    generated_critical_settings,
    generated_problems,
    generated_settings,
)
from .rows import task_owners
from .settings import declare_shared


def declare_deep(section: str) -> None:
    """Declare how tasks share prompts, and the switch for a quirk of the published code."""
    key = f"TRAINER.{section}."
    declare_shared(section, TSC=False)
    declare(
        key + "SHARING",
        "hard",
        allowed=("hard", "soft"),
        help="hard: learned prompts, one set for all tasks or with TSC one per task; soft: generated from task names",
    )
    declare_generated(section)
    declare(
        key + "LEGACY_HALF_PROMPTS",
        False,
        help="round visual prompts and text prompts of later layers to fp16 in every pass, as the published code does",
    )


def first_words(tower: TextTower, n_ctx: int, init: str) -> tuple[Tensor | None, Tensor | None]:
    """Embeddings of initial words: (n_ctx, D) of the first tokens, and (M, D) of the others, which stay fixed.

    Without initial words: (None, None).
    """
    ids = tower.tokenizer.encode(init.replace("_", " "))
    if not ids:
        return None, None
    words = tower.embed(torch.tensor(ids))
    return words[:n_ctx].cpu(), words[n_ctx:]


def depth_of(key: str, depth: int, layers: int) -> int:
    """Number of layers with prompts; -1 stands for all `layers`. Raises UserError for more than there are."""
    if depth > layers:
        raise UserError(
            f"{key} {depth}: this CLIP has {layers} layers; expected at most {layers}, or -1 for all layers"
        )
    return layers if depth < 0 else depth


def drawn(shapes: list[tuple[int, int, int]], words: Tensor | None) -> list[nn.Parameter]:
    """Raw prompts of these shapes (I, n, width) from N(0, 0.02^2). Initial `words` (n, D) begin the first of them."""
    found = [torch.empty(*shape).normal_(std=0.02) for shape in shapes]
    if words is not None:
        found[0][0] = words
    return [nn.Parameter(prompts) for prompts in found]


class DeepTrainer(MultiTaskTrainer):
    """Trainer of a method with deep prompts; subclasses set `section` and define `maker`."""

    learner: type[DeepLearner] = DeepLearner

    @classmethod
    def maker(cls, c, tower: TextTower) -> nn.Module:
        """Build the maker of the prompts (see prompt_sets.py) from the section `c`."""
        raise TypeError(f"{cls.__name__} has no maker")

    @classmethod
    def text_prompts(cls, c) -> int:
        """Number of text prompts per layer; 0: none."""
        return c.N_CTX

    def problems(self, cfg) -> list[str]:
        c, key = cfg.TRAINER[self.section], f"TRAINER.{self.section}."
        found = generated_problems(key, c) + (self.text_problems(cfg) if self.text_prompts(c) else [])
        if c.TSC and c.SHARING == "soft":
            found.append(
                f"{key}TSC True and {key}SHARING soft exclude each other: task names generate the set of each task"
            )
        count, words = self.text_prompts(c), self.count_tokens(cfg, c.CTX_INIT)
        if 0 < words < count:
            found.append(
                f"{key}CTX_INIT {c.CTX_INIT!r} has {words} tokens for {count} text prompts: give at least {count}, or "
                f'{key}CTX_INIT "" for a random start'
            )
        return found

    def load_critical_settings(self, c) -> dict[str, object]:
        return generated_critical_settings(c) | {"CTX_INIT": c.CTX_INIT}  # initial words may leave fixed words

    @classmethod
    def build_learner(cls, cfg, tower: TextTower, space: TaskSpace) -> DeepLearner:
        c = cfg.TRAINER[cls.section]

        def maker() -> nn.Module:
            return cls.maker(c, tower)

        if c.SHARING == "soft":
            sets = GeneratedPrompts(tower, space, maker, **generated_settings(c))
        else:
            sets = TaskPrompts(lambda: LearnedPrompts(maker()), task_owners(space) if c.TSC else None)
        count = cls.text_prompts(c)
        words = first_words(tower, count, c.CTX_INIT)[1]
        return cls.learner(tower, space, sets, count, normed=True, words=words, round_prompts=c.LEGACY_HALF_PROMPTS)
