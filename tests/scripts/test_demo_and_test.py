"""The two commands of the README: their installation and what they run."""

import os
import re
import signal
import subprocess
import time

import pytest

from tests.scripts.clone import REPOSITORY, split_arguments

OLD = """#!/bin/sh
case "$2" in *print*) echo 3.8.10 ;; *) exit 1 ;; esac
"""


def table_of(done):
    return [line for line in done.stdout.splitlines() if line.startswith("|")]


def test_demo_runs_four_methods_at_four_numbers_of_shots(clone):
    assert clone.sh("demo.sh", "--dry-run").returncode == 0
    runs = [split_arguments(record) for record in clone.dry_run() if not record[0].startswith("#")]
    assert [run[0]["--trainer"] for run in runs] == (["MTCoOp"] * 5 + ["MTCoOpHard"] * 10) * 4 + ["ZeroshotCLIP"]
    assert [run[1].get("DATASET.NUM_SHOTS") for run in runs[:-1:15]] == ["8", "4", "2", "1"]
    assert [run[0]["--seed"] for run in runs[:5]] == ["1", "2", "3", "4", "5"]


def test_demo_prints_a_table_and_a_curve(clone):
    done = clone.sh("demo.sh", JOBS="1", SEEDS="1 2")
    assert done.returncode == 0, done.stderr
    assert len(clone.runs()) == 25
    table = table_of(done)
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table if "--" not in line]
    assert cells[0] == ["experiment", "n", "mean over tasks", "a", "b"]
    assert cells[1] == ["ZeroshotCLIP", "1", "51.00", "51.00", "51.00"]
    assert cells[4] == ["SoftCPT-NATA", "2", "51.50 ± 0.50", "51.50 ± 0.50", "51.50 ± 0.50"]
    assert f"{clone.folder}/output/ZeroshotCLIP/tiny_ep20/icon5" in done.stdout
    [curve] = clone.calls()  # the given interpreter has everything: pip is not asked
    assert re.findall(r"(\S+)=", curve) == ["CoOp-MT", "CoOp-CA", "SoftCPT-NATA"]
    assert curve.count("tiny_ep20_*shots/") == 3 and curve.endswith("output/icon5/figures/demo")

    again = clone.sh("demo.sh", JOBS="1", SEEDS="1 2")
    assert again.returncode == 0
    assert len(clone.runs()) == 25
    assert again.stdout.count("skipped, already finished") == 25
    assert table_of(again) == table


def test_demo_side_by_side_makes_the_same_runs(clone):
    settings = ["OPTIM.LR", "0.01", "INPUT.SIZE", "(64, 64)"]
    done = clone.sh("demo.sh", *settings, JOBS="3", SEEDS="2")
    assert done.returncode == 0, done.stderr
    runs = [split_arguments(run) for run in clone.runs()]
    assert sorted((run[0]["--trainer"], run[0]["--seed"]) for run in runs) == sorted(
        [("ZeroshotCLIP", "1")] + [("MTCoOpHard", "2")] * 8 + [("MTCoOp", "2")] * 4
    )
    assert all(run[1]["OPTIM.LR"] == "0.01" and run[1]["INPUT.SIZE"] == "(64, 64)" for run in runs)
    assert done.stdout.count(": starts") == done.stdout.count(": finished after") == 13
    assert "[13/13] ZeroshotCLIP: finished" in done.stdout
    assert "note:" not in done.stdout

    again = clone.sh("demo.sh", *settings, JOBS="3", SEEDS="2")
    assert len(clone.runs()) == 13
    assert again.stdout.count(": skipped, already finished") == 13
    assert table_of(again) == table_of(done) != []


@pytest.mark.parametrize(
    ("processors", "jobs", "said"),
    [(1, "", ""), (2, "", "3 at a time, 1 thread"), (3, "", "4 at a time, 1 thread"), (8, "", "4 at a time, 2 threads")]
    + [(2, "2", "2 at a time, 1 thread")],
)
def test_how_many_runs_stand_side_by_side(clone, tmp_path, processors, jobs, said):
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "getconf").write_text(f"#!/bin/sh\necho {processors}\n")
    (tmp_path / "tools" / "getconf").chmod(0o755)
    path = f"{tmp_path / 'tools'}:{os.environ['PATH']}"
    done = clone.sh("demo.sh", SEEDS="1", PATH=path, JOBS=jobs, PRELOAD="False", OMP_NUM_THREADS="")
    assert done.returncode == 0, done.stderr
    assert (f"13 runs, {said} each\n" if said else "== ZeroshotCLIP\n") in done.stdout
    assert said or "at a time" not in done.stdout


def pool(clone, **environment):
    """pool.sh with a list of four runs, with the seeds 1 to 4."""
    return subprocess.run(
        ["sh", str(clone.folder / "scripts/pool.sh")],
        input="".join(f"ProtoNet, seed {seed}\t{seed}\tprotonet.sh icon5 tiny 4 cosine\n" for seed in range(1, 5)),
        env={**os.environ, "PYTHON": str(clone.interpreter), "STANDIN": str(clone.record), "PRELOAD": "False"}
        | {"OUTPUT": str(clone.record)}
        | environment,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_failing_run_does_not_keep_the_others_from_running(clone, jobs):
    done = pool(clone, JOBS=jobs, FAIL_SEED="2")
    assert done.returncode == 3
    assert len(clone.runs()) == 4
    assert "the loss is nan" in done.stderr
    listed = done.stderr.split("failed: 1 of 4\n")[1].splitlines()
    assert listed == ["    [2/4] ProtoNet, seed 2", "the same command continues with what is missing"]
    assert "  3 of 4 done" in done.stdout
    if jobs == "2":
        assert "seed2/log.txt" in done.stderr  # the run's own log
        assert "[1/4] ProtoNet, seed 1: finished" in done.stdout and "51.00 %" in done.stdout


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_after_a_user_error_in_the_first_runs_the_others_are_not_begun(clone, jobs):
    done = pool(clone, JOBS=jobs, REFUSE="yes")
    assert done.returncode == 2
    assert len(clone.runs()) == int(jobs)
    assert f"not made: {4 - int(jobs)} of 4\n" in done.stderr and "    [4/4] ProtoNet, seed 4\n" in done.stderr


@pytest.mark.parametrize("jobs", ["1", "3"])
def test_finished_runs_of_other_settings_stay_and_the_others_are_made(clone, jobs):
    assert clone.sh("demo.sh", SEEDS="1").returncode == 0
    [coop] = clone.folder.glob("output/icon5/MTCoOpHard/*_8shots/nctx16_cscFalse_tscFalse/seed1/results.json")
    coop.unlink()
    done = clone.sh("demo.sh", "OPTIM.LR", "0.1", SEEDS="1", JOBS=jobs)
    assert done.returncode == 2 and not table_of(done)
    assert len(clone.runs()) == 14 and coop.exists()
    assert done.stderr.count("now:   OPTIM.LR 0.1") == 12
    assert done.stderr.count("12 of the runs were already finished with other settings") == 1
    assert "To repeat all runs, add --overwrite" in done.stderr.splitlines()[-1]
    done = clone.sh("demo.sh", "OPTIM.LR", "0.1", "--overwrite", SEEDS="1", JOBS=jobs)
    assert done.returncode == 0 and len(clone.runs()) == 27


WAITING = """#!/bin/sh
echo $$ >"$RECORD"
exec sleep 60
"""


@pytest.mark.parametrize("script", ["all_methods.sh icon5 tiny_ep20", "upt_table1.sh", "upt_table2.sh"])
def test_an_interrupted_table_leaves_no_temporary_files(tmp_path, script):
    temporary, python, record = (tmp_path / name for name in ("tmp", "python", "record"))
    temporary.mkdir()
    python.write_text(WAITING)
    python.chmod(0o755)
    file, *arguments = script.split()
    environment = {name: value for name, value in os.environ.items() if name not in ("TASK", "SHOTS", "PER_TASK")}
    environment |= {"PYTHON": str(python), "RECORD": str(record), "TMPDIR": str(temporary), "OUTPUT": str(tmp_path)}
    environment |= {"METHODS": "CoOp-MT" if "all" in script else "CoOp", "JOBS": "2", "PRELOAD": "False", "SEEDS": "1"}
    command = ["sh", str(REPOSITORY / "scripts" / file), *arguments]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    going = subprocess.Popen(command, env=environment, start_new_session=True, **quiet)
    while not (record.exists() and record.read_text()):
        assert going.poll() is None
        time.sleep(0.02)
    assert len(list(temporary.iterdir())) == 1  # the list
    os.killpg(going.pid, signal.SIGTERM)
    assert going.wait(30) == 143
    assert list(temporary.iterdir()) == []


def test_number_of_jobs_has_to_be_one(clone):
    done = clone.sh("demo.sh", JOBS="many")
    assert done.returncode == 2
    assert 'JOBS has to be a number of runs, at least 1; found "many"' in done.stderr
    assert clone.runs() == []


def test_given_interpreter_gets_only_what_it_lacks(clone):
    (clone.folder / "requirements.txt").write_text("pytest>=1\nsurely-not-installed>=2\n")
    done = clone.sh("test.sh", PIP_STATUS="1")
    assert done.returncode == 2
    assert f"installing the missing packages of requirements.txt into {clone.interpreter}" in done.stdout
    assert f"pip could not install into {clone.interpreter}" in done.stderr
    [call] = clone.calls()
    assert "--upgrade" not in call
    assert call.endswith(f"-r {clone.folder}/requirements.txt")


def fake_path(clone, **programs):
    """PATH with the given programs first."""
    folder = clone.record / "bin"
    folder.mkdir()
    for name, text in programs.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


def test_own_environment_is_made_once(clone):
    path = fake_path(clone, python3=clone.interpreter.read_text())
    environment = {"PYTHON": "", "PATH": path}
    venv = clone.folder / ".venv"

    def installations():
        return sum(call.startswith("pip -m pip install") for call in clone.calls())

    # an installation that fails is not taken for finished
    done = clone.sh("test.sh", PIP_STATUS="1", **environment)
    assert done.returncode == 2
    assert "pip could not install requirements.txt" in done.stderr
    assert clone.calls()[0] == f"venv {venv}"
    assert not any("pytest" in call.split()[:2] for call in clone.calls())
    assert clone.sh("test.sh", **environment).returncode == 0
    assert installations() == 2

    # once is enough, until requirements.txt changes
    assert clone.sh("test.sh", **environment).returncode == 0
    assert installations() == 2
    with open(clone.folder / "requirements.txt", "a") as file:
        file.write("ruff>=0.5\n")
    assert clone.sh("test.sh", **environment).returncode == 0
    assert installations() == 3
    assert sum(call.startswith("venv") for call in clone.calls()) == 1


def test_installation_alone(clone):
    (clone.folder / "requirements.txt").write_text("pytest>=1\nsurely-not-installed>=2\n")
    done = clone.sh("install.sh")
    assert done.returncode == 0, done.stderr
    assert f"all packages of requirements.txt are installed: {clone.interpreter}" in done.stdout
    assert len(clone.calls()) == 1 and clone.runs() == []
    assert clone.sh("install.sh", "now").returncode == 2


def test_python_too_old(clone):
    path = fake_path(clone, python3=OLD, **{"python3.13": clone.interpreter.read_text()})
    done = clone.sh("test.sh", PYTHON=str(clone.record / "bin/python3"))
    assert done.returncode == 2
    assert "Python 3.10 or newer is needed" in done.stderr
    assert "is 3.8.10" in done.stderr
    # without PYTHON the next one on the PATH is tried
    done = clone.sh("test.sh", PYTHON="", PATH=path)
    assert done.returncode == 0, done.stderr
    assert "with python3.13" in done.stdout


def test_interpreter_that_does_not_start(clone):
    done = clone.sh("demo.sh", PYTHON=str(clone.record / "nowhere"))
    assert done.returncode == 2
    assert "does not start" in done.stderr


def test_every_check_runs_and_one_failure_is_enough(clone):
    done = clone.sh("test.sh", "-k", "two words", JOBS="1")
    assert done.returncode == 0, done.stderr
    assert clone.calls() == [
        "-m ruff check",
        "-m ruff format --check",
        "-m tests.parity tests/parity/cases",
        "-m pytest -k two words",
    ]
    clone.sh("test.sh", "-x", JOBS="3")
    assert clone.calls()[-1] == "-m pytest -n 3 --dist worksteal -x"
    done = clone.sh("test.sh", FAILING="ruff")
    assert done.returncode == 1
    assert len(clone.calls()) == 12
    assert "python -m ruff check" in done.stderr
    assert "pytest" not in done.stderr
