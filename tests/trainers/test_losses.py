import math

import pytest
import torch
import torch.nn.functional as F

from dassl.data.tasks import Task, TaskSpace
from trainers.losses import cosine_logits, multitask_cross_entropy, present_columns, sampled_columns

SPACE = TaskSpace(
    (
        Task(key="a", name="a", classnames=tuple("abcde")),
        Task(key="b", name="b", classnames=("only",)),
        Task(key="c", name="c", classnames=tuple("xyz")),
    )
)


def test_loss_equals_the_sum_of_separate_cross_entropies():
    torch.manual_seed(0)
    logits = torch.randn(7, SPACE.num_classes, requires_grad=True)
    task, label = torch.tensor([0, 2, 0, 1, 2, 0, 2]), torch.tensor([4, 0, 1, 0, 2, 4, 1])
    loss = multitask_cross_entropy(logits, SPACE.task_of_column, task, SPACE.column(task, label))
    naive = 0.0
    for t in range(3):
        mine = task == t
        naive = naive + F.cross_entropy(logits[mine][:, SPACE.columns(t)], label[mine], reduction="sum")
    naive = naive / 7
    assert loss.item() == pytest.approx(naive.item(), rel=1e-6)
    ours, theirs = torch.autograd.grad(loss, logits)[0], torch.autograd.grad(naive, logits)[0]
    assert torch.allclose(ours, theirs, atol=1e-7)
    assert (ours[~SPACE.mask(task)] == 0).all()


def test_present_columns():
    assert present_columns(SPACE, torch.tensor([2, 2, 1])).tolist() == [5, 6, 7, 8]


def test_class_sampling_keeps_what_occurs_and_a_share_of_the_others():
    torch.manual_seed(0)
    task, label = torch.tensor([0, 0, 2]), torch.tensor([3, 3, 1])
    seen = set()
    for _ in range(50):
        columns = sampled_columns(SPACE, task, label, 0.4).tolist()
        assert columns == sorted(set(columns))
        assert {3, 7} <= set(columns) and 5 not in columns
        assert sum(c < 5 for c in columns) == 1 + math.ceil(0.4 * 4)
        assert sum(c > 5 for c in columns) == 1 + math.ceil(0.4 * 2)
        seen |= set(columns)
    assert seen == {0, 1, 2, 3, 4, 6, 7, 8}
    assert sampled_columns(SPACE, task, label, 1.0).tolist() == present_columns(SPACE, task).tolist()


def test_cosine_logits():
    image, text = torch.randn(2, 6).half(), torch.randn(3, 6) * 40
    logits = cosine_logits(image, text, torch.tensor(50.0))
    assert logits.dtype == torch.float32
    for b in range(2):
        for n in range(3):
            expected = 50 * F.cosine_similarity(image[b].float(), text[n], dim=0)
            assert logits[b, n].item() == pytest.approx(expected.item(), rel=1e-4)


def smoothed(logits, task, label, columns, smoothing):
    """Cross-entropy with smoothed targets over the columns of each image's task, averaged over images in a loop."""
    total = 0.0
    for row, t, y in zip(logits.double(), task.tolist(), label.tolist(), strict=True):
        own = [i for i, c in enumerate(columns.tolist()) if SPACE.task_of_column[c] == t]
        p = row[own].exp() / row[own].exp().sum()
        for i, place in enumerate(own):
            right = columns[place] == SPACE.columns(t).start + y
            total = total - ((1 - smoothing) * float(right) + smoothing / len(own)) * p[i].log()
    return total / len(logits)


@pytest.mark.parametrize("columns", [list(range(9)), [1, 3, 4, 5, 6, 7]], ids=["all", "sampled"])
def test_label_smoothing_is_over_the_classes_of_the_own_task_that_are_there(columns):
    torch.manual_seed(0)
    columns = torch.tensor(columns)
    task, label = torch.tensor([0, 2, 0, 1, 2]), torch.tensor([4, 0, 1, 0, 1])
    logits = torch.randn(5, len(columns), requires_grad=True)
    target = torch.searchsorted(columns, SPACE.column(task, label))
    for smoothing in (0.0, 0.1, 1.0):
        found = multitask_cross_entropy(logits, SPACE.task_of_column[columns], task, target, smoothing)
        naive = smoothed(logits, task, label, columns, smoothing)
        assert found.item() == pytest.approx(naive.item(), rel=1e-5)
        ours, theirs = torch.autograd.grad(found, logits)[0], torch.autograd.grad(naive, logits)[0]
        assert torch.allclose(ours, theirs, atol=1e-6) and torch.isfinite(ours).all()
