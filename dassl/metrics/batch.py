"""The model's output for a batch of images of one task, as metrics see it."""

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor
from torch.nn.functional import pad

TOP = 5  # most probable classes of an image that are kept


@dataclass
class Batch:
    """Logits and labels of some images of one task, and what several readers need from them, computed once.

    Attributes:
        logits: (b, C) fp32 on the CPU.
        labels: (b,) class indices.
    """

    logits: Tensor
    labels: Tensor

    @cached_property
    def log_probabilities(self) -> Tensor:
        """(b, C)."""
        return self.logits.log_softmax(1)

    @cached_property
    def top(self) -> tuple[Tensor, Tensor]:
        """The TOP most probable classes, the first one first; classes with equal logits by index.

        Returns classes (b, TOP), -1 where C is smaller, the first of which is argmax; and their probabilities (b, TOP),
        0 where C is smaller.
        """
        count = min(TOP + 1, self.logits.shape[1])
        values, classes = self.logits.topk(count)  # (b, count)
        # topk orders equal values as it likes, and chooses among them; so the next value counts, too
        unclear = (values[:, 1:] == values[:, :-1]).any(1) | values.isnan().any(1)
        if unclear.any():
            classes[unclear] = self.logits[unclear].argsort(dim=1, descending=True, stable=True)[:, :count]
        classes = classes[:, :TOP]
        probabilities = self.log_probabilities.gather(1, classes).exp()
        missing = (0, TOP - classes.shape[1])
        return pad(classes, missing, value=-1), pad(probabilities, missing)
