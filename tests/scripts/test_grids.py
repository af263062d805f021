"""The demo and the grids of a paper: which runs they make, what they say about them, and their tables."""

import re
from pathlib import Path

import pytest

from reporting.page import build
from tests.scripts.project import split_arguments


def table_of(done):
    return [line for line in done.stdout.splitlines() if line.startswith("|")]


def test_demo_runs_four_methods_at_four_numbers_of_shots(project):
    done = project.sh("demo.sh", JOBS="1")
    assert done.returncode == 0, done.stderr
    runs = [split_arguments(run) for run in project.runs()]
    assert [run[0]["--trainer"] for run in runs] == (["MTCoOpHard"] * 10 + ["MTCoOp"] * 5) * 4 + ["ZeroshotCLIP"]
    assert [run[1].get("DATASET.NUM_SHOTS") for run in runs[:-1:15]] == ["8", "4", "2", "1"]
    assert [run[0]["--seed"] for run in runs[:5]] == ["1", "2", "3", "4", "5"]


def test_demo_prints_a_table_a_curve_and_a_page(project, monkeypatch):
    monkeypatch.setattr("reporting.page.build", build)
    done = project.sh("demo.sh", JOBS="1", SEEDS="1 2")
    assert done.returncode == 0, done.stderr
    (page,) = re.findall(r"all results as a page: (.*)", done.stdout)
    assert page == f"{project.folder}/output/icon5/report/index.html" and Path(page).is_file()
    monkeypatch.setattr("reporting.page.build", lambda frame, folder, options: page)
    assert len(project.runs()) == 25
    table = table_of(done)
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table if "--" not in line]
    assert cells[0] == ["experiment", "n", "mean over tasks", "a", "b"]
    assert cells[1] == ["ZeroshotCLIP", "1", "51.00", "51.00", "51.00"]
    assert cells[4] == ["SoftCPT-NATA", "2", "51.50 ± 0.50", "51.50 ± 0.50", "51.50 ± 0.50"]
    [curve] = project.figures
    lines = [word.partition("=") for word in curve if "=" in word]
    assert [name for name, _, _ in lines] == ["CoOp-MT", "CoOp-CA", "SoftCPT-NATA"]
    for _, _, folder in lines:
        assert folder.startswith(f"{project.folder}/output/icon5/") and "/tiny_ep20_*shots/" in folder
        assert Path(folder.replace("*", "8"), "seed1/results.json").exists()
    assert curve[curve.index("--zero-shot") + 1] == f"{project.folder}/output/ZeroshotCLIP/tiny_ep20/icon5"
    assert curve[curve.index("--out") + 1] == f"{project.folder}/output/icon5/figures/demo"
    (model,) = re.findall(r"predict.py (.*) IMAGE", done.stdout)
    assert (Path(model) / "results.json").exists()

    again = project.sh("demo.sh", JOBS="1", SEEDS="1 2")
    assert again.returncode == 0
    assert len(project.runs()) == 25
    assert again.stdout.count("skipped, already finished") == 25
    assert table_of(again) == table


def test_demo_side_by_side_makes_the_same_runs(project):
    settings = ["OPTIM.LR", "0.01", "INPUT.SIZE", "(64, 64)"]
    done = project.sh("demo.sh", *settings, JOBS="3", SEEDS="2")
    assert done.returncode == 0, done.stderr
    runs = [split_arguments(run) for run in project.runs()]
    assert sorted((run[0]["--trainer"], run[0]["--seed"]) for run in runs) == sorted(
        [("ZeroshotCLIP", "1")] + [("MTCoOpHard", "2")] * 8 + [("MTCoOp", "2")] * 4
    )
    assert all(run[1]["OPTIM.LR"] == "0.01" and run[1]["INPUT.SIZE"] == "(64, 64)" for run in runs)
    assert done.stdout.count(": starts") == done.stdout.count(": finished after") == 13
    assert "[13/13] ZeroshotCLIP: finished" in done.stdout

    again = project.sh("demo.sh", *settings, JOBS="3", SEEDS="2")
    assert len(project.runs()) == 13
    assert again.stdout.count(": skipped, already finished") == 13
    assert table_of(again) == table_of(done) != []


@pytest.mark.parametrize(
    ("processors", "jobs", "said"),
    [(1, "", ""), (2, "", "3 at a time, 1 thread"), (3, "", "4 at a time, 1 thread"), (8, "", "4 at a time, 2 threads")]
    + [(2, "2", "2 at a time, 1 thread")],
)
def test_how_many_runs_stand_side_by_side(project, monkeypatch, processors, jobs, said):
    monkeypatch.setattr("sweeps.local.processors", lambda: processors)
    done = project.sh("demo.sh", SEEDS="1", JOBS=jobs)
    assert done.returncode == 0, done.stderr
    assert (f"13 runs, {said} each\n" if said else "== [1/13] CoOp-MT, 8 images per class, seed 1\n") in done.stdout
    assert said or "at a time" not in done.stdout


PROTONET = {"METHODS": "ProtoNet", "SHOTS": "4", "SEEDS": "1 2 3 4"}


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_failing_run_does_not_keep_the_others_from_running(project, jobs):
    done = project.sh("all_methods.sh", "icon5", "tiny_ep20", **PROTONET, JOBS=jobs, FAIL_SEED="2")
    assert done.returncode == 3 and not table_of(done)
    assert len(project.runs()) == 4
    assert "the loss is nan" in done.stderr
    listed = done.stderr.split("failed: 1 of 4\n")[1].splitlines()
    run = "    [2/4] ProtoNet, 4 images per class, seed 2: ValueError: the loss is nan"
    assert listed == [run, "the same command continues with what is missing"]
    assert "  3 of 4 done" in done.stdout
    if jobs == "2":
        assert "seed2/log.txt" in done.stderr  # the run's own log
        assert "[1/4] ProtoNet, 4 images per class, seed 1: finished" in done.stdout and "51.00 %" in done.stdout


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_after_a_user_error_in_the_first_runs_the_others_are_not_begun(project, jobs):
    done = project.sh("all_methods.sh", "icon5", "tiny_ep20", **PROTONET, JOBS=jobs, REFUSE="yes")
    assert done.returncode == 2
    assert len(project.runs()) == int(jobs)
    assert f"not made: {4 - int(jobs)} of 4\n" in done.stderr and "    [4/4] ProtoNet" in done.stderr
    assert ("OPTIM.LRR: no such setting" in done.stderr) == (jobs == "2")  # otherwise the run has said it


@pytest.mark.parametrize("jobs", ["1", "3"])
def test_finished_runs_of_other_settings_stay_and_the_others_are_made(project, jobs):
    assert project.sh("demo.sh", SEEDS="1").returncode == 0
    [coop] = project.folder.glob("output/icon5/MTCoOpHard/*_8shots/nctx16_cscFalse_tscFalse/seed1/results.json")
    coop.unlink()
    (coop.parent / "log.txt").unlink()
    done = project.sh("demo.sh", "OPTIM.LR", "0.1", SEEDS="1", JOBS=jobs)
    assert done.returncode == 2 and not table_of(done)
    assert len(project.runs()) == 14 and coop.exists()
    assert done.stderr.count("now:   OPTIM.LR 0.1") == 12
    assert done.stderr.count("12 of 13 runs finished before with other settings and kept") == 1
    assert "To repeat all runs, add --overwrite" in done.stderr.splitlines()[-1]
    done = project.sh("demo.sh", "OPTIM.LR", "0.1", "--overwrite", SEEDS="1", JOBS=jobs)
    assert done.returncode == 0 and len(project.runs()) == 27


def test_number_of_jobs_has_to_be_one(project):
    for jobs in ("many", "0", "-1", "²"):
        done = project.sh("demo.sh", JOBS=jobs)
        assert done.returncode == 2
        assert f'JOBS has to be a number of runs, at least 1; found "{jobs}"' in done.stderr
    assert project.runs() == []
