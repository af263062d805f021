"""Rows of tables as data: configs/rows/*.yaml say how a method is trained for a row of a published table."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dassl.config import read_yaml
from dassl.utils.errors import UserError

from .calls import CONFIGS
from .launchers import LAUNCHERS

ROWS = CONFIGS / "rows"
KEYS = {"launcher", "name", "arguments", "settings", "config", "cases", "sampled", "trainer", "joint"}
CASE_KEYS = {"when", "arguments", "settings", "config"}
WHEN_KEYS = {"suite", "shots", "config"}
# Config files that are tried after those of a row. {cfg}: the config of the grid, {base}: without its epochs,
# {backbone}: its first word; those of a row may have {epochs} and {suite}, too.
FALLBACKS = ("{cfg}", "{base}", "{backbone}", "{base}_c4_ep10_batch1_ctxv1", "{base}_ep100_ctxv1")


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        label: its name in the table.
        launcher: the script of scripts/ that makes its runs.
        arguments: {argument of the script: value}; "{own}" is True if each task needs prompts of its own.
        settings: further {KEY: value}.
        config: names of config files, the first one that exists is used; then FALLBACKS.
        cases: what papers set by suite, shots or config: dicts with "when" and any of arguments, settings, config.
        sampled: the script for class-sampled training, if the row has it.
        name: folder of configs/trainers, for the launcher `method`.
        trainer: name for --trainer, if it is another than the folder.
        joint: one run for all tasks, also in a grid with one run per task: the tasks share what is learned.
    """

    label: str
    launcher: str
    arguments: Mapping[str, object] = field(default_factory=dict)
    settings: Mapping[str, object] = field(default_factory=dict)
    config: tuple[str, ...] = ()
    cases: tuple[Mapping, ...] = ()
    sampled: str = ""
    name: str = ""
    trainer: str = ""
    joint: bool = False

    def at(self, suite: str, shots: int, config: str, own: bool) -> tuple[str, dict[str, str], dict[str, str]]:
        """(config file, arguments, settings) for a suite, number of shots and config of the grid.

        The config file is "" if none of the candidates exists.
        """
        arguments, settings, first = dict(self.arguments), dict(self.settings), []
        for case in self.cases:
            if _applies(case.get("when", {}), suite, shots, config):
                arguments |= case.get("arguments", {})
                settings |= case.get("settings", {})
                first += [case["config"]] if "config" in case and not first else []
        folder = CONFIGS / "trainers" / (self.name or LAUNCHERS[self.launcher].trainer)
        words = {**_words(config), "suite": suite}
        names = [name.format(**words) for name in (*first, *self.config, *FALLBACKS)]
        file = next((name for name in names if (folder / f"{name}.yaml").is_file()), "")
        values = {key: str(value).replace("{own}", str(own)) for key, value in arguments.items()}
        return file, values, {key: str(value) for key, value in settings.items()}


def _words(config: str) -> dict[str, str]:
    epochs = re.search(r"_ep\d+", config)
    base = re.sub(r"_ep.*$", "", config)
    return {"cfg": config, "base": base, "backbone": config.split("_")[0], "epochs": epochs[0] if epochs else "_ep50"}


def _applies(when: Mapping, suite: str, shots: int, config: str) -> bool:
    if "suite" in when and not fnmatch.fnmatch(suite, when["suite"]):
        return False
    if "config" in when and not fnmatch.fnmatch(config, when["config"]):
        return False
    if limits := when.get("shots"):
        number = shots if shots > 0 else float("inf")  # all images
        return limits.get("min", 0) <= number <= limits.get("max", float("inf"))
    return True


def read_rows(name: str) -> dict[str, Row]:
    """{label: row} of the file configs/rows/NAME.yaml, or of a file of the user.

    Raises UserError for an unknown file, and for rows that are not as the class `Row` says.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else ROWS / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in ROWS.glob("*.yaml")))
        raise UserError(f"rows: no file {path}; expected a YAML file or one of configs/rows: {known}")
    content = read_yaml(str(path))
    if not isinstance(content, dict) or not content:
        raise UserError(f"{path}: expected a mapping of row labels to rows")
    return {str(label): _row(str(label), entry, path) for label, entry in content.items()}


def _row(label: str, entry, path: Path) -> Row:
    def wrong(what: str) -> UserError:
        return UserError(f"{path}: row {label}: {what}")

    if not isinstance(entry, dict) or "launcher" not in entry:
        raise wrong("expected a mapping with a launcher, such as {launcher: main_coop, arguments: {N_CTX: 16, ...}}")
    if odd := sorted(set(map(str, entry)) - KEYS):
        raise wrong(f"unknown entry {odd[0]}; expected {', '.join(sorted(KEYS))}")
    launcher = str(entry["launcher"])
    for name in filter(None, (launcher, entry.get("sampled"))):
        if name not in LAUNCHERS:
            raise wrong(f"unknown launcher {name}; expected a script of scripts/ without .sh, such as main_coop")
    if not LAUNCHERS[launcher].trainer and not (CONFIGS / "trainers" / str(entry.get("name", ""))).is_dir():
        raise wrong(f"the launcher {launcher} needs a name, a folder of configs/trainers; found {entry.get('name')!r}")
    cases = entry.get("cases", [])
    for case in cases if isinstance(cases, list) else [None]:
        if not isinstance(case, dict) or set(case) - CASE_KEYS or set(case.get("when", {})) - WHEN_KEYS:
            raise wrong(f"a case has {', '.join(sorted(CASE_KEYS))}, and its `when` {', '.join(sorted(WHEN_KEYS))}")
    given = [entry.get("arguments", {}), *(case.get("arguments", {}) for case in cases)]
    known = set(LAUNCHERS[launcher].names)
    for arguments in given:
        if odd := sorted(set(arguments) - known):
            raise wrong(f"{launcher} has no argument {odd[0]}; expected {', '.join(sorted(known)) or 'none'}")
    if missing := sorted(known - set().union(*given)):
        raise wrong(f"{launcher} needs the argument {missing[0]}")
    config = entry.get("config", ())
    return Row(
        label,
        launcher,
        entry.get("arguments", {}),
        entry.get("settings", {}),
        (config,) if isinstance(config, str) else tuple(config),
        tuple(cases),
        str(entry.get("sampled", "")),
        str(entry.get("name", "")),
        str(entry.get("trainer", "")),
        bool(entry.get("joint", False)),
    )


def chosen(rows: Mapping[str, Row], names: Sequence[str], what: str = "rows") -> dict[str, Row]:
    """The rows with these names; NATA is short for SoftCPT-NATA, as is SoftCPT, and papers' names are understood.

    Raises UserError for an unknown name.
    """
    found = {}
    for name in names:
        own = {"ZS-CLIP": "ZeroshotCLIP", "LP-CLIP": "LinearProbe"}.get(name, name)
        label = next((each for each in (own, f"SoftCPT-{own}", f"{own}-NATA") if each in rows), None)
        if label is None:
            raise UserError(f'{what}: unknown row "{name}"; rows: {" ".join(rows)}')
        found[label] = rows[label]
    return found
