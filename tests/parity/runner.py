"""Runs parity cases: the method of each case is built by its trainer, given the case's parameters, and stepped three
times.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from tempfile import NamedTemporaryFile

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import trainers  # noqa: F401  (registers the methods and declares their settings)
from clip.building import build_model
from clip.model import CLIP
from clip.text_tower import TextTower
from dassl.config import get_cfg_default, load
from dassl.data.tasks import Task, TaskSpace
from dassl.engine import TRAINER_REGISTRY, TrainerBase
from trainers.base import MultiTaskTrainer
from trainers.hand import HandPrompts
from trainers.losses import cosine_logits
from trainers.promptsrc import gaussian_weights
from trainers.samples import Samples, StartSamples

from . import on_features, probes, projections  # noqa: F401
from .published import METHODS, Method, as_read

CASE_DEFAULTS = {"MTCoOp": {"N_CTX": 6, "TASK_N_CTX": 4}, "MTCoOpHard": {"N_CTX": 6}}
ADAPTERS = ("clip_adapter", "taskres", "clap", "clip_lora")  # their templates are those of the task
FEATURES, GRADIENTS, MOVED = 1e-5, 1e-4, 2e-3  # tolerated relative errors in fp32 on a CPU


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
    if case.get("method") in on_features.METHODS:
        return dict(on_features.METHODS[case["method"]](case, _arrays(path)))
    if case.get("method") == "promptsrc_gpa":
        return dict(_aggregation_errors(case, _arrays(path)))
    if "trainer" in case:
        method = Method(case["trainer"], {})
        options = {**CASE_DEFAULTS.get(case["trainer"], {}), **case["opts"]}
    elif case["method"] in METHODS:
        method, options = METHODS[case["method"]], {}
    else:
        raise NotHere(case["method"])
    if method.trainer not in TRAINER_REGISTRY.registered_names():
        raise NotHere(method.trainer)
    clip, data = load_clip(path.parent / f"clip_{case['clip']}.npz"), _arrays(path)
    if "method" in case:
        case = as_read(case, data, clip)
        options = {**method.fixed, **{key: case[own] for own, key in method.settings.items() if own in case}}
    names = None if method.names is None else method.names(case)
    return dict(_errors(_trainer(method.trainer, options, case, clip), case, data, names, method.more))


def _arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path.with_suffix(".npz")) as stored:
        return {name: stored[name] for name in stored.files}


def _space(case: dict) -> TaskSpace:
    """The tasks of a case; one of a single task names its classes only, and the template of hand prompts if any."""
    if "tasks" in case:
        names = zip(case["tasks"], case["classes"], strict=True)
        return TaskSpace(tuple(Task(key=name, name=name, classnames=tuple(classes)) for name, classes in names))
    words = (case.get("ctx_init") or "a photo of a").replace("_", " ")  # without text prompts: the words stay
    template = case.get("fixed_template") or case.get("template") or words + " {}."
    templates = tuple(case["templates"]) if case["method"] in ADAPTERS and "templates" in case else (template,)
    return TaskSpace((Task("only", "only", tuple(case["classes"]), templates=templates),))


def optimiser(case: dict) -> dict:
    """Settings OPTIM.* of a case."""
    name = case.get("optimizer") or case.get("optimiser", "sgd")  # the key of adapters
    found = {"NAME": name.lower(), "LR": case["lr"], "WEIGHT_DECAY": case["weight_decay"]}
    if "momentum" in case:
        found["MOMENTUM"] = case["momentum"]
    if "betas" in case:
        found |= {"ADAM_BETA1": case["betas"][0], "ADAM_BETA2": case["betas"][1]}
    if "eps" in case:
        found["ADAM_EPS"] = case["eps"]
    if "cosine_steps" in case:
        found |= {"LR_SCHEDULER": "cosine", "LR_PER": "step", "MAX_EPOCH": case["cosine_steps"]}
        found["LR_MIN"] = case.get("cosine_eta_min", 0.0)
    return {f"OPTIM.{key}": value for key, value in found.items()}


def _trainer(name: str, options: dict, case: dict, clip: CLIP) -> MultiTaskTrainer:
    """The trainer `name` on the case's model and tasks, without data: all that it does in a step is its own."""
    cls, cfg = TRAINER_REGISTRY.get(name), get_cfg_default()
    if "DEPT.BASE" in options:
        cfg.TRAINER.DEPT.BASE = options["DEPT.BASE"]
        cls = cls.chosen(cfg)
    settings = {f"TRAINER.{_full(key, cls.section)}": value for key, value in options.items()} | optimiser(case)
    if "param_groups" in case:
        rates = {name: group["lr"] for group in case["param_groups"] for name in group["names"]}
        settings["OPTIM.LR"] = rates["prompt_learner.ctx"]
        settings["TRAINER.DEPT.LR_SCALE"] = rates["linear_probe_proj.weight"] / rates["prompt_learner.ctx"]
    with NamedTemporaryFile("w", suffix=".json") as templates:
        if "sentences" in case:
            json.dump(dict(zip(case["classes"], case["sentences"], strict=True)), templates)
            templates.flush()
            settings["TRAINER.COPROMPT.SENTENCES"] = templates.name
        if "prompt_template" in case:
            json.dump({"only": [case["prompt_template"], case["fixed_template"]]}, templates)
            templates.flush()
            settings[f"TRAINER.{cls.section}.TEMPLATES"] = templates.name
        load(cfg, opts=[part for item in settings.items() for part in item], opts_from="opts")
        trainer = cls.__new__(cls)
        TrainerBase.__init__(trainer)
        trainer.cfg, trainer.device = cfg, torch.device("cpu")
        with redirect_stdout(None):  # the table of the command is all it prints
            trainer.build_on(clip, _space(case))
    return trainer


def _full(key: str, section: str) -> str:
    return key if "." in key else f"{section}.{key}"


class _Tensors:
    """The published tensors of a case under the names of our parameters."""

    def __init__(self, data: dict, names: dict | None):
        self.data, self.names = data, names

    def all(self, kind: str) -> dict[str, np.ndarray]:
        """{our name: tensor} of the tensors `<kind>.<published name>`."""
        start = kind + "."
        if self.names is None:
            return {name.removeprefix(start): self.data[name] for name in self.data if name.startswith(start)}
        found = {}
        for own, names in self.names.items():
            parts = [self.data.get(start + name) for name in ([names] if isinstance(names, str) else names)]
            if all(part is not None for part in parts):
                found[own] = parts[0] if isinstance(names, str) else np.stack(parts)
        return found


def _errors(
    trainer: MultiTaskTrainer, case: dict, data: dict, names, more
) -> Iterator[tuple[str, tuple[float, float]]]:
    learner, tensors = trainer.model, _Tensors(data, names)
    initial = {name: torch.from_numpy(value) for name, value in tensors.all("init").items()}
    learned = {name for name, parameter in learner.named_parameters() if parameter.requires_grad}
    unused = {f"adapt_{name}.{part}" for name in case.get("without_adapter", ()) for part in ("down", "up")}
    if names is not None and learned - unused != initial.keys():
        raise AssertionError(f"learned {sorted(learned)}, stored {sorted(initial)}")
    learner.load_state_dict({**learner.state_dict(), **initial} if names else initial)
    images = torch.from_numpy(data["images"])
    if "task_of_sample" in case:
        task, label = torch.tensor(case["task_of_sample"]), torch.tensor(case["label_of_sample"])
    else:
        task, label = torch.zeros(len(images), dtype=torch.long), torch.from_numpy(data["labels"])
    everything = list(range(trainer.space.num_classes))
    steps = case.get("epochs", 1) * case.get("batches_per_epoch", len(case["losses"]))
    selected = case.get("selected_classes_per_step") or [everything] * steps

    if learner.starts:
        features = trainer.encode_images(images)
        with torch.no_grad():
            learner.start(StartSamples(None, lambda count: [[Samples(features, label)]]))
    yield from _feature_errors(trainer, images, data, more)
    if case.get("method") in ADAPTERS and "text_features" in data:  # stored without normalisation
        expected = F.normalize(torch.from_numpy(data["text_features"]), dim=-1).numpy()
        yield "text_features", (relative_error(F.normalize(trainer.text_features(), dim=-1), expected), FEATURES)
    first = selected[0]  # the logits of classes that a step leaves out are never read
    yield from _logit_errors(trainer, images, data, "", FEATURES, first)
    losses, rates, size = [], [], case.get("batch_size", len(images))
    batches = case.get("batches_per_epoch", max(len(images) // size, 1))
    after = 1e-3 if case.get("init_B") == "zero" else GRADIENTS  # Adam amplifies rounding of tiny gradients
    trainer.max_epoch = case.get("epochs", 1)
    if names is not None:
        trainer.gradients = partial(_all_gradients, trainer.gradients, learner)
    for step, columns in enumerate(selected):
        if columns is not everything:
            trainer.training_columns = lambda *_, columns=columns: torch.tensor(columns).sort().values
        start = step % batches * size
        rows = slice(start, start + size)
        batch = {"img": images[rows], "label": label[rows], "task": task[rows]}
        if "images_2" in data:
            batch["img"] = [images[rows], torch.from_numpy(data["images_2"])[rows]]
            trainer.draw = lambda step=step: [case["sentence_of_step"][step]]
        rates.append(trainer.optim.param_groups[0]["lr"])
        losses.append(trainer.forward_backward(batch)["loss"])
        if step == 0:
            for name, parameter in learner.named_parameters():
                if (expected := tensors.all("grad").get(name)) is not None:
                    gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                    yield f"grad.{name}", (relative_error(gradient, expected), GRADIENTS)
        yield from _parameter_errors(learner, tensors, f"after{step + 1}", after)
        when = f"_after_{step + 1}_steps"
        yield from _logit_errors(trainer, images, data, when, GRADIENTS, everything)
        for name in more.keys() & {key.removesuffix(when) for key in data if key.endswith(when)}:
            yield name + when, (relative_error(more[name](trainer, images), data[name + when]), GRADIENTS)
        if "epochs" in case and (step + 1) % case["batches_per_epoch"] == 0:
            trainer.epoch = step // case["batches_per_epoch"]
            last = trainer.epoch + 1 == trainer.max_epoch
            yield from _parameter_errors(learner, tensors, "last" if last else f"epoch{trainer.epoch + 1}")
            trainer.aggregate()
    if "cosine_steps" in case and "lr_per_step" in case:
        yield "lr_per_step", (relative_error(torch.tensor(rates), np.array(case["lr_per_step"])), FEATURES)
    yield "losses", (relative_error(torch.tensor(losses), np.array(case["losses"])), GRADIENTS)
    if case.get("method") in ADAPTERS:  # small steps
        yield from _moved_errors(learner, tensors, f"after{steps}")
    yield from _parameter_errors(learner, tensors, "aggregated")
    yield from _logit_errors(trainer, images, data, "_aggregated", GRADIENTS, everything)
    if (name := f"logits_after_{steps}_steps_merged") in data:
        yield name, (relative_error(_merged_logits(trainer, images), data[name]), GRADIENTS)


@torch.no_grad()
def _merged_logits(trainer, images: Tensor) -> Tensor:
    """Logits of a CLIP with the learned changes in its weights, by its own text and image towers."""
    clip = trainer.model.merged()
    text = HandPrompts(TextTower(clip), trainer.space, [task.templates for task in trainer.space.tasks]).features
    return cosine_logits(clip.encode_image(images), text, trainer.model.scale)


def _all_gradients(gradients, learner, loss, step) -> None:
    """Gradients of a step, 0 where a tensor has no effect: published modules multiply by 0 what they leave out, so the
    weight decay applies to it.
    """
    gradients(loss, step)
    for parameter in learner.parameters():
        if parameter.requires_grad and parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)


def _parameter_errors(
    learner, tensors: _Tensors, kind: str, limit: float = GRADIENTS
) -> Iterator[tuple[str, tuple[float, float]]]:
    for name, expected in tensors.all(kind).items():
        yield f"{kind}.{name}", (relative_error(learner.get_parameter(name), expected), limit)


def _moved_errors(learner, tensors: _Tensors, kind: str) -> Iterator[tuple[str, tuple[float, float]]]:
    """Errors of how far the parameters moved from their initial values."""
    initial = tensors.all("init")
    for name, expected in tensors.all(kind).items():
        moved = learner.get_parameter(name).detach() - torch.from_numpy(initial[name])
        yield f"moved.{name}", (relative_error(moved, expected - initial[name]), MOVED)


@torch.no_grad()
def _feature_errors(trainer, images: Tensor, data: dict, more: dict) -> Iterator[tuple[str, tuple[float, float]]]:
    """Errors of the features that the case stores; `encode_images` may return several features per image."""
    expected = {
        "image_features": lambda: image,
        "prompted_image_features": lambda: F.normalize(image, dim=-1),
        "prompted_text_features": lambda: F.normalize(trainer.text_features(), dim=-1),
        **{name: partial(function, trainer, images) for name, function in more.items()},
    }
    image = trainer.encode_images(images)
    image = image[0] if isinstance(image, tuple) else image
    for name, found in expected.items():
        if name in data:
            yield name, (relative_error(found(), data[name]), FEATURES)


@torch.no_grad()
def _logit_errors(trainer, images: Tensor, data: dict, when: str, limit: float, columns) -> Iterator:
    """Errors of the logits on classes of training, and on new ones."""
    known = trainer.model.known.clone()
    for name, is_known in (("logits", True), ("logits_new_classes", False)):
        if name + when in data:
            trainer.model.known.fill_(is_known)
            found = trainer.model_inference(images)
            yield name + when, (relative_error(found[:, columns], data[name + when][:, columns]), limit)
    trainer.model.known.copy_(known)


def _aggregation_errors(case: dict, data: dict) -> Iterator[tuple[str, tuple[float, float]]]:
    """Errors of PromptSRC's aggregation alone."""
    for i, setting in enumerate(case["settings"]):
        weights = gaussian_weights(setting["epochs"], setting["mean"], setting["std"])
        yield f"{i}.weights", (relative_error(weights, data[f"{i}.weights"]), FEATURES)
        total = torch.zeros(data[f"{i}.aggregated"].shape)
        for weight, prompts in zip(weights.tolist(), torch.from_numpy(data[f"{i}.prompts"]), strict=True):
            total.add_(prompts, alpha=weight)
        yield f"{i}.aggregated", (relative_error(total, data[f"{i}.aggregated"]), FEATURES)


from . import caches  # noqa: E402, F401  (registers its methods, and takes functions from here)
