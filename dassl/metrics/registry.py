"""The table of metrics: a metric is one registered function of the model's output and the labels of one task."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from dassl.utils.registry import Registry

NEEDS = ("predictions", "probabilities", "logits")


@dataclass(frozen=True)
class Metric:
    """A registered metric.

    Attributes:
        name: name in results.json, in the printed result and for `--keyword`.
        function: (output, labels (n,)) -> number; see `MetricRegistry.register`.
        needs: what `output` is, one of NEEDS.
        larger_is_better: False for errors.
        unit: text after a printed value.
    """

    name: str
    function: Callable
    needs: str
    larger_is_better: bool
    unit: str

    def __call__(self, output, labels):
        """The value over at least one image as a float; None where the function gives no finite number."""
        value = self.function(output, labels)
        return float(value) if value is not None and math.isfinite(value) else None

    def show(self, value):
        """A value with two digits and its unit."""
        return "no value" if value is None else f"{value:.2f}{self.unit}"


class MetricRegistry(Registry):
    """The metrics by name, in order of registration."""

    def register(self, needs="predictions", larger_is_better=True, unit="%"):
        """Decorator of a metric, which is called after its function.

        Args:
            needs: first argument of the function, for the n images and C classes of one task on the CPU:
                "predictions" (n,) class indices, "probabilities" (n, C) fp32, or "logits" (n, C) fp32. The second
                argument is always the labels (n,). Logits are kept in memory only if a registered metric needs them.
            larger_is_better: False for errors.
            unit: text after a printed value; tables expect per cent.

        Raises:
            ValueError: `needs` is not one of NEEDS.
            KeyError: the name is taken.
        """
        if needs not in NEEDS:
            raise ValueError(f"a metric needs one of {', '.join(NEEDS)}, found {needs!r}")

        def add(function):
            name = function.__name__
            super(MetricRegistry, self).register(Metric(name, function, needs, larger_is_better, unit), name=name)
            return function

        return add

    def declarable(self):
        """Names of the metrics that a task may declare as its own: larger is better, and predictions are enough."""
        return tuple(m.name for m in self._objects.values() if m.larger_is_better and m.needs == "predictions")

    def need_logits(self):
        """Whether a registered metric needs more than predictions."""
        return any(metric.needs != "predictions" for metric in self._objects.values())


METRICS = MetricRegistry("METRICS")
