"""The scripts of scripts/ that make a whole grid: what arguments and environment change in a file of configs/sweeps."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from .arguments import PATTERNS, Reader, comment, is_number, read_pairs
from .calls import CONFIGS, REPOSITORY, Place
from .dry_run import dry_run
from .grid import Experiment, Grid, expand, read_grid, runs_of
from .launchers import Launcher, UsageError
from .local import Local, read_jobs, share_processors
from .requests import SHIFTED, suite_tasks
from .rows import chosen
from .tables import show_left_out, show_tables
from .work import Attended, Lines, show_begin, summary, work

Plan = tuple[Grid, tuple[str, ...], tuple[str, ...]]  # grid, names of rows, KEY VALUE words


def _dataset_and_config(
    words: Sequence[str], default: tuple[str, ...] = (), known: Callable | None = None, text: str = ""
):
    """(DATASET, CFG, KEY VALUE words). Without the first two, `default`."""
    words = list(words)
    if default and (not words or words[0][:1].isupper()):
        words = [*default, *words]
    known = known or (lambda name: (CONFIGS / f"datasets/{name}.yaml").is_file())
    if len(words) < 2 or not known(words[0]):
        both = "[DATASET CFG]" if default else "DATASET CFG"
        text = text or "DATASET a file of configs/datasets"
        raise UsageError(f'arguments: {both} [KEY VALUE ...], {text}; found "{" ".join(words)}"')
    return words[0], words[1], _pairs(words[2:])


def _pairs(words: Sequence[str]) -> tuple[str, ...]:
    """KEY VALUE words. Raises UsageError for other words."""
    pairs, problems = read_pairs(words)
    if problems:
        raise UsageError(problems[0])
    return pairs


def _shots(default: str) -> tuple[int, ...]:
    pattern, text = PATTERNS["SHOTS"]
    words = os.environ.get("SHOTS", "").split() or default.split()
    if wrong := [word for word in words if not re.fullmatch(pattern, word)]:
        raise UsageError(f'SHOTS has to be {text}; found "{wrong[0]}"')
    return tuple(map(int, words))


def _seeds(default: tuple[int, ...]) -> tuple[int, ...]:
    words = os.environ.get("SEEDS", "").split()
    if wrong := [word for word in words if not is_number(word)]:
        raise UsageError(f'SEEDS has to be whole numbers, found "{wrong[0]}"')
    return tuple(dict.fromkeys(map(int, words))) or default


def _names() -> tuple[str, ...]:
    return tuple(os.environ.get("METHODS", "").split())


def _list(name: str, default: str, pattern: str, text: str) -> list[str]:
    """Words of a variable of the environment."""
    words = os.environ.get(name, default).split()
    if not words:
        raise UsageError(f"{name} is empty: expected {text}")
    if wrong := [word for word in words if not re.fullmatch(pattern, word)]:
        raise UsageError(f'{name} has to be {text}, found "{wrong[0]}"')
    return words


def all_methods(words: Sequence[str]) -> Plan:
    dataset, config, pairs = _dataset_and_config(words)
    grid = replace(read_grid("softcpt"), suites=(dataset,), config=config, shots=_shots("1 2 4"), class_sampling={})
    if rate := os.environ.get("CLS_SAMPLE_RATE"):
        pattern, text = PATTERNS["CLS_SAMPLE_RATE"]
        if not re.fullmatch(pattern, rate):
            raise UsageError(f'CLS_SAMPLE_RATE has to be {text}; found "{rate}"')
        grid = replace(grid, class_sampling={dataset: rate})
    return grid, _names(), pairs


def upt_table1(words: Sequence[str]) -> Plan:
    dataset, config, pairs = _dataset_and_config(
        words, ("icon5_colour", "tiny_ep20"), SHIFTED.__contains__, "DATASET icon5_colour, icon13_colour or imagenet"
    )
    shots = _shots("16" if dataset == "imagenet" else "4")
    return replace(read_grid("upt1"), suites=(dataset,), config=config, shots=shots), _names(), pairs


def upt_table2(words: Sequence[str]) -> Plan:
    dataset, config, pairs = _dataset_and_config(words, ("icon5", "tiny_ep20"))
    if task := os.environ.get("TASK"):
        raise UsageError(f"TASK={task} is set, which this script does not support; PER_TASK=yes runs each task")
    each = os.environ.get("PER_TASK") or "no"
    if each not in ("yes", "no"):
        raise UsageError(f'PER_TASK has to be yes or no; found "{each}"')
    grid = replace(read_grid("upt2"), suites=(dataset,), config=config, shots=_shots("4"), tasks="joint")
    if each == "yes":
        numbers = _list("TASKS", "", "[0-9]+", "numbers of tasks") if os.environ.get("TASKS") else ()
        numbers = tuple(map(int, numbers)) or tuple(suite_tasks(dataset, pairs))
        grid = replace(grid, tasks="each", numbers=numbers)
    return grid, _names(), pairs


def demo(words: Sequence[str]) -> Plan:
    return read_grid("demo"), (), _pairs(words)


def _analysis(name: str, words: Sequence[str]) -> Plan:
    """An analysis of DATASET CFG [SHOTS]: its own variables of the environment choose the variants."""
    script, variables = ANALYSES[name]
    request = _reader(script).read(words, os.environ)
    grid = replace(read_grid(name), suites=(request.values["DATASET"],), config=request.values["CFG"])
    if name == "stability":
        shots = _list("SHOTS_LIST", "1 2 4 8 16", *variables["SHOTS_LIST"])
        return replace(grid, shots=tuple(map(int, shots))), (), request.pairs
    chosen = {key: _list(key, "", *rule) for key, rule in variables.items() if key in os.environ}
    grid = replace(grid, shots=(int(request.values["SHOTS"]),), variants=_variants(name, dict(grid.variants), chosen))
    return grid, (), request.pairs


def _reader(script: str) -> Reader:
    """The reader of the arguments of an analysis."""
    return Reader(script, Launcher("MTCoOp", kind="grid" if script == "analysis_stability" else "seeds", by_task=False))


def _variants(name: str, own: dict, chosen: dict[str, list[str]]) -> dict[str, dict[str, object]]:
    """The variants of an analysis, with the values that the environment gives in place of those of its file."""
    if name == "backbones" and "BACKBONES" in chosen:
        return {re.sub("/", "-", word): {"MODEL.BACKBONE.NAME": word} for word in chosen["BACKBONES"]}
    if name == "task_features" and "DIMS" in chosen:
        keys = "TRAINER.MTCOOP.TASK_FEATURE", "TRAINER.MTCOOP.TASK_FEATURE_DIM"
        return {
            kind + (f"_dim{dim}" if dim != "0" else ""): dict(zip(keys, (kind, dim), strict=True))
            for dim in ("0", *chosen["DIMS"])
            for kind in ("te", "rand")
        }
    for prefix, variable, key in (("nctx", "LENGTHS", "N_CTX"), ("tnctx", "TASK_LENGTHS", "TASK_N_CTX")):
        if name == "lengths" and variable in chosen:
            new = {f"{prefix}{word}": {f"TRAINER.MTCOOP.{key}": word} for word in chosen[variable]}
            rest = {label: settings for label, settings in own.items() if not re.match(rf"{prefix}\d", label)}
            own = {**new, **rest} if prefix == "nctx" else {**rest, **new}
    return own


NUMBER = r"[1-9][0-9]*"
ANALYSES = {  # grid: (script, {variable: (pattern, description of its words)})
    "backbones": ("analysis_backbones", {"BACKBONES": (r"[A-Za-z0-9._:/-]+", "names of backbones")}),
    "lengths": ("analysis_length", dict.fromkeys(("LENGTHS", "TASK_LENGTHS"), (NUMBER, "numbers of tokens"))),
    "task_features": ("analysis_task_feature", {"DIMS": (NUMBER, "numbers of dimensions")}),
    "stability": ("analysis_stability", {"SHOTS_LIST": (NUMBER, "numbers of images per class")}),
}
PLANS: dict[str, Callable[[Sequence[str]], Plan]] = {
    "all_methods": all_methods,
    "upt_table1": upt_table1,
    "upt_table2": upt_table2,
    "demo": demo,
    **{script: partial(_analysis, name) for name, (script, _) in ANALYSES.items()},
}


def help_of(name: str) -> str:
    """What --help prints for a script of PLANS."""
    return _reader(name).help() if name in ANALYSES_SCRIPTS else comment(name)


def run_script(name: str, words: Sequence[str], preview: bool, overwrite: bool) -> int:
    """Make the runs of scripts/NAME.sh and print its tables. Returns the exit status.

    Raises:
        UsageError, UserError.
    """
    grid, names, pairs = PLANS[name](words)
    if task := os.environ.get("TASK"):
        raise UsageError(f"TASK={task} is set, which this script does not support: its runs cover a whole suite")
    grid = replace(grid, seeds=_seeds(grid.seeds))
    if names:
        chosen(grid.chosen_rows, names, "METHODS")
    experiments = expand(grid, Place.of_environment(), pairs, names)
    if "DATASET.SUBSAMPLE_TASKS" in pairs[::2]:
        raise UsageError(
            "DATASET.SUBSAMPLE_TASKS: these runs and their table cover a whole suite; for some of its tasks, call the "
            "launchers directly"
        )
    show_left_out(experiments)
    calls = runs_of(experiments)
    jobs = read_jobs(os.environ.get("JOBS") or ("1" if name in ANALYSES_SCRIPTS else ""))
    more = share_processors(jobs)
    if preview:
        return dry_run(calls, overwrite, more)
    if jobs > 1:
        show_begin(len(calls), jobs)
    display = Lines() if jobs > 1 else Attended(f"{name}.sh", several=True)
    if status := summary(work(calls, Local(jobs), display, overwrite, more)):
        return status
    ENDS.get(name, show_tables)(grid, experiments)
    return 0


ANALYSES_SCRIPTS = {script for script, _ in ANALYSES.values()}


def _analysis_end(grid: Grid, experiments: Sequence[Experiment]) -> None:
    folder = os.path.commonpath([each.folder for each in experiments])
    for part in ("backbones", "length", "task_feature", "stability"):
        head, found, _ = folder.partition(f"/{part}")
        folder = head + found if found else folder
    more = " --relative-std" if folder.endswith("stability") else ""
    print(f'all results: {sys.executable} {REPOSITORY / "parse_test_res.py"} "{folder}" --multi-exp{more}')


def _demo_end(grid: Grid, experiments: Sequence[Experiment]) -> None:
    from analysis.sweep import main as curve
    from reporting.frame import read_frame
    from reporting.page import Options, build

    show_tables(grid, [each for each in experiments if each.shots == 4])
    zero_shot = next(each.folder for each in experiments if each.row == "ZeroshotCLIP")
    of_shots = {each.row: each.folder.removesuffix("/seed*") for each in experiments if each.shots == 4}
    lines = [
        f"{row}={folder.replace('_4shots', '_*shots')}" for row, folder in of_shots.items() if row != "ZeroshotCLIP"
    ]
    output = Place.of_environment().output
    print(f"\n{grid.suites[0]}, {grid.config}, mean over the tasks", flush=True)
    figures = str(output / "output/icon5/figures/demo")
    curve([*lines, "--zero-shot", zero_shot, "--compare", "SoftCPT-NATA", "--out", figures])
    folders = sorted({each.folder.removesuffix("/seed*") for each in experiments})
    page = build(read_frame(folders), output / "output/icon5/report", Options("Icon5: 1 to 8 images per class"))
    print(f"\nall results as a page: {page}")
    best = of_shots["SoftCPT-NATA"].replace("_4shots", "_8shots")
    print(
        "\nnext:\n"
        "    the whole table of the paper: SHOTS=4 sh scripts/all_methods.sh icon5 tiny_ep20\n"
        "    your own images:              docs/own-data.md\n"
        f"    classify an image:            {sys.executable} predict.py {best}/seed1 IMAGE"
    )


ENDS = {"demo": _demo_end, **dict.fromkeys(ANALYSES_SCRIPTS, _analysis_end)}
