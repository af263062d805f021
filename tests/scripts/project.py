"""The scripts with runs that end at once: in this process, or through a shell with a stand-in for the interpreter."""

import contextlib
import io
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

from sweeps.__main__ import main

REPOSITORY = Path(__file__).resolve().parents[2]
VARIABLES = ["SEEDS", "OUTPUT", "YOUR_DATA_PATH", "SHOTS", "TASK", "TASKS", "METHODS", "PER_TASK", "JOBS", "TARGETS"]
VARIABLES += ["CLS_SAMPLE_RATE", "BACKBONES", "LENGTHS", "TASK_LENGTHS", "DIMS", "SHOTS_LIST", "PRELOAD", "PYTHON"]
VARIABLES += ["OMP_NUM_THREADS", "FAIL_SEED", "FAIL_STATUS", "REFUSE", "SILENT", "STANDIN"]


class Engine:
    """Writes the results of runs instead of making them. `calls`: the arguments of train.py of all runs so far."""

    def __init__(self, slots, calls):
        self.slots, self.calls, self.begun = slots, calls, []

    def start(self, job, words):
        self.calls.append(words)
        self.begun.append((job, words))

    def ended(self):
        job, words = self.begun.pop(0)
        job.status = self.make(job, words)
        return [job]

    def stop(self):
        self.begun.clear()

    def make(self, job, words):
        """Exit status of a run."""
        folder, seed = Path(words[words.index("--output-dir") + 1]), int(words[words.index("--seed") + 1])
        if os.environ.get("REFUSE"):
            job.lines = ["OPTIM.LRR: no such setting"] if self.slots > 1 else []
            return 2
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "log.txt").write_text("".join(f"log line {i}\n" for i in range(40)))
        os.utime(folder / "log.txt", (time.time(), time.time()))  # the clock of a disk may be some milliseconds late
        if os.environ.get("FAIL_SEED") == str(seed):
            text = {"status": "failed", "error": "ValueError: the loss is nan"}
            (folder / "results.json").write_text(json.dumps(text))
            return int(os.environ.get("FAIL_STATUS", 3))
        if not os.environ.get("SILENT"):
            (folder / "results.json").write_text(json.dumps(results(50.0 + seed, words)))
        return 0


def results(value, words):
    """The results.json of a run with two tasks."""
    numbers = {"value": value, "overall_acc": value, "mean_acc": value, "macro_f1": value}
    task = {"metric": "overall_acc", "images": 10, **numbers}
    tasks = [{"id": i, "key": name, "name": name, **task} for i, name in enumerate(["a", "b"])]
    command = ["train.py", *words]
    return {"status": "complete", "seed": 1, "epochs": 20, "tasks": tasks, "mean": numbers, "command": command}


class Project:
    """The scripts, with `folder` for their results; they are called in the folder `record`. Names contain spaces."""

    def __init__(self, tmp_path, monkeypatch):
        self.folder, self.record = tmp_path / "the results (1)", tmp_path / "called here"
        self.record.mkdir()
        self.calls, self.figures, self.patch = [], [], monkeypatch
        for module in ("sweeps.__main__", "sweeps.scripts"):
            monkeypatch.setattr(f"{module}.Local", lambda slots: Engine(slots, self.calls))
        monkeypatch.setattr("analysis.sweep.main", self.figures.append)
        monkeypatch.setattr("reporting.page.build", lambda frame, folder, options: folder / "index.html")
        for name in VARIABLES:
            monkeypatch.delenv(name, raising=False)

    def sh(self, script, *arguments, **environment):
        """What `sh SCRIPT ARGUMENT ...` does after it has found Python, with runs that end at once."""
        out, errors = io.StringIO(), io.StringIO()
        with self.patch.context() as patch:
            patch.chdir(self.record)
            for name in VARIABLES:
                patch.delenv(name, raising=False)
            for name, value in {"OUTPUT": str(self.folder), **environment}.items():
                patch.setenv(name, value)
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
                status = main([script.removesuffix(".sh"), *arguments])
        return SimpleNamespace(returncode=status, stdout=out.getvalue(), stderr=errors.getvalue())

    def runs(self):
        """The arguments of every run so far."""
        return self.calls


# pip, venv and the programs of the project are recorded, everything else is the real interpreter
INTERPRETER = """#!/bin/sh
case "$1 ${{2:-}}" in
    *sweeps/__main__.py*)
        shift
        printf '%s\\n' "$PWD" "${{OUTPUT-}}" "$YOUR_DATA_PATH" "$PYTHON" "$@" >>"$STANDIN/calls"
        exit ;;
    "-m venv")
        echo "venv $3" >>"$STANDIN/calls"
        mkdir -p "$3/bin" && cp "$0" "$3/bin/python"; exit ;;
    "-m pip")
        [ "$3" = --version ] && exit 0
        echo "pip $*" >>"$STANDIN/calls"; exit "${{PIP_STATUS:-0}}" ;;
    "-m ruff" | "-m tests.parity" | "-m pytest")
        echo "$*" >>"$STANDIN/calls"
        [ "${{FAILING:-}}" = "$2" ] && exit 1
        exit 0 ;;
esac
exec {python} "$@"
"""


class Clone:
    """A copy of scripts/ in a folder whose name contains spaces; a stand-in for the interpreter records its calls."""

    def __init__(self, tmp_path):
        self.folder, self.record = tmp_path / "a clone (1)", tmp_path / "record it"
        self.record.mkdir()
        shutil.copytree(REPOSITORY / "scripts", self.folder / "scripts")
        (self.folder / "dassl").mkdir()
        shutil.copy(REPOSITORY / "dassl/requirements.py", self.folder / "dassl")
        (self.folder / "requirements.txt").write_text("# nothing but what runs this test\npytest>=1\n")
        self.interpreter = self.record / "python"
        self.interpreter.write_text(INTERPRETER.format(python=f"'{sys.executable}'"))
        self.interpreter.chmod(0o755)

    def sh(self, script, *arguments, cwd=None, shell=("sh",), **environment):
        """Run a script; PYTHON is the stand-in unless given, "" leaves it out."""
        known = {name: value for name, value in os.environ.items() if name not in VARIABLES}
        settings = {"PYTHON": str(self.interpreter), "STANDIN": str(self.record), **environment}
        known |= {name: value for name, value in settings.items() if value}
        command = [*shell, str(self.folder / "scripts" / script), *arguments]
        where = {"cwd": cwd or self.record, "env": known, "stdin": subprocess.DEVNULL}
        return subprocess.run(command, **where, capture_output=True, text=True, timeout=240)

    def calls(self):
        """Calls of pip, venv, ruff, pytest, the parity program and the runs of a script so far."""
        path = self.record / "calls"
        return path.read_text().splitlines() if path.exists() else []


def split_arguments(arguments):
    """(options, KEY VALUE pairs) of one call of train.py; switches have the value None."""
    options, rest = {}, list(arguments)
    while rest and rest[0].startswith("--"):
        name = rest.pop(0)
        options[name] = None if name in ("--eval-only", "--overwrite") else rest.pop(0)
    return options, dict(zip(rest[::2], rest[1::2], strict=True))


def listed(done):
    """(comments, calls as (options, pairs)) of what --dry-run has printed."""
    comments = [line for line in done.stdout.splitlines() if line.startswith("#")]
    lines = [shlex.split(line) for line in done.stdout.splitlines() if not line.startswith("#")]
    return comments, [split_arguments(line[line.index("train.py") + 1 :]) for line in lines]
