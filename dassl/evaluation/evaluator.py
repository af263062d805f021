"""Dassl's module of evaluators."""

from dassl.evaluation.build import EvaluatorBase
from dassl.evaluation.classification import Classification

__all__ = ["Classification", "EvaluatorBase"]
