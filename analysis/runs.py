"""A finished run, opened again: its trainer with the learned weights in place."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable

from dassl.engine import TRAINER_REGISTRY, TrainerX, build_trainer, store
from dassl.utils import UserError, is_user_error
from predict import read_run, without_data


def open_run(folder: str | os.PathLike, epoch: int | None = None, data: bool = False, root: str = "") -> TrainerX:
    """The trainer of the run in `folder`, from its config.yaml, with the weights of `epoch` (None: as `load_model`).

    Without `data` it knows the run's tasks and has no images; with it, it has the loaders of the run, of datasets below
    `root` if that is given. Nothing is written.

    Raises:
        FileNotFoundError: no checkpoint of the epoch, or with `data` no dataset.
        UserError: no run in the folder, or one that learned nothing.
    """
    import datasets  # noqa: F401  registers the datasets
    import trainers  # noqa: F401  registers the methods

    with contextlib.redirect_stdout(sys.stderr):  # standard output is for what is asked of the run
        cfg, space = read_run(os.fspath(folder))
        trainer = TRAINER_REGISTRY.get(cfg.TRAINER.NAME)
        if not trainer.learns:
            raise UserError(f"{folder} is a run of {cfg.TRAINER.NAME}, which learns nothing: there is no context in it")
        store.require_checkpoint(folder, epoch)
        if root:
            cfg.DATASET.ROOT = root
        cfg.freeze()
        built = build_trainer(cfg) if data else without_data(trainer, space)(cfg)
        built.load_model(os.fspath(folder), epoch=epoch)
        built.set_model_mode("eval")
    return built


def run_command(work: Callable[[], None]) -> int:
    """Exit status of a command line: 0, or 2 with one message on what the user can mend. Bugs keep their traceback."""
    try:
        work()
    except Exception as error:
        if not is_user_error(error):
            raise
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0
