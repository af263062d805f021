"""The table of metrics: a metric is one registered function of the model's output and the labels of one task."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from dassl.utils.registry import Registry

NEEDS = ("predictions", "probabilities", "logits")
KEEP_LOGITS = ("probabilities", "logits")


@dataclass(frozen=True)
class Metric:
    """A registered metric.

    Attributes:
        name: name in results.json, in the printed result and for `--keyword`.
        function: (output, labels (n,)) -> number; see `MetricRegistry.register`.
        needs: what `output` is: one of NEEDS, or a function of a batch.
        larger_is_better: False for errors.
        unit: text after a printed value.
        headline: whether the metric has a line of its own in the printed result.
        declared: whether it is computed only for tasks that declare it as theirs.
        tags: whether it is a metric of tagging tasks, whose images have any number of classes.
    """

    name: str
    function: Callable
    needs: str | Callable
    larger_is_better: bool
    unit: str
    headline: bool = True
    declared: bool = False
    tags: bool = False

    def __call__(self, output, labels):
        """The value over at least one image as a float; None where the function gives no finite number."""
        value = self.function(output, labels)
        return float(value) if value is not None and math.isfinite(value) else None

    def show(self, value):
        """A value with two digits and its unit."""
        return "no value" if value is None else f"{value:.2f}{self.unit}"


class MetricRegistry(Registry):
    """The metrics by name, in order of registration."""

    def register(self, needs="predictions", larger_is_better=True, unit="%", headline=True, declared=False, tags=False):
        """Decorator of a metric, which is called after its function.

        Args:
            needs: first argument of the metric, for the n images and C classes of one task on the CPU:
                "predictions" (n,) class indices, "probabilities" (n, C) fp32, or "logits" (n, C) fp32. The second
                argument is always the labels (n,). For the last two, the logits of all images are kept in memory:
                n * C * 4 bytes. A function that reduces a `dassl.metrics.Batch` to values (b, ...) is called for each
                batch, and only its values are kept; the first argument of the metric is then (n, ...).
            larger_is_better: False for errors.
            unit: text after a printed value; tables expect per cent.
            headline: print the metric on a line of its own; False: on one line with others.
            declared: compute the metric only for tasks that declare it, and report it only if there are any.
            tags: a task that declares the metric is a tagging task: its images have one or several classes. The second
                argument is then (n, C) bool, and `needs` is "logits".

        Raises:
            ValueError: `needs` is neither one of NEEDS nor a function.
            KeyError: the name is taken.
        """
        if needs not in NEEDS and not callable(needs):
            raise ValueError(f"a metric needs one of {', '.join(NEEDS)}, or a function of a batch, found {needs!r}")

        def add(function):
            metric = Metric(
                function.__name__, function, needs, larger_is_better, unit, headline, declared or tags, tags
            )
            super(MetricRegistry, self).register(metric, name=metric.name)
            return function

        return add

    def declarable(self):
        """Names of the metrics that a task may declare as its own.

        Larger is better, and predictions are enough, or the metric is made for being declared.
        """
        found = (m for m in self._objects.values() if m.larger_is_better)
        return tuple(m.name for m in found if m.needs == "predictions" or m.declared)

    def need_logits(self):
        """Whether a metric of all tasks needs the logits of all images."""
        return any(metric.needs in KEEP_LOGITS and not metric.declared for metric in self._objects.values())

    def batch_functions(self, declared=()):
        """The functions of a batch that the metrics of `names` need, each once."""
        needs = (self.get(name).needs for name in self.names(declared=declared))
        return list(dict.fromkeys(function for function in needs if callable(function)))

    def names(self, headline=None, declared=()):
        """Names of the metrics of a report.

        Args:
            headline: only metrics with (True) or without (False) a printed line of their own; None: all.
            declared: metrics that tasks of the report declare.
        """
        return [
            metric.name
            for metric in self._objects.values()
            if headline in (None, metric.headline) and (not metric.declared or metric.name in declared)
        ]


METRICS = MetricRegistry("METRICS")
