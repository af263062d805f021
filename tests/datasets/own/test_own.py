"""Own data in every form: classes, splits, names; alone and in a suite; from YAML and from the command line."""

import json
import os
import shutil
from collections import Counter

import pytest
import yaml

import datasets  # noqa: F401
from dassl.config import ConfigError, config_hash, get_cfg_default, load
from dassl.data import DataManager
from dassl.data.datasets import build_dataset
from dassl.data.views import image_key
from tests.datasets.own.images import class_folders, draw, jsonl, table
from tests.datasets.settings import config

PARTS = {"train": "train_x", "val": "val", "test": "test"}


def own(entry, root="", seed=1, **dataset):
    return build_dataset(config("Suite", root, seed, TASKS=[entry], **dataset))


def names(dataset, folder):
    """{part: {path below `folder`: class name}}"""
    return {
        part: {os.path.relpath(i.impath, folder).replace(os.sep, "/"): i.classname for i in getattr(dataset, key) or ()}
        for part, key in PARTS.items()
    }


def sizes(dataset):
    return [len(getattr(dataset, key) or ()) for key in PARTS.values()]


# ---- forms -----------------------------------------------------------------------------------------------------------


def test_class_folders(tmp_path):
    folder = class_folders(tmp_path / "small_animals", ("cow", "ant", "bee_hive"))
    draw(folder, "cow/more/deep.PNG", "loose.png", "cow/.hidden.png")
    (folder / "cow" / "notes.txt").write_text("none")
    dataset = own({"ROOT": str(folder)})
    (task,) = dataset.space.tasks
    assert (task.key, task.name, task.classnames) == ("small_animals", "small animals", ("ant", "bee hive", "cow"))
    assert task.metric == "overall_acc" and task.templates == ("a photo of a {}.",)
    found = names(dataset, folder)
    assert sum(map(len, found.values())) == 31
    assert all(path.split("/")[0].replace("_", " ") == name for part in found.values() for path, name in part.items())
    assert Counter(found["train"].values()) == {"ant": 5, "bee hive": 5, "cow": 6}  # half of 11 is 6 to the even
    assert Counter(found["val"].values()) == {"ant": 2, "bee hive": 2, "cow": 2}
    assert Counter(found["test"].values()) == {"ant": 3, "bee hive": 3, "cow": 3}


def test_folders_train_val_test_are_kept(tmp_path, capsys):
    for part, count in (("Train", 3), ("valid", 1), ("test", 2)):
        class_folders(tmp_path / "d" / part, count=count)
    draw(tmp_path / "d", "unlabelled/x.png")
    dataset = own({"ROOT": str(tmp_path / "d")})
    assert sizes(dataset) == [9, 3, 6]
    found = names(dataset, tmp_path / "d")
    assert {path.split("/")[0] for path in found["val"]} == {"valid"}
    assert not list((tmp_path / "d").glob("*.json")) and "unlabelled" in capsys.readouterr().out


def test_a_missing_part_is_made_of_the_training_images(tmp_path):
    for part, count in (("train", 10), ("test", 2)):
        class_folders(tmp_path / "a" / part, count=count)
    for part, count in (("train", 10), ("val", 2)):
        class_folders(tmp_path / "b" / part, count=count)
    assert sizes(own({"ROOT": str(tmp_path / "a")})) == [24, 6, 6]
    assert sizes(own({"ROOT": str(tmp_path / "b")})) == [21, 6, 9]
    for folder in ("a", "b"):  # the second time from the file
        (file,) = (tmp_path / folder).glob("split_own_*.json")
        assert len(json.loads(file.read_text())["train"]) in (24, 21)
    assert sizes(own({"ROOT": str(tmp_path / "a")})) == [24, 6, 6]
    assert sizes(own({"ROOT": str(tmp_path / "b")})) == [21, 6, 9]


def test_a_test_folder_without_classes_is_reported_and_left_out(tmp_path, capsys):
    class_folders(tmp_path / "d" / "train")
    draw(tmp_path / "d", "test/1.png", "test/2.png")
    assert sizes(own({"ROOT": str(tmp_path / "d")})) == [15, 6, 9]
    assert "left out of test: 2 images outside class folders" in capsys.readouterr().out


def test_images_to_test_on_alone(tmp_path):
    for part, count in (("val", 2), ("test", 4)):
        class_folders(tmp_path / "d" / part, count=count)
    dataset = own({"ROOT": str(tmp_path / "d")})
    assert (len(dataset.train_x), len(dataset.val), len(dataset.test)) == (0, 6, 12)
    assert dataset.classnames == ["ant", "bee", "cow"]


def test_a_class_may_be_called_train(tmp_path):
    folder = class_folders(tmp_path / "vehicles", ("bus", "train"))
    assert own({"ROOT": str(folder)}).classnames == ["bus", "train"]


@pytest.mark.parametrize("mark, name", [(",", "list.csv"), (";", "list.csv"), ("\t", "list.tsv")])
@pytest.mark.parametrize("as_file", [True, False])
def test_tables(tmp_path, mark, name, as_file):
    rows = [(f"images/{i}.png", "cat" if i % 2 else "dog") for i in range(8)]
    file = table(tmp_path / "pets" / name, rows, mark=mark)
    dataset = own({"ROOT": str(file if as_file else file.parent), "NAME": "pets"})
    found = names(dataset, file.parent)
    assert {path: label for part in found.values() for path, label in part.items()} == dict(rows)
    assert sizes(dataset) == [4, 2, 2]


def test_a_table_with_splits_paths_of_all_kinds_and_repeated_lines(tmp_path, capsys):
    far = tmp_path / "far"
    draw(far, "a.png")
    draw(tmp_path / "t", "sub dir/b.png", "c.png", "d.png")
    rows = [
        (str(far / "a.png"), "x", "train"),
        ('"sub dir/b.png"', "y", "Training"),
        ("./c.png", "x", "test"),
        ("sub dir\\..\\d.png", "y", "dev"),
        ("c.png", "x", "test"),
    ]
    file = table(tmp_path / "t" / "list.csv", rows, "Path, Label ,SPLIT", draws=False)
    dataset = own({"ROOT": str(file)})
    assert sizes(dataset) == [2, 1, 1] and dataset.classnames == ["x", "y"]
    assert all(os.path.isfile(item.impath) for item in dataset.train_x)
    assert "left out: 1 line with an image that an earlier line has" in capsys.readouterr().out


def test_a_table_with_a_byte_order_mark_from_a_spreadsheet(tmp_path):
    draw(tmp_path, *(f"{i}.png" for i in range(4)))
    lines = ["path;label", *(f"{i}.png;{('Käse', 'Brot')[i % 2]}" for i in range(4)), ""]
    (tmp_path / "list.csv").write_text("\r\n".join(lines), encoding="utf-8-sig")
    assert own({"ROOT": str(tmp_path / "list.csv")}).classnames == ["Brot", "Käse"]


def test_hugging_face_imagefolder(tmp_path):
    rows = [(f"{i}.png", ("cat", "dog")[i % 2]) for i in range(4)]
    table(tmp_path / "a" / "metadata.csv", rows, "file_name,label")
    jsonl(tmp_path / "b" / "metadata.jsonl", rows)
    whole = [(f"{part}/{name}", label) for part in ("train", "test") for name, label in rows]
    table(tmp_path / "c" / "metadata.csv", whole, "file_name,label")
    for part in ("train", "validation", "test"):
        table(tmp_path / "d" / part / "metadata.csv", rows, "file_name,label")
    assert sizes(own({"ROOT": str(tmp_path / "a")})) == sizes(own({"ROOT": str(tmp_path / "b")})) == [2, 0, 2]
    assert sizes(own({"ROOT": str(tmp_path / "c")})) == [4, 0, 4]
    dataset = own({"ROOT": str(tmp_path / "d")})
    assert sizes(dataset) == [4, 4, 4] and dataset.classnames == ["cat", "dog"]
    assert {path.split("/")[0] for path in names(dataset, tmp_path / "d")["val"]} == {"validation"}


# ---- names -----------------------------------------------------------------------------------------------------------


def test_class_names_by_label_and_by_number(tmp_path):
    folder = class_folders(tmp_path / "d", ("n01", "n02", "red_ant"), 4)
    assert own({"ROOT": str(folder), "CLASSNAMES": {"n02": "bee", "n01": "cow"}}).classnames == [
        "cow",
        "bee",
        "red ant",
    ]
    assert own({"ROOT": str(folder), "CLASSNAMES": ["red_ant", "n02", "n01"]}).classnames == ["red ant", "n02", "n01"]
    numbers = table(tmp_path / "n" / "l.csv", [(f"{i}.png", str(i % 11)) for i in range(44)])
    dataset = own({"ROOT": str(numbers), "CLASSNAMES": [f"class {i}" for i in range(11)]})
    assert dataset.classnames == [f"class {i}" for i in range(11)]  # 10 comes after 9
    assert all(item.classname == f"class {int(item.impath.split('/')[-1][:-4]) % 11}" for item in dataset.train_x)
    mapped = own({"ROOT": str(numbers), "CLASSNAMES": {i: f"c{i}" for i in range(11)}})
    assert mapped.classnames[10] == "c10"


def test_everything_an_entry_says(tmp_path):
    folder = class_folders(tmp_path / "d", count=4)
    (folder / "task_name.txt").write_text("from the file\n")
    entry = {
        "NAME": "bugs",
        "ROOT": str(folder),
        "TASK_NAME": "insect species image classification",
        "DESCRIPTION": "three animals",
        "TEMPLATE": "a macro photo of a {}.",
        "METRIC": "mean_acc",
    }
    (task,) = own(entry).space.tasks
    assert (task.key, task.name, task.description) == ("bugs", entry["TASK_NAME"], "three animals")
    assert task.templates == ("a macro photo of a {}.",) and task.metric == "mean_acc"
    assert own({"ROOT": str(folder)}).space.tasks[0].name == "from the file"
    several = own({"ROOT": str(folder), "TEMPLATE": ["a {}.", "the {}."]})
    assert several.space.tasks[0].templates == ("a {}.", "the {}.")


# ---- splits ----------------------------------------------------------------------------------------------------------


def test_the_split_is_made_once_and_has_nothing_to_do_with_seed_or_place(tmp_path, capsys):
    folder = class_folders(tmp_path / "d")
    first = names(own({"ROOT": str(folder)}, seed=1), folder)
    assert f"saved as {folder / 'split_own_d.json'}" in capsys.readouterr().out
    (folder / "split_own_d.json").unlink()
    assert names(own({"ROOT": str(folder)}, seed=2), folder) == first
    shutil.move(folder, tmp_path / "elsewhere")
    moved = own({"ROOT": str(tmp_path / "elsewhere"), "NAME": "d"})
    assert names(moved, tmp_path / "elsewhere") == first


def test_labels_can_be_corrected_and_images_added_without_changing_the_split(tmp_path, capsys):
    folder = class_folders(tmp_path / "d")
    before = names(own({"ROOT": str(folder)}), folder)
    draw(folder, "ant/new.png")
    after = names(own({"ROOT": str(folder)}), folder)
    assert after == before
    assert "left out: 1 image missing from split_own_d.json (ant/new.png)" in capsys.readouterr().out
    (folder / "split_own_d.json").unlink()
    assert "ant/new.png" in {path for part in names(own({"ROOT": str(folder)}), folder).values() for path in part}


@pytest.mark.parametrize("count, expected", [(1, (1, 0, 0)), (2, (1, 0, 1)), (3, (2, 0, 1)), (4, (2, 1, 1))])
def test_small_classes_have_an_image_to_test_on(tmp_path, count, expected):
    folder = class_folders(tmp_path / "d", ("few",), count)
    class_folders(folder, ("many",))
    dataset = own({"ROOT": str(folder)})
    found = names(dataset, folder)
    assert tuple(Counter(found[part].values())["few"] for part in PARTS) == expected


def test_data_that_cannot_be_written_to(tmp_path, capsys, monkeypatch):
    folder = class_folders(tmp_path / "d")

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("datasets.own.splits.atomic_write", refuse)
    first = names(own({"ROOT": str(folder)}), folder)
    assert "not saved" in capsys.readouterr().out and not list(folder.glob("*.json"))
    assert names(own({"ROOT": str(folder)}), folder) == first


def test_a_given_split_file_decides(tmp_path):
    folder = class_folders(tmp_path / "d", count=3)
    zhou = {
        part: [[f"{name}/{i}.png", label, name] for label, name in enumerate(("ant", "bee", "cow"))]
        for i, part in enumerate(PARTS)
    }
    (folder / "split_zhou_d.json").write_text(json.dumps(zhou))
    found = names(own({"ROOT": str(folder), "SPLIT": "split_zhou_d.json"}), folder)
    assert {part: set(paths) for part, paths in found.items()} == {p: {row[0] for row in zhou[p]} for p in PARTS}


# ---- in a suite ------------------------------------------------------------------------------------------------------


def test_with_registered_tasks_shots_halves_and_subsets(tmp_path):
    folder = class_folders(tmp_path / "root" / "d", ("a", "b", "c", "d", "e"))
    tasks = [{"ROOT": "d", "NAME": "mine"}, "Icon13/faces", {"ROOT": str(folder), "NAME": "again"}]

    def suite(**dataset):
        return build_dataset(config("Suite", tmp_path / "root", TASKS=tasks, **dataset))

    full = suite(NUM_SHOTS=2)
    assert [task.key for task in full.space.tasks] == ["mine", "faces", "again"]
    drawn = Counter((item.task, item.label) for item in full.train_x if item.task != 1)
    assert set(drawn.values()) == {2} and len(drawn) == 10
    mine = [[i.impath for i in full.train_x if i.task == t] for t in (0, 2)]
    assert mine[0] == mine[1]
    one = {item.impath for item in suite(NUM_SHOTS=1).train_x}
    assert one < {item.impath for item in full.train_x}
    new = suite(SUBSAMPLE_CLASSES="new", SUBSAMPLE_TASKS="mine")
    assert new.classnames == ["d", "e"] and [task.id for task in new.space.tasks] == [0]
    assert suite(SUBSAMPLE_TASKS="task2").space.tasks[0].id == 2


def test_a_moved_root(tmp_path):
    class_folders(tmp_path / "here" / "d")
    cfg = config("Suite", TASKS=[{"ROOT": str(tmp_path / "there" / "d")}])
    cfg.DATALOADER.OLD_DATA_PATH, cfg.DATALOADER.NEW_DATA_PATH = str(tmp_path / "there"), str(tmp_path / "here")
    assert sizes(build_dataset(cfg)) == [15, 6, 9]


def test_root_is_looked_for_below_the_data_root_and_in_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    class_folders(tmp_path / "d", ("a", "b"))
    assert own({"ROOT": "d"}).classnames == own({"ROOT": "d"}, root=tmp_path / "other").classnames == ["a", "b"]
    class_folders(tmp_path / "other" / "d", ("x", "y"))
    assert own({"ROOT": "d"}, root=tmp_path / "other").classnames == ["x", "y"]


# ---- settings --------------------------------------------------------------------------------------------------------

ENTRY = {"ROOT": "photos", "CLASSNAMES": {"0": "cat", "1": "dog"}, "TASK_NAME": "pets"}


def test_yaml_to_config_and_back(tmp_path):
    (tmp_path / "a.yaml").write_text(
        yaml.safe_dump({"DATASET": {"TASKS": [{**ENTRY, "CLASSNAMES": {0: "cat", 1: "dog"}}]}})
    )
    cfg = get_cfg_default()
    load(cfg, [tmp_path / "a.yaml"])
    assert cfg.DATASET.TASKS == [ENTRY]
    (tmp_path / "b.yaml").write_text(cfg.dump())
    again = get_cfg_default()
    load(again, [tmp_path / "b.yaml"])
    assert again.DATASET.TASKS == [ENTRY] and config_hash(again) == config_hash(cfg)
    assert "photos" in str(cfg) and cfg.clone().DATASET.TASKS == [ENTRY]
    other = get_cfg_default()
    load(other, [tmp_path / "a.yaml"], ["DATASET.TASKS", "OxfordPets"])
    assert other.DATASET.TASKS == ["OxfordPets"]


@pytest.mark.parametrize(
    "text, expected",
    [
        ("OxfordPets", ["OxfordPets"]),
        ("OxfordPets, Icon13/faces", ["OxfordPets", "Icon13/faces"]),
        ("[OxfordPets, {ROOT: photos}]", ["OxfordPets", {"ROOT": "photos"}]),
        ("['OxfordPets', {'ROOT': 'photos'}]", ["OxfordPets", {"ROOT": "photos"}]),
        ("('OxfordPets', 'Icon13')", ["OxfordPets", "Icon13"]),
        ("{ROOT: photos, CLASSNAMES: {0: cat, 1: dog}}", [{"ROOT": "photos", "CLASSNAMES": {"0": "cat", "1": "dog"}}]),
    ],
)
def test_tasks_as_one_text(text, expected):
    cfg = get_cfg_default()
    load(cfg, [], ["DATASET.TASKS", text])
    found = cfg.DATASET.TASKS
    assert found == expected


def test_a_text_that_is_no_list():
    with pytest.raises(ConfigError, match=r"DATASET.TASKS = \[\{ROOT: photos: expected a list such as"):
        load(get_cfg_default(), [], ["DATASET.TASKS", "[{ROOT: photos"])


def test_in_a_suite_own_images_are_known_by_the_same_keys_wherever_they_lie(tmp_path):
    """The keys decide what training makes of an image; each is below its own root, and the longer root counts."""

    def keys(place):
        class_folders(place / "photos")
        class_folders(place / "photos" / "more" / "birds")
        tasks = [{"ROOT": str(place / "photos" / "more" / "birds")}, "Icon13/faces"]
        cfg = config("Suite", place / "photos", TASKS=[{"ROOT": str(place / "photos")}, *tasks], NUM_SHOTS=2)
        cfg.VERBOSE = False
        views = DataManager(cfg).train_loader_x.dataset
        return [image_key(item, views.image_root) for item in views.data_source]

    here, there = keys(tmp_path / "here"), keys(tmp_path / "over" / "there")
    assert here == there
    assert not any(os.path.isabs(key) or "birds" in key for key in here)
    assert sum(key.startswith("faces/") for key in here) == 64
