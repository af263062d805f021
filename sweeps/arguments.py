"""The words after the name of a script: what is valid, what is meant, and what is said about mistakes."""

from __future__ import annotations

import os
import re
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .calls import CONFIGS, REPOSITORY, Place, settings_of
from .launchers import Launcher, Request, UsageError

KEY = re.compile(r"[A-Z][A-Z0-9_]*([.][A-Za-z0-9_]+)*")  # SEED, OPTIM.LR, TRAINER.MyMethod.RATE; not False, 16 or lin
NUMBER = r"-?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][-+]?[0-9]+)?"
EXPECTED = {  # arguments: pattern of valid values, and their description
    "SHOTS": (r"-1|[0-9]+", "a whole number of images per class (0 or -1: all images)"),
    "N_CTX CLASS_N_CTX TASK_N_CTX N TASKID MAXTASKID": (r"[0-9]+", "a whole number"),
    "CSC CLASS_CSC TASK_CSC TSC DEEP": (r"True|False", "True or False"),
    "PG_RATIO CLS_SAMPLE_RATE W LAMBDA": (NUMBER, "a number"),
    "PG_TYPE": (r"[A-Za-z0-9_]+", "a word: lin, linmean, lincls, mlp or transformer"),
    "MODE": (r"upt|joint|shared|mlp", "upt, joint, shared or mlp"),
    "SHARING": (r"soft|hard|task", "soft, hard or task"),
    "CLASSES": (r"base|new", "base or new"),
    "METRIC": (r"cosine|euclidean", "cosine or euclidean"),
}
PATTERNS = {name: rule for names, rule in EXPECTED.items() for name in names.split()}
MEANINGS = {  # NAME, or TRAINER NAME
    "NAME": "a method, with the settings of its configuration file",
    "DATASET": "suite or dataset",
    "CFG": "settings of backbone, input and training",
    "SHOTS": "training images per class",
    "TASKID": "number of a task of the suite, from 0: only this task, in a folder of its own",
    "MAXTASKID": "number of the last task, from 0; one run per task",
    "CLASSES": "half of the classes of each task",
    "N_CTX": "number of context tokens in front of a class name",
    "VPT N_CTX": "number of visual prompts in a layer",
    "UPT N_CTX": "number of tokens that are mapped to the prompts of both towers, half of them each",
    "MTUPT N_CTX": "number of tokens that are mapped to the prompts of both towers, half of them each",
    "CSC": "True: each class learns its own context; False: classes share contexts",
    "MTCoOp CSC": "True: a context per class, generated from class and task; False: a context per task",
    "TSC": "True: each task has its own prompts, all in one run; False: one set of prompts",
    "TASK_N_CTX": "number of context tokens of the task prompts, which feed the meta network (published: 4)",
    "TASK_CSC": "True: each task prompt has its own context (..TS); False: they share one (..TA)",
    "CLASS_N_CTX": "the same for class prompts (published: 4); with CSC False, they do not exist (0)",
    "CLASS_CSC": "True: each class prompt has its own context (CS..); False: they share one (CA..)",
    "PG_TYPE": "kind of meta network (published: lin)",
    "PG_RATIO": "without effect, part of the published command (1)",
    "CLS_SAMPLE_RATE": "share of the classes outside the batch that a training step keeps, 0 to 1",
    "DEEP": "True: prompts in every layer (VPT-deep); False: in the first layer (VPT-shallow)",
    "MODE": "how the prompts of both towers are made",
    "SHARING": "how tasks share prompts",
    "METRIC": "distance to the mean feature of a class",
    "N": "number of prompts per class",
    "W": "weight of the distance to hand-made prompts (published: 8.0)",
    "LAMBDA": "weight of the gradient part that agrees with zero-shot CLIP, 0 to 1 (published: 1.0)",
}


@dataclass
class Reader:
    """Reads the words after the name of a script.

    Attributes:
        script: name of the script, without .sh.
        spec: its launcher.
    """

    script: str
    spec: Launcher

    def expected(self, name: str, value: str, trainer: str) -> str:
        """Description of valid values of an argument; "" if `value` is valid."""
        if name == "NAME":
            return "" if value and (CONFIGS / "trainers" / value).is_dir() else "a folder of configs/trainers"
        if name == "DATASET":
            return "" if value and (CONFIGS / f"datasets/{value}.yaml").is_file() else "a file of configs/datasets"
        if name == "CFG":
            known = value and (CONFIGS / f"trainers/{trainer}/{value}.yaml").is_file()
            return "" if known else f"a file of configs/trainers/{trainer}"
        pattern, text = PATTERNS[name]
        return "" if re.fullmatch(pattern, value) else text

    def read(self, words: Sequence[str], environment: Mapping[str, str]) -> Request:
        """The request of these words. Raises UsageError with all mistakes and the usage."""
        rest, values, problems, found = list(words), {}, [], []
        for item in self.spec.arguments:
            name = item.rstrip("?")
            if item != name and not (rest and rest[0][:1].isdigit()):
                continue  # numbers, so they differ from keys
            if not rest:
                problems.append(f"{name} is missing")
                continue
            values[name] = rest.pop(0)
            found.append(f"{name}={values[name]}")
            trainer = self.spec.trainer or values.get("NAME", "")
            if expected := self.expected(name, values[name], trainer):
                problems.append(f'{name} has to be {expected}, found "{values[name]}"')
        pairs, wrong = read_pairs(rest)
        problems += wrong
        found += rest
        seeds = environment.get("SEEDS", "").split() or ["1", "2", "3"]
        problems += [f'SEEDS has to be whole numbers, found "{seed}"' for seed in seeds if not is_number(seed)]
        if (only := environment.get("TASK", "")) and not is_number(only):
            problems.append(f'TASK has to be the number of a task, found "{only}"')
        if problems:
            head = "\n".join(f"{self.script}.sh: {problem}" for problem in problems)
            raise UsageError(f"{head}\n\n{self.usage(found)}\nsh {self.script}.sh --help explains the arguments")
        task = self._task(values, only, pairs)
        return Request(
            self.script, values, pairs, tuple(dict.fromkeys(map(int, seeds))), Place.of_environment(), task=task
        )

    def _task(self, values: dict, only: str, pairs: Sequence[str]) -> str:
        """The task of a run of one task, which has its own folder; "" for all tasks."""
        chosen = settings_of(pairs).get("DATASET.SUBSAMPLE_TASKS")
        given = re.fullmatch(r"task(\d+)", chosen or "")
        task = values.get("TASKID", "") or only or (given[1] if given else "")
        if only and task != only:
            raise UsageError(
                f"TASK={only}, but this script runs something else: it does not support TASK, or got another TASKID"
            )
        if chosen in (None, f"task{task}" if task else "all"):
            return task
        if task:
            raise UsageError(
                f"DATASET.SUBSAMPLE_TASKS {chosen}, but this is the folder of task {task}: omit the setting"
            )
        raise UsageError(
            f"DATASET.SUBSAMPLE_TASKS {chosen} has no folder here. For one task, give its number, e.g. task2. For "
            'several tasks, each in its own run: TASKS="0 2" sh scripts/per_task.sh and this command. For several '
            "tasks in one run: python train.py with its own --output-dir."
        )

    def usage(self, found: Sequence[str] = ()) -> str:
        names = " ".join(f"[{item[:-1]}]" if item.endswith("?") else item for item in self.spec.arguments)
        trainer = self.spec.trainer or dict(word.partition("=")[::2] for word in found if "=" in word).get("NAME", "")
        lines = [f"usage: sh {self.script}.sh {names} [KEY VALUE ...] [--dry-run] [--overwrite]"]
        lines += [f"found: {' '.join(found)}"] if found else []
        lines.append(f"example: sh {self.script}.sh {self.spec.usage_example}".rstrip())
        folders = [] if self.spec.trainer else [("NAME, a folder of configs/trainers", CONFIGS / "trainers")]
        folders.append(("DATASET, a file of configs/datasets", CONFIGS / "datasets"))
        if trainer:
            folders.append((f"CFG, a file of configs/trainers/{trainer}", CONFIGS / "trainers" / trainer))
        for title, folder in folders:
            lines += [f"{title}:", names_in(folder)]
        place = Place.of_environment()
        seeds = os.environ.get("SEEDS") or "1 2 3"
        lines.append(f"environment: SEEDS (now: {seeds}), OUTPUT (now: {place.output}),")
        lines.append(
            f"             YOUR_DATA_PATH (now: {place.data}), PYTHON (now: {os.environ.get('PYTHON', sys.executable)})"
        )
        return "\n".join(lines)

    def help(self) -> str:
        """The comment of the script, its usage, and the meaning of all arguments."""
        lines = [comment(self.script), "", self.usage(), "arguments:"]
        for item in self.spec.arguments:
            name = item.rstrip("?")
            meaning = MEANINGS.get(f"{self.spec.trainer} {name}", MEANINGS[name])
            values = self.expected(name, "", self.spec.trainer or "NAME") + ("; may be omitted" if item != name else "")
            lines += [f"    {name:15} {meaning}", f"    {'':15}     {values}"]
        lines.append(
            f"    {'KEY VALUE ...':15} any further settings, e.g. OPTIM.MAX_EPOCH 4; docs/settings.md lists all"
        )
        lines.append(f"    {'--dry-run':15} print the commands and check them, run nothing")
        lines.append(f"    {'--overwrite':15} repeat finished and interrupted runs")
        return "\n".join(lines)


def is_number(word: str) -> bool:
    """Whether a word is a number of seeds, tasks or runs: digits only."""
    return re.fullmatch("[0-9]+", word) is not None


def read_pairs(words: Sequence[str]) -> tuple[tuple[str, ...], list[str]]:
    """(the KEY VALUE pairs among the words, what is wrong with the others)."""
    rest, pairs, problems = list(words), [], []
    while rest:
        key = rest.pop(0)
        if not KEY.fullmatch(key):
            problems.append(f'"{key}" is one argument too many, or not the KEY of a KEY VALUE pair')
        elif not rest:
            problems.append(f"the setting {key} has no value")
        else:
            pairs += [key, rest.pop(0)]
    return tuple(pairs), problems


def names_in(folder: Path) -> str:
    """Names of the files or folders in a folder of configs, wrapped for a terminal."""
    names = sorted(
        path.stem if path.suffix == ".yaml" else path.name for path in folder.glob("*") if path.name[:1] != "_"
    )
    return textwrap.fill(" ".join(names), 100, initial_indent="    ", subsequent_indent="    ", break_on_hyphens=False)


def comment(script: str) -> str:
    """The comment at the head of a script."""
    lines = (REPOSITORY / "scripts" / f"{script}.sh").read_text(encoding="utf-8").splitlines()[1:]
    head = []
    for line in lines:
        if not line.startswith("#"):
            break
        head.append(re.sub("^# ?", "", line))
    return "\n".join(head)
