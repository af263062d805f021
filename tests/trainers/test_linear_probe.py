"""Compare the linear probe with scikit-learn and a plain version of the published search."""

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from dassl.config import ConfigError
from dassl.data.datasets import DATASET_REGISTRY, DatasetBaseMT, DatumMT
from dassl.data.tasks import Task, TaskSpace
from dassl.engine import build_trainer
from dassl.utils import UserError
from tests.suite import config
from tests.trainers.test_protonet import feature
from trainers.samples import Samples

ITERATIONS = 60  # maximum for L-BFGS; the published 1,000 are slow for a large C
METRICS = {"overall_acc": accuracy_score, "mean_acc": balanced_accuracy_score}


pytestmark = pytest.mark.filterwarnings("ignore:lbfgs failed to converge")


@pytest.fixture()
def build(tmp_path, weights):
    def build(*settings):
        limit = ("TRAINER.LINEARPROBE.MAX_ITER", ITERATIONS)
        return build_trainer(config(tmp_path, "LinearProbe", weights, 32, *limit, *settings))

    return build


def published(x, y, val_x, val_y, metric, steps=8):
    """The search as its authors describe it, fitting every model again: (log10 C, the last better model)."""

    def score(exponent):
        model = LogisticRegression(C=10.0**exponent, max_iter=ITERATIONS).fit(x, y)
        return METRICS[metric](val_y, model.predict(val_x)), model

    grid = [6, 4, 2, 0, -2, -4, -6]
    peak = grid[int(np.argmax([score(exponent)[0] for exponent in grid]))]
    left, right = peak - 1, peak + 1
    for _ in range(steps):
        (score_left, model_left), (score_right, model_right) = score(left), score(right)
        if score_left < score_right:
            chosen, model, left = right, model_right, (left + right) / 2
        else:
            chosen, model, right = left, model_left, (left + right) / 2
    return chosen, model


def test_logits_are_those_of_the_published_search(build, tmp_path):
    trainer = build("DATASET.SUBSAMPLE_CLASSES", "base", "DATALOADER.FEATURE_CACHE", False)
    trainer.train()
    dataset = trainer.dm.dataset
    c = json.loads((tmp_path / "run/results.json").read_text())["C"]
    assert c["one"] is None and list(c) == ["shades", "one", "marks"]
    for t, key in ((0, "shades"), (2, "marks")):  # 3 classes, and the 2 that scikit-learn has one row for

        def part(split, t=t):
            items = [item for item in getattr(dataset, split) if item.task == t]
            x = torch.stack([feature(trainer, item.impath) for item in items]).numpy()
            return x, np.array([item.label for item in items])

        (x, y), (val_x, val_y), (test_x, _) = map(part, ("train_x", "val", "test"))
        exponent, model = published(x, y, val_x, val_y, trainer.space.tasks[t].metric)
        assert c[key] == pytest.approx(10**exponent)
        with torch.no_grad():
            found = trainer.model_inference(None, features=torch.from_numpy(test_x).float())[
                :, trainer.space.columns(t)
            ]
        expected = torch.from_numpy(model.predict_proba(test_x)).float()
        assert torch.allclose(found.softmax(-1), expected, atol=2e-3)
        assert (found.argmax(-1).numpy() == model.predict(test_x)).all()


def test_the_declared_metric_chooses_c(build):
    """Few images of many overlapping classes; most validation images belong to one class."""
    trainer = build("DATASET.SUBSAMPLE_TASKS", "task2")
    rng = np.random.default_rng(3)
    centres = rng.normal(size=(4, 48))
    y, val_y = np.repeat(np.arange(4), [12, 3, 3, 3]), np.repeat(np.arange(4), [40, 6, 6, 6])
    x, val_x = (centres[k] + 4 * rng.normal(size=(len(k), 48)) for k in (y, val_y))
    x, val_x = x.astype(np.float32), val_x.astype(np.float32)

    def samples(features, labels):
        return Samples(torch.from_numpy(features), torch.from_numpy(labels))

    chosen = []
    for metric in METRICS:
        task = Task("marks", "marks", ("a", "b", "c", "d"), metric=metric)
        with torch.no_grad():
            trainer.model.fit(0, task, samples(x, y), samples(val_x, val_y))
        expected, _ = published(x.astype(float), y, val_x.astype(float), val_y, metric)
        assert math.log10(trainer.model.c[0]) == pytest.approx(expected, abs=1e-4)
        chosen.append(expected)
    assert chosen[0] != chosen[1]


@DATASET_REGISTRY.register()
class Unbalanced(DatasetBaseMT):
    """Two tasks with the same images and different metrics. Most test images are red; images labelled blue are red."""

    def __init__(self, cfg):
        rng = np.random.default_rng(0)
        splits = {"train": [], "val": [], "test": []}
        for split, counts in (("train", (4, 4)), ("val", (2, 2)), ("test", (18, 4))):
            for label, count in enumerate(counts):
                for k in range(count):
                    colour = (200, 30, 30) if label == 0 or split == "test" else (30, 30, 200)
                    path = f"{cfg.OUTPUT_DIR}-{split}{label}{k}.png"
                    noise = rng.integers(-20, 20, (32, 32, 3))
                    Image.fromarray(np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)).save(path)
                    splits[split] += [DatumMT(path, label, task) for task in (0, 1)]
        tasks = [Task(metric, metric, ("red", "blue"), metric=metric, id=i) for i, metric in enumerate(METRICS)]
        super().__init__(TaskSpace(tuple(tasks)), splits["train"], splits["val"], splits["test"])


def test_each_task_gets_its_own_metric(build, tmp_path):
    trainer = build("DATASET.NAME", "Unbalanced")
    trainer.train()
    overall, mean = json.loads((tmp_path / "run/results.json").read_text())["tasks"]
    items = [item for item in trainer.dm.dataset.test if item.task == 0]
    features = torch.stack([feature(trainer, item.impath) for item in items]).float()
    with torch.no_grad():
        predicted = trainer.model_inference(None, features=features)[:, :2].argmax(-1).tolist()
    labels = [item.label for item in items]
    for task in (overall, mean):
        assert task["overall_acc"] == pytest.approx(100 * accuracy_score(labels, predicted))
        assert task["mean_acc"] == pytest.approx(100 * balanced_accuracy_score(labels, predicted))
    assert overall["value"] == overall["overall_acc"] == pytest.approx(100 * 18 / 22)
    assert mean["value"] == mean["mean_acc"] == pytest.approx(50)


def test_a_given_c_needs_no_validation_images(build, tmp_path):
    trainer = build("TRAINER.LINEARPROBE.C", 0.5)
    trainer.val_loader = None
    trainer.train()
    assert json.loads((tmp_path / "run/results.json").read_text())["C"] == {"shades": 0.5, "one": None, "marks": 0.5}


def test_a_search_without_validation_images(build):
    trainer = build()
    trainer.val_loader = None
    with pytest.raises(UserError, match=r"task 0 \(shades of colours\) has none; set TRAINER.LINEARPROBE.C"):
        trainer.train()


def test_settings_that_cannot_be(build):
    with pytest.raises(ConfigError, match="LINEARPROBE.STEPS"):
        build("TRAINER.LINEARPROBE.STEPS", 0)
