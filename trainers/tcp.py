"""TCP (Yao, Zhang, Xu, "TCP: Textual-based Class-aware Prompt Tuning for Visual-Language Model", CVPR 2024), trainer
name TCP.

A small network maps the frozen text feature of each class to tokens of the class, which replace the outputs of the
learned context in front of one late layer of the text tower. Loss: CE + W (1 - mean_c cos(w_c, w_c^frozen)).

Each class has two sentences: the first N_CTX words of the prompt template are replaced by the context; the fixed
template gives the frozen feature. The published network and templates are tied to four tokens.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from open_clip.transformer import QuickGELU
from torch import Tensor, nn

from clip.additions import Additions, Tokens
from clip.text_tower import TextTower
from dassl.config import between, declare
from dassl.data.tasks import TaskSpace
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import UserError

from .base import Step
from .contexts import ContextLearner, ContextTrainer
from .prompts import prompt_parts
from .rows import TaskModules, task_owners
from .sentences import template_pairs
from .settings import declare_shared
from .templates import template_problems

KEY = "TRAINER.TCP."
declare_shared("TCP", PREC="fp16", N_CTX=4, CTX_INIT="", TSC=False)
declare(KEY + "W", 8.0, allowed=between(0, 1e6), help="weight of the distance to the frozen text features")
declare(
    KEY + "INSERT_LAYER", 8, allowed=between(0, 1000), help="layer, from 0, in front of which the class tokens enter"
)
declare(KEY + "INSERT_WEIGHT", 1.0, allowed=between(0, 1), help="share of the class tokens; the rest stays as it was")
declare(
    KEY + "TEMPLATES",
    "",
    help="YAML file {task: [prompt template, fixed template]}; '': as published, for other tasks their own template",
)


class ClassNetwork(nn.Module):
    """linear2(QuickGELU(linear1(G))): text features (N', d) to class tokens (N', n, D)."""

    def __init__(self, d: int, n_ctx: int, width: int):
        super().__init__()
        self.linear1, self.act, self.linear2 = nn.Linear(d, d // 4), QuickGELU(), nn.Linear(d // 4, n_ctx * width)
        self.n_ctx = n_ctx

    def forward(self, features: Tensor) -> Tensor:
        return self.linear2(self.act(self.linear1(features))).unflatten(-1, (self.n_ctx, -1))


class ClassAware(ContextLearner):
    """Learner with contexts, and one network for all tasks or (TSC) one per task.

    `templates`: (prompt, fixed) template of each task.
    """

    def __init__(
        self, tower: TextTower, space: TaskSpace, *, n_ctx: int, layer: int, share: float, templates, **options
    ):
        if layer >= len(tower.blocks):
            raise UserError(f"{KEY}INSERT_LAYER {layer}: the text tower has layers 0 to {len(tower.blocks) - 1}")
        parts = [prompt_parts(form, n_ctx) for form, _ in templates]
        around = [parts[task] for task in space.task_of_column.tolist()]
        super().__init__(tower, space, n_ctx=n_ctx, around=around, **options)
        owners = task_owners(space) if self.prompt_learner.sharing == "task" else None
        self.nets = TaskModules(lambda: ClassNetwork(tower.output_dim, n_ctx, tower.width), owners, "network")
        self.hand_templates = [(fixed,) for _, fixed in templates]
        self.layer, self.share = layer, share

    def class_tokens(self, select: Tensor) -> Tensor:
        """Tokens (N', n, D) of the classes `select` (N',)."""
        fixed = self.hand_features()[select]
        if len(self.nets) == 1:
            return self.nets[0](fixed)
        task = self.task_of_column[select]
        return torch.stack([self.nets[t](row) for t, row in zip(task.tolist(), fixed, strict=True)])

    def text(self, select: Tensor, added=None) -> Tensor:
        tokens = Tokens(self.class_tokens(select)[:, None], [self.layer], share=self.share)
        return self.tower(self.prompt_learner(select), Additions(tokens))


@TRAINER_REGISTRY.register()
class TCP(ContextTrainer):
    """Contexts with class tokens from frozen text features."""

    section = "TCP"
    position = ""

    def problems(self, cfg) -> list[str]:
        return (
            super().problems(cfg)
            + self.text_problems(cfg)
            + template_problems(cfg.TRAINER.TCP.TEMPLATES, KEY + "TEMPLATES")
        )

    def load_critical_settings(self, c) -> dict[str, object]:
        return {"INSERT_LAYER": c.INSERT_LAYER, "INSERT_WEIGHT": c.INSERT_WEIGHT}

    @classmethod
    def build_learner(cls, cfg, tower: TextTower, space: TaskSpace) -> ClassAware:
        c = cfg.TRAINER.TCP
        templates = template_pairs(c.TEMPLATES, space, KEY + "TEMPLATES")
        return ClassAware(
            tower, space, layer=c.INSERT_LAYER, share=c.INSERT_WEIGHT, templates=templates, **cls.options(c)
        )

    def loss(self, step: Step) -> tuple[Tensor, dict[str, float]]:
        cosine = F.cosine_similarity(step.text.float(), self.model.hand_features()[step.columns], dim=-1)
        apart = self.class_mean(1 - cosine, step)
        return super().loss(step) + self.cfg.TRAINER.TCP.W * apart, {"apart": apart.item()}
