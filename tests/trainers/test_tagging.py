"""Tagging tasks in training, test and use: images with several classes of one task, beside a task with one class."""

import csv
import math

import pytest
import torch

import softcpt
import train
from analysis import embedding
from dassl.engine import TRAINER_REGISTRY, build_trainer
from dassl.engine.confidence import measure_unknown
from dassl.utils import UserError, read_json
from softcpt.export.run import export
from tests.suite import config
from tools import draw_shapes
from trainers.base import FittedTrainer
from trainers.learner import Learner
from trainers.losses import mixed_losses

METHODS = ("MTCoOp", "CoCoOp", "CLIPAdapter", "VPT", "PLOT", "ProGrad", "TaskRes", "MMRL")
TASKS = {"shape": {"METRIC": "mAP"}, "count": {}, "colour": {"METRIC": "mAP_11_points"}}


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    """40 drawn images with tags of shape and colour and one label of count, a third of them missing."""
    folder = tmp_path_factory.mktemp("shapes")
    draw_shapes.main([str(folder), "--tags", "--images", "40", "--seed", "3"])
    return folder / "labels.csv"


@pytest.fixture
def build(tmp_path, weights, shapes):
    def made(trainer="MTCoOp", *settings, name="run", tasks=TASKS):
        entry = {"ROOT": str(shapes), "NAME": "shapes", "TASKS": tasks}
        where = ("DATASET.NAME", "Suite", "DATASET.TASKS", [entry], "OUTPUT_DIR", str(tmp_path / name))
        cache = ("DATALOADER.FEATURE_CACHE_DIR", str(tmp_path / "cache"))
        return build_trainer(config(tmp_path, trainer, weights, 32, *where, *cache, *settings))

    return made


def naive(logits, of_column, task, tags, tagging):
    """The losses in a loop over samples and classes."""
    found = []
    for row, t, own in zip(logits.tolist(), task.tolist(), tags.tolist(), strict=True):
        z = [(value, tag) for value, column, tag in zip(row, of_column.tolist(), own, strict=True) if column == t]
        if tagging[t]:
            parts = [math.log1p(math.exp(-value if tag else value)) for value, tag in z]
            found.append(sum(parts) / len(parts))
        else:
            found.append(math.log(sum(math.exp(v) for v, _ in z)) - sum(v for v, tag in z if tag))
    return torch.tensor(found)


def test_the_loss_equals_a_loop_and_other_logits_have_no_gradient():
    of_column, tagging = torch.tensor([0, 0, 0, 1, 1, 2, 2]), torch.tensor([True, False, True])
    task = torch.tensor([0, 1, 2, 0])
    tags = torch.tensor([[1, 0, 1, 0, 0, 0, 0], [0, 0, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 1, 1], [0, 1, 0, 0, 0, 0, 0]])
    own = of_column == task[:, None]
    logits = torch.randn(4, 7, generator=torch.Generator().manual_seed(1)).mul(4).requires_grad_()
    found = mixed_losses(logits, of_column, task, tags.bool(), tagging)
    torch.testing.assert_close(found, naive(logits, of_column, task, tags, tagging))
    infinite = logits.masked_fill(~own, float("-inf"))  # as methods give them whose features depend on the task
    torch.testing.assert_close(mixed_losses(infinite, of_column, task, tags.bool(), tagging), found)
    mixed_losses(infinite, of_column, task, tags.bool(), tagging).sum().backward()
    assert ((logits.grad != 0) == own).all() and logits.grad[[0, 2, 3]].abs().sum(1).max() <= 1
    smooth = mixed_losses(logits, of_column, task, tags.bool(), tagging, smoothing=0.2)
    assert (smooth[[0, 2, 3]] == found[[0, 2, 3]]).all() and smooth[1] != found[1]


@pytest.mark.parametrize("method", METHODS)
def test_a_step_trains_on_all_tags(build, method):
    trainer = build(method)
    batch = next(iter(trainer.train_loader_x))
    step, coded = trainer.step(batch), batch["label"]
    per_task = [coded[:, trainer.space.columns(t)].eq(1).any(1).sum().item() for t in range(3)]
    assert torch.bincount(step.task, minlength=3).tolist() == per_task and step.target.shape == step.logits.shape
    assert step.target.sum() == coded.eq(1).sum() > len(step.task)
    of_column, tagging = trainer.task_of_column[step.columns], [True, False, True]
    expected = naive(step.logits, of_column, step.task, step.target, tagging).mean()
    loss = trainer.classification_loss(step.logits, step.columns, step.task, step.target)
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)
    assert math.isfinite(trainer.forward_backward(batch)["loss"])


def test_a_task_without_labels_in_a_batch_has_no_gradient(build):
    trainer = build("CoOp", "TRAINER.COOP.TSC", True)  # a context per task
    batch = next(iter(trainer.train_loader_x))
    batch["label"][:, trainer.space.columns(0)] = -1
    trainer.loss(trainer.step(batch)).backward()
    gradients = [p.grad for p in trainer.model.parameters()]
    assert [g is not None and bool(g.norm() > 0) for g in gradients] == [False, True, True]
    batch["label"][:, trainer.space.columns(1)] = -1  # only tags are left
    assert math.isfinite(trainer.forward_backward(batch)["loss"])


@pytest.mark.parametrize("rule", ["images", "uncertainty", "running_mean", "{shape: 2}"])
def test_task_weights_apply_to_tags(build, rule):
    trainer = build("CoOp", "LOSS.TASK_WEIGHTS", rule)
    batch = next(iter(trainer.train_loader_x))
    step = trainer.step(batch)
    losses = mixed_losses(step.logits, trainer.task_of_column[step.columns], step.task, step.target, trainer.tagging)
    weights = trainer.task_weights()
    loss = trainer.classification_loss(step.logits, step.columns, step.task, step.target)
    torch.testing.assert_close(loss, (weights[step.task] * losses).mean() + trainer.task_weights.penalty(step.task))
    trainer.forward_backward(batch)


def test_the_bank_gives_the_same_tags(build):
    trainer = build("CoOp")
    stored = next(iter(trainer.from_features(trainer.train_loader_x, "training views", range(1))))
    items = [trainer.train_loader_x.dataset[i]["label"] for i in stored["index"].tolist()]
    assert stored["label"].equal(torch.stack(items)) and "img" not in stored


def test_sampled_classes_include_all_tags(build):
    trainer = build("MTCoOp", "TRAINER.MTCOOP.CSC", True, "TRAINER.MTCOOP.CLS_SAMPLE_RATE", 0.01)
    batch = next(iter(trainer.train_loader_x))
    assert trainer.step(batch).target.sum() == batch["label"].eq(1).sum()


def test_methods_that_need_one_class_say_so(build):
    for name in TRAINER_REGISTRY.registered_names():
        method = TRAINER_REGISTRY.get(name)
        if method.__module__.startswith("trainers.") and issubclass(method, FittedTrainer):
            assert not method.tags
    for name in ("TipAdapter", "TipAdapterF", "CLAP", "DePT"):
        with pytest.raises(UserError, match=r"needs images with one class, and shape is a tagging task \(METRIC mAP\)"):
            build(name)
    with pytest.raises(UserError, match="TEST.TASK_KNOWN False needs images with one class.*; leave it True"):
        build("CoOp", "TEST.TASK_KNOWN", False)
    build("TipAdapter", "DATASET.SUBSAMPLE_TASKS", "count")
    trainer = build("MTCoOp")
    assert trainer.tags and not (trainer.model.starts or trainer.model.finishes)
    assert isinstance(trainer.model, Learner)


def test_a_joint_run_is_resumed_tested_and_predicts(tmp_path, weights, shapes, capsys):
    folder = tmp_path / "run"
    command = ["--trainer", "SoftCPT", "--seed", "1", "--output-dir", str(folder), "--config-file"]
    command += ["configs/trainers/MTCoOp/tiny_ep50.yaml", "DATASET.NAME", "Suite", "DATASET.TASKS"]
    command += [f"[{{ROOT: '{shapes}', TASKS: {{shape: {{METRIC: mAP}}, count: {{}}}}}}]", "DATASET.NUM_SHOTS", "2"]
    command += ["DATALOADER.FEATURE_CACHE_DIR", str(tmp_path / "cache"), "DATALOADER.NUM_WORKERS", "0"]
    assert train.main([*command, "OPTIM.MAX_EPOCH", "2"]) == 0
    results = read_json(folder / "results.json")
    shape, count = results["tasks"]
    assert (shape["metric"], shape["value"], shape["overall_acc"]) == ("mAP", shape["mAP"], None)
    assert results["mean"]["value"] == pytest.approx((shape["mAP"] + count["overall_acc"]) / 2)
    assert results["zero_shot"]["tasks"][0]["mAP"] == results["zero_shot"]["tasks"][0]["value"] > 0
    with (folder / "predictions.csv").open(newline="") as stream:
        assert {row["task"] for row in csv.DictReader(stream)} == {"count"}
    assert (
        "predictions.csv leaves out tagging tasks, whose images have no single label: shape" in capsys.readouterr().out
    )
    command[command.index(str(folder))] = str(tmp_path / "longer")
    assert train.main([*command, "OPTIM.MAX_EPOCH", "3", "RESUME", str(folder)]) == 0
    assert "epoch [3/3]" in (text := capsys.readouterr().out) and "epoch [1/3]" not in text
    model = softcpt.load(tmp_path / "longer")
    image = shapes.parent / "images/0000.png"
    tags, counts = model.classify(image)
    probabilities = model.logits(image, "shape")[0].sigmoid().tolist()
    expected = dict(zip(model.classnames["shape"], probabilities, strict=True))
    assert dict(tags.classes) == pytest.approx(expected)
    assert sum(p for _, p in counts.classes) == pytest.approx(1)
    with pytest.raises(UserError, match="shape is a tagging task, whose tags are independent"):
        export(str(folder), str(tmp_path / "out"))
    assert embedding.main([str(folder)]) == 2
    assert "shape is a tagging task: its images have no single class; see --task" in capsys.readouterr().err


def test_images_of_unknown_classes_are_scored_in_their_own_task(build):
    base = ("DATASET.SUBSAMPLE_CLASSES", "base", "TEST.CONFIDENCE", True)
    trainer = build("VPT", "TRAINER.VPT.TSC", True, *base)  # has image features of each task
    trainer.test()
    measure_unknown(trainer)
    rows, batches = trainer.evaluator.report["tasks"], list(trainer.unknown_loader)
    images, task = (torch.cat([batch[key] for batch in batches]) for key in ("img", "task"))
    own = task == 1  # the task that is not a tagging task
    unknown = trainer.model_inference(images, task)[own, trainer.space.columns(1)].softmax(1).amax(1)
    known = trainer.evaluator._outputs[1]["probabilities"][:, :1]
    right = 100 * ((known > unknown).float() + (known == unknown) / 2).mean().item()
    assert rows[1]["auroc_unknown"] == pytest.approx(right) and rows[1]["unknown_images"] == own.sum() > 0
    assert rows[0]["auroc_unknown"] is rows[2]["auroc_unknown"] is None


def test_zero_shot_ranks_and_has_no_probabilities(build, tmp_path):
    build("ZeroshotCLIP").train()
    assert read_json(tmp_path / "run/results.json")["tasks"][0]["mAP"] > 0
    model = softcpt.load(tmp_path / "run")
    image = torch.zeros(3, 32, 32)
    with pytest.raises(UserError, match="shape is a tagging task: zero-shot CLIP ranks images by its logits"):
        model.classify(image)
    assert len(model.classify(image, "count")[0].classes) == 3 and model.logits(image).shape == (1, 10)
