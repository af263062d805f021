"""The published commands: the arguments of each script of scripts/, and the runs that it makes.

`python -m sweeps.launchers NAME ARGUMENT ...` is what scripts/NAME.sh calls. The functions here only describe runs;
`sweeps.work` makes them.
"""

from __future__ import annotations

import os
import re
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dassl import program

from .calls import REPOSITORY, Call, Place

CONFIGS = REPOSITORY / "configs"
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
SECTIONS = {"MTCoOpHard": "MTCOOPH"}  # sections of TRAINER whose name is not the trainer's in capitals


@dataclass(frozen=True)
class Launcher:
    """A launcher of one method.

    Attributes:
        trainer: name in configs/trainers; "" if the first argument gives it.
        names: its arguments after DATASET CFG SHOTS, which are settings of the trainer.
        example: values of these.
        kind: "seeds" (train on all classes), "base" (on base classes), "new" (test on new classes), "both" (the two),
            "once" (one run without seeds: zero-shot), "classes" (once, on base or new classes), "probe" (for all SHOTS
            of the environment, and one run per task up to MAXTASKID).
        prefix: beginning of the folder's name instead of the arguments' names.
        fixed: settings of the trainer that are not arguments.
        place: first folder of the results.
        cfg: CFG of the example.
        by_task: whether an argument TASKID is possible.
    """

    trainer: str
    names: tuple[str, ...] = ()
    example: str = ""
    kind: str = "seeds"
    prefix: str = ""
    fixed: tuple[str, ...] = ()
    place: str = "output"
    cfg: str = "tiny_ep20"
    by_task: bool = True

    @property
    def arguments(self) -> tuple[str, ...]:
        """All arguments; those that may be omitted end with "?"."""
        first = ("DATASET", "CFG") if self.trainer else ("NAME", "DATASET", "CFG")
        if self.kind == "once":
            return (*first, "TASKID?")
        if self.kind == "classes":
            return (*first, "TASKID?", "CLASSES")
        if self.kind == "probe":
            return (*first, "MAXTASKID?")
        return (*first, "SHOTS", *self.names, *(("TASKID?",) if self.by_task else ()))

    @property
    def usage_example(self) -> str:
        name = "" if self.trainer else "MaPLe "
        if self.kind in ("once", "classes", "probe"):
            return f"{name}icon5 {self.cfg} {self.example}"
        return f"{name}icon5 {self.cfg} 4 {self.example}".strip()

    def key(self, name: str, trainer: str) -> str:
        return f"TRAINER.{SECTIONS.get(trainer, trainer.upper())}.{name}"


def _methods() -> Iterator[tuple[str, Launcher]]:
    soft = ("CLASS_N_CTX", "CLASS_CSC", "TASK_N_CTX", "TASK_CSC", "N_CTX", "CSC", "PG_TYPE", "PG_RATIO")
    nata = "0 False 4 False 16 False lin 1"
    for name, launcher in {
        "cocoop": Launcher("CoCoOp", ("TSC",), "True"),
        "coop": Launcher("CoOp", ("N_CTX", "CSC", "TSC"), "16 False True"),
        "kgcoop": Launcher("KgCoOp", ("W", "TSC"), "8.0 True"),
        "mtcoop": Launcher("MTCoOp", soft, nata, by_task=False),
        "mtupt": Launcher("MTUPT", ("SHARING", "MODE", "N_CTX"), "soft upt 8"),
        "plot": Launcher("PLOT", ("N", "N_CTX", "CSC", "TSC"), "4 16 False True"),
        "prograd": Launcher("ProGrad", ("N_CTX", "LAMBDA", "CSC", "TSC"), "16 1.0 False True"),
        "upt": Launcher("UPT", ("MODE", "N_CTX", "TSC"), "upt 8 True"),
        "vpt": Launcher("VPT", ("N_CTX", "DEEP", "TSC"), "4 True True"),
    }.items():
        yield f"main_{name}", launcher
        for kind, part in (("base", "train"), ("new", "test")):
            yield f"main_{name}_base2new_{part}", replace(launcher, kind=kind, place="output/base2new")
    yield "main_mtcoop_hard", Launcher("MTCoOpHard", ("N_CTX", "CSC", "TSC"), "16 False True", by_task=False)
    star = ("TRAINER.MTCOOP.TASK_FEATURE", "rand")
    yield "main_mtcoop_star", Launcher("MTCoOp", ("N_CTX",), "16", prefix="star_", fixed=star)
    sampled = "4 False 4 False 16 True lin 1 0.1"
    names = (*soft, "CLS_SAMPLE_RATE")
    yield "main_mtcoop_cls_sample", Launcher("MTCoOp", names, sampled, place="outputd", by_task=False)
    yield "protonet", Launcher("ProtoNet", ("METRIC",), "cosine", cfg="tiny")
    yield "linearprob", Launcher("LinearProbe", kind="probe", example="4", cfg="tiny")
    for name, trainer in (("zeroshot", "ZeroshotCLIP"), ("zeroshot2", "ZeroshotCLIP2")):
        yield name, Launcher(trainer, kind="once", example="2")
        yield f"{name}_base2new", Launcher(trainer, kind="classes", example="2 new")
    yield "method", Launcher("")
    yield "method_base2new", Launcher("", kind="both", place="output/base2new")


LAUNCHERS = dict(_methods())


@dataclass(frozen=True)
class Request:
    """What a launcher is asked for.

    Attributes:
        launcher: its name.
        values: {argument: value}.
        pairs: further KEY VALUE words.
        seeds, place: of the environment.
        task: number of the only task of a suite to run; "" for all.
        trainer: name for --trainer, if it is not that of the launcher.
        label: name of the row.
        protocol: "base-to-new": train on base classes and test on new ones, whatever the launcher does by itself.
    """

    launcher: str
    values: Mapping[str, str]
    pairs: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (1, 2, 3)
    place: Place = Place()
    task: str = ""
    trainer: str = ""
    label: str = ""
    protocol: str = ""

    @property
    def spec(self) -> Launcher:
        spec = LAUNCHERS[self.launcher]
        if self.protocol != "base-to-new":
            return spec
        kind = "classes" if spec.kind == "once" else "both"
        return replace(spec, kind=kind, place="output/base2new")

    @property
    def method(self) -> str:
        """Folder in configs/trainers."""
        return self.spec.trainer or self.values["NAME"]


def folder_of(request: Request) -> Path:
    """The folder above seed1, seed2, ... of a request, or above base and new."""
    spec, values = request.spec, request.values
    dataset, cfg = values["DATASET"], values["CFG"]
    task = f"task{request.task}" if request.task else ""
    if spec.kind == "once":
        return request.place.output / "output" / request.method / cfg / "-".join(filter(None, (dataset, request.task)))
    if spec.kind == "classes":
        last = "-".join(filter(None, (dataset, request.task)))
        return request.place.output / "output/base2new" / request.method / cfg / values["CLASSES"] / last
    return (
        request.place.output
        / spec.place
        / dataset
        / request.method
        / f"{cfg}_{values['SHOTS']}shots"
        / _name(request)
        / task
    )


def _name(request: Request) -> str:
    """The folder's name for the arguments of a method; the published one for SoftCPT."""
    spec, values = request.spec, request.values
    if spec.kind == "probe":
        return ""
    if not spec.trainer:  # TRAINER.MAPLE.N_CTX 4 -> nctx4, OPTIM.LR 0.01 -> optim.lr0.01
        words = [
            re.sub(r"TRAINER\.[^.]*\.", "", key).replace("_", "").lower() + re.sub(r"[^A-Za-z0-9._+-]", "-", value)
            for key, value in zip(request.pairs[::2], request.pairs[1::2], strict=True)
        ]
        return "_".join(words) or "default"
    if "CLASS_N_CTX" in spec.names:
        name = (
            "cnctx{CLASS_N_CTX}_ccsc{CLASS_CSC}_tnctx{TASK_N_CTX}_tcsc{TASK_CSC}_nctx{N_CTX}_csc{CSC}_type{PG_TYPE}"
            "_ratio{PG_RATIO}_loss"
        )
        return name.format(**values) + (f"_csr{values['CLS_SAMPLE_RATE']}" if "CLS_SAMPLE_RATE" in values else "")
    return spec.prefix + "_".join(name.replace("_", "").lower() + values[name] for name in spec.names)


def calls(request: Request) -> list[Call]:
    """The runs of a request, in order.

    Raises:
        UsageError: base to new with a context per class, which new classes lack.
    """
    spec, values, folder = request.spec, request.values, folder_of(request)
    task = ("DATASET.SUBSAMPLE_TASKS", f"task{request.task}") if request.task else ()
    common = {
        "trainer": request.trainer or request.method,
        "config": CONFIGS / "trainers" / request.method / f"{values['CFG']}.yaml",
        "dataset": CONFIGS / "datasets" / f"{values['DATASET']}.yaml",
        "root": request.place.data,
        "row": request.label,
    }
    if spec.kind in ("once", "classes"):
        task = ("DATASET.SUBSAMPLE_TASKS", f"task{request.task}" if request.task else "all")
        classes = ("DATASET.SUBSAMPLE_CLASSES", values["CLASSES"]) if spec.kind == "classes" else ()
        # nothing is random, so there is a single run instead of one per seed
        label = request.label or f"{request.method}, {values['DATASET']}"
        return [Call(folder, seed=1, eval_only=True, pairs=(*task, *classes, *request.pairs), label=label, **common)]
    pairs = ["DATASET.NUM_SHOTS", values["SHOTS"], *task]
    for name in spec.names:
        pairs += [spec.key(name, request.method), values[name]]
    pairs = (*pairs, *spec.fixed, *request.pairs)
    label = ", ".join(filter(None, (request.label or request.method, shots_text(values["SHOTS"]), ", ".join(task[1:]))))
    found = []
    for kind in ("base", "new") if spec.kind == "both" else (spec.kind,):
        halves = ("DATASET.SUBSAMPLE_CLASSES", kind) if kind in ("base", "new") else ()
        if kind == "base":
            _refuse_rows_of_classes(request, pairs)
        for seed in request.seeds:
            name = f"{label}{f', {kind} classes' if halves else ''}, seed {seed}"
            where = folder / kind / f"seed{seed}" if halves else folder / f"seed{seed}"
            call = Call(where, seed=seed, pairs=(*halves, *pairs), label=name, **common)
            if kind == "new":
                first = re.sub("_test$", "_train", request.launcher) + ".sh with the same arguments"
                call = replace(call, model=folder / "base" / f"seed{seed}", first=first)
            found.append(call)
    return found


def shots_text(shots: str | int) -> str:
    """A number of shots for people, e.g. "1 image per class"."""
    return {"1": "1 image per class", "0": "all images", "-1": "all images"}.get(
        str(shots), f"{shots} images per class"
    )


def _refuse_rows_of_classes(request: Request, pairs: Sequence[str]) -> None:
    """Stop if the second half of base to new is impossible: each class learns its own context."""
    given = dict(zip(pairs[::2], pairs[1::2], strict=True))
    for key, value in given.items():
        name = key.rpartition(".")[2]
        if (
            key.startswith("TRAINER.")
            and name in ("CSC", "CLASS_CSC")
            and key != "TRAINER.MTCOOP.CSC"
            and value == "True"
        ):
            other = request.launcher.removesuffix("_base2new_train").removesuffix("_base2new")
            raise UsageError(
                f"{name} True: each class learns its own context, so new classes have no context and base to new cannot "
                f"be tested. Use {name} False; {other}.sh trains on all classes with it."
            )


# ---- reading arguments -----------------------------------------------------------------------------------------------


class UsageError(ValueError):
    """A mistake in the arguments of a script."""


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
        pairs, task = self._pairs(rest, problems, found)
        seeds = environment.get("SEEDS", "").split() or ["1", "2", "3"]
        problems += [f'SEEDS has to be whole numbers, found "{seed}"' for seed in seeds if not seed.isdigit()]
        if (only := environment.get("TASK", "")) and not only.isdigit():
            problems.append(f'TASK has to be the number of a task, found "{only}"')
        if problems:
            head = "\n".join(f"{self.script}.sh: {problem}" for problem in problems)
            raise UsageError(f"{head}\n\n{self.usage(found)}\nsh {self.script}.sh --help explains the arguments")
        task = self._task(values, only, task, pairs)
        return Request(
            self.script, values, pairs, tuple(dict.fromkeys(map(int, seeds))), Place.of_environment(), task=task
        )

    def _pairs(self, rest: list[str], problems: list[str], found: list[str]) -> tuple[tuple[str, ...], str]:
        """(KEY VALUE words, number of the task that DATASET.SUBSAMPLE_TASKS taskN among them gives)."""
        pairs, task = [], ""
        while rest:
            key = rest.pop(0)
            found.append(" ".join([key, *rest[:1]]))
            if not KEY.fullmatch(key):
                problems.append(f'"{key}" is one argument too many, or not the KEY of a KEY VALUE pair')
            elif not rest:
                problems.append(f"the setting {key} has no value")
            else:
                value = rest.pop(0)
                if key == "DATASET.SUBSAMPLE_TASKS" and (number := re.fullmatch(r"task(\d+)", value)):
                    task = number[1]
                pairs += [key, value]
        return tuple(pairs), task

    def _task(self, values: dict, only: str, given: str, pairs: Sequence[str]) -> str:
        """The task of a run of one task, which has its own folder; "" for all tasks."""
        own = values.get("TASKID", "")
        task = own or only or given
        if only and task != only:
            raise UsageError(
                f"TASK={only}, but this script runs something else: it does not support TASK, or got another TASKID"
            )
        chosen = dict(zip(pairs[::2], pairs[1::2], strict=True)).get("DATASET.SUBSAMPLE_TASKS")
        if chosen in (None, f"task{task}" if task else "all"):
            return task
        if task:
            raise UsageError(
                f"DATASET.SUBSAMPLE_TASKS {chosen}, but this is the folder of task {task}: omit the setting"
            )
        raise UsageError(
            f"DATASET.SUBSAMPLE_TASKS {chosen} has no folder here. For one task, give its number, e.g. task2. For several "
            'tasks, each in its own run: TASKS="0 2" sh scripts/per_task.sh and this command. For several tasks in one '
            "run: python train.py with its own --output-dir."
        )

    def usage(self, found: Sequence[str] = ()) -> str:
        names = " ".join(f"[{item[:-1]}]" if item.endswith("?") else item for item in self.spec.arguments)
        trainer = self.spec.trainer or dict(word.partition("=")[::2] for word in found if "=" in word).get("NAME", "")
        lines = [f"usage: sh {self.script}.sh {names} [KEY VALUE ...] [--dry-run] [--overwrite]"]
        lines += [f"found: {' '.join(found)}"] if found else []
        lines.append(f"example: sh {self.script}.sh {self.spec.usage_example}")
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
        lines = [comment(self.script), self.usage(), "arguments:"]
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
    return "\n".join(head) + "\n"


# ---- scripts that make several requests -----------------------------------------------------------------------------

SHIFTED = {  # shifted test sets of a source, as files of configs/datasets
    "imagenet": ("imagenetv2", "imagenet_sketch", "imagenet_a", "imagenet_r"),
    **{f"{suite}_colour": tuple(f"{suite}_{style}" for style in ("shaded", "contrast", "line", "solid"))
       for suite in ("icon5", "icon13")},
}  # fmt: skip
OTHERS = [
    "imagenet",
    "caltech101",
    "dtd",
    "eurosat",
    "fgvc_aircraft",
    "food101",
    "oxford_flowers",
    "oxford_pets",
    "stanford_cars",
    "sun397",
    "ucf101",
]
METHODS = {  # first argument of xd_train.sh and xd_test.sh: launcher; other names than trainers are rows of a table
    **{
        name: f"main_{name.lower()}"
        for name in ["CoOp", "CoCoOp", "KgCoOp", "ProGrad", "PLOT", "VPT", "UPT", "MTUPT", "MTCoOp"]
    },
    "SoftCPT": "main_mtcoop",
    "MTCoOpHard": "main_mtcoop_hard",
    **{f"SoftCPT-{a}{b}": "main_mtcoop" for a in ("NA", "CA", "CS") for b in ("TA", "TS")},
    "SoftCPT*": "main_mtcoop_star",
    **{f"CoOp-{part}": "main_mtcoop_hard" for part in ("MT", "CA", "CS")},
    **{f"VPT-{depth}": "main_vpt" for depth in ("shallow", "deep")},
    **dict.fromkeys(("Joint", "Shared", "MLP"), "main_upt"),
    **{f"MTUPT-{sharing}": "main_mtupt" for sharing in ("soft", "hard", "task")},
}
TRAINERS = {launcher.trainer for launcher in LAUNCHERS.values()} | {"SoftCPT"}


def method_calls(name: str, words: Sequence[str]) -> list[Call]:
    """Runs of a launcher of one method."""
    request = Reader(name, LAUNCHERS[name]).read(words, os.environ)
    return _probe_calls(request) if request.spec.kind == "probe" else calls(request)


def _probe_calls(request: Request) -> list[Call]:
    """Runs of linearprob.sh: tasks 0 to MAXTASKID, or all in one run, for the numbers of shots in SHOTS."""
    shots = os.environ.get("SHOTS", "").split() or ["1", "2", "4", "8", "16"]
    pattern, text = PATTERNS["SHOTS"]
    if wrong := [word for word in shots if not re.fullmatch(pattern, word)]:
        raise UsageError(f'SHOTS has to be numbers, each {text}; found "{" ".join(wrong)}"')
    last = request.values.get("MAXTASKID", "")
    tasks = [request.task]
    if last:
        known = _suite_tasks(request.values["DATASET"], request.pairs, silent=True)
        if known and int(last) > known[-1]:
            raise UsageError(
                f'MAXTASKID has to be the number of a task of {request.values["DATASET"]}, 0 to {known[-1]}, found "{last}"'
            )
        tasks = [str(task) for task in range(int(last) + 1)]
    found = []
    for task in tasks:
        for number in shots:
            each = replace(request, task=task, values={**request.values, "SHOTS": number})
            found += calls(each)
    return found


def _suite_tasks(dataset: str, pairs: Sequence[str], silent: bool = False) -> list[int]:
    """Numbers of the tasks of a suite, without reading data; [] with `silent` if the suite does not list them."""
    import datasets  # noqa: F401  registers the suites
    from dassl.config import get_cfg_default, load
    from dassl.data.datasets import DATASET_REGISTRY

    given = dict(zip(pairs[::2], pairs[1::2], strict=True))
    own = [word for key in ("DATASET.NAME", "DATASET.TASKS") if key in given for word in (key, given[key])]
    try:
        cfg = get_cfg_default()
        load(cfg, [str(CONFIGS / f"datasets/{dataset}.yaml")], own)
        suite = DATASET_REGISTRY.get(cfg.DATASET.NAME)
        if not hasattr(suite, "task_keys"):
            raise UsageError(f"{cfg.DATASET.NAME} does not list its tasks; set TASKS to their numbers")
        return list(range(len(suite.task_keys(cfg))))
    except ValueError:
        if silent:
            return []
        raise


def per_task_calls(words: Sequence[str]) -> list[Call]:
    """Runs of per_task.sh: those of a launcher, once per task."""
    name = Path(words[0]).stem if words else ""
    dataset = words[1] if len(words) > 1 else ""
    if name not in LAUNCHERS:
        text = comment("per_task") + "\n" if not words else ""
        found = words[0] if words else ""
        raise UsageError(
            f'{text}the first argument has to be a launcher in scripts/, e.g. main_coop.sh; found "{found}"'
        )
    if task := os.environ.get("TASK"):
        raise UsageError(f'TASK={task} is set for one task; TASKS="{task}" restricts this script to it')
    if not (dataset and (CONFIGS / f"datasets/{dataset}.yaml").is_file()):
        raise UsageError(f'the second argument has to be a file of configs/datasets; found "{dataset}"')
    tasks = os.environ.get("TASKS", "").split()
    tasks = tasks or _suite_tasks(dataset, _pairs_in(words))
    found = []
    for task in tasks:
        request = Reader(name, LAUNCHERS[name]).read(words[1:], {**os.environ, "TASK": str(task)})
        found += _probe_calls(request) if request.spec.kind == "probe" else calls(request)
    return found


def _pairs_in(words: Sequence[str]) -> list[str]:
    """The KEY VALUE words at the end of the words."""
    first = next((i for i, word in enumerate(words) if "." in word and KEY.fullmatch(word)), len(words))
    rest = list(words[first:])
    return rest[: len(rest) - len(rest) % 2]


def transfer_request(words: Sequence[str], script: str) -> Request:
    """The request of xd_train.sh and xd_test.sh: METHOD and the arguments of its launcher."""
    if not words:
        raise UsageError(comment(script))
    if words[0] not in METHODS:
        raise UsageError(
            "METHOD has to be CoOp, CoCoOp, KgCoOp, ProGrad, PLOT, VPT, UPT, MTUPT, SoftCPT, MTCoOpHard, or a name of "
            "configs/methods.yaml that is trained with one of them, such as SoftCPT-NATA or CoOp-CA; found "
            f'"{words[0]}"'
        )
    name = METHODS[words[0]]
    if task := os.environ.get("TASK"):
        raise UsageError(f"TASK={task} is set; give the number of a task as TASKID, the last argument of {name}.sh")
    request = Reader(name, LAUNCHERS[name]).read(words[1:], os.environ)
    row = "" if words[0] in TRAINERS else words[0]
    return replace(request, trainer=row, label=row)


def transfer_targets(source: str) -> list[str]:
    """The datasets of xd_test.sh: TARGETS of the environment, or the shifted test sets of the source."""
    targets = os.environ.get("TARGETS", "").split() or list(SHIFTED.get(source, ()))
    if targets == ["others"]:
        targets = [name for name in OTHERS if name != source]
    if not targets:
        raise UsageError(
            f"TARGETS (environment) has to be set to the datasets to test on: {source} has no shifted test sets"
        )
    for target in targets:
        if not (CONFIGS / f"datasets/{target}.yaml").is_file():
            raise UsageError(f'TARGETS has to be files of configs/datasets, found "{target}"')
        if target == source:
            raise UsageError(f"TARGETS: {target} is the source, which the training run has already tested")
    return targets


def transfer_calls(request: Request, targets: Sequence[str], first: str) -> list[Call]:
    """Tests of the models of a request on other datasets, into xd/TARGET/seedS."""
    source = request.values["DATASET"]
    found = []
    for target in targets:
        if request.task and target not in SHIFTED.get(source, ()):
            raise UsageError(
                f"TASKID {request.task} is a task of the source, {target} has other tasks; train on the dataset of that "
                "task"
            )
    for call in calls(request):
        for target in targets:
            found.append(
                replace(
                    call,
                    folder=call.folder.parent / "xd" / target / call.folder.name,
                    dataset=CONFIGS / f"datasets/{target}.yaml",
                    model=call.folder,
                    first=first,
                    label=f"{call.label}, on {target}",
                )
            )
    return found


def script_calls(name: str, words: Sequence[str]) -> list[Call]:
    """The runs of scripts/NAME.sh with these words. Raises UsageError."""
    if name == "per_task":
        return per_task_calls(words)
    if name == "xd_train":
        return calls(transfer_request(words, name))
    if name == "xd_test":
        request = transfer_request(words, name)
        first = f"sh scripts/xd_train.sh {' '.join(words)}"
        return transfer_calls(request, transfer_targets(request.values["DATASET"]), first)
    return method_calls(name, words)


@program.entry(resume="the same command continues from the last checkpoint")
def main(arguments: Sequence[str]) -> int:
    """Run `scripts/NAME.sh ARGUMENT ...`."""
    from .dry_run import dry_run
    from .local import Local
    from .work import Attended, work

    name, *words = arguments
    flags = {word for word in words if word in ("--dry-run", "--overwrite")}
    words = [word for word in words if word not in flags]
    if words[:1] in (["-h"], ["--help"]):
        print(Reader(name, LAUNCHERS[name]).help() if name in LAUNCHERS else comment(name))
        return 0
    try:
        found = script_calls(name, words)
    except UsageError as error:
        text = str(error)
        print(text if text.startswith(f"{name}.sh: ") else f"{name}.sh: {text}", file=sys.stderr)
        return 2
    if "--dry-run" in flags:
        return dry_run(found, "--overwrite" in flags)
    jobs = work(found, Local(1), Attended(f"{name}.sh"), "--overwrite" in flags, go_on=False)
    failed = [job for job in jobs if job.state == "failed"]
    return failed[0].status if failed else 2 if any(job.state == "refused" for job in jobs) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
