"""Own images with labels of several tasks: from tables and from SoftCPT's split files."""

import json

import pytest
import yaml

import datasets  # noqa: F401
from dassl.config import get_cfg_default, load
from dassl.data import DataManager
from dassl.data.datasets import build_dataset
from dassl.data.datasets.base_dataset import labels_of
from datasets.doctor.report import examine
from datasets.own import OwnSource
from tests.datasets.own.images import draw, table
from tests.datasets.settings import config

ROWS = [
    ("a.png", "old", "glad", "train"),
    ("b.png", "young", "", "train"),
    ("c.png", "old", "sad", "val"),
    ("d.png", "-1", "glad", "test"),
    ("e.png", "young", "sad", "test"),
]
TASKS = {"age": {"TASK_NAME": "age groups", "CLASSNAMES": {"old": "an old person"}}, "mood": {"METRIC": "mean_acc"}}
COLUMNS = "path,age,mood,split"


def own(file, tasks=TASKS, seed=1, **dataset):
    return build_dataset(config("Suite", "", seed, TASKS=[{"ROOT": str(file), "TASKS": tasks}], **dataset))


def read(items):
    """{file name: [(task, label), …]}"""
    return {item.impath.rpartition("/")[2]: labels_of(item) for item in items}


def refused(rows, tasks=TASKS, kind=ValueError, columns=COLUMNS, folder=None, **entry):
    file = table(folder / "faces.csv", rows, columns)
    with pytest.raises(kind) as error:
        build_dataset(config("Suite", "", TASKS=[{"ROOT": str(file), "TASKS": tasks, **entry}]))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_column_per_task(tmp_path):
    dataset = own(table(tmp_path / "faces.csv", ROWS, COLUMNS))
    age, mood = dataset.space.tasks
    assert (age.key, age.name, age.classnames) == ("age", "age groups", ("an old person", "young"))
    assert (mood.key, mood.name, mood.classnames, mood.metric) == ("mood", "mood", ("glad", "sad"), "mean_acc")
    assert read(dataset.train_x) == {"a.png": [(0, 0), (1, 0)], "b.png": [(0, 1)]}
    assert read(dataset.val) == {"c.png": [(0, 0), (1, 1)]}
    assert read(dataset.test) == {"d.png": [(1, 0)], "e.png": [(0, 1), (1, 1)]}


def test_the_same_from_jsonl_yaml_and_the_command_line(tmp_path, capsys):
    expected = own(table(tmp_path / "faces.csv", ROWS, COLUMNS))
    keys = COLUMNS.split(",")
    rows = [{k: v for k, v in zip(keys, row, strict=True) if v not in ("", "-1")} for row in ROWS]
    (tmp_path / "faces.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "faces.yaml").write_text(yaml.safe_dump(rows))
    for name in ("faces.jsonl", "faces.yaml"):
        found = own(tmp_path / name)
        assert (found.train_x, found.test, found.space) == (expected.train_x, expected.test, expected.space)
    # long form: one row per label, and tasks under other names than their columns
    (tmp_path / "long.csv").write_text(
        COLUMNS + "\n" + "".join(f"{p},{a},,{s}\n{p},,{m},{s}\n" for p, a, m, s in ROWS if m) + "b.png,young,,train\n"
    )
    cfg = get_cfg_default()
    inner = "{years: {COLUMN: Age, TASK_NAME: age groups, CLASSNAMES: {old: an old person}}, mood: {METRIC: mean_acc}}"
    text = f"[{{ROOT: '{tmp_path}/long.csv', TASKS: {inner}}}]"
    load(cfg, [], ["DATASET.NAME", "Suite", "DATASET.TASKS", text, "DATASET.SUBSAMPLE_TASKS", "years,mood"])
    found = build_dataset(cfg)
    assert [task.key for task in found.space.tasks] == ["years", "mood"]
    assert (read(found.train_x), read(found.test)) == (read(expected.train_x), read(expected.test))
    assert "left out: 1 line without a label of any task" in capsys.readouterr().out  # d.png has no age


def test_some_tasks_and_classes_have_the_labels_of_all(tmp_path):
    rows = [(f"{i}.png", "abc"[i % 3], "uvwx"[i * 7 % 4] if i % 5 else "", "rs"[i % 2]) for i in range(60)]
    file, tasks = table(tmp_path / "t.csv", rows, "path,one,two,three"), ["one", "two", "three"]
    for shots in (-1, 2):
        whole = own(file, tasks, NUM_SHOTS=shots)
        for split in ("train_x", "val", "test"):
            every = {(path, pair) for path, pairs in read(getattr(whole, split)).items() for pair in pairs}
            for t in range(3):
                part = own(file, tasks, NUM_SHOTS=shots, SUBSAMPLE_TASKS=f"task{t}")
                found = {(path, (t, label)) for path, [(_, label)] in read(getattr(part, split)).items()}
                assert found == {pair for pair in every if pair[1][0] == t}
            new = own(file, tasks, NUM_SHOTS=shots, SUBSAMPLE_CLASSES="new", SUBSAMPLE_TASKS="two")
            found = {(path, (1, label + 2)) for path, [(_, label)] in read(getattr(new, split)).items()}
            assert found == {pair for pair in every if pair[1][0] == 1 and pair[1][1] >= 2}
    counts = [sum((t, c) in pairs for pairs in read(whole.train_x).values()) for t, c in ((0, 0), (1, 3), (2, 1))]
    assert counts == [2, 2, 2] and len(whole.train_x) < 18
    assert len(own(file, tasks, NUM_SHOTS=2, VAL_SHOTS=1).val) < len(whole.val)
    assert own(file, tasks, NUM_SHOTS=2, VAL_SHOTS=0).val is None


def test_one_split_by_image_is_made_and_stays(tmp_path):
    rows = [(f"{i}.png", "abc"[i % 3], "rare" if i < 2 else "uv"[i % 2]) for i in range(30)]
    file = table(tmp_path / "t.csv", rows, "path,one,two")
    dataset = own(file, ["one", "two"])
    parts = [set(read(getattr(dataset, split))) for split in ("train_x", "val", "test")]
    assert [len(part) for part in parts] == [14, 6, 10] and len(set.union(*parts)) == 30
    rare = [any((1, 0) in pairs for pairs in read(getattr(dataset, split)).values()) for split in ("train_x", "test")]
    assert rare == [True, True]  # of two images one trains and one tests
    saved = json.loads((tmp_path / "split_own_t.json").read_text())
    assert set(saved["test"]) == parts[2]
    table(file, [(*row[:2], row[2] if row[0] != "5.png" else "") for row in rows], "path,one,two")
    again = own(file, ["one", "two"])
    assert [set(read(getattr(again, split))) for split in ("train_x", "val", "test")] == parts


def test_beside_a_registered_task_every_item_has_lists(tmp_path):
    file = table(tmp_path / "faces.csv", ROWS, COLUMNS)
    cfg = config("Suite", "", TASKS=[{"ROOT": str(file), "TASKS": TASKS}, "Icon13/faces"], NUM_SHOTS=1)
    dm = DataManager(cfg)
    assert [task.key for task in dm.space.tasks] == ["age", "mood", "faces"]
    assert all(isinstance(item.label, list) for item in dm.dataset.train_x + dm.dataset.test)
    places = dm.dataset.places["train_x"]
    assert len(places) == len(dm.dataset.train_x) and places[0] == "entry 1 of train of faces"
    batch = dm.train_loader_x.dataset[0]
    assert batch["label"].shape == (dm.num_classes,) and batch["task"] == 0


def test_images_are_counted_and_decoded_once(tmp_path):
    file = table(tmp_path / "faces.csv", ROWS, COLUMNS)
    report, _ = examine("faces", OwnSource({"ROOT": str(file), "TASKS": TASKS}), "")
    assert report.status == "usable" and report.images == {"train": 2, "val": 1, "test": 2}
    assert set(report.split_hashes) == {"age", "mood"}


@pytest.mark.parametrize(
    "tasks, entry, expected",
    [
        ({"ages": {}, "mood": {}}, {}, "no column ages among path, age, mood, split; a task under TASKS is a column"),
        ({"ages": {}, "mood": {}}, {}, "did you mean age?"),
        ({"age": {"CLASSNAMES": ["old"]}, "mood": {}}, {}, "age: CLASSNAMES has no name for 1 label: young"),
        ({"age": {"CLASSNAMES": ["old", "young", "baby"]}}, {}, "a name for the label 'baby', which no image has"),
        ({"age": {"METRICS": "x"}}, {}, "TASKS, age: unknown key 'METRICS'; did you mean METRIC?"),
        ({"age": "old"}, {}, "TASKS, age: found 'old', expected a mapping"),
        ({"age": {}, "years": {"COLUMN": "age"}}, {}, "TASKS has two tasks of the column 'age'"),
        ({"age": {}, "split": {}}, {}, "TASKS has the column 'split', which does not hold labels"),
        ("age", {}, "TASKS is age, expected columns of the table"),
        ({"a/b": {}}, {}, "TASKS, a/b: its name is 'a/b', which must not contain a slash"),
        (TASKS, {"TASK_NAME": "faces"}, "TASK_NAME belongs to a task under TASKS"),
    ],
)
def test_wrong_entries(tmp_path, tasks, entry, expected):
    assert expected in refused(ROWS, tasks, folder=tmp_path, **entry)


def test_wrong_tables(tmp_path, capsys):
    text = refused([*ROWS, ("a.png", "young", "", "train")], folder=tmp_path / "1")
    assert "1 image with two labels of one task: a.png, age: 'old' in line 2, 'young' in line 7" in text
    text = refused([*ROWS, ("b.png", "", "sad", "test")], folder=tmp_path / "2")
    assert "1 image in two splits: b.png: train in line 3, test in line 7" in text
    rows = [(path, age, "glad", part) for path, age, _, part in ROWS]
    assert "mood: found one class only, glad" in refused(rows, folder=tmp_path / "3")
    rows = [(path, age, "", part) for path, age, _, part in ROWS]
    assert "no image has a label in the column mood" in refused(rows, folder=tmp_path / "4")
    assert "lists no image with a label" in refused([("a.png", "", "", "train")], folder=tmp_path / "5")
    own(table(tmp_path / "6" / "faces.csv", [*ROWS, ("f.png", "", "", "test")], COLUMNS))
    assert "faces: left out: 1 line without a label of any task" in capsys.readouterr().out
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "faces.csv").write_text(f"{COLUMNS}\ngone.png,old,sad,train\n")
    with pytest.raises(FileNotFoundError, match=r"1 of 1 images is missing.*gone\.png"):
        own(tmp_path / "7" / "faces.csv")
    dataset = own(table(tmp_path / "8" / "faces.csv", [*ROWS, ("f.png", "baby", "", "test")], COLUMNS))
    assert dataset.space.tasks[0].classnames == ("baby", "an old person", "young")
    assert "WARNING: no training image of 1 class of age: baby" in capsys.readouterr().out


# ---- split files of SoftCPT ----------------------------------------------------------------------------------------

META = {
    "taskid2cname": {"0": {"0": "old", "1": "young"}, "1": ["glad", "sad"]},
    "taskid2tname": {"0": "age groups", "1": "moods"},
    "taskid2desc": {"0": "how old somebody looks"},
    "taskid2metric": {"0": "mean_acc"},
}


def split_dk(folder, change=None):
    parts = {"train": [], "val": [], "test": []}
    for path, age, mood, part in ROWS:
        pairs = [(["old", "young"].index(age), 0)] if age != "-1" else [(-1, 0)]
        pairs += [(["glad", "sad"].index(mood), 1)] if mood else []
        parts[part].append([path, [label for label, _ in pairs], [task for _, task in pairs]])
    content = {**parts, "meta": META}
    if change:
        change(content)
    draw(folder, *(row[0] for row in ROWS))
    (folder / "split_dk_faces.json").write_text(json.dumps(content))
    return folder / "split_dk_faces.json"


def test_lists_of_labels_in_a_split_file(tmp_path):
    expected = own(table(tmp_path / "faces.csv", ROWS, COLUMNS))
    dataset = own(split_dk(tmp_path), {"age": {"CLASSNAMES": {"1": "a young person"}}, "mood": {"METRIC": "macro_f1"}})
    age, mood = dataset.space.tasks
    assert (age.name, age.classnames, age.metric) == ("age groups", ("old", "a young person"), "mean_acc")
    assert (age.description, mood.name, mood.metric) == ("how old somebody looks", "moods", "macro_f1")
    for split in ("train_x", "val", "test"):
        assert read(getattr(dataset, split)) == read(getattr(expected, split))


@pytest.mark.parametrize(
    "change, tasks, kind, expected",
    [
        (None, ["age"], ValueError, "expected the class names of 1 tasks, found those of 2"),
        (None, None, ValueError, "ROOT is a split file; give keys for its tasks, e.g. TASKS: [age, emotion]"),
        (None, {"age": {"CLASSNAMES": ["x"]}, "mood": {}}, ValueError, "age: CLASSNAMES has 1 names for 2 classes"),
        (None, {"age": {"CLASSNAMES": {"olds": "x"}}, "mood": {}}, ValueError, "'olds', which is not a class; did you"),
        (lambda c: c["train"][0].__setitem__(1, [0]), ["age", "mood"], ValueError, "as many labels as tasks of a.png"),
        (
            lambda c: c["train"][0].__setitem__(1, [0, 2]),
            ["age", "mood"],
            ValueError,
            "label 2 of 2 class",
        ),
        (lambda c: c["test"].append(["a.png", [0], [1]]), ["age", "mood"], ValueError, "a.png in train and test"),
        (lambda c: c["test"].append(["b.png", [0], [1]]), ["age", "mood"], ValueError, "b.png in train and test"),
        (lambda c: c["train"].append(["a.png", [1], [0]]), ["age", "mood"], ValueError, "with the labels 0 and 1"),
        (lambda c: c["test"].append(["x.png", [0], [1]]), ["age", "mood"], FileNotFoundError, "1 of 6 images of the"),
    ],
)
def test_wrong_split_files(tmp_path, change, tasks, kind, expected):
    entry = {"ROOT": str(split_dk(tmp_path, change))} | ({} if tasks is None else {"TASKS": tasks})
    with pytest.raises(kind) as error:
        build_dataset(config("Suite", "", TASKS=[entry]))
    assert expected in str(error.value) and "\n" not in str(error.value)
