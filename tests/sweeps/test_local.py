"""Runs as processes on this machine: output, end, and signals. A stand-in for train.py does what it is told."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sweeps.local import Local, read_jobs, share_processors
from sweeps.work import DONE, FAILED
from tests.scripts.project import REPOSITORY, VARIABLES

TRAIN = """
import os, pathlib, sys, time
from dassl import program

@program.entry
def main():
    words = sys.argv[1:]
    folder = pathlib.Path(words[words.index("--output-dir") + 1])
    folder.mkdir(parents=True)
    print("begins", os.getcwd(), *words[-2:], flush=True)
    print("to stderr", file=sys.stderr)
    (folder / "pid").write_text(f"{os.getpid()}")
    task = words[-1]
    if task == "raise":
        raise RuntimeError("broken")
    if task == "device":
        (folder / "device").write_text(os.environ.get("CUDA_VISIBLE_DEVICES", "any"))
    if task == "wait":
        while True:
            time.sleep(0.02)
    if task == "wait twice":
        with program.orderly():
            while True:
                time.sleep(0.02)
    (folder / "results.json").write_text('{"status": "complete", "mean": {"value": 70.0}}')
    return int(task) if task.isdigit() else 0

sys.exit(main())
"""
SWEEP = """
import json, os, pathlib, sys
from dassl import program
from sweeps.calls import Call
from sweeps.local import Local
from sweeps.work import Lines, work

@program.entry
def main():
    out, *tasks = sys.argv[1:]
    files = {"config": pathlib.Path("c.yaml"), "dataset": pathlib.Path("d.yaml")}
    places = [pathlib.Path(out) / str(number) for number in range(len(tasks))]
    pairs = [("DO", task) for task in tasks]
    calls = [Call(one, "CoOp", seed=1, pairs=two, label=two[1], **files) for one, two in zip(places, pairs)]
    gpus = tuple(map(int, os.environ.get("GPUS", "").split()))
    jobs = work(calls, Local(2, gpus), Lines())
    pathlib.Path(out, "jobs").write_text(json.dumps([[job.state, job.status, job.lines[-1]] for job in jobs]))

if __name__ == "__main__":
    sys.exit(main())
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The project with the stand-in, without datasets and trainers, which nothing here needs."""
    folder = tmp_path_factory.mktemp("a copy of it")
    for name in ("scripts", "sweeps", "dassl", "configs"):
        shutil.copytree(REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "train.py").write_text(TRAIN)
    (folder / "a_sweep.py").write_text(SWEEP)
    return folder


@pytest.fixture
def started():
    """Starts a command as the leader of a group of processes, in which Ctrl-C is not ignored."""
    begun = []

    def start(command, **environment):
        before = signal.signal(signal.SIGINT, signal.default_int_handler)  # children may inherit that it is ignored
        known = {name: value for name, value in os.environ.items() if name not in VARIABLES}
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        process = subprocess.Popen(command, env={**known, **environment}, start_new_session=True, **pipes)
        signal.signal(signal.SIGINT, before)
        begun.append(process)
        return process

    yield start
    for process in begun:
        if process.poll() is None:
            process.kill()
        process.wait()
        process.stdout.close()


def alive(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def runs(out, count, process):
    """The processes of `count` runs, once they have begun."""
    for _ in range(3000):
        found = [path.read_text() for path in out.rglob("pid")]
        if len(found) == count and all(found):
            return [int(text) for text in found]
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)
    raise AssertionError("the runs have not begun")


def gone(processes):
    for _ in range(1500):
        if not any(map(alive, processes)):
            return True
        time.sleep(0.02)
    return False


needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes in /proc")
STATUS = {signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGHUP: 129, signal.SIGKILL: -signal.SIGKILL}


@needs_proc
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL], ids=lambda number: number.name)
@pytest.mark.parametrize("preload", ["True", "False"])
def test_a_script_ends_with_its_run(copy, started, tmp_path, number, preload):
    command = ["sh", str(copy / "scripts/protonet.sh"), "icon5", "tiny", "4", "cosine", "DO", "wait"]
    where = {"PYTHON": sys.executable, "OUTPUT": str(tmp_path), "PRELOAD": preload, "SEEDS": "1 2"}
    process = started(command, **where)
    (run,) = runs(tmp_path, 1, process)
    process.send_signal(number)  # to the script alone
    text, _ = process.communicate(timeout=60)
    assert process.returncode == STATUS[number] and gone([run])
    assert ("the same command continues" in text) == (number != signal.SIGKILL)
    assert f"begins {os.getcwd()} DO wait" in text and "to stderr" in text  # the run's own output
    assert len(list(tmp_path.rglob("pid"))) == 1  # the second was not begun


@needs_proc
@pytest.mark.parametrize(
    ("number", "preload"),
    [(signal.SIGINT, "True"), (signal.SIGTERM, "True"), (signal.SIGHUP, "False"), (signal.SIGKILL, "True")],
    ids=lambda value: getattr(value, "name", value),
)
def test_runs_side_by_side_end_with_their_sweep(copy, started, tmp_path, number, preload):
    """As a terminal sends signals: to the whole group of processes. Nothing stays in the folder for temporary files."""
    out, temporary = tmp_path / "out", tmp_path / "tmp"
    temporary.mkdir()
    command = [sys.executable, str(copy / "a_sweep.py"), str(out), *["wait"] * 3]
    process = started(command, PRELOAD=preload, TMPDIR=str(temporary))
    found = runs(out, 2, process)
    os.killpg(process.pid, number)
    text, _ = process.communicate(timeout=60)
    assert process.returncode == STATUS[number] and gone(found)
    assert "begins" not in text and "Traceback" not in text
    assert len(list(out.rglob("pid"))) == 2  # the third was not begun
    if number != signal.SIGKILL:
        assert list(temporary.iterdir()) == []


@needs_proc
def test_a_second_signal_does_not_wait_for_the_batch(copy, started, tmp_path):
    process = started([sys.executable, str(copy / "a_sweep.py"), str(tmp_path), *["wait twice"] * 3])
    found = runs(tmp_path, 2, process)
    process.send_signal(signal.SIGINT)
    time.sleep(1)  # signals that come together are one
    assert process.poll() is None and all(map(alive, found))
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130 and gone(found)


def test_a_signal_that_is_ignored_stays_ignored(copy, started, tmp_path):
    """As with nohup, when the terminal is closed."""
    command = ["sh", "-c", 'trap "" HUP; exec "$@"', "sh", sys.executable, str(copy / "a_sweep.py")]
    process = started([*command, str(tmp_path), *["wait"] * 3])
    found = runs(tmp_path, 2, process)
    for each in (process.pid, *found):
        os.kill(each, signal.SIGHUP)
    time.sleep(0.5)
    assert process.poll() is None and all(map(alive, found))
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 143 and gone(found)


def swept(copy, out, *tasks, **environment):
    """(states of the jobs, what is printed) of runs that end by themselves."""
    known = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    command = [sys.executable, str(copy / "a_sweep.py"), str(out), *tasks]
    done = subprocess.run(command, env={**known, **environment}, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads((out / "jobs").read_text()), done


@pytest.mark.parametrize("preload", ["True", "False"])
def test_statuses_and_last_words(copy, tmp_path, preload):
    jobs, done = swept(copy, tmp_path, "0", "3", "raise", PRELOAD=preload)
    ends = [[DONE, 0, "to stderr"], [FAILED, 3, "to stderr"], [FAILED, 1, "RuntimeError: broken"]]
    assert jobs == ends
    assert "[1/3] 0: finished after" in done.stdout and ", 70.00 %" in done.stdout and "begins" not in done.stdout
    assert "failed with exit status 3" in done.stderr and "failed with exit status 1" in done.stderr


@pytest.mark.parametrize("gpus", ["0 1", "3"])
def test_each_gpu_has_its_share_of_the_runs(copy, tmp_path, gpus):
    jobs, _ = swept(copy, tmp_path, *["device"] * 4, GPUS=gpus)
    assert {state for state, *_ in jobs} == {DONE}
    assert {path.read_text() for path in tmp_path.rglob("device")} == set(gpus.split())


def test_a_temporary_folder_with_a_long_name(tmp_path, monkeypatch):
    """The path of a socket has about 100 bytes."""
    folder = tmp_path / ("long " * 25)
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    assert Local(1, forked=True).context.get_start_method() == "spawn"
    monkeypatch.setattr("tempfile.tempdir", "/tmp")
    assert Local(1, forked=True).context.get_start_method() == "forkserver"


def test_the_processors_are_shared(monkeypatch):
    monkeypatch.setattr("sweeps.local.processors", lambda: 8)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # put back after the test
    assert share_processors(1) == [] and share_processors(4) == ["DATALOADER.NUM_WORKERS", "0"]
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert share_processors(4) == [] and os.environ["OMP_NUM_THREADS"] == "2"
    assert [read_jobs(text) for text in ("", "1", "012")] == [4, 1, 12]
