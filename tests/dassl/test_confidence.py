"""Metrics of probabilities, their batches and temperatures, against plain versions and scikit-learn."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from sklearn.metrics import brier_score_loss, log_loss, top_k_accuracy_score

from dassl.config import get_cfg_default
from dassl.data.tasks import Task, TaskSpace
from dassl.evaluation import ClassificationMT
from dassl.evaluation.outputs import EXTRA
from dassl.evaluation.temperature import best_temperature
from dassl.metrics import METRICS, Batch
from dassl.metrics.batch import TOP
from dassl.metrics.confidence import image_scores
from dassl.runs.results import CONFIDENCE_METRICS


def drawn(seed, n=400, classes=7, step=0.0):
    """Logits (n, C), rounded to multiples of `step` so that many are equal, and labels that they predict by half."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(n, classes, generator=generator)
    logits = (logits / step).round() * step if step else logits
    other = torch.randint(0, classes, (n,), generator=generator)
    return logits, torch.where(torch.rand(n, generator=generator) < 0.5, logits.argmax(1), other)


def measured(name, logits, labels, size=64):
    """A metric of this project over batches."""
    parts = zip(logits.split(size), labels.split(size), strict=True)
    scores = torch.cat([image_scores(Batch(*part)) for part in parts])
    return METRICS.get(name)(scores, labels)


def plain_ece(probabilities, labels, bins=15):
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    total = 0.0
    for k in range(bins):
        inside = (confidence > np.float32(k / bins)) & (confidence <= np.float32((k + 1) / bins))
        if inside.any():
            total += inside.sum() * abs(right[inside].mean() - confidence[inside].mean())
    return 100 * total / len(labels)


@pytest.mark.parametrize("classes", [2, 5, 6, 40])
@pytest.mark.parametrize("seed", range(3))
def test_metrics_equal_plain_versions_and_scikit_learn(seed, classes):
    logits, labels = drawn(seed, classes=classes)
    probabilities = logits.double().softmax(1).numpy()
    assert measured("ece", logits, labels) == pytest.approx(plain_ece(probabilities, labels.numpy()), abs=1e-4)
    expected = log_loss(labels.numpy(), probabilities, labels=range(classes))
    assert measured("nll", logits, labels) == pytest.approx(expected, rel=1e-5)
    top = measured("top5_acc", logits, labels)
    if classes > TOP:
        expected = top_k_accuracy_score(labels.numpy(), logits.numpy(), k=TOP, labels=range(classes))
        assert top == pytest.approx(100 * expected)
    else:
        assert top == 100


def test_confidences_at_the_edges_of_bins():
    """One class is certain; two equal logits have a confidence of exactly a half, inside a bin."""
    assert measured("ece", torch.zeros(3, 1), torch.zeros(3).long()) == 0
    assert measured("ece", torch.zeros(4, 2), torch.tensor([0, 1, 0, 1])) == 0
    assert measured("ece", torch.zeros(4, 2), torch.tensor([1, 1, 1, 1])) == pytest.approx(50)
    fifth = torch.zeros(5, 5)  # 0.2 = 3/15 belongs to the bin below
    assert measured("ece", fifth, torch.arange(5)) == pytest.approx(
        plain_ece(fifth.softmax(1).numpy(), np.arange(5)), abs=1e-4
    )


@pytest.mark.parametrize("classes", [1, 3, 5, 6, 30])
def test_the_most_probable_classes_are_in_the_order_of_a_stable_sort(classes):
    logits, labels = drawn(0, classes=classes, step=2.0)
    found, probabilities = Batch(logits, labels).top
    order = np.argsort(-logits.numpy(), axis=1, kind="stable")[:, :TOP]
    count = min(TOP, classes)
    assert torch.equal(found[:, :count], torch.from_numpy(order)) and (found[:, count:] == -1).all()
    assert torch.equal(found[:, 0], logits.argmax(1))
    own = np.take_along_axis(logits.double().softmax(1).numpy(), order, 1)
    np.testing.assert_allclose(probabilities[:, :count], own, rtol=1e-5)
    rank = [list(row).index(label) if label in row else TOP for row, label in zip(order, labels.tolist(), strict=True)]
    assert image_scores(Batch(logits, labels))[:, 2].tolist() == rank


def test_infinite_logits():
    """A class that is excluded has no part; a label that is excluded has an infinite loss, which is no number."""
    logits = torch.tensor([[1.0, float("-inf"), 0.0], [2.0, float("-inf"), 0.0]])
    assert measured("nll", logits, torch.tensor([0, 2])) == pytest.approx(
        torch.nn.functional.cross_entropy(logits[:, [0, 2]], torch.tensor([0, 1])).item()
    )
    assert measured("nll", logits, torch.tensor([0, 1])) is None
    assert measured("ece", logits, torch.tensor([0, 1])) > 0


@pytest.mark.parametrize("seed", range(4))
def test_the_temperature_minimises_the_loss(seed):
    logits, labels = drawn(seed, n=80)
    found = best_temperature(logits, labels)

    def loss(log_temperature):
        return torch.nn.functional.cross_entropy(logits.double() / np.exp(log_temperature), labels).item()

    expected = np.exp(minimize_scalar(loss, bounds=(-4, 4), method="bounded", options={"xatol": 1e-9}).x)
    assert found == pytest.approx(expected, rel=1e-4) and found > 1
    assert best_temperature(logits * 10, labels) == pytest.approx(10 * found, rel=1e-4)


def test_images_that_determine_no_temperature():
    logits, _ = drawn(0)
    assert best_temperature(logits[:0], torch.zeros(0).long()) is None
    assert best_temperature(logits, logits.argmax(1)) is None  # the smaller, the better
    assert best_temperature(logits, logits.argmin(1)) is None  # the larger, the better
    assert best_temperature(torch.zeros(4, 1), torch.zeros(4).long()) is None
    assert best_temperature(logits.clone().fill_(float("-inf")), logits.argmax(1)) is None


def test_a_metric_that_reduces_batches_keeps_no_logits(tmp_path):
    known = dict(METRICS._objects)
    calls = []

    def squared_error(batch):
        calls.append(len(batch.labels))
        return (batch.log_probabilities.exp() - torch.eye(batch.logits.shape[1])[batch.labels]).pow(2).sum(1)

    try:

        @METRICS.register(needs=squared_error, larger_is_better=False, unit="")
        def brier(errors, labels):
            return errors.double().mean()

        @METRICS.register(needs=squared_error, larger_is_better=False, unit="")
        def worst(errors, labels):
            return errors.max()

        cfg = get_cfg_default()
        space = TaskSpace.single([str(number) for number in range(7)])
        evaluator = ClassificationMT(cfg, space=space)
        logits, labels = drawn(0)
        for part in torch.arange(400).split(150):
            evaluator.process(logits[part], labels[part], torch.zeros(len(part)).long())
        row = evaluator.measure()[0]["tasks"][0]
        expected = brier_score_loss(labels.numpy(), logits.double().softmax(1).numpy(), labels=range(7))
        assert row["brier"] == pytest.approx(expected, rel=1e-5) and row["worst"] <= 2
        assert calls == [150, 150, 100]  # once for both metrics
        assert not METRICS.need_logits() and "logits" not in evaluator._outputs[0]._kept
        kept = sum(value.nbytes for values in evaluator._outputs[0]._kept.values() for value in values)
        assert kept <= 120 * 400
    finally:
        METRICS._objects.clear()
        METRICS._objects.update(known)


def test_images_with_labels_of_several_tasks_are_several_predictions():
    space = TaskSpace((Task("a", "a", ("x", "y")), Task("b", "b", ("u", "v", "w"))))
    evaluator = ClassificationMT(get_cfg_default(), space=space)
    coded = torch.stack([space.encode(pairs) for pairs in ([(0, 1), (1, 2)], [(1, 0)], [(0, 0)], [(0, 0), (1, 1)])])
    logits = torch.arange(20.0).view(4, 5)
    for part in (slice(0, 1), slice(1, 4)):
        evaluator.process(logits[part], coded[part])
    a, b = evaluator.predictions()
    assert a["positions"].tolist() == [0, 2, 3] and b["positions"].tolist() == [0, 1, 3]
    assert a["labels"].tolist() == [1, 0, 0] and b["labels"].tolist() == [2, 0, 1]
    assert a["classes"].tolist() == [[1, 0, -1, -1, -1]] * 3 and b["classes"].tolist() == [[2, 1, 0, -1, -1]] * 3


def test_readers_of_results_know_the_metrics_of_probabilities():
    assert (*METRICS.names(headline=False), *EXTRA) == CONFIDENCE_METRICS
