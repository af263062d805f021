"""Cross-modal adaptation (Lin et al., "Multimodality Helps Unimodality: Cross-Modal Few-Shot Learning with Multimodal
Models", CVPR 2023), trainer name CrossModal.

A classifier W (C, d) per task, whose training samples are images (the centre crop and its mirror) and the texts of all
templates: one half of each batch each. With unit features f, logits = s f w_k; w is not normalised. HEAD adapter puts
x' = 0.2 ReLU(U ReLU(D f)) + 0.8 f in the place of f. w starts as the unit mean of the class's texts, or at random.

AdamW, a warm-up of 50 steps that begins with the rate 1e-5, then a cosine over ITERATIONS. Learning rate, weight decay
and batch size are chosen from a grid on validation images, together with the number of steps: the first best of steps
1, 101, 201, ... WISE_FT mixes the weights with the texts' at the end. New classes have the weights of their texts.
"""

from __future__ import annotations

from clip.text_tower import TextTower
from dassl.config import at_least, between, declare
from dassl.config.rules import each, is_number
from dassl.data.tasks import TaskSpace
from dassl.engine import TRAINER_REGISTRY

from .base import FittedTrainer
from .mixed_classifiers import GRIDS, KEY, MixedClassifiers
from .settings import arguments, declare_shared, unread_problems

NUMBERS = each(lambda value: is_number(value) and value >= 0, "a list of numbers >= 0, such as (0.001, 0.0001)")
SIZES = each(
    lambda value: type(value) is int and value > 1 and value % 2 == 0, "a list of even integers, such as (8, 32)"
)
GRID = "; (): the published ones of HEAD"
declare_shared("CROSSMODAL", PREC="fp16", SCALE=0.0, TEMPLATES="all", CHOSEN_ON="val")
declare(KEY + "HEAD", "linear", allowed=tuple(GRIDS), help="linear classifier, or an adapter before it")
declare(KEY + "INIT", "zeroshot", allowed=("zeroshot", "random"), help="first class weights: of the texts, or random")
declare(KEY + "LR", (), allowed=NUMBERS, help="learning rates to choose from" + GRID)
declare(KEY + "WEIGHT_DECAY", (), allowed=NUMBERS, help="weight decays to choose from" + GRID)
declare(
    KEY + "BATCH_SIZE", (), allowed=SIZES, help="sizes of batches to choose from, half images and half texts" + GRID
)
declare(KEY + "ITERATIONS", 12800, allowed=between(1, 10_000_000), help="steps of the schedule")
declare(KEY + "STEPS", 0, allowed=at_least(0), help="number of steps taken; 0: chosen from 1, 101, 201, ...")
declare(
    KEY + "WISE_FT", 0.0, allowed=between(0, 1), help="share of the texts' weights in the final ones; published: 0.5"
)
declare(KEY + "FLIP", True, help="train on mirrored images, too")


@TRAINER_REGISTRY.register()
class CrossModal(FittedTrainer):
    """Linear classifier or adapter, trained on images and texts."""

    section = "CROSSMODAL"

    def problems(self, cfg) -> list[str]:
        c = cfg.TRAINER.CROSSMODAL
        found = super().problems(cfg) + unread_problems(KEY, c, "HEAD", {"WISE_FT": ("linear",)})
        if c.STEPS > c.ITERATIONS:
            found.append(
                f"{KEY}STEPS {c.STEPS}: the schedule ends after {KEY}ITERATIONS {c.ITERATIONS} steps; expected as many "
                "or fewer"
            )
        return found

    def load_critical_settings(self, c) -> dict[str, object]:
        return {"HEAD": c.HEAD}

    @classmethod
    def build_learner(cls, cfg, tower: TextTower, space: TaskSpace) -> MixedClassifiers:
        c = cfg.TRAINER.CROSSMODAL
        given = zip((c.LR, c.WEIGHT_DECAY, c.BATCH_SIZE), GRIDS[c.HEAD], strict=True)
        grid = tuple(tuple(own) or published for own, published in given)
        names = ("HEAD", "INIT", "ITERATIONS", "STEPS", "WISE_FT", "FLIP", "CHOSEN_ON")
        return MixedClassifiers(tower, space, grid=grid, seed=cfg.SEED, **arguments(c, *names))
