"""Compare a learned method with zero-shot CLIP in a test, with a warning if the method is worse.

Both use the same classes, test images and image features. The cost is the text features of N hand-made prompts, and one
matrix product per batch.
"""

from __future__ import annotations

from torch import Tensor

from clip.model import CLIP
from clip.text_tower import TextTower
from dassl.config import declare
from dassl.data.tasks import TaskSpace
from dassl.evaluation import ClassificationMT
from dassl.metrics import METRICS

from .hand import HandPrompts
from .losses import cosine_logits
from .templates import first_of, own_templates

declare("TEST.ZERO_SHOT_CHECK", True, help="compare the learned model with zero-shot CLIP and warn if it is worse")

SHOWN = 5  # number of tasks listed in the warning
ADVICE = (
    "To try: {more}more epochs (OPTIM.MAX_EPOCH), less augmentation "
    "(INPUT.TRANSFORMS), the best model on validation (TEST.FINAL_MODEL best_val), class names in plain words; or use "
    "the hand-made prompts themselves (ZeroshotCLIP)"
)


class ZeroShotCheck:
    """Evaluate zero-shot CLIP with one template per task, on the test batches of a method.

    `more_images`: whether the dataset has unused training images; if so, the advice starts with them.
    """

    def __init__(self, cfg, clip: CLIP, tower: TextTower, space: TaskSpace, more_images: bool = True):
        self.text = HandPrompts(tower, space, [first_of(own) for own in own_templates(cfg, space)]).features  # (N, d)
        self.scale = clip.logit_scale.exp()
        self.evaluator = ClassificationMT(cfg, space=space)
        self.advice = ADVICE.format(more="more images per class (DATASET.NUM_SHOTS), " if more_images else "")

    def process(self, features: Tensor, label: Tensor, task: Tensor) -> None:
        """Evaluate a batch: frozen image features (B, d), labels (B,) or (B, N), tasks (B,)."""
        self.evaluator.process(cosine_logits(features, self.text, self.scale), label, task)

    def compare(self, report: dict | None) -> dict | None:
        """Print how the method compares with zero-shot CLIP, with a warning about tasks on which it is worse.

        `report`: results of the method.

        Returns {"tasks": [...], "mean": {...}} as in results.json, or None without a report on the same images.
        """
        own, _ = self.evaluator.measure()
        if report is None or [t["images"] for t in own["tasks"]] != [t["images"] for t in report["tasks"]]:
            return None
        pairs = [(a, b) for a, b in zip(report["tasks"], own["tasks"], strict=True)]
        pairs = [(a, b) for a, b in pairs if None not in (a["value"], b["value"])]
        worse = [(a, b) for a, b in pairs if a["value"] < b["value"]]
        number = "mean over tasks" if len(pairs) > 1 else pairs[0][0]["name"] if pairs else ""
        if pairs:
            gain = report["mean"]["value"] - own["mean"]["value"]
            print(f"Compared with zero-shot CLIP: {gain:+.2f} points, {_both(number, report['mean'], own['mean'])}")
        if worse:
            named = [_both(a["name"], a, b) for a, b in worse[:SHOWN]]
            more = f", and {len(worse) - SHOWN} more" if len(worse) > SHOWN else ""
            of = f" of {len(pairs)} tasks" if len(pairs) > 1 else " task"
            print(f"WARNING: below zero-shot CLIP on {len(worse)}{of}: {', '.join(named)}{more}. {self.advice}")
        names = METRICS.names(declared={task["metric"] for task in own["tasks"]})
        keys = ("id", "key", "name", "metric", "value", *names)
        return {"tasks": [{key: task[key] for key in keys} for task in own["tasks"]], "mean": own["mean"]}


def _both(name: str, learned: dict, zero_shot: dict) -> str:
    return f"{name} {learned['value']:.2f}% (zero-shot {zero_shot['value']:.2f}%)"
