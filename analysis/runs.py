"""A finished run, opened again: its trainer with the learned weights in place."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable

from dassl.config import get_cfg_default, load
from dassl.engine import TRAINER_REGISTRY, TrainerX, build_trainer, store
from dassl.utils import UserError, is_user_error


def open_run(folder: str | os.PathLike, epoch: int | None = None, root: str = "") -> TrainerX:
    """The trainer of the run in `folder`, built from its config.yaml, with the weights of `epoch` (None: as
    `load_model`). `root`: folder of the datasets, where it is another one than in training. Nothing is written.

    Raises:
        FileNotFoundError: no run, or no checkpoint in it.
        UserError: the run learned nothing, or does not fit its data.
    """
    import datasets  # noqa: F401  registers the datasets
    import trainers  # noqa: F401  registers the methods

    folder = os.fspath(folder)
    settings = os.path.join(folder, "config.yaml")
    if not os.path.isfile(settings):
        raise FileNotFoundError(f"no run in {folder}: expected its config.yaml there (a folder such as .../seed1)")
    cfg = get_cfg_default()
    load(cfg, [settings], ["DATASET.ROOT", root] if root else [], opts_from="--root")
    name = cfg.TRAINER.NAME
    if not TRAINER_REGISTRY.get(name).learns:
        raise UserError(f"{folder} is a run of {name}, which learns nothing: there is no context in it")
    store.require_checkpoint(folder, epoch)
    cfg.freeze()
    with contextlib.redirect_stdout(sys.stderr):  # standard output is for what is asked of the run
        trainer = build_trainer(cfg)
        trainer.load_model(folder, epoch=epoch)
        trainer.set_model_mode("eval")
    return trainer


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
