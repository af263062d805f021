import random
from collections import Counter

import pytest

from datasets.fewshot import base_new, few_shot, task_subset, val_shots
from datasets.source import Item

ITEMS = [Item(f"class{label}/{i}.jpg", label) for label in range(3) for i in range((20, 5, 1)[label])]
KEYS = ("pants", "hat", "socks")


def test_k_images_a_class_or_all_it_has():
    assert Counter(item.label for item in few_shot(ITEMS, 8, seed=1)) == {0: 8, 1: 5, 2: 1}


@pytest.mark.parametrize("shots", [0, -1])
def test_below_one_shot_everything_is_kept(shots):
    assert few_shot(ITEMS, shots, seed=1) == ITEMS


def test_samples_of_one_seed_are_nested():
    samples = [set(few_shot(ITEMS, k, seed=3)) for k in (1, 2, 4, 8, 16)]
    assert all(small < large for small, large in zip(samples, samples[1:], strict=False))


def test_samples_need_not_be_nested():
    inside = [set(few_shot(ITEMS, 4, s, nested=False)) <= set(few_shot(ITEMS, 8, s, nested=False)) for s in range(20)]
    assert not all(inside)


def test_the_order_of_the_list_does_not_matter_but_is_kept():
    mixed = random.Random(0).sample(ITEMS, len(ITEMS))
    sample = few_shot(mixed, 4, seed=2)
    assert set(sample) == set(few_shot(ITEMS, 4, seed=2))
    assert sample == [item for item in mixed if item in set(sample)]


def test_every_seed_draws_its_own_sample_zero_included():
    samples = {tuple(few_shot(ITEMS, 4, seed)) for seed in range(5)}
    assert len(samples) == 5


def test_drawing_is_fixed_for_good():
    """A golden value: published results would not repeat if the draw ever changed."""
    expected = ["class0/15.jpg", "class0/19.jpg", "class1/3.jpg", "class1/4.jpg", "class2/0.jpg"]
    assert [item.path for item in few_shot(ITEMS, 2, seed=1)] == expected


@pytest.mark.parametrize("shots, expected", [(-1, 0), (0, 0), (1, 1), (4, 4), (16, 4)])
def test_validation_takes_at_most_four(shots, expected):
    assert val_shots(shots) == expected


@pytest.mark.parametrize("count, base, new", [(4, [0, 1], [2, 3]), (5, [0, 1, 2], [3, 4]), (1, [0], [])])
def test_the_larger_half_is_base(count, base, new):
    assert base_new(count, "base") == base
    assert base_new(count, "new") == new
    assert base_new(count, "all") == base + new


def test_a_third_half_is_an_error():
    with pytest.raises(ValueError, match="SUBSAMPLE_CLASSES.*'old'.*all, base or new"):
        base_new(4, "old")


@pytest.mark.parametrize(
    "wanted, expected",
    [
        ("all", [0, 1, 2]),
        ("base", [0, 1]),
        ("new", [2]),
        ("task1", [1]),
        ("1", [1]),
        (1, [1]),
        ("socks", [2]),
        ([2, 0], [0, 2]),
        (("task2", "hat", 2), [1, 2]),
        ("task2, pants", [0, 2]),
    ],
)
def test_subsets_of_tasks(wanted, expected):
    assert task_subset(wanted, KEYS) == expected


@pytest.mark.parametrize("wanted", ["task3", "shoes", "", "task-1", [0, 7]])
def test_a_task_that_is_not_there(wanted):
    with pytest.raises(ValueError, match="SUBSAMPLE_TASKS.*this suite has no task.*task0 to task2.*pants, hat, socks"):
        task_subset(wanted, KEYS)


def test_no_task_left():
    with pytest.raises(ValueError, match="no task"):
        task_subset("new", KEYS[:1])
    with pytest.raises(ValueError, match="no task"):
        task_subset([], KEYS)
