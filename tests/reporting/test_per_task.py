"""Runs of single tasks, joined to their suite."""

import json

import numpy as np
import pytest

from reporting import table
from tests.reporting.written import numbers, parse, parse_json, rows_of, write

SUITE = ["faces", "food", "birds"]


def single(task, value, suite=SUITE, **more):
    """A results.json of one task of SUITE."""
    row = {"id": task, "key": SUITE[task], "name": SUITE[task], "images": 10, "metric": "mean_acc", **numbers(value)}
    settings = {"trainer": "ProGrad", "suite": "Icon3", "shots": 4, "subsample_tasks": f"task{task}"}
    costs = {"seconds": {"train": 10.0, "test": 1.0}, "learnable_parameters": 8192, "peak_memory_bytes": 2**20 * task}
    data = {"status": "complete", "suite_tasks": suite, "tasks": [row], "mean": numbers(value)}
    return {**data, **settings, **costs, **more}


@pytest.fixture
def folder(tmp_path):
    """Three tasks, three seeds; the suite's means are 60, 62 and 67."""
    for task in range(3):
        for seed, value in ((1, 60.0), (2, 62.0), (3, 67.0)):
            data = single(task, value + 10 * (task - 1), seed=seed)
            write(tmp_path / f"4shots/nctx16/task{task}/seed{seed}", results=data)
    return tmp_path / "4shots/nctx16"


def test_the_mean_of_the_suite_over_seeds(folder, capsys):
    status, out, _ = parse(capsys, folder)
    assert status == 0
    rows = rows_of(out)
    mean, std = np.mean([60, 62, 67]), np.std([60, 62, 67])
    assert rows["task"] == ["metric", "images", "seed1", "seed2", "seed3", "mean", "n"]
    assert rows["faces"] == ["mean_acc", "10", "50.00", "52.00", "57.00", f"{mean - 10:.2f} ± {std:.2f}", "3"]
    assert rows["mean over tasks"] == ["overall_metric", "", "60.00", "62.00", "67.00", f"{mean:.2f} ± {std:.2f}", "3"]
    assert "note:" not in out
    data = parse_json(capsys, folder, "--keyword", "mean_acc")["experiments"][0]
    assert data["overall"]["mean"] == pytest.approx(mean - 1)


def test_several_experiments_at_once(folder, tmp_path, capsys):
    for seed in (1, 2, 3):  # all tasks in one run, with other settings
        runs = [single(task, 50.0)["tasks"][0] for task in range(3)]
        write(tmp_path / f"4shots/nctx4/seed{seed}", results={**single(0, 50.0), "tasks": runs, "seed": seed})
    status, out, _ = parse(capsys, tmp_path, "--multi-exp")
    assert status == 0
    rows = rows_of(out)
    assert rows["experiment"] == ["n", "mean over tasks", *SUITE]
    assert rows["4shots/nctx4"] == ["3", *["50.00 ± 0.00"] * 4]
    assert rows["4shots/nctx16/task*"][:2] == ["3", f"63.00 ± {np.std([60, 62, 67]):.2f}"]
    assert "4shots/nctx16/task0" not in rows


def test_missing_tasks_are_listed(folder, capsys):
    (folder / "task2/seed2/results.json").unlink()
    write(folder / "task1/seed3", results={"status": "failed", "error": "ValueError: loss is nan"})
    for seed in (1, 2, 3):  # the last task has no run with seed 3
        if seed == 3:
            (folder / "task2/seed3/results.json").unlink()
            (folder / "task2/seed3").rmdir()
    status, out, _ = parse(capsys, folder)
    assert status == 0
    rows = rows_of(out)
    assert rows["mean over tasks"] == ["overall_metric", "", "60.00", "-", "-", "60.00", "1"]
    assert rows["faces"][-2:] == [f"53.00 ± {np.std([50, 52, 57]):.2f}", "3"]  # finished runs are shown
    assert "seed2: no overall value without task 2 (birds): neither results.json nor log.txt" in out
    assert (
        "seed3: no overall value without task 1 (food): results.json says 'failed': ValueError: loss is nan, "
        "task 2 (birds)\n" in out
    )
    assert "do not have the same tasks" not in out


def test_a_task_without_a_folder_is_missing_if_the_suite_is_recorded(folder, capsys):
    for seed in (1, 2, 3):
        (folder / f"task2/seed{seed}/results.json").unlink()
        (folder / f"task2/seed{seed}").rmdir()
    (folder / "task2").rmdir()
    assert parse_json(capsys, folder)["experiments"][0]["overall"]["n"] == 0
    for path in folder.glob(
        "task*/seed*/results.json"
    ):  # older results without the tasks of the suite: the present tasks count as all
        path.write_text(json.dumps({**json.loads(path.read_text()), "suite_tasks": None}))
    found = parse_json(capsys, folder)["experiments"][0]
    assert found["overall"]["values"] == {"seed1": 55.0, "seed2": 57.0, "seed3": 62.0}
    assert found["notes"] == ["which tasks the suite has is not recorded: those that are there are taken for all"]


def test_tasks_of_other_settings_and_wrong_folders_are_noted(folder, capsys):
    write(folder / "task1/seed1", results=single(1, 60.0, seed=1, shots=8))
    write(folder / "task2/seed2", results=single(1, 60.0, seed=2))
    out = parse(capsys, folder)[1]
    assert "seed1: the runs of the tasks differ in shots: 4, 8" in out
    assert "seed2: the run of task 2 has results of task 1" in out


def test_missing_seeds(folder, capsys):
    assert "missing: seed 4" in parse(capsys, folder, "--seeds", "1", "4")[1]


def test_zero_shot_runs_of_single_tasks(tmp_path, capsys):
    for task, value in enumerate((50.0, 60.0, 70.0)):
        write(tmp_path / f"rn50/icon3-{task}", results=single(task, value, seed=1))
    rows = rows_of(parse(capsys, tmp_path / "rn50")[1])
    assert rows["mean over tasks"] == ["overall_metric", "", "60.00", "60.00", "1"]
    write(tmp_path / "rn50/plant6", results=single(0, 30.0, seed=1))
    rows = rows_of(parse(capsys, tmp_path, "--multi-exp")[1])
    assert rows["rn50/icon3-*"] == ["1", "60.00"] and rows["rn50/plant6"] == ["1", "30.00"]


def test_numbered_runs_that_are_not_tasks_stay_separate(tmp_path, capsys):
    for number in (1, 2):
        write(tmp_path / f"try-{number}", results=single(0, 50.0 + number, seed=1, subsample_tasks="all"))
    rows = rows_of(parse(capsys, tmp_path, "--multi-exp")[1])
    assert rows["try-1"] == ["1", "51.00"] and rows["try-2"] == ["1", "52.00"]


def test_joint_and_single_runs_in_one_folder(folder, capsys):
    write(folder / "seed1", results={**single(0, 40.0), "seed": 1})
    status, _, err = parse(capsys, folder)
    assert status == 2
    assert "holds runs of all tasks at once (seed1) and runs of single tasks: use --multi-exp" in err
    assert parse_json(capsys, folder / "task*")["experiments"][0]["overall"]["mean"] == 63.0
    assert {"nctx16", "task*"} <= set(rows_of(parse(capsys, folder, "--multi-exp")[1]))


def test_costs_of_the_tasks_add_up(folder, capsys):
    assert table.main(["--costs", f"ProGrad={folder}"]) == 0
    out = capsys.readouterr().out
    assert out.count("| ProGrad ") == 2
    assert rows_of(out)["ProGrad"] == ["24,576", "30.0", "3.0", "2"]  # memory: the maximum
