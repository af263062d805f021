"""Distances between the rows of two matrices, under Dassl's names."""

import torch
from torch.nn.functional import normalize

from dassl.utils.registry import check_availability


def euclidean_squared_distance(input1, input2):
    """Squared Euclidean distances: (m, d) and (n, d) -> (m, n)."""
    return torch.cdist(input1, input2, compute_mode="donot_use_mm_for_euclid_dist").pow(2)


def cosine_distance(input1, input2):
    """1 - cosine: (m, d) and (n, d) -> (m, n)."""
    return 1 - normalize(input1, dim=1) @ normalize(input2, dim=1).t()


DISTANCES = {"euclidean": euclidean_squared_distance, "cosine": cosine_distance}


def compute_distance_matrix(input1, input2, metric="euclidean"):
    """Distances of all rows, squared if Euclidean: (m, d) and (n, d) -> (m, n)."""
    check_availability(metric, DISTANCES, "distance")
    return DISTANCES[metric](input1, input2)
