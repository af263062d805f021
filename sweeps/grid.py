"""A grid of runs, rows × suites × shots × seeds, read from a YAML file of a few lines."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from dassl.config import read_yaml
from dassl.utils.errors import UserError

from .calls import CONFIGS, Call, Place
from .launchers import Request, calls, folder_of
from .requests import continued_calls, suite_tasks, transfer_calls, transfer_targets
from .rows import Row, chosen, read_rows

GRIDS = CONFIGS / "sweeps"
PROTOCOLS = ("few-shot", "base-to-new", "transfer", "continue")
TABLE_KEYS = {"published", "per_task_columns", "keyword", "costs"}


@dataclass(frozen=True)
class Grid:
    """A grid of runs. The attributes are the entries of its file.

    Attributes:
        rows: file of configs/rows, or list of such files; "FILE/ROW" takes one row of a file.
        suites: files of configs/datasets.
        config: name of the config file in configs/trainers/METHOD; rows may replace it.
        shots: numbers of images per class; -1: all.
        seeds: seeds.
        protocol: few-shot; base-to-new; transfer: test the models on other datasets, `targets`; or continue: train on
            each task of `targets` alone, from scratch and from the models of the suites.
        targets: datasets of `transfer`, (): the shifted test sets of the suite; or suites of `continue`.
        tasks: "joint": one run for all tasks of a suite; "each": one run per task, for methods of single tasks.
        numbers: with "each", numbers of the tasks, with `continue` of the targets' tasks; (): all tasks.
        class_sampling: share of classes in class-sampled training, by suite.
        settings: {KEY: value} for all runs.
        variants: {name: {KEY: value}}: one experiment per variant of a row.
        folder: name of the results below output/ in place of those of the launchers, with {suite}, {config}, {shots},
            {row} and {variant} for their values.
        table: options of the table: published, per_task_columns, keyword, costs.
        title: first words of the table's title.
    """

    rows: tuple[str, ...]
    suites: tuple[str, ...]
    config: str
    shots: tuple[int, ...] = (1, 2, 4, 8, 16)
    seeds: tuple[int, ...] = (1, 2, 3)
    protocol: str = "few-shot"
    targets: tuple[str, ...] = ()
    tasks: str = "joint"
    numbers: tuple[int, ...] = ()
    class_sampling: Mapping[str, float] = field(default_factory=dict)
    settings: Mapping[str, object] = field(default_factory=dict)
    variants: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    folder: str = ""
    table: Mapping[str, object] = field(default_factory=dict)
    title: str = ""

    @property
    def chosen_rows(self) -> dict[str, Row]:
        """{label: row}. Raises UserError."""
        found: dict[str, Row] = {}
        for name in self.rows:
            file, _, label = name.partition("/") if not name.endswith((".yaml", ".yml")) else (name, "", "")
            rows = read_rows(file)
            found |= chosen(rows, [label]) if label else rows
        return found


LISTS = ("rows", "suites", "targets")
NUMBERS = ("shots", "seeds", "numbers")


def read_grid(path: str | Path, changes: Mapping[str, object] | None = None) -> Grid:
    """Read a grid's file, a path or a name in configs/sweeps; `changes` replace its entries.

    Raises:
        UserError: an unknown file, entry or value; the message says what is expected.
    """
    file = Path(path)
    if not file.is_file() and (GRIDS / f"{path}.yaml").is_file():
        file = GRIDS / f"{path}.yaml"
    if not file.is_file():
        known = ", ".join(sorted(each.stem for each in GRIDS.glob("*.yaml")))
        raise UserError(f"no grid {path}: expected a YAML file, or one of configs/sweeps: {known}")
    content = read_yaml(str(file))
    if not isinstance(content, dict):
        raise UserError(f"{file}: expected a mapping with rows, suites, config, shots, seeds")
    entries = {**content, **{key: value for key, value in (changes or {}).items() if value not in (None, (), [])}}
    known = Grid.__dataclass_fields__
    if odd := [key for key in entries if key not in known]:
        raise UserError(f"{file}: unknown entry {odd[0]!r}; expected {', '.join(known)}")
    if missing := [key for key in ("rows", "suites", "config") if not entries.get(key)]:
        raise UserError(f"{file}: {missing[0]} is missing")
    for key in (*LISTS, *NUMBERS):
        if key in entries:
            value = entries[key]
            entries[key] = tuple(value) if isinstance(value, (list, tuple)) else (value,)
    for key in NUMBERS:
        if wrong := [v for v in entries.get(key, ()) if not isinstance(v, int) or isinstance(v, bool) or v < -1]:
            raise UserError(f"{file}: {key} has to be whole numbers, found {wrong[0]!r}")
    for key, values in (("protocol", PROTOCOLS), ("tasks", ("joint", "each"))):
        if entries.get(key, values[0]) not in values:
            raise UserError(f"{file}: {key} has to be one of {', '.join(values)}, found {entries[key]!r}")
    for key in ("class_sampling", "settings", "variants", "table"):
        if not isinstance(entries.get(key, {}), Mapping):
            raise UserError(f"{file}: {key} has to be a mapping, found {entries[key]!r}")
    if odd := sorted(set(entries.get("table", {})) - TABLE_KEYS):
        raise UserError(f"{file}: table: unknown option {odd[0]!r}; expected {', '.join(sorted(TABLE_KEYS))}")
    if entries.get("variants") and "{variant}" not in entries.get("folder", ""):
        raise UserError(f"{file}: variants need a folder with {{variant}}, so that each has its own")
    grid = Grid(**entries)
    if grid.protocol == "continue" and (not grid.targets or grid.tasks == "each"):
        raise UserError(f"{file}: the protocol continue needs targets, and trains jointly on the suites (tasks: joint)")
    if grid.protocol == "continue" and grid.variants:
        raise UserError(f"{file}: the protocol continue has no variants; write one row for each")
    for name in (*grid.suites, *grid.targets):
        if not (CONFIGS / f"datasets/{name}.yaml").is_file() and name != "others":
            raise UserError(f"{file}: {name!r} is not a file of configs/datasets")
    grid.chosen_rows  # noqa: B018  reports mistakes in the rows
    return grid


@dataclass(frozen=True)
class Experiment:
    """The runs of one row, suite and number of shots: all seeds.

    Attributes:
        folder: the folder for reporting, perhaps with * for the seed or task.
        calls: its runs.
        missing: why there are none: the row has no config file.
        continued: {target: (folder of the runs from scratch, folder of the runs from the suite's model)}.
    """

    row: str
    suite: str
    shots: int
    folder: str
    calls: tuple[Call, ...]
    missing: str = ""
    continued: Mapping[str, tuple[str, str]] = field(default_factory=dict)


def expand(grid: Grid, place: Place, more: Sequence[str] = (), names: Sequence[str] = ()) -> list[Experiment]:
    """All experiments of a grid in the order of the table. `more`: further KEY VALUE words; `names`: only these rows.

    A row that does not depend on shots or seeds (zero-shot) has the same single run at all numbers of shots.
    """
    rows = chosen(grid.chosen_rows, names, "--rows") if names else grid.chosen_rows
    return [
        experiment
        for suite, own in {suite: _own_prompts(grid, suite) for suite in grid.suites}.items()
        for shots in grid.shots
        for row in rows.values()
        for experiment in _experiments(grid, row, suite, shots, own, place, tuple(more))
    ]


def _experiments(
    grid: Grid, row: Row, suite: str, shots: int, own: bool, place: Place, more: tuple[str, ...]
) -> Iterator[Experiment]:
    config, arguments, settings = row.at(suite, shots, grid.config, own)
    if not config:
        folder = f"configs/trainers/{row.name or _trainer(row)}"
        yield Experiment(row.label, suite, shots, "", (), f"{folder} has no {grid.config}.yaml")
        return
    launcher = row.launcher
    if row.sampled and suite in grid.class_sampling:
        launcher, arguments = row.sampled, {**arguments, "CLS_SAMPLE_RATE": str(grid.class_sampling[suite])}
    values = {"DATASET": suite, "CFG": config, "SHOTS": str(shots), **arguments}
    if row.name:
        values["NAME"] = row.name
    words = tuple(word for key, value in {**grid.settings, **settings}.items() for word in (key, str(value)))
    request = Request(launcher, values, (*words, *more), grid.seeds, place, trainer=row.trainer, label=row.label)
    if grid.protocol == "base-to-new":
        request = replace(request, protocol=grid.protocol)
    for name, varied in _variants(grid, row, suite, shots):
        each = replace(request, pairs=(*request.pairs, *varied))
        yield _experiment(grid, row, suite, shots, each, name)


def _continued(grid: Grid, row: Row, suite: str, shots: int, request: Request) -> Experiment:
    """The runs of `continue`: on the suite, and on each task of the targets from scratch and from the suite's model."""
    if request.spec.kind in ("once", "classes"):
        raise UserError(f"row {row.label}: it learns nothing, so there is nothing to continue; leave it out")
    found, folders = calls(request), {}
    for target in grid.targets:
        scratch, continued = continued_calls(request, target, grid.numbers or suite_tasks(target, ()))
        found += [*scratch, *continued]
        folders[target] = tuple(str(each[0].folder.parents[1] / "task*") for each in (scratch, continued))
    return Experiment(row.label, suite, shots, str(folder_of(request) / "seed*"), tuple(found), continued=folders)


def _experiment(grid: Grid, row: Row, suite: str, shots: int, request: Request, name: str) -> Experiment:
    if grid.protocol == "continue":
        return _continued(grid, row, suite, shots, request)
    once = request.spec.kind in ("once", "classes")
    requests = [request]
    if grid.tasks == "each" and request.spec.by_task and not row.joint and not once:
        requests = [replace(request, task=str(task)) for task in grid.numbers or suite_tasks(suite, request.pairs)]
    if request.spec.kind == "classes":
        requests = [replace(request, values={**request.values, "CLASSES": half}) for half in ("base", "new")]
    found = [call for each in requests for call in calls(each)]
    top = folder_of(requests[0])
    if grid.protocol == "transfer":
        targets = targets_of(grid, suite)
        if once:
            found += [
                call for t in targets for call in calls(replace(request, values={**request.values, "DATASET": t}))
            ]
        else:
            found += transfer_calls(request, targets, "the sweep's training runs")
    if name:
        place = request.place.output / "output" / name
        found = [replace(call, folder=place / call.folder.name) for call in found]
        top = place
    folder = str(top)
    if not once and grid.protocol == "few-shot":
        several = len(requests) > 1
        folder = str(top.parent / "task*") if several else str(top if requests[0].task else top / "seed*")
    elif request.spec.kind == "classes":
        folder = str(top.parents[1] / "{half}" / top.name)
    elif grid.protocol == "base-to-new":
        folder = str(top / "{half}")
    return Experiment(name or row.label, suite, shots, folder, tuple(found))


def targets_of(grid: Grid, suite: str) -> list[str]:
    """The datasets on which the models of a suite are tested (transfer)."""
    return transfer_targets(suite, [name for name in grid.targets if name != suite])


def _own_prompts(grid: Grid, suite: str) -> bool:
    """Whether each task needs prompts of its own: a joint run of several tasks."""
    if grid.tasks == "each":
        return False
    try:
        return len(suite_tasks(suite, ())) > 1
    except ValueError:
        return True


def _trainer(row: Row) -> str:
    return Request(row.launcher, {}).spec.trainer


def _variants(grid: Grid, row: Row, suite: str, shots: int) -> Iterator[tuple[str, tuple[str, ...]]]:
    """(folder below output/ or "", KEY VALUE words) of each variant of a row."""
    for variant, settings in (grid.variants or {"": {}}).items():
        name = grid.folder
        known = {"suite": suite, "config": grid.config, "shots": shots, "row": row.label, "variant": variant}
        for key, word in known.items():
            name = name.replace("{" + key + "}", str(word))
        yield name, tuple(word for key, value in settings.items() for word in (key, str(value)))


def runs_of(experiments: Sequence[Experiment]) -> list[Call]:
    """All runs, each once, in the order in which they should be made: runs with most images first.

    They are the longest, and compute the features that the others need. Raises UserError if there are none.
    """
    if not any(each.calls for each in experiments):
        raise UserError("no row has a config file, so there is nothing to run; choose another config")
    unique = {call.folder: call for experiment in experiments for call in experiment.calls}

    def images(call: Call) -> float:
        shots = int(call.settings.get("DATASET.NUM_SHOTS", 0)) if not call.eval_only else 0
        return shots if shots > 0 else (0.0 if call.eval_only else float("inf"))

    return sorted(unique.values(), key=lambda call: (call.needs is not None, -images(call)))


def selected(calls: Sequence[Call], expression: str) -> list[Call]:
    """The runs that fit an expression of conditions "NAME=PATTERN[,PATTERN...]", all of which must hold.

    NAME is row, suite, shots, seed or label, or the key of a setting; * and ? in a pattern stand for other characters.

    Raises UserError.
    """
    conditions = []
    for word in expression.split():
        name, equals, patterns = word.partition("=")
        if not equals or not patterns:
            raise UserError(f'--only "{expression}": expected conditions such as "row=SoftCPT* shots=1,4 seed=1"')
        conditions.append((name, patterns.split(",")))

    def fits(call: Call) -> bool:
        known = {"row": call.row, "suite": call.dataset.stem, "seed": str(call.seed), "label": call.label}
        known |= {"shots": call.settings.get("DATASET.NUM_SHOTS", ""), **call.settings}
        return all(any(fnmatch.fnmatchcase(known.get(name, ""), each) for each in some) for name, some in conditions)

    found = [call for call in calls if fits(call)]
    known = {"row", "suite", "seed", "label", "shots"}.union(*(call.settings for call in calls))
    if odd := [name for name, _ in conditions if name not in known and "." not in name]:
        raise UserError(
            f'--only "{expression}": unknown {odd[0]!r}; expected row, suite, shots, seed, label or a setting'
        )
    if calls and not found:
        rows = ", ".join(dict.fromkeys(call.row for call in calls))
        raise UserError(f'--only "{expression}" fits none of the {len(calls)} runs; rows: {rows}')
    return found
