"""Entropic optimal transport between two small sets with uniform weights (Cuturi, "Sinkhorn Distances")."""

from __future__ import annotations

import math

import torch
from torch import Tensor


@torch.no_grad()
def transport_plan(
    similarity: Tensor, eps: float = 0.1, max_iter: int = 100, threshold: float = 1e-2
) -> tuple[Tensor, Tensor]:
    """The plans of Q problems, at the cost 1 - similarity: what of the M prompts goes to which of the P patches.

    A plan minimises <plan, cost> - eps H(plan) among those whose rows sum to 1 / M and columns to 1 / P. It is
    diag(c) exp(-cost / eps) diag(r); r and c are fitted in turns, r (Q, P) first, both 1 at first, until r changes by
    less than `threshold` (mean absolute change over all entries of all Q problems, the published rule) or `max_iter`
    times. Computed with log r and log c, in which nothing under- or overflows however small eps is.

    Args:
        similarity: (Q, M, P), at least fp32.
        eps: weight of the entropy, in units of the cost.

    Returns:
        plans (Q, M, P) and their entropies (Q,), in nats: at most log(M P), and log(max(M, P)) if each of the larger
        set goes to one of the other whole. No gradient flows through them.
    """
    log_kernel = (similarity - 1) / eps
    M, P = similarity.shape[1:]
    log_r = log_kernel.new_zeros(len(log_kernel), 1, P)
    log_c = log_kernel.new_zeros(len(log_kernel), M, 1)
    for _ in range(max_iter):
        old = log_r
        log_r = -math.log(P) - torch.logsumexp(log_kernel + log_c, 1, keepdim=True)
        log_c = -math.log(M) - torch.logsumexp(log_kernel + log_r, 2, keepdim=True)
        # r itself may exceed fp32 at a small eps; inf - inf is NaN, which is not below the threshold
        if (log_r.exp() - old.exp()).abs().mean() < threshold:
            break
    log_plan = log_kernel + log_r + log_c
    plan = log_plan.exp()
    return plan, -(plan * log_plan).sum((1, 2))
