"""Tagging tasks in data: several classes of one task per image, in own tables, split files, ELEVATER and samples."""

import json
import random
from collections import Counter

import pytest
import yaml

import datasets  # noqa: F401
from dassl.data import DataManager
from dassl.data.datasets import build_dataset
from dassl.data.datasets.base_dataset import labels_of
from datasets.source import SPLITS
from datasets.suites import SOURCES
from tests.datasets import layouts
from tests.datasets.own.images import draw, table
from tests.datasets.settings import config

ROWS = [
    ("a.png", "cat;dog", "happy", "train"),
    ("b.png", "owl", "", "train"),
    ("c.png", " dog; owl;", "sad", "val"),
    ("d.png", "", "sad", "test"),
    ("e.png", "cat;dog;owl", "happy", "test"),
]
COLUMNS = "path,things,mood,split"
TASKS = {"things": {"METRIC": "mAP"}, "mood": {}}
EXPECTED = {
    "train_x": {"a.png": [(0, 0), (0, 1), (1, 0)], "b.png": [(0, 2)]},
    "val": {"c.png": [(0, 1), (0, 2), (1, 1)]},
    "test": {"d.png": [(1, 1)], "e.png": [(0, 0), (0, 1), (0, 2), (1, 0)]},
}


def own(file, tasks=TASKS, seed=1, dataset=None, **entry):
    inner = {"TASKS": tasks} if tasks else {}
    return build_dataset(config("Suite", "", seed, TASKS=[{"ROOT": str(file), **inner, **entry}], **dataset or {}))


def read(items):
    return {item.impath.rpartition("/")[2]: sorted(labels_of(item)) for item in items}


def parts(dataset):
    return {split: read(getattr(dataset, split)) for split in EXPECTED}


def test_several_labels_in_a_cell_a_list_or_several_rows(tmp_path):
    dataset = own(table(tmp_path / "t.csv", ROWS, COLUMNS))
    assert parts(dataset) == EXPECTED and dataset.space.tasks[0].classnames == ("cat", "dog", "owl")
    keys = COLUMNS.split(",")
    rows = [dict(zip(keys, row, strict=True)) for row in ROWS]
    rows = [{**row, "things": [tag for tag in row["things"].replace(" ", "").split(";") if tag]} for row in rows]
    (tmp_path / "t.yaml").write_text(yaml.safe_dump(rows))
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name in ("t.yaml", "t.jsonl"):
        assert parts(own(tmp_path / name)) == EXPECTED
    long = [(path, tag, mood, part) for path, tags, mood, part in ROWS for tag in tags.split(";")]
    assert parts(own(table(tmp_path / "long.csv", long, COLUMNS))) == EXPECTED


def test_a_single_task_has_its_tags_in_the_column_label(tmp_path):
    rows = [(path, tags and f"{tags};-1", part) for path, tags, _, part in ROWS]  # -1 is never a tag
    dataset = own(table(tmp_path / "t.csv", rows, "path,label,split"), None, METRIC="mAP_11_points")
    assert read(dataset.train_x) == {"a.png": [(0, 0), (0, 1)], "b.png": [(0, 2)]}
    assert list(read(dataset.test)) == ["e.png"]
    assert dataset.space.tasks[0].key == "t" and dataset.space.tagging.tolist() == [True]


def test_a_split_file_with_several_labels_of_a_task(tmp_path):
    ids, moods = ("cat", "dog", "owl"), ("happy", "sad")
    content = {part: [] for part in SPLITS}
    for path, tags, mood, part in ROWS:
        pairs = [(ids.index(tag.strip()), 0) for tag in tags.split(";") if tag.strip()]
        pairs += [(moods.index(mood), 1)] if mood else []
        content[part].append([path, *map(list, zip(*pairs, strict=True))])
    meta = {"taskid2cname": {"0": ids, "1": moods}, "taskid2tname": {"0": "things", "1": "moods"}}
    draw(tmp_path, *(row[0] for row in ROWS))
    file = tmp_path / "split_dk_t.json"
    for meta_metric, tasks in (({"0": "mAP"}, ["things", "mood"]), ({}, TASKS)):
        file.write_text(json.dumps({**content, "meta": {**meta, "taskid2metric": meta_metric}}))
        dataset = own(file, tasks)
        assert parts(dataset) == EXPECTED and dataset.space.tasks[0].metric == "mAP"
    with pytest.raises(ValueError, match="a.png in train with the labels 0 and 1.*only a task with METRIC mAP may"):
        own(file, ["things", "mood"])
    with pytest.raises(ValueError, match="mood: METRIC mAP is for images with several labels"):
        own(file, {"things": {"METRIC": "mAP"}, "mood": {"METRIC": "mAP"}})


@pytest.mark.parametrize(
    "tasks, rows, expected",
    [
        ({"things": {"METRIC": "map"}, "mood": {}}, ROWS, "METRIC is 'map', expected overall_acc or"),
        (
            {"things": {}, "mood": {}},
            ROWS,
            "things: found 'cat;dog', several labels of an image; expected one, or",
        ),
        ({"mood": {"METRIC": "mAP"}}, ROWS, "mood: METRIC mAP is for images with several labels (cat;dog), and every"),
        (
            {"things": {"METRIC": "roc_auc"}},
            [(f"{c}.png", c, "", "train") for c in "abc"],
            "roc_auc is for two classes",
        ),
        (
            {"things": {"METRIC": "mAP", "CLASSNAMES": {"cat": "a cat", "dogs": "a dog"}}},
            ROWS,
            "a name for the label 'dogs', which no image has; did you mean dog?",
        ),
        (
            {"things": {}, "mood": {}},
            [*ROWS[1:], ("b.png", "cat", "", "train")],
            "b.png, things: 'owl' in line 2, 'cat' in line 6; only a task with METRIC mAP may have several labels",
        ),
    ],
)
def test_typical_mistakes(tmp_path, tasks, rows, expected):
    with pytest.raises(ValueError) as error:
        own(table(tmp_path / "t.csv", rows, COLUMNS), tasks)
    assert expected in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "tasks, cell, expected",
    [
        (TASKS, ["cat", None], "line 1: things is ['cat', None], expected names without ';'"),
        (TASKS, ["salt; pepper"], "line 1: things is ['salt; pepper'], expected names without ';'"),
        ({"things": {}}, ["cat", "dog"], "line 1: things is ['cat', 'dog'], expected one label; METRIC mAP allows"),
    ],
)
def test_lists_hold_names_of_tagging_tasks(tmp_path, tasks, cell, expected):
    (tmp_path / "t.jsonl").write_text(json.dumps({"path": "a.png", "things": cell}))
    with pytest.raises(ValueError) as error:
        own(tmp_path / "t.jsonl", tasks)
    assert expected in str(error.value)


def test_class_folders_have_no_tags(tmp_path):
    draw(tmp_path, "cat/1.png", "dog/1.png")
    with pytest.raises(ValueError, match="no table with the columns path, label"):
        own(tmp_path, None, METRIC="mAP")


@pytest.fixture(scope="module")
def tagged(tmp_path_factory):
    """A table of 60 images with one to three of six tags, some without, and a label of a second task."""
    rng, rows = random.Random(4), []
    for i in range(60):
        tags = rng.sample("uvwxyz", rng.randint(0, 3))
        rows.append((f"{i}.png", ";".join(tags), rng.choice(["one", "two", ""])))
    return table(tmp_path_factory.mktemp("tagged") / "t.csv", rows, "path,things,mood"), rows


def test_samples_have_k_images_per_class_all_their_tags_and_are_nested(tagged):
    file, rows = tagged
    tags = {path: set(cell.split(";")) - {""} for path, cell, _ in rows}
    smaller = {}
    for shots in (1, 2, 4):
        dataset = own(file, dataset={"NUM_SHOTS": shots})
        found = read(dataset.train_x)
        assert found == read(own(file, dataset={"NUM_SHOTS": shots}).train_x)
        names = dataset.space.tasks[0].classnames
        count = Counter(label for pairs in found.values() for task, label in pairs if task == 0)
        assert min(count[label] for label in range(6)) >= shots and len(found) <= 8 * shots
        for path, pairs in found.items():
            own_tags = {names[label] for task, label in pairs if task == 0}
            assert own_tags in (set(), tags[path])  # all of them, or missing
        assert all(set(pairs) <= set(found[path]) for path, pairs in smaller.items())
        smaller = found
    assert read(own(file, seed=2, dataset={"NUM_SHOTS": 4}).train_x) != smaller
    alone = read(own(file, dataset={"NUM_SHOTS": 4, "SUBSAMPLE_TASKS": "things"}).train_x)
    expected = {path: [pair for pair in pairs if pair[0] == 0] for path, pairs in smaller.items()}
    assert alone == {path: pairs for path, pairs in expected.items() if pairs}


def test_one_split_by_image_is_made(tagged):
    found = parts(own(tagged[0]))
    paths = [path for images in found.values() for path in images]
    assert len(paths) == len(set(paths)) and min(map(len, found.values())) > 3


def test_base_classes_are_those_of_half_of_the_tags(tagged):
    whole, base = own(tagged[0]), own(tagged[0], dataset={"SUBSAMPLE_CLASSES": "base"})
    expected = {path: [(t, c) for t, c in pairs if c < (3, 1)[t]] for path, pairs in read(whole.test).items()}
    assert read(base.test) == {path: pairs for path, pairs in expected.items() if pairs}


@pytest.mark.parametrize("validation", [False, True])
def test_a_file_of_few_shots_lists_images_with_all_their_labels(tagged, tmp_path, validation):
    whole = own(tagged[0])
    train, val = list(read(whole.train_x)), list(read(whole.val))
    lists = {"train": [*train[:5], train[0], val[0]], "val": val[1:4] if validation else []}
    (tmp_path / "few.json").write_text(
        json.dumps({part: [{"path": p} for p in paths] for part, paths in lists.items()})
    )
    few = own(tagged[0], dataset={"FEWSHOT_SPLIT": str(tmp_path / "few.json"), "NUM_SHOTS": 1})
    every = read([*whole.train_x, *whole.val])
    assert read(few.train_x) == {path: every[path] for path in lists["train"]}
    assert few.fewshot_split["shots"] == 1 and val[0] not in read(few.val)
    if validation:
        assert read(few.val) == {path: every[path] for path in lists["val"]}
    again = own(tagged[0], dataset={"FEWSHOT_SPLIT": str(tmp_path / "few.json")})
    assert read(again.train_x) == read(few.train_x)


def test_voc_is_divided_by_image_and_beside_other_tasks_every_label_is_coded(tmp_path):
    layouts.make("VOC2007Classification", tmp_path, images=8)
    source = SOURCES["VOC2007Classification"].load(str(tmp_path))
    paths = [{item.path for item in getattr(source, split)} for split in SPLITS]
    assert len(set.union(*paths)) == sum(map(len, paths)) == 160 and [len(p) for p in paths][2] == 80
    assert sum(len(getattr(source, split)) for split in SPLITS) == 240 and len(paths[1]) >= 10
    source.save()
    assert SOURCES["VOC2007Classification"].load(str(tmp_path)).train == source.train
    dm = DataManager(config("Suite", tmp_path, TASKS=["VOC2007Classification", "Icon13/faces"], NUM_SHOTS=1))
    assert dm.space.tasks[0].metric == "mAP_11_points" and dm.space.tasks[0].templates[0] == "a photo of a {}."
    counts = Counter(pair for item in dm.dataset.train_x for pair in labels_of(item))
    assert min(counts[0, label] for label in range(20)) >= 1
    assert all(dm.train_loader_x.dataset[i]["label"].shape == (dm.num_classes,) for i in (0, -1))
