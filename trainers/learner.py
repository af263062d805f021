"""The learner: the learned part of a method, which changes text features, image features and logits.

A method consists of a `Learner` and a trainer that builds it from the settings. Everything that a learner does not
override equals zero-shot CLIP: text features of hand-made prompts, features of the frozen image tower, scaled cosines.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from clip.additions import Additions, TowerAdditions
from clip.text_tower import TextTower
from dassl.data.tasks import TaskSpace

from .hand import HandPrompts
from .losses import cosine_logits
from .samples import StartSamples
from .templates import Forms


class Learner(nn.Module):
    """The learned part of a method. Checkpoints contain the learner without the frozen towers.

    All hooks have defaults, so a method overrides only the hooks that it changes. Columns are positions among the N
    classes of all tasks (see `TaskSpace`).

    Attributes:
        tower: the frozen text tower; `tower.clip` is the whole CLIP.
        space: the tasks.
        task_of_column: (N,) task of each class.
        known: (N,) whether the model was trained on each class. Set when a model is loaded; before, all are True.
        known_data: (N,) whether it was trained on the data set of each class. A shifted test set has the classes of its
            source and counts as another data set.
        hand_templates: the texts of each task for hand-made prompts, from the setting TEMPLATES; None: the first
            template of each task.
        fixed_scale: scale of the cosines, from the setting SCALE; 0: CLIP's own.
        by_task: True if the result of `image` depends on the task. Not needed for additions to the image tower in
            several sets.
    """

    by_task = False
    hand_templates: list[Forms] | None = None
    fixed_scale = 0.0

    def __init__(self, tower: TextTower, space: TaskSpace):
        super().__init__()
        self.tower, self.space = tower, space
        self.task_of_column = space.task_of_column.to(tower.device)
        self.known = torch.ones(space.num_classes, dtype=torch.bool, device=tower.device)
        self.known_data = torch.ones_like(self.known)
        self._hand: Tensor | None = None

    # ---- the hooks

    def additions(self) -> TowerAdditions:
        """Return the additions to the towers: tokens and low-rank changes, one set for all tasks or one set per task.

        Called once per training step, and once for all images of a test. The engine passes the image part to the image
        tower, with the set of each image's task; `text` receives the text part. Without additions to the image tower,
        features of the frozen tower are used, which are computed once for all runs.
        """
        return TowerAdditions()

    def text(self, select: Tensor, added=None) -> Tensor | None:
        """Text features of the classes in the columns `select` (N',): (N', d), or (N', M, d) with M prompts per class.

        `added`: the text part of `additions`; None: call `additions`. Returns None if text features depend on the
        image; then `logits` computes them.
        """
        return self.hand_features()[select]

    def image(self, features: Tensor, task: Tensor | None = None) -> Tensor:
        """Map the features of the image tower (B, d) to image features (B, d), for images of the tasks `task` (B,).

        If the additions request local or kept tokens, `features` is the corresponding output of the image tower.
        """
        return features

    def logits(self, image: Tensor, text: Tensor, columns: Tensor, task: Tensor | None = None):
        """Logits (B, N') of image features (B, d) over classes with text features (N', d), in fp32.

        May return (logits, {name: number}) with numbers to log. `columns` (N',) are the classes. `task` (B,) is the
        task of each image, if known: then logits of other tasks' classes are not used and may be -inf.
        """
        return cosine_logits(image, text, self.scale)

    def start(self, samples: StartSamples) -> None:
        """Compute the initial (or final) values of the learner from frozen features of the training images.

        Called before the first epoch. For methods without parameters to train by gradients, no epochs follow.
        """

    def finish(self, samples: StartSamples) -> None:
        """Compute what follows the steps, such as settings that are chosen on validation images.

        Called after the last epoch, before its checkpoint; with TEST.FINAL_MODEL best_val after every epoch, so what it
        sets must not change the training.
        """

    def parameter_groups(self) -> list[dict]:
        """Parameter groups for the optimiser: dicts with "params" and the options of the group.

        Options are options of the optimiser, such as "weight_decay", and "lr_scale", a factor on OPTIM.LR.
        """
        return [{"params": [parameter for parameter in self.parameters() if parameter.requires_grad]}]

    # ---- the interface to the rest of the project

    def forward(self, select: Tensor) -> Tensor | None:
        """Call `text(select)`."""
        return self.text(select)

    @property
    def scale(self) -> Tensor:
        """Scale of the cosines: `fixed_scale`, or CLIP's own, exp(logit_scale)."""
        own = self.tower.clip.logit_scale.exp()
        return torch.full_like(own, self.fixed_scale) if self.fixed_scale else own

    @property
    def starts(self) -> bool:
        """Whether the method computes something from the training images before the first epoch."""
        return type(self).start is not Learner.start

    @property
    def finishes(self) -> bool:
        """Whether the method computes something after its last step."""
        return type(self).finish is not Learner.finish

    def text_additions(self, select: Tensor, added: Additions | None = None) -> Additions | None:
        """Additions to the text tower for the classes `select` (N',): each class uses the set of its task."""
        added = self.additions().text if added is None else added
        return None if added is None else added.take(self.task_of_column[select])

    def hand_features(self) -> Tensor:
        """Text features (N, d) of the hand-made prompts of `hand_templates`, normalised; computed once."""
        if self._hand is None:
            with torch.autocast(self.tower.device.type, enabled=False):  # the same whoever asks first
                self._hand = HandPrompts(self.tower, self.space, self.hand_templates).features
        return self._hand

    def task_vectors(self) -> dict[str, Tensor]:
        """Vectors of each task for analyses: {title: (T, …)}; empty if all tasks share the same vectors."""
        found = {}
        for title, part in zip(("text prompts", "visual prompts"), self.additions(), strict=True):
            if part is not None and part.tokens is not None and len(part.tokens.values) == self.space.num_tasks:
                found[title] = part.tokens.values
        return found


class WrappedLearner(Learner):
    """A learner around the learner `base` of another method: hooks and attributes that it lacks are those of `base`."""

    def __init__(self, base: Learner):
        super().__init__(base.tower, base.space)
        self.base, self.by_task = base, base.by_task

    def __getattr__(self, name: str):
        try:
            return super().__getattr__(name)
        except AttributeError:  # what the base method's trainer expects of its learner
            return getattr(super().__getattr__("base"), name)

    def additions(self) -> TowerAdditions:
        return self.base.additions()

    def text(self, select: Tensor, added=None) -> Tensor | None:
        return self.base.text(select, added)

    def image(self, features: Tensor, task: Tensor | None = None) -> Tensor:
        return self.base.image(features, task)

    def logits(self, image: Tensor, text: Tensor, columns: Tensor, task: Tensor | None = None):
        return self.base.logits(image, text, columns, task)

    def hand_features(self) -> Tensor:
        return self.base.hand_features()

    def start(self, samples: StartSamples) -> None:
        self.base.start(samples)

    def finish(self, samples: StartSamples) -> None:
        self.base.finish(samples)

    def parameter_groups(self) -> list[dict]:
        return self.base.parameter_groups()

    @property
    def starts(self) -> bool:
        return self.base.starts

    @property
    def finishes(self) -> bool:
        return self.base.finishes

    @property
    def scale(self) -> Tensor:
        return self.base.scale
