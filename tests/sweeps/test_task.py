"""Runs as children of a worker: what they are given, what they return, how they end."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from dassl import program
from sweeps import task
from sweeps.task import Origin, Run, locate, train

from .cluster import REPO, alive, attempts, call, repository


@pytest.fixture
def origin(tmp_path):
    return Origin(str(repository(tmp_path / "repository")))


def until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    assert condition()


def test_the_variable_is_that_of_the_programs():
    assert task.LAUNCHED == program.LAUNCHED


def test_importing_the_task_imports_nothing_but_the_standard_library():
    code = "import sys, sweeps.task; print([m for m in ('dassl', 'torch', 'ray', 'submitit') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("status, last", [(0, "output of attempt 1"), (2, "error: a user's mistake"), (7, "output of")])
def test_status_and_last_lines_come_back(origin, tmp_path, status, last):
    run = call(tmp_path / "run", "STATUS", str(status))
    ended = train(run.words(), origin)
    assert ended.status == status and last in ended.lines[-1] and ended.seconds > 0 and ended.node
    assert len(attempts(run)) == 1


def test_a_stopped_run_ends_and_can_be_made_again(origin, tmp_path):
    run = call(tmp_path / "run", "FIRST_SECONDS", "600")
    going = Run(run.words(), origin)
    threading.Thread(target=lambda: (until(lambda: attempts(run)), going.stop())).start()
    assert going.wait().status == 128 + signal.SIGTERM
    assert train(run.words(), origin).status == 0


def test_a_run_ends_with_the_worker_that_began_it(origin, tmp_path):
    run = call(tmp_path / "run", "FIRST_SECONDS", "600")
    code = f"from sweeps.task import *; train({run.words()!r}, Origin({origin.repository!r}))"
    worker = subprocess.Popen([sys.executable, "-c", code], cwd=REPO)
    until(lambda: attempts(run))
    process = attempts(run)[0].split()[0]
    assert alive(process)
    worker.kill()
    worker.wait()
    until(lambda: not alive(process))


def test_config_files_are_found_in_a_copy_of_the_code():
    words = ["--config-file", "/elsewhere/configs/a/b.yaml", "--output-dir", "/elsewhere/output/x"]
    assert locate(words, "/elsewhere") == (
        REPO,
        ["--config-file", f"{REPO}/configs/a/b.yaml", "--output-dir", "/elsewhere/output/x"],
    )
    assert locate(words, str(REPO)) == (REPO, words)


def test_the_environment_of_the_origin_counts(origin, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert Origin("x").environment["OMP_NUM_THREADS"] == "7"
    run = call(tmp_path / "run")
    changed = Origin(origin.repository, os.getcwd(), {"OMP_NUM_THREADS": "3"})
    assert train(run.words(), changed).status == 0
    assert '"OMP_NUM_THREADS": "3"' in (run.folder / "results.json").read_text()
