"""Test SoftCPT's task features, class-sampled training, label smoothing and Proposition 1 with the trainer."""

import json

import pytest
import torch
import torch.nn.functional as F

from dassl.engine import build_trainer
from dassl.utils import UserError
from tests.suite import config

KEY = "TRAINER.MTCOOP."


@pytest.fixture
def build(weights, tmp_path):
    def make(*settings, folder="run"):
        return build_trainer(config(tmp_path, "MTCoOp", weights, 32, "OUTPUT_DIR", str(tmp_path / folder), *settings))

    return make


def whole_batch(trainer):
    """One batch with all training images."""
    batches = list(trainer.train_loader_x)
    return {key: torch.cat([batch[key] for batch in batches]) for key in ("img", "label", "task")}


# ---- task features ----

RAND = (KEY + "TASK_FEATURE", "rand")


def test_learned_features_take_the_place_of_the_text_encoders(build):
    trainer = build(*RAND, KEY + "TASK_FEATURE_DIM", 7)
    learner = trainer.model
    assert {name: tuple(p.shape) for name, p in learner.named_parameters()} == {
        "task_features.table": (3, 7),
        "prompt_gen.proj": (7, 16 * 64),
    }
    calls, tower = [], learner.tower
    learner.tower = lambda prompts: calls.append(len(prompts.group)) or tower(prompts)
    trainer.model(trainer.all_columns)
    assert calls == [10]  # class prompts only, no task prompts
    columns = torch.tensor([0, 8])
    contexts, group = learner.contexts(columns)
    for row, task in zip(group.tolist(), (0, 2), strict=True):
        expected = (learner.task_features.table[task] @ learner.prompt_gen.proj).view(16, 64)
        assert torch.allclose(contexts[row], expected, atol=1e-6)


def test_learned_features_begin_with_the_length_asked_for(build):
    for dim, norm in ((4, 3.0), (4000, 3.0), (0, 10.0)):
        settings = () if norm == 10.0 else (KEY + "TASK_FEATURE_NORM", norm)
        table = build(*RAND, KEY + "TASK_FEATURE_DIM", dim, *settings).model.task_features.table
        assert table.shape == (3, dim or 48)
        assert table.square().sum(1).mean().sqrt().item() == pytest.approx(norm, rel=0.02 if dim > 100 else 0.6)


def test_a_model_with_learned_features_serves_its_own_tasks_and_no_others(build, tmp_path):
    trainer = build(*RAND, "DATASET.SUBSAMPLE_TASKS", "shades,one", "OPTIM.MAX_EPOCH", 1)
    trainer.train()
    one = build(*RAND, "DATASET.SUBSAMPLE_TASKS", "one", folder="one")
    one.load_model(str(tmp_path / "run"))
    assert torch.equal(one.model.task_features.table[0], trainer.model.task_features.table[1])
    new = build(*RAND, folder="new")
    with pytest.raises(UserError, match=r"TASK_FEATURE rand.* none was learned for 'marks' \(1 of 3"):
        new.load_model(str(tmp_path / "run"))


def test_another_dimension_is_a_fixed_projection_of_the_text_feature(build, tmp_path):
    whole, trainer = build(), build(KEY + "TASK_FEATURE_DIM", 5, "OPTIM.MAX_EPOCH", 1)
    learner, everyone = trainer.model, torch.arange(3)
    assert learner.prompt_gen.proj.shape[0] == 5
    with torch.no_grad():
        f, small = whole.model.task_feature(everyone), learner.task_feature(everyone)
    assert torch.allclose(small, f @ learner.task_projection, atol=1e-5)  # the task prompts have the same random values
    assert "task_projection" not in dict(learner.named_parameters())
    before = learner.task_projection.clone()
    trainer.train()
    assert torch.equal(learner.task_projection, before)
    again = build(KEY + "TASK_FEATURE_DIM", 5, "SEED", 2, folder="again")
    again.load_model(str(tmp_path / "run"))
    assert torch.equal(again.model.task_projection, before)  # the projection is part of the model
    assert build(KEY + "TASK_FEATURE_DIM", 48).model.task_projection is None  # d itself


def test_projections_keep_lengths_on_average(build):
    torch.manual_seed(0)
    f = torch.randn(200, 48)
    for k in (12, 480):
        ratio = (f @ build(KEY + "TASK_FEATURE_DIM", k).model.task_projection).square().sum() / f.square().sum()
        assert ratio.item() == pytest.approx(1.0, abs=0.25)


# ---- class-sampled training ----

CATA = (KEY + "CSC", True)


def test_sampling_all_classes_is_training_without_sampling(build):
    plain, sampled = build(*CATA), build(*CATA, KEY + "CLS_SAMPLE_RATE", 1.0, folder="sampled")
    plain.train()
    sampled.train()
    for (name, a), b in zip(plain.model.named_parameters(), sampled.model.parameters(), strict=True):
        assert torch.equal(a, b), name


def test_sampled_training_is_tested_on_all_classes(build, tmp_path):
    trainer = build(*CATA, KEY + "CLS_SAMPLE_RATE", 0.1, "DATALOADER.TRAIN_X.BATCH_SIZE", 2)
    seen, forward = [], trainer.model.text
    trainer.model.text = lambda select, added: seen.append(len(select)) or forward(select)
    trainer.train()
    assert max(seen[:-1]) < 10 and seen[-1] == 10  # training steps, then the test
    found = json.loads((tmp_path / "run/results.json").read_text())
    assert [task["classes"] for task in found["tasks"]] == [5, 1, 4]
    with torch.no_grad():
        logits = trainer.model_inference(torch.randn(2, 3, 32, 32))
    assert logits.shape == (2, 10) and torch.isfinite(logits).all()


# ---- label smoothing ----


@pytest.mark.parametrize("sampled", [False, True])
def test_the_loss_of_a_step_is_smoothed_over_the_classes_it_computes(build, sampled):
    settings = (*CATA, KEY + "CLS_SAMPLE_RATE", 0.3) if sampled else ()
    trainer = build("TRAINER.LABEL_SMOOTHING", 0.2, "OPTIM.LR", 0.0, *settings)
    kept, columns = [], trainer.training_columns
    trainer.training_columns = lambda *args: kept.append(columns(*args)) or kept[-1]
    batch = whole_batch(trainer)
    batch = {key: value[:6] for key, value in batch.items()}
    found = trainer.forward_backward(batch)["loss"]
    with torch.no_grad():
        logits = trainer.model_inference(batch["img"]).double()
    expected = 0.0
    for row, t, y in zip(logits, batch["task"].tolist(), batch["label"].tolist(), strict=True):
        own = [c for c in kept[0].tolist() if trainer.space.task_of_column[c] == t]
        log_p = row[own].log_softmax(0)
        right = own.index(trainer.space.columns(t).start + y)
        expected -= 0.8 * log_p[right] + 0.2 * log_p.mean()
    assert found == pytest.approx(expected.item() / 6, rel=1e-4)


# ---- Proposition 1 ----


def naive_gradients(trainer, batch):
    """g_u (T, L, D): gradients of each task's share of the loss with respect to its context."""
    learner, space = trainer.model, trainer.space
    with torch.no_grad():
        S = learner.contexts(trainer.all_columns)[0]
        images = F.normalize(trainer.encode_images(batch["img"]), dim=-1)
    gradients = []
    for u in range(space.num_tasks):
        context = S[u].clone().requires_grad_()
        own = trainer.all_columns[space.columns(u)]
        text = learner.tower(learner.names.fill(context[None], torch.zeros_like(own), own))
        mine = batch["task"] == u
        logits = trainer.scale * images[mine] @ F.normalize(text, dim=-1).T
        loss = F.cross_entropy(logits, batch["label"][mine], reduction="sum") / len(batch["task"])
        gradients.append(torch.autograd.grad(loss, context)[0])
    return torch.stack(gradients)


@pytest.mark.parametrize("settings", [(), RAND, (KEY + "TASK_FEATURE_DIM", 6)], ids=["te", "rand", "projected"])
def test_proposition_1(build, settings):
    """One step of SGD moves S_t by -lr sum_u (f_t . f_u) g_u when the task features are fixed."""
    lr = 10.0  # exact for all rates; a large rate avoids rounding
    trainer = build(
        *settings, "OPTIM.MOMENTUM", 0.0, "OPTIM.WEIGHT_DECAY", 0.0, "OPTIM.LR", lr, "OPTIM.WARMUP_EPOCH", -1
    )
    learner = trainer.model
    source = learner.task_features if settings == RAND else learner.task_prompt_learner
    source.requires_grad_(False)
    batch = whole_batch(trainer)
    assert batch["task"].unique().tolist() == [0, 1, 2]
    with torch.no_grad():
        f = learner.task_feature(torch.arange(3))
        before = learner.contexts(trainer.all_columns)[0]
    g = naive_gradients(trainer, batch)
    trainer.forward_backward(batch)
    with torch.no_grad():
        moved = learner.contexts(trainer.all_columns)[0] - before
    for t in range(3):
        predicted = -lr * sum((f[t] @ f[u]) * g[u] for u in range(3))
        assert predicted.norm() > 1e-3
        assert (moved[t] - predicted).norm() < 1e-3 * predicted.norm()
    assert g[0].norm() > 0 and g[2].norm() > 0 and g[1].norm() == 0  # a task with one class has nothing to learn
    assert moved[1].norm() > 0  # its context still moves with the others
