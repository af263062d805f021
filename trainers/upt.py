"""UPT (Zang et al., "Unified Vision and Language Prompt Learning") and the ablations of its Table 2, trainer name UPT.

A small transformer makes the prompts of both towers out of one set of tokens, at every layer. MODE joint trains
independent text and visual prompts together, shared has the same ones in both towers, mlp has an MLP in place of the
transformer. The paper states neither n nor heads, FFN width and epochs; see docs/methods.md for the defaults.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from clip.text_tower import TextTower
from dassl.config import declare
from dassl.data.tasks import TaskSpace
from dassl.engine import TRAINER_REGISTRY

from .base import PRECISION_HELP, PRECISIONS
from .prompted import PromptedLearner, PromptedTrainer, TaskPrompts
from .prompts import NameTokens
from .unified import UnifiedPrompts, declare_unified, unified_meaning, unified_problems, unified_settings

KEY = "TRAINER.UPT."
declare(KEY + "PREC", "fp16", allowed=PRECISIONS, help=PRECISION_HELP)
declare_unified(KEY)
declare(KEY + "TSC", False, help="unified prompts and a network of their own for every task of a suite")


class UnifiedLearner(PromptedLearner):
    """Prompts in both towers. `sets` is what is learned: called, it gives text (G, I_t, m, D) and visual
    (G, I_v, m, W), one set for all tasks (`shared`) or one for each. The text half is the context of the class prompts,
    replaced at each of its layers.
    """

    def __init__(self, tower: TextTower, space: TaskSpace, sets: nn.Module, m: int, shared: bool):
        super().__init__(space, shared, tower.device)
        self.tower, self.sets = tower, sets
        self.owners = [task.owner for task in space.tasks]
        self.names = NameTokens(tower, space.classnames)
        self.names.check(m)

    def prompts(self) -> tuple[Tensor, Tensor]:
        with torch.autocast(self.tower.device.type, enabled=False):  # the same in a step and in a test
            return self.sets()

    def forward(self, select: Tensor, text: Tensor | None = None) -> Tensor:
        text = self.prompts()[0] if text is None else text  # (G, I, m, D)
        present, group = self.owner[self.task_of_column[select]].unique(return_inverse=True)
        text = text[present]
        deep = text[:, 1:] if text.shape[1] > 1 else None
        return self.tower(self.names.fill(text[:, 0], group, select, deep))

    @torch.no_grad()
    def named_contexts(self, select: Tensor | None = None) -> Iterator[tuple[str, Tensor]]:
        """The text prompts of the first layer ("[generated] context", or "... of <task>", (m, D)), and the contexts of
        task prompts they come from.
        """
        task_prompts = getattr(self.sets, "task_prompt_learner", None)
        label = "context" if isinstance(self.sets, TaskPrompts) else "generated context"
        names = [label] if self.groups == 1 else [f"{label} of {owner}" for owner in self.owners]
        yield from zip(names, self.prompts()[0][:, 0], strict=True)
        if task_prompts is not None:
            yield from ((f"task prompt: {name}", context) for name, context in task_prompts.named_contexts())


def learned_sets(tower: TextTower, space: TaskSpace, *, shared: bool = True, **unified) -> UnifiedLearner:
    """A learner whose raw prompts and network are learned directly; `unified` as of `Unify`."""
    owners = None if shared else [task.owner for task in space.tasks]
    sets = TaskPrompts(lambda: UnifiedPrompts(tower, **unified), owners)
    return UnifiedLearner(tower, space, sets, unified["n_ctx"] // 2, shared)


@TRAINER_REGISTRY.register()
class UPT(PromptedTrainer):
    """Unified prompts, shared by all tasks or (TSC) one set for each."""

    section = "UPT"

    def problems(self, cfg) -> list[str]:
        return super().problems(cfg) + unified_problems(KEY, cfg.TRAINER.UPT)

    def meaning(self, c) -> dict[str, object]:
        return unified_meaning(c, self.text_tower.width)

    @classmethod
    def build_learner(cls, cfg, tower: TextTower, space: TaskSpace) -> UnifiedLearner:
        c = cfg.TRAINER.UPT
        return learned_sets(tower, space, shared=not c.TSC, **unified_settings(c))
