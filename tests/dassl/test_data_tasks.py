"""Tasks and TaskSpace."""

import pickle

import pytest
import torch

from dassl.data.tasks import Task, TaskSpace


@pytest.fixture
def space():
    tasks = [
        Task("faces", "facial expressions", ["grin", "frown", "wink"], metric="mean_acc"),
        Task("OxfordPets", "pets", ("cat",), templates=("a photo of a {}, a type of pet.",), id=1),
        Task("hands", "hand gestures", ("fist", "palm"), description="what a hand does", id=2),
    ]
    return TaskSpace(tasks)


def test_sizes_and_columns(space):
    assert (space.num_tasks, space.num_classes) == (3, 6)
    assert space.sizes == [3, 1, 2]
    assert space.offsets == [0, 3, 4, 6]
    assert space.classnames == ("grin", "frown", "wink", "cat", "fist", "palm")
    assert space.task_of_column.tolist() == [0, 0, 0, 1, 2, 2]
    assert space.columns(2) == slice(4, 6)
    task, label = torch.tensor([2, 0, 1]), torch.tensor([1, 2, 0])
    assert space.column(task, label).tolist() == [5, 2, 3]
    assert space.column(task, label).dtype == torch.int64
    expected = [[0, 0, 0, 0, 1, 1], [1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 0, 0]]
    assert space.mask(task).dtype == torch.bool
    assert space.mask(task).int().tolist() == expected


def test_a_task_that_is_not_there_has_no_columns(space):
    for t in (-1, 3):
        with pytest.raises(IndexError, match="not in 0..2"):
            space.columns(t)


def test_subset_keeps_ids_and_order(space):
    part = space.subset([2, 0])
    assert [task.key for task in part.tasks] == ["hands", "faces"]
    assert [task.id for task in part.tasks] == [2, 0]
    assert part.offsets == [0, 2, 5]
    for wrong in ([3], [-1], [0, 0], []):
        with pytest.raises(ValueError):
            space.subset(wrong)


def test_single_and_pickling(space):
    one = TaskSpace.single(["a", "b"], key="Own", metric="mean_acc")
    assert (one.tasks[0].name, one.tasks[0].metric, one.num_tasks) == ("Own", "mean_acc", 1)
    assert space.lab2cname and space.task_of_column is not None  # cached before pickling
    again = pickle.loads(pickle.dumps(space))
    assert again == space
    assert again.lab2cname == space.lab2cname


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"classnames": ()}, "no class"),
        ({"classnames": "cat"}, "list of strings"),
        ({"classnames": ("cat", 7)}, "must be strings"),
        ({"metric": "top5"}, "top5"),
        ({"templates": ("a photo.",)}, "class name"),
        ({"templates": ()}, "found none"),
    ],
)
def test_a_task_that_makes_no_sense_says_why(fields, text):
    with pytest.raises(ValueError, match=text):
        Task(**{"key": "k", "name": "n", "classnames": ("a",), **fields})
    with pytest.raises(ValueError, match="at least one task"):
        TaskSpace(())
