"""GDA (Wang et al., "A Hard-to-Beat Baseline for Training-free CLIP-based Adaptation", ICLR 2024), trainer name GDA.

Gaussian discriminant analysis in closed form, per task. The samples are all VIEWS augmented views of all training
images, as unit features f. With means mu_k (C, d) and one precision P (d, d) (see `gaussian`), W = mu P and
b_k = -log C - mu_k P mu_k / 2, the logits are

    s f t_k + alpha (f W_k + b_k)        t_k: text feature, s: CLIP's scale (published: 100)

alpha is the first best of seven decades on validation images. Published: on all validation images of ten data sets, and
on the test images of ImageNet (CHOSEN_ON test). A class without images is predicted by its text alone; the rows of the
other classes are then centred, which changes no comparison among them.

New classes: each has the NEIGHBOURS training samples nearest to its text, and TEXT_COPIES copies of the text. A model
that was trained on base classes therefore keeps its VIEWS n d training samples. For base classes, the published variant
takes the pseudo-inverse of the mean of the classes' covariances (COVARIANCE pseudo_inverse).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from clip.text_tower import TextTower
from dassl.config import at_least, between, declare
from dassl.data.tasks import TaskSpace
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import UserError

from .base import FittedTrainer
from .choices import Choices, first_best, samples_to_choose, scores
from .class_rows import warn_of_missing
from .gaussian import Moments, around_texts, classifier
from .learner import Learner
from .losses import cosine_logits
from .rows import OwnedRows, SampleRows, class_owners, task_owners
from .samples import Samples, StartSamples
from .settings import arguments, declare_shared

KEY = "TRAINER.GDA."
DECADES = tuple(10.0**exponent for exponent in range(-4, 3))
declare_shared("GDA", PREC="fp16", SCALE=0.0, TEMPLATES="", CHOSEN_ON="val")
declare(KEY + "VIEWS", 10, allowed=between(1, 10_000), help="V, augmented views of each training image, as samples")
declare(KEY + "ALPHA", 0.0, allowed=at_least(0), help="weight of the Gaussian classifier; 0: chosen from 7 decades")
declare(
    KEY + "COVARIANCE",
    "shrunk",
    allowed=("shrunk", "pseudo_inverse"),
    help="precision: shrunk inverse of the pooled scatter; or pseudo-inverse of the mean of the classes' covariances, "
    "published for base to new",
)
declare(KEY + "NEIGHBOURS", 64, allowed=between(1, 100_000), help="training samples that stand for a new class")
declare(KEY + "TEXT_COPIES", 16, allowed=between(0, 100_000), help="copies of the text in the mean of a new class")


class GaussianClassifiers(OwnedRows, Learner):
    """One Gaussian classifier per task: buffers `weight` (N, d), `bias` (N,); nothing is trained by gradients.

    `kept` holds the unit features of all training samples if `keep`. Other arguments are the settings of the module.
    """

    def __init__(self, tower: TextTower, space: TaskSpace, *, views: int = 10, alpha: float = 0.0,
                 covariance: str = "shrunk", neighbours: int = 64, text_copies: int = 16, chosen_on: str = "val",
                 keep: bool = True):  # fmt: skip
        super().__init__(tower, space)
        self.views, self.given, self.chosen_on = views, alpha, chosen_on
        self.covariance, self.neighbours, self.text_copies, self.keep = covariance, neighbours, text_copies, keep
        self.grid = DECADES
        self.register_buffer("weight", torch.zeros(space.num_classes, tower.output_dim))
        self.register_buffer("bias", torch.zeros(space.num_classes))
        self.choices = Choices(space, alpha=alpha or 0.1)
        self.kept = SampleRows(space, tower.output_dim, task_owners(space), learned=False)
        self._made: tuple[Tensor, Tensor, Tensor] | None = None
        self.own(class_owners(space), "class", "classifier", ("weight", "bias"), new="initial")

    def match_saved(self, state_dict: dict, prefix: str, partial: bool = False) -> None:
        new = [owner for owner in self.owners if owner not in (state_dict.get(prefix + "_extra_state") or self.owners)]
        if new and not partial and not len(state_dict.get(prefix + "kept.keys", ())):
            raise UserError(
                f"This GDA model has no classifier of {new[0]!r} ({len(new)} of {len(self.owners)} classes were not in "
                "training) and does not hold its training samples, from which classifiers of new classes are made. "
                "Train it with DATASET.SUBSAMPLE_CLASSES base, which keeps them"
            )
        super().match_saved(state_dict, prefix, partial)
        self._made = None

    def text(self, select: Tensor, added=None) -> None:
        """Return None: the logits are not cosines of one text feature per class."""

    def logits(self, image: Tensor, text: None, columns: Tensor, task: Tensor | None = None) -> Tensor:
        zero_shot, gaussian = self.both(image, columns)
        return zero_shot + self.choices.alpha.float()[self.task_of_column[columns]] * gaussian

    def both(self, image: Tensor, columns: Tensor | slice) -> tuple[Tensor, Tensor]:
        """Zero-shot and Gaussian logits (B, N') of image features (B, d) over the classes in `columns`."""
        weight, bias = self.rows()
        image = F.normalize(image.float(), dim=-1)
        zero_shot = cosine_logits(image, self.hand_features()[columns], self.scale)
        return zero_shot, image @ weight[columns].t() + bias[columns]

    # ---- fit

    def start(self, samples: StartSamples) -> None:
        judges = None if self.given else samples_to_choose(samples, self.chosen_on, self.space, KEY + "ALPHA")
        views, (_, d), kept = samples.views(self.views), self.weight.shape, []
        weighted, device = self.covariance == "pseudo_inverse", self.weight.device
        moments = [Moments(size, d, len(views), weighted, device) for size in self.space.sizes]
        for view in views:
            for position, (found, own) in enumerate(zip(moments, view, strict=True)):
                features = F.normalize(own.features.to(device), dim=-1)
                found.add(features, own.labels.to(device))
                if self.keep:
                    kept.append((features, torch.full_like(own.labels, position)))
        if self.keep:
            self.kept.fill(*map(torch.cat, zip(*kept, strict=True)))
        for position, found in enumerate(moments):
            self.fit(position, found)
            if judges is not None:
                self.choose(position, judges[position])

    def fit(self, position: int, found: Moments) -> None:
        """Set the rows of the task at `position` from the moments of its samples."""
        seen = found.counts > 0
        warn_of_missing(self.space.tasks[position], seen, "which are predicted by their text alone")
        if not seen.any():
            return
        weight, bias = classifier(found.means()[seen], found.precision())
        if not seen.all():
            weight, bias = weight - weight.mean(0), bias - bias.mean()
        rows = seen.nonzero()[:, 0] + self.space.columns(position).start
        self.weight[rows], self.bias[rows] = weight.float(), bias.float()

    def choose(self, position: int, judge: Samples) -> None:
        """Set alpha of the task at `position`, the first best one for the images `judge`."""
        zero_shot, gaussian = self.both(judge.features.to(self.weight.device), self.space.columns(position))
        predicted = torch.stack([(zero_shot + alpha * gaussian).argmax(1) for alpha in self.grid]).cpu()
        found = scores(predicted, judge.labels, self.space.tasks[position])
        alpha = self.grid[first_best(found)] if found.max() > 0 else 0.1
        self.choices.choose(position, self.chosen_on, found.max(), alpha=alpha)

    def rows(self) -> tuple[Tensor, Tensor]:
        """Weights (N, d) and biases (N,), with those of the classes that the model was not trained on."""
        if self.known.all():
            return self.weight, self.bias
        if self._made is None or not torch.equal(self._made[0], self.known):
            weight, bias = self.weight.clone(), self.bias.clone()
            for position, task in enumerate(self.space.tasks):
                columns = (~self.known & (self.task_of_column == position)).nonzero()[:, 0]
                samples = self.kept.keys[self.kept.column == position].double()
                if len(columns) and not len(samples):
                    print(f"WARNING: task {task.id} ({task.name}): no training samples; its new classes are zero-shot")
                elif len(columns):
                    texts = self.hand_features()[columns].double()
                    own = classifier(*around_texts(texts, samples, self.neighbours, self.text_copies))
                    weight[columns], bias[columns] = (part.float() for part in own)
            self._made = self.known.clone(), weight, bias
        return self._made[1:]


@TRAINER_REGISTRY.register()
class GDA(FittedTrainer):
    """Gaussian discriminant analysis on image features, added to zero-shot CLIP."""

    section = "GDA"

    def load_critical_settings(self, c) -> dict[str, object]:
        return {"TEMPLATES": c.TEMPLATES}

    @classmethod
    def build_learner(cls, cfg, tower: TextTower, space: TaskSpace) -> GaussianClassifiers:
        names = ("VIEWS", "ALPHA", "COVARIANCE", "NEIGHBOURS", "TEXT_COPIES", "CHOSEN_ON")
        keep = cfg.DATASET.SUBSAMPLE_CLASSES == "base"
        return GaussianClassifiers(tower, space, keep=keep, **arguments(cfg.TRAINER.GDA, *names))
