"""Cases of GDA, LP++ and cross-modal adaptation, which are fitted on features."""

from __future__ import annotations

from contextlib import redirect_stdout

import numpy as np
import torch
from torch import Tensor

from trainers.gaussian import around_texts

from . import on_features
from .on_features import Errors, given_samples, given_trainer

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
    learner.fit = lambda position, task, moments: (seen.append(moments), fit(position, task, moments))
    with redirect_stdout(None):
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
    samples, texts = learner.kept.keys.double(), learner.hand.features.double()
    means, precision = around_texts(texts, samples, learner.neighbours, learner.text_copies)
    found = {"means_new": means, "precision_new": precision, "weight_new": weight, "bias_new": bias}
    logits = predict(new, data["test_features_new"])
    yield from compared({**found, "logits_new": logits}, data, CLOSE)
    yield from compared({"new_test_accuracy": accuracy(logits, data["test_labels_new"])}, case, EXACT)
