"""Low-rank changes and tokens in both towers, with one set per task in one run."""

import torch
from torch import nn

from clip.additions import Additions, LowRank, Tokens, TowerAdditions
from clip.image_tower import ImageTower
from dassl.engine import TRAINER_REGISTRY
from trainers.base import MultiTaskTrainer
from trainers.learner import Learner
from trainers.rows import OwnedRows, task_owners
from trainers.settings import declare_shared

declare_shared("TASKCHANGES", PREC="fp32")


class Sets(OwnedRows):
    """Tensors with one row per task. Rows are matched by task when a model is loaded."""

    def __init__(self, space, width, rank=2, count=2):
        super().__init__()
        T = space.num_tasks
        self.down = nn.Parameter(torch.randn(T, rank, width) * 0.02)
        self.up = nn.Parameter(torch.zeros(T, width, rank))
        self.tokens = nn.Parameter(torch.randn(T, 1, count, width) * 0.02)
        self.own(task_owners(space), "task", "set of changes")


class TaskChanges(Learner):
    def __init__(self, tower, space):
        super().__init__(tower, space)
        layers, width, _ = ImageTower(tower.clip).require_prompts()
        self.of_text, self.of_image = Sets(space, tower.width), Sets(space, width)
        self.last = {"text": len(tower.blocks) - 1, "image": layers - 1}
        self.sentences = tower.texts([f"a photo of a {name.replace('_', ' ')}." for name in space.classnames])

    def additions(self):
        def of(sets, last, **how):
            change = LowRank(sets.down, sets.up)
            return Additions(Tokens(sets.tokens, [last], **how), {(last, "q"): change, (last - 1, "v"): change})

        text, image = of(self.of_text, self.last["text"], insert=True), of(self.of_image, self.last["image"])
        return TowerAdditions(text, image)

    def text(self, select, added=None):
        return self.tower(self.sentences.part(select), self.text_additions(select, added))


@TRAINER_REGISTRY.register()
class WrittenTaskChanges(MultiTaskTrainer):
    section = "TASKCHANGES"

    @classmethod
    def build_learner(cls, cfg, tower, space):
        return TaskChanges(tower, space)
