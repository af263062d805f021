"""Prompts of names: contexts before, around or after the names of classes or tasks.

`NameTokens` holds the fixed token embeddings of the names and adds contexts to them. `PromptLearner` holds learnable
contexts, and how names share them. Both make `Prompts` for the text tower.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from clip.text_tower import Prompts, TextTower
from clip.tokenizers import pad_ids
from dassl.utils import UserError

from .rows import OwnedRows
from .settings import POSITIONS

SHARING = ("all", "task", "class")


class NameTokens:
    """Token embeddings of N names, to which a context of L tokens is added.

    A prompt is [SOS] context name . [EOS] (`end`), [SOS] name context . [EOS] (`front`), or has the first L // 2
    context tokens before the name and the rest after it (`middle`). [SOS] and [EOS] are the tokens that the tower's
    tokenizer puts around a text, if any. Underscores in names become spaces. `around` (for
    `end` only): words before and text after each name in place of "" and ".". This class is not a module, since names
    come from the data and are not part of a checkpoint.
    """

    def __init__(
        self,
        tower: TextTower,
        names: Sequence[str],
        position: str = "end",
        around: Sequence[tuple[str, str]] | None = None,
    ):
        if position not in POSITIONS:
            raise UserError(f"Token position {position!r}, expected one of {', '.join(POSITIONS)}.")
        tokens, device = tower.tokenizer, tower.device
        names = [name.replace("_", " ") for name in names]
        if empty := [index for index, name in enumerate(names) if not name.strip()]:
            raise UserError(f"Name number {empty[0]} is empty; every class and task needs a name.")
        # The name's own tokens within "name.": punctuation at its end may merge with the full stop.
        around = [("", ".")] * len(names) if around is None else around
        texts = [f"{before} {name}{after}" for name, (before, after) in zip(names, around, strict=True)]
        inside = position != "front"
        ids = [tokens.encode(text, inside) for text in texts]
        body = [min(len(tokens.encode(name, inside)), len(row)) for name, row in zip(names, ids, strict=True)]
        if 0 in body:
            raise UserError(
                f"The tokenizer of backbone {tower.clip.name} drops punctuation and leaves nothing of the name "
                f"{names[body.index(0)]!r}; every class and task needs a name with letters or digits."
            )
        body, ids = torch.tensor(body), [[*row, *tokens.end] for row in ids]
        table = pad_ids(ids, tokens.pad, max(map(len, ids)))
        self.names, self.position = names, position
        self.tokens = tower.embed(table)  # (N, S, D): the name, a full stop, [EOS]
        self.length = torch.tensor([len(row) for row in ids], device=device)  # (N,)
        self.name_length = body.to(device)  # (N,)
        self.start = tower.embed(torch.tensor(tokens.start, dtype=torch.long))  # (1, D); (0, D) without a start token
        self.context_length = tower.context_length

    def __len__(self) -> int:
        return len(self.names)

    def check(self, n_ctx: int) -> None:
        """Raise UserError if the longest name and `n_ctx` context tokens exceed the tower's context length."""
        worst = int(self.length.argmax())
        total = len(self.start) + n_ctx + int(self.length[worst])
        if total > self.context_length:
            raise UserError(
                f"The prompt of {self.names[worst]!r} takes {total} tokens with {n_ctx} context tokens, "
                f"but the text tower takes at most {self.context_length}: shorten the name or reduce N_CTX."
            )

    def fill(self, context: Tensor, group: Tensor, select: Tensor | None = None) -> Prompts:
        """Make prompts of the names `select` (N',) (default: all) with the contexts (G, L, D).

        `group` (N',): index of each name's context.
        """
        tokens, length, name_length = self.tokens, self.length, self.name_length
        if select is not None:
            tokens, length, name_length = tokens[select], length[select], name_length[select]
        G, L, D = context.shape
        before = {"end": L, "middle": L // 2, "front": 0}[self.position]
        # With one context per prompt, the prompts share nothing but [SOS].
        if G == len(length) > 1 and L > 0:
            prefix = self.start[None]
            tokens = torch.cat([context[group][:, :before], tokens], 1)
            length, name_length = length + before, name_length + before
            owner = torch.zeros_like(group)
        else:
            prefix = torch.cat([self.start.expand(G, -1, -1), context[:, :before]], 1)  # (G, 1 + before, D)
            owner = group
        if before < L:
            tokens = _insert(tokens, name_length, context[group][:, before:])
            length = length + L - before
        return Prompts(prefix, tokens, owner, length)


def prompt_parts(template: str, n_ctx: int) -> tuple[str, str]:
    """Words between context and class name, and the text after the name, of a template whose first words the context
    replaces: "X X X X person {}." -> ("person", "."). With fewer words than `n_ctx` in front of the name: none remain.
    """
    before, after = template.split("{}")
    return " ".join(before.split()[n_ctx:]), after


def _insert(tokens: Tensor, position: Tensor, piece: Tensor) -> Tensor:
    """Insert `piece` (N, K, D) into `tokens` (N, S, D) before the `position` (N,) of each row: (N, S + K, D)."""
    (_, S, D), K = tokens.shape, piece.shape[1]
    step = torch.arange(S + K, device=position.device)
    first = position[:, None]
    # index of each output token in cat([tokens, piece])
    source = torch.where(step < first, step, torch.where(step < first + K, S + step - first, step - K))
    return torch.cat([tokens, piece], 1).gather(1, source[..., None].expand(-1, -1, D))


class PromptLearner(OwnedRows):
    """Learnable prompts for N names: `forward(select (N',)) -> Prompts`.

    The context is fp32. It is shared by all prompts, by the prompts of a task, or not shared. Parameters have the
    published names: `ctx` (L, D) for sharing "all", `ctx` (N, L, D) for "class", `learners.<t>.ctx` (L, D) for "task".

    Args:
        tower: embeds the names.
        names: N names.
        n_ctx: L.
        init: words whose token embeddings are the initial context and set L; "": random values from N(0, 0.02).
        position: position of the name, one of POSITIONS.
        sharing: "all", "task" or "class".
        task_of_name: (N,) task of each name, for sharing "task".
        owners: for sharing "task" or "class": name of each context's task or class in checkpoints.
        kind: "class" or "task": the kind of the names.
        around: see `NameTokens`.
    """

    per_task = ("learners",)  # module lists with one entry per task

    def __init__(
        self,
        tower: TextTower,
        names: Sequence[str],
        n_ctx: int = 16,
        init: str = "",
        position: str = "end",
        sharing: str = "all",
        task_of_name: Tensor | None = None,
        owners: Sequence[str] = (),
        kind: str = "class",
        around: Sequence[tuple[str, str]] | None = None,
    ):
        super().__init__()
        if sharing not in SHARING:
            raise UserError(f"Context sharing {sharing!r}, expected one of {', '.join(SHARING)}.")
        words = tower.tokenizer.encode(init.replace("_", " ")) if init else []
        self.n_ctx = len(words) or n_ctx
        if self.n_ctx < 1:
            raise UserError(f"{n_ctx} context tokens: a learnable prompt needs at least one (N_CTX).")
        self.names = NameTokens(tower, names, position, around)
        self.names.check(self.n_ctx)
        self.sharing, self.task_of_name = sharing, task_of_name

        start = tower.embed(torch.tensor(words)).cpu() if words else None  # (L, D)

        def fresh(*lead: int) -> nn.Parameter:
            if start is None:
                return nn.Parameter(torch.empty(*lead, self.n_ctx, tower.width).normal_(std=0.02))
            return nn.Parameter(start.expand(*lead, -1, -1).clone())

        if sharing == "task":
            tasks = len(owners) or int(task_of_name.max()) + 1
            self.learners = nn.ModuleList(nn.ParameterDict({"ctx": fresh()}) for _ in range(tasks))
        else:
            self.ctx = fresh(len(names)) if sharing == "class" else fresh()
        self.own(
            None if sharing == "all" else owners or names,
            kind if sharing == "class" else "task",
            "context",
            tensors=("ctx",) if sharing == "class" else (),
            lists=self.per_task if sharing == "task" else (),
        )

    def contexts(self, select: Tensor) -> tuple[Tensor, Tensor]:
        """Contexts (G, L, D) for the names `select` (N',), and the index (N',) of each name's context."""
        if self.sharing == "all":
            return self.ctx[None], torch.zeros_like(select)
        if self.sharing == "class":
            return self.ctx[select], torch.arange(len(select), device=select.device)
        present, group = self.task_of_name.to(select.device)[select].unique(return_inverse=True)
        # All contexts are stacked, so that absent tasks get zero gradients: momentum and weight decay act as published.
        return torch.stack([learner["ctx"] for learner in self.learners])[present], group

    def named_contexts(self, select: Tensor | None = None) -> Iterator[tuple[str, Tensor]]:
        """Yield (label, context (L, D)); the label is "context" or "context of <owner>".

        `select` (N',): if each name has its own context, the names to include (default: all).
        """
        if self.sharing == "all":
            yield "context", self.ctx
        elif self.sharing == "class":
            for index in range(len(self.names)) if select is None else select.tolist():
                yield f"context of {self.owners[index]}", self.ctx[index]
        else:
            for owner, learner in zip(self.owners, self.learners, strict=True):
                yield f"context of {owner}", learner["ctx"]

    def forward(self, select: Tensor | None = None) -> Prompts:
        if select is None:
            select = torch.arange(len(self.names), device=self.names.length.device)
        return self.names.fill(*self.contexts(select), select)


def named_contexts(learner: nn.Module, select: Tensor | None = None) -> Iterator[tuple[str, Tensor]]:
    """Yield (label, context (L, D)) of a learner, from its method `named_contexts` or else from its children.

    Learners that generate contexts, or store them differently from PromptLearner, define this method.
    """
    if hasattr(learner, "named_contexts"):
        yield from learner.named_contexts(select)
        return
    for child in learner.children():
        yield from named_contexts(child, select)


def init_problems(key: str, n_ctx: int, init: str, words: int) -> list[str]:
    """Problems if the number of tokens in the initial words, `words`, differs from N_CTX. `key`: prefix of settings."""
    if words in (0, n_ctx):
        return []
    return [
        f"{key}CTX_INIT {init!r} has {words} tokens and {key}N_CTX is {n_ctx}: give the same number, or "
        f'{key}CTX_INIT "" for a random start'
    ]
