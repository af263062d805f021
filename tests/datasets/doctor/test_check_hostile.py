"""Whatever is asked for, and whatever lies on the disk: a clear line, never a traceback, never a wait without end."""

import os
import re

import pytest
from PIL import Image

from dassl.data.datasets import DATASET_REGISTRY, DatasetBase, Datum
from dassl.utils import UserError
from dassl.utils.errors import near_path
from datasets import download
from datasets.known.row import Row
from tests.datasets import layouts
from tests.datasets.checking import checked, field, refused

LONG = "x" * 5000


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The current folder, with a pipe, a circle of links, and YAML files that ask for odd things."""
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe.yaml")
    os.symlink("circle.yaml", "circle.yaml")
    os.symlink(".", "here")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("", "unknown suite or dataset ''"),
        (".", "unknown suite or dataset '.'"),
        ("a\nb", r"unknown suite or dataset 'a\\nb'"),
        (LONG, "unknown suite or dataset 'xxx"),
        ("a\0b", r"unknown suite or dataset 'a\\x00b'"),
        ("a\0b.yaml", "file not found"),
        (f"{LONG}.yaml", "file not found"),
        ("\udcff.yaml", "file not found"),
        ("pipe.yaml", "file not found|a pipe, not a file"),
        ("circle.yaml", "file not found"),
        ("here", "own data are described by a YAML file"),
        ("Icon13/nope", "has no task 'nope'"),
    ],
)
def test_names_that_ask_for_nothing(name, text, place, capsys):
    for program in ("check", "download"):
        if program == "check":
            err = refused(capsys, name, "--root", "data")
        else:
            assert download.main([name, "--root", "data"]) == 2
            err = capsys.readouterr().err
        assert err.startswith("error: ")
        assert re.search(text, err)
    assert not (place / "data").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xfe\x00",
        b"",
        b"3",
        b"[" * 3000,
        b"DATASET: 3",
        b"DATASET: {NAME: [1, 2]}",
        b"DATASET: {NAME: Nope}",
        b"DATASET: {ROOT: 7, NAME: EuroSAT}",
        b'DATASET: {ROOT: "a\\0b", NAME: EuroSAT}',
        b"DATASET: {NAME: EuroSAT, SUBSAMPLE_TASKS: x}",
        b"DATASET: {TASKS: [{ROOT: []}]}",
        b"DATASET: {TASKS: [3]}",
        b"DATASET: {TASKS: {a: b}}",
        b"DATASET: {TASKS: [EuroSAT, EuroSAT]}",
        b"_BASE_: a.yaml",
    ],
)
def test_yaml_files_that_ask_for_nothing(content, place, capsys):
    (place / "a.yaml").write_bytes(content)
    assert refused(capsys, "a.yaml", "--root", "data").startswith("error: ")
    assert download.main(["a.yaml", "--root", "data"]) == 2
    assert capsys.readouterr().err.startswith("error: ")


@pytest.mark.parametrize("root", ["/dev/null", "/nowhere", "circle.yaml", "pipe.yaml", LONG, "here/here/here"])
def test_data_roots_of_every_sort(root, place, capsys):
    status, text = checked(capsys, "EuroSAT", "--root", root)
    assert status == 1 and text.startswith("EuroSAT: ") and "Error" not in text


def test_a_summary_without_a_data_root(place, capsys):
    status, text = checked(capsys, "--root", "circle.yaml")
    assert status == 1 and " datasets usable below " in text


@pytest.mark.parametrize("root", ["/dev/null", "/dev/null/x", "/proc/x", "pipe.yaml", "circle.yaml", LONG, "a\0b"])
def test_data_roots_that_nothing_can_be_written_to(root, place, capsys):
    assert download.main(["KaggleFlower", "--root", root, "--mirror", "."]) in (1, 2)
    printed = capsys.readouterr()
    assert "Traceback" not in printed.out + printed.err and "KaggleFlower" in printed.out or "error: " in printed.err


def test_pipes_and_circles_among_images(tmp_path, capsys):
    layouts.make("EuroSAT", tmp_path)
    images = tmp_path / "eurosat/2750"
    os.symlink("circle", images / "circle")
    os.symlink("circle.jpg", images / "Forest" / "circle.jpg")
    status, text = checked(capsys, "EuroSAT", "--root", tmp_path, "--deep")
    assert status == 1 and "circle.jpg" in text
    (images / "Forest" / "circle.jpg").unlink()
    for file in sorted((images / "Forest").iterdir()):
        file.unlink()
        os.mkfifo(file)
    status, text = checked(capsys, "EuroSAT", "--root", tmp_path)
    assert status == 1 and "a pipe, not a file" in text


def test_a_class_written_for_dassl(tmp_path, capsys, monkeypatch):
    class Theirs(DatasetBase):
        def __init__(self, cfg):
            folder = os.path.join(cfg.DATASET.ROOT, "theirs")
            items = [
                Datum(impath=os.path.join(folder, name), label=label, classname="ab"[label])
                for label, name in enumerate(sorted(os.listdir(folder)))
            ]
            super().__init__(train_x=items, test=items)

    monkeypatch.setitem(DATASET_REGISTRY._objects, "Theirs", Theirs)
    (tmp_path / "theirs").mkdir()
    (tmp_path / "a.yaml").write_text("DATASET:\n  NAME: Theirs\n")
    for name in "ab":
        Image.new("RGB", (8, 8)).save(tmp_path / "theirs" / f"{name}.png")
    for name in ("theirs", tmp_path / "a.yaml"):
        status, text = checked(capsys, name, "--root", tmp_path, "--deep")
        assert status == 0, text
        assert "Theirs: usable, 1 task, 2 classes, 4 images" in text
    assert download.main(["Theirs", "--root", str(tmp_path)]) == 0
    assert "Theirs: nothing has to be downloaded, usable: 4 images" in capsys.readouterr().out
    status, text = checked(capsys, "Theirs", "--root", tmp_path / "nowhere")
    assert status == 1 and f"{tmp_path}/nowhere/theirs: No such file or directory" in text and "Errno" not in text
    monkeypatch.setattr(Theirs, "__init__", lambda self, cfg: 1 / 0)
    status, text = checked(capsys, "Theirs", "--root", tmp_path)
    assert status == 1 and "ZeroDivisionError: division by zero" in text


def test_a_misspelt_split_rule():
    with pytest.raises(UserError, match="Mine: unknown split rule 'per-clas'; did you mean per-class.; known: per-"):
        Row("Mine", "mine", "", 2, print, "per-clas", "a", "b")


def test_near_names(tmp_path, capsys, monkeypatch):
    (tmp_path / "Photos/cats").mkdir(parents=True)
    (tmp_path / "mine.yaml").write_text(f"DATASET:\n  TASKS: [{{ROOT: {tmp_path}/photo}}]\n")
    assert f"did you mean {tmp_path}/Photos?" in checked(capsys, tmp_path / "mine.yaml")[1]
    assert f"did you mean {tmp_path}/mine.yaml?" in refused(capsys, tmp_path / "mein.yaml")
    text = checked(capsys, "EuroSAT", "--root", tmp_path / "photo")[1]
    assert field(text, "mistake") == [f"folder not found: {tmp_path}/photo; did you mean {tmp_path}/Photos?"]
    assert near_path(tmp_path / "fotos/cats/a.jpg") == f"; did you mean {tmp_path}/Photos?"
    assert near_path(tmp_path / "Photos/cat") == f"; did you mean {tmp_path}/Photos/cats?"
    assert near_path(tmp_path / "quite/other") == "" == near_path(f"/{LONG}/{LONG}")
