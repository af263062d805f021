"""Gaussian classes with one precision matrix for all, in closed form and in fp64.

n samples x (unit features, d numbers), K classes with means mu_k, scatter A = sum (x - mu)(x - mu)^T.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

NOTHING = 1e-10  # a scatter per sample below this is rounding: unit features in fp32 give about 1e-14


class Moments:
    """Counts (C,), sums (C, d) and second moments (d, d) of samples that arrive in V views of the same images.

    Only the sums are held, so the memory needed does not grow with the number of views.

    Args:
        classes: C.
        width: d.
        views: V.
        weighted: the scatter of each class is divided by n_k - 1 and by the number K of classes with images.
    """

    def __init__(self, classes: int, width: int, views: int, weighted: bool, device: torch.device):
        self.views, self.weighted = views, weighted
        self.counts = torch.zeros(classes, dtype=torch.float64, device=device)
        self.sums = torch.zeros(classes, width, dtype=torch.float64, device=device)
        self.second = torch.zeros(width, width, dtype=torch.float64, device=device)
        self.weight = torch.ones_like(self.counts)

    def add(self, features: Tensor, labels: Tensor) -> None:
        """Add one view: unit features (n, d), labels (n,)."""
        features = features.double()
        own = F.one_hot(labels, len(self.counts)).double()  # (n, C)
        images = own.sum(0)
        if self.weighted:  # every view has the same images, so each view knows the final counts
            self.weight = 1 / ((self.views * images - 1).clamp_min(1) * (images > 0).sum().clamp_min(1))
        self.counts += images
        self.sums += own.t() @ features
        self.second += (features * self.weight[labels][:, None]).t() @ features

    def means(self) -> Tensor:
        """(C, d); zero for classes without images."""
        return self.sums / self.counts.clamp_min(1)[:, None]

    def scatter(self) -> Tensor:
        """Scatter within classes (d, d): A, or the mean of the classes' covariances if `weighted`."""
        means = self.means()
        return self.second - (means * (self.weight * self.counts)[:, None]).t() @ means

    def precision(self) -> Tensor:
        """P (d, d): `pseudo_inverse` if `weighted`, else `shrunk_precision`."""
        scatter = self.scatter()
        return pseudo_inverse(scatter) if self.weighted else shrunk_precision(scatter, self.counts.sum().item())


def shrunk_precision(scatter: Tensor, count: float) -> Tensor:
    """P = d [A + tr(A) / (n - 1) I]^-1 (d, d) of a scatter A of n samples (Kubokawa and Srivastava, 2008).

    If all samples of each class are equal, they have no covariance, and P is d I.
    """
    identity, trace = torch.eye(len(scatter)).to(scatter), scatter.trace()
    if trace <= NOTHING * count:
        return len(scatter) * identity
    return len(scatter) * torch.linalg.inv(scatter + trace / max(count - 1, 1) * identity)


def pseudo_inverse(covariance: Tensor) -> Tensor:
    """Pseudo-inverse (d, d) of a covariance, with the cutoff of fp32 as published; d I if the covariance is zero."""
    if covariance.trace() <= NOTHING:
        return shrunk_precision(covariance, 1)
    cutoff = len(covariance) * torch.finfo(torch.float32).eps
    return torch.linalg.pinv(covariance, rtol=cutoff, hermitian=True)


def classifier(means: Tensor, precision: Tensor) -> tuple[Tensor, Tensor]:
    """Linear classifier of Gaussian classes: W = mu P (C, d) and b_k = -log C - mu_k P mu_k / 2 (C,)."""
    weight = means @ precision
    return weight, -math.log(len(means)) - (weight * means).sum(1) / 2


def around_texts(texts: Tensor, samples: Tensor, neighbours: int, copies: int) -> tuple[Tensor, Tensor]:
    """Means (C, d) and precision (d, d) of classes of which only the unit text features (C, d) are known.

    The samples of a class are the `neighbours` training samples (n, d) with the largest products with its text, and
    its mean is that of them and `copies` copies of the text. Its scatter is measured from the text. The precisions of
    the classes are averaged.
    """
    means, precision = [], torch.zeros(texts.shape[1], texts.shape[1]).to(texts)
    for text in texts:
        near = samples[(samples @ text).topk(min(neighbours, len(samples))).indices]
        means.append((near.sum(0) + copies * text) / (len(near) + copies))
        precision += shrunk_precision((near - text).t() @ (near - text), len(near)) / len(texts)
    return torch.stack(means), precision
