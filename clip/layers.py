"""Parts of a frozen transformer block that both towers use, written with few and small operations."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .additions import Change


def at_least_fp32(x: Tensor) -> Tensor:
    """Cast half precision to fp32; other types are returned unchanged."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def norm(layer: nn.LayerNorm, x: Tensor) -> Tensor:
    """LayerNorm, computed in fp32 for any precision of the tower: (…, W) -> (…, W)."""
    weight, bias = at_least_fp32(layer.weight), at_least_fp32(layer.bias)
    return F.layer_norm(at_least_fp32(x), layer.normalized_shape, weight, bias, layer.eps).to(x.dtype)


QUICK = 1.702  # OpenAI's activation is x * sigmoid(1.702 x) = silu(1.702 x) / 1.702


class _QuickMLP(torch.autograd.Function):
    """Two frozen linear layers with OpenAI's activation between them, (R, W) -> (R, W).

    The activation's two factors are folded into the matrix products. So they need no extra pass over the hidden layer
    (and cancel in the derivative). One tensor with the size of the hidden layer is kept for the backward pass.
    """

    @staticmethod
    def forward(ctx, x: Tensor, first: nn.Linear, last: nn.Linear) -> Tensor:
        z = torch.addmm(first.bias * QUICK, x, first.weight.t(), alpha=QUICK)
        ctx.save_for_backward(z)
        ctx.weights = first.weight, last.weight
        hidden = F.silu(z, inplace=not ctx.needs_input_grad[0])
        return torch.addmm(last.bias, hidden, last.weight.t(), alpha=1 / QUICK)

    @staticmethod
    def backward(ctx, grad: Tensor):
        first, last = ctx.weights
        return torch.ops.aten.silu_backward(grad @ last, ctx.saved_tensors[0]) @ first, None, None


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, change: Change | None, *names: str) -> Tensor:
    """Apply a frozen projection, plus the low-rank changes of its equally wide parts `names`: (…, in) -> (…, out)."""
    y = F.linear(x, weight, bias)
    if change is None or not change.parts.keys() & set(names):
        return y
    return torch.cat(
        [change.added(name, x, part) for name, part in zip(names, y.chunk(len(names), -1), strict=True)], -1
    )


def mlp(layers: nn.Sequential, x: Tensor, change: Change | None = None) -> Tensor:
    """Apply c_fc, activation and c_proj, with the low-rank changes "fc" and "proj": (…, W) -> (…, W)."""
    first, last = layers.c_fc, layers.c_proj
    plain = type(layers.gelu).__name__ != "QuickGELU" or torch.is_autocast_enabled(x.device.type)
    # _QuickMLP computes no gradient of the weights, so it serves frozen weights only.
    learned = any(tensor.requires_grad for tensor in (first.weight, first.bias, last.weight, last.bias))
    if plain or learned or (change is not None and change.parts.keys() & {"fc", "proj"}):
        hidden = layers.gelu(linear(x, first.weight, first.bias, change, "fc"))
        return linear(hidden, last.weight, last.bias, change, "proj")
    return _QuickMLP.apply(x.flatten(0, -2), first, last).view(x.shape)


def finish_block(
    block: nn.Module, x: Tensor, q: Tensor, k: Tensor, v: Tensor, change: Change | None, mask: Tensor | None = None
) -> Tensor:
    """Apply a residual attention block to x (B, S, W), from its queries (B, S, W), keys and values (B, S', W).

    `mask`: True where a query attends to a key, broadcastable to (B, heads, S, S').
    """
    attn = block.attn
    q, k, v = (t.unflatten(-1, (attn.num_heads, -1)).transpose(1, 2) for t in (q, k, v))  # (B, h, S, W / h)
    seen = F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)
    x = x + block.ls_1(linear(seen, attn.out_proj.weight, attn.out_proj.bias, change, "out"))
    return x + block.ls_2(mlp(block.mlp, norm(block.ln_2, x), change))


def project(x: Tensor, projection: Tensor | nn.Linear | None) -> Tensor:
    """Text projection, (…, D) -> (…, d): a matrix (D, d), a linear layer, or None for the identity."""
    if projection is None:
        return x
    return projection(x) if isinstance(projection, nn.Module) else x @ projection
