"""Cases without a tower: the features of images and texts are given.

The module of each family of methods registers one function per method, which yields (quantity, (error, tolerance)).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor, nn

from clip.additions import Additions
from dassl.config import get_cfg_default, load
from dassl.data.tasks import Task, TaskSpace
from dassl.engine import TRAINER_REGISTRY, TrainerBase
from trainers.base import MultiTaskTrainer
from trainers.samples import Samples, StartSamples

Errors = Iterator[tuple[str, tuple[float, float]]]
METHODS: dict[str, Callable[[dict, dict], Errors]] = {}


def runs(method: str):
    """Decorator: the function runs the cases of `method`. It gets the case and its arrays."""

    def add(function):
        METHODS[method] = function
        return function

    return add


class GivenClip(nn.Module):
    """Stands for a CLIP whose outputs are given: a scale, and a projection of image features if the case has one."""

    name, precision, dtype = "given features", "fp32", torch.float32

    def __init__(self, scale: float):
        super().__init__()
        self.logit_scale = nn.Parameter(torch.tensor(float(scale)).log(), requires_grad=False)


class GivenTexts:
    """Stands for a text tower: `features` (N, M, d) of N classes under M templates, which are "{}" and a number."""

    def __init__(self, clip: GivenClip, classes: list[str], features: Tensor):
        self.clip, self.device, self.output_dim = clip, torch.device("cpu"), features.shape[-1]
        self.rows = {
            f"{name} {m}": row for name, own in zip(classes, features, strict=True) for m, row in enumerate(own)
        }

    def encode(self, texts: list[str]) -> Tensor:
        return torch.stack([self.rows[text] for text in texts])

    def autocast(self):
        return torch.autocast("cpu", enabled=False)


class GivenImages:
    """Stands for an image tower that is never called; `projection` as in `ImageTower`."""

    def __init__(self, clip: GivenClip, width: int, projection: tuple[Tensor, Tensor | None] | None):
        self.clip, self.output_dim, self._projection = clip, width, projection

    def projection(self) -> tuple[Tensor, Tensor | None]:
        return self._projection

    def check(self, added: Additions) -> None:
        assert not added.alters


def given_space(classes: list[str], templates: int = 1) -> TaskSpace:
    return TaskSpace((Task("only", "only", tuple(classes), templates=tuple(f"{{}} {m}" for m in range(templates))),))


def given_trainer(
    name: str,
    settings: dict[str, object],
    classes: list[str],
    texts: np.ndarray,
    scale: float = 100.0,
    projection: tuple[Tensor, Tensor | None] | None = None,
) -> MultiTaskTrainer:
    """The trainer `name` on one task whose classes have the text features `texts` (N, d) or (N, M, d).

    `settings`: {full key: value}. The trainer has no data; call `model.start(given_samples(...))` for a fitted method,
    and `forward_backward({"features": ..., "label": ..., "task": ...})` for a step.
    """
    cls, cfg = TRAINER_REGISTRY.get(name), get_cfg_default()
    load(cfg, opts=[part for item in settings.items() for part in item], opts_from="opts")
    texts = torch.from_numpy(np.asarray(texts)).float()
    texts = texts[:, None] if texts.ndim == 2 else texts
    trainer = cls.__new__(cls)
    TrainerBase.__init__(trainer)
    trainer.cfg, trainer.device, clip = cfg, torch.device("cpu"), GivenClip(scale)
    with redirect_stdout(None):
        tower = GivenTexts(clip, classes, texts)
        image_tower = GivenImages(clip, tower.output_dim, projection)
        trainer.build_on_towers(clip, image_tower, tower, given_space(classes, texts.shape[1]))
    trainer.dm = SimpleNamespace(space=trainer.space)
    return trainer


def given_samples(data: dict, train: str = "", views: str = "") -> StartSamples:
    """Samples of a case: `train` and `views` name the arrays of training features (n, d) and views (V, n, d)."""

    def read(split: str) -> list[Samples]:
        if split == "train":
            return samples(data[train], data["labels"])
        return samples(data[f"{split}_features"], data[f"{split}_labels"])

    return StartSamples(read, lambda count: [samples(view, data["labels"]) for view in data[views][:count]])


def samples(features: np.ndarray, labels: np.ndarray) -> list[Samples]:
    """One task with these images."""
    return [Samples(torch.from_numpy(features).float(), torch.from_numpy(labels).long())]


def steps(trainer, case: dict, batches: list[Tensor], labels: list[Tensor]) -> list[float]:
    """Losses of training steps on features, with the learning rates of the case."""
    rates = case.get("lr_per_step") or [case["lr"]] * len(batches)
    losses = []
    for features, own, rate in zip(batches, labels, rates, strict=False):
        for group in trainer.optim.param_groups:
            group["lr"] = rate
        batch = {"features": features, "label": own, "task": torch.zeros(len(own), dtype=torch.long)}
        losses.append(trainer.forward_backward(batch)["loss"])
    return losses
