"""Datum, DatasetBase, DatasetBaseMT and the registry."""

import pickle
import random
from types import SimpleNamespace

import pytest

from dassl.data.datasets import DATASET_REGISTRY, DatasetBase, DatasetBaseMT, Datum, DatumMT, build_dataset
from dassl.data.tasks import Task, TaskSpace

NAMES = ("cat", "dog", "owl")


def _items(labels, root="/data/pets", domains=(0,)):
    return [
        Datum(f"{root}/{NAMES[label]}/{i}.jpg", label, domains[i % len(domains)], NAMES[label])
        for i, label in enumerate(labels)
    ]


def test_datum_is_a_value():
    item = Datum(impath="x.jpg", label=2, domain=1, classname="owl")
    assert pickle.loads(pickle.dumps(item)) == item
    assert {item, Datum("x.jpg", 2, 1, "owl")} == {item}
    with pytest.raises(AttributeError):
        item.label = 3
    assert DatumMT("x.jpg", 1, 4).task == 4
    for kind in (lambda: Datum(impath=3), lambda: DatumMT(None, 0, 0)):
        with pytest.raises(ValueError, match="impath must be a string"):
            kind()


def test_classes_come_from_the_items_of_all_splits():
    class Pets(DatasetBase):
        pass

    dataset = Pets(train_x=_items([0, 0]), val=_items([1]), test=_items([2, 1]))
    assert dataset.num_classes == 3
    assert dataset.classnames == ["cat", "dog", "owl"]
    assert dataset.lab2cname == {0: "cat", 1: "dog", 2: "owl"}
    assert dataset.train_u is None
    task = dataset.space.tasks[0]
    assert (dataset.space.num_tasks, task.key, task.name, task.metric) == (1, "Pets", "Pets", "overall_acc")


def test_a_declared_class_list_wins():
    class Pets(DatasetBase):
        CLASSNAMES = ("cat", "dog", "owl", "fox")
        DATASET_NAME = "kinds of pets"

    dataset = Pets(train_x=_items([0]), test=_items([1]))
    assert dataset.num_classes == 4
    assert dataset.space.tasks[0].name == "kinds of pets"
    assert DatasetBase(test=_items([1]), classnames=["a", "b"]).classnames == ["a", "b"]


def test_labels_outside_the_class_list_are_one_error():
    with pytest.raises(ValueError) as caught:
        DatasetBase(train_x=_items([0, 2, 2]), test=_items([2, 2, 1]), classnames=["a", "b"])
    text = str(caught.value)
    assert "4 images" in text and "train_x /data/pets/owl/1.jpg: label 2 is not in 0..1" in text
    assert text.count("owl") == 3 and "\n" not in text
    with pytest.raises(ValueError, match="label -1"):
        DatasetBase(test=[Datum("x", -1)], classnames=["a"])
    DatasetBase(train_x=[Datum("x", 0)], train_u=[Datum("y", -1)], classnames=["a"])


@pytest.mark.parametrize(
    ("items", "text"),
    [
        ([], "no image in any split"),
        ([Datum("x", 0, 0, "a"), Datum("y", 2, 0, "c")], "not label 1 .found 2 instead"),
        ([Datum("x", 1, 0, "a")], "not label 0 .found 1 instead"),
        ([Datum("x", 0, 0, "a"), Datum("y", 0, 0, "b")], "label 0 is called 'a' and 'b'"),
    ],
)
def test_classes_that_cannot_be_read_off(items, text):
    with pytest.raises(ValueError, match=text):
        DatasetBase(train_x=items)


def test_multi_task_labels_are_checked_per_task():
    space = TaskSpace((Task("faces", "faces", ("grin", "frown")), Task("pets", "pets", ("cat",))))
    dataset = DatasetBaseMT(space, train_x=[DatumMT("a", 1, 0), DatumMT("b", 0, 1)], test=[DatumMT("c", 0, 0)])
    assert (dataset.num_classes, dataset.classnames, dataset.val) == (3, ["grin", "frown", "cat"], None)
    assert dataset.lab2cname[2] == "cat"
    assert (dataset.taskid2tname[1], dataset.taskid2cname[0]) == ("pets", ("grin", "frown"))
    assert (dataset.taskid2desc[1], dataset.taskid2metric[0], dataset.taskid2type[1]) == ("", "overall_acc", "sl")
    with pytest.raises(ValueError) as caught:
        DatasetBaseMT(space, train_x=[DatumMT("a", 1, 1), DatumMT("b", 0, 2)])
    assert "train_x a: label 1 is not in 0..0 of task 'pets'" in str(caught.value)
    assert "train_x b: task 2 is not in 0..1" in str(caught.value)


def test_split_hash_knows_neither_order_nor_place():
    def dataset(labels, root, reverse=False):
        items = _items(labels, root)
        made = DatasetBase(train_x=items[::-1] if reverse else items, classnames=NAMES)
        made.image_root = root
        return made.split_hash

    assert dataset([0, 1], "/a") == dataset([0, 1], "/b/c", reverse=True)
    assert dataset([0, 1], "/a") != dataset([0, 2], "/a")
    given = DatasetBase(train_x=_items([0]))
    given.split_hash = "ab12"
    assert given.split_hash == "ab12"


def test_few_shot_helper_of_dassl():
    train, val = _items([0] * 5 + [1] * 2), _items([0] * 4 + [1] * 4)
    dataset = DatasetBase(train_x=train, val=val)
    random.seed(1)
    few, few_val = dataset.generate_fewshot_dataset(train, val, num_shots=3)
    assert sorted(item.label for item in few) == [0, 0, 0, 1, 1]
    assert len(few_val) == 6
    repeated = dataset.generate_fewshot_dataset(train, num_shots=3, repeat=True)
    assert sorted(item.label for item in repeated) == [0, 0, 0, 1, 1, 1]
    assert dataset.generate_fewshot_dataset(train, num_shots=0) is train


def test_domains_and_labels():
    dataset = DatasetBase(train_x=_items([0, 0, 1, 1], domains=(0, 1)))
    assert [len(part) for part in dataset.split_dataset_by_domain(dataset.train_x).values()] == [2, 2]
    assert list(dataset.split_dataset_by_label(dataset.train_x)) == [0, 1]
    dataset.domains = ("photo", "sketch")
    dataset.check_input_domains(["photo"], ["sketch"])
    with pytest.raises(ValueError, match="SOURCE_DOMAINS: 'foto' is not a domain"):
        dataset.check_input_domains(["foto"], [])


def test_an_unknown_dataset_gets_the_nearest_name():
    @DATASET_REGISTRY.register(force=True)
    class PetsOfTheTest(DatasetBase):
        def __init__(self, cfg):
            super().__init__(train_x=_items([0]))

    def cfg(name):
        return SimpleNamespace(DATASET=SimpleNamespace(NAME=name))

    assert isinstance(build_dataset(cfg("PetsOfTheTest")), PetsOfTheTest)
    with pytest.raises(ValueError, match="no such dataset: 'petsofthetests', did you mean PetsOfTheTest"):
        build_dataset(cfg("petsofthetests"))
    with pytest.raises(ValueError, match="set DATASET.NAME"):
        build_dataset(cfg(""))


def test_two_labels_of_one_task_are_refused():
    space = TaskSpace((Task("a", "a", ("x", "y")), Task("b", "b", ("u", "v"))))
    DatasetBaseMT(space, train_x=[DatumMT("1.png", [0, 1], [0, 1])], test=[])
    with pytest.raises(ValueError, match="train_x 1.png has several labels of task 1; expected at most one label"):
        DatasetBaseMT(space, train_x=[DatumMT("1.png", [0, 0, 1], [0, 1, 1])], test=[])
