"""Metrics of rankings, against naive versions: average precision of tags, ROC AUC of two classes."""

import numpy as np
import pytest
import torch

from dassl.data.tasks import Task, TaskSpace
from dassl.evaluation import Classification, ClassificationMT
from dassl.metrics import METRICS
from dassl.utils import UserError
from tests.dassl import toy

SPACE = TaskSpace(
    (
        Task("things", "things", ("cat", "dog", "owl", "none"), metric="mAP"),
        Task("moods", "moods", ("glad", "sad"), metric="roc_auc"),
        Task("sizes", "sizes", ("big", "small", "tiny")),
    )
)


def curve(scores, own):
    """(precision, recall) at every threshold, the images above it in a loop."""
    points = []
    for least in sorted(set(scores), reverse=True):
        found = [tag for score, tag in zip(scores, own, strict=True) if score >= least]
        points.append((sum(found) / len(found), sum(found) / sum(own)))
    return points


def average_precision(scores, own):
    total, before = 0.0, 0.0
    for precision, recall in curve(scores, own):
        total, before = total + (recall - before) * precision, recall
    return total


def eleven_points(scores, own):
    points = [*curve(scores, own), (1.0, 0.0)]
    return np.mean([max(p for p, r in points if r >= least) for least in np.linspace(0, 1, 11)])


@pytest.mark.parametrize("seed", range(3))
def test_mean_average_precision_equals_a_naive_one(seed):
    rng = np.random.default_rng(seed)
    tags, logits = rng.random((30, 4)) < 0.3, rng.integers(0, 20, (30, 4)) / 4  # equal logits among them
    tags[:, 3] = False  # a class without images
    for name, function in (("mAP", average_precision), ("mAP_11_points", eleven_points)):
        expected = np.mean([function(logits[:, c].tolist(), tags[:, c].tolist()) for c in range(3)])
        found = METRICS.get(name)(torch.tensor(logits), torch.tensor(tags))
        assert found == pytest.approx(100 * expected)


def rows(evaluator):
    report, confusions = evaluator.measure()
    return report["tasks"], report["mean"], confusions


def test_each_task_has_its_own_metric(tmp_path, capsys):
    cfg = toy.config(tmp_path, tmp_path, TEST__PER_CLASS_RESULT=True, TEST__COMPUTE_CMAT=True)
    evaluator, rng = ClassificationMT(cfg, space=SPACE), torch.Generator().manual_seed(1)
    logits = torch.randn(8, 9, generator=rng)
    pairs = [[(0, i % 3), (0, i % 2), (1, i // 4)] for i in range(7)] + [[(2, 1)]]
    coded = torch.stack([SPACE.encode(own) for own in pairs])
    evaluator.process(logits[:5], coded[:5])
    evaluator.process(logits[5:], coded[5:])
    tasks, mean, confusions = rows(evaluator)
    things, moods, sizes = tasks
    tags = coded[:7, :4].eq(1).numpy()
    expected = [average_precision(logits[:7, c].tolist(), tags[:, c].tolist()) for c in range(3)]
    assert things["value"] == things["mAP"] == pytest.approx(100 * np.mean(expected))
    assert (things["images"], things["classes_without_images"]) == (7, ["none"])
    assert [things[name] for name in ("overall_acc", "macro_f1", "ece", "roc_auc")] == [None] * 4
    sad = logits[:7, 4:6].softmax(1)[:, 1]
    better = [(a > b).item() for a in sad[4:] for b in sad[:4]]  # pairs of a sad and a glad image
    assert moods["value"] == moods["roc_auc"] == pytest.approx(100 * np.mean(better))
    assert moods["overall_acc"] is not None and moods["mAP"] is None
    assert sizes["value"] == sizes["overall_acc"] and sizes["roc_auc"] is None
    assert mean["value"] == pytest.approx(np.mean([task["value"] for task in tasks])) and mean["mAP"] == things["mAP"]
    assert confusions[0] is None and confusions[1].sum() == 7
    assert [task["key"] for task in evaluator.predictions()] == ["moods", "sizes"]
    evaluator.evaluate()
    text = capsys.readouterr().out
    assert "* mAP: " in text and "classes without images of task 0 (things), left out of mAP: none" in text
    assert set(torch.load(tmp_path / "cmat.pt")) == {"moods", "sizes"}
    evaluator.reset(keep_logits=True)
    evaluator.process(logits, coded)
    evaluator.fit_temperatures()
    assert evaluator.temperatures[0] is None
    evaluator.reset()
    evaluator.process(logits, coded)
    assert rows(evaluator)[0][0]["ece_scaled"] is None


def test_tagging_tasks_alone_print_their_own_metric_only(tmp_path, capsys):
    evaluator = ClassificationMT(toy.config(tmp_path, tmp_path), space=SPACE.subset([0]))
    evaluator.process(torch.eye(4), torch.stack([evaluator.space.encode([(0, label)]) for label in range(4)]))
    evaluator.evaluate()
    text = capsys.readouterr().out
    assert "* overall_metric: 100.00%\n* mAP: 100.00%\n" in text and "no value" not in text


def test_no_image_or_one_class_gives_no_value(tmp_path):
    evaluator = ClassificationMT(toy.config(tmp_path, tmp_path), space=SPACE)
    evaluator.process(torch.zeros(2, 9), torch.stack([SPACE.encode([(1, 0)])] * 2))
    tasks, mean, _ = rows(evaluator)
    assert [task["value"] for task in tasks] == [None] * 3 and mean["value"] is None
    assert tasks[0]["classes_without_images"] == ["cat", "dog", "owl", "none"]


def test_other_tasks_report_none_of_these_metrics(tmp_path):
    evaluator = ClassificationMT(toy.config(tmp_path, tmp_path), space=SPACE.subset([2]))
    evaluator.process(torch.zeros(1, 3), torch.tensor([0]), torch.tensor([0]))
    tasks, mean, _ = rows(evaluator)
    assert not {"mAP", "mAP_11_points", "roc_auc"} & {*tasks[0], *mean}


def test_tags_are_coded_and_read_back_as_one_row_per_task():
    coded = torch.stack([SPACE.encode([(0, 1), (0, 3), (2, 0)]), SPACE.encode([(0, 0)])])
    assert coded[0].tolist() == [0, 1, 0, 1, -1, -1, 1, 0, 0]
    image, task, label = SPACE.decode(coded)
    assert (image.tolist(), task.tolist(), label.tolist()) == ([0, 0, 1], [0, 2, 0], [1, 0, 0])
    found = SPACE.tags(coded, image, task).nonzero().tolist()
    assert found == [[0, 1], [0, 3], [1, 6], [2, 0]]
    assert SPACE.tagging.tolist() == [True, False, False] and SPACE.subset([1]).tagging is None


def test_wrong_use_is_refused(tmp_path):
    cfg = toy.config(tmp_path, tmp_path)
    with pytest.raises(UserError, match=r"expects one class per image, but things is a tagging task \(METRIC mAP\)"):
        Classification(cfg, space=SPACE.subset([0]))
    with pytest.raises(UserError, match="needs labels"):
        ClassificationMT(cfg, space=SPACE).process(torch.zeros(1, 9), torch.tensor([0]), torch.tensor([0]))
    with pytest.raises(ValueError, match="'a': metric roc_auc is for two classes, found 3"):
        Task("a", "a", ("x", "y", "z"), metric="roc_auc")
