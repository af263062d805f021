"""Training of classifiers on batches that are half images and half texts, for many settings at once.

G candidates differ in learning rate and weight decay and see the same batches, so their heads are stacked: `weight`
(G, C, d), and with an adapter `down` (G, d/4, d) and `up` (G, d, d/4).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .samples import Samples

RATIO, REDUCTION = 0.2, 4  # of the adapter, as published
TINY = 1e-30  # gradients below it have no effect, but denormal numbers slow a CPU down by a factor of four
FIRST_LR = 1e-5  # of the first warm-up step, whatever the learning rate

Parts = dict[str, Tensor]


def initial_parts(weight: Tensor, adapter: bool, generator: torch.Generator) -> Parts:
    """The head before the first step: class weights (C, d), and torch's default of bias-free linear layers."""
    parts, width = {"weight": weight}, weight.shape[1]
    if adapter:
        for name, shape in (("down", (width // REDUCTION, width)), ("up", (width, width // REDUCTION))):
            parts[name] = drawn(shape, generator).to(weight)
    return parts


def drawn(shape: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Weights (out, in) from U(+-1/sqrt(in))."""
    return torch.empty(shape).uniform_(-(shape[1] ** -0.5), shape[1] ** -0.5, generator=generator)


def adapt(x: Tensor, down: Tensor, up: Tensor) -> Tensor:
    """RATIO ReLU(up ReLU(down x)) + (1 - RATIO) x for features x (..., B, d)."""
    return RATIO * (up @ (down @ x.mT).relu()).relu().mT + (1 - RATIO) * x


def head_logits(parts: Parts, x: Tensor, scale: Tensor) -> Tensor:
    """Logits (G, B, C) of unit features x (B, d)."""
    weight = parts["weight"]
    if "down" in parts:
        return scale * (weight @ adapt(x, parts["down"], parts["up"]).mT).mT
    # one product for all candidates is several times faster than one each
    return scale * (x @ weight.flatten(0, -2).t()).unflatten(1, weight.shape[:-1]).transpose(0, 1)


def shuffled(count: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Rows (size,) of batch after batch, without end. An incomplete batch at the end of a pass is dropped."""
    while True:
        yield from torch.randperm(count, generator=generator)[: count // size * size].view(-1, size)


def mixed_rows(images: int, texts: int, size: int, steps: int, generator: torch.Generator) -> Iterator[tuple]:
    """Rows of images and rows of texts, size / 2 each, of the batches of `steps` steps."""
    rows = (shuffled(count, size // 2, generator) for count in (images, texts))
    return islice(zip(*rows, strict=True), steps)


def learning_rate(step: int, lr: float, warmup: int, total: int) -> float:
    """Rate of a step, counted from 0: FIRST_LR, then linear to `lr`, then a cosine over `total` steps."""
    if step < warmup:
        return lr * step / warmup if step else FIRST_LR
    return lr * (1 + math.cos(math.pi * (step - warmup) / total)) / 2


def train_heads(
    parts: Parts,
    images: Samples,
    texts: Samples,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    lrs: Sequence[float],
    decays: Sequence[float],
    scale: Tensor,
    warmup: int,
    total: int,
    **adamw,
) -> Iterator[tuple[Tensor, Parts, Parts]]:
    """Train G copies of `parts` with AdamW; yield (losses (G,), stacked parts, their gradients) after each batch.

    The parts are those after the step, losses and gradients those before it.

    Args:
        parts: the head before the first step.
        images, texts: unit features and labels.
        batches: rows of images and rows of texts of each step.
        lrs, decays: learning rate and weight decay of each candidate.
        scale: of the logits.
        warmup, total: see `learning_rate`.
        adamw: further arguments of torch's AdamW.
    """
    stacked = {name: part.detach().repeat(len(lrs), *[1] * part.ndim).requires_grad_() for name, part in parts.items()}
    # one parameter per candidate, in the memory of the stacked one
    groups = [[nn.Parameter(part.detach()[g]) for part in stacked.values()] for g in range(len(lrs))]
    options = [{"params": own, "weight_decay": decay} for own, decay in zip(groups, decays, strict=True)]
    optimiser = torch.optim.AdamW(options, fused=True, **adamw)
    for step, (image_rows, text_rows) in enumerate(batches):
        x = torch.cat([images.features[image_rows], texts.features[text_rows]])
        labels = torch.cat([images.labels[image_rows], texts.labels[text_rows]])
        with torch.enable_grad():
            logits = head_logits(stacked, x, scale)  # (G, B, C)
        log_p = logits.detach().log_softmax(-1)
        error = (log_p.exp() - F.one_hot(labels, logits.shape[-1])) / len(x)  # gradient of the losses
        gradients = torch.autograd.grad(logits, list(stacked.values()), F.hardshrink(error, TINY))
        gradients = [gradient.contiguous() for gradient in gradients]
        for g, (group, lr) in enumerate(zip(optimiser.param_groups, lrs, strict=True)):
            group["lr"] = learning_rate(step, lr, warmup, total)
            for parameter, gradient in zip(group["params"], gradients, strict=True):
                parameter.grad = gradient[g]
        optimiser.step()
        chosen = labels.expand(len(lrs), -1)[..., None]
        yield -log_p.gather(2, chosen).mean((1, 2)), stacked, dict(zip(stacked, gradients, strict=True))
