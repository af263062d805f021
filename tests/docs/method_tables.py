"""The tables of methods in docs/methods.md: papers, what is learned, parameters, measured cost, commands.

Costs are read from docs/measured/, which `python -m benchmarks.methods ... --json` writes.
"""

from __future__ import annotations

import json
import shlex
import textwrap
from pathlib import Path
from typing import NamedTuple

import torch

import trainers  # noqa: F401  registers the methods
from benchmarks.methods import ALL, METHODS, PROMPTED, VARIANTS
from clip.clip import tokenizer
from dassl.config import get_cfg_default, load
from dassl.data.tasks import Task, TaskSpace
from datasets.table import GENERAL10

MEASURED = Path(__file__).resolve().parents[2] / "docs/measured"
SOFT = "main_mtcoop.sh … {} lin 1"


class Row(NamedTuple):
    paper: int
    learned: str
    command: str


# Papers are link references of the page. In a command, "…" stands for DATASET CFG SHOTS.
ROWS = {
    "ZeroshotCLIP": Row(1, "nothing", "zeroshot.sh icon5 tiny"),
    "ZeroshotCLIP2": Row(1, "nothing", "zeroshot2.sh icon5 tiny"),
    "LinearProbe": Row(1, "N · (weights, bias)", "linearprob.sh icon5 tiny"),
    "ProtoNet": Row(2, "N mean features", "protonet.sh … cosine"),
    "CoOp-MT": Row(3, "a context", "main_mtcoop_hard.sh … 16 False False"),
    "CoOp-CA": Row(3, "T contexts", "main_mtcoop_hard.sh … 16 False True"),
    "CoOp-CS": Row(3, "N contexts", "main_mtcoop_hard.sh … 16 True False"),
    "CoOp": Row(3, "T contexts", "main_coop.sh … 16 False True"),
    "CoCoOp": Row(4, "T · (context, network)", "main_cocoop.sh … True"),
    "ProGrad": Row(5, "T contexts", "main_prograd.sh … 16 1.0 False True"),
    "KgCoOp": Row(6, "T contexts", "main_kgcoop.sh … 8.0 True"),
    "PLOT": Row(7, "T · 4 contexts", "main_plot.sh … 4 16 False True"),
    "SoftCPT*": Row(8, "P, T·f", "main_mtcoop_star.sh … 16"),
    "SoftCPT-NATA": Row(8, "P, V", SOFT.format("0 False 4 False 16 False")),
    "SoftCPT-NATS": Row(8, "P, T·V", SOFT.format("0 False 4 True 16 False")),
    "SoftCPT-CATA": Row(8, "P, V, W", SOFT.format("4 False 4 False 16 True")),
    "SoftCPT-CSTA": Row(8, "P, V, N·W", SOFT.format("4 True 4 False 16 True")),
    "SoftCPT-CATS": Row(8, "P, T·V, W", SOFT.format("4 False 4 True 16 True")),
    "SoftCPT-CSTS": Row(8, "P, T·V, N·W", SOFT.format("4 True 4 True 16 True")),
}


def table(head: list[str], rows: list[list]) -> list[str]:
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in (head, *rows)]
    return [lines[0], "|" + "-|" * len(head), *lines[1:]]


# ---- parameters


class RN50Text:
    """The sizes of RN50's text tower and nothing behind them: what a learner is built from."""

    width, output_dim, context_length, device = 512, 1024, 77, torch.device("cpu")
    tokenizer = tokenizer()

    @staticmethod
    def embed(ids):
        return torch.zeros(*ids.shape, 512)

    @staticmethod
    def encode(texts):
        return torch.zeros(len(texts), 1024)


def learnable(method: str, space: TaskSpace | None = None) -> int:
    """Learnable parameters of a method of `benchmarks.methods` with RN50 on the tasks of `space`, or of General-10."""
    cfg = get_cfg_default()
    load(cfg, [], ALL[method].pairs())
    space = space or TaskSpace(
        tuple(Task(row.name, row.task_name, tuple(f"class {i}" for i in range(row.classes))) for row in GENERAL10)
    )
    learner = ALL[method].cls.build_learner(cfg, RN50Text(), space)
    return sum(p.numel() for p in learner.parameters() if p.requires_grad)


# ---- costs


def measured(backbone: str) -> tuple[dict[str, dict], list[str]]:
    """The rows of a measurement by method, and lines that say what it was; nothing where none was made."""
    file = MEASURED / f"methods_{backbone}.json"
    if not file.exists():
        return {}, []
    found = json.loads(file.read_text(encoding="utf-8"))
    parts = ["python -m benchmarks.methods"]  # which stay on one line each
    for flag in ("suite", "scale", "backbone", "batch", "shots", "repeat", "clock"):
        parts.append(f"--{flag} " + (f"{found[flag]:g}" if flag == "scale" else str(found[flag])))
    names = [row["method"] for row in found["rows"]]
    if not {*METHODS, *VARIANTS} <= {*names}:
        parts += [f"--methods {shlex.quote(names[0])}", *map(shlex.quote, names[1:])]
    command = [parts[0]]
    for part in parts[1:]:
        if len(command[-1]) + len(part) > 115:
            command.append("   ")
        command[-1] += " " + part
    said = (
        f"{found['classes']} classes in {found['tasks']} tasks, {found['tasks_in_batch']} of them in the batch; "
        f"{found['dtype']}, {found['threads']} thread{'s' * (found['threads'] > 1)} of an {found['processor']} "
        f"{found['device'].upper()}, torch {found['torch'].split('+')[0]}"
        f"{', time of the processor' * (found['clock'] == 'processor')}; 1.00 is {_seconds(found, 'seconds')} with "
        f"features given and {_seconds(found, 'live_seconds')} with the image tower:"
    )
    wrapped = textwrap.wrap(said, 120, break_on_hyphens=False, break_long_words=False)
    lines = ["", *wrapped, "", "```sh", *(line + " \\" for line in command[:-1]), command[-1], "```"]
    return {row["method"]: row for row in found["rows"]}, lines


def _seconds(found: dict, key: str) -> str:
    reference = next(row for row in found["rows"] if row["method"] == "CoOp-CA")
    return f"{reference[key]:.2f} s"


def costs(row: dict | None) -> list[str]:
    """The cells of a method: relative to CoOp with given features, and with the image tower."""
    if row is None:
        return ["?", "?"]  # not measured yet
    if "fit" in row:
        return [(f"{row['fit']:.1f}" if row["fit"] >= 0.1 else "< 0.1") + " in all", "–"]
    found = (row.get(key) for key in ("relative", "live_relative"))
    return ["–" if value is None else f"{value:.3g}" if value >= 10 else f"{value:.2f}" for value in found]


# ---- tables


def methods() -> list[str]:
    """Every row of the published tables."""
    found, said = measured("rn50")
    rows = []
    for name, row in ROWS.items():
        trainer = METHODS[name].trainer if name in METHODS else name
        numbers = [f"{learnable(name):,}", *costs(found.get(name))] if name in METHODS else ["0", "–", "–"]
        rows.append([name, f"[{row.paper}]", f"`{trainer}`", row.learned, *numbers, f"`{row.command}`"])
    head = ["row", "paper", "trainer", "learned", "parameters", "cost", "live", "command"]
    return table(head, rows) + said


def variants() -> list[str]:
    """Other settings of the same methods."""
    found, _ = measured("rn50")
    rows = [
        [name, f"`{one.trainer}`", f"`{one.settings}`", f"{learnable(name):,}", *costs(found.get(name))]
        for name, one in VARIANTS.items()
    ]
    return table(["variant", "trainer", "settings", "parameters", "cost", "live"], rows)


def prompted() -> list[str]:
    """Methods with prompts in the image tower, beside some without."""
    found, said = measured("vit_b16")
    rows = [
        [name, f"`{ALL[name].settings}`", *costs(found.get(name))] for name in ("CoOp-CA", "SoftCPT-NATA", *PROMPTED)
    ]
    return table(["method", "settings", "cost", "live"], rows) + said
