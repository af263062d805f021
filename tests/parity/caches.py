"""Cases of Tip-Adapter and Tip-Adapter-F, on given features."""

from __future__ import annotations

from contextlib import redirect_stdout

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from trainers.choices import first_best, scores

from .on_features import Errors, given_samples, given_trainer, runs, steps
from .runner import FEATURES, GRADIENTS, MOVED, optimiser, relative_error


def _settings(case: dict, section: str, **more) -> dict:
    own = {
        "SCALE": case["logit_scale"],
        "SEARCH_SCALE": case["search_scale"],
        "SEARCH_STEP": case["search_step"],
        **more,
    }
    return {f"TRAINER.{section}.{name}": value for name, value in own.items()}


def _same(found: float, expected: float, limit: float = FEATURES) -> tuple[float, float]:
    return relative_error(torch.tensor(float(found), dtype=torch.float64), np.float64(expected)), limit


def _logits(trainer, features: Tensor, alpha: float, beta: float) -> Tensor:
    trainer.model.eval()
    trainer.model.chosen.choose(0, "", alpha=alpha, beta=beta)
    return trainer.model_inference(None, features=features)


@torch.no_grad()
def _in_training(trainer, features: Tensor) -> Tensor:
    """Logits (B, C) of the trained keys with the weights of training."""
    trainer.model.train()
    return trainer.model.logits(features, trainer.text_features(), trainer.all_columns)


def _accuracy(trainer, logits: Tensor, labels: Tensor) -> float:
    return scores(logits.argmax(1)[None], labels, trainer.space.tasks[0]).item()


@runs("tip_adapter")
@torch.no_grad()
def tip_adapter(case: dict, data: dict) -> Errors:
    settings = _settings(case, "TIPADAPTER", VIEWS=len(data["train_views"]))
    trainer = given_trainer("TipAdapter", settings, case["classes"], data["text_features"])
    model = trainer.model
    with redirect_stdout(None):
        model.start(given_samples(data, views="train_views"))
    alpha, beta = model.chosen.alpha.item(), model.chosen.beta.item()
    yield "best_alpha", _same(alpha, case["best_alpha"])
    yield "best_beta", _same(beta, case["best_beta"])
    for name, values in zip(("beta", "alpha"), model.grids[0], strict=True):
        found = torch.tensor([values[i] for i in (0, 1, -1)], dtype=torch.float64)
        yield f"{name}_values", (relative_error(found, case[f"{name}_values"]), FEATURES)
    yield "cache_keys", (relative_error(model.rows.keys, data["cache_keys"]), FEATURES)
    values = F.one_hot(model.rows.column, case["num_classes"]).float()
    yield "cache_values", (relative_error(values, data["cache_values"]), FEATURES)
    (val,), (test,) = given_samples(data).val, given_samples(data).test
    accuracies = {"best_val": (val, alpha, beta), "test": (test, alpha, beta)}
    accuracies |= {"zero_shot_test": (test, 0, 1), "init_test": (test, case["init_alpha"], case["init_beta"])}
    for name, (own, *pair) in accuracies.items():
        found = _accuracy(trainer, _logits(trainer, own.features, *pair), own.labels)
        yield f"{name}_accuracy", _same(found, case[f"{name}_accuracy"])
    pairs = {"zero_shot_logits": (0, 1), "logits_searched": (alpha, beta)}
    pairs |= {f"logits.{i}": pair for i, pair in enumerate(case["settings"])}
    for name, pair in pairs.items():
        yield name, (relative_error(_logits(trainer, test.features, *pair), data[name]), FEATURES)


@runs("tip_adapter_f")
def tip_adapter_f(case: dict, data: dict) -> Errors:
    settings = _settings(case, "TIPADAPTERF", CHOSEN_ON="test", INIT_ALPHA=case["alpha"], INIT_BETA=float(case["beta"]))
    trainer = given_trainer("TipAdapterF", settings | optimiser(case), case["classes"], data["text_features"])
    model, samples = trainer.model, given_samples(data)
    (val,), (test,) = samples.val, samples.test
    init, labels = torch.from_numpy(data["init.adapter.weight"]), torch.from_numpy(data["labels"]).long()
    model.rows.fill(init, labels)
    values = F.one_hot(model.rows.column, case["num_classes"]).float()
    yield "cache_values", (relative_error(values, data["cache_values"]), FEATURES)

    views = torch.from_numpy(data["train_features"])  # (N, d), or a view per epoch
    views = views if views.ndim == 3 else views[None]
    indices = case.get("batch_indices_per_step") or [list(range(len(labels)))] * len(case["all_losses"])
    per_epoch = len(indices) // case["train_epoch"]
    shown, first = views[0][indices[0]], len(case["losses"])
    rates = case.get("lr_per_step") or [case["lr"]] * len(indices)
    losses, accuracies = [], []
    yield "logits", (relative_error(_in_training(trainer, shown), data["logits"]), FEATURES)
    for step, rows in enumerate(indices):
        trainer.set_model_mode("train")
        batch = views[step // per_epoch % len(views)][rows]
        losses += steps(trainer, {"lr_per_step": rates[step : step + 1]}, [batch], [labels[rows]])
        keys = model.rows.keys
        if step == 0:
            yield "grad.adapter.weight", (relative_error(keys.grad, data["grad.adapter.weight"]), GRADIENTS)
        if step + 1 == first:
            after = data[f"after{first}.adapter.weight"]
            yield f"after{first}.adapter.weight", (relative_error(keys, after), GRADIENTS)
            moved = after - data["init.adapter.weight"]
            yield "moved.adapter.weight", (relative_error(keys.detach() - init, moved), MOVED)
            found = _in_training(trainer, shown)
            name = f"logits_after_{first}_steps"
            yield name, (relative_error(found, data[name]), GRADIENTS)
        if (step + 1) % per_epoch == 0:
            model.keep_best(samples, (step + 1) // per_epoch)
            accuracies.append(_accuracy(trainer, _in_training(trainer, test.features), test.labels))
    yield "losses", (relative_error(torch.tensor(losses[:first]), case["losses"]), GRADIENTS)
    yield "all_losses", (relative_error(torch.tensor(losses), case["all_losses"]), GRADIENTS)
    yield "final.adapter.weight", (relative_error(model.rows.keys, data["final.adapter.weight"]), GRADIENTS)
    found = _in_training(trainer, test.features)
    yield "test_logits_final", (relative_error(found, data["test_logits_final"]), GRADIENTS)
    yield (
        "test_accuracy_per_epoch",
        (relative_error(torch.tensor(accuracies), case["test_accuracy_per_epoch"]), FEATURES),
    )
    yield "published_best_epoch", _same(model.chosen.epoch.item() - 1, case["published_best_epoch"])
    best_accuracy = model.accuracy.value.item()
    yield "published_best_epoch_test_accuracy", _same(best_accuracy, case["published_best_epoch_test_accuracy"])
    yield "selected.adapter.weight", (relative_error(model.best.keys, data["selected.adapter.weight"]), GRADIENTS)
    betas, alphas = model.grids[0]  # the case searches on validation images
    best = first_best(model.scores(model.best, 0, val, betas, alphas))
    pair = alphas[best % len(alphas)], betas[best // len(alphas)]
    yield "best_alpha", _same(pair[0], case["best_alpha"])
    yield "best_beta", _same(pair[1], case["best_beta"])
    found = _logits(trainer, test.features, *pair)
    searched = _accuracy(trainer, found, test.labels)
    expected = data["test_logits_selected_searched"]
    yield "test_logits_selected_searched", (relative_error(found, expected), GRADIENTS)
    yield "searched_test_accuracy", _same(searched, case["searched_test_accuracy"])
    yield "published_test_accuracy", _same(max(searched, best_accuracy), case["published_test_accuracy"])
