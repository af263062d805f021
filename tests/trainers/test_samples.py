"""Frozen features for the start of a learner: views of the bank, without a bank, and unprojected ones."""

import pytest
import torch

from clip.additions import Additions
from clip.image_tower import ImageTower
from dassl.data.tasks import Task, TaskSpace
from dassl.engine import build_trainer
from dassl.metrics import METRICS
from dassl.utils import UserError
from tests.models import tiny_rn, tiny_vit
from tests.suite import config
from trainers.choices import Choices, first_best, samples_to_choose, scores
from trainers.samples import Samples, StartSamples


@pytest.fixture()
def build(tmp_path, weights):
    def build(*settings):
        cfg = config(tmp_path, "LinearProbe", weights, 32, "OUTPUT_DIR", str(tmp_path / "run"), *settings)
        return build_trainer(cfg)

    return build


@pytest.mark.parametrize("kept", [True, False], ids=["bank", "memory"])
def test_views_are_those_of_the_epochs_of_training(kept, build, tmp_path):
    trainer = build("DATALOADER.FEATURE_CACHE", kept, "DATALOADER.FEATURE_CACHE_DIR", str(tmp_path / "cache"))
    views = trainer.samples.views(3)
    assert len(views) == 3
    loader = trainer.dm.train_loader_x
    for epoch, found in enumerate(views):
        loader.epoch.set(epoch)
        seen = 0
        for batch in loader:
            features = trainer.frozen_features(batch["img"])
            for feature, index, task, label in zip(
                features, batch["index"], batch["task"], batch["label"], strict=True
            ):
                items = loader.dataset.data_source
                position = sum(items[i].task == task for i in range(index))
                torch.testing.assert_close(found[task].features[position], feature, rtol=1e-5, atol=1e-5)
                assert found[task].labels[position] == label
                seen += 1
        assert seen > 0
    assert not torch.equal(views[0][0].features, views[1][0].features)
    with pytest.raises(IndexError):
        views[3]


def test_views_recur(build, tmp_path):
    trainer = build("DATALOADER.VIEWS", 2, "DATALOADER.FEATURE_CACHE_DIR", str(tmp_path / "cache"))
    first, second, third = (view[0].features for view in trainer.samples.views(3))
    assert torch.equal(first, third) and not torch.equal(first, second)
    batches = trainer.dm.train_loader_x
    images = {}
    for epoch in range(3):
        batches.epoch.set(epoch)
        images[epoch] = {int(i): img for batch in batches for i, img in zip(batch["index"], batch["img"], strict=True)}
    common = images[0].keys() & images[1].keys() & images[2].keys()
    assert common and all(torch.equal(images[0][i], images[2][i]) for i in common)
    assert not all(torch.equal(images[0][i], images[1][i]) for i in common)


@pytest.mark.parametrize("make", [tiny_vit, tiny_rn], ids=["ViT", "ResNet"])
def test_features_are_the_projection_of_the_unprojected_ones(make):
    clip = make().eval()
    tower = ImageTower(clip)
    images = torch.randn(3, 3, tower.size, tower.size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found, before = tower(images), tower(images, Additions(unprojected=True))
    weight, bias = tower.projection()
    torch.testing.assert_close(before @ weight + (0 if bias is None else bias), found, rtol=1e-5, atol=1e-5)
    with pytest.raises(UserError, match="one of the two outputs"):
        tower(images, Additions(unprojected=True, local=True))


def test_choices_keep_what_chose_them():
    space = TaskSpace((Task("a", "a", ("x", "y")), Task("b", "b", ("z", "w"))))
    choices = Choices(space, alpha=1.5)
    assert choices.record() == {}
    choices.choose(1, "val", alpha=2.0)
    assert choices.record() == {"b": {"alpha": 2.0, "chosen_on": "val"}}
    other = Choices(TaskSpace((space.tasks[1], Task("c", "c", ("z",)))), alpha=1.5)
    other.load_state_dict(choices.state_dict())
    assert other.record() == choices.record() and other.alpha.tolist() == [2.0, 1.5]


def test_scores_follow_the_metric_of_the_task():
    predicted, labels = torch.tensor([[0, 0, 0, 1], [0, 0, 1, 1], [1, 0, 0, 0]]), torch.tensor([0, 0, 0, 1])
    for metric in ("overall_acc", "mean_acc", "macro_f1"):
        want = [METRICS.get(metric)(row.numpy(), labels.numpy()) for row in predicted]
        assert scores(predicted, labels, Task("a", "a", ("x", "y"), metric=metric)).tolist() == pytest.approx(want)
    assert first_best([1.0, 3.0, 3.0]) == 1


def test_scores_of_the_same_value_are_the_same_number():
    """Class-wise shares such as 1/6 and 1/49 do not add up to the same number in every order."""
    labels = torch.arange(3).repeat_interleave(torch.tensor([6, 49, 7]))
    wrong = [[0, 6, 55], [5, 54, 61], [3, 30, 58], [2, 20, 60]]
    predicted = labels.repeat(len(wrong), 1)
    for row, places in zip(predicted, wrong, strict=True):
        row[places] = (row[places] + 1) % 3
    found = scores(predicted, labels, Task("a", "a", ("x", "y", "z"), metric="mean_acc"))
    assert len(set(found.tolist())) == 1


def test_a_task_without_validation_images_is_named():
    space = TaskSpace((Task("a", "pets", ("x", "y")),))
    empty = StartSamples(lambda split: [Samples(torch.zeros(0, 4), torch.zeros(0).long())])
    with pytest.raises(UserError, match=r"Task \S+ \(pets\) has no validation images.*TRAINER.X.ALPHA"):
        samples_to_choose(empty, "val", space, "TRAINER.X.ALPHA 1")
