"""Hard sharing: CoOp (Zhou et al., "Learning to Prompt for Vision-Language Models") on many tasks at once, trainer name
MTCoOpHard.

CoOp-MT: one context for all tasks. CoOp-CA (TSC): one per task. CoOp-CS (CSC): one per class.
"""

from __future__ import annotations

from torch import Tensor, nn

from clip.text_tower import TextTower
from dassl.config import declare
from dassl.data.tasks import TaskSpace
from dassl.engine import TRAINER_REGISTRY

from .base import PRECISION_HELP, PRECISIONS, MultiTaskTrainer
from .prompts import POSITIONS, PromptLearner, class_owners, init_problems

KEY = "TRAINER.MTCOOPH."
declare(KEY + "PREC", "fp16", allowed=PRECISIONS, help=PRECISION_HELP)
declare(KEY + "N_CTX", 16, help="L, context tokens")
declare(KEY + "CTX_INIT", "", help="initial words of the context; they set its length")
declare(KEY + "CSC", False, help="a context of its own for every class (CoOp-CS)")
declare(KEY + "TSC", False, help="a context of its own for every task (CoOp-CA)")
declare(KEY + "TOKEN_POSITION", "end", allowed=POSITIONS, help="of the class name")


class HardSharedPrompts(nn.Module):
    """Learnable contexts and their text features: `forward(select (N',)) -> (N', d)`.

    Parameters (published names): `prompt_learner.ctx` (L, D) or (N, L, D), or `prompt_learner.learners.<t>.ctx` (L, D).
    """

    def __init__(
        self,
        tower: TextTower,
        space: TaskSpace,
        *,
        n_ctx: int = 16,
        init: str = "",
        position: str = "end",
        sharing: str = "all",
    ):
        super().__init__()
        self.tower = tower
        self.prompt_learner = PromptLearner(
            tower,
            space.classnames,
            n_ctx,
            init,
            position,
            sharing,
            task_of_name=space.task_of_column,
            owners=class_owners(space) if sharing == "class" else [task.owner for task in space.tasks],
        )

    def forward(self, select: Tensor) -> Tensor:
        return self.tower(self.prompt_learner(select))


@TRAINER_REGISTRY.register()
class MTCoOpHard(MultiTaskTrainer):
    """CoOp-MT, CoOp-CA and CoOp-CS; and what all methods share that learn contexts as CoOp does.

    Their settings N_CTX, CTX_INIT and TSC, with CSC and the position of the class name where they have them, are given
    to a module `prompts`.
    """

    section = "MTCOOPH"
    prompts: type[nn.Module] = HardSharedPrompts
    position = "TOKEN_POSITION"  # what the section calls the position of the class name; "": it stands at the end
    words_set_length = True  # False: initial words have to be as many tokens as N_CTX says

    def problems(self, cfg) -> list[str]:
        c, key, found = cfg.TRAINER[self.section], f"TRAINER.{self.section}.", []
        if c.get("CSC") and c.TSC:
            found.append(
                f"{key}CSC True and {key}TSC True exclude each other: a context is one per class or one per task"
            )
        if c.N_CTX < 1 and not c.CTX_INIT:
            found.append(f"{key}N_CTX {c.N_CTX}: expected at least 1 (published: 16)")
        return found if self.words_set_length else found + init_problems(key, c.N_CTX, c.CTX_INIT)

    def meaning(self, c) -> dict[str, object]:
        return {self.position: c[self.position]} if self.position else {}

    @classmethod
    def options(cls, c) -> dict:
        """Keyword arguments of `prompts` out of the section `c`."""
        sharing = "class" if c.get("CSC") else "task" if c.TSC else "all"
        found = {"n_ctx": c.N_CTX, "init": c.CTX_INIT, "sharing": sharing}
        return found | ({"position": c[cls.position]} if cls.position else {})

    @classmethod
    def build_learner(cls, cfg, tower: TextTower, space: TaskSpace) -> nn.Module:
        return cls.prompts(tower, space, **cls.options(cfg.TRAINER[cls.section]))
