"""The published commands: the arguments of each script of scripts/, and the runs that it makes.

`python -m sweeps.launchers NAME ARGUMENT ...` is what scripts/NAME.sh calls. The functions here only describe runs;
`sweeps.work` makes them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from .calls import CONFIGS, Call, Place, settings_of


class UsageError(ValueError):
    """A mistake in the arguments of a script."""


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
            of the environment, and one run per task up to MAXTASKID), "grid" (a grid of DATASET and CFG).
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
        if self.kind == "grid":
            return first
        return (*first, "SHOTS", *self.names, *(("TASKID?",) if self.by_task else ()))

    @property
    def usage_example(self) -> str:
        name = "" if self.trainer else "MaPLe "
        if self.kind in ("once", "classes", "probe", "grid"):
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
    top = request.place.output / spec.place / dataset / request.method
    return top / f"{cfg}_{values['SHOTS']}shots" / _name(request) / task


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
    for key, value in settings_of(pairs).items():
        name = key.rpartition(".")[2]
        of_classes = name in ("CSC", "CLASS_CSC") and key != "TRAINER.MTCOOP.CSC"
        if key.startswith("TRAINER.") and of_classes and value == "True":
            other = request.launcher.removesuffix("_base2new_train").removesuffix("_base2new")
            raise UsageError(
                f"{name} True: each class learns its own context, so new classes have no context and base to new "
                f"cannot be tested. Use {name} False; {other}.sh trains on all classes with it."
            )
