import json
import os
import shutil

import pytest

from dassl.data.datasets import build_dataset
from datasets import splits
from datasets.readers import Raw
from datasets.rows import RowSource
from datasets.source import Item
from datasets.splits import by_rule
from datasets.table import ROWS
from tests.datasets import layouts
from tests.datasets.settings import config
from tests.datasets.split_files import PETS, dk_flowers, zhou_pets


def build(name, root, **settings):
    return build_dataset(config(name, root, **settings))


# ---- rules -------------------------------------------------------------------------------------------------------


def pool(count, label=0, part="p"):
    return [Item(f"{part}/{label}_{i}.jpg", label) for i in range(count)]


def sizes(split):
    return len(split.train), len(split.val), len(split.test)


@pytest.mark.parametrize("count, expected", [(10, (5, 2, 3)), (7, (4, 1, 2)), (2, (1, 0, 1)), (1, (0, 0, 1))])
def test_half_a_fifth_and_the_rest(count, expected):
    assert sizes(by_rule(Raw([("a",)], {"all": pool(count)}), "per-class")) == expected


def test_parts_are_divided_by_themselves():
    raw = Raw([("a",)], {"train": pool(10), "test": pool(10, part="q")})
    split = by_rule(raw, "per-class")
    assert sizes(split) == (10, 4, 6)
    assert sum(item.path.startswith("q/") for item in split.train) == 5


def test_the_published_test_list_is_kept():
    raw = Raw([("a", "b")], {"train": pool(10) + pool(5, 1), "test": pool(3, part="q")})
    split = by_rule(raw, "official-test")
    assert sizes(split) == (12, 3, 3)
    assert split.test == raw.pools["test"]


def test_tasks_are_divided_as_a_whole():
    raw = Raw([("a", "b")], {"all": pool(7) + pool(3, 1)})
    assert sizes(by_rule(raw, "per-task")) == (5, 2, 3)


def test_rules_do_not_depend_on_the_order_of_a_listing():
    items = pool(20)
    one, two = (by_rule(Raw([("a",)], {"all": order}), "per-class") for order in (items, items[::-1]))
    assert [set(getattr(one, p)) for p in splits.SPLITS] == [set(getattr(two, p)) for p in splits.SPLITS]


def test_the_rules_are_fixed_for_good():
    split = by_rule(Raw([("a",)], {"all": pool(6)}), "per-class")
    assert [i.path for i in split.val] == ["p/0_3.jpg"]
    assert sorted(i.path for i in split.test) == ["p/0_0.jpg", "p/0_4.jpg"]


# ---- the file of our own -------------------------------------------------------------------------------------------


def test_a_split_is_made_once_whatever_the_seed(tmp_path, capsys):
    layouts.make("KaggleMushroom", tmp_path)
    first = build("KaggleMushroom", tmp_path, seed=1)
    path = tmp_path / "kaggle_mushroom/split_fixed_KaggleMushroom.json"
    saved = path.read_bytes()
    assert str(path) in capsys.readouterr().out
    assert str(tmp_path) not in path.read_text()
    second = build("KaggleMushroom", tmp_path, seed=2)
    assert capsys.readouterr().out == ""
    assert (second.test, second.split_hash) == (first.test, first.split_hash)
    path.unlink()
    assert build("KaggleMushroom", tmp_path, seed=3).split_hash == first.split_hash
    assert path.read_bytes() == saved


def test_a_new_image_does_not_change_the_split(tmp_path):
    layouts.make("KaggleMushroom", tmp_path)
    before = build("KaggleMushroom", tmp_path).split_hash
    folder = next((tmp_path / "kaggle_mushroom/Mushrooms").iterdir())
    shutil.copy(folder / "image_0001.jpg", folder / "image_9999.jpg")
    assert build("KaggleMushroom", tmp_path).split_hash == before


def test_a_folder_that_cannot_be_written_to(tmp_path, monkeypatch, capsys):
    layouts.make("KaggleMushroom", tmp_path)

    def refuse(*_args):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(splits, "atomic_write", refuse)
    first = build("KaggleMushroom", tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and "WARNING: 36 images" in lines[0]
    assert "not saved" in lines[1] and "Permission denied" in lines[1]
    assert build("KaggleMushroom", tmp_path).split_hash == first.split_hash
    assert not list((tmp_path / "kaggle_mushroom").glob("*.json"))


def test_fgvc_aircraft_keeps_its_published_lists(tmp_path):
    layouts.make("FGVCAircraft", tmp_path)
    dataset = build("FGVCAircraft", tmp_path)
    listed = (tmp_path / "fgvc_aircraft/images_variant_test.txt").read_text().splitlines()
    assert sorted(os.path.basename(item.impath)[:6] for item in dataset.test) == [line[:6] for line in listed]
    assert not list((tmp_path / "fgvc_aircraft").glob("*.json"))


# ---- published files ---------------------------------------------------------------------------------------------


def test_coop_s_split_is_read_as_it_is(tmp_path):
    split = zhou_pets(tmp_path)
    dataset = build("OxfordPets", tmp_path)
    assert dataset.classnames == [name.replace("_", " ") for name in PETS]
    for part, items in (("train", dataset.train_x), ("val", dataset.val), ("test", dataset.test)):
        assert {(os.path.basename(i.impath), i.label) for i in items} == {(e[0], e[1]) for e in split[part]}
    assert dataset.sources["OxfordPets"].split_from == "split_zhou_OxfordPets.json"
    assert len(list((tmp_path / "oxford_pets").glob("*.json"))) == 1


def test_softcpt_s_split_is_read_as_it_is(tmp_path):
    content = dk_flowers(tmp_path)
    dataset = build("KaggleFlower", tmp_path)
    assert dataset.classnames == ["daisy", "dandelion", "rose", "sunflower", "tulip"]
    task = dataset.space.tasks[0]
    assert (task.name, task.description) == ("five flowers", "which of five flowers")
    flowers = tmp_path / "kaggle_flower_recognition/flowers"
    found = {(os.path.relpath(i.impath, flowers).replace(os.sep, "/"), i.label) for i in dataset.test}
    assert found == {(path, label[0]) for path, label, _ in content["test"]}


def test_softcpt_s_split_of_many_tasks(tmp_path):
    layouts.make("Fashion20", tmp_path)
    own = build("Fashion20", tmp_path)
    source = own.sources["Fashion20"]
    tasks = source.tasks
    content = {
        part: [[i.path.removeprefix("fashion20/images/"), [i.label], [i.task]] for i in getattr(source, part)]
        for part in splits.SPLITS
    }
    content["meta"] = {
        "taskid2cname": {str(t): list(task.classnames) for t, task in enumerate(tasks)},
        "taskid2tname": {str(t): task.key for t, task in enumerate(tasks)},
    }
    (tmp_path / "fashion20/split_fixed_Fashion20.json").unlink()
    (tmp_path / "fashion20/task_info.csv").unlink()
    (tmp_path / "fashion20/split_dk_Fashion20.json").write_text(json.dumps(content))
    again = build("Fashion20", tmp_path)
    assert again.space == own.space
    assert (again.split_hash, again.test) == (own.split_hash, own.test)


def test_softcpt_s_split_comes_before_coop_s(tmp_path):
    zhou_pets(tmp_path)
    images = sorted(p.name for p in (tmp_path / "oxford_pets/images").glob("*.jpg"))
    train, test = ([[name, [i], [0]] for i, name in enumerate(images[first::6])] for first in (0, 1))
    meta = {"taskid2cname": {"0": PETS}}
    content = json.dumps({"train": train, "val": [], "test": test, "meta": meta})
    (tmp_path / "oxford_pets/split_dk_OxfordPets.json").write_text(content)
    assert build("OxfordPets", tmp_path).sources["OxfordPets"].split_from == "split_dk_OxfordPets.json"


def test_texts_in_the_data_folder_win(tmp_path):
    dk_flowers(tmp_path)
    folder = tmp_path / "kaggle_flower_recognition"
    (folder / "task_name.txt").write_text("my flowers\n")
    (folder / "task_desc.txt").write_text("tell my flowers apart\n")
    task = build("KaggleFlower", tmp_path).space.tasks[0]
    assert (task.name, task.description) == ("my flowers", "tell my flowers apart")


def test_hidden_files_and_leftovers_of_archives_are_no_data(tmp_path):
    layouts.make("EuroSAT", tmp_path)
    base = tmp_path / "eurosat/2750"
    (base / "__MACOSX").mkdir()
    (base / ".hidden").mkdir()
    (base / "River" / "._image_0001.jpg").write_bytes(b"x")
    (base / "River" / "Thumbs.db").write_bytes(b"x")
    dataset = build("EuroSAT", tmp_path)
    assert len(dataset.train_x) + len(dataset.val) + len(dataset.test) == 40


def test_folders_are_listed_once_and_files_not_looked_at(data_root, monkeypatch):
    """Hundreds of thousands of images must not cost a system call each."""
    source = RowSource(ROWS["SUN397"])
    build("SUN397", data_root)  # makes the split file
    listed = []
    monkeypatch.setattr(os, "listdir", lambda path, real=os.listdir: listed.append(path) or real(path))
    monkeypatch.setattr(os, "stat", lambda *a, real=os.stat, **k: listed.append(a[0]) or real(*a, **k))
    source.load(str(data_root))
    assert 397 <= len(listed) < 450
