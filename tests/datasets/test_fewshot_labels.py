"""Few-shot samples where an image has labels of several tasks, and long-tailed samples."""

import random
from collections import Counter, defaultdict

import pytest

from datasets.fewshot import few_shot, few_shot_labels, long_tail
from datasets.source import Item

SIZES = (3, 5, 2)  # classes of each task


def labels(count=120, missing=0.3, seed=0):
    """Labels of `count` images, drawn at random; larger labels are rarer."""
    rng = random.Random(seed)
    return [
        Item(f"{i}.jpg", min(rng.randrange(size), rng.randrange(size)), task)
        for i in range(count)
        for task, size in enumerate(SIZES)
        if rng.random() > missing
    ]


def count(items):
    return Counter((item.task, item.label) for item in items)


@pytest.mark.parametrize("seed", range(3))
def test_every_class_has_k_labels_or_all_and_samples_are_nested(seed):
    items, smaller = labels(seed=seed), set()
    for shots in (1, 2, 4, 8, 16, 1000):
        sample = few_shot_labels(items, shots, seed)
        assert count(sample) == {own: min(shots, n) for own, n in count(items).items()}
        assert sample == [item for item in items if item in set(sample)]
        assert smaller <= set(sample)
        smaller = set(sample)
    assert few_shot_labels(items, 0, seed) == items


def test_few_images_serve_many_classes():
    items = labels(missing=0)
    sample = few_shot_labels(items, 1, 1)
    assert len({item.path for item in sample}) == max(SIZES)  # at least one image per class of the largest task
    apart = {item.path for t in range(3) for item in few_shot([i for i in items if i.task == t], 4, 1)}
    assert len({item.path for item in few_shot_labels(items, 4, 1)}) == 4 * max(SIZES) < len(apart)


@pytest.mark.parametrize("seed", range(5))
def test_no_image_of_the_first_round_can_be_left_out(seed):
    items = labels(missing=0.5, seed=seed)
    chosen = {item.path for item in few_shot_labels(items, 1, seed)}
    carried = defaultdict(set)
    for item in items:
        if item.path in chosen:
            carried[item.task, item.label].add(item.path)
    assert all(any(own == {path} for own in carried.values()) for path in chosen)


def test_the_order_of_the_list_does_not_matter_and_other_seeds_draw_others():
    items = labels()
    mixed = random.Random(1).sample(items, len(items))
    assert set(few_shot_labels(mixed, 4, 2)) == set(few_shot_labels(items, 4, 2))
    assert len({tuple(few_shot_labels(items, 4, seed)) for seed in range(5)}) == 5
    inside = [set(few_shot_labels(items, 2, s, False)) <= set(few_shot_labels(items, 4, s, False)) for s in range(9)]
    assert not all(inside)


def test_with_one_label_per_image_the_sample_is_the_usual_one():
    items = [Item(f"class{label}/{i}.jpg", label) for label in range(3) for i in range((20, 5, 1)[label])]
    for shots, nested in ((1, True), (4, True), (4, False), (16, True)):
        assert few_shot_labels(items, shots, 3, nested) == few_shot(items, shots, 3, nested)


def test_drawing_is_fixed_for_good():
    """A golden value: published results would not repeat if the draw ever changed."""
    expected = [
        ("0.jpg", 0, 0),
        ("0.jpg", 1, 3),
        ("0.jpg", 2, 1),
        ("2.jpg", 1, 4),
        ("5.jpg", 0, 1),
        ("5.jpg", 1, 0),
        ("5.jpg", 2, 0),
        ("9.jpg", 1, 1),
        ("10.jpg", 1, 2),
    ]
    sample = few_shot_labels(labels(12, missing=0.2), 1, seed=1)
    assert [(item.path, item.task, item.label) for item in sample] == expected


def test_a_long_tail_falls_from_k_to_k_over_the_ratio():
    assert [long_tail(16, 8.0, i, 4) for i in range(4)] == [16, 8, 4, 2]
    assert [long_tail(2, 100.0, i, 3) for i in range(3)] == [2, 1, 1]
    assert long_tail(5, 10.0, 0, 1) == 5
    items = [Item(f"{label}/{i}.jpg", label) for label in range(3) for i in range(20)]

    def quota(group, shots):
        return long_tail(shots, 4.0, group, 3)

    samples = [few_shot(items, k, 1, quota=quota) for k in (4, 8)]
    assert [Counter(item.label for item in sample) for sample in samples] == [{0: 4, 1: 2, 2: 1}, {0: 8, 1: 4, 2: 2}]
    assert set(samples[0]) <= set(samples[1])
    whole = few_shot_labels(items, 8, 1, quota=lambda group, shots: quota(group[1], shots))
    assert whole == samples[1]
