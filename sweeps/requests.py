"""The scripts of scripts/ that make the runs of one method: on a suite, once per task, or on other datasets."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from .arguments import KEY, PATTERNS, Reader, comment
from .calls import CONFIGS, Call, settings_of
from .launchers import LAUNCHERS, Request, UsageError, calls

SHIFTED = {  # shifted test sets of a source, as files of configs/datasets
    "imagenet": ("imagenetv2", "imagenet_sketch", "imagenet_a", "imagenet_r"),
    **{f"{suite}_colour": tuple(f"{suite}_{style}" for style in ("shaded", "contrast", "line", "solid"))
       for suite in ("icon5", "icon13")},
}  # fmt: skip
OTHERS = [  # ImageNet and the data sets of General-10
    "imagenet", "caltech101", "dtd", "eurosat", "fgvc_aircraft", "food101", "oxford_flowers", "oxford_pets",
    "stanford_cars", "sun397", "ucf101",
]  # fmt: skip
METHODS = {  # METHOD of xd_train.sh and xd_test.sh: its launcher if not method.sh; other names than trainers are rows
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
SCRIPTS = ("per_task", "xd_train", "xd_test")  # scripts that call a launcher
TRAINERS = {launcher.trainer for launcher in LAUNCHERS.values()} | {"SoftCPT"}


def method_calls(name: str, words: Sequence[str], **environment: str) -> list[Call]:
    """Runs of a launcher of one method; `environment`: variables beside those of this process."""
    request = Reader(name, LAUNCHERS[name]).read(words, {**os.environ, **environment})
    return _probe_calls(request) if request.spec.kind == "probe" else calls(request)


def _probe_calls(request: Request) -> list[Call]:
    """Runs of linearprob.sh: tasks 0 to MAXTASKID, or all in one run, for the numbers of shots in SHOTS."""
    shots = os.environ.get("SHOTS", "").split() or ["1", "2", "4", "8", "16"]
    pattern, text = PATTERNS["SHOTS"]
    if wrong := [word for word in shots if not re.fullmatch(pattern, word)]:
        raise UsageError(f'SHOTS has to be numbers, each {text}; found "{" ".join(wrong)}"')
    last = request.values.get("MAXTASKID", "")
    tasks = [request.task]
    if last and request.task:
        raise UsageError(f"task {request.task} is asked for, and tasks 0 to {last} (MAXTASKID): omit one of them")
    if last:
        known = suite_tasks(request.values["DATASET"], request.pairs, silent=True)
        if known and int(last) > known[-1]:
            suite = request.values["DATASET"]
            raise UsageError(f'MAXTASKID has to be the number of a task of {suite}, 0 to {known[-1]}, found "{last}"')
        tasks = [str(task) for task in range(int(last) + 1)]
    found = []
    for task in tasks:
        for number in shots:
            each = replace(request, task=task, values={**request.values, "SHOTS": number})
            found += calls(each)
    return found


def suite_tasks(dataset: str, pairs: Sequence[str], silent: bool = False) -> list[int]:
    """Numbers of the tasks of a suite, without reading data; [] with `silent` if the suite does not list them."""
    import datasets  # noqa: F401  registers the suites
    from dassl.config import get_cfg_default, load
    from dassl.data.datasets import DATASET_REGISTRY

    given = settings_of(pairs)
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
    if name not in LAUNCHERS:
        text = f"{comment('per_task')}\nper_task.sh: " if not words else ""
        found = words[0] if words else ""
        raise UsageError(
            f'{text}the first argument has to be a launcher in scripts/, e.g. main_coop.sh; found "{found}"'
        )
    if task := os.environ.get("TASK"):
        raise UsageError(f'TASK={task} is set for one task; TASKS="{task}" restricts this script to it')
    place = 1 + LAUNCHERS[name].arguments.index("DATASET")
    dataset = words[place] if len(words) > place else ""
    if not (dataset and (CONFIGS / f"datasets/{dataset}.yaml").is_file()):
        raise UsageError(f'DATASET has to be a file of configs/datasets; found "{dataset}"')
    tasks = os.environ.get("TASKS", "").split() or suite_tasks(dataset, _pairs_in(words))
    return [call for task in tasks for call in method_calls(name, words[1:], TASK=str(task))]


def _pairs_in(words: Sequence[str]) -> list[str]:
    """The KEY VALUE words at the end of the words."""
    first = next((i for i, word in enumerate(words) if "." in word and KEY.fullmatch(word)), len(words))
    rest = list(words[first:])
    return rest[: len(rest) - len(rest) % 2]


def transfer_request(words: Sequence[str], script: str) -> Request:
    """The request of xd_train.sh and xd_test.sh: METHOD and the arguments of its launcher."""
    if not words:
        raise UsageError(comment(script))
    if words[0] not in METHODS and not (CONFIGS / "trainers" / words[0]).is_dir():
        raise UsageError(
            "METHOD has to be CoOp, CoCoOp, KgCoOp, ProGrad, PLOT, VPT, UPT, MTUPT, SoftCPT, MTCoOpHard, a name of "
            "configs/methods.yaml that is trained with one of them, such as SoftCPT-NATA or CoOp-CA, or a folder of "
            f'configs/trainers, such as MaPLe; found "{words[0]}"'
        )
    name = METHODS.get(words[0], "method")  # method.sh takes METHOD as its first argument
    if task := os.environ.get("TASK"):
        raise UsageError(f"TASK={task} is set; give the number of a task as TASKID, the last argument of {name}.sh")
    request = Reader(name, LAUNCHERS[name]).read(words if name == "method" else words[1:], os.environ)
    row = "" if words[0] in TRAINERS or name == "method" else words[0]
    return replace(request, trainer=row, label=row)


def transfer_targets(source: str, asked: Sequence[str]) -> list[str]:
    """The datasets that models of a source are tested on: those asked for, or the shifted test sets of the source.

    "others": ImageNet and the ten datasets of General-10, without the source. Raises UsageError.
    """
    targets = list(asked) or list(SHIFTED.get(source, ()))
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
    for target in targets:
        if request.task and target not in SHIFTED.get(request.values["DATASET"], ()):
            raise UsageError(
                f"TASKID {request.task} is a task of the source, {target} has other tasks; train on the dataset of "
                "that task"
            )
    return [
        replace(
            call,
            folder=call.folder.parent / "xd" / target / call.folder.name,
            dataset=CONFIGS / f"datasets/{target}.yaml",
            model=call.folder,
            first=first,
            label=f"{call.label}, on {target}",
        )
        for call in calls(request)
        for target in targets
    ]


def continued_calls(request: Request, target: str, tasks: Sequence[int]) -> tuple[list[Call], list[Call]]:
    """Training on single tasks of another suite, from scratch and from the model of a request (MVLPT's protocol).

    Args:
        request: the joint run on the source tasks.
        target: file of configs/datasets with the target tasks.
        tasks: numbers of the target tasks.

    Returns:
        (runs from scratch, in the usual folders; runs from the source's model, in output/continued/SOURCE/TARGET).
    """
    top, source = request.place.output, request.values["DATASET"]
    models = {call.seed: call.folder for call in calls(request)}
    scratch, continued = [], []
    for task in tasks:
        each = replace(request, values={**request.values, "DATASET": target}, task=str(task))
        for call in calls(each):
            inner = call.folder.relative_to(top / request.spec.place)
            label = call.label.replace(", seed", f", on {target}, seed")
            scratch.append(replace(call, label=label))
            continued.append(
                replace(
                    call,
                    folder=top / "output/continued" / source / inner,
                    source=models[call.seed],
                    first="the sweep's training runs",
                    label=label.replace(", seed", f", from {source}, seed"),
                )
            )
    return scratch, continued


def script_calls(name: str, words: Sequence[str]) -> list[Call]:
    """The runs of scripts/NAME.sh, a launcher or one of SCRIPTS, with these words. Raises UsageError."""
    if name == "per_task":
        return per_task_calls(words)
    if name == "xd_train":
        return calls(transfer_request(words, name))
    if name == "xd_test":
        request = transfer_request(words, name)
        first = f"sh scripts/xd_train.sh {' '.join(words)}"
        targets = transfer_targets(request.values["DATASET"], os.environ.get("TARGETS", "").split())
        return transfer_calls(request, targets, first)
    return method_calls(name, words)
