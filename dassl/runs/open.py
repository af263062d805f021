"""Open a finished run again: its configuration, its tasks, and its trainer with the learned weights.

Datasets and trainers must be registered before (`import datasets, trainers`).
"""

import inspect
import os
import sys

from dassl.config import get_cfg_default, load
from dassl.data.datasets import build_dataset
from dassl.data.tasks import TaskSpace
from dassl.engine import TRAINER_REGISTRY, build_trainer
from dassl.runs.checkpoints import require_checkpoint
from dassl.runs.compare import unfinished
from dassl.runs.record import CONFIG, TASKS, command_of, error_of, has_config, read_tasks, status_of
from dassl.utils.errors import UserError


def read_setup(folder, epoch=None):
    """The configuration and the tasks of a run. A run older than tasks.json is asked for its data instead.

    A line on standard error says so if the run is not finished.

    Args:
        folder: folder of a run.
        epoch: the checkpoint to be loaded later; None for the best on validation, else the newest.

    Returns:
        (CfgNode, TaskSpace).

    Raises:
        UserError: the folder is not one of a run; the run only tested a model; or its config.yaml has mistakes.
        FileNotFoundError: the run trained a model, but the folder contains no checkpoint (of `epoch`).
    """
    if not os.path.isdir(folder):
        raise UserError(f"{folder}: no such folder; expected the --output-dir of a run")
    if not has_config(folder):
        runs = [name for name in sorted(os.listdir(folder)) if has_config(os.path.join(folder, name))]
        if status := status_of(folder):
            why = error_of(folder)
            raise UserError(f"{folder}: the run is {status}" + (f" ({why})" if why else "") + f"; {CONFIG} is missing")
        hint = f"it contains the runs {', '.join(runs)}" if runs else "expected the --output-dir of a run"
        raise UserError(f"{folder} is not the folder of a run: {CONFIG} is missing; {hint}")
    cfg = get_cfg_default()
    load(cfg, [os.path.join(folder, CONFIG)])
    cfg.MODEL.INIT_WEIGHTS = cfg.RESUME = ""  # the weights that training started from are not needed any more
    if TRAINER_REGISTRY.get(cfg.TRAINER.NAME).learns:
        if "--eval-only" in command_of(folder):
            raise UserError(f"{folder} only tested a model; give the folder of the run that was trained (--model-dir)")
        require_checkpoint(folder, epoch)
        if warning := unfinished(folder):
            print(warning, file=sys.stderr)
    space = read_space(folder)
    return cfg, build_dataset(cfg).space if space is None else space


def read_space(folder):
    """The tasks of a run as a TaskSpace, or None if the run is older than tasks.json.

    Raises:
        UserError: tasks.json cannot be read, or does not describe tasks.
    """
    tasks = read_tasks(folder)
    try:
        return None if tasks is None else TaskSpace.from_plain(tasks)
    except ValueError as error:
        raise UserError(f"{os.path.join(folder, TASKS)}: {error}") from None


def load_trainer(folder, cfg, space=None, epoch=None):
    """The trainer of a run in evaluation mode, with the weights that the run learned.

    Args:
        folder: folder of the run.
        cfg: the run's configuration, from `read_setup`.
        space: the run's TaskSpace, for a trainer without images; None for one with the data of the run. A trainer whose
            constructor takes only a configuration needs the data in any case.
        epoch: which checkpoint; None for the best on validation, else the newest.
    """
    kind = TRAINER_REGISTRY.get(cfg.TRAINER.NAME)
    try:
        inspect.signature(kind).bind(cfg, space)
    except TypeError:  # written for Dassl: it knows its tasks from its data only
        space = None
    trainer = build_trainer(cfg, space)
    if trainer.learns:
        trainer.load_model(folder, epoch=epoch)
    trainer.set_model_mode("eval")
    return trainer
