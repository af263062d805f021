"""Runs parity cases: the method of each case is built by its trainer, given the case's parameters, and stepped three
times.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import trainers  # noqa: F401  (registers the methods and declares their settings)
from clip.backbones import build_model
from clip.model import CLIP
from dassl.config import get_cfg_default, load
from dassl.data.tasks import Task, TaskSpace
from dassl.engine import TRAINER_REGISTRY, TrainerBase
from trainers.base import MultiTaskTrainer

# The published methods: trainer, and the settings that each single-task case sets.
METHODS = {
    "cocoop": ("CoCoOp", {"n_ctx": "N_CTX"}),
    "kgcoop": ("KgCoOp", {"n_ctx": "N_CTX", "weight": "W"}),
    "prograd": ("ProGrad", {"n_ctx": "N_CTX"}),
    "plot": (
        "PLOT",
        {"n_ctx": "N_CTX", "n_prompts": "N", "eps": "EPS", "max_iter": "MAX_ITER", "threshold": "THRESH"},
    ),
}
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
    if "trainer" in case:
        name, options = case["trainer"], {**CASE_DEFAULTS.get(case["trainer"], {}), **case["opts"]}
    else:
        name, settings = METHODS.get(case["method"], (case["method"], {}))
        options = {key: case[own] for own, key in settings.items()}
    if name not in TRAINER_REGISTRY.registered_names():
        raise NotHere(name)
    with np.load(path.with_suffix(".npz")) as stored:
        data = {name: stored[name] for name in stored.files}
    clip = load_clip(path.parent / f"clip_{case['clip']}.npz")
    return dict(_errors(_trainer(name, options, case, clip), case, data))


def _space(case: dict) -> TaskSpace:
    """The tasks of a case; one of a single task names its classes only, and the template of hand prompts if any."""
    if "tasks" in case:
        names = zip(case["tasks"], case["classes"], strict=True)
        return TaskSpace(tuple(Task(key=name, name=name, classnames=tuple(classes)) for name, classes in names))
    templates = (case.get("template", "a photo of a {}."),)
    return TaskSpace((Task("only", "only", tuple(case["classes"]), templates=templates),))


def _trainer(name: str, options: dict, case: dict, clip: CLIP) -> MultiTaskTrainer:
    """The trainer `name` on the case's model and tasks, without data: all that it does in a step is its own."""
    cls, cfg = TRAINER_REGISTRY.get(name), get_cfg_default()
    settings = {f"TRAINER.{cls.section}.{key}": value for key, value in options.items()}
    optimiser = {"NAME": "sgd", "LR": case["lr"], "MOMENTUM": case["momentum"], "WEIGHT_DECAY": case["weight_decay"]}
    settings |= {f"OPTIM.{key}": value for key, value in optimiser.items()}
    load(cfg, opts=[part for item in settings.items() for part in item], opts_from="opts")
    trainer = cls.__new__(cls)
    TrainerBase.__init__(trainer)
    trainer.cfg, trainer.device = cfg, torch.device("cpu")
    with redirect_stdout(None):  # the table of the command is all it prints
        trainer.build_on(clip, _space(case))
    return trainer


def _errors(trainer: MultiTaskTrainer, case: dict, data: dict) -> Iterator[tuple[str, tuple[float, float]]]:
    learner = trainer.model
    learner.load_state_dict({name[5:]: torch.from_numpy(data[name]) for name in data if name.startswith("init.")})
    images = torch.from_numpy(data["images"])
    if "task_of_sample" in case:
        task, label = torch.tensor(case["task_of_sample"]), torch.tensor(case["label_of_sample"])
    else:
        task, label = torch.zeros(len(images), dtype=torch.long), torch.from_numpy(data["labels"])
    everything = list(range(trainer.space.num_classes))
    selected = case.get("selected_classes_per_step") or [everything] * len(case["losses"])

    if "image_features" in data:
        yield "image_features", (relative_error(trainer.encode_images(images), data["image_features"]), FEATURES)
    first = selected[0]  # the logits of classes that a step leaves out are never read
    with torch.no_grad():
        logits = trainer.model_inference(images)
    yield "logits", (relative_error(logits[:, first], data["logits"][:, first]), FEATURES)
    losses = []
    for step, columns in enumerate(selected):
        if columns is not everything:
            trainer.training_columns = lambda *_, columns=columns: torch.tensor(columns).sort().values
        losses.append(trainer.forward_backward({"img": images, "label": label, "task": task})["loss"])
        if step == 0:
            for name, parameter in learner.named_parameters():
                if f"grad.{name}" in data:
                    gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                    yield f"grad.{name}", (relative_error(gradient, data[f"grad.{name}"]), GRADIENTS)
    yield "losses", (relative_error(torch.tensor(losses), np.array(case["losses"])), GRADIENTS)
    for name, parameter in learner.named_parameters():
        if f"after3.{name}" in data:
            yield f"after3.{name}", (relative_error(parameter, data[f"after3.{name}"]), GRADIENTS)
    if "logits_after_3_steps" in data:
        with torch.no_grad():
            logits = trainer.model_inference(images)
        yield "logits_after_3_steps", (relative_error(logits, data["logits_after_3_steps"]), GRADIENTS)
