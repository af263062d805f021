"""Entropic optimal transport between two small sets with uniform weights (Cuturi, "Sinkhorn Distances")."""

from __future__ import annotations

import math

import torch
from torch import Tensor


@torch.no_grad()
def transport_plan(
    similarity: Tensor, eps: float = 0.1, max_iter: int = 100, threshold: float = 1e-2
) -> tuple[Tensor, Tensor]:
    """Compute the transport plans of Q problems between M prompts and P patches, at the cost 1 - similarity.

    A plan minimises <plan, cost> - eps H(plan) among all plans whose rows sum to 1 / M and columns to 1 / P. It has the
    form diag(c) exp(-cost / eps) diag(r). Both r (Q, P) and c start at 1 and are updated in turns, r first, until r
    changes by less than `threshold` (mean absolute change over all entries of all Q problems, the published rule) or
    `max_iter` is reached. The computation uses log r and log c, so a small eps causes no under- or overflow.

    Args:
        similarity: (Q, M, P), at least fp32.
        eps: weight of the entropy, in units of the cost.

    Returns:
        Plans (Q, M, P) and their entropies (Q,) in nats. The entropy is at most log(M P), and log(max(M, P)) if each
        element of the larger set is assigned to a single element of the other set. No gradient flows through them.
    """
    log_kernel = (similarity - 1) / eps
    M, P = similarity.shape[1:]
    log_r = log_kernel.new_zeros(len(log_kernel), 1, P)
    log_c = log_kernel.new_zeros(len(log_kernel), M, 1)
    for _ in range(max_iter):
        old = log_r
        log_r = -math.log(P) - torch.logsumexp(log_kernel + log_c, 1, keepdim=True)
        log_c = -math.log(M) - torch.logsumexp(log_kernel + log_r, 2, keepdim=True)
        # with a small eps, r may exceed fp32; inf - inf is NaN, which is not below the threshold
        if (log_r.exp() - old.exp()).abs().mean() < threshold:
            break
    log_plan = log_kernel + log_r + log_c
    plan = log_plan.exp()
    return plan, -(plan * log_plan).sum((1, 2))
