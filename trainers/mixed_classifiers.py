"""Classifiers trained on images and texts: the learner of cross-modal adaptation."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clip.text_tower import TextTower
from dassl.data.tasks import Task, TaskSpace

from .choices import Choices, first_best, samples_to_choose, scores
from .class_rows import seen_classes
from .hand import encode_templates
from .learner import Learner
from .mixed_batches import REDUCTION, Parts, adapt, drawn, head_logits, initial_parts, mixed_rows, train_heads
from .rows import OwnedRows, apply_by_task, class_owners, task_owners
from .samples import Samples, StartSamples, task_generator

KEY = "TRAINER.CROSSMODAL."
GRIDS = {  # published learning rates, weight decays and batch sizes of each head
    "linear": ((1e-3, 1e-4), (0.0, 1e-2, 1e-4), (8, 32)),
    "adapter": ((1e-4, 1e-5, 1e-6, 1e-7), (0.0, 1e-3, 1e-5), (8,)),
}
WARMUP, EVERY = 50, 100


class Adapters(OwnedRows):
    """The adapter of each task: `down` (T, d/4, d), `up` (T, d, d/4); zero, i.e. without effect, before training."""

    def __init__(self, space: TaskSpace, width: int):
        super().__init__()
        self.down = nn.Parameter(torch.zeros(space.num_tasks, width // REDUCTION, width))
        self.up = nn.Parameter(torch.zeros(space.num_tasks, width, width // REDUCTION))
        self.own(task_owners(space), "task", "adapter", new="initial")


class MixedClassifiers(OwnedRows, Learner):
    """One classifier per task: `weight` (N, d), and `adapters` with HEAD adapter.

    Arguments are the settings of CrossModal; `grid` has learning rates, weight decays and batch sizes.
    """

    def __init__(self, tower: TextTower, space: TaskSpace, *, head: str = "linear", grid=(), init: str = "zeroshot",
                 iterations: int = 12800, steps: int = 0, wise_ft: float = 0.0, flip: bool = True,
                 chosen_on: str = "val", seed: int = 1):  # fmt: skip
        super().__init__(tower, space)
        self.hand_templates = [task.templates for task in space.tasks]
        *rates, self.sizes = grid or GRIDS[head]
        self.rates, self.init = list(product(*rates)), init  # pairs of learning rate and weight decay
        self.iterations, self.given, self.wise_ft, self.flip = iterations, steps, wise_ft, flip
        self.chosen_on, self.seed, self.warmup, self.every = chosen_on, seed, WARMUP, EVERY
        self.weight = nn.Parameter(torch.zeros(space.num_classes, tower.output_dim))
        self.adapters = Adapters(space, tower.output_dim) if head == "adapter" else None
        self.by_task, self.train_heads = head == "adapter", train_heads
        self.choices = Choices(space, lr=0.0, weight_decay=0.0, batch_size=0, steps=0)
        self.own(class_owners(space), "class", "classifier", ("weight",), new="initial")

    # ---- prediction

    def image(self, features: Tensor, task: Tensor | None = None) -> Tensor:
        found = F.normalize(features.float(), dim=-1)
        if self.adapters is None:
            return found
        pairs = zip(self.adapters.down, self.adapters.up, strict=True)
        return apply_by_task(found, task, [partial(adapt, down=down, up=up) for down, up in pairs])

    def text(self, select: Tensor, added=None) -> Tensor:
        """Class weights (N', d); those of classes that the model was not trained on are their texts'."""
        if self.known[select].all():
            return self.weight[select]
        texts = torch.cat([self.mean_text(self.texts(position)) for position in range(self.space.num_tasks)])
        return torch.where(self.known[select][:, None], self.weight[select], texts[select])

    def logits(self, image: Tensor, text: Tensor, columns: Tensor, task: Tensor | None = None) -> Tensor:
        return self.scale.float() * image @ text.float().t()

    def texts(self, position: int) -> Tensor:
        """Text features (M, C, d) of a task under its M templates, not normalised."""
        with torch.autocast(self.tower.device.type, enabled=False):
            task = self.space.tasks[position]
            where = f"{KEY}TEMPLATES, {task.key}"
            return encode_templates(self.tower, task.classnames, self.hand_templates[position], where=where)

    @staticmethod
    def mean_text(texts: Tensor) -> Tensor:
        """The unit mean (C, d) of text features (M, C, d)."""
        return F.normalize(texts.mean(0), dim=-1)

    # ---- fit

    def start(self, samples: StartSamples) -> None:
        judges = [None] * self.space.num_tasks
        if not self.given or len(self.rates) * len(self.sizes) > 1:
            fixed = f"{KEY}STEPS, and one value each of {KEY}LR, {KEY}WEIGHT_DECAY and {KEY}BATCH_SIZE"
            judges = samples_to_choose(samples, self.chosen_on, self.space, fixed)
        sources = [samples.train, samples.mirrored] if self.flip else [samples.train]
        for position, (task, judge, *own) in enumerate(zip(self.space.tasks, judges, *sources, strict=True)):
            images = Samples(*(torch.cat(part).to(self.weight.device) for part in zip(*own, strict=True)))
            otherwise = "of which only the texts are learned" if len(images.labels) else "which are zero-shot"
            seen_classes(task, images.labels, otherwise)
            self.fit(position, images, judge)

    def fit(self, position: int, images: Samples, judge: Samples | None) -> None:
        """Train the classifier of the task at `position`; the images `judge` choose its settings, if given."""
        task, columns, raw = self.space.tasks[position], self.space.columns(position), self.texts(position)
        zero_shot = self.weight[columns] = self.mean_text(raw)
        if not len(images.labels):
            return
        images = Samples(F.normalize(images.features, dim=-1), images.labels)
        labels = torch.arange(raw.shape[1], device=raw.device).repeat(len(raw))
        texts = Samples(F.normalize(raw.flatten(0, 1), dim=-1), labels)
        generator = task_generator(self.seed, task)
        weight = zero_shot if self.init == "zeroshot" else drawn(tuple(zero_shot.shape), generator).to(zero_shot)
        parts = initial_parts(weight, self.adapters is not None, generator)
        val = None if judge is None else F.normalize(judge.features.to(images.features), dim=-1)
        best = None
        for size in self.batch_sizes(len(images.labels), len(texts.labels)):
            for step, heads in self.checked_steps(parts, size, images, texts, task):
                found = torch.zeros(len(heads["weight"]))
                if judge is not None:
                    found = scores(head_logits(heads, val, self.scale).argmax(-1).cpu(), judge.labels, task)
                g = first_best(found)
                rank = -found[g].item(), g, size  # of equal scores, the first setting in the grid, at its first step
                if best is None or rank < best[0]:
                    best = rank, step, {name: part[g].detach().clone() for name, part in heads.items()}
        (score, g, size), steps, parts = best
        self.weight[columns] = parts["weight"] * (1 - self.wise_ft) + self.wise_ft * zero_shot
        if self.adapters is not None:
            self.adapters.down[position], self.adapters.up[position] = parts["down"], parts["up"]
        split, score = ("", None) if judge is None else (self.chosen_on, -score)
        lr, decay = self.rates[g]
        self.choices.choose(position, split, score, lr=lr, weight_decay=decay, batch_size=size, steps=steps)

    def batch_sizes(self, images: int, texts: int) -> list[int]:
        """Sizes whose halves are smaller than the two sets, as published; if there is none, the smallest, cut."""
        least = min(images, texts)
        return [size for size in self.sizes if size // 2 < least] or [min(*self.sizes, 2 * least)]

    def checked_steps(
        self, parts: Parts, size: int, images: Samples, texts: Samples, task: Task
    ) -> Iterator[tuple[int, Parts]]:
        """Train all pairs of `rates` with batches of this size; yield (steps, heads) at the steps to choose from."""
        lrs, decays = zip(*self.rates, strict=True)
        generator, steps = task_generator(self.seed, task), self.given or self.iterations
        rows = mixed_rows(len(images.labels), len(texts.labels), size, steps, generator)
        options = {"lrs": lrs, "decays": decays, "scale": self.scale, "warmup": self.warmup, "total": self.iterations}
        for step, (_, heads, _) in enumerate(self.train_heads(parts, images, texts, rows, **options), 1):
            if step == self.given or not (self.given or (step - 1) % self.every):
                yield step, heads
