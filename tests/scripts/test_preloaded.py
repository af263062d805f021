"""Runs forked from a process with its imports behind it: nothing tells them from others."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "preloaded.py"
# A stand-in for train.py; trainers is a module of its folder that takes long to import and counts how often it is.
RUN = """
import os, sys, time
import trainers
print(trainers.imported, os.getcwd(), os.environ["ASKED"], *sys.argv[1:])
print("to stderr", file=sys.stderr)
if sys.argv[1] == "wait":
    try:
        for _ in range(600):
            time.sleep(0.1)
    except KeyboardInterrupt:
        sys.exit(130)
if sys.argv[1] == "raise":
    raise ValueError("broken")
sys.exit(int(sys.argv[1]))
"""

FORKED = hasattr(os, "pidfd_open")


@pytest.fixture(autouse=True)
def heeded():
    """Whatever started these tests, as a shell does in the background, may have it ignored, and children inherit it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def project(tmp_path):
    """The folder of a project whose runs say who they are."""
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    (scripts / SCRIPT.name).write_text(SCRIPT.read_text())
    for name in ("datasets", "trainers", "dassl/engine"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "__init__.py").touch()
    (tmp_path / "trainers" / "__init__.py").write_text("import os\nimported = os.getpid()\n")
    (tmp_path / "train.py").write_text(RUN)
    return tmp_path


@pytest.fixture
def waiting(project):
    """The project with a process that waits for its runs: (folder, socket)."""
    if not FORKED:
        pytest.skip("runs are forked on Linux only")
    socket = project / "socket"
    call = [sys.executable, str(project / "scripts" / SCRIPT.name), str(socket)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}  # that is the run's
    server = subprocess.Popen(call, start_new_session=True, env=environment)
    for _ in range(500):
        if socket.exists():
            break
        time.sleep(0.02)
    yield project, socket
    server.terminate()
    server.wait()


def command(folder, socket, *arguments):
    return [sys.executable, str(folder / "scripts" / SCRIPT.name), str(socket), str(folder / "train.py"), *arguments]


def ask(folder, socket, *arguments):
    environment = {**os.environ, "ASKED": "by me"}
    call = command(folder, socket, *arguments)
    return subprocess.run(call, cwd=folder / "dassl", env=environment, capture_output=True, text=True, timeout=60)


def test_a_run_has_the_callers_folder_environment_output_and_status(waiting):
    first, second = ask(*waiting, "0", "a b"), ask(*waiting, "3")
    imported, *rest = first.stdout.split(" ", 1)
    assert rest == [f"{waiting[0] / 'dassl'} by me 0 a b\n"]
    assert first.stderr == "to stderr\n"
    assert (first.returncode, second.returncode) == (0, 3)
    assert second.stdout.split(" ")[0] == imported  # by the process that waits, once
    failed = ask(*waiting, "raise")
    assert failed.returncode == 1 and "ValueError: broken" in failed.stderr


def test_signals_reach_the_run(waiting):
    environment = {**os.environ, "ASKED": "x", "PYTHONUNBUFFERED": "1"}
    for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        call = command(*waiting, "wait")
        caller = subprocess.Popen(call, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        assert caller.stderr.readline() == "to stderr\n"
        caller.send_signal(number)
        assert caller.wait(30) == status


def test_a_killed_caller_ends_its_run(waiting, tmp_path):
    pid = tmp_path / "pid"
    (tmp_path / "train.py").write_text(
        f"import os, time\nopen({str(pid)!r}, 'w').write(str(os.getpid()))\ntime.sleep(60)"
    )
    caller = subprocess.Popen(command(*waiting, "x"))
    while not (pid.exists() and pid.read_text()):
        time.sleep(0.02)
    caller.kill()
    caller.wait()
    for _ in range(500):
        if not Path(f"/proc/{pid.read_text()}").exists():
            return
        time.sleep(0.02)
    raise AssertionError("the run was not stopped")


def test_an_ignored_signal_stays_ignored(waiting, tmp_path):
    """As with nohup, when the terminal is closed."""
    (tmp_path / "train.py").write_text("import sys\nprint('begins', flush=True)\nsys.exit(int(sys.stdin.readline()))")
    caller = subprocess.Popen(
        ["sh", "-c", 'trap "" HUP; exec "$@"', "sh", *command(*waiting)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert caller.stdout.readline() == "begins\n"
    caller.send_signal(signal.SIGHUP)
    time.sleep(0.2)
    caller.communicate("5\n", timeout=30)
    assert caller.returncode == 5


def test_signals_to_a_group_of_processes_leave_no_run_behind(waiting):
    """As timeout sends them: the process that waits, and the caller."""
    environment = {**os.environ, "ASKED": "x", "PYTHONUNBUFFERED": "1"}
    caller = subprocess.Popen(command(*waiting, "wait"), env=environment, stdout=subprocess.PIPE, text=True)
    waits = int(caller.stdout.readline().split(" ")[0])
    os.killpg(waits, signal.SIGTERM)
    time.sleep(0.2)
    caller.send_signal(signal.SIGTERM)
    assert caller.wait(30) == 143  # that of the run


def test_a_process_that_cannot_tell_when_runs_end_begins_none(tmp_path, project):
    """Some kernels, and Pythons built for them, have no pidfd_open."""
    lacking = tmp_path / "lacking.py"
    lacking.write_text(
        "import os, runpy, sys\nvars(os).pop('pidfd_open', None)\nsys.argv = sys.argv[1:]\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    socket = tmp_path / "other"
    call = [sys.executable, str(lacking), str(tmp_path / "scripts" / SCRIPT.name), str(socket)]
    assert subprocess.run(call, timeout=60).returncode == 0
    done = ask(tmp_path, socket, "6")
    assert done.returncode == 6 and done.stdout.count("by me 6") == 1


def test_without_anybody_waiting_a_run_begins_by_itself(project):
    done = ask(project, project / "no socket", "4")
    assert done.returncode == 4 and "by me 4" in done.stdout


@pytest.mark.parametrize(("failing", "status"), [("", 0), ("2", 3)])
def test_the_status_of_a_list_is_that_of_its_runs_when_nobody_waits(clone, failing, status):
    """A path that is too long for a socket ends the process that would wait."""
    long = clone.record / ("long " * 25)
    long.mkdir()
    lines = [f"seed {seed}\t{seed}\tmain_coop.sh icon5 tiny_ep20 1 4 False False" for seed in (1, 2)]
    done = subprocess.run(
        ["sh", str(clone.folder / "scripts" / "pool.sh")],
        input="\n".join(lines) + "\n",
        env={**os.environ, "PYTHON": str(clone.interpreter), "STANDIN": str(clone.record), "TMPDIR": str(long)}
        | {"OUTPUT": str(clone.record), "JOBS": "1", "PRELOAD": "True", "FAIL_SEED": failing},
        capture_output=True,
        text=True,
    )
    assert done.returncode == status, done.stdout + done.stderr
    assert len(clone.runs()) == 2


@pytest.mark.skipif(not FORKED, reason="runs are forked on Linux only")
def test_launchers_runs_side_by_side_are_forked_and_the_same(tmp_path):
    repository = SCRIPT.parents[1]
    environment = {name: value for name, value in os.environ.items() if name not in ("PRELOADED", "SEEDS")}
    environment |= {"PYTHON": sys.executable, "SOFTCPT_CACHE": str(tmp_path / "cache"), "JOBS": "2"}
    settings = ["OPTIM.MAX_EPOCH", "1", "DATALOADER.FEATURE_BANK", "False"]
    numbers = []
    for preload in ("True", "False"):
        lines = [f"seed {seed}\t{seed}\tmain_coop.sh icon5 tiny_ep20 1 4 False False 0" for seed in (1, 2)]
        done = subprocess.run(
            ["sh", str(repository / "scripts" / "pool.sh"), *settings],
            input="\n".join(lines) + "\n",
            env={**environment, "PRELOAD": preload, "OUTPUT": str(tmp_path / preload)},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        found = sorted((tmp_path / preload).rglob("results.json"))
        numbers.append([json.loads(path.read_text())["tasks"] for path in found])
        assert len(found) == 2
    assert numbers[0] == numbers[1]
