"""The training of LP++: full-batch descent of a linear classifier that is blended with text features."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Probe(NamedTuple):
    """Parameters of one task: weight (C, d), bias (C,), alpha (C,)."""

    weight: Tensor
    bias: Tensor
    alpha: Tensor

    def logits(self, images: Tensor, texts: Tensor) -> Tensor:
        """Logits (B, C) of unit image features (B, d), with unit text features (C, d)."""
        return images @ self.weight.t() + self.bias + self.alpha * (images @ texts.t())


def rates(images: Tensor, texts: Tensor) -> tuple[float, float]:
    """(4 N / L, N / max_k sum_i (f_i t_k)^2) for N unit image features (N, d) and text features (C, d).

    The first is the rate of weight and bias. The second times 4 is that of alpha, and a quarter of it the published.
    """
    gram = images.t() @ images if len(images) > images.shape[1] else images @ images.t()
    largest = torch.linalg.eigvalsh(gram.double())[-1].item()
    return 4 * len(images) / largest, len(images) / (images @ texts.t()).square().sum(0).max().item()


def initial(images: Tensor, labels: Tensor, texts: Tensor, bias: Tensor) -> Probe:
    """The probe before the first step, of unit features (N, d) with labels (N,), texts (C, d), biases (C,)."""
    weight = F.one_hot(labels, len(texts)).to(images).t() @ images
    alpha = 250 * (images * texts[labels]).sum(1).mean()
    return Probe(weight, bias, alpha.expand(len(texts)).clone())


def gradients(probe: Probe, images: Tensor, labels: Tensor, similarity: Tensor) -> tuple[float, Probe]:
    """Mean cross-entropy of the training images (N, d), and its gradients. similarity (N, C): f t_k."""
    log_p = (images @ probe.weight.t() + probe.bias + probe.alpha * similarity).log_softmax(1)
    loss = F.nll_loss(log_p, labels).item()
    error = (log_p.exp() - F.one_hot(labels, log_p.shape[1])) / len(labels)  # gradient with respect to the logits
    return loss, Probe(error.t() @ images, error.sum(0), (error * similarity).sum(0))


def descend(
    probe: Probe,
    images: Tensor,
    labels: Tensor,
    texts: Tensor,
    *,
    epochs: int,
    lr: float,
    lr_alpha: float,
    accumulated: bool,
    momentum: float,
    alpha_every: int,
) -> Iterator[tuple[float, Probe]]:
    """Train `probe` in place and yield (loss before the step, probe) after each of `epochs` steps.

    Args:
        images, labels, texts: as for `initial`.
        lr, momentum: of SGD for weight and bias.
        lr_alpha, alpha_every: alpha takes a plain step in every `alpha_every`-th epoch.
        accumulated: alpha's gradient is the sum of all gradients since the first step.
    """
    similarity = images @ texts.t()  # (N, C)
    speed, alpha_gradient = Probe(*map(torch.zeros_like, probe)), torch.zeros_like(probe.alpha)
    for epoch in range(1, epochs + 1):
        loss, gradient = gradients(probe, images, labels, similarity)
        alpha_gradient = alpha_gradient + gradient.alpha if accumulated else gradient.alpha
        for parameter, moving, own in zip(probe[:2], speed[:2], gradient[:2], strict=True):
            parameter.sub_(moving.mul_(momentum).add_(own), alpha=lr)
        if epoch % alpha_every == 0:
            probe.alpha.sub_(alpha_gradient, alpha=lr_alpha)
        yield loss, probe
