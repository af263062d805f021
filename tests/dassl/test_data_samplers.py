"""Samplers: the groups in a batch, and orders that are functions of (seed, epoch)."""

from collections import Counter

import pytest

from dassl.data.datasets import Datum, DatumMT
from dassl.data.samplers import SAMPLERS, build_sampler


@pytest.fixture
def items():
    return [DatumMT(f"{i}", i % 4, i // 24, domain=i % 3) for i in range(48)]


def _batches(sampler, size):
    order = list(sampler)
    assert len(order) == len(sampler)
    return [order[i : i + size] for i in range(0, len(order), size)]


@pytest.mark.parametrize("name", SAMPLERS)
def test_order_is_a_function_of_seed_and_epoch(items, name):
    def order(seed, epoch):
        sampler = build_sampler(name, data_source=items, batch_size=12, n_domain=2, n_ins=3, seed=seed)
        sampler.set_epoch(epoch)
        first = list(sampler)
        assert first == list(sampler)
        return first

    assert order(1, 3) == order(1, 3)
    fixed = name == "SequentialSampler"
    assert (order(1, 3) == order(1, 4)) == fixed
    assert (order(1, 3) == order(0, 3)) == fixed


def test_without_an_engine_every_pass_is_an_epoch(items):
    sampler = build_sampler("RandomSampler", data_source=items)
    orders = [list(sampler) for _ in range(3)]
    assert sorted(orders[0]) == list(range(48))
    assert len({tuple(order) for order in orders}) == 3
    again = build_sampler("RandomSampler", data_source=items)
    assert [list(again) for _ in range(3)] == orders


def test_batches_of_random_domains(items):
    sampler = build_sampler("RandomDomainSampler", data_source=items, batch_size=8, n_domain=2)
    batches = _batches(sampler, 8)
    assert all(sorted(Counter(items[i].domain for i in batch).values()) == [4, 4] for batch in batches)
    seen = [i for batch in batches for i in batch]
    assert len(set(seen)) == len(seen)
    assert len(_batches(build_sampler("RandomDomainSampler", data_source=items, batch_size=12), 12)) == 4


def test_batches_of_one_domain_after_the_other(items):
    batches = _batches(build_sampler("SeqDomainSampler", data_source=items, batch_size=5), 5)
    assert [{items[i].domain for i in batch} for batch in batches] == [{0}, {1}, {2}] * 3


def test_batches_of_random_classes(items):
    sampler = build_sampler("RandomClassSampler", data_source=items, batch_size=9, n_ins=3)
    for batch in _batches(sampler, 9):
        assert list(Counter((items[i].task, items[i].label) for i in batch).values()) == [3, 3, 3]


def test_a_small_class_is_drawn_with_replacement():
    items = [Datum("a", 0), Datum("b", 1), Datum("c", 1), Datum("d", 1)]
    sampler = build_sampler("RandomClassSampler", data_source=items, batch_size=6, n_ins=3)
    (batch,) = _batches(sampler, 6)
    assert sorted(items[i].label for i in batch) == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize(
    ("name", "settings", "text"),
    [
        ("RandomSampeler", {}, "no such sampler: 'RandomSampeler', did you mean RandomSampler"),
        ("RandomDomainSampler", {"n_domain": 4}, "have 3 domains"),
        ("RandomDomainSampler", {"batch_size": 8, "n_domain": 3}, "shared equally"),
        ("RandomClassSampler", {"batch_size": 8, "n_ins": 3}, "divisor of BATCH_SIZE"),
        ("RandomClassSampler", {"batch_size": 32, "n_ins": 2}, "training images have 8"),
    ],
)
def test_what_cannot_be_sampled_says_why(items, name, settings, text):
    with pytest.raises(ValueError, match=text):
        build_sampler(name, data_source=items, **settings)
