"""The learner: what a method learns, and how it changes text features, image features and logits.

A method is a `Learner` and a trainer that builds it from the settings. Whatever a learner does not override stays that
of zero-shot CLIP: text features of hand-made prompts, features of the frozen image tower, scaled cosines.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from clip.additions import Additions, TowerAdditions
from clip.text_tower import TextTower
from dassl.data.tasks import TaskSpace

from .hand import HandPrompts
from .losses import cosine_logits
from .rows import OwnedRows
from .samples import StartSamples


class Learner(nn.Module):
    """Everything a method learns. It is saved whole; the frozen towers are not part of it.

    Each hook has a default, so that a method overrides only what it changes. Columns are positions among the N classes
    of all tasks (see `TaskSpace`).

    Attributes:
        tower: the frozen text tower; `tower.clip` is the whole CLIP.
        space: the tasks.
        task_of_column: (N,) task of each class.
        known: (N,) whether the model was trained on each class. Set when a model is loaded; True for all before.
        by_task: True if `image` gives the same image other features for other tasks. Additions to the image tower in
            several sets need no such mark.
    """

    by_task = False

    def __init__(self, tower: TextTower, space: TaskSpace):
        super().__init__()
        self.tower, self.space = tower, space
        self.task_of_column = space.task_of_column.to(tower.device)
        self.known = torch.ones(space.num_classes, dtype=torch.bool, device=tower.device)
        self._hand: Tensor | None = None

    # ---- the hooks

    def additions(self) -> TowerAdditions:
        """What goes into the towers: tokens and low-rank changes, in one set for all tasks or one set per task.

        Asked once in a training step, and once for all images of a test. The engine gives the image tower its part, for
        each image the set of the image's task; `text` gets the text tower's part. Without additions to the image tower
        the frozen tower's features serve, and are computed once for all runs.
        """
        return TowerAdditions()

    def text(self, select: Tensor, added=None) -> Tensor | None:
        """Text features of the classes in the columns `select` (N',): (N', d), or (N', M, d) with M prompts per class.

        `added`: the part of `additions` for the text tower; None: ask for it. None is returned by a method whose text
        features depend on the image; its `logits` makes them.
        """
        return self.hand_features()[select]

    def image(self, features: Tensor, task: Tensor | None = None) -> Tensor:
        """Image features (B, d) out of those of the image tower (B, d), for images of the tasks `task` (B,).

        With additions that ask for local or kept tokens, `features` are what the image tower then returns.
        """
        return features

    def logits(self, image: Tensor, text: Tensor, columns: Tensor, task: Tensor | None = None):
        """Logits (B, N') of image features (B, d) over classes with text features (N', d), in fp32.

        May return (logits, {name: number}) with numbers to log. `columns` (N',) are the classes; `task` (B,) is the
        task of each image where that is known: logits of other tasks' classes are then never read and may be -inf.
        """
        return cosine_logits(image, text, self.scale)

    def start(self, samples: StartSamples) -> None:
        """Compute what is learned, or where learning starts, from the frozen features of the training images.

        Called before the first epoch; a method without parameters that learn by gradients has no epochs after it.
        """

    def parameter_groups(self) -> list[dict]:
        """Groups for the optimiser: {"params": [...]} each, and options of the group.

        Options are the optimiser's own, such as "weight_decay", and "lr_scale", a factor on OPTIM.LR.
        """
        return [{"params": [parameter for parameter in self.parameters() if parameter.requires_grad]}]

    # ---- what the rest of the house asks

    def forward(self, select: Tensor) -> Tensor | None:
        """`text(select)`."""
        return self.text(select)

    @property
    def scale(self) -> Tensor:
        """CLIP's own factor of the cosines, exp(logit_scale)."""
        return self.tower.clip.logit_scale.exp()

    @property
    def starts(self) -> bool:
        """Whether the method computes something from the training images before the first epoch."""
        return type(self).start is not Learner.start

    @property
    def serves_new_classes(self) -> bool:
        """Whether a trained model can be used on classes it was not trained on."""
        return not any(isinstance(part, OwnedRows) and part.refuses_new_classes for part in self.modules())

    def text_additions(self, select: Tensor, added: Additions | None = None) -> Additions | None:
        """The additions to the text tower for the classes `select` (N',): each class gets the set of its task."""
        added = self.additions().text if added is None else added
        return None if added is None else added.take(self.task_of_column[select])

    def hand_features(self) -> Tensor:
        """Text features (N, d) of hand-made prompts, the first template of each task; computed once."""
        if self._hand is None:
            self._hand = HandPrompts(self.tower, self.space).features
        return self._hand

    def task_vectors(self) -> dict[str, Tensor]:
        """What each task has of its own, for analyses: {title: (T, …)}; empty where all tasks have the same."""
        found = {}
        for title, part in zip(("text prompts", "visual prompts"), self.additions(), strict=True):
            if part is not None and part.tokens is not None and len(part.tokens.values) == self.space.num_tasks:
                found[title] = part.tokens.values
        return found
