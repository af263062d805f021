"""Every mistake in own data gets a one-line message."""

import json
import os
import shutil

import pytest

import datasets  # noqa: F401
from dassl.data.datasets import build_dataset
from tests.datasets.own.images import class_folders, draw, table
from tests.datasets.settings import config


def refused(*entries, kind=ValueError, root=""):
    with pytest.raises(kind) as error:
        build_dataset(config("Suite", root, TASKS=list(entries)))
    return str(error.value)


@pytest.mark.parametrize(
    "change, expected",
    [
        ({"TASKNAME": "x"}, "unknown key 'TASKNAME'; did you mean TASK_NAME?"),
        ({"classnames": []}, "unknown key 'classnames'; did you mean CLASSNAMES?"),
        ({"ROOT": None}, "DATASET.TASKS, entry 1: ROOT, the folder or table of the images, is missing"),
        (
            {"METRIC": "mean_accuracy"},
            "METRIC is 'mean_accuracy', expected overall_acc or mean_acc or macro_f1 or roc_auc or mAP or",
        ),
        ({"TEMPLATE": "a photo"}, "TEMPLATE is 'a photo', expected a text with one {} for the class name"),
        ({"TEMPLATE": ["a {}.", "it"]}, "TEMPLATE is ['a {}.', 'it']"),
        ({"TEMPLATE": "a {} or {}"}, "TEMPLATE is 'a {} or {}'"),
        ({"TEMPLATE": "{} {x}"}, "TEMPLATE is '{} {x}'"),
        ({"TEMPLATE": "{} {"}, "TEMPLATE is '{} {'"),
        ({"TEMPLATE": "{:>5}"}, "TEMPLATE is '{:>5}'"),
        ({"NAME": "a/b"}, "NAME is 'a/b', which must not contain a slash"),
        ({"NAME": "n" * 300}, "NAME is of 300 characters, expected at most 80 printable characters"),
        ({"NAME": ".."}, "NAME is '..', expected at most 80 printable characters without a leading dot"),
        ({"NAME": "a\nb"}, "NAME is 'a\\nb', expected at most 80 printable characters"),
        ({"TASK_NAME": ["x"]}, "TASK_NAME is ['x'], expected a text"),
        ({"CLASSNAMES": "x"}, "CLASSNAMES is 'x', expected {label: name} or a list of names"),
        ({"CLASSNAMES": {"ant": True}}, "CLASSNAMES has True, expected texts; put yes, no, on, off into quotes"),
        ({"CLASSNAMES": ["a", "a"]}, "CLASSNAMES has 'a' twice"),
    ],
)
def test_entries(change, expected):
    text = refused({"ROOT": "photos", **change})
    assert expected in text and text.startswith("DATASET.TASKS, entry 1") and "\n" not in text


def test_pipes_devices_and_links_to_a_folder_itself_are_refused_and_nothing_waits(tmp_path):
    for name, make in (("pipe", os.mkfifo), ("device", lambda path: os.symlink("/dev/zero", path))):
        folder = class_folders(tmp_path / name)
        make(folder / "ant" / "x.png")
        assert f"x.png: a {name}, not a file" in refused({"ROOT": str(folder)})
    os.mkfifo(tmp_path / "table.csv")
    assert "table.csv: found a pipe" in refused({"ROOT": str(tmp_path / "table.csv")})
    folder = class_folders(tmp_path / "with_table")
    os.mkfifo(folder / "labels.csv")
    assert "labels.csv: a pipe, not a file" in refused({"ROOT": str(folder)})
    folder = class_folders(tmp_path / "circle")
    os.symlink("..", folder / "loop")
    assert "the class folder loop is a link to a folder that contains it" in refused({"ROOT": str(folder)})
    folder = class_folders(tmp_path / "inner_circle")
    os.symlink("..", folder / "ant" / "loop")
    build_dataset(config("Suite", "", TASKS=[{"ROOT": str(folder)}]))


def test_misspelt_parts_and_unusable_tables_are_told(tmp_path, capsys):
    for part in ("trian", "test"):
        class_folders(tmp_path / "a" / part)
    assert "has the folder trian beside test; rename trian, e.g. to train" in refused({"ROOT": str(tmp_path / "a")})
    class_folders(tmp_path / "b" / "train")
    class_folders(tmp_path / "b" / "vall")
    assert "has the folder vall beside train; rename vall, e.g. to val" in refused({"ROOT": str(tmp_path / "b")})
    rows = [(f"images/{name}/{i}.png", name) for name in ("ant", "bee") for i in range(3)]
    table(tmp_path / "c" / "labels.csv", rows, columns=",".join(rows[0]))
    expected = "the table labels.csv is not used, because its first line is images/ant/0.png, ant"
    assert expected in refused({"ROOT": str(tmp_path / "c")})
    table(tmp_path / "d" / "labels.csv", [(*row, "x") for row in rows], columns="path,label,label")
    assert "has the column label twice" in refused({"ROOT": str(tmp_path / "d")})
    table(tmp_path / "e" / "labels.csv", [(path, "9" * 5000 if name == "ant" else "0") for path, name in rows])
    build_dataset(config("Suite", "", TASKS=[{"ROOT": str(tmp_path / "e")}]))
    class_folders(tmp_path / "f", ("Ant", "ant"))
    capsys.readouterr()
    build_dataset(config("Suite", "", TASKS=[{"ROOT": str(tmp_path / "f")}]))
    assert "WARNING: CLIP ignores case, so it cannot tell Ant, ant apart" in capsys.readouterr().out


def test_all_problems_of_an_entry_at_once_and_which_entry():
    text = refused("Icon13/faces", {"ROOT": "photos", "METRIC": "f1", "ROOTS": "x"})
    assert (
        text.startswith("DATASET.TASKS, entry 2 (photos): ")
        and "METRIC" in text
        and "'ROOTS'; did you mean ROOT" in text
    )


def test_names():
    assert "two tasks named 'd' (a/d and b/d)" in refused({"ROOT": "a/d"}, {"ROOT": "b/d"})
    assert "OxfordPets is a registered dataset" in refused({"ROOT": "a", "NAME": "OxfordPets"})
    assert "both have a task 'faces'" in refused({"ROOT": "a", "NAME": "faces"}, "Icon13/faces")
    assert "a registered dataset is listed as its name alone" in refused({"NAME": "OxfordPets"})
    assert "unknown dataset 'OxfordPet'; did you mean OxfordPets?" in refused("OxfordPet", {"ROOT": "a"})


def test_a_folder_that_is_not_there(tmp_path):
    text = refused({"ROOT": "photoz"}, kind=FileNotFoundError, root=tmp_path)
    assert f"ROOT photoz does not exist: looked for {tmp_path / 'photoz'} or " in text
    text = refused({"ROOT": str(tmp_path / "x")}, kind=FileNotFoundError)
    assert f"looked for {tmp_path / 'x'};" in text and "not set" not in text


def test_a_folder_that_is_given_as_a_name(tmp_path, monkeypatch):
    class_folders(tmp_path / "my" / "photos")
    monkeypatch.chdir(tmp_path)
    assert "unknown dataset 'my'; own data are listed as {ROOT: my/photos}" in refused("my/photos")


def test_folders_without_classes(tmp_path):
    (tmp_path / "empty").mkdir()
    assert "has no class folder: found 0 images and no folder; expected one folder per class" in refused(
        {"ROOT": str(tmp_path / "empty")}
    )
    draw(tmp_path / "flat", "1.png", "2.png")
    assert "has no class folder: found 2 images and no folder" in refused({"ROOT": str(tmp_path / "flat")})
    table(tmp_path / "flat" / "list.csv", [("1.png", "a")], "image,class", draws=False)
    assert "and the table list.csv with the columns image, class; expected one folder per class" in refused(
        {"ROOT": str(tmp_path / "flat")}
    )


def test_parts_without_class_folders(tmp_path):
    class_folders(tmp_path / "a" / "train")
    draw(tmp_path / "a", "train/cover.png", "test/1.png")
    text = refused({"ROOT": str(tmp_path / "a")})
    assert (
        "has the folders test, train; found 1 image and 3 folders in train, expected class folders and no image" in text
    )
    draw(tmp_path / "a", "bus/1.png")  # beside another class, train is a class
    build_dataset(config("Suite", TASKS=[{"ROOT": str(tmp_path / "a")}], SUBSAMPLE_CLASSES="all"))


def test_names_and_texts_that_are_not_utf8(tmp_path):
    folder = class_folders(tmp_path / "d")
    (folder / "task_name.txt").write_bytes("Käse".encode("latin-1"))
    assert "task_name.txt is not text in UTF-8" in refused({"ROOT": str(folder)})
    try:
        os.rename(folder / "ant" / "1.png", os.fsencode(folder) + b"/ant/\xe4.png")
    except OSError:
        pytest.skip("the disk accepts names in UTF-8 only")
    assert "the names of 1 image are not UTF-8: 'ant/\\udce4.png'; rename them" in refused({"ROOT": str(folder)})


def test_an_empty_class_name(tmp_path):
    folder = class_folders(tmp_path / "d", ("_", "ant"))
    assert "the class name of the label '_' is empty; give it one in CLASSNAMES" in refused({"ROOT": str(folder)})


def test_nothing_to_test_on(tmp_path):
    for part in ("train", "test"):
        class_folders(tmp_path / "d" / part)
    build_dataset(config("Suite", TASKS=[{"ROOT": str(tmp_path / "d")}]))
    shutil.rmtree(tmp_path / "d" / "test")
    text = refused({"ROOT": str(tmp_path / "d")})
    assert "split_own_d.json has images to test on; put them back, or delete" in text
    (tmp_path / "d" / "mine.json").write_text(json.dumps({"train": ["train/ant/1.png"], "val": [], "test": []}))
    assert "mine.json has no image" in refused({"ROOT": str(tmp_path / "d"), "SPLIT": "mine.json"})


def test_one_class_only_and_one_folder_too_deep(tmp_path):
    class_folders(tmp_path / "one", ("ant",))
    assert "found one class only, ant; a task needs two or more" in refused({"ROOT": str(tmp_path / "one")})
    inner = class_folders(tmp_path / "deep" / "photos")
    assert f"if these are the classes, ROOT is {inner}" in refused({"ROOT": str(tmp_path / "deep")})


def test_a_class_folder_without_an_image(tmp_path):
    folder = class_folders(tmp_path / "d")
    (folder / "dog").mkdir()
    assert "the class folder dog has no image; fill or remove it" in refused({"ROOT": str(folder)})
    (folder / "dog" / "IMG_1.HEIC").write_bytes(b"x")
    assert "the class folder dog has no image; convert its 1 .heic file" in refused({"ROOT": str(folder)})


@pytest.mark.parametrize(
    "columns, rows, expected",
    [
        ("path,class", [("1.png", "a")], "no column label among path, class; a table has the columns path,label"),
        ("1.png,a", [("2.png", "b")], "no column path and label among 1.png, a"),
        ("path,label", [("1.png", ""), ("2.png", "a"), ("", "a")], "2 lines without a path or a label: line 2, line 4"),
        (
            "path,label",
            [("1.png", "a"), ("1.png", "b")],
            "1 image with two labels: 1.png: 'a' in line 2, 'b' in line 3",
        ),
        (
            "path,label,split",
            [("1.png", "a", "train"), ("./1.png", "a", "test")],
            "1 image in two splits: 1.png: train in line 2, test in line 3",
        ),
        ("path,label,split", [("1.png", "a", "holdout")], "1 line whose split is none of train, "),
        (
            "path,label,split",
            [("1.png", "a", "test"), ("2.png", "b", "")],
            "1 image without a split, though others have",
        ),
    ],
)
def test_tables(tmp_path, columns, rows, expected):
    file = table(tmp_path / "list.csv", rows, columns)
    text = refused({"ROOT": str(file)})
    assert expected in text and str(file) in text and "\n" not in text


def test_a_misspelt_split_is_one_problem(tmp_path):
    file = table(tmp_path / "list.csv", [("1.png", "a", "train"), ("2.png", "b", "tset")], "path,label,split")
    assert refused({"ROOT": str(file)}).endswith(": line 3 ('tset')")


def test_a_table_with_images_that_are_not_there(tmp_path):
    file = table(tmp_path / "list.csv", [(f"{i}.png", "ab"[i % 2]) for i in range(9)])
    for i in range(1, 6):
        (tmp_path / f"{i}.png").unlink()
    text = refused({"ROOT": str(file)}, kind=FileNotFoundError)
    assert "5 of 9 images are missing" in text and "1.png, 2.png, 3.png and 2 more" in text


def test_tables_that_cannot_be_read(tmp_path):
    (tmp_path / "a.csv").write_bytes("path,label\nä.png,a\n".encode("latin-1"))
    assert "in UTF-8" in refused({"ROOT": str(tmp_path / "a.csv")})
    (tmp_path / "b.csv").write_text("path,label\n")
    assert "lists no image" in refused({"ROOT": str(tmp_path / "b.csv")})
    (tmp_path / "c.xlsx").write_bytes(b"x")
    assert "found a .xlsx, expected a folder, .csv or .tsv" in refused({"ROOT": str(tmp_path / "c.xlsx")})
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "1.png", "label": "a"}\nbroken\n')
    assert "metadata.jsonl, line 2" in refused({"ROOT": str(tmp_path / "metadata.jsonl")})
    (tmp_path / "metadata.jsonl").unlink()
    for name in ("x.csv", "y.csv"):
        table(tmp_path / "two" / name, [("1.png", "a")])
    assert "several tables of images: x.csv, y.csv; give one as ROOT" in refused({"ROOT": str(tmp_path / "two")})


def test_class_names(tmp_path):
    folder = class_folders(tmp_path / "d")
    text = refused({"ROOT": str(folder), "CLASSNAMES": {"ants": "red ant"}})
    assert "CLASSNAMES has a name for the label 'ants', which no image has; did you mean ant?" in text
    assert "CLASSNAMES has no name for 1 label: cow" in refused({"ROOT": str(folder), "CLASSNAMES": ["ant", "bee"]})
    numbers = table(tmp_path / "n" / "l.csv", [(f"{i}.png", str(i % 3)) for i in range(9)])
    assert "CLASSNAMES has no name for 1 label: 2" in refused({"ROOT": str(numbers), "CLASSNAMES": ["a", "b"]})
    assert "CLASSNAMES has no name for 1 label: 1" in refused(
        {"ROOT": str(numbers), "CLASSNAMES": {"0": "a", "2": "b"}}
    )
    text = refused({"ROOT": str(numbers), "CLASSNAMES": list("abcde")})
    assert "CLASSNAMES has 5 names, for the labels 0 to 4, but no image has the labels '3', '4'; labels of" in text
    twins = class_folders(tmp_path / "t", ("red_ant", "red ant"))
    assert "the labels 'red ant' and 'red_ant' have one class name, 'red ant'" in refused({"ROOT": str(twins)})


def test_split_files(tmp_path):
    folder = class_folders(tmp_path / "d")
    build_dataset(config("Suite", TASKS=[{"ROOT": str(folder)}]))
    file = folder / "split_own_d.json"
    (folder / "ant" / "3.png").unlink()
    text = refused({"ROOT": str(folder)}, kind=FileNotFoundError)
    assert (
        "1 of 30 images of" in text and " is missing from " in text and "ant/3.png" in text and f"delete {file}" in text
    )
    draw(folder, "ant/3.png", "dog/1.png", "dog/2.png")
    assert "has no image of the classes dog" in refused({"ROOT": str(folder)})
    file.write_text("{}")
    assert "is not a split file (KeyError: 'train')" in refused({"ROOT": str(folder)})
    file.write_text(json.dumps({"train": ["ant/1.png", "ant/1.png"], "val": [], "test": []}))
    assert "names 1 image more than once" in refused({"ROOT": str(folder)})
    assert f"the SPLIT file {folder / 's.json'} does not exist" in refused(
        {"ROOT": str(folder), "SPLIT": "s.json"}, kind=FileNotFoundError
    )


def test_two_folders_for_one_part_and_validation_alone(tmp_path):
    for part in ("train", "val", "valid"):
        class_folders(tmp_path / "a" / part, count=2)
    assert "several folders for one part: val, valid" in refused({"ROOT": str(tmp_path / "a")})
    rows = [(f"{i}.png", "ab"[i % 2], "val") for i in range(4)]
    file = table(tmp_path / "b" / "list.csv", rows, "path,label,split")
    assert "found only validation images" in refused({"ROOT": str(file)})
