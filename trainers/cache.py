"""A cache of training images, as in Tip-Adapter: features are keys, classes are values.

    logits_k = s f . t_k + alpha sum_{i: y_i = k} exp(-beta (1 - f . key_i))

f (d,) is the normalised feature of an image, t_k the text feature of class k, key_i (d,) the feature of training image
i, and y_i its class. Each task has its own cache, alpha and beta.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from clip.text_tower import TextTower
from dassl.config import at_least, between, declare, each, is_number
from dassl.data.tasks import TaskSpace

from .choices import Choices, first_best, samples_to_choose, scores
from .class_rows import seen_classes
from .learner import Learner
from .losses import cosine_logits
from .rows import SampleRows
from .samples import Samples, StartSamples
from .settings import declare_shared

ALPHA, BETA = 1.17, 1.0  # published initial values
PUBLISHED = {  # data set: B and A, the upper ends of the grids of beta and alpha; initial alpha
    "Caltech101": (12, 5, 3),
    "DescribableTextures": (13, 13, 2),
    "EuroSAT": (12, 10, 2),
    "FGVCAircraft": (30, 30, 5),
    "Food101": (10, 10, 1.17),
    "ImageNet": (7, 3, 1.17),
    "OxfordFlowers": (50, 50, 10),
    "OxfordPets": (7, 3, 1.17),
    "StanfordCars": (20, 10, 3),
    "SUN397": (12, 10, 1.17),
    "UCF101": (7, 3, 3),
}
LIMITS = {"cpu": 2**20, "cuda": 2**27}  # numbers per tensor of a search: what stays in a processor's cache, or 512 MB


def declare_cache(section: str) -> None:
    """Declare the settings of a cache in cfg.TRAINER.<section>."""
    key, pair = f"TRAINER.{section}.", "two numbers above 0"
    declare_shared(section, PREC="fp16", SCALE=0.0, TEMPLATES="", CHOSEN_ON="val")
    declare(key + "VIEWS", 10, allowed=between(1, 1000), help="V, augmented views of an image whose mean is its key")
    declare(key + "ALPHA", 0.0, allowed=at_least(0), help="weight of the cache; 0: searched")
    declare(key + "BETA", 0.0, allowed=at_least(0), help="sharpness of the affinities; 0: searched")
    positive = each(lambda value: is_number(value) and value > 0, pair, 2)
    declare(key + "SEARCH_SCALE", (7.0, 3.0), allowed=positive, help="B and A, upper ends of the grids of beta, alpha")
    whole = each(lambda value: type(value) is int and 0 < value <= 10_000, "two integers from 1 to 10,000", 2)
    declare(key + "SEARCH_STEP", (200, 20), allowed=whole, help="number of values of beta and of alpha")
    declare(
        key + "BY_DATASET",
        False,
        help="take B, A and the initial alpha of the published table, which is tuned by data set, for its 11 data sets",
    )


def grid(end: float, count: int, given: float = 0.0) -> list[float]:
    """0.1 + i (end - 0.1) / count for i < count, so `end` itself is not tried; or only the `given` value if above 0."""
    return [given] if given else [0.1 + i * (end - 0.1) / count for i in range(count)]


def cache_options(c, section: str, space: TaskSpace) -> dict:
    """Keyword arguments of `Cache` from the section `c` of the settings."""
    key, (default_b, default_a) = f"TRAINER.{section}.", c.SEARCH_SCALE
    grids, table = [], PUBLISHED if c.BY_DATASET else {}
    for task in space.tasks:
        b, a, _ = table.get(task.owner, (default_b, default_a, 0))
        grids.append((grid(b, c.SEARCH_STEP[0], c.BETA), grid(a, c.SEARCH_STEP[1], c.ALPHA)))
    if c.BY_DATASET and (others := [task.key for task in space.tasks if task.owner not in table]):
        print(f"{key}BY_DATASET: {', '.join(others)} not in the published table; {key}SEARCH_SCALE is used")
    return {
        "views": c.VIEWS,
        "grids": grids,
        "chosen_on": c.CHOSEN_ON,
        "fixed": f"{key}ALPHA and {key}BETA, e.g. {ALPHA} and {BETA}",
    }


class Cache(Learner):
    """A cache per task, without a vote for classes that have no training images: these are predicted zero-shot.

    Args:
        tower, space: as for every learner.
        grids: (values of beta, values of alpha) of each task. A pair of single values is not searched.
        views: V, number of augmented views whose mean is a key.
        chosen_on: split whose images choose alpha and beta.
        fixed: the settings to give in place of a search, for messages.
    """

    def __init__(
        self,
        tower: TextTower,
        space: TaskSpace,
        *,
        grids: Sequence[tuple[list[float], list[float]]],
        views: int = 10,
        chosen_on: str = "val",
        fixed: str = "",
    ):
        super().__init__(tower, space)
        self.views, self.grids, self.chosen_on, self.fixed = views, grids, chosen_on, fixed
        self.rows = SampleRows(space, tower.output_dim)
        self.chosen = Choices(space, alpha=ALPHA, beta=BETA)

    @property
    def searches(self) -> bool:
        """Whether any task chooses alpha or beta."""
        return any(len(betas) * len(alphas) > 1 for betas, alphas in self.grids)

    def logits(self, image: Tensor, text: Tensor, columns: Tensor, task: Tensor | None = None) -> Tensor:
        (alpha, beta), rows = self.weights(), self.rows if self.training else self.kept
        similarity = F.normalize(image.float(), dim=-1) @ rows.keys.t()  # (B, M)
        affinity = (beta[self.task_of_column[rows.column]] * (similarity - 1)).exp()
        votes = affinity @ (rows.column[:, None] == columns).float()  # (B, N')
        return cosine_logits(image, text, self.scale) + alpha[self.task_of_column[columns]] * votes

    def weights(self) -> tuple[Tensor, Tensor]:
        """alpha (T,) and beta (T,)."""
        return self.chosen.alpha.float(), self.chosen.beta.float()

    @property
    def kept(self) -> SampleRows:
        """The rows of the model that is tested."""
        return self.rows

    def start(self, samples: StartSamples) -> None:
        """Fill the rows: each key is the normalised mean of the unnormalised features of V views."""
        if self.searches:
            samples_to_choose(samples, self.chosen_on, self.space, self.fixed)  # an error comes before the views
        first, *others = (samples.views(self.views)[v] for v in range(self.views))
        keys, columns = [], []
        for position, task in enumerate(self.space.tasks):
            labels = first[position].labels
            mean = sum((view[position].features for view in others), first[position].features) / self.views
            keys.append(F.normalize(mean, dim=-1))
            columns.append(labels + self.space.offsets[position])
            seen_classes(task, labels, "for which the cache has no vote")
        self.rows.fill(torch.cat(keys), torch.cat(columns))

    def choose(self, samples: StartSamples) -> None:
        """Choose alpha and beta of each task: the first best pair, with beta as the outer loop."""
        if not self.searches:
            for position, (betas, alphas) in enumerate(self.grids):
                self.chosen.choose(position, "", alpha=alphas[0], beta=betas[0])
            return
        for position, own in enumerate(samples_to_choose(samples, self.chosen_on, self.space, self.fixed)):
            betas, alphas = self.grids[position]
            values = self.scores(self.kept, position, own, betas, alphas)
            if values is not None:
                best = first_best(values)
                beta, alpha = betas[best // len(alphas)], alphas[best % len(alphas)]
                self.settle(position, alpha, beta, values[best].item())

    def settle(self, position: int, alpha: float, beta: float, score: float) -> None:
        """Set alpha and beta of the task at `position`, which reach `score` on the images that choose."""
        self.chosen.choose(position, self.chosen_on, score, alpha=alpha, beta=beta)

    def scores(
        self, rows: SampleRows, position: int, own: Samples, betas: Sequence[float], alphas: Sequence[float]
    ) -> Tensor | None:
        """Scores of all pairs on images of the task at `position`, beta as the outer loop; None without keys."""
        columns, task = self.space.columns(position), self.space.tasks[position]
        mine = self.task_of_column[rows.column] == position
        if not mine.any():
            return None
        keys, values = rows.keys.detach()[mine], rows.column[mine] - columns.start
        text = self.scale.detach().float() * F.normalize(self.hand_features()[columns].float(), dim=-1)
        predicted = cache_predictions(own.features, keys, values, text, betas, alphas)
        return torch.cat([scores(part, own.labels, task) for part in predicted])


def cache_predictions(
    features: Tensor, keys: Tensor, values: Tensor, text: Tensor, betas: Sequence[float], alphas: Sequence[float]
) -> Tensor:
    """Classes that a cache predicts with all pairs of beta and alpha: (len(betas), len(alphas), n), on the CPU.

    One pass over the images in parts, so that the tensors (M, part) and (C, part) stay small. An affinity is computed
    once per beta, and summed by class.

    Args:
        features: (n, d) of images.
        keys, values: (M, d), (M,) class of each key within the task.
        text: (C, d) text features, times the scale.
    """
    order, classes = values.argsort(stable=True), len(text)
    keys, counts = keys[order], torch.bincount(values, minlength=classes)
    even = bool((counts == counts[0]).all())
    found = torch.empty(len(betas), len(alphas), len(features), dtype=torch.int16 if classes < 2**15 else torch.int32)
    size = max(1, LIMITS.get(keys.device.type, LIMITS["cpu"]) // max(len(keys), len(alphas) * classes))
    for first in range(0, len(features), size):
        x = F.normalize(features[first : first + size].to(keys.device), dim=-1).t()  # (d, part)
        zero_shot, similarity = text @ x, (keys @ x).sub_(1)  # (C, part), (M, part)
        affinity = torch.empty_like(similarity)
        for i, beta in enumerate(betas):
            torch.mul(similarity, beta, out=affinity).exp_()
            if even:  # as many keys in each class: several times as fast
                votes = affinity.view(classes, -1, affinity.shape[1]).sum(1)  # (C, part)
            else:
                votes = torch.segment_reduce(affinity, "sum", lengths=counts, axis=0)
            found[i, :, first : first + size] = _winners(zero_shot, votes, alphas).to(found)
    return found


def _winners(zero_shot: Tensor, votes: Tensor, alphas: Sequence[float]) -> Tensor:
    """Largest class of zero_shot + alpha votes, both (C, part), for each alpha: (len(alphas), part).

    The logits of a class are a line in alpha. So a class that wins at the least and at the greatest alpha wins at all.
    """
    low, high = ((zero_shot + alpha * votes).argmax(0) for alpha in (min(alphas), max(alphas)))
    found, rest = low.repeat(len(alphas), 1), (low != high).nonzero()[:, 0]
    if len(rest):
        weights = torch.tensor(alphas, device=votes.device)[:, None, None]
        found[:, rest] = (zero_shot[:, rest] + weights * votes[:, rest]).argmax(1)
    return found
