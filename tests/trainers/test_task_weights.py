"""Weights of tasks in the loss, against naive versions, and task-balanced sampling."""

import json
import math
from collections import Counter

import pytest
import torch
import torch.nn.functional as F

import trainers  # noqa: F401
from dassl.config import ConfigError, get_cfg_default, load
from dassl.data.datasets.base_dataset import DatumMT
from dassl.data.samplers import build_sampler
from dassl.data.tasks import Task, TaskSpace
from dassl.engine import build_trainer
from dassl.utils import UserError
from tests.suite import config
from trainers.losses import multitask_cross_entropy
from trainers.task_weights import TaskWeights, read_weights

SPACE = TaskSpace((Task("a", "a", ("x", "y")), Task("b", "b", ("u", "v", "w", "z")), Task("c", "c", ("p", "q"))))
COUNTS = (12, 6, 2)
TRAIN = [DatumMT(f"{t}/{i}", 0, t) for t, count in enumerate(COUNTS) for i in range(count)]
TASK = torch.tensor([0, 1, 1, 2, 0])


def naive(logits, target, weight):
    """Sum over labels of w_t CE / R, one at a time."""
    total = 0.0
    for row, t, label in zip(logits, TASK.tolist(), target.tolist(), strict=True):
        columns = SPACE.columns(t)
        total = total + weight[t] * -row[columns].log_softmax(0)[label - columns.start]
    return total / len(TASK)


@pytest.mark.parametrize(
    "rule, expected",
    [
        ("images", [20 / 3 / n for n in COUNTS]),
        ("classes", [1 / math.log(len(task.classnames)) for task in SPACE.tasks]),
        ([{"b": 3.0}, {"c": 0.5}], [1.0, 3.0, 0.5]),
    ],
)
def test_fixed_weights(rule, expected):
    weights = TaskWeights(rule, SPACE, TRAIN)()
    mean = sum(w * n for w, n in zip(expected, COUNTS, strict=True)) / 20 if rule == "classes" else 1
    torch.testing.assert_close(weights, torch.tensor(expected) / mean)
    if isinstance(rule, str):
        assert (weights * torch.tensor(COUNTS)).sum().item() == pytest.approx(20)
    logits, target = torch.randn(5, 8), torch.tensor([1, 2, 5, 7, 0])
    found = multitask_cross_entropy(logits, SPACE.task_of_column, TASK, target, 0.0, weights[TASK])
    torch.testing.assert_close(found, naive(logits, target, weights))


def test_uncertainty_is_learned_as_kendall_says():
    weights = TaskWeights("uncertainty", SPACE, TRAIN)
    with torch.no_grad():
        weights.log_variance.copy_(torch.tensor([0.2, -0.4, 1.0]))
    ce = torch.tensor([0.5, 1.0, 2.0, 0.1, 0.3])
    loss = (weights()[TASK] * ce).mean() + weights.penalty(TASK)
    sigma = weights.log_variance.detach().exp().sqrt().double()
    expected = sum(c / sigma[t] ** 2 + sigma[t].log() for c, t in zip(ce.tolist(), TASK.tolist(), strict=True)) / 5
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    (gradient,) = torch.autograd.grad(loss, weights.log_variance)
    assert gradient[0].item() == pytest.approx((2 - math.exp(-0.2) * 0.8) / 5 - 1 / 5, rel=1e-4)


def test_running_means_follow_the_losses():
    weights, mean = TaskWeights("running_mean", SPACE, TRAIN), {}
    assert weights().tolist() == [1, 1, 1]
    for step in range(4):
        ce, task = torch.rand(5, generator=torch.Generator().manual_seed(step)) + 0.1, TASK if step else TASK[:3]
        weights.observe(ce[: len(task)], task)
        for t in task.unique().tolist():
            new = ce[: len(task)][task == t].mean().item()
            mean[t] = 0.9 * mean[t] + 0.1 * new if t in mean else new
        average = sum(mean.values()) / len(mean)
        assert weights().tolist() == pytest.approx([average / mean[t] if t in mean else 1.0 for t in range(3)])
    assert not weights().requires_grad


@pytest.mark.parametrize("value", ["{a: 0}", "{a: -1}", "size", "{}", "[1, 2]", [{"a": "b"}]])
def test_wrong_weights(value):
    with pytest.raises(TypeError, match="expected none, images, classes"):
        read_weights(value)


def test_unknown_tasks_and_settings(tmp_path, weights, capsys):
    with pytest.raises(UserError, match="LOSS.TASK_WEIGHTS: no task 'd' in this run; its tasks: a, b, c"):
        TaskWeights(read_weights("{d: 2}"), SPACE)
    with pytest.raises(ConfigError, match="expected none, images"):
        load(get_cfg_default(), [], ["LOSS.TASK_WEIGHTS", "size"])
    cfg = config(tmp_path, "MTCoOp", weights, 32, "LOSS.TASK_WEIGHTS", "{shades: 2, marks: 0.5}")
    assert cfg.LOSS.TASK_WEIGHTS == [{"shades": 2.0}, {"marks": 0.5}]
    assert build_trainer(cfg).task_weights().tolist() == [2, 1, 0.5]
    capsys.readouterr()
    cfg.LOSS.TASK_WEIGHTS = [{"mark": 2.0}]
    with pytest.raises(UserError, match="no task 'mark' in this run"):
        build_trainer(cfg)
    assert "Loading CLIP" not in capsys.readouterr().out


@pytest.mark.parametrize("rule", ["images", "uncertainty", "running_mean"])
def test_runs_train_resume_and_record_weights(tmp_path, weights, rule):
    def made(name, epochs, *settings):
        run = ("OUTPUT_DIR", str(tmp_path / name), "OPTIM.MAX_EPOCH", epochs)
        run += ("OPTIM.LR_SCHEDULER", "single_step", "OPTIM.STEPSIZE", (9,))
        return build_trainer(config(tmp_path, "MTCoOp", weights, 32, "LOSS.TASK_WEIGHTS", rule, *run, *settings))

    whole = made("whole", 2)
    whole.train()
    made("parts", 1).train()
    resumed = made("parts", 2)
    resumed.train()
    found = [json.loads((tmp_path / name / "results.json").read_text()) for name in ("whole", "parts")]
    assert found[0]["task_weights"] == found[1]["task_weights"] and found[0]["tasks"] == found[1]["tasks"]
    values = list(found[0]["task_weights"].values())
    assert list(found[0]["task_weights"]) == ["shades", "one", "marks"] and len(set(values)) > 1
    tested = made("tested", 2)
    tested.load_model(str(tmp_path / "whole"))
    assert tested.task_weights().tolist() == whole.task_weights().tolist()
    plain = build_trainer(config(tmp_path, "MTCoOp", weights, 32))  # without the setting the weights are not needed
    plain.load_model(str(tmp_path / "whole"))
    assert all(torch.equal(a, b) for a, b in zip(plain.model.parameters(), whole.model.parameters(), strict=True))


def test_weights_of_one_change_no_number(tmp_path, weights):
    found = []
    for rule in ("none", "{shades: 1}"):
        trainer = build_trainer(config(tmp_path, "KgCoOp", weights, 32, "LOSS.TASK_WEIGHTS", rule))
        batch = next(iter(trainer.train_loader_x))
        loss = trainer.loss(trainer.step(batch))
        found.append(loss[0] if isinstance(loss, tuple) else loss)
    torch.testing.assert_close(*found)
    assert F.mse_loss(*found) < 1e-10


def test_every_task_has_the_same_number_of_draws():
    sampler = build_sampler("TaskBalancedSampler", data_source=TRAIN, seed=1)
    order = [int(i) for i in sampler]
    assert len(order) == len(sampler) == 20 and order != [int(i) for i in sampler]  # another epoch
    assert order == [int(i) for i in build_sampler("TaskBalancedSampler", data_source=TRAIN, seed=1)]
    drawn = Counter(TRAIN[i].task for i in order)
    assert max(drawn.values()) - min(drawn.values()) <= 1 and set(drawn) == {0, 1, 2}
    assert all({TRAIN[i].task for i in order[r : r + 3]} == {0, 1, 2} for r in range(0, 18, 3))
    times = Counter(order)
    assert max(times[i] for i in times if TRAIN[i].task == 0) == 1
    assert {times[i] for i in times if TRAIN[i].task == 2} <= {3, 4}
