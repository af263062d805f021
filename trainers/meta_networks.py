"""SoftCPT's meta networks: they map features of a task, a class or both to the context of a prompt.

A network is called with the features listed by `reads`, (G, k) each, and returns contexts (G, L, D). Each context
depends only on its own row of features, not on other rows of the batch.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dassl.utils import UserError

from .settings import unread_problems

PG_TYPES = ("lin", "linmean", "lincls", "mlp", "transformer")
# setting: the types that read it
READERS = {"PG_HIDDEN": ("mlp", "transformer"), "PG_HEADS": ("transformer",), "PG_LAYERS": ("transformer",)}


def reads(pg_type: str, csc: bool) -> tuple[str, ...]:
    """Features that a meta network of type `pg_type` takes, in order. `csc`: class features are available."""
    if not csc:
        return ("task",)
    return ("class",) if pg_type == "lincls" else ("class", "task")


def meta_network_problems(key: str, c) -> list[str]:
    """Contradictions among the settings PG_* of the section `c`, whose keys begin with `key`."""
    found = unread_problems(key, c, "PG_TYPE", READERS)
    if c.PG_TYPE == "transformer" and c.PG_HIDDEN % c.PG_HEADS:
        found.append(f"{key}PG_HEADS {c.PG_HEADS} does not divide {key}PG_HIDDEN {c.PG_HIDDEN}")
    return found


def build_meta_network(
    pg_type: str,
    dims: tuple[int, ...],
    n_ctx: int,
    width: int,
    *,
    hidden: int = 0,
    heads: int = 8,
    layers: int = 1,
) -> nn.Module:
    """Build a meta network of type `pg_type` for features with dimensions `dims`, with L = `n_ctx` and D = `width`.

    `hidden`: width of the hidden layer of an mlp (0: D // 8, i.e. 64 if D is 512), or of a transformer (0: D).
    `heads`, `layers`: for a transformer. Raises UserError if `heads` does not divide the width of the transformer.
    """
    if pg_type == "mlp":
        return MLPMetaNetwork(dims, n_ctx, width, hidden or max(1, width // 8))
    if pg_type == "transformer":
        return TransformerMetaNetwork(dims, n_ctx, width, hidden or width, heads, layers)
    return LinearMetaNetwork(dims, n_ctx, width, mean=pg_type == "linmean")


class LinearMetaNetwork(nn.Module):
    """ctx = x P without bias, P ~ N(0, 0.02). x: the concatenated features, or with `mean` their mean."""

    def __init__(self, dims: tuple[int, ...], n_ctx: int, width: int, mean: bool = False):
        super().__init__()
        self.shape, self.mean = (n_ctx, width), mean
        self.proj = nn.Parameter(torch.empty(dims[0] if mean else sum(dims), n_ctx * width).normal_(std=0.02))

    def forward(self, *features: Tensor) -> Tensor:
        x = sum(features) / len(features) if self.mean else torch.cat(features, -1)  # (G, in)
        return (x.to(self.proj.dtype) @ self.proj).unflatten(-1, self.shape)


class MLPMetaNetwork(nn.Module):
    """ctx = W_2 relu(W_1 x + b_1) + b_2. x: the concatenated features. Weights ~ N(0, 0.02), biases 0."""

    def __init__(self, dims: tuple[int, ...], n_ctx: int, width: int, hidden: int):
        super().__init__()
        self.shape = (n_ctx, width)
        self.hidden = nn.Linear(sum(dims), hidden)
        self.out = nn.Linear(hidden, n_ctx * width)
        for layer in (self.hidden, self.out):
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)

    def forward(self, *features: Tensor) -> Tensor:
        x = torch.cat(features, -1).to(self.hidden.weight.dtype)  # (G, in)
        return self.out(self.hidden(x).relu()).unflatten(-1, self.shape)


class _Layer(nn.Module):
    """x + attention(norm(x)), then x + FFN(norm(x)): (G, S, H) -> (G, S, H).

    nn.TransformerEncoderLayer is not used, because its last bits differ between evaluation and training mode.
    """

    def __init__(self, hidden: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        self.qkv, self.merge = nn.Linear(hidden, 3 * hidden), nn.Linear(hidden, hidden)
        self.ffn = nn.Sequential(nn.Linear(hidden, 4 * hidden), nn.GELU(), nn.Linear(4 * hidden, hidden))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm_1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (G, h, S, e)
        x = x + self.merge(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x + self.ffn(self.norm_2(x))


class TransformerMetaNetwork(nn.Module):
    """L learned queries and one token per feature attend to each other; the outputs of the queries are the context.

    Pre-norm layers of width H with an FFN of width 4 H, without dropout. Queries ~ N(0, 0.02). The last map is
    initialised so that contexts start with a standard deviation of 0.02, like directly learned contexts.
    """

    def __init__(self, dims: tuple[int, ...], n_ctx: int, width: int, hidden: int, heads: int, layers: int):
        super().__init__()
        if hidden % heads:
            raise UserError(
                f"A transformer meta network of width {hidden} cannot have {heads} heads: PG_HEADS must divide the "
                "width, which is PG_HIDDEN or, if PG_HIDDEN is 0, the width of the generated prompts."
            )
        self.inputs = nn.ModuleList(nn.Linear(dim, hidden) for dim in dims)
        self.queries = nn.Parameter(torch.empty(n_ctx, hidden).normal_(std=0.02))  # (L, H)
        self.layers = nn.ModuleList(_Layer(hidden, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(hidden)
        self.out = nn.Linear(hidden, width)
        nn.init.normal_(self.out.weight, std=0.02 * hidden**-0.5)
        nn.init.zeros_(self.out.bias)

    def forward(self, *features: Tensor) -> Tensor:
        dtype = self.queries.dtype
        tokens = torch.stack([fc(x.to(dtype)) for fc, x in zip(self.inputs, features, strict=True)], 1)
        x = torch.cat([tokens, self.queries.expand(len(tokens), -1, -1)], 1)  # (G, features + L, H)
        for layer in self.layers:
            x = layer(x)
        return self.out(self.norm(x[:, len(features) :]))
