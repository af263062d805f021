"""Classifiers trained on images and texts: the learner of cross-modal adaptation."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clip.text_tower import TextTower
from dassl.data.tasks import Task, TaskSpace

from .choices import Choices, choice_metric, first_best, samples_to_choose, scores
from .class_rows import warn_of_missing
from .hand import encode_templates
from .learner import Learner
from .mixed_batches import REDUCTION, adapt, drawn, head_logits, initial_parts, mixed_rows, train_heads
from .rows import OwnedRows, class_owners, task_owners
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
        self.grid, self.init = tuple(grid) or GRIDS[head], init
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
        if self.adapters is not None:
            if self.space.num_tasks == 1:
                return adapt(found, self.adapters.down[0], self.adapters.up[0])
            for t in task.unique().tolist():
                found[task == t] = adapt(found[task == t], self.adapters.down[t], self.adapters.up[t])
        return found

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
        judges, searched = None, not self.given or any(len(values) > 1 for values in self.grid)
        if searched:
            fixed = f"{KEY}STEPS, and one value each of {KEY}LR, {KEY}WEIGHT_DECAY and {KEY}BATCH_SIZE"
            judges = samples_to_choose(samples, self.chosen_on, self.space, fixed)
        sources = [samples.train, samples.mirrored] if self.flip else [samples.train]
        for position, (task, *own) in enumerate(zip(self.space.tasks, *sources, strict=True)):
            images = Samples(*(torch.cat(part).to(self.weight.device) for part in zip(*own, strict=True)))
            seen = torch.bincount(images.labels, minlength=len(task.classnames)) > 0
            warn_of_missing(task, seen, "of which only the texts are learned" if seen.any() else "which are zero-shot")
            self.fit(position, task, images, None if judges is None else judges[position])

    def fit(self, position: int, task: Task, images: Samples, judge: Samples | None) -> None:
        raw, columns = self.texts(position), self.space.columns(position)
        zero_shot, flat = self.mean_text(raw), F.normalize(raw.flatten(0, 1), dim=-1)
        self.weight[columns] = zero_shot
        if not len(images.labels):
            return
        images = Samples(F.normalize(images.features, dim=-1), images.labels)
        texts = Samples(flat, torch.arange(raw.shape[1], device=flat.device).repeat(len(raw)))
        generator, found = task_generator(self.seed, task), []
        weight = zero_shot if self.init == "zeroshot" else drawn(tuple(zero_shot.shape), generator).to(zero_shot)
        parts = initial_parts(weight, self.adapters is not None, generator)
        for size in self.batch_sizes(len(images.labels), len(texts.labels)):
            found += self.search(parts, size, images, texts, judge, task)
        found.sort(key=lambda one: one[0])  # the order of the grid, in which the first of equals wins
        best = first_best([score for _, score, *_ in found]) if judge is not None else 0
        (_, _, size), score, steps, parts = found[best]
        lr, decay = (values[i] for values, i in zip(self.grid, found[best][0][:2], strict=False))
        self.weight[columns] = parts["weight"] * (1 - self.wise_ft) + self.wise_ft * zero_shot
        if self.adapters is not None:
            self.adapters.down[position], self.adapters.up[position] = parts["down"], parts["up"]
        chosen = {"lr": lr, "weight_decay": decay, "batch_size": size, "steps": steps}
        self.choices.choose(position, "" if judge is None else self.chosen_on, **chosen)
        said = "" if judge is None else f", {self.chosen_on} {choice_metric(task)} {score:.2f}%"
        print(f"task {task.id} ({task.name}): {', '.join(f'{k} {v:g}' for k, v in chosen.items())}{said}")

    def batch_sizes(self, images: int, texts: int) -> list[int]:
        """Sizes whose halves are smaller than the two sets, as published; if there is none, the smallest, cut."""
        least = min(images, texts)
        return [size for size in self.grid[2] if size // 2 < least] or [min(*self.grid[2], 2 * least)]

    def search(
        self, parts: dict, size: int, images: Samples, texts: Samples, judge: Samples | None, task: Task
    ) -> list[tuple]:
        """Train all candidates of a batch size: ((position of lr, of decay, size), score, steps, parts) of each."""
        lrs, decays, _ = self.grid
        cells = [(i, j) for i in range(len(lrs)) for j in range(len(decays))]
        generator, steps = task_generator(self.seed, task), self.given or self.iterations
        rows = mixed_rows(len(images.labels), len(texts.labels), size, steps, generator)
        options = {"lrs": [lrs[i] for i, _ in cells], "decays": [decays[j] for _, j in cells], "scale": self.scale}
        schedule = {"warmup": self.warmup, "total": self.iterations}
        training = self.train_heads(parts, images, texts, rows, **options, **schedule)
        val = None if judge is None else F.normalize(judge.features.to(images.features), dim=-1)
        best, taken = torch.full((len(cells),), -1.0).double(), torch.zeros(len(cells), dtype=torch.long)
        for step, (_, heads, _) in enumerate(training, 1):
            if step != self.given if self.given else (step - 1) % self.every:
                continue
            found = torch.zeros(len(cells)).double()
            if judge is not None:
                found = scores(head_logits(heads, val, self.scale).argmax(-1).cpu(), judge.labels, task)
            better = found > best
            best[better], taken[better] = found[better], step
            if step == 1 or self.given:
                kept = {name: part.detach().clone() for name, part in heads.items()}
            for name, part in heads.items():
                kept[name][better.to(part.device)] = part.detach()[better.to(part.device)]
        return [
            ((*cell, size), best[g].item(), int(taken[g]), {name: part[g] for name, part in kept.items()})
            for g, cell in enumerate(cells)
        ]
