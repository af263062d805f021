"""Zero-shot CLIP beside the test of a learned method, so that nobody takes a loss for a gain.

The same classes, the same test images and the same image features: it costs the text features of N hand-made prompts
and one more matrix product for each batch.
"""

from __future__ import annotations

from torch import Tensor

from clip.model import CLIP
from clip.text_tower import TextTower
from dassl.config import declare
from dassl.data.tasks import TaskSpace
from dassl.evaluation import ClassificationMT
from dassl.metrics import METRICS

from .losses import cosine_logits

declare("TEST.ZERO_SHOT_CHECK", True, help="compare what was learned with zero-shot CLIP; warn where it is worse")

SHOWN = 5  # tasks named in the warning
ADVICE = (
    "To try: {more}more epochs (OPTIM.MAX_EPOCH), less augmentation "
    "(INPUT.TRANSFORMS), the best model on validation (TEST.FINAL_MODEL best_val), class names in plain words; or use "
    "the hand-made prompts themselves (ZeroshotCLIP)"
)


class ZeroShotCheck:
    """Results of zero-shot CLIP, one template a task, on the batches a method is tested on.

    For each batch: `expect(label (B,), task (B,))`, then `see(features (B, d))`. `more_images`: whether there are
    training images that have not been used, which the advice then begins with.
    """

    def __init__(self, cfg, clip: CLIP, tower: TextTower, space: TaskSpace, more_images: bool = True):
        from .zsclip import HandPrompts, ZeroshotCLIP  # they are trainers, and trainers import this

        self.text = HandPrompts(tower, space, ZeroshotCLIP.templates(cfg, space)).features  # (N, d)
        self.scale = clip.logit_scale.exp()
        self.evaluator = ClassificationMT(cfg, space=space)
        self.advice = ADVICE.format(more="more images a class (DATASET.NUM_SHOTS), " if more_images else "")
        self._target: tuple[Tensor, Tensor] | None = None

    def expect(self, label: Tensor, task: Tensor) -> None:
        self._target = label, task

    def see(self, features: Tensor) -> None:
        if self._target is not None and len(features) == len(self._target[0]):
            self.evaluator.process(cosine_logits(features, self.text, self.scale), *self._target)
        self._target = None  # a method may encode the same images again, for itself

    def compare(self, report: dict | None) -> dict | None:
        """Warn where the report of a method is below zero-shot.

        Returns: {"tasks": [...], "mean": {...}} as in results.json, or None where the method did not show its features
        of every image.
        """
        own, _ = self.evaluator.measure()
        if report is None or [t["images"] for t in own["tasks"]] != [t["images"] for t in report["tasks"]]:
            return None
        pairs = [(a, b) for a, b in zip(report["tasks"], own["tasks"], strict=True) if a["images"]]
        worse = [(a, b) for a, b in pairs if a["value"] < b["value"]]
        if worse:
            named = [_both(a["name"], a, b) for a, b in worse[:SHOWN]]
            more = f", and {len(worse) - SHOWN} more" if len(worse) > SHOWN else ""
            of = f" of {len(pairs)} tasks" if len(pairs) > 1 else " task"
            mean = f"; {_both('mean', report['mean'], own['mean'])}" if len(pairs) > 1 else ""
            print(f"WARNING: below zero-shot CLIP on {len(worse)}{of}: {', '.join(named)}{more}{mean}. {self.advice}")
        keys = ("id", "key", "name", "metric", "value", *METRICS.registered_names())
        return {"tasks": [{key: task[key] for key in keys} for task in own["tasks"]], "mean": own["mean"]}


def _both(name: str, learned: dict, zero_shot: dict) -> str:
    return f"{name} {learned['value']:.2f}% (zero-shot {zero_shot['value']:.2f}%)"
