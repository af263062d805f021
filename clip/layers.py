"""Pieces of a frozen transformer block, written for few and small operations, used by both towers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def at_least_fp32(x: Tensor) -> Tensor:
    """Half precision as fp32, anything else as it is."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def norm(layer: nn.LayerNorm, x: Tensor) -> Tensor:
    """LayerNorm in fp32 whatever the tower's precision: (…, W) -> (…, W)."""
    weight, bias = at_least_fp32(layer.weight), at_least_fp32(layer.bias)
    return F.layer_norm(at_least_fp32(x), layer.normalized_shape, weight, bias, layer.eps).to(x.dtype)


class _QuickGELU(torch.autograd.Function):
    """x * sigmoid(1.702 x) = silu(1.702 x) / 1.702, keeping one tensor of the MLP's width for the backward pass."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        z = 1.702 * x
        ctx.save_for_backward(z)
        return F.silu(z).mul_(1 / 1.702)

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        return torch.ops.aten.silu_backward(grad, ctx.saved_tensors[0])


def mlp(layers: nn.Sequential, x: Tensor) -> Tensor:
    """c_fc, activation, c_proj: (…, W) -> (…, W)."""
    hidden = layers.c_fc(x)
    if type(layers.gelu).__name__ != "QuickGELU":
        return layers.c_proj(layers.gelu(hidden))
    if torch.is_grad_enabled() and hidden.requires_grad:
        return layers.c_proj(_QuickGELU.apply(hidden))
    return layers.c_proj(F.silu(hidden.mul_(1.702), inplace=True).mul_(1 / 1.702))
