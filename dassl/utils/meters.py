"""Running averages of the numbers printed during training."""

from collections import defaultdict

PER_CENT = ("acc", "map")  # names printed with one decimal


class AverageMeter:
    """Last value and running average.

    Args:
        ema: use an exponential moving average (weight 0.9 on the past) instead of the mean of all values.
    """

    def __init__(self, ema=False):
        self.ema = ema
        self.reset()

    def reset(self):
        self.val = self.avg = self.sum = 0.0
        self.count = 0

    def update(self, val, n=1):
        if hasattr(val, "item"):  # a tensor
            val = val.item()
        first = self.count == 0
        self.val = val
        self.sum += val * n
        self.count += n
        if self.ema:
            self.avg = val if first else 0.9 * self.avg + 0.1 * val
        else:
            self.avg = self.sum / self.count


class MetricMeter:
    """Averages of a dictionary of numbers, printed as "loss 1.2345 (1.3456) acc 61.2 (60.1)"."""

    def __init__(self, delimiter=" "):
        self.meters = defaultdict(AverageMeter)
        self.delimiter = delimiter

    def update(self, input_dict):
        if input_dict is None:
            return
        if not isinstance(input_dict, dict):
            raise TypeError(f"MetricMeter.update expects a dict of numbers, found {type(input_dict).__name__}")
        for name, value in input_dict.items():
            self.meters[name].update(value)

    def __str__(self):
        parts = []
        for name, meter in self.meters.items():
            digits = 1 if name in PER_CENT or name.startswith("acc") else 4
            parts.append(f"{name} {meter.val:.{digits}f} ({meter.avg:.{digits}f})")
        return self.delimiter.join(parts)
