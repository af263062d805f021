"""Metrics: registered functions that evaluators apply to every task, and accuracies of a batch for training lines.

Every Python file of this folder is imported, so a new metric is one file here, or in any module that is imported:

>>> from dassl.metrics import METRICS
>>> @METRICS.register(needs="probabilities", larger_is_better=False)
... def confidence_gap(probabilities, labels): ...
"""

from importlib import import_module
from pkgutil import iter_modules

from dassl.metrics.accuracy import compute_accuracy, compute_accuracy_map
from dassl.metrics.batch import Batch
from dassl.metrics.distance import compute_distance_matrix
from dassl.metrics.registry import METRICS, Metric
from dassl.metrics.scores import confusion_matrix

for _module in sorted(module.name for module in iter_modules(__path__)):
    import_module(f"{__name__}.{_module}")
