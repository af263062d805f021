"""What a name on the command line of `datasets.check` and `datasets.download` means."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import features.loader  # noqa: F401  declares settings that the file of a run contains
from dassl.config import get_cfg_default, load
from dassl.data.datasets import DATASET_REGISTRY
from dassl.utils.errors import UserError, did_you_mean, near_path
from datasets.doctor.foreign import ClassSource
from datasets.suites import SOURCES, SUITES, Asked, SuiteTask, asked

CONFIGS = Path(__file__).resolve().parents[2] / "configs/datasets"


def asked_for(name: str, root: str) -> Asked:
    """The tasks that a name asks for.

    Args:
        name: a suite, a dataset, a task ("Icon13/faces"), a file of configs/datasets without its ending, or the path of
            a YAML file, which may be the config.yaml of a run.
        root: the data root; "" for the DATASET.ROOT of the file.

    Raises:
        UserError: an unknown name, or a file that cannot be used.
    """
    cfg = get_cfg_default()
    known = {known.lower(): known for known in (*SUITES, *SOURCES, *_classes())}
    label = known.get(name.lower(), "")
    if name.lower().endswith((".yaml", ".yml")):
        label = _read(cfg, Path(name))
    elif label:
        cfg.DATASET.NAME = label
    elif "/" in name and name.partition("/")[0] in SOURCES:
        cfg.DATASET.TASKS, label = [name], name
    elif os.path.isfile(CONFIGS / f"{name}.yaml"):
        label = _read(cfg, CONFIGS / f"{name}.yaml")
    else:
        raise UserError(_unknown(name))
    cfg.DATASET.ROOT = root or cfg.DATASET.ROOT
    found = asked(cfg)
    if found is None:
        task = SuiteTask(label, 0, label)
        root = os.path.abspath(os.path.expanduser(cfg.DATASET.ROOT)) if cfg.DATASET.ROOT else ""
        return Asked(label, (task,), (0,), {label: ClassSource(label, cfg)}, root)
    return replace(found, name=label)


def _classes() -> list[str]:
    """Names of the registered dataset classes that were written for Dassl."""
    names = DATASET_REGISTRY.registered_names()
    return [name for name in names if getattr(DATASET_REGISTRY.get(name), "TASKS", None) is None]


def _read(cfg, path: Path) -> str:
    """Read the sections on data of a YAML file into `cfg`; returns the name of what it asks for."""
    if not os.path.isfile(path):
        near = CONFIGS / path.name
        hint = f"; did you mean {near}?" if os.path.isfile(near) else near_path(path)
        raise UserError(f"file not found: {path}{hint}")
    load(cfg, [str(path)], only=("DATASET", "DATALOADER"))
    name = cfg.DATASET.NAME
    if not cfg.DATASET.TASKS and name not in (known := (*SUITES, *SOURCES, *_classes())):
        if not name:
            raise UserError(f"{path}: expected DATASET.NAME or DATASET.TASKS, found neither (docs/own-data.md)")
        raise UserError(f"{path}: unknown suite or dataset {name!r} (DATASET.NAME){did_you_mean(name, known)}")
    return name or path.stem


def _unknown(name: str) -> str:
    """The message about an unknown name."""
    hint = did_you_mean(name, (*SUITES, *SOURCES, *_classes()))
    if file := next((name + ending for ending in (".yaml", ".yml") if os.path.isfile(name + ending)), ""):
        hint = f"; did you mean the file {file}?"
    elif os.path.isdir(name):
        hint = f"; {name} is a folder: own data are described by a YAML file (docs/own-data.md)"
    lists = [_wrapped("suites: ", SUITES), _wrapped("datasets: ", SOURCES), "  or give a YAML file with DATASET.TASKS"]
    return "\n".join([f"unknown suite or dataset {name!r}{hint}", *lists])


def _wrapped(head: str, names: Iterable[str]) -> str:
    return textwrap.fill(head + ", ".join(names), 110, initial_indent="  ", subsequent_indent="    ")
