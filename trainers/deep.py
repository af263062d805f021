"""The learner of prompts in both towers, in one set for all tasks or one set per task (see prompt_sets.py)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from clip.additions import Additions, Tokens, TowerAdditions
from clip.text_tower import TextTower
from dassl.data.tasks import TaskSpace

from .learner import Learner
from .prompt_sets import TaskPrompts
from .prompts import NameTokens
from .rows import task_owners


class DeepLearner(Learner):
    """Learner with prompts in both towers. Text prompts are the context of class prompts, replaced at their layers.

    Args:
        tower, space: as for every learner.
        sets: the learned module; a call returns text prompts (G, I_t, m, D) and visual prompts (G, I_v, m', W), with
            G = 1 for all tasks or G = T. Without text prompts, text features are those of hand-made prompts.
        m: number of text prompts per layer.
        dropout: dropout rate of the visual prompts.
        normed: the first layer's visual prompts pass the tower's first LayerNorm, see `Tokens`.
        words: (M, D) embeddings of fixed words between the text prompts and the class names.
        round_prompts: round visual prompts, and text prompts of later layers, to fp16 (published code).
    """

    def __init__(
        self,
        tower: TextTower,
        space: TaskSpace,
        sets: nn.Module,
        m: int,
        dropout: float = 0.0,
        normed: bool = False,
        words: Tensor | None = None,
        round_prompts: bool = False,
    ):
        super().__init__(tower, space)
        self.sets, self.dropout, self.normed, self.round_prompts = sets, dropout, normed, round_prompts
        self.owners = task_owners(space)
        self.names = NameTokens(tower, space.classnames)
        self.words = torch.zeros(0, tower.width, device=tower.device) if words is None else words
        self.names.check(m + len(self.words))

    def prompts(self) -> tuple[Tensor | None, Tensor | None]:
        """Text prompts (G, I_t, m, D) and visual prompts (G, I_v, m', W)."""
        with torch.autocast(self.tower.device.type, enabled=False):  # the same result in a step and in a test
            text, visual = self.sets()
        if self.round_prompts:
            text = None if text is None else torch.cat([text[:, :1], text[:, 1:].half().float()], 1)
            visual = None if visual is None else visual.half().float()
        return text, visual

    def additions(self) -> TowerAdditions:
        text, visual = self.prompts()
        dropout = self.dropout if self.training else 0.0
        return TowerAdditions(
            None if text is None else Additions(Tokens(text)),
            None if visual is None else Additions(Tokens(visual, dropout=dropout, normed=self.normed)),
        )

    def text(self, select: Tensor, added: Additions | None = None) -> Tensor:
        added = self.additions().text if added is None else added
        if added is None:
            return super().text(select)
        prompts = added.tokens.values  # (G, I, m, D)
        owner = self.task_of_column[select] if len(prompts) > 1 else torch.zeros_like(select)
        present, group = owner.unique(return_inverse=True)
        prompts = prompts[present]
        context = torch.cat([prompts[:, 0], self.words.expand(len(prompts), -1, -1)], 1)
        tokens = self.names.fill(context, group, select)
        if prompts.shape[1] == 1:
            return self.tower(tokens)
        return self.tower(tokens, Additions(Tokens(prompts[:, 1:], range(1, prompts.shape[1])), group=group))

    def task_vectors(self) -> dict[str, Tensor]:
        found = super().task_vectors()
        if not hasattr(self.sets, "task_features"):
            return found
        return {
            "task features": self.sets.task_features(),
            **{f"generated {key}": value for key, value in found.items()},
        }

    @torch.no_grad()
    def named_contexts(self, select: Tensor | None = None) -> Iterator[tuple[str, Tensor]]:
        """Yield (label, prompts (m, D)) of the text prompts of the first layer, and of learned task prompts.

        Labels are "[generated] context" or "[generated] context of <task>".
        """
        label = "context" if isinstance(self.sets, TaskPrompts) else "generated context"
        if (text := self.prompts()[0]) is not None:
            names = [label] if len(text) == 1 else [f"{label} of {o}" for o in self.owners]
            yield from zip(names, text[:, 0], strict=True)
        if (task_prompts := getattr(self.sets, "task_prompt_learner", None)) is not None:
            yield from ((f"task prompt: {name}", context) for name, context in task_prompts.named_contexts())
