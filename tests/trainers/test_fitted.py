"""Test the common behaviour of linear probe and ProtoNet: images, checkpoints, tasks and classes."""

import json

import pytest
import torch

from clip.text_tower import TextTower
from dassl.config import ConfigError
from dassl.data import data_manager
from dassl.data.datasets import DATASET_REGISTRY
from dassl.data.tasks import Task, TaskSpace
from dassl.engine import build_trainer
from dassl.utils import UserError
from dassl.utils.errors import NonFiniteLossError
from tests.models import tiny_vit
from tests.suite import TestSuite, config
from trainers.protonet import Prototypes

METHODS = [
    ("LinearProbe", ("TRAINER.LINEARPROBE.C", 1.0)),  # the search is in test_linear_probe.py
    ("ProtoNet", ("TRAINER.PROTONET.METRIC", "cosine")),
    ("ProtoNet", ("TRAINER.PROTONET.METRIC", "euclidean")),
]
every_method = pytest.mark.parametrize(("name", "options"), METHODS, ids=["LP", "cosine", "euclidean"])


@pytest.fixture()
def build(tmp_path, weights):
    def build(folder, name, *settings):
        cfg = config(tmp_path, name, weights, 32, "OUTPUT_DIR", str(tmp_path / folder), *settings)
        return build_trainer(cfg)

    return build


@DATASET_REGISTRY.register()
class SuiteWithGaps(TestSuite):
    """Samples without training images of "dark_green", the second class of the first task."""

    def __init__(self, cfg):
        super().__init__(cfg)
        self._train_x = [item for item in self.train_x if item.classname != "dark_green"]


def logits(trainer):
    images = torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return trainer.model_inference(images)


@every_method
def test_a_saved_model_gives_the_same_logits(name, options, build, tmp_path):
    first = build("run", name, *options)
    first.train()
    second = build("again", name, *options)
    assert not torch.allclose(logits(second), logits(first))
    second.load_model(str(tmp_path / "run"))
    assert torch.equal(logits(second), logits(first))
    file = tmp_path / "run/classifier/model.pth.tar-1"
    saved = torch.load(file, weights_only=True)
    assert saved["epoch"] == 1 and saved["optimizer"] is None
    results = json.loads((tmp_path / "run/results.json").read_text())
    assert (results["status"], results["epochs"], results["epoch"]) == ("complete", 1, 1)


@every_method
def test_a_finished_fit_is_not_repeated(name, options, build, tmp_path, capsys):
    build("run", name, *options).train()
    (tmp_path / "run/results.json").unlink()
    second = build("run", name, *options)
    second.fit = None  # calling it would fail
    second.train()
    assert "Resumed from" in capsys.readouterr().out
    assert json.loads((tmp_path / "run/results.json").read_text())["status"] == "complete"


@every_method
def test_a_model_of_all_tasks_serves_one_and_equals_the_model_of_that_one(name, options, build, tmp_path):
    joint = build("joint", name, *options)
    joint.train()
    alone = build("alone", name, *options, "DATASET.SUBSAMPLE_TASKS", "task2")
    alone.train()
    part = build("part", name, *options, "DATASET.SUBSAMPLE_TASKS", "task2")
    part.load_model(str(tmp_path / "joint"))
    columns = joint.space.columns(2)
    assert torch.allclose(logits(part), logits(joint)[:, columns], atol=1e-4)
    assert torch.allclose(logits(alone), logits(joint)[:, columns], atol=1e-4)


def test_classes_of_one_name_keep_their_own_rows():
    space = TaskSpace((Task("a", "a", ("bat", "cat"), id=0), Task("b", "b", ("bat", "ball", "bat"), id=1)))
    tower = TextTower(tiny_vit())
    joint, part = Prototypes(tower, space), Prototypes(tower, space.subset([1]))
    joint.prototypes.data.copy_(torch.arange(5.0)[:, None].expand(5, 48))
    part.load_state_dict(joint.state_dict())
    assert torch.equal(part.prototypes, joint.prototypes[2:])


@every_method
def test_new_classes_are_refused(name, options, build, tmp_path):
    build("base", name, *options, "DATASET.SUBSAMPLE_CLASSES", "base").train()
    new = build("new", name, *options, "DATASET.SUBSAMPLE_CLASSES", "new")
    with pytest.raises(
        UserError,
        match="one fitted row per class, and none was learned for 'shades: white' .4 of 4 were not in training",
    ):
        new.load_model(str(tmp_path / "base"))


@every_method
def test_a_class_without_training_images_is_never_predicted(name, options, build, capsys):
    trainer = build("gaps", name, *options, "DATASET.NAME", "SuiteWithGaps")
    trainer.train()
    assert "task 0 (shades of colours) has classes without training images, which are never predicted: dark_green" in (
        capsys.readouterr().out
    )
    found = logits(trainer)
    assert torch.isfinite(found).all()
    assert (found[:, 1] < found[:, [0, 2, 3, 4]].min(1).values).all()


@every_method
def test_features_that_are_not_finite_stop_with_batch_and_tasks(name, options, build):
    trainer = build("run", name, *options, "DATALOADER.FEATURE_CACHE", False, "DATALOADER.TEST.BATCH_SIZE", 16)
    encode, seen = trainer.frozen_features, []
    trainer.frozen_features = lambda images, **more: (
        seen.append(1) or encode(images) * (float("nan") if len(seen) == 3 else 1)
    )
    expected = r"training images are infinite or NaN in batch 3 of 3, tasks of the batch: 2 \(marks on paper\)"
    with pytest.raises(NonFiniteLossError, match=expected):
        trainer.train()


def test_features_are_read_from_the_cache(build, tmp_path, monkeypatch):
    read = []
    original = data_manager.read_image
    monkeypatch.setattr(data_manager, "read_image", lambda path, *how: read.append(path) or original(path, *how))
    cache = ("DATALOADER.FEATURE_CACHE_DIR", str(tmp_path / "cache"))
    live = build("live", "LinearProbe", *METHODS[0][1], "DATALOADER.FEATURE_CACHE", False)
    live.train()
    assert len(read) == 40 + 18 == len(set(read))  # training and test images, each once; C is given
    read.clear()
    first = build("first", "LinearProbe", *METHODS[0][1], *cache, "DATALOADER.FEATURE_BANK", True)
    first.train()
    assert len(read) == 58
    # the solver stops at 1e-4: features that differ in their last bits move the solution by about that much
    assert torch.allclose(logits(first), logits(live), atol=1e-2)
    for here, there in zip(first.evaluator.report["tasks"], live.evaluator.report["tasks"], strict=True):
        probabilities = {name: pytest.approx(there[name], abs=0.1) for name in ("ece", "nll")}
        assert here == {**there, **probabilities}
    read.clear()
    build("second", "ProtoNet", *cache).train()
    assert read == []


def test_what_cannot_be(build):
    with pytest.raises(ConfigError, match="LinearProbe does not start from weights"):
        build("run", "LinearProbe", "MODEL.INIT_WEIGHTS", "some.pt")
    with pytest.raises(ConfigError, match="expected one of cosine, euclidean"):
        build("run", "ProtoNet", "TRAINER.PROTONET.METRIC", "manhattan")
