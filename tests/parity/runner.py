"""Runs parity cases: the method of each case is built by its trainer, given the case's parameters, and stepped three
times.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import trainers  # noqa: F401  (registers the methods and declares their settings)
from clip.image_tower import ImageTower
from clip.model import CLIP, build_model
from clip.text_tower import TextTower
from dassl.config import get_cfg_default, load
from dassl.data.tasks import Task, TaskSpace
from dassl.engine import TRAINER_REGISTRY
from trainers.losses import cosine_logits, multitask_cross_entropy

SECTION = {"MTCoOp": "MTCOOP", "MTCoOpHard": "MTCOOPH"}
CASE_DEFAULTS = {"MTCoOp": {"N_CTX": 6, "TASK_N_CTX": 4}, "MTCoOpHard": {"N_CTX": 6}}
FEATURES, GRADIENTS = 1e-5, 1e-4  # tolerated relative errors in fp32 on a CPU


class NotHere(Exception):
    """The case is of a method this version does not have."""


def load_clip(path: Path) -> CLIP:
    """The tiny CLIP of a case from its npz file."""
    with np.load(path) as stored:
        tensors = {name: torch.from_numpy(stored[name]) for name in stored.files}
    ids, rows = tensors.pop("token_embedding.ids"), tensors.pop("token_embedding.rows")
    table = torch.zeros(49408, rows.shape[1])
    table[ids.long()] = rows.float()
    model = build_model({**tensors, "token_embedding.weight": table})
    model.name = path.stem
    return model


def relative_error(found: Tensor, expected: np.ndarray) -> float:
    """Norm of the difference over the norm of what is expected (over 1 if that is zero)."""
    expected = torch.from_numpy(np.asarray(expected)).double()
    found = found.detach().double()
    if found.shape != expected.shape:
        return float("inf")
    return ((found - expected).norm() / (expected.norm() if expected.norm() > 0 else 1.0)).item()


def run_case(path: Path) -> dict[str, tuple[float, float]]:
    """Errors of one case: {quantity: (relative error, tolerance)}. `path`: its json file. Raises NotHere."""
    case = json.loads(path.read_text())
    if case.get("trainer") not in SECTION:
        raise NotHere(case.get("method") or case.get("trainer"))
    with np.load(path.with_suffix(".npz")) as stored:
        data = {name: stored[name] for name in stored.files}
    clip = load_clip(path.parent / f"clip_{case['clip']}.npz")
    return dict(_multitask(case, data, clip))


def _multitask(case: dict, data: dict, clip: CLIP) -> Iterator[tuple[str, tuple[float, float]]]:
    trainer, cfg = case["trainer"], get_cfg_default()
    options = {**CASE_DEFAULTS[trainer], **case["opts"]}
    pairs = [x for key, value in options.items() for x in (f"TRAINER.{SECTION[trainer]}.{key}", value)]
    load(cfg, opts=pairs, opts_from="opts")
    names = zip(case["tasks"], case["classes"], strict=True)
    space = TaskSpace(tuple(Task(key=name, name=name, classnames=tuple(classes)) for name, classes in names))
    learner = TRAINER_REGISTRY.get(trainer).build_learner(cfg, TextTower(clip), space)
    learner.load_state_dict({name[5:]: torch.from_numpy(data[name]) for name in data if name.startswith("init.")})

    images = torch.from_numpy(data["images"])
    with torch.no_grad():
        features = ImageTower(clip)(images)
    task, label = torch.tensor(case["task_of_sample"]), torch.tensor(case["label_of_sample"])
    everything = torch.arange(space.num_classes)
    selected = case.get("selected_classes_per_step") or [everything.tolist()] * len(case["losses"])

    def logits(columns: Tensor) -> Tensor:
        return cosine_logits(features, learner(columns), clip.logit_scale.exp())

    yield "image_features", (relative_error(features, data["image_features"]), FEATURES)
    first = torch.tensor(selected[0])  # the logits of classes that a step leaves out are never read
    yield "logits", (relative_error(logits(everything)[:, first], data["logits"][:, first]), FEATURES)
    learned = [p for p in learner.parameters() if p.requires_grad]
    optimiser = torch.optim.SGD(learned, lr=case["lr"], momentum=case["momentum"], weight_decay=case["weight_decay"])
    losses = []
    for step, columns in enumerate(selected):
        columns = torch.tensor(columns).sort().values
        target = torch.searchsorted(columns, space.column(task, label))
        loss = multitask_cross_entropy(logits(columns), space.task_of_column[columns], task, target)
        optimiser.zero_grad()
        loss.backward()
        losses.append(loss.item())
        if step == 0:
            for name, parameter in learner.named_parameters():
                if f"grad.{name}" in data:
                    gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                    yield f"grad.{name}", (relative_error(gradient, data[f"grad.{name}"]), GRADIENTS)
        optimiser.step()
    yield "losses", (relative_error(torch.tensor(losses), np.array(case["losses"])), GRADIENTS)
    for name, parameter in learner.named_parameters():
        if f"after3.{name}" in data:
            yield f"after3.{name}", (relative_error(parameter, data[f"after3.{name}"]), GRADIENTS)
    if "logits_after_3_steps" in data:
        yield "logits_after_3_steps", (relative_error(logits(everything), data["logits_after_3_steps"]), GRADIENTS)
