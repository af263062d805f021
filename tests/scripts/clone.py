"""A clone of the scripts in a folder of its own; a stand-in for the interpreter records what train.py is given."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from reporting.dry_run import records

REPOSITORY = Path(__file__).resolve().parents[2]
DATASETS = ("general10", "general11", "plant6", "fashion20", "icon5")
CONFIGS = {
    "CoOp": ("rn50_ep50", "vit_b16", "vit_b16_ctxv1", "tiny_ep20"),
    "CoCoOp": ("rn50_c4_ep10_batch1_ctxv1", "tiny_ep20"),
    "KgCoOp": ("rn50_ep100_ctxv1", "tiny_ep20"),
    "PLOT": ("rn50_ep50", "tiny_ep20"),
    "ProGrad": ("rn50_ep50", "tiny_ep20"),
    "VPT": ("vit_b16", "vit_b16_ep50", "tiny_ep20"),
    "UPT": ("vit_b16", "vit_b16_ep50", "tiny_ep20"),
    "MTUPT": ("vit_b16_ep50", "tiny_ep20"),
    "MTCoOp": ("rn50_ep50", "vit_b16_ep50", "tiny_ep20", "tiny_ep50"),
    "MTCoOpHard": ("rn50_ep50", "tiny_ep20"),
    "LinearProbe": ("rn50", "tiny"),
    "ProtoNet": ("rn50", "tiny"),
    "ZeroshotCLIP": ("rn50", "tiny_ep20"),
    "ZeroshotCLIP2": ("rn50", "tiny_ep20"),
}

# train.py goes to the stand-in, pip and venv are recorded, everything else is the real interpreter
INTERPRETER = """#!/bin/sh
case "$1 ${{2:-}}" in
    *train.py*) shift; exec {python} {standin} "$@" ;;
    "-m reporting.dry_run")
        [ -n "${{CHECK_SETTINGS:-}}" ] && exec {python} "$@"
        cp "$3" "$STANDIN/dry_run"; exit ;;
    "-m venv")
        echo "venv $3" >>"$STANDIN/calls"
        mkdir -p "$3/bin" && cp "$0" "$3/bin/python"; exit ;;
    "-m pip")
        [ "$3" = --version ] && exit 0
        echo "pip $*" >>"$STANDIN/calls"; exit "${{PIP_STATUS:-0}}" ;;
    "-m ruff" | "-m tests.parity" | "-m pytest" | "-m analysis.sweep")
        echo "$*" >>"$STANDIN/calls"
        [ "${{FAILING:-}}" = "$2" ] && exit 1
        exit 0 ;;
esac
exec {python} "$@"
"""

STANDIN = """
import json, os, pathlib, sys
calls = pathlib.Path(os.environ["STANDIN"]) / "runs"
with open(calls, "a") as file:
    file.write(json.dumps(sys.argv[1:]) + "\\n")
folder = pathlib.Path(sys.argv[sys.argv.index("--output-dir") + 1])
if os.environ.get("REFUSE"):
    print("OPTIM.LRR: no such setting", file=sys.stderr)
    sys.exit(2)
folder.mkdir(parents=True, exist_ok=True)
seed = int(sys.argv[sys.argv.index("--seed") + 1])
(folder / "log.txt").write_text("".join(f"log line {i}\\n" for i in range(40)))
if os.environ.get("FAIL_SEED") == str(seed):
    text = {"status": "failed", "error": "ValueError: the loss is nan"}
    (folder / "results.json").write_text(json.dumps(text))
    sys.exit(int(os.environ.get("FAIL_STATUS", 3)))
if os.environ.get("SILENT"):
    sys.exit(0)
value = 50.0 + seed
numbers = {"value": value, "overall_acc": value, "mean_acc": value, "macro_f1": value}
task = {"metric": "overall_acc", "images": 10, **numbers}
tasks = [{"id": i, "key": name, "name": name, **task} for i, name in enumerate(["a", "b"])]
results = {"status": "complete", "seed": seed, "epochs": 20, "tasks": tasks, "mean": numbers}
results["command"] = ["train.py", *sys.argv[1:]]
(folder / "results.json").write_text(json.dumps(results))
"""


class Clone:
    """scripts/, reporting/ and dassl/ of the project in `folder`, whose name contains spaces."""

    def __init__(self, tmp_path: Path):
        self.folder = tmp_path / "a clone (1)"
        self.record = tmp_path / "record it"
        self.record.mkdir()
        for name in ("scripts", "reporting", "dassl"):
            shutil.copytree(REPOSITORY / name, self.folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        (self.folder / "requirements.txt").write_text("# nothing but what runs this test\npytest>=1\n")
        for name in DATASETS:
            self._touch("configs/datasets", name)
        for trainer, names in CONFIGS.items():
            for name in names:
                self._touch(f"configs/trainers/{trainer}", name)
        standin = self.record / "standin.py"
        standin.write_text(STANDIN)
        self.interpreter = self.record / "python"
        quoted = {"python": f"'{sys.executable}'", "standin": f"'{standin}'"}
        self.interpreter.write_text(INTERPRETER.format(**quoted))
        self.interpreter.chmod(0o755)

    def _touch(self, folder: str, name: str) -> None:
        (self.folder / folder).mkdir(parents=True, exist_ok=True)
        (self.folder / folder / f"{name}.yaml").touch()

    def sh(self, script: str, *arguments: str, cwd: Path | None = None, shell=("sh",), **environment: str):
        """Run a script of the clone; PYTHON is the stand-in unless given, "" leaves it out."""
        ours = ("SEEDS", "OUTPUT", "YOUR_DATA_PATH", "SHOTS", "TASK", "TASKS", "METHODS", "PER_TASK")
        known = {name: value for name, value in os.environ.items() if name not in ours}
        settings = {"PYTHON": str(self.interpreter), "STANDIN": str(self.record), "PRELOAD": "False", **environment}
        for name, value in settings.items():
            known.pop(name, None)
            if value:
                known[name] = value
        path = self.folder / "scripts" / script
        return subprocess.run(
            [*shell, str(path), *arguments],
            cwd=cwd or self.record,
            env=known,
            capture_output=True,
            text=True,
            timeout=240,
        )

    def runs(self) -> list[list[str]]:
        """The arguments of every call of train.py so far."""
        path = self.record / "runs"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def dry_run(self) -> list[list[str]]:
        """What the last --dry-run has noted: comments, and the arguments of train.py."""
        return records((self.record / "dry_run").read_text())

    def calls(self) -> list[str]:
        """Calls of pip, venv, ruff, pytest, the parity program and the figure of a curve so far."""
        path = self.record / "calls"
        return path.read_text().splitlines() if path.exists() else []


def split_arguments(arguments: list[str]) -> tuple[dict[str, str | None], dict[str, str]]:
    """(options, KEY VALUE pairs) of one call of train.py; switches have the value None."""
    options, rest = {}, list(arguments)
    while rest and rest[0].startswith("--"):
        name = rest.pop(0)
        options[name] = None if name in ("--eval-only", "--overwrite") else rest.pop(0)
    return options, dict(zip(rest[::2], rest[1::2], strict=True))
