"""Compare ProGrad's gradients and divergence with plain loops for each task; test one step per batch."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dassl.config import ConfigError
from dassl.data.tasks import Task
from dassl.engine import build_trainer
from tests.models import relative, state_dict, tiny_vit
from tests.parity import runner
from tests.suite import config
from trainers.hand import HandPrompts
from trainers.prograd import TEMPLATES, aligned, divergence, template


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prograd")
    torch.save(state_dict(tiny_vit()), folder / "vit.pt")

    def build(*settings):
        return build_trainer(config(folder, "ProGrad", folder / "vit.pt", 32, *settings))

    return build


def batch(tasks, seed=0):
    """A batch of random images labelled with the first or last class of each task."""
    images = torch.randn(len(tasks), 3, 32, 32, generator=torch.Generator().manual_seed(seed))
    task = torch.tensor(tasks)
    label = torch.tensor([[4, 0, 3][t] * (i % 2) for i, t in enumerate(tasks)])
    return {"img": images, "label": label, "task": task}


# ---- the projection ------------------------------------------------------------------------------------------------


def by_hand(gradient, general, rate):
    g, k = gradient.double().flatten().tolist(), general.double().flatten().tolist()
    dot = sum(a * b for a, b in zip(g, k, strict=True))
    if dot >= 0:
        return gradient.double()
    square = sum(b * b for b in k)
    return torch.tensor([a - rate * dot / square * b for a, b in zip(g, k, strict=True)]).view_as(gradient)


@pytest.mark.parametrize("rate", [1.0, 0.8, 0.0])
@pytest.mark.parametrize("size", [1.0, 1e-24, 1e12])
def test_the_conflicting_part_is_taken_out(rate, size):
    rng = torch.Generator().manual_seed(1)
    gradient, general = torch.randn(2, 4, 8, generator=rng)
    if (gradient * general).sum() < 0:
        general = -general
    for sign in (1, -1):
        direction = sign * general * size
        found = aligned(gradient, direction, rate)
        assert torch.allclose(found.double(), by_hand(gradient, direction, rate).double(), atol=1e-6)
        if sign == 1:
            assert torch.equal(found, gradient)
        elif rate == 1:  # no component along the direction is left
            assert abs((found.double() * general.double()).sum()) < 1e-5


def test_no_general_direction_changes_nothing():
    gradient = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(aligned(gradient, torch.zeros(3, 5), 1.0), gradient)


# ---- the divergence ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_divergence_is_over_the_classes_of_each_images_own_task(temperature):
    rng = torch.Generator().manual_seed(2)
    teacher, student = 5 * torch.randn(2, 3, 6, generator=rng)
    columns = [(0, 1, 2), (3, 4, 5), (0, 1, 2)]
    own = torch.zeros(3, 6, dtype=torch.bool)
    expected = 0.0
    for row, span in enumerate(columns):
        own[row, list(span)] = True

        def share(logits, c, row=row, span=span):
            weights = {k: math.exp(logits[row, k].item() / temperature) for k in span}
            return weights[c] / sum(weights.values())

        expected += sum(share(teacher, c) * math.log(share(teacher, c) / share(student, c)) for c in span)
    found = divergence(teacher, student, own, temperature)  # of each image
    assert found.mean().item() == pytest.approx(temperature**2 * expected / 3, rel=1e-4)
    assert divergence(teacher, teacher, own, temperature).tolist() == pytest.approx([0, 0, 0], abs=1e-6)


# ---- steps ---------------------------------------------------------------------------------------------------------


def plain_gradients(trainer, data):
    """(g_ce, g_kl) of every parameter, from separate forward passes and a loop over the images."""
    hand = F.normalize(
        torch.cat([trainer.text_tower.encode([template(t).format(c.replace("_", " ")) for c in t.classnames])
                   for t in trainer.space.tasks]), dim=-1,
    )  # fmt: skip
    images = F.normalize(trainer.encode_images(data["img"]), dim=-1)
    parameters, found = list(trainer.model.parameters()), []
    for which in ("ce", "kl"):
        text = F.normalize(trainer.model(trainer.all_columns), dim=-1)
        total = 0
        for x, task, label in zip(images, data["task"].tolist(), data["label"].tolist(), strict=True):
            own = trainer.space.columns(task)
            log_q = (trainer.scale * text[own] @ x).log_softmax(0)
            p = (trainer.scale * hand[own] @ x).softmax(0)
            total = total - (log_q[label] if which == "ce" else (p * log_q).sum())
        found.append(torch.autograd.grad(total / len(images), parameters))
    return found


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ((), ["ctx"]),
        (("TRAINER.PROGRAD.TSC", True, "TRAINER.PROGRAD.LAMBDA", 0.8), [f"learners.{t}.ctx" for t in "012"]),
        (
            ("TRAINER.PROGRAD.TSC", True, "TRAINER.PROGRAD.TASK_LAMBDA", "shades=0.3, gone=0.1"),
            [f"learners.{t}.ctx" for t in "012"],
        ),
    ],
    ids=["shared", "TSC", "TASK_LAMBDA"],
)
def test_a_step_uses_both_gradients_of_every_context(build, settings, names):
    trainer = build(*settings)
    assert [name for name, _ in trainer.model.named_parameters()] == [f"prompt_learner.{name}" for name in names]
    c, conflicts = trainer.cfg.TRAINER.PROGRAD, {}
    rates = [0.3, 1.0, 1.0] if c.TASK_LAMBDA else [c.LAMBDA] * 3
    trainer.num_batches = 2
    for seed in range(4):  # no batch contains the second task: with TSC its context has no gradient
        data = batch([0, 2, 2, 0, 0, 2], seed)
        ce, kl = plain_gradients(trainer, data)
        found = trainer.forward_backward(data)
        assert found["kl"] > 0 and set(found) == {"loss", "acc", "kl"}
        for t, (parameter, a, b) in enumerate(zip(trainer.model.parameters(), ce, kl, strict=True)):
            expected = by_hand(a, b, rates[t]) if b.any() else a.double()
            assert torch.allclose(parameter.grad.double(), expected.double(), rtol=1e-3, atol=1e-6)
            conflicts[t] = conflicts.get(t, False) or bool((a * b).sum() < 0)
    assert conflicts[0], "no step of this test projects"
    if trainer.cfg.TRAINER.PROGRAD.TSC:
        assert not trainer.model.prompt_learner.learners[1]["ctx"].grad.any()


def test_text_is_encoded_once_a_step(build):
    trainer = build()
    trainer.num_batches, calls = 2, []
    forward = trainer.model.text
    trainer.model.text = lambda *args: calls.append(1) or forward(*args)
    trainer.optim.register_step_post_hook(lambda *_: calls.append("step"))
    trainer.forward_backward(batch([0, 1, 2]))
    assert calls == [1, "step"]


def test_recomputed_text_gives_the_same_gradients(build):
    found = []
    for chunk in (0, 3):
        trainer = build("MODEL.TEXT_CHUNK", chunk)
        trainer.num_batches = 2
        trainer.forward_backward(batch([0, 2, 2, 0]))
        found.append(trainer.model.prompt_learner.ctx.grad)
    assert relative(*found) < 1e-4


def test_scaled_losses_give_scaled_gradients(build):
    """Under PREC amp the gradients have the scaler's factor until the scaler steps."""

    class Scaler:
        def scale(self, loss):
            return 1024 * loss

    trainer = build()
    data = batch([0, 2, 2, 0, 0, 2])
    found = []
    for scaler in (None, Scaler()):
        trainer.scaler = scaler
        step = trainer.step(data)
        trainer.model_zero_grad()
        trainer.gradients(trainer.loss(step), step)
        found.append(trainer.model.prompt_learner.ctx.grad)
    assert torch.allclose(found[1], 1024 * found[0], rtol=1e-4)


# ---- templates and settings ----------------------------------------------------------------------------------------


def test_templates_are_the_published_ones_where_there_are_any():
    assert template(Task("OxfordPets", "pets", ("cat",))) == "a type of pet, a photo of a {}."
    assert (
        template(Task("DescribableTextures", "textures", ("dots",), templates=("{} texture.",))) == "a texture of {}."
    )
    assert template(Task("faces", "faces", ("sad",), templates=("an icon of a {} face.",))) == "an icon of a {} face."
    assert all(text.count("{}") == 1 for text in TEMPLATES.values())


def test_the_general_direction_comes_from_those_templates(build):
    trainer = build()
    first, *others = trainer.space.tasks
    pets = replace(trainer.space, tasks=(replace(first, key="OxfordPets"), *others))
    learner = trainer.build_learner(trainer.cfg, trainer.text_tower, pets)
    texts = [("a type of pet, a photo of a {}.",), *((t.templates[0],) for t in others)]
    assert torch.equal(learner.hand_features(), HandPrompts(trainer.text_tower, pets, texts).features)
    assert not torch.equal(learner.hand_features()[:5], trainer.model.hand_features()[:5])
    assert torch.equal(learner.hand_features()[5:], trainer.model.hand_features()[5:])


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (("TRAINER.PROGRAD.T", 0.0), "PROGRAD.T = 0.0: expected a number > 0"),
        (("TRAINER.PROGRAD.LAMBDA", -1.0), "PROGRAD.LAMBDA"),
        (("TRAINER.PROGRAD.CSC", True, "TRAINER.PROGRAD.TSC", True), "exclude each other"),
        (("TRAINER.PROGRAD.TASK_LAMBDA", "marks=0.8,one"), "'one' is not a task's key and a number of at least 0"),
        (("TRAINER.PROGRAD.TASK_LAMBDA", "marks=-1"), "'marks=-1' is not a task's key"),
        (
            ("TRAINER.PROGRAD.TASK_LAMBDA", "marks=0.8"),
            "these tasks share one tensor of contexts, which has one LAMBDA",
        ),
        (("TRAINER.PROGRAD.CTX_INIT", "a photo of a"), "has 4 tokens and TRAINER.PROGRAD.N_CTX is 16"),
    ],
)
def test_settings_that_make_no_sense(build, settings, text):
    with pytest.raises((ConfigError, ValueError), match=text):
        build(*settings)


def test_the_case_of_the_published_code_projects():
    """Cosines between the gradients, which the parity runner does not compare, equal ours."""
    path = Path(runner.__file__).parent / "cases" / "prograd.json"
    case = json.loads(path.read_text())
    with np.load(path.with_suffix(".npz")) as stored:
        data = {name: torch.from_numpy(stored[name]) for name in stored.files}
    trainer = runner._trainer("ProGrad", {"N_CTX": case["n_ctx"]}, case, runner.load_clip(path.parent / "clip_vit.npz"))
    trainer.model.load_state_dict({"prompt_learner.ctx": data["init.prompt_learner.ctx"]})
    task = torch.zeros(len(data["images"]), dtype=torch.long)
    [ce], [kl] = plain_gradients(trainer, {"img": data["images"], "label": data["labels"], "task": task})
    cosine = F.cosine_similarity(ce.flatten(), kl.flatten(), dim=0).item()
    assert cosine == pytest.approx(case["cosine_between_gradients"][0][0], rel=1e-4)
