"""SoftCPT's meta networks: features of a task, of a class, or of both -> the context of a prompt.

Each is called with the features it reads, as `reads` lists them, (G, k) each, and gives contexts (G, L, D). A context
depends on its own row alone, so that it does not change with what else is in the batch.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dassl.utils import UserError

PG_TYPES = ("lin", "linmean", "lincls", "mlp", "transformer")


def reads(pg_type: str, csc: bool) -> tuple[str, ...]:
    """Which features a meta network of type `pg_type` takes, in their order; `csc`: there are class features."""
    if not csc:
        return ("task",)
    return ("class",) if pg_type == "lincls" else ("class", "task")


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
    """The network of type `pg_type` for features of `dims` numbers each, with L = `n_ctx`, D = `width`.

    `hidden`, 0 for the default: width of an mlp's hidden layer (D // 8: 64 where D is 512), of a transformer (D).
    `heads`, `layers`: of a transformer. Raises UserError when `heads` does not divide its width.
    """
    if pg_type == "mlp":
        return MLPMetaNetwork(dims, n_ctx, width, hidden or max(1, width // 8))
    if pg_type == "transformer":
        return TransformerMetaNetwork(dims, n_ctx, width, hidden or width, heads, layers)
    return LinearMetaNetwork(dims, n_ctx, width, mean=pg_type == "linmean")


class LinearMetaNetwork(nn.Module):
    """ctx = x P without bias, P ~ N(0, 0.02); x: the features one after the other, or with `mean` their mean."""

    def __init__(self, dims: tuple[int, ...], n_ctx: int, width: int, mean: bool = False):
        super().__init__()
        self.shape, self.mean = (n_ctx, width), mean
        self.proj = nn.Parameter(torch.empty(dims[0] if mean else sum(dims), n_ctx * width).normal_(std=0.02))

    def forward(self, *features: Tensor) -> Tensor:
        x = sum(features) / len(features) if self.mean else torch.cat(features, -1)  # (G, in)
        return (x.to(self.proj.dtype) @ self.proj).unflatten(-1, self.shape)


class MLPMetaNetwork(nn.Module):
    """ctx = W_2 relu(W_1 x + b_1) + b_2, x: the features one after the other. Weights ~ N(0, 0.02), biases 0."""

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

    Not nn.TransformerEncoderLayer: that one computes other last bits in evaluation than in training mode.
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
    """L learned queries and a token for each feature attend to each other; what becomes of the queries is the context.

    Pre-norm layers with an FFN of four times their width H and no dropout. Queries ~ N(0, 0.02); the last map is drawn
    so that contexts begin at a standard deviation of 0.02, like those that are learned directly.
    """

    def __init__(self, dims: tuple[int, ...], n_ctx: int, width: int, hidden: int, heads: int, layers: int):
        super().__init__()
        if hidden % heads:
            raise UserError(
                f"A transformer meta network of width {hidden} cannot have {heads} heads: PG_HEADS has to divide its "
                "width, which is PG_HIDDEN or, where that is 0, the width of the prompts it makes."
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
