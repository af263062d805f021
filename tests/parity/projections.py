"""Cases of ProLIP: unprojected features in stored views, and the projection that is learned."""

from __future__ import annotations

from unittest import mock

import torch
import torch.nn.functional as F

from trainers.samples import StartSamples

from . import on_features
from .probes import error

FEATURES, GRADIENTS, MOVED = 1e-5, 1e-4, 2e-3


@on_features.runs("prolip")
def prolip(case: dict, data: dict) -> on_features.Errors:
    transposed = case["tower"] == "rn"  # stored as the weight (d, W) of a linear layer

    def stored(name: str) -> torch.Tensor:
        return torch.from_numpy(data[name].T.copy() if transposed else data[name])

    bias = torch.from_numpy(data["bias"]) if "bias" in data else None
    initial, steps, lr = stored("init.proj"), case["epochs"], case["lr"]
    settings = {"LR": lr, "LAMBDA": case["lambda"], "STEPS": steps, "SCALE": case["logit_scale"]}
    settings = {f"TRAINER.PROLIP.{name}": value for name, value in settings.items()} | {"DATALOADER.VIEWS": steps}
    with mock.patch("trainers.prolip.ImageTower", lambda clip: on_features.GivenImages(clip, 0, (initial, bias))):
        trainer = on_features.given_trainer("ProLIP", settings, case["classes"], data["text_features"], scale=7.0)
    learner = trainer.model
    learner.adam = {key: case[key] for key in ("betas", "eps", "weight_decay")}
    labels = data["labels"]
    views = [on_features.samples(data["train_views"][view], labels) for view in case["view_per_step"]]
    views = [views[-1], *views[:-1]]  # step i takes view i + 1

    descent, weight = learner.descent(), [[case["lambda"]]]
    losses, parts, before = [], [], initial[None]
    for step, (loss, (found,)) in enumerate(descent.steps_of(views, [[0]], lr, weight), 1):
        losses.append(loss[0].item())
        own = views[step % steps]
        parts.append(descent.cross_entropy(before, own, [0]).item())
        if step == 1:
            yield "logits", (error(descent.logits(before, 0, own[0].features)[0].detach(), data["logits"]), FEATURES)
            yield "grad.proj", (error(found.grad[0], stored("grad.proj")), GRADIENTS)
        before = found.detach().clone()
        if f"after{step}.proj" in data:
            expected = stored(f"after{step}.proj")
            yield f"after{step}.proj", (error(before[0], expected), GRADIENTS)
            yield f"moved{step}.proj", (error(before[0] - initial, expected - initial), MOVED)
        if (name := f"logits_after_{step}_steps") in data:
            coming = views[(step + 1) % steps][0].features
            yield name, (error(descent.logits(before, 0, coming)[0], data[name]), GRADIENTS)
    for name, all_found in (("losses", losses), ("losses_cross_entropy", parts)):
        yield name, (error(all_found[: len(case[name])], case[name]), GRADIENTS)
    yield "final_loss", (error(losses[-1], case["final_loss"]), GRADIENTS)

    with torch.no_grad():
        learner.start(StartSamples(None, lambda count: views[:count]))
    yield "final.proj", (error(learner.projections.weight[0].detach(), stored("final.proj")), GRADIENTS)
    moved = learner.projections.weight[0].detach() - initial
    yield "moved.proj", (error(moved, stored("final.proj") - initial), MOVED)
    logits = trainer.model_inference(None, features=torch.from_numpy(data["test_features"]))
    yield "test_logits_final", (error(logits, data["test_logits_final"]), GRADIENTS)
    right = (logits.argmax(1) == torch.from_numpy(data["test_labels"])).float().mean()
    yield "test_accuracy", (error(100 * right, case["test_accuracy"]), FEATURES)
    if "zero_shot_logits" in data:
        image = F.normalize(trainer.joint_features(torch.from_numpy(data["test_features"])), dim=-1)
        zero = case["logit_scale"] * image @ torch.from_numpy(data["text_features"]).t()
        yield "zero_shot_logits", (error(zero, data["zero_shot_logits"]), FEATURES)
