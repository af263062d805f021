"""`python -m datasets.check`: what it prints, its status, and that a run refuses with the same words."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import train
from dassl.data.datasets import build_dataset
from datasets.check import main
from datasets.doctor import decode_check
from datasets.suites import SOURCES, SUITES
from datasets.table import ROWS
from tests.datasets import layouts
from tests.datasets.checking import checked, field, refused
from tests.datasets.settings import config
from tests.datasets.split_files import zhou_pets

REPO = Path(__file__).resolve().parents[3]


def as_json(capsys, *args):
    status, text = checked(capsys, *args, "--json")
    return status, json.loads(text)


# ---- everything is there -------------------------------------------------------------------------------------------


def test_every_registered_dataset_in_its_published_layout(data_root, capsys):
    status, found = as_json(capsys, "--root", data_root)
    assert status == 0 and found["usable"]
    assert [suite["name"] for suite in found["suites"]] == [*SUITES, *SOURCES]
    classes = {suite["name"]: sum(data["classes"] for data in suite["datasets"]) for suite in found["suites"]}
    assert (classes["General10"], classes["Plant6"], classes["RS8"], classes["Fashion20"]) == (1191, 116, 208, 78)
    assert (classes["ImageNet"], classes["ImageNetA"], classes["ImageNetR"], classes["Icon5"]) == (1000, 200, 200, 149)
    for suite in found["suites"]:
        for data in suite["datasets"]:
            assert data["classes"] == data["declared"] and not data["problem"] and not data["mistakes"]


@pytest.mark.parametrize("suite", ["Plant6", "Fashion20", "Icon5", "OxfordPets"])
def test_counts_and_hash_are_those_of_a_run(data_root, capsys, suite):
    status, found = as_json(capsys, suite, "--root", data_root)
    run = build_dataset(config(suite, data_root))
    assert status == 0
    assert found["suites"][0]["split_hash"] == run.split_hash
    for split, items in (("train", run.train_x), ("val", run.val), ("test", run.test)):
        assert sum(data["images"][split] for data in found["suites"][0]["datasets"]) == len(items)


def test_a_suite_is_a_verdict_and_a_table(data_root, capsys):
    _, text = checked(capsys, "Plant6", "--root", data_root)
    lines = text.splitlines()
    assert lines[0].startswith("Plant6: usable, 6 tasks, 116 classes, ")
    assert lines[2].split() == ["dataset", "folder", "classes", "train", "val", "test", "split", "hash"]
    rows = [line.split() for line in lines[3:9]]
    assert [row[1] for row in rows] == list(SUITES["Plant6"])
    assert len({line.index(row[3]) + len(row[3]) for line, row in zip(lines[3:9], rows, strict=True)}) == 1  # aligned


def test_one_dataset_in_full(tmp_path, capsys):
    zhou_pets(tmp_path)
    status, text = checked(capsys, "OxfordPets", "--root", tmp_path)
    digest = build_dataset(config("OxfordPets", tmp_path)).split_hash
    assert status == 0
    assert text.splitlines()[0] == f"OxfordPets: usable, 1 task, 37 classes, 111 images, split hash {digest[:12]}"
    assert field(text, "looked in") == [str(tmp_path / "oxford_pets/images")]
    assert field(text, "images") == ["train 37, val 37, test 37"]
    assert field(text, "classes") == ["37 found, 37 expected"]
    assert field(text, "split") == ["split_zhou_OxfordPets.json"]
    assert field(text, "note") == ["111 images, the published dataset has 7,349: is everything unpacked?"]


def test_a_split_that_was_made_of_a_part_of_the_images(tmp_path, capsys):
    layouts.make("EuroSAT", tmp_path)
    question = "40 images, the published dataset has 27,000: is everything unpacked?"
    assert field(checked(capsys, "EuroSAT", "--root", tmp_path)[1], "note") == [question]
    build_dataset(config("EuroSAT", tmp_path))
    capsys.readouterr()
    hint = " If it is by now, delete split_fixed_EuroSAT.json to create a new split"
    assert field(checked(capsys, "EuroSAT", "--root", tmp_path)[1], "note") == [question + hint]


def test_nothing_is_written(tmp_path, capsys):
    layouts.make("EuroSAT", tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert checked(capsys, "EuroSAT", "--root", tmp_path, "--deep")[0] == 0
    assert sorted(tmp_path.rglob("*")) == before


def test_what_ships_with_the_project_needs_no_root(capsys):
    status, text = checked(capsys, "Icon5", "Icon13/faces")
    assert status == 0
    assert "Icon5: usable, 5 tasks, 149 classes" in text
    assert "Icon13/faces: usable, 1 task, 32 classes, 372 images" in text


# ---- something is not there ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ROWS)
def test_an_empty_root(tmp_path, capsys, name):
    row = ROWS[name]
    status, text = checked(capsys, name, "--root", tmp_path)
    assert status == 1
    assert text.splitlines()[0] == f"{name}: not found below DATASET.ROOT '{tmp_path}' (--root): no such folder"
    assert field(text, "looked in") == [str(tmp_path / row.folder)]
    assert field(text, "get it")[0].startswith(f"python -m datasets.download {name} --root {tmp_path}")
    assert field(text, "source") == [row.source]
    images = f"{row.published_images:,} images, " if row.published_images else ""
    assert field(text, "size")[0].endswith(f"{images}{row.classes:,} classes")
    for entry in (*row.needs, *(row.image_folders or (row.images,)), *(row.split_files if row.needs else ())):
        assert entry in text
    assert not field(text, "mistake")


@pytest.mark.parametrize(
    "name, tree",
    [
        ("EuroSAT", "2750/<class>/*"),
        ("Fashion20", "images/<task>/<class>/*"),
        ("RSICB128", "RSI-CB128/<category>/<class>/*"),
        ("OxfordPets", "images/*"),
    ],
)
def test_the_expected_tree(tmp_path, capsys, name, tree):
    assert field(checked(capsys, name, "--root", tmp_path)[1], "expected")[0] == tree


def test_a_summary_of_everything_on_an_empty_root(tmp_path, capsys):
    status, text = checked(capsys, "--root", tmp_path)
    lines = text.splitlines()
    assert status == 1
    assert lines[0] == f"{len(SOURCES) - len(ROWS)} of {len(SOURCES)} datasets usable below {tmp_path}"
    assert ["General10", "not", "usable", "0", "of", "10", "datasets"] in [line.split() for line in lines]
    assert sum(line.startswith("  missing ") for line in lines) == len(ROWS)
    assert max(len(line.replace(str(tmp_path), "data")) for line in lines) <= 120


def test_a_run_refuses_with_the_same_words(tmp_path, capsys, monkeypatch):
    layouts.make("KaggleFlower", tmp_path / "data")
    layouts.make("KaggleMushroom", tmp_path / "data")
    (tmp_path / "data/kaggle_mushroom").rename(tmp_path / "data/Kaggle-Mushroom")
    args = ["--root", str(tmp_path / "data"), "--trainer", "ZeroshotCLIP", "--eval-only"]
    args += ["--dataset-config-file", str(REPO / "configs/datasets/plant6.yaml"), "--output-dir", str(tmp_path / "out")]
    assert train.main(args) == 2
    refused = capsys.readouterr().err.strip()
    _, text = checked(capsys, "Plant6", "--root", tmp_path / "data")
    assert refused.splitlines()[0].removeprefix("error: ") == text.splitlines()[0]
    assert "Plant6: 5 of 6 datasets not found below DATASET.ROOT" in refused
    [mushroom] = [part for part in text.strip().split("\n\n") if part.startswith("KaggleMushroom")]
    head, *rest = refused.split("\n\n")
    assert rest == [mushroom]  # nothing is there of the others: they stand in the head, all together
    gone = ["FruitVegetable", "KaggleVegetable", "PlantSeedlingV1", "PlantVillage"]
    assert f"get them   python -m datasets.download {' '.join(gone)} --root {tmp_path}/data" in head
    assert f"by hand    {', '.join(gone[:3])}: that command tells how" in head and head.count("\n") == 5
    assert "the launchers in scripts/ take it from the variable YOUR_DATA_PATH" in head
    assert f"mv {tmp_path}/data/Kaggle-Mushroom {tmp_path}/data/kaggle_mushroom" in refused


def test_first_missing_images_are_named(tmp_path, capsys):
    def change(split):
        for entry in split["test"][:5]:
            entry[0] = "gone_" + entry[0]

    zhou_pets(tmp_path, change)
    status, text = checked(capsys, "OxfordPets", "--root", tmp_path)
    assert status == 1
    assert "5 of 111 images of the split are not in" in text and text.count("gone_") == 3
    assert field(text, "split") == ["split_zhou_OxfordPets.json"]


def test_unexpected_classes_are_named(tmp_path, capsys):
    layouts.make("EuroSAT", tmp_path)
    (tmp_path / "eurosat/2750/River").rename(tmp_path / "eurosat/2750/Creek")
    (tmp_path / "eurosat/2750/Brook").mkdir()
    (tmp_path / "eurosat/2750/Brook/a.jpg").write_bytes(b"\xff\xd8\xff")
    status, text = checked(capsys, "EuroSAT", "--root", tmp_path)
    assert status == 1
    assert "found 11 classes, expected 10; not among the expected ones: Brook, Creek" in text.splitlines()[0]


def test_a_dataset_that_nobody_thought_of_does_not_hide_the_others(tmp_path, capsys, monkeypatch):
    def load(root):
        raise RuntimeError("no idea")

    monkeypatch.setattr(SOURCES["Icon13"], "load", load, raising=False)
    layouts.make("EuroSAT", tmp_path)
    status, text = checked(capsys, "Icon13", "EuroSAT", "--root", tmp_path)
    assert status == 1
    assert "Icon13: cannot be used: RuntimeError: no idea" in text
    assert "EuroSAT: usable" in text


# ---- --deep --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2])
def test_deep_lists_every_bad_image(tmp_path, capsys, workers):
    zhou_pets(tmp_path)
    images = tmp_path / "oxford_pets/images"
    split = json.loads((tmp_path / "oxford_pets/split_zhou_OxfordPets.json").read_text())
    names = [entry[0] for entry in split["test"]]
    (images / names[2]).write_bytes((images / names[2]).read_bytes()[:200])
    (images / names[20]).write_bytes(b"\xff\xd8\xff no jpeg")
    assert checked(capsys, "OxfordPets", "--root", tmp_path)[0] == 0  # nothing that a look at the first bytes tells
    status, text = checked(capsys, "OxfordPets", "--root", tmp_path, "--deep", "--workers", workers)
    assert status == 1
    assert text.splitlines()[0] == "OxfordPets: cannot be used: 2 of 111 images cannot be decoded"
    bad = field(text, "bad")
    assert [line.split()[:2] for line in bad] == [["test", str(images / names[i])] for i in (2, 20)]
    status, found = as_json(capsys, "OxfordPets", "--root", tmp_path, "--deep")
    assert status == 1 and len(found["suites"][0]["datasets"][0]["bad"]) == 2


def test_deep_shows_how_far_it_is(capsys, monkeypatch):
    seen = []

    def bar(items, name, total, **_):
        for item in items:
            seen.append((name, total))
            yield item

    monkeypatch.setattr(decode_check, "tqdm", bar)
    assert checked(capsys, "Icon13/faces", "--deep")[0] == 0
    assert seen == [("Icon13", 372)] * 372  # all images of the task, read in place from the zip file


# ---- arguments -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "args, text",
    [
        (["Genral10", "--root", "."], "unknown suite or dataset 'Genral10'; did you mean General10?"),
        (["EuroSat10", "--root", "."], "did you mean EuroSAT?"),
        (["Icon13/facets"], "Icon13 has no task 'facets'; did you mean faces?"),
        (["General10"], "General10 needs --root DATA"),
        ([], "needs --root DATA"),
        (["none.yaml"], "file not found: none.yaml"),
    ],
)
def test_wrong_arguments(capsys, args, text):
    assert text in refused(capsys, *args)


@pytest.mark.parametrize("args", [["--workers", "0"], ["--workers", "x"], ["--nothing"]])
def test_wrong_flags(capsys, args):
    with pytest.raises(SystemExit) as error:
        main(["Icon13", *args])
    assert error.value.code == 2


def test_a_file_or_folder_of_that_name(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    assert "; photos is a folder: own data are described by a YAML file (docs/own-data.md)" in refused(capsys, "photos")
    (tmp_path / "photos.yaml").write_text("DATASET: {}")
    assert "unknown suite or dataset 'photos'; did you mean the file photos.yaml?" in refused(capsys, "photos")
    assert "file not found: icon5.yaml; did you mean " in refused(capsys, "icon5.yaml")


def test_names_as_the_launchers_take_them(tmp_path, capsys):
    for name in ("general10", "dtd", "GENERAL10"):
        assert checked(capsys, name, "--root", tmp_path)[0] == 1


@pytest.mark.parametrize(
    "content, text",
    [
        ("DATASET:\n  TASKS: [OxfordPet]\n", "unknown dataset 'OxfordPet'; did you mean OxfordPets?"),
        ("DATASET:\n  NAME: Genral10\n", "did you mean General10?"),
        ("DATASET:\n  NAMES: General10\n", "NAMES"),
        ("DATASET: [\n", "suite.yaml"),
    ],
)
def test_wrong_yaml(tmp_path, capsys, content, text):
    (tmp_path / "suite.yaml").write_text(content)
    assert text in refused(capsys, tmp_path / "suite.yaml", "--root", tmp_path)


def test_the_configuration_of_a_run(tmp_path, capsys):
    file = tmp_path / "config.yaml"
    file.write_text(
        "DATASET: {NAME: Icon5, ROOT: data}\nDATALOADER: {FEATURE_BANK: True, FEATURE_CACHE_GB: 20.0}\nSEED: 1\n"
    )
    assert checked(capsys, file)[0] == 0


def test_a_suite_of_ones_own_with_own_data(tmp_path, capsys):
    layouts.make("OxfordPets", tmp_path)
    layouts.make("EuroSAT", tmp_path)
    (tmp_path / "eurosat/2750").rename(tmp_path / "land")
    yaml = tmp_path / "mine.yaml"
    yaml.write_text("DATASET:\n  NAME: Suite\n  TASKS: [OxfordPets, Icon13/faces, {ROOT: land}, KaggleFlower]\n")
    status, text = checked(capsys, yaml, "--root", tmp_path)
    assert status == 1
    assert text.startswith(f"Suite: 1 of 4 datasets not found below DATASET.ROOT '{tmp_path}'")
    yaml.write_text(yaml.read_text() + f"  SUBSAMPLE_TASKS: task0,task1,task2\n  ROOT: {tmp_path}\n")
    status, text = checked(capsys, yaml)
    assert status == 0
    assert text.startswith("Suite: usable, 3 tasks, 79 classes, ")
    (tmp_path / "land").rename(tmp_path / "sea")
    status, text = checked(capsys, yaml)
    assert status == 1
    assert "land: missing, " in text


def test_as_a_command(tmp_path):
    command = [
        sys.executable,
        "-W",
        "error::RuntimeWarning",
        "-m",
        "datasets.check",
        "EuroSAT",
        "--root",
        str(tmp_path),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    found = subprocess.run(command, cwd=REPO, env=environment, capture_output=True, text=True)
    assert found.returncode == 1 and not found.stderr
    assert found.stdout.startswith("EuroSAT: not found below")
