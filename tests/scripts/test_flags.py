"""--dry-run and --overwrite of the launchers."""

import subprocess

import pytest

from tests.scripts.project import REPOSITORY, listed, split_arguments

HARD = ["icon5", "tiny_ep20", "4", "16", "False", "True"]
BASE2NEW = ["main_coop_base2new_{}.sh", "icon5", "tiny_ep20", "4", "16", "False", "True"]


@pytest.mark.parametrize("place", [0, 3, 7])
def test_both_flags_stand_anywhere(project, place):
    arguments = [*HARD, "OPTIM.LR", "0.01"]
    done = project.sh("main_mtcoop_hard.sh", *arguments[:place], "--dry-run", *arguments[place:], SEEDS="1 2")
    assert done.returncode == 0, done.stderr
    assert project.runs() == [] and not (project.folder / "output").exists()
    _, calls = listed(done)
    for options, _ in calls:  # printed for a shell in the repository
        for name in ("--root", "--config-file", "--dataset-config-file"):
            options[name] = f"{REPOSITORY}/{options[name]}"
    done = project.sh("main_mtcoop_hard.sh", *arguments[:place], "--overwrite", *arguments[place:], SEEDS="1 2")
    assert done.returncode == 0, done.stderr
    made = [split_arguments(run) for run in project.runs()]
    assert [("--overwrite" in options, pairs["OPTIM.LR"]) for options, pairs in made] == [(True, "0.01")] * 2
    for options, _ in made:
        del options["--overwrite"]
    assert calls == made


def test_overwrite_makes_finished_runs_anew(project):
    for _ in range(2):
        assert project.sh("main_mtcoop_hard.sh", *HARD, SEEDS="1").returncode == 0
    assert len(project.runs()) == 1
    done = project.sh("main_mtcoop_hard.sh", "--overwrite", *HARD, "OPTIM.LR", "0.5", SEEDS="1")
    assert done.returncode == 0 and len(project.runs()) == 2, done.stderr


def test_test_on_new_classes_leaves_the_base_model_alone(project):
    script, *arguments = BASE2NEW
    assert project.sh(script.format("train"), *arguments, SEEDS="1").returncode == 0
    for _ in range(2):
        done = project.sh(script.format("test"), "--overwrite", *arguments, SEEDS="1")
        assert done.returncode == 0, done.stderr
    base, *tests = [split_arguments(run)[0] for run in project.runs()]
    assert "--overwrite" not in base and len(tests) == 2
    for options in tests:
        assert "--overwrite" in options and options["--model-dir"] == base["--output-dir"]
        assert options["--output-dir"].endswith("/new/seed1")


def test_dry_run_of_a_test_without_its_model(project):
    script, *arguments = BASE2NEW
    done = project.sh(script.format("test"), *arguments, "--dry-run", SEEDS="1")
    assert done.returncode == 0, done.stderr
    comments, [(options, _)] = listed(done)
    assert "after main_coop_base2new_train.sh with the same arguments" in comments[1]
    assert options["--load-epoch"] == "20"  # what the model will have
    assert project.sh(script.format("train"), *arguments, SEEDS="1").returncode == 0
    (model,) = project.folder.rglob("results.json")
    model.write_text(model.read_text().replace('"epochs": 20', '"epochs": 7'))
    (model.parent / "prompt_learner").mkdir()
    (model.parent / "prompt_learner/model.pth.tar-7").touch()
    done = project.sh(script.format("test"), *arguments, "--dry-run", SEEDS="1")
    comments, [(options, _)] = listed(done)
    assert done.returncode == 0, done.stderr
    assert "after" not in "".join(comments) and options["--load-epoch"] == "7"


LEARNED = ["CoOp-MT", "CoOp-CA", "SoftCPT-NATA"]


@pytest.mark.parametrize("jobs", ["1", "3"])
def test_the_flags_of_the_demo(project, jobs):
    demo = ["demo.sh", "OPTIM.LR", "0.01"]
    where = {"SEEDS": "2", "JOBS": jobs, "OMP_NUM_THREADS": "1"}
    done = project.sh(*demo, "--dry-run", **where)
    assert done.returncode == 0, done.stderr
    comments, calls = listed(done)
    assert comments == [
        *(
            f"# {row}, {shots} per class"
            for shots in ("8 images", "4 images", "2 images", "1 image")
            for row in LEARNED
        ),
        "# ZeroshotCLIP",
        "# 13 to run",
    ]
    methods = ["MTCoOpHard", "MTCoOpHard", "MTCoOp"] * 4 + ["ZeroshotCLIP"]
    assert [options["--trainer"] for options, _ in calls] == methods
    workers = {"1": None, "3": "0"}[jobs]  # as the runs themselves would have them
    assert {(pairs["OPTIM.LR"], pairs.get("DATALOADER.NUM_WORKERS")) for _, pairs in calls} == {("0.01", workers)}
    for _ in range(2):
        done = project.sh(*demo, "--overwrite", **where)
        assert done.returncode == 0 and "| SoftCPT-NATA" in done.stdout, done.stderr
    assert len(project.runs()) == 26 and all("--overwrite" in run for run in project.runs())


def test_other_scripts_of_several_launchers_pass_the_flags_on(project):
    where = {"SEEDS": "2", "SHOTS": "1 2", "METHODS": "NATA PLOT"}
    done = project.sh("all_methods.sh", "--dry-run", "icon5", "tiny_ep20", **where)
    assert done.returncode == 0 and "|" not in done.stdout, done.stderr
    assert [options["--trainer"] for options, _ in listed(done)[1]] == ["MTCoOp", "PLOT"] * 2
    where["TASKS"] = "0 3"
    done = project.sh("per_task.sh", "main_mtcoop_hard.sh", *HARD, "--dry-run", "--overwrite", **where)
    assert done.returncode == 0, done.stderr
    _, calls = listed(done)
    assert [pairs["DATASET.SUBSAMPLE_TASKS"] for _, pairs in calls] == ["task0", "task3"]
    assert project.runs() == []


def test_mistakes_in_the_arguments_end_a_dry_run(project):
    done = project.sh("main_mtcoop_hard.sh", *HARD[:5], "--dry-run")
    assert done.returncode == 2 and "TSC is missing" in done.stderr


def test_printed_lines_are_those_that_run(project):
    settings, python = ["INPUT.SIZE", "(64, 64)", "OPTIM.LR", "1e-2"], project.record / "it's python"
    python.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    python.chmod(0o755)
    where = {"OUTPUT": str(project.record / "it's here"), "SEEDS": "7", "PYTHON": str(python)}
    script, *arguments = BASE2NEW
    done = project.sh(script.format("test"), *arguments, *settings, "--dry-run", **where)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if not line.startswith("#")]
    assert len(lines) == 1 and "# 1 to run" in done.stdout
    given = subprocess.run(["sh", "-c", lines[0]], cwd=REPOSITORY, check=True, capture_output=True, text=True).stdout
    program, *words = given.splitlines()
    options, pairs = split_arguments(words)
    assert program == "train.py"
    folder = f"{where['OUTPUT']}/output/base2new/icon5/CoOp/tiny_ep20_4shots/nctx16_cscFalse_tscTrue"
    assert (options["--model-dir"], options["--output-dir"]) == (f"{folder}/base/seed7", f"{folder}/new/seed7")
    assert options["--config-file"] == "configs/trainers/CoOp/tiny_ep20.yaml" and options["--load-epoch"] == "20"
    assert (pairs["INPUT.SIZE"], pairs["OPTIM.LR"]) == ("(64, 64)", "1e-2")
