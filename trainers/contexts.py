"""Learner and trainer shared by all methods that learn contexts as CoOp does."""

from __future__ import annotations

from torch import Tensor

from clip.text_tower import TextTower
from dassl.data.tasks import TaskSpace

from .base import MultiTaskTrainer
from .learner import Learner
from .prompts import PromptLearner, init_problems
from .rows import class_owners, task_owners


class ContextLearner(Learner):
    """Learner with learnable contexts.

    Parameters (published names): `prompt_learner.ctx` (L, D) or (N, L, D), or `prompt_learner.learners.<t>.ctx` (L, D).

    Args:
        tower, space: as for every learner.
        sharing: "all", "task" or "class".
        prompts: PromptLearner or a subclass, which receives the other options.
    """

    def __init__(
        self,
        tower: TextTower,
        space: TaskSpace,
        *,
        sharing: str = "all",
        prompts: type[PromptLearner] = PromptLearner,
        **options,
    ):
        super().__init__(tower, space)
        owners = class_owners(space) if sharing == "class" else task_owners(space)
        self.prompt_learner = prompts(
            tower,
            space.classnames,
            sharing=sharing,
            task_of_name=space.task_of_column,
            owners=owners,
            **options,
        )

    def text(self, select: Tensor, added=None) -> Tensor:
        return self.tower(self.prompt_learner(select))

    def task_vectors(self) -> dict[str, Tensor]:
        prompts = self.prompt_learner
        if prompts.sharing != "task":
            return {}
        contexts, group = prompts.contexts(prompts.names.length.new_tensor(self.space.offsets[:-1]))
        return {"contexts": contexts[group]}


class ContextTrainer(MultiTaskTrainer):
    """Trainer of a method with contexts and the settings N_CTX, CTX_INIT and optionally CSC, TSC and a position."""

    learner: type[ContextLearner] = ContextLearner
    position = "CLASS_TOKEN_POSITION"  # setting for the position of the class name; "": at the end
    words_set_length = False  # True: the initial words set the context length, and N_CTX is ignored

    def problems(self, cfg) -> list[str]:
        c, key, found = cfg.TRAINER[self.section], f"TRAINER.{self.section}.", []
        if c.get("CSC") and c.get("TSC"):
            found.append(
                f"{key}CSC True and {key}TSC True exclude each other: a context is one per class or one per task"
            )
        if c.N_CTX < 1 and not c.CTX_INIT:
            found.append(f"{key}N_CTX {c.N_CTX}: expected at least 1 (published: 16)")
        if not self.words_set_length:
            found += init_problems(key, c.N_CTX, c.CTX_INIT, self.count_tokens(cfg, c.CTX_INIT))
        return found

    def load_critical_settings(self, c) -> dict[str, object]:
        return {self.position: c[self.position]} if self.position else {}

    @classmethod
    def options(cls, c) -> dict:
        """Keyword arguments of the learner from the section `c`."""
        sharing = "class" if c.get("CSC") else "task" if c.get("TSC") else "all"
        found = {"n_ctx": c.N_CTX, "init": c.CTX_INIT, "sharing": sharing}
        return found | ({"position": c[cls.position]} if cls.position else {})

    @classmethod
    def build_learner(cls, cfg, tower: TextTower, space: TaskSpace) -> ContextLearner:
        return cls.learner(tower, space, **cls.options(cfg.TRAINER[cls.section]))
