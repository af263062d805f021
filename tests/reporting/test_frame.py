"""The tidy frame of all runs, and statistics over it."""

import ast
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import sweep
from dassl.utils.errors import UserError
from reporting.frame import COLUMNS, read_frame
from reporting.tables import select, summary
from tests.reporting.test_per_task import SUITE, single
from tests.reporting.written import NAMES, log, result, write

REPO = Path(__file__).parents[2]
PRINTED = """\
***************
** Arguments **
***************
config_file: configs/trainers/MTCoOp/rn50_ep50.yaml
dataset_config_file: configs/datasets/general10.yaml
seed: 2
************
** Config **
************
DATASET:
  NAME: General10
  NUM_SHOTS: 4
  SUBSAMPLE_CLASSES: all
MODEL:
  BACKBONE:
    NAME: RN50
OPTIM:
  MAX_EPOCH: 50
SEED: 2
TRAINER:
  MTCOOPH:
    CSC: False
    TSC: True
  NAME: MTCoOpHard
Collecting env info ...
** System info **
PyTorch version: 1.8.1
"""


@pytest.fixture
def three(tmp_path):
    """Seeds 1 to 3 of one method with the overall values 70, 71 and 75, and seed 1 of another."""
    more = {"method": "SoftCPT-NATA", "backbone": "RN50", "protocol": "few-shot", "split": "test"}
    more |= {"config_files": ["configs/datasets/icon5.yaml", "configs/trainers/MTCoOp/rn50_ep50.yaml"]}
    more |= {"hashes": {"config": "c0", "split": "5b", "weights": None}, "command": ["train.py", "--x", "a b"]}
    more |= {"seconds": {"train": 2.5, "test": 1}, "learnable_parameters": 4096, "peak_memory_bytes": 2**40}
    more |= {"versions": {"python": "3.11", "torch": "2.4", "pillow": None}, "git_commit": "0123456789abcdef"}
    for seed, value in ((1, 70.0), (2, 71.0), (3, 75.0)):
        data = result(value, (value - 10, value + 10), seed=seed, **more)
        write(tmp_path / f"icon5/MTCoOp/seed{seed}", results=data)
    write(tmp_path / "icon5/CoOp/seed1", results=result(60.0, seed=1, method="CoOp", **{"protocol": "few-shot"}))
    return tmp_path


def test_a_row_per_run_task_and_metric(three):
    frame = read_frame([three])
    assert list(frame.columns) == list(COLUMNS) and len(frame) == 4 * 3 * 4  # runs, two tasks and a mean, metrics
    row = frame[(frame.seed == 2) & (frame.task_key == "k1") & (frame.metric == "overall_metric")].squeeze()
    assert (row.path, row.experiment, row.run) == (str(three / "icon5/MTCoOp/seed2"), "icon5/MTCoOp", "seed2")
    assert (row.trainer, row.method, row.suite, row.backbone) == ("MTCoOp", "SoftCPT-NATA", "Icon5", "RN50")
    assert (row.protocol, row.classes, row.source_suite, row.split) == ("few-shot", "all", "", "test")
    assert (row.config, row.shots, row.epochs) == ("rn50_ep50", 4, 20)
    assert (row.task_id, row.task, row.images, row.declared, row.value) == (1, NAMES[1], 1200, "overall_acc", 81.0)
    assert (row.parameters, row.train_seconds, row.test_seconds, row.memory_bytes) == (4096, 2.5, 1.0, 2**40)
    assert (row.config_hash, row.split_hash, row.weights_hash) == ("c0", "5b", "")
    assert (row.status, row.problem, row.chosen_on, row.joined) == ("complete", "", "", False)
    assert row.version == "commit 0123456789, python 3.11, torch 2.4" and row.command == "train.py --x 'a b'"
    mean = select(frame[frame.method == "SoftCPT-NATA"], "macro_f1")
    assert mean.task_id.isna().all() and set(mean.task) == {""} and set(mean.images) == {2400}
    assert list(mean.value) == [68.0, 69.0, 73.0]


def test_statistics_over_seeds(three):
    (three / "icon5/MTCoOp/seed5").mkdir()
    frame = read_frame([three])
    found = summary(frame, ["method", "shots"])
    assert list(found.columns) == ["mean", "std", "n", "missing"]
    row = found.loc[("SoftCPT-NATA", 4)]
    assert row["mean"] == pytest.approx(np.mean([70, 71, 75])) and row["std"] == pytest.approx(np.std([70, 71, 75]))
    assert row["n"] == 3
    coop = found.loc[("CoOp", 4)]
    assert coop["mean"] == 60.0 and pd.isna(coop["std"]) and coop["n"] == 1
    assert coop["missing"] == (2, 3)  # the seeds of the other method
    tasks = summary(frame, ["method", "task"], "mean_acc")
    assert tasks.loc[("SoftCPT-NATA", "faces"), "mean"] == pytest.approx(72 - 10 - 1)
    assert tasks.loc[("SoftCPT-NATA", "faces"), "n"] == 3
    assert summary(frame, "method", "accuracy").loc["CoOp", "mean"] == 60.0  # a name of other programs


def test_an_unfinished_run_is_one_row_without_a_value(three):
    about = {"trainer": "MTCoOp", "method": "SoftCPT-NATA", "suite": "Icon5", "shots": 4, "protocol": "few-shot"}
    write(three / "icon5/MTCoOp/seed4", results={**about, "status": "running", "seed": 4})
    write(three / "icon5/MTCoOp/seed5", results={**about, "status": "failed", "error": "ValueError: loss is nan"})
    write(three / "icon5/MTCoOp/seed6", results='{"status": "compl')
    write(three / "icon5/MTCoOp/seed7", log="epoch [1/3][5/5]\n")
    frame = read_frame([three])
    rows = frame[frame.metric.isna()].set_index("seed")
    assert rows.value.isna().all() and list(rows.index) == [4, 5, 6, 7]
    # a run that is recorded as running, in a folder that no process has locked, was killed
    assert list(rows.status) == ["interrupted", "failed", "unreadable", "interrupted"]
    assert rows.problem[5] == "results.json says 'failed': ValueError: loss is nan"
    assert rows.method[4] == "SoftCPT-NATA" and rows.shots[5] == 4
    found = summary(frame, ["method", "shots"])
    assert found.loc[("SoftCPT-NATA", 4), "missing"] == (4, 5) and found.loc[("CoOp", 4), "missing"] == (2, 3, 4, 5)
    none = summary(frame[frame.seed == 4], "method")
    assert none.loc["SoftCPT-NATA", "n"] == 0 and pd.isna(none.loc["SoftCPT-NATA", "mean"])


def test_runs_of_single_tasks_are_joined(tmp_path):
    for task in range(3):
        for seed in (1, 2):
            data = single(task, 50.0 + 10 * task + seed, seed=seed)
            write(tmp_path / f"4shots/task{task}/seed{seed}", results=data)
    write(tmp_path / "4shots/task2/seed2", results={**single(2, 0.0, seed=2), "status": "failed", "error": "no disk"})
    frame = read_frame([tmp_path])
    assert frame.joined.all() and set(frame.experiment) == {"4shots/task*"}
    mean = select(frame)
    assert list(mean.value) == [61.0] and mean.path.item() == str(tmp_path / "4shots/task*/seed1")
    assert mean.parameters.item() == 3 * 8192 and mean.train_seconds.item() == 30.0
    faces = select(frame, per_task=True).query("task == 'faces'")
    assert list(faces.path) == [str(tmp_path / f"4shots/task0/seed{seed}") for seed in (1, 2)]
    assert list(faces.value) == [51.0, 52.0] and list(faces.parameters) == [8192, 8192]
    failed = frame[frame.metric.isna()]
    assert list(failed.path) == [str(tmp_path / "4shots/task2/seed2")] and failed.status.item() == "failed"
    assert summary(frame, "trainer")["missing"].item() == (2,)
    assert set(select(frame, per_task=True).task) == set(SUITE)


def test_zero_shot_has_no_shots_and_no_expected_seeds(three):
    data = result(40.0, seed=1, method="ZeroshotCLIP", shots=-1, epochs=0, learnable_parameters=0, protocol="few-shot")
    write(three / "ZeroshotCLIP/tiny/icon5", results=data)
    found = summary(read_frame([three]), ["method", "shots"])
    row = found.reset_index().query("method == 'ZeroshotCLIP'").squeeze()
    assert pd.isna(row.shots) and row.n == 1 and row.missing == ()


def test_zero_shots_of_a_trained_run_are_all_images(tmp_path):
    write(tmp_path / "run", results=result(40.0, shots=0, protocol="all"))
    assert set(read_frame([tmp_path]).shots) == {-1}


def test_own_data_are_called_by_their_file(tmp_path):
    for name in ("photos", "birds"):
        files = [f"data/{name}.yaml", "configs/trainers/MTCoOp/tiny_ep50.yaml"]
        write(tmp_path / f"{name}/seed1", results=result(40.0, seed=1, suite="Suite", config_files=files))
    data = result(30.0, seed=1, suite="Suite", config_files=files, tested_model={"folder": "../../photos/seed1"})
    write(tmp_path / "moved/seed1", results=data)
    rows = select(read_frame([tmp_path])).set_index("experiment")
    assert list(rows["suite"]) == ["birds", "birds", "photos"]  # in the order of the folders
    assert tuple(rows.loc["moved", ["protocol", "source_suite"]]) == ("domain-shift", "photos")  # the same tasks


def test_halves_and_other_datasets(tmp_path):
    for half, value in (("base", 80.0), ("new", 70.0)):
        data = result(value, seed=1, protocol=half)
        if half == "new":
            data["tested_model"] = {"folder": "../../base/seed1", "epoch": 20}
        write(tmp_path / f"base2new/{half}/seed1", results=data)
    source = write(tmp_path / "source/seed1", results=result(80.0, seed=1, suite="ImageNet"))
    for name, shift in (("V2", "k0"), ("Pets", "")):
        data = result(60.0, seed=1, suite=name, tested_model={"folder": "../../../seed1", "epoch": 20})
        data["tasks"] = [{**task, "key": f"{name}{task['key']}"} for task in data["tasks"]]
        folder = write(source.parent / f"xd/{name}/seed1", results=data)
        tasks = [{"key": task["key"], "task_of": shift} for task in data["tasks"]]
        (folder / "tasks.json").write_text(json.dumps(tasks))
    rows = select(read_frame([tmp_path])).set_index("experiment")
    assert list(rows.loc[["base2new/base", "base2new/new"], "protocol"]) == ["base-to-new"] * 2
    assert list(rows.loc[["base2new/base", "base2new/new"], "classes"]) == ["base", "new"]
    assert tuple(rows.loc["source", ["protocol", "source_suite"]]) == ("few-shot", "")
    assert tuple(rows.loc["source/xd/V2", ["protocol", "source_suite"]]) == ("domain-shift", "ImageNet")
    assert tuple(rows.loc["source/xd/Pets", ["protocol", "source_suite"]]) == ("cross-dataset", "ImageNet")
    # the styles of the embedded suite have the tasks of their source
    data = result(60.0, seed=1, suite="Line", tested_model={"folder": "../../../seed1", "epoch": 20})
    write(source.parent / "xd/line/seed1", results=data)
    rows = select(read_frame([tmp_path])).set_index("experiment")
    assert rows.loc["source/xd/line", "protocol"] == "domain-shift"


def test_logs_of_published_code_tell_their_settings(tmp_path):
    write(tmp_path / "general10/MTCoOpHard/rn50_ep50_4shots/nctx16/seed2", log=PRINTED + log(67.0))
    row = select(read_frame([tmp_path])).squeeze()
    assert (row.suite, row.trainer, row.method, row.backbone) == ("General10", "MTCoOpHard", "CoOp-CA", "RN50")
    assert (row.shots, row.seed, row.epochs, row.config, row.value) == (4, 2, 50, "rn50_ep50", 67.0)
    assert (row.protocol, row.classes, row.status, row.split) == ("few-shot", "all", "complete", "test")


@pytest.mark.parametrize(
    "place, expected",
    [
        (
            "plant6/MTCoOp/rn50_ep50_16shots/cnctx4_ccscFalse_tnctx4_tcscTrue_nctx16_cscTrue_typelin_ratio1_loss/seed3",
            ("Plant6", "MTCoOp", "SoftCPT-CATS", "rn50_ep50", 16, 3, "all", "RN50"),
        ),
        (
            "base2new/plant6/MTCoOp/vit_b16_ep5_1shots/x/new/seed1",
            ("Plant6", "MTCoOp", "MTCoOp", "vit_b16_ep5", 1, 1, "new", "ViT-B/16"),
        ),
        (
            "base2new/train_base/dtd/shots_16/CoCoOp/vit_b16_c4_ep10/seed1",
            ("DescribableTextures", "CoCoOp", "CoCoOp", "vit_b16_c4_ep10", 16, 1, "base", "ViT-B/16"),
        ),
        (
            "evaluation/CoCoOp/vit_b16_16shots/nctx4/food101/seed1",
            ("Food101", "CoCoOp", "CoCoOp", "vit_b16", 16, 1, "all", "ViT-B/16"),
        ),
        (
            "photos/CoOp/rn50_16shots/seed1",
            ("photos", "CoOp", "CoOp", "rn50", 16, 1, "all", "RN50"),
        ),
        (
            "ZeroshotCLIP/rn50/plant6",
            ("Plant6", "ZeroshotCLIP", "ZeroshotCLIP", "rn50", None, None, "all", "RN50"),
        ),
    ],
)
def test_names_of_published_folders_tell_their_settings(tmp_path, place, expected):
    write(tmp_path / place, log=log(50.0))
    columns = ["suite", "trainer", "method", "config", "shots", "seed", "classes", "backbone"]
    row = select(read_frame([tmp_path]))[columns].squeeze()
    assert tuple(None if pd.isna(value) else value for value in row) == expected


def test_logs_of_runs_that_only_tested(tmp_path):
    text = log(50.0).split("Finished training\n")[1]
    write(tmp_path / "seed1", log=text)
    assert read_frame([tmp_path]).value.isna().all()
    assert select(read_frame([tmp_path], test_logs=True)).value.item() == 50.0


def test_runs_are_read_once_and_folders_may_be_runs(three):
    once, twice = read_frame([three]), read_frame([three, three / "icon5", three / "icon5/CoOp/seed1"])
    assert len(once) == len(twice) and set(twice.experiment) == {f"{three}/icon5/CoOp", f"{three}/icon5/MTCoOp"}
    assert set(read_frame([three / "icon5/CoOp/seed1"]).experiment) == {"CoOp"}


def test_errors(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        read_frame([tmp_path / "nowhere"])
    with pytest.raises(UserError, match="no runs in .*looked for results.json and log.txt"):
        read_frame([tmp_path])


def test_odd_records_are_read(tmp_path):
    odd = {"seed": 2**63, "shots": "many", "epochs": [1], "hashes": 3, "versions": [], "command": "x", "chosen": 1}
    odd |= {"tested_model": {"folder": 7}, "config_files": {}, "seconds": 1, "git_commit": 5}
    write(tmp_path / "a", results=result(50.0, **odd))
    row = select(read_frame([tmp_path])).squeeze()
    assert row.value == 50.0 and pd.isna(row.seed) and pd.isna(row.shots) and row.config_hash == row.command == ""


def test_the_dry_run_of_a_sweep_does_not_load_pandas(monkeypatch, capsys):
    for name in [name for name in sys.modules if name.split(".")[0] == "reporting"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pandas", None)  # importing it is an error
    assert sweep.main([str(REPO / "configs/sweeps/demo.yaml"), "--dry-run", "--only", "row=ZeroshotCLIP"]) == 0
    assert "train.py --" in capsys.readouterr().out


def test_training_needs_neither_pandas_nor_reports():
    rooms = ("dassl", "clip", "features", "datasets", "trainers")
    for file in (REPO / "train.py", *(file for room in rooms for file in (REPO / room).rglob("*.py"))):
        nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
        names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
        names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
        assert not {"pandas", "reporting"} & {name.split(".")[0] for name in names}, file
