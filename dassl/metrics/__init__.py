"""Accuracy and F1: the one implementation that training lines and evaluators use."""

from dassl.metrics.accuracy import compute_accuracy, compute_accuracy_map
from dassl.metrics.scores import Scores, classification_scores

__all__ = ["Scores", "classification_scores", "compute_accuracy", "compute_accuracy_map"]
