"""Additions of a method to a frozen tower, in one form for both towers: tokens, low-rank changes, further outputs.

Additions are values passed with a call of the tower. The tower itself never changes: its parameters, its state dict and
other learners on the same CLIP are not affected.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from dassl.utils import UserError

PROJECTIONS = ("q", "k", "v", "out", "fc", "proj")  # projections of a layer: four of the attention, two of the MLP


@dataclass
class Tokens:
    """K tokens that enter a tower at each of I layers.

    In the image tower, the tokens of the first layer are added to [CLS] and the patches (attention ignores order). In
    the text tower, they replace the K tokens after [SOS], or with `insert` they move the rest of the prompt back by K
    positions. At every later layer of `layers`, new tokens replace the outputs of the tokens before; at other layers
    the tokens pass on like all others.

    Args:
        values: (G, I, K, W) in G sets, see `Additions.group`; W is the width of the tower (D in the text tower).
        layers: the I layers in rising order, counted from 0; () stands for 0 … I - 1.
        insert: (text) the first layer inserts the tokens; no positional embedding is added to them.
        share: weight of the new tokens when they replace others; the old tokens keep the weight 1 - share.
        normed: (image) tokens that enter at layer 0 pass the tower's first LayerNorm, as [CLS] and the patches do.
        dropout: (image) share of the values set to zero, drawn independently for each image.
        keep: the tower also returns the outputs of the tokens after its last layer.
    """

    values: Tensor
    layers: Sequence[int] = ()
    insert: bool = False
    share: float = 1.0
    normed: bool = False
    dropout: float = 0.0
    keep: bool = False

    def __post_init__(self):
        self.layers = tuple(self.layers) or tuple(range(self.values.shape[1] if self.values.ndim == 4 else 0))
        if self.values.ndim != 4:
            raise UserError(f"Tokens of shape {tuple(self.values.shape)}: expected (G, I, K, W).")
        if len(self.layers) != self.values.shape[1] or list(self.layers) != sorted(set(self.layers)):
            raise UserError(
                f"Tokens for the layers {self.layers}: expected one layer in rising order for each of the "
                f"{self.values.shape[1]} sets of tokens in values (G, I, K, W)."
            )

    def at(self, layer: int) -> Tensor | None:
        """Tokens (G, K, W) that enter at `layer`, or None."""
        return self.values[:, self.layers.index(layer)] if layer in self.layers else None

    def check(self, tower: str, layers: int, width: int) -> None:
        """Raise UserError for tokens that do not fit a tower with this number of layers and this width."""
        foreign = ("normed", "dropout") if tower == "text" else ("insert",)
        if found := [name for name in foreign if getattr(self, name)]:
            other = "image" if tower == "text" else "text"
            raise UserError(f"Tokens of the {tower} tower with {found[0]}: only the {other} tower reads it.")
        if self.keep and 0 in self.values.shape[1:3]:
            raise UserError(f"Tokens of shape {tuple(self.values.shape)} with keep: expected K > 0 tokens.")
        if self.values.shape[-1] != width:
            raise UserError(f"Tokens of width {self.values.shape[-1]}: the {tower} tower has width {width}.")
        if self.layers and not 0 <= self.layers[0] <= self.layers[-1] < layers:
            raise UserError(
                f"Tokens for layers {self.layers[0]} to {self.layers[-1]}: the {tower} tower has layers 0 to "
                f"{layers - 1}."
            )


@dataclass
class LowRank:
    """A low-rank change of one projection, x W' -> x W' + scale (dropout(x) A') B' (LoRA; Hu et al., ICLR 2022).

    Args:
        down: A, (r, in); or (G, r, in) in G sets.
        up: B, (out, r); or (G, out, r).
        scale: factor of the change.
        dropout: share of the inputs set to zero, on the low-rank path only.
    """

    down: Tensor
    up: Tensor
    scale: float = 1.0
    dropout: float = 0.0

    @property
    def sets(self) -> int:
        return len(self.down) if self.down.ndim == 3 else 1

    def __call__(self, x: Tensor, rows: Tensor | None = None) -> Tensor:
        """Compute the change only: x (…, in) -> (…, out). `rows`: set of each row of x; its shape broadcasts to (…)."""
        down, up = self.down.to(x.dtype), self.up.to(x.dtype)
        x = F.dropout(x, self.dropout) if self.dropout else x
        if self.sets == 1:
            return self.scale * F.linear(F.linear(x, down.flatten(0, -2)), up.view(up.shape[-2:]))
        # One product for all sets; then each row keeps the r values of its set.
        hidden = F.linear(x, down.flatten(0, 1)).unflatten(-1, (self.sets, -1))  # (…, G, r)
        own = F.one_hot(rows, self.sets).to(x.dtype)[..., None]  # (…, G, 1)
        return self.scale * F.linear((hidden * own).flatten(-2), up.transpose(0, 1).flatten(1))


@dataclass
class Change:
    """Low-rank changes of one layer: {projection: LowRank}, and the set of each input row."""

    parts: Mapping[str, LowRank]
    rows: Tensor | None = None

    def pick(self, rows: Tensor) -> Change:
        """The same changes for a selection of the input rows."""
        return Change(self.parts, None if self.rows is None else self.rows[rows])

    def added(self, name: str, x: Tensor, y: Tensor) -> Tensor:
        """Add the change of the projection `name`, if any, to its frozen output y for the input x."""
        return y + self.parts[name](x, self.rows) if name in self.parts else y


@dataclass
class Additions:
    """All additions of a method to one tower for one call.

    Args:
        tokens: prompt tokens.
        changes: {(layer, projection): LowRank}, layers counted from 0, projections from PROJECTIONS.
        group: set of each image (B,) or prompt (N,), for additions in several sets. None: one set for all, or one set
            per image or prompt, in the same order.
        local: (image) the tower also returns the local tokens (B, P, d), one per patch.
        unprojected: (image) the tower returns the features before its last projection (B, W) in place of the features;
            see `ImageTower.projection`.
    """

    tokens: Tokens | None = None
    changes: Mapping[tuple[int, str], LowRank] = field(default_factory=dict)
    group: Tensor | None = None
    local: bool = False
    unprojected: bool = False

    @property
    def sets(self) -> int:
        """G, the number of sets; 1 if all images or prompts share one set."""
        tokens = [len(self.tokens.values)] if self.tokens is not None else []
        return max([1, *tokens, *(change.sets for change in self.changes.values())])

    @property
    def grouped_changes(self) -> bool:
        """Whether there are low-rank changes in several sets."""
        return any(change.sets > 1 for change in self.changes.values())

    @property
    def alters(self) -> bool:
        """Whether the additions change the tower's features."""
        tokens = self.tokens is not None and 0 not in self.tokens.values.shape[1:3]
        return tokens or bool(self.changes)

    def take(self, group: Tensor | None) -> Additions:
        """The same additions for images or prompts with the sets `group`; without effect if there is one set."""
        return replace(self, group=group if self.sets > 1 else None)

    def at(self, layer: int, rows: Tensor | None = None) -> Change | None:
        """Low-rank changes of `layer`, or None. `rows`: see `LowRank`."""
        parts = {name: change for (where, name), change in self.changes.items() if where == layer}
        return Change(parts, rows) if parts else None

    @property
    def first(self) -> int | None:
        """The first layer with an addition; None without additions."""
        tokens = self.tokens.layers[:1] if self.tokens is not None and self.alters else ()
        return min((*tokens, *(layer for layer, _ in self.changes)), default=None)

    def check(self, tower: str, layers: int, width: int, hidden: int, count: int | None = None, start: int = 0) -> None:
        """Raise UserError for additions that do not fit a tower with so many layers, this width and MLPs of `hidden`
        numbers, or (if it is given) a call with `count` images or prompts, that begins before the layer `start`.
        """
        if tower == "text" and (self.local or self.unprojected):
            name, what = ("local", "local tokens") if self.local else ("unprojected", "unprojected features")
            raise UserError(f"Additions to the text tower with {name}: only the image tower has {what}.")
        if self.first is not None and self.first < start:
            raise UserError(f"Additions to layer {self.first} of the {tower} tower, which begins with layer {start}.")
        if self.tokens is not None:
            self.tokens.check(tower, layers, width)
        counts = {self.sets, 1}
        if self.tokens is not None and len(self.tokens.values) not in counts:
            raise UserError(f"{len(self.tokens.values)} sets of tokens beside {self.sets} sets of low-rank changes.")
        shapes = low_rank_shapes(width, hidden)
        for (layer, name), change in self.changes.items():
            if name not in PROJECTIONS or not 0 <= layer < layers:
                raise UserError(
                    f"A low-rank change of projection {name!r} in layer {layer}: expected one of "
                    f"{', '.join(PROJECTIONS)} in layers 0 to {layers - 1} of the {tower} tower."
                )
            inputs, outputs = shapes[name]
            rank = change.down.shape[-2]
            lead = () if change.down.ndim == 2 else (change.sets,)
            want = (*lead, rank, inputs), (*lead, outputs, rank)
            if (tuple(change.down.shape), tuple(change.up.shape)) != want or change.sets not in counts:
                raise UserError(
                    f"The low-rank change of {name} in layer {layer} has factors {tuple(change.down.shape)} and "
                    f"{tuple(change.up.shape)}: expected ([G,] r, {inputs}) and ([G,] {outputs}, r) in one set or in "
                    f"{self.sets} sets."
                )
        groups = self.sets if self.group is None else len(self.group)
        if count is not None and self.sets > 1 and groups != count:
            given = "no group" if self.group is None else f"a group of {len(self.group)}"
            raise UserError(
                f"{self.sets} sets of additions for {count} {'prompts' if tower == 'text' else 'images'}, and {given}: "
                "give the set of each of them."
            )


def low_rank_shapes(width: int, hidden: int) -> dict[str, tuple[int, int]]:
    """Shapes {projection: (in, out)} in a layer of a tower of this width, with an MLP of width `hidden`."""
    square = (width, width)
    return {"q": square, "k": square, "v": square, "out": square, "fc": (width, hidden), "proj": (hidden, width)}


def rows_of(x: Tensor, group: Tensor | None, count: int) -> Tensor:
    """Rows of x (G, …) for `count` images or prompts: (count, …). Without `group`, G is 1 or `count`."""
    return x.expand(count, *x.shape[1:]) if group is None else x.index_select(0, group)


def drop(x: Tensor, share: float) -> Tensor:
    """Set a `share` of the values of x to zero and scale the others up (dropout); share 0 returns x."""
    return F.dropout(x, share) if share else x


def is_recorded(*tensors: Tensor | None) -> bool:
    """Whether autograd records operations on these tensors."""
    return torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in tensors)


class TowerAdditions(NamedTuple):
    """Additions to both towers for all tasks: one set for all tasks, or one set per task."""

    text: Additions | None = None
    image: Additions | None = None
