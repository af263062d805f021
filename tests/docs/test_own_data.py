"""docs/own-data.md as somebody follows it who has three folders of pictures: its commands, executed as printed."""

import json
import os
import re
import subprocess
import sys

import pytest
import yaml
from PIL import Image

import train
from dassl.metrics import METRICS
from datasets.own import KEYS, OwnSource
from datasets.own.splits import RULES
from tests.docs.tables import DOCS, REPO

PAGE = (DOCS / "own-data.md").read_text(encoding="utf-8")
RUN = re.findall(r"<!-- run -->\n```sh\n(.*?)```", PAGE, re.DOTALL)
PROJECT = (
    "analysis",
    "clip",
    "configs",
    "dassl",
    "datasets",
    "features",
    "predict.py",
    "reporting",
    "softcpt",
    "train.py",
    "trainers",
)
SHADES = {"cat": (200, 60, 60), "dog": (60, 200, 60), "hen": (60, 60, 200)}


@pytest.fixture(scope="module")
def followed(tmp_path_factory):
    """The folder of a newcomer, who put `photos` and `new` into the project's folder, and what each command printed."""
    project = tmp_path_factory.mktemp("project")
    # Only what is the project's own: a user's photos in its folder would be written to through a link.
    for name in PROJECT:
        (project / name).symlink_to(REPO / name)
    for name, shade in SHADES.items():
        (project / "photos" / name).mkdir(parents=True)
        for number in range(10):
            image = Image.new("RGB", (90, 70), tuple(c + 3 * number for c in shade))
            image.save(project / "photos" / name / f"IMG_{number:04d}.jpg")
    (project / "new").mkdir()
    Image.new("RGB", (64, 64), SHADES["hen"]).save(project / "new" / "1.jpg")
    Image.new("RGB", (64, 64), SHADES["cat"]).save(project / "new" / "2.png")
    (project / "bin").mkdir()
    (project / "bin" / "python").write_text(f"#!/bin/sh\nexec '{sys.executable}' \"$@\"\n")
    (project / "bin" / "python").chmod(0o755)
    environment = {**os.environ, "PATH": f"{project / 'bin'}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    printed = []
    for block in RUN:
        done = subprocess.run(["sh", "-e"], input=block, cwd=project, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, block + done.stdout + done.stderr
        printed.append(done.stdout)
    return project, printed


def test_under_ten_lines():
    assert len(RUN) == 3 and len(RUN[0].splitlines() + RUN[1].splitlines()) < 10


@pytest.mark.parametrize("page", [*DOCS.glob("*.md"), REPO / "README.md", *(REPO / "configs").rglob("*.yaml")], ids=str)
def test_no_run_lies_where_a_launcher_has_its_folders(page):
    """Launchers write below output/<dataset>/, also for a photos.yaml that somebody saves in configs/datasets/."""
    taken = {path.stem for path in (REPO / "configs/datasets").glob("*.yaml")} | {"photos"}
    folders = re.findall(r"--output-dir output/(\S+)", page.read_text(encoding="utf-8"))
    assert not taken & set(folders)


def test_a_run_from_any_folder_finds_a_relative_root_there(tmp_path, monkeypatch):
    """Of the page: ROOT is below the folder in which the command is given, wherever the YAML file lies."""
    (tmp_path / "yaml").mkdir()
    tasks = {"DATASET": {"NAME": "Suite", "TASKS": [{"ROOT": "photos"}]}}
    (tmp_path / "yaml" / "photos.yaml").write_text(json.dumps(tasks))
    for name in SHADES:
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(2):
            Image.new("RGB", (8, 8), SHADES[name]).save(tmp_path / "photos" / name / f"{number}.png")
    command = (
        "--trainer ZeroshotCLIP --eval-only --dataset-config-file yaml/photos.yaml --output-dir out INPUT.SIZE (64,64)"
    )
    command += " MODEL.BACKBONE.NAME tiny DATALOADER.NUM_WORKERS 0 DATALOADER.FEATURE_CACHE False"
    monkeypatch.chdir(tmp_path)
    assert train.main(command.split()) == 0
    assert json.loads((tmp_path / "out/results.json").read_text())["tasks"][0]["images"] == 3


def test_the_run(followed):
    project, printed = followed
    found = json.loads((project / "output" / "runs" / "photos" / "results.json").read_text())
    (task,) = found["tasks"]
    assert found["status"] == "complete" and found["trainer"] == "MTCoOp" and found["epoch"] == 50
    assert (task["key"], task["name"]) == ("photos", "farm animals image classification")
    assert task["classes"] == 3 and task["images"] == 9
    assert found["zero_shot"]["tasks"][0]["key"] == "photos"
    assert "photos: images divided (15 train, 6 val, 9 test), saved as " in printed[0]
    assert "* task: 0 (farm animals image classification)\ttotal: 9\tmetric: " in printed[0]
    assert ("WARNING: below zero-shot" in printed[0]) == (task["value"] < found["zero_shot"]["mean"]["value"])


def test_the_predictions(followed):
    lines = [line.split("\t") for line in followed[1][1].splitlines()]
    assert [line[:2] for line in lines] == [["new/1.jpg", "photos"], ["new/2.png", "photos"]]
    for _, _, classes in lines:
        numbers = re.findall(r"(\w+) ([\d.]+) %", classes)
        assert {name for name, _ in numbers} == set(SHADES)
        assert sum(float(number) for _, number in numbers) == pytest.approx(100, abs=0.3)


def test_the_check(followed):
    assert "photos" in followed[1][2] and "15" in followed[1][2]


def test_what_the_page_says_of_keys_rules_and_forms(tmp_path):
    table = PAGE.split("| key | meaning |")[1].split("\n\n")[0]
    assert tuple(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == (KEYS[1], KEYS[0], *KEYS[2:])
    assert all(rule in PAGE for rule in RULES.values())
    assert all(metric in table for metric in METRICS.declarable())
    suite = yaml.safe_load(re.search(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[1])
    assert [OwnSource(task).name for task in suite["DATASET"]["TASKS"][:2]] == ["photos", "list"]
