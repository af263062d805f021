"""RS-8 and the remote-sensing sets it is chosen from."""

import shutil

import pytest

from dassl.data.datasets import build_dataset
from tests.datasets import layouts
from tests.datasets.settings import config

RS8 = [
    ("AID", 30),
    ("RESISC45", 45),
    ("UCMerced", 21),
    ("WHURS19", 19),
    ("RSSCN7", 7),
    ("RSICB128", 45),
    ("OPTIMAL31", 31),
    ("EuroSAT", 10),
]


def test_rs8(data_root):
    space = build_dataset(config("RS8", data_root)).space
    assert [(task.key, len(task.classnames)) for task in space.tasks] == RS8
    assert space.num_classes == 208
    assert {task.metric for task in space.tasks} == {"overall_acc"}
    assert len({task.name for task in space.tasks}) == 8  # one task name, one context: no two may be the same


def test_another_list_takes_its_place(data_root):
    space = build_dataset(config("RS8", data_root, TASKS=["PatternNet", "RSICB256"])).space
    assert [(task.key, len(task.classnames)) for task in space.tasks] == [("PatternNet", 38), ("RSICB256", 35)]


@pytest.mark.parametrize(
    "name, folder, words",
    [
        ("AID", "BareLand", "bare land"),
        ("AID", "DenseResidential", "dense residential area"),
        ("RESISC45", "basketball_court", "basketball court"),
        ("RESISC45", "medium_residential", "medium residential area"),
        ("UCMerced", "tenniscourt", "tennis court"),
        ("WHURS19", "footballField", "football field"),
        ("WHURS19", "Parking", "parking lot"),
        ("RSSCN7", "aGrass", "grassland"),
        ("RSICB128", "residents", "residential area"),
        ("RSICB128", "river_protection_forest", "river protection forest"),
        ("RSICB256", "hirst", "sandbank"),
        ("OPTIMAL31", "ground_track_field", "ground track field"),
        ("PatternNet", "wastewater_treatment_plant", "wastewater treatment plant"),
    ],
)
def test_class_names_read_as_words(data_root, name, folder, words):
    dataset = build_dataset(config(name, data_root))
    names = {item.classname for item in dataset.test if f"/{folder}/" in item.impath}
    assert names == {words}
    assert not [n for n in dataset.classnames if n != n.lower() or "_" in n]
    assert len(set(dataset.classnames)) == len(dataset.classnames)


def test_classes_within_categories_and_without(tmp_path):
    layouts.make("RSICB128", tmp_path)
    nested = build_dataset(config("RSICB128", tmp_path))
    base = tmp_path / "rsicb128/RSI-CB128"
    for category in list(base.iterdir()):
        for folder in list(category.iterdir()):
            folder.rename(base / folder.name)
        category.rmdir()
    (tmp_path / "rsicb128/split_fixed_RSICB128.json").unlink()
    assert build_dataset(config("RSICB128", tmp_path)).classnames == nested.classnames


def test_a_class_in_two_categories(tmp_path):
    layouts.make("RSICB128", tmp_path)
    base = tmp_path / "rsicb128/RSI-CB128"
    (where,) = base.glob("*/sea")
    shutil.copytree(where, next(p for p in base.iterdir() if p != where.parent) / "sea")
    with pytest.raises(ValueError, match="the class sea occurs twice"):
        build_dataset(config("RSICB128", tmp_path))


def test_folders_that_are_spelled_otherwise_are_read(tmp_path):
    layouts.make("OPTIMAL31", tmp_path)
    base = tmp_path / "optimal31/Optimal31/Images"
    (base / "baseball_diamond").rename(base / "baseball_field")
    assert "baseball field" in build_dataset(config("OPTIMAL31", tmp_path)).classnames
