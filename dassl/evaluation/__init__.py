"""Evaluators: logits and labels in, scores out. They know neither models nor datasets."""

from dassl.evaluation.build import EVALUATOR_REGISTRY, EvaluatorBase, build_evaluator
from dassl.evaluation.classification import Classification, ClassificationMT
from dassl.evaluation.task_unknown import TaskUnknown
