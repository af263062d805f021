"""Training and testing on images with labels of several tasks, against single-label copies of the images."""

import csv

import pytest
import torch

from dassl.data import data_manager
from dassl.data.datasets import DATASET_REGISTRY
from dassl.data.datasets.base_dataset import labels_of
from dassl.engine import build_trainer
from tests.suite import TestSuite, config
from tools import draw_shapes

METHODS = ("MTCoOp", "CoOp", "CLIPAdapter", "CoCoOp", "VPT", "PromptSRC", "CoPrompt", "DePT")
FITTED = ("GDA", "TipAdapter", "ProtoNet")
TASKS = {"shape": {}, "colour": {"CLASSNAMES": ["red", "green", "blue", "yellow"]}, "count": {"METRIC": "mean_acc"}}


@DATASET_REGISTRY.register()
class ListedSuite(TestSuite):
    """TestSuite with its single labels written as lists."""

    def __init__(self, cfg):
        super().__init__(cfg)
        for items in (self._train_x, self._val, self._test):
            for item in items:
                item._label, item._task = [item.label], [item.task]


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    """A drawn data set: 40 images with one to three labels."""
    folder = tmp_path_factory.mktemp("shapes")
    draw_shapes.main([str(folder), "--images", "40", "--seed", "3"])
    return folder / "labels.csv"


@pytest.fixture
def build(tmp_path, weights, shapes):
    def made(name, trainer="MTCoOp", *settings, dataset=None):
        entry = {"ROOT": str(shapes), "NAME": "shapes", "TASKS": TASKS}
        where = ("DATASET.NAME", "Suite", "DATASET.TASKS", [entry]) if dataset is None else ("DATASET.NAME", dataset)
        cache = ("DATALOADER.FEATURE_CACHE_DIR", str(tmp_path / "cache"))
        run = ("OUTPUT_DIR", str(tmp_path / name))
        return build_trainer(config(tmp_path, trainer, weights, 32, *run, *where, *cache, *settings))

    return made


def losses_of(trainer):
    """Train and test; the losses of all steps."""
    losses, step = [], trainer.forward_backward
    trainer.forward_backward = lambda batch: losses.append(step(batch)["loss"]) or {"loss": losses[-1]}
    trainer.train()
    return losses


@pytest.mark.parametrize("method", METHODS)
def test_lists_of_one_label_change_no_number(build, method):
    found = [build(name, method, dataset=name) for name in ("TestSuite", "ListedSuite")]
    losses = [losses_of(trainer) for trainer in found]
    assert losses[0] == losses[1] and len(losses[0]) > 3
    assert found[0].evaluator.report == found[1].evaluator.report


def copies(batch, trainer):
    """The batch with one single-label copy of an image for each of its labels."""
    image, task, label = trainer.space.decode(batch["label"])
    views = batch["img"] if isinstance(batch["img"], list) else [batch["img"]]
    views = [view[image] for view in views]
    return {"img": views if len(views) > 1 else views[0], "task": task, "label": label}


def gradients(trainer, batch, seed=0):
    torch.manual_seed(seed)
    trainer.model.zero_grad()
    loss = trainer.loss(trainer.step(batch))
    loss = loss[0] if isinstance(loss, tuple) else loss
    loss.backward()
    return loss.detach(), {name: p.grad for name, p in trainer.model.named_parameters() if p.grad is not None}


class Counted:
    """An image tower that counts the images of each call."""

    def __init__(self, tower):
        self.tower, self.passed = tower, []

    def __call__(self, images, *rest, **more):
        self.passed.append(len(images))
        return self.tower(images, *rest, **more)

    def __getattr__(self, name):
        return getattr(self.tower, name)


@pytest.mark.parametrize("method", METHODS)
def test_a_step_equals_that_on_single_label_copies(build, method):
    settings = ("TRAINER.VPT.TSC", True) if method == "VPT" else ()
    trainer = build("a", method, *settings)
    trainer.set_model_mode("eval")  # no dropout
    batch = next(iter(trainer.train_loader_x))
    assert batch["label"].shape == (8, 10) and 8 < batch["label"].eq(1).sum() < 24
    trainer.image_tower = tower = Counted(trainer.image_tower)
    (loss, found), (expected, of_copies) = gradients(trainer, batch), gradients(trainer, copies(batch, trainer))
    torch.testing.assert_close(loss, expected)
    assert found.keys() == of_copies.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, of_copies[name], rtol=1e-4, atol=1e-6)
    labels = int(batch["label"].eq(1).sum())
    assert tower.passed[0] == (labels if method == "VPT" else 8)  # VPT: each task has its own visual prompts


def test_missing_labels_contribute_no_gradient(build):
    trainer = build("a", "CoOp", "TRAINER.COOP.TSC", True)  # a context per task
    batch = next(iter(trainer.train_loader_x))
    batch["label"][:, trainer.space.columns(1)] = -1  # no image has a colour
    step = trainer.step(batch)
    assert set(step.task.tolist()) == {0, 2}
    _, found = gradients(trainer, batch)
    names = [name for name, _ in trainer.model.named_parameters()]
    assert [bool(name in found and found[name].norm() > 0) for name in names] == [True, False, True]
    # an image's logits of tasks that it has no label of
    logits, columns, task = torch.randn(2, 10, requires_grad=True), trainer.all_columns, torch.tensor([0, 2])
    trainer.classification_loss(logits, columns, task, torch.tensor([1, 8])).backward()
    assert ((logits.grad != 0) == trainer.space.mask(task)).all()


@pytest.mark.parametrize("method", ["MTCoOp", *FITTED])
def test_features_of_an_image_are_computed_once_and_bank_and_cache_change_nothing(build, method, monkeypatch):
    read, original = [], data_manager.read_image
    monkeypatch.setattr(data_manager, "read_image", lambda path, *how: read.append(path) or original(path, *how))
    plain = ("DATALOADER.FEATURE_CACHE", False)
    bank = ("DATALOADER.FEATURE_BANK", True) if method == "MTCoOp" else ()
    once = ("TEST.ZERO_SHOT_CHECK", False)
    trainers = [build(name, method, *settings, *once) for name, settings in (("plain", plain), ("stored", bank))]
    first = losses_of(trainers[0])
    read.clear()
    again = losses_of(trainers[1])
    dataset = trainers[1].dm.dataset
    test = [item.impath for item in dataset.test]
    assert all(read.count(path) == 1 for path in test)
    torch.testing.assert_close(first, again, rtol=1e-5, atol=0)  # the bank computes features in other batches
    plain, stored = ([(t["images"], t["value"]) for t in found.evaluator.report["tasks"]] for found in trainers)
    assert plain == stored
    labels = [pair for item in dataset.test for pair in labels_of(item)]
    assert [images for images, _ in stored] == [sum(t == i for t, _ in labels) for i in range(3)]


@pytest.mark.parametrize("method", ["MTCoOp", "VPT", "TipAdapter"])
def test_every_task_is_tested_on_the_images_with_its_label(build, method):
    trainer = build("a", method, "DATALOADER.FEATURE_CACHE", False)
    if method == "TipAdapter":
        trainer.train()
    trainer.test()
    right = {t: [] for t in range(3)}
    for item in trainer.test_loader.dataset.data_source:
        image = trainer.test_loader.dataset[trainer.test_loader.dataset.data_source.index(item)]["img"][None]
        for t, label in labels_of(item):
            columns = trainer.space.columns(t)
            own = trainer.model_inference(image, torch.tensor([t]))[0, columns]
            right[t].append(int(own.argmax()) == label)
    found = [task["overall_acc"] for task in trainer.evaluator.report["tasks"]]
    assert found == pytest.approx([100 * sum(own) / len(own) for own in right.values()])


def test_predictions_have_a_row_per_label(build, tmp_path):
    trainer = build("run", "ZeroshotCLIP")
    trainer.train()
    with (tmp_path / "run" / "predictions.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    space = trainer.space
    expected = {
        (item.impath.rpartition("/")[2], space.tasks[t].key, space.tasks[t].classnames[label])
        for item in trainer.dm.dataset.test
        for t, label in labels_of(item)
    }
    assert {(row["path"].rpartition("/")[2], row["task"], row["label"]) for row in rows} == expected
    for task in trainer.evaluator.report["tasks"]:
        own = [row["class1"] == row["label"] for row in rows if row["task"] == task["key"]]
        assert 100 * sum(own) / len(own) == pytest.approx(task["overall_acc"])
