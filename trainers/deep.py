"""Deep prompts in both towers: the learner that adds them, and how several tasks share them.

A *maker* is a module that turns raw prompts into the prompts of both towers. It has `shapes`, the shape (I, n, width)
of each kind of raw prompts; `initial()`, their initial values; and `forward(*raw) -> (text, visual)`: text prompts
(..., I_t, n, D) and visual prompts (..., I_v, m, W), or None for a tower without prompts. Leading axes pass through.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from clip.additions import Additions, Tokens, TowerAdditions
from clip.clip import tokenizer
from clip.text_tower import TextTower
from dassl.config import between, declare
from dassl.data.tasks import TaskSpace
from dassl.utils import UserError

from .learner import Learner
from .meta_networks import build_meta_network, meta_network_problems
from .prompts import NameTokens, PromptLearner
from .rows import TaskModules, task_owners
from .settings import declare_shared, is_changed

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
    return [f"{key}{name} {c[name]} needs {key}SHARING soft" for name in SOFT_ONLY if is_changed(key, c, name)]


def generated_critical_settings(c) -> dict[str, object]:
    """Settings of a section that a checkpoint's shapes do not reveal."""
    return {"PG_HEADS": c.PG_HEADS} if c.SHARING == "soft" and c.PG_TYPE == "transformer" else {}


def generated_settings(c) -> dict:
    """Keyword arguments of `GeneratedPrompts` from a section of the configuration."""
    meta = {"pg_type": c.PG_TYPE, "hidden": c.PG_HIDDEN, "heads": c.PG_HEADS, "layers": c.PG_LAYERS}
    return {"task_n_ctx": c.TASK_N_CTX, **meta}


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


# ---- settings of methods with prompts of published form (MaPLe, IVLP, PromptSRC, CoPrompt)


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


def deep_problems(key: str, c, n_text: int) -> list[str]:
    """Contradictions among the settings of the section `c`; `n_text`: text prompts per layer (0: none)."""
    found = generated_problems(key, c)
    if c.TSC and c.SHARING == "soft":
        found.append(
            f"{key}TSC True and {key}SHARING soft exclude each other: task names generate the set of each task"
        )
    words = len(tokenizer().encode(c.CTX_INIT.replace("_", " ")))
    if 0 < words < n_text:
        found.append(
            f"{key}CTX_INIT {c.CTX_INIT!r} has {words} tokens for {n_text} text prompts: give at least {n_text}, or "
            f'{key}CTX_INIT "" for a random start'
        )
    return found


def deep_critical_settings(c) -> dict[str, object]:
    """Settings of a section that a checkpoint's shapes do not reveal; initial words may leave fixed words."""
    return generated_critical_settings(c) | {"CTX_INIT": c.CTX_INIT}


def first_words(tower: TextTower, n_ctx: int, init: str) -> tuple[Tensor | None, Tensor | None]:
    """Embeddings of initial words: (n_ctx, D) of the first tokens, and (M, D) of the others, which stay fixed.

    Without initial words: (None, None).
    """
    ids = tokenizer().encode(init.replace("_", " "))
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


def build_deep(
    c,
    tower: TextTower,
    space: TaskSpace,
    maker: Callable[[], nn.Module],
    n_text: int,
    learner: type[DeepLearner] = DeepLearner,
) -> DeepLearner:
    """Learner with the prompts of `maker`, shared by tasks as the section `c` says."""
    if c.SHARING == "soft":
        sets = GeneratedPrompts(tower, space, maker, **generated_settings(c))
    else:
        sets = TaskPrompts(lambda: LearnedPrompts(maker()), task_owners(space) if c.TSC else None)
    words = first_words(tower, n_text, c.CTX_INIT)[1]
    return learner(tower, space, sets, n_text, normed=True, words=words, round_prompts=c.LEGACY_HALF_PROMPTS)
