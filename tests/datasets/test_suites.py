import os
import shutil
from collections import Counter

import pytest
import yaml

import datasets
from dassl.config import config_hash, load
from dassl.data.datasets import DATASET_REGISTRY, build_dataset
from dassl.data.tasks import Task
from datasets import suites
from datasets.dataset import Suite
from datasets.explain import explained
from datasets.source import Item, Source
from tests.datasets import layouts
from tests.datasets.settings import config

GENERAL10 = [
    ("Caltech101", 100, "mean_acc"),
    ("DescribableTextures", 47, "overall_acc"),
    ("EuroSAT", 10, "overall_acc"),
    ("FGVCAircraft", 100, "mean_acc"),
    ("Food101", 101, "overall_acc"),
    ("OxfordFlowers", 102, "mean_acc"),
    ("OxfordPets", 37, "mean_acc"),
    ("StanfordCars", 196, "overall_acc"),
    ("SUN397", 397, "overall_acc"),
    ("UCF101", 101, "overall_acc"),
]
PLANT6 = [
    ("FruitVegetable", 36),
    ("KaggleFlower", 5),
    ("KaggleMushroom", 9),
    ("KaggleVegetable", 15),
    ("PlantSeedlingV1", 12),
    ("PlantVillage", 39),
]
REAL = ["General10", "Plant6", "Fashion20", "RS8"]


def paths(items, root):
    return [os.path.relpath(item.impath, root).replace(os.sep, "/") for item in items]


def test_general10(data_root):
    space = build_dataset(config("General10", data_root)).space
    assert [(task.key, len(task.classnames), task.metric) for task in space.tasks] == GENERAL10
    assert space.num_classes == 1191


def test_plant6(data_root):
    space = build_dataset(config("Plant6", data_root)).space
    assert [(task.key, len(task.classnames)) for task in space.tasks] == PLANT6
    assert {task.metric for task in space.tasks} == {"overall_acc"}
    assert space.num_classes == 116
    assert space.tasks[0].name == "fruits and vegetables image classification"
    assert space.tasks[0].description == "classify fruit and vegetable images into 36 categories"


def test_fashion20(data_root):
    space = build_dataset(config("Fashion20", data_root)).space
    assert space.num_tasks == 20
    assert space.num_classes == 78
    assert {task.metric for task in space.tasks} == {"mean_acc"}
    assert [space.tasks[i].name for i in (0, 9, 18)] == ["pants type", "heel shape", "number of button rows"]
    assert [space.tasks[i].templates[0].rpartition(" ")[2] for i in (0, 3, 7, 14, 15, 17, 18, 19)] == [
        f"{noun}." for noun in ("pants", "tops", "shoes", "hat", "socks", "skirt", "tops", "underwear")
    ]


@pytest.mark.parametrize("suite", REAL)
def test_every_image_is_there_and_in_one_split_only(data_root, suite):
    dataset = build_dataset(config(suite, data_root))
    parts = [{item.impath for item in part} for part in (dataset.train_x, dataset.val, dataset.test)]
    assert all(os.path.isfile(path) for part in parts for path in part)
    assert len(set().union(*parts)) == sum(len(part) for part in parts)


@pytest.mark.parametrize("name", [name for name, *_ in GENERAL10 + PLANT6])
def test_a_single_dataset_is_its_task_of_the_suite(data_root, name):
    suite = "General10" if name in [row[0] for row in GENERAL10] else "Plant6"
    whole = build_dataset(config(suite, data_root, NUM_SHOTS=1))
    alone = build_dataset(config(name, data_root, NUM_SHOTS=1))
    task = [t.key for t in whole.space.tasks].index(name)
    assert alone.space.num_tasks == 1
    assert alone.classnames == list(whole.space.tasks[task].classnames)
    for split in ("train_x", "val", "test"):
        same = [item.impath for item in getattr(whole, split) if item.task == task]
        assert [item.impath for item in getattr(alone, split)] == same
    assert issubclass(getattr(datasets, name), Suite)


@pytest.mark.parametrize("suite", [*REAL, "Icon13"])
def test_base_and_new_share_out_the_classes(data_root, suite):
    full = build_dataset(config(suite, data_root))
    halves = [build_dataset(config(suite, data_root, SUBSAMPLE_CLASSES=half)) for half in ("base", "new")]
    for task, base, new in zip(full.space.tasks, *(half.space.tasks for half in halves), strict=True):
        assert base.classnames + new.classnames == task.classnames
        assert len(base.classnames) - len(new.classnames) in (0, 1)
    assert sum(len(half.test) for half in halves) == len(full.test)
    names = {item.impath: item.classname for item in full.test}
    for half in halves:
        for item in half.test:
            assert half.space.tasks[item.task].classnames[item.label] == names[item.impath] == item.classname
    assert full.split_hash == halves[0].split_hash == halves[1].split_hash


def test_unknown_images_of_the_base_classes_are_the_test_images_of_the_new_ones(data_root):
    def half(which, confidence=True, suite="Icon13"):
        cfg = config(suite, data_root, SUBSAMPLE_CLASSES=which)
        cfg.TEST.CONFIDENCE = confidence
        return build_dataset(cfg)

    base, new = half("base"), half("new")
    assert {item.label for item in base.unknown} == {-1}
    found = [(item.impath, base.space.tasks[item.task].key, item.classname) for item in base.unknown]
    assert found == [(item.impath, new.space.tasks[item.task].key, item.classname) for item in new.test]
    assert len(base.places["unknown"]) == len(base.unknown)
    assert not (new.unknown or half("all").unknown or half("base", False).unknown)


@pytest.mark.parametrize("suite", [*REAL, "Icon13"])
@pytest.mark.parametrize("tasks", ["task1", "base", "new", [3, 0]])
@pytest.mark.parametrize("classes", ["all", "new"])
def test_tasks_classes_and_shots_combine(data_root, suite, tasks, classes):
    full = build_dataset(config(suite, data_root)).space.tasks
    few = config(suite, data_root, NUM_SHOTS=1, SUBSAMPLE_CLASSES=classes)
    few.DATASET.SUBSAMPLE_TASKS = tasks
    dataset = build_dataset(few)
    half = (len(full) + 1) // 2
    ids = {"task1": [1], "base": range(half), "new": range(half, len(full))}.get(str(tasks), [0, 3])
    assert [task.id for task in dataset.space.tasks] == list(ids)
    for position, task in enumerate(dataset.space.tasks):
        names = full[task.id].classnames
        assert task.classnames == (names if classes == "all" else names[(len(names) + 1) // 2 :])
        drawn = Counter(item.label for item in dataset.train_x if item.task == position)
        assert set(drawn.values()) == {1}


def test_whether_there_are_more_images_than_were_drawn(tmp_path):
    layouts.make("EuroSAT", tmp_path, images=40)
    most = max(Counter(item.label for item in build_dataset(config("EuroSAT", tmp_path)).train_x).values())
    wanted = {1: True, most - 1: True, most: False, most + 1: False, -1: False}
    for shots, more in wanted.items():
        assert build_dataset(config("EuroSAT", tmp_path, NUM_SHOTS=shots)).more_images == more


def test_shots_of_validation_are_at_most_four(tmp_path):
    layouts.make("EuroSAT", tmp_path, images=40)
    dataset = build_dataset(config("EuroSAT", tmp_path, NUM_SHOTS=16))
    assert set(Counter(item.label for item in dataset.train_x).values()) == {16}
    assert set(Counter(item.label for item in dataset.val).values()) == {4}
    dataset = build_dataset(config("EuroSAT", tmp_path, NUM_SHOTS=2))
    assert set(Counter(item.label for item in dataset.val).values()) == {2}
    assert len(dataset.test) == 10 * 12


def test_moving_the_root_changes_nothing_but_the_paths(data_root, tmp_path):
    for name in ("oxford_pets", "dtd"):
        shutil.copytree(data_root / name, tmp_path / name)
    tasks = ["OxfordPets", "DescribableTextures"]
    here = build_dataset(config("General10", data_root, NUM_SHOTS=1, TASKS=tasks))
    there = build_dataset(config("General10", tmp_path, NUM_SHOTS=1, TASKS=tasks))
    assert here.split_hash == there.split_hash
    assert paths(here.train_x, data_root) == paths(there.train_x, tmp_path)
    assert here.image_root == str(data_root)


@pytest.mark.parametrize("name", ["RSICB128", "FruitVegetable", "Fashion20"])
def test_the_same_images_whatever_the_order_of_the_files_and_the_place_of_the_root(tmp_path, monkeypatch, name):
    """Two machines: other folder, other order of every listing, no split made yet on either."""
    real = {"listdir": os.listdir, "scandir": os.scandir}

    class Scan(list):
        __enter__ = list.copy

        def __exit__(self, *error):
            pass

    found = []
    for root, backwards in ((tmp_path / "here", False), (tmp_path / "over" / "there", True)):
        layouts.make(name, root)
        monkeypatch.setattr(os, "listdir", lambda p=".", r=backwards: sorted(real["listdir"](p), reverse=r))
        monkeypatch.setattr(
            os, "scandir", lambda p=".", r=backwards: Scan(sorted(real["scandir"](p), key=lambda e: e.name, reverse=r))
        )
        samples = [build_dataset(config(name, root, NUM_SHOTS=k, seed=s)) for k, s in ((1, 0), (2, 0), (1, 1))]
        monkeypatch.undo()
        found.append([(paths(d.train_x, root), paths(d.val, root), paths(d.test, root)) for d in samples])
    assert found[0] == found[1]
    (one, _, test), (two, _, same_test), (other, _, third_test) = found[0]
    assert set(one) < set(two) and set(one) != set(other)
    assert test == same_test == third_test


def test_a_root_that_is_gone_moves_with_the_data_paths(data_root):
    cfg = config("EuroSAT", "/gone/data")
    cfg.DATALOADER.OLD_DATA_PATH, cfg.DATALOADER.NEW_DATA_PATH = "/gone/data", str(data_root)
    assert build_dataset(cfg).test[0].impath.startswith(str(data_root))


def test_only_the_chosen_tasks_need_their_data(tmp_path):
    layouts.make("EuroSAT", tmp_path)
    assert build_dataset(config("General10", tmp_path, SUBSAMPLE_TASKS="task2")).space.tasks[0].key == "EuroSAT"


def test_everything_that_is_missing_is_named_at_once(tmp_path):
    layouts.make("EuroSAT", tmp_path)
    (tmp_path / "oxford_pets" / "images").mkdir(parents=True)
    with pytest.raises(FileNotFoundError) as error:
        build_dataset(config("General10", tmp_path))
    assert "Food101: no folder" in str(error.value) and "EuroSAT" not in str(error.value)
    text = str(explained(error.value))
    assert text.startswith(f"General10: 9 of 10 datasets not found below DATASET.ROOT '{tmp_path}'")
    gone = "Caltech101 DescribableTextures FGVCAircraft Food101 OxfordFlowers StanfordCars SUN397 UCF101"
    assert f"  no folder  {gone.replace(' ', ', ')}\n" in text
    assert f"  get them   python -m datasets.download {gone} --root {tmp_path}\n" in text
    assert f"looked in  {tmp_path / 'oxford_pets'}" in text
    assert "OxfordPets: missing, not there: annotations/trainval.txt, annotations/test.txt" in text
    assert "split_zhou_OxfordPets.json" in text
    assert "EuroSAT" not in text
    assert text.count(": missing, ") == 1 and text.count("\n") < 15


def test_no_root():
    with pytest.raises(FileNotFoundError, match="DATASET.ROOT is not set"):
        build_dataset(config("Plant6"))


def test_a_suite_of_one_s_own(data_root):
    tasks = ["OxfordPets", "Icon13/faces", "Fashion20/hat_style"]
    dataset = build_dataset(config("Suite", data_root, TASKS=tasks, NUM_SHOTS=1))
    assert [task.key for task in dataset.space.tasks] == ["OxfordPets", "faces", "hat_style"]
    assert {item.task for item in dataset.test} == {0, 1, 2}
    swapped = build_dataset(config("General10", data_root, TASKS=tasks, NUM_SHOTS=1))
    assert swapped.space == dataset.space


@pytest.mark.parametrize(
    "tasks, text",
    [
        (["OxfordPet"], "unknown dataset 'OxfordPet'; did you mean OxfordPets?"),
        (["Icon13/face"], "Icon13 has no task 'face'; did you mean faces?"),
        (["Icon13", "Icon13/faces"], "more than once: Icon13/faces"),
        ([], "DATASET.TASKS is empty"),
    ],
)
def test_a_wrong_list_of_tasks(tasks, text):
    with pytest.raises(ValueError) as error:
        build_dataset(config("Suite", TASKS=tasks))
    assert text in str(error.value)


class Made:
    """A source made up in memory."""

    def __init__(self, task, train, test):
        self.task_keys = (task.key,)
        self.task, self.splits = task, {"train": train, "test": test}

    def missing(self, root):
        return ""

    def load(self, root):
        return Source(self.task.key, "/made", [self.task], **self.splits)


@pytest.fixture
def made(monkeypatch):
    one = Task("one", "a task with one class", ("thing",))
    two = Task("two", "a class without test images", ("a", "b", "c"))
    items = [Item(f"{i}.png", i % 3) for i in range(9)]
    sources = {
        "one": Made(one, [Item("x.png", 0)], [Item("y.png", 0)]),
        "two": Made(two, items, [item for item in items if item.label]),
    }
    for name, source in sources.items():
        monkeypatch.setitem(suites.SOURCES, name, source)


def test_a_task_with_one_class(made, capsys):
    dataset = build_dataset(config("Suite", TASKS=["one", "two"], NUM_SHOTS=1))
    assert dataset.space.sizes == [1, 3]
    assert dataset.val is None
    base = build_dataset(config("Suite", TASKS=["one", "two"], SUBSAMPLE_CLASSES="base"))
    assert base.space.sizes == [1, 2]
    assert capsys.readouterr().out == "two: WARNING: no test image of 1 class: a\n" * 2
    new = build_dataset(config("Suite", TASKS=["one", "two"], SUBSAMPLE_CLASSES="new"))
    assert [(task.key, task.id) for task in new.space.tasks] == [("two", 1)]
    assert {(item.task, item.label) for item in new.test} == {(0, 0)}
    assert "a task with one class" in capsys.readouterr().out


def test_only_one_class_leaves_none_new(made):
    with pytest.raises(ValueError, match="'new' leaves no class"):
        build_dataset(config("Suite", TASKS=["one"], SUBSAMPLE_CLASSES="new"))


def test_a_class_without_test_images(made):
    dataset = build_dataset(config("Suite", TASKS=["two"]))
    assert dataset.num_classes == 3
    assert {item.label for item in dataset.test} == {1, 2}


def test_every_registered_name_is_documented_and_has_tasks():
    for name in {*suites.SOURCES, *suites.SUITES}:
        cls = DATASET_REGISTRY.get(name)
        assert cls.__name__ == name
        assert getattr(datasets, name) is cls
        assert cls.__doc__
        assert suites.expand(cls.TASKS)


# ---- task names ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["yaml", "command line"])
def test_task_names_of_one_s_own(data_root, tmp_path, how):
    cfg = config("Suite", data_root, TASKS=["KaggleFlower", "Icon13/faces", "Fashion20/hat_style"])
    names = {"KaggleFlower": "five flowers", "Icon13/faces": "emotions"}
    if how == "yaml":
        (tmp_path / "names.yaml").write_text(yaml.safe_dump({"DATASET": {"TASK_NAMES": names}}))
        load(cfg, [tmp_path / "names.yaml"], [])
    else:
        load(cfg, [], ["DATASET.TASK_NAMES", "{KaggleFlower: five flowers, Icon13/faces: emotions}"])
    assert [task.name for task in build_dataset(cfg).space.tasks] == ["five flowers", "emotions", "hat style"]
    again = config("Suite", data_root)
    (tmp_path / "config.yaml").write_text(cfg.dump())  # as a run saves it
    load(again, [tmp_path / "config.yaml"], [])
    assert again.DATASET.TASK_NAMES == cfg.DATASET.TASK_NAMES
    assert config_hash(again) == config_hash(cfg) != config_hash(config("Suite", data_root, TASKS=cfg.DATASET.TASKS))


def test_a_task_name_in_the_settings_wins_over_the_one_in_the_folder(tmp_path):
    layouts.make("KaggleFlower", tmp_path)
    (tmp_path / "kaggle_flower_recognition/task_name.txt").write_text("from the folder")
    assert build_dataset(config("KaggleFlower", tmp_path)).space.tasks[0].name == "from the folder"
    cfg = config("KaggleFlower", tmp_path, TASK_NAMES=[{"KaggleFlower": "from the settings"}])
    assert build_dataset(cfg).space.tasks[0].name == "from the settings"


@pytest.mark.parametrize(
    "names, text",
    [
        ([{"OxfordPet": "pets"}], "this suite has no task 'OxfordPet'; did you mean OxfordPets?"),
        ([{"OxfordPets": ""}], "expected KEY: name of the task, found 'OxfordPets': ''"),
        (["OxfordPets"], "expected KEY: name of the task, found 'OxfordPets'"),
    ],
)
def test_wrong_task_names(data_root, names, text):
    with pytest.raises(ValueError, match="DATASET.TASK_NAMES") as error:
        build_dataset(config("General10", data_root, TASK_NAMES=names))
    assert text in str(error.value)
