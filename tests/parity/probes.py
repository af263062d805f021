"""Cases of GDA, LP++ and cross-modal adaptation, which are fitted on features.

A fitted learner runs on the values of the case; what it does not keep is computed by the functions that it calls.
"""

from __future__ import annotations

from contextlib import redirect_stdout

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from trainers.blended_probe import Probe, descend, gradients, initial, rates
from trainers.gaussian import around_texts
from trainers.mixed_batches import head_logits, learning_rate, train_heads
from trainers.mixed_classifiers import WARMUP
from trainers.samples import StartSamples

from . import on_features
from .on_features import Errors, given_samples, given_trainer, samples

EXACT, CLOSE, LOOSE = 1e-6, 1e-5, 1e-4  # tolerated errors: of choices and accuracies, of closed forms, after steps


def error(found, expected) -> float:
    """Norm of the difference over the norm of what is expected (over 1 if that is zero)."""
    found, expected = (torch.as_tensor(np.asarray(value)).double() for value in (found, expected))
    if found.shape != expected.shape:
        return float("inf")
    return ((found - expected).norm() / (expected.norm() if expected.norm() > 0 else 1.0)).item()


def compared(found: dict[str, object], expected: dict, limit: float) -> Errors:
    """Errors of the quantities of `found` that `expected` has."""
    for name, value in found.items():
        if name in expected:
            yield name, (error(value, expected[name]), limit)


def accuracy(logits: Tensor, labels: np.ndarray) -> float:
    return 100 * (logits.argmax(1) == torch.from_numpy(labels).long()).double().mean().item()


def predict(trainer, features: np.ndarray) -> Tensor:
    features = torch.from_numpy(features).float()
    return trainer.model_inference(None, torch.zeros(len(features), dtype=torch.long), features)


# ---- GDA


def fitted_gda(case: dict, data: dict, covariance: str, **more):
    """(trainer, moments of the samples) of a GDA case."""
    settings = {
        "TRAINER.GDA.VIEWS": len(data["train_views"]),
        "TRAINER.GDA.COVARIANCE": covariance,
        "DATASET.SUBSAMPLE_CLASSES": "base",  # keeps the training samples
        **more,
    }
    trainer = given_trainer("GDA", settings, case["classes"], data["text_features"], case["logit_scale"])
    learner, seen = trainer.model, []
    learner.grid, fit = tuple(case["alpha_grid"]), learner.fit
    learner.fit = lambda position, moments: (seen.append(moments), fit(position, moments))
    with redirect_stdout(None), torch.no_grad():
        learner.start(given_samples(data, views="train_views"))
    return trainer, seen[0]


def gda_errors(case: dict, data: dict, trainer, moments) -> Errors:
    """Everything that a classifier of the classes of training gives."""
    learner, columns = trainer.model, slice(None)
    means, alpha = moments.means(), learner.choices.alpha.item()
    zero_shot, gaussian = learner.both(torch.from_numpy(data["test_features"]), columns)
    val = learner.both(torch.from_numpy(data["val_features"]), columns)
    found = {"means": means, "weight": learner.weight, "bias": learner.bias, "precision": moments.precision()}
    found |= {"zero_shot_logits": zero_shot, "gda_logits": gaussian, "logits": predict(trainer, data["test_features"])}
    found |= {f"logits.{i}": zero_shot + given * gaussian for i, given in enumerate(case.get("settings", ()))}
    yield from compared(found, data, CLOSE)
    numbers = {
        "val_accuracy_per_alpha": [accuracy(val[0] + one * val[1], data["val_labels"]) for one in case["alpha_grid"]],
        "best_alpha": alpha,
        "test_accuracy": accuracy(found["logits"], data["test_labels"]),
        "base_test_accuracy": accuracy(found["logits"], data["test_labels"]),
        "zero_shot_test_accuracy": accuracy(zero_shot, data["test_labels"]),
    }
    yield from compared(numbers, case, EXACT)


@on_features.runs("gda")
def gda(case: dict, data: dict) -> Errors:
    yield from gda_errors(case, data, *fitted_gda(case, data, "shrunk"))


@on_features.runs("gda_base_to_new")
def gda_base_to_new(case: dict, data: dict) -> Errors:
    settings = {"TRAINER.GDA.NEIGHBOURS": case["neighbours"], "TRAINER.GDA.TEXT_COPIES": case["text_copies"]}
    base, moments = fitted_gda(case, data, "pseudo_inverse", **settings)
    yield from gda_errors(case, data, base, moments)
    new = given_trainer("GDA", settings, case["new_classes"], data["text_features_new"], case["logit_scale"])
    new.model.load_state_dict(base.model.state_dict())
    new.model.known.fill_(False)
    weight, bias = new.model.rows()
    learner = new.model
    samples, texts = learner.kept.keys.double(), learner.hand_features().double()
    means, precision = around_texts(texts, samples, learner.neighbours, learner.text_copies)
    found = {"means_new": means, "precision_new": precision, "weight_new": weight, "bias_new": bias}
    logits = predict(new, data["test_features_new"])
    yield from compared({**found, "logits_new": logits}, data, CLOSE)
    yield from compared({"new_test_accuracy": accuracy(logits, data["test_labels_new"])}, case, EXACT)


# ---- LP++


@on_features.runs("lp_plus_plus")
def lp_plus_plus(case: dict, data: dict) -> Errors:
    settings = {"TRAINER.LPPLUSPLUS.EPOCHS": case["epochs"], "TRAINER.LPPLUSPLUS.LEGACY_ACCUMULATED_ALPHA": True}
    trainer = given_trainer("LPPlusPlus", settings, case["classes"], data["text_features"])
    learner = trainer.model
    learner.schedule = {"momentum": case["momentum"], "alpha_every": case["alpha_every"]}
    learner.first_bias = lambda task: torch.from_numpy(data["init.classifier.bias"]).clone()
    with redirect_stdout(None), torch.no_grad():
        learner.start(given_samples({**data, "one": data["train_features"][None]}, views="one"))
    yield from of_probe("selected", Probe(learner.weight, learner.bias, learner.alpha), data)
    logits, epoch = predict(trainer, data["test_features"]), learner.choices.epoch.item()
    yield from compared({"selected_test_logits": logits}, data, LOOSE)
    chosen = {"val_accuracy_best": accuracy(predict(trainer, data["val_features"]), data["val_labels"])}
    chosen |= {"best_epoch": epoch - 1, "test_accuracy_at_best": accuracy(logits, data["test_labels"])}
    yield from compared(chosen, case, EXACT)
    yield from lp_plus_plus_steps(case, data, learner.schedule)


def lp_plus_plus_steps(case: dict, data: dict, schedule: dict) -> Errors:
    """Rates, initial values, gradients, and the parameters after some steps."""
    images, test = (F.normalize(torch.from_numpy(data[f"{name}_features"]), dim=-1) for name in ("train", "test"))
    labels, texts = torch.from_numpy(data["labels"]), torch.from_numpy(data["text_features"])

    def first() -> tuple[Probe, Tensor, Tensor, Tensor]:
        bias = torch.from_numpy(data["init.classifier.bias"]).clone()
        return initial(images, labels, texts, bias), images, labels, texts

    lr, unit = rates(images, texts)
    yield from compared({"lr_w": lr, "lr_alpha": unit / 4, "init_alpha": first()[0].alpha[0]}, case, CLOSE)
    yield from of_probe("init", first()[0], data, CLOSE)
    yield from compared({"logits": first()[0].logits(images, texts)}, data, CLOSE)

    how = {"lr": lr, "lr_alpha": unit / 4, **schedule, "epochs": case["epochs"]}
    losses, start, similarity = [], first()[0], images @ texts.t()
    gradient = gradients(start, images, labels, similarity)[1]
    yield from of_probe("grad", gradient, data)
    total = gradient.alpha  # the sum of alpha's gradients
    for step, (loss, probe) in enumerate(descend(*first(), **how, accumulated=True), 1):
        losses.append(loss)
        yield from compared({f"grad_accumulated_at_{step}.alpha": total[None]}, data, LOOSE)
        total = total + gradients(probe, images, labels, similarity)[1].alpha
        yield from of_probe(f"after{step}", probe, data)
        moved = Probe(*(new - old for new, old in zip(probe, start, strict=True)))
        expected = {
            name: value - data[f"init.{name.partition('.')[2]}"]
            for name, value in data.items()
            if name.startswith(f"after{step}.")
        }
        for name, (found, _) in of_probe(f"after{step}", moved, expected):
            yield f"moved.{name}", (found, 2e-3)
        yield from compared({f"logits_after_{step}_steps": probe.logits(images, texts)}, data, LOOSE)
    yield "losses", (error(losses[: len(case["losses"])], case["losses"]), LOOSE)
    if "all_losses" in case:
        yield "all_losses", (error(losses, case["all_losses"]), LOOSE)
    yield from compared({"test_logits_final": probe.logits(test, texts)}, data, LOOSE)
    *_, (_, probe) = descend(*first(), **how, accumulated=False)
    yield from compared({"alpha_final_if_reset": probe.alpha[None]}, data, LOOSE)


def of_probe(kind: str, probe: Probe, data: dict, limit: float = LOOSE) -> Errors:
    found = {"classifier.weight": probe.weight, "classifier.bias": probe.bias, "alpha": probe.alpha[None]}
    yield from compared({f"{kind}.{name}": value.detach() for name, value in found.items()}, data, limit)


# ---- cross-modal adaptation


@on_features.runs("cross_modal")
def cross_modal(case: dict, data: dict) -> Errors:
    """The steps of the case with its batches, then the choice among all of them."""
    adapter, classes = case["head"] == "adapter", case["num_classes"]
    texts = np.stack([data["text_features_raw"][data["text_labels"] == k] for k in range(classes)])  # (C, M, d)
    order = np.stack([np.flatnonzero(data["text_labels"] == k) for k in range(classes)])  # ours are by template
    place = np.empty(order.size, dtype=int)
    place[order.T.ravel()] = np.arange(order.size)
    count, fixed = len(case["losses"]), {"LR": (case["lr"],), "WEIGHT_DECAY": (case["weight_decay"],)}
    fixed |= {"BATCH_SIZE": (case["batch_size"],), "HEAD": case["head"], "INIT": case["init"], "ITERATIONS": count}
    settings = {f"TRAINER.CROSSMODAL.{name}": value for name, value in fixed.items()}
    trainer = given_trainer("CrossModal", settings, case["classes"], texts, case["logit_scale"])
    learner, seen = trainer.model, []
    batches = [
        (torch.tensor(own), torch.from_numpy(place[text]))
        for own, text in zip(case["image_indices_per_step"], case["text_indices_per_step"], strict=True)
    ]
    given = {name.removeprefix("init."): torch.from_numpy(data[name]) for name in data if name.startswith("init.")}
    names = {"weight": "head.1.weight", "down": "head.0.fc.0.weight", "up": "head.0.fc.2.weight"}
    names = names if adapter else {"weight": "head.weight"}
    parts = {own: given[name] for own, name in names.items()}

    def train(_, images, flat, __, **options):
        options |= {"warmup": case["warmup_iterations"], "total": case["cosine_iterations"]}
        options |= {"betas": tuple(case["betas"]), "eps": case["eps"]}
        for losses, heads, slopes in train_heads(parts, images, flat, batches, **options):
            seen.append((losses.item(), {k: (v.detach()[0].clone(), slopes[k][0]) for k, v in heads.items()}))
            rows = batches[len(seen) - 1]
            seen[-1] += (torch.cat([images.features[rows[0]], flat.features[rows[1]]]),)
            yield losses, heads, slopes

    learner.train_heads, learner.every = train, 1
    half = len(data["train_features"]) // 2
    sources = {"train": slice(half), "mirrored": slice(half, None)}

    def read(split: str) -> list:
        if split in sources:
            return samples(data["train_features"][sources[split]], data["labels"][sources[split]])
        return samples(data[f"{split}_features"], data[f"{split}_labels"])

    with redirect_stdout(None), torch.no_grad():
        learner.start(StartSamples(read))
    zero_shot = learner.mean_text(learner.texts(0))
    first = head_logits({name: part[None] for name, part in parts.items()}, seen[0][2], learner.scale)[0]
    yield from compared({"zero_shot_weights": zero_shot, "logits": first}, data, CLOSE)
    yield "losses", (error([loss for loss, *_ in seen], case["losses"]), LOOSE)
    rates = [learning_rate(i, case["lr"], case["warmup_iterations"], case["cosine_iterations"]) for i in range(count)]
    yield "lr_per_step", (error(rates, case["lr_per_step"]), EXACT)
    published = "learning_rates_of_the_first_54_iterations_published_schedule"
    rates = [learning_rate(i, case["lr"], WARMUP, case["cosine_iterations"]) for i in range(len(case[published]))]
    yield published, (error(rates, case[published]), EXACT)
    for own, name in names.items():
        yield from compared({f"grad.{name}": seen[0][1][own][1]}, data, LOOSE)
        for step, (_, heads, _) in enumerate(seen, 1):
            found, moved = heads[own][0], heads[own][0] - parts[own]
            yield from compared({f"after{step}.{name}": found}, data, LOOSE)
            if f"after{step}.{name}" in data:
                expected = data[f"after{step}.{name}"] - data[f"init.{name}"]
                yield f"moved.after{step}.{name}", (error(moved, expected), 2e-3)
    last = {name: found[None] for name, (found, _) in seen[-1][1].items()}
    test = F.normalize(torch.from_numpy(data["test_features"]), dim=-1)
    start = {name: part[None] for name, part in parts.items()}
    found = {"test_logits": head_logits(start, test, learner.scale)[0]}
    found[f"test_logits_after_{count}_steps"] = head_logits(last, test, learner.scale)[0]
    found["wiseft.head.weight"] = last["weight"][0] / 2 + zero_shot / 2
    yield from compared(found, data, LOOSE)
    best = accuracy(predict(trainer, data["val_features"]), data["val_labels"]) / 100
    chosen = {"val_accuracy_best": best, "best_iteration": learner.choices.steps.item() - 1}
    yield from compared(chosen, case, EXACT)
