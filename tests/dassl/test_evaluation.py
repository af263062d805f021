"""Metrics equal scikit-learn's; what evaluators return, report and print."""

import json
import math

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix as sklearn_confusion
from sklearn.metrics import f1_score, recall_score

from dassl.config import get_cfg_default
from dassl.data.tasks import Task, TaskSpace
from dassl.evaluation import EVALUATOR_REGISTRY, EvaluatorBase, build_evaluator
from dassl.evaluation.classification import _print_classes
from dassl.metrics import METRICS, compute_accuracy, compute_accuracy_map, confusion_matrix
from dassl.utils import UserError
from tests.dassl import toy

SPACE = TaskSpace(
    (
        Task(key="A", name="animals", classnames=("cat", "dog", "eel"), id=2),
        Task(key="B", name="berries", classnames=("fig", "sloe"), metric="mean_acc", id=5),
        Task(key="C", name="one class", classnames=("only",), id=7),
        Task(key="D", name="no image", classnames=("x", "y"), id=8),
    )
)


@pytest.fixture
def cfg(tmp_path):
    cfg = get_cfg_default()
    cfg.OUTPUT_DIR = str(tmp_path)
    cfg.DATASET.NAME = "Toy"
    return cfg


@pytest.mark.parametrize("seed", range(5))
def test_metrics_equal_scikit_learn(seed):
    rng = np.random.RandomState(seed)
    classes = rng.randint(2, 9)
    labels = rng.randint(0, classes, 40)
    labels[labels == 1] = 0  # class 1 has no image but may be predicted
    predictions = np.where(rng.rand(40) < 0.5, labels, rng.randint(0, classes, 40))
    present = np.unique(labels)
    expected = {
        "overall_acc": (labels == predictions).mean(),
        "mean_acc": recall_score(labels, predictions, average="macro", labels=present),
        "macro_f1": f1_score(labels, predictions, average="macro", labels=present),
    }
    for name, value in expected.items():
        assert METRICS.get(name)(predictions, labels) == pytest.approx(100 * value)
    counts = confusion_matrix(labels, predictions, classes)
    assert np.array_equal(counts, sklearn_confusion(labels, predictions, labels=range(classes)))


def test_confusion_matrix_refuses_labels_outside_the_classes():
    with pytest.raises(ValueError, match="labels from 0 to 3, expected 0 to 2"):
        confusion_matrix([0, 3], [0, 0], 3)
    with pytest.raises(ValueError, match="1 labels but 2 predictions"):
        confusion_matrix([0], [0, 0], 3)


def test_classification(cfg, capsys):
    cfg.TEST.PER_CLASS_RESULT = True
    evaluator = build_evaluator(cfg, lab2cname={0: "a", 1: "b", 2: "c"})
    evaluator.process(torch.eye(3)[[0, 1, 1]], torch.tensor([0, 0, 1]))
    evaluator.process(torch.eye(3)[[0]], torch.tensor([0]))
    results = evaluator.evaluate()
    names = ["accuracy", "error_rate", "macro_f1", "perclass_accuracy", "top5_acc", "ece", "nll"]
    assert list(results) == names
    assert results["accuracy"] == 75.0 and results["error_rate"] == 25.0
    assert results["perclass_accuracy"] == pytest.approx((200 / 3 + 100) / 2)
    row = evaluator.report["tasks"][0]
    assert row["classes"] == 3 and row["images"] == 4 and row["value"] == 75.0
    assert row["classes_without_images"] == ["c"]
    out = capsys.readouterr().out
    assert out.startswith("=> result\n* total: 4\n* correct: 3\n* accuracy: 75.00%\n* error: 25.00%\n* macro_f1: ")
    assert "* class: 1 (b)\ttotal: 1\tcorrect: 1\tacc: 100.0%" in out
    evaluator.reset()
    assert math.isnan(evaluator.evaluate()["accuracy"])


def evaluated(cfg, sizes=(30, 20, 4)):
    cfg.TEST.EVALUATOR = "ClassificationMT"
    evaluator = build_evaluator(cfg, lab2cname=SPACE.lab2cname, space=SPACE)
    torch.manual_seed(0)
    task = torch.cat([torch.full((n,), t) for t, n in enumerate(sizes)])
    label = torch.cat([torch.randint(0, min(c, 2), (n,)) for c, n in zip(SPACE.sizes, sizes, strict=False)])
    logits = torch.randn(len(task), SPACE.num_classes)
    order = torch.randperm(len(task))
    for part in order.split(7):
        evaluator.process(logits[part], label[part], task[part])
    return evaluator, logits, label, task


def test_multi_task_classification(cfg, capsys):
    evaluator, logits, label, task = evaluated(cfg)
    results = evaluator.evaluate()
    out = capsys.readouterr().out
    rows = evaluator.report["tasks"]
    for t in range(3):
        mine = task == t
        prediction = logits[mine][:, SPACE.columns(t)].argmax(1)
        assert rows[t]["overall_acc"] == pytest.approx(100 * (prediction == label[mine]).float().mean().item())
    assert rows[0]["value"] == rows[0]["overall_acc"] and rows[1]["value"] == rows[1]["mean_acc"]
    assert rows[2]["value"] == 100.0 and rows[2]["images"] == 4  # a task with one class
    assert rows[0]["classes_without_images"] == ["eel"]
    assert rows[3]["value"] is None and rows[3]["classes_without_images"] == ["x", "y"]
    value = sum(row["value"] for row in rows[:3]) / 3  # without the task that has no images
    assert results["overall_metric"] == evaluator.report["mean"]["value"] == pytest.approx(value)
    assert next(iter(results)) == "overall_metric" and results["task5/mean_acc"] == rows[1]["mean_acc"]
    assert f"=> result\n* total: 54\n* overall_metric: {value:.2f}%\n* overall_acc: " in out
    assert f"=> per-task result\n* task: 2 (animals)\ttotal: 30\tmetric: {rows[0]['value']:.2f}%\n" in out
    assert f"\n* average: {value:.2f}%\n" in out and "* note: task 8 (no image) has no image" in out
    assert "classes without images of task 2 (animals), left out of mean_acc: eel" in out
    json.dumps(evaluator.report, allow_nan=False)


def test_logits_are_kept_only_if_a_metric_needs_them(cfg):
    evaluator, *_ = evaluated(cfg)
    assert not any("logits" in outputs._kept for outputs in evaluator._outputs)
    known = dict(METRICS._objects)
    try:

        @METRICS.register(needs="logits", unit="")
        def widest(logits, labels):
            return logits.shape[1]

        evaluator, *_ = evaluated(cfg)
        rows = evaluator.measure()[0]["tasks"]
    finally:
        METRICS._objects.clear()
        METRICS._objects.update(known)
    assert [row["widest"] for row in rows] == [3, 2, 1, None]  # only the columns of the own task


def test_nan_is_not_a_prediction(cfg):
    evaluator = EVALUATOR_REGISTRY.get("ClassificationMT")(cfg, space=SPACE)
    logits, label, task = torch.zeros(3, 8), torch.tensor([0, 1, 0]), torch.tensor([0, 1, 2])
    logits[0, 3:] = float("nan")  # columns of other tasks
    evaluator.process(logits, label, task)
    logits[1, 4] = float("nan")
    with pytest.raises(UserError, match=r"logits of 1 of 3 images are NaN, tasks 5 \(berries\)"):
        evaluator.process(logits, label, task)


def test_validation_is_never_printed_as_the_result(cfg, capsys):
    evaluator, *_ = evaluated(cfg)
    evaluator.validating = True
    evaluator.evaluate()
    out = capsys.readouterr().out
    assert "=> validation result\n" in out and "=> validation per-task result\n" in out
    assert "=> result" not in out and "=> per-task result" not in out


def test_confusion_matrices_are_saved(cfg, tmp_path):
    cfg.TEST.COMPUTE_CMAT = True
    evaluator, *_ = evaluated(cfg)
    evaluator.evaluate()
    saved = torch.load(tmp_path / "cmat.pt", weights_only=True)
    assert saved["animals"].shape == (3, 3) and saved["animals"].sum() == 30
    for task, expected in zip(SPACE.tasks, evaluator.measure()[1], strict=True):
        assert np.array_equal(saved[task.name], expected) and saved[task.name].shape == (len(task.classnames),) * 2


def test_the_most_frequent_confusions_are_named(capsys):
    _print_classes(["cat", "dog", "cow"], np.array([[5, 2, 1], [0, 4, 0], [3, 0, 0]]))
    out = capsys.readouterr().out
    assert "* class: 0 (cat)\ttotal: 8\tcorrect: 5\tacc: 62.5%" in out
    assert "* most frequent confusions: cow as cat (3 of 3), cat as dog (2 of 8), cat as cow (1 of 8)" in out
    _print_classes(["cat", "dog"], np.diag([1, 2]))
    assert "confusions" not in capsys.readouterr().out


def test_evaluators_say_what_they_need(cfg):
    with pytest.raises(ValueError, match="evaluates one task, Toy has 4; choose one with DATASET.SUBSAMPLE_TASKS"):
        build_evaluator(cfg, space=SPACE)
    cfg.TEST.EVALUATOR = "ClassificationMT"
    with pytest.raises(ValueError, match="needs the TaskSpace"):
        build_evaluator(cfg)
    with pytest.raises(ValueError, match="logits have 3 columns, the tasks have 8 classes"):
        build_evaluator(cfg, space=SPACE).process(torch.zeros(1, 3), torch.tensor([0]), torch.tensor([0]))


def test_evaluators_written_for_dassl_are_built_with_what_they_take(cfg):
    class Plain(EvaluatorBase):
        def __init__(self, cfg, lab2cname=None):
            super().__init__(cfg)
            self.names = lab2cname

    with toy.registered():
        EVALUATOR_REGISTRY.register(Plain)
        cfg.TEST.EVALUATOR = "Plain"
        assert build_evaluator(cfg, lab2cname={0: "a"}, space=SPACE).names == {0: "a"}


def test_batch_accuracy():
    output = torch.tensor([[3.0, 2.0, 1.0], [1.0, 3.0, 2.0], [1.0, 2.0, 3.0], [3.0, 2.0, 1.0]])
    target = torch.tensor([0, 2, 0, 2])
    top = compute_accuracy(output, target, topk=(1, 2, 5))
    assert [value.item() for value in top] == [25.0, 50.0, 100.0] and all(value.shape == (1,) for value in top)
    assert compute_accuracy((output, None), target)[0].item() == 25.0


def test_batch_accuracy_of_several_tasks():
    output = torch.zeros(4, SPACE.num_classes)
    output[:, 5] = 9.0  # the best column belongs to task 2 and counts only there
    output[0, 1] = output[1, 0] = output[2, 4] = 1.0
    label, task = torch.tensor([1, 2, 1, 0]), torch.tensor([0, 0, 1, 2])
    assert compute_accuracy_map(output, label, task, SPACE).item() == 75.0
    by_task = compute_accuracy_map(output, label, task, SPACE, task_wise=True)
    assert by_task[:3].tolist() == [50.0, 100.0, 100.0] and by_task[3].isnan()
