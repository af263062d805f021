"""A script that is told to end, or killed, ends its runs."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.scripts.clone import REPOSITORY

# A stand-in for train.py that handles signals as train.py does and does not end by itself.
GOING = f"""
import os, pathlib, sys, time
sys.path.insert(0, {str(REPOSITORY)!r})
from dassl import program

@program.entry
def main():
    (pathlib.Path(os.environ["STANDIN"]) / "pid").write_text(str(os.getpid()))
    while True:
        time.sleep(0.02)

sys.exit(main())
"""
SCRIPTS = {
    "launcher": ("protonet.sh", "icon5", "tiny", "4", "cosine"),
    "pool": ("pool.sh",),
    "demo": ("demo.sh",),
    "per_task": ("per_task.sh", "protonet.sh", "icon5", "tiny", "4", "cosine"),
}


def ended(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes in /proc")
@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL], ids=lambda number: number.name)
def test_a_script_ends_with_its_runs(clone, script, number):
    (clone.record / "standin.py").write_text(GOING)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # children may inherit that it is ignored
    file, *arguments = SCRIPTS[script]
    environment = {name: value for name, value in os.environ.items() if name not in ("TASK", "METHODS", "TARGETS")}
    environment |= {"PYTHON": str(clone.interpreter), "STANDIN": str(clone.record), "OUTPUT": str(clone.record)}
    environment |= {"SEEDS": "1", "TASKS": "0", "JOBS": "1", "PRELOAD": "False"}
    going = subprocess.Popen(
        ["sh", str(clone.folder / "scripts" / file), *arguments],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        text=True,
    )
    signal.signal(signal.SIGINT, before)
    try:
        going.stdin.write("one\t1\tprotonet.sh icon5 tiny 4 cosine\n")
        going.stdin.close()
    except BrokenPipeError:  # only pool.sh reads it
        pass
    pid = clone.record / "pid"
    while not (pid.exists() and pid.read_text()):
        assert going.poll() is None
        time.sleep(0.02)
    run = int(pid.read_text())
    going.send_signal(number)  # to the script alone
    code = going.wait(60)
    if number == signal.SIGKILL:
        for _ in range(3000):
            if ended(run):
                break
            time.sleep(0.02)
    else:
        assert code == {signal.SIGTERM: 143, signal.SIGINT: 130}[number]
    assert ended(run)
