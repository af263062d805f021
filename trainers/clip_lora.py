"""CLIP-LoRA (Zanella and Ben Ayed, "Low-Rank Few-Shot Adaptation of Vision-Language Models", CVPR Workshops 2024),
trainer name CLIPLoRA.

Projections of the attention change by W' = W + g B A with A (r, in), B (out, r) and g = ALPHA / sqrt(r); published are
q, k and v in all layers of both towers. B is zero at first. In training the input of each low-rank path has a dropout
mask of its own. Loss: cross-entropy of SCALE cos(f, t), with text features t of one template, computed in every step.

The published code computes wrong gradients if DROPOUT is 0: it merges the changes into the weights for the forward
pass and takes them out before the backward pass. Here the gradients are exact for every DROPOUT.
"""

from __future__ import annotations

from clip.additions import PROJECTIONS
from clip.image_tower import ImageTower
from clip.text_tower import TextTower
from dassl.config import above, between, declare, each
from dassl.data.tasks import TaskSpace
from dassl.engine import TRAINER_REGISTRY

from .base import MultiTaskTrainer
from .low_rank import POSITIONS, Changed, Factors, GeneratedFactors, LowRankLearner, changed_projections, layers_at
from .prompt_sets import TaskPrompts
from .rows import task_owners
from .settings import declare_shared, is_changed
from .templates import task_templates

PUBLISHED_NAMES = {"o": "out"}
LAYER = each(lambda layer: type(layer) is int and layer >= 0, "a list of layers, counted from 0")

KEY = "TRAINER.CLIPLORA."
declare_shared("CLIPLORA", PREC="amp", DROPOUT=0.25, SCALE=100.0, TEMPLATES="a photo of a {}.", TSC=False)
declare(KEY + "R", 2, allowed=between(1, 1024), help="r, rank of the changes")
declare(KEY + "ALPHA", 1.0, allowed=above(0), help="the changes have the factor ALPHA / sqrt(r)")
declare(KEY + "ENCODER", "both", allowed=("both", "text", "vision"), help="towers that are changed")
declare(
    KEY + "PARAMS",
    ("q", "k", "v"),
    allowed=each(lambda name: name in (*PROJECTIONS, *PUBLISHED_NAMES), f"a list of {', '.join(PROJECTIONS)}"),
    help="projections that are changed: q, k, v, out (or o) of the attention; fc, proj of the MLP",
)
declare(KEY + "POSITION", "all", allowed=tuple(POSITIONS), help="layers that are changed: all, a third or a half")
for _tower in ("TEXT", "VISION"):
    declare(KEY + f"LAYERS_{_tower}", (), allowed=LAYER, help="layers by number, from 0, in place of POSITION")
declare(
    KEY + "SHARING",
    "hard",
    allowed=("hard", "soft"),
    help="hard: learned factors, one set for all tasks or with TSC one per task; soft: B generated from task names",
)


@TRAINER_REGISTRY.register()
class CLIPLoRA(MultiTaskTrainer):
    """Low-rank changes: one set for all tasks, one per task (TSC), or generated from task names (SHARING soft)."""

    section = "CLIPLORA"

    def problems(self, cfg) -> list[str]:
        c, found = cfg.TRAINER.CLIPLORA, []
        if c.ENCODER != "text":
            first = min(c.LAYERS_VISION, default=int(POSITIONS[c.POSITION][0] > 0))
            found += [f"{text}, or {KEY}ENCODER text" for text in self.image_problems(cfg, first)]
        if c.ENCODER != "vision":
            found += [f"{text}, or {KEY}ENCODER vision" for text in self.text_problems(cfg)]
        if not c.PARAMS:
            found.append(f'{KEY}PARAMS (): nothing would be learned; expected projections, e.g. ("q", "k", "v")')
        if c.TSC and c.SHARING == "soft":
            found.append(f"{KEY}TSC True and {KEY}SHARING soft exclude each other: task names generate B of each task")
        for tower, unchanged in (("TEXT", "vision"), ("VISION", "text")):
            if unchanged == c.ENCODER and c[f"LAYERS_{tower}"]:
                found.append(f"{KEY}LAYERS_{tower} is not read with {KEY}ENCODER {unchanged}: set it to ()")
        if c.LAYERS_TEXT and c.LAYERS_VISION and is_changed(KEY, c, "POSITION"):
            found.append(f"{KEY}POSITION {c.POSITION} is not read if layers are given by number: set it to all")
        return found

    def load_critical_settings(self, c) -> dict[str, object]:
        return {key: c[key] for key in ("ALPHA", "POSITION", "LAYERS_TEXT", "LAYERS_VISION")}

    @classmethod
    def changed(cls, c, tower: TextTower) -> list[Changed]:
        """The changed projections of both towers."""
        names, found = {PUBLISHED_NAMES.get(name, name) for name in c.PARAMS}, []
        if c.ENCODER != "vision":
            layers = layers_at(c.POSITION, len(tower.blocks), c.LAYERS_TEXT, KEY + "LAYERS_TEXT")
            found += changed_projections("text", tower.blocks, layers, names)
        if c.ENCODER != "text":
            count = ImageTower(tower.clip).require_prompts()[0]
            layers = layers_at(c.POSITION, count, c.LAYERS_VISION, KEY + "LAYERS_VISION")
            found += changed_projections("image", tower.clip.visual.transformer.resblocks, layers, names)
        return found

    @classmethod
    def build_learner(cls, cfg, tower: TextTower, space: TaskSpace) -> LowRankLearner:
        c = cfg.TRAINER.CLIPLORA
        changed = cls.changed(c, tower)
        if c.SHARING == "soft":
            sets = GeneratedFactors(tower, space, lambda: Factors(changed, c.R, generated=True))
        else:
            owners = task_owners(space) if c.TSC else None
            sets = TaskPrompts(lambda: Factors(changed, c.R), owners, "set of factors")
        templates = task_templates(c.TEMPLATES, KEY + "TEMPLATES", space, quiet=True)
        gain = c.ALPHA * c.R**-0.5
        return LowRankLearner(tower, space, changed, sets, gain=gain, dropout=c.DROPOUT, templates=templates)
