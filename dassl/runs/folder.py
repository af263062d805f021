"""The output folder of a run: check, reserve, prepare and clear it."""

import contextlib
import glob
import os
import random
import shutil
import socket
import tempfile

from filelock import Timeout

from dassl.runs.checkpoints import model_names, saved_epochs
from dassl.runs.compare import changed_settings
from dassl.runs.record import CONFIG, RESULTS, TASKS, has_config, is_complete, read_config
from dassl.utils import close_logger
from dassl.utils.errors import UserError
from dassl.utils.locks import locked

NEW, UNFINISHED, FINISHED = "new", "unfinished", "finished"
LOCK = ".lock"  # exists while a run is going on; the file of a killed run is not locked and keeps nobody out
OWNER = ".lock.owner"  # text that says which process holds the lock
_held = {}  # {folder reserved by this process: its lock}


def run_state(directory):
    """NEW, UNFINISHED or FINISHED: what `directory` contains. An unfinished run is one with checkpoints."""
    if is_complete(directory):
        return FINISHED
    return UNFINISHED if os.path.isdir(directory) and saved_epochs(directory) else NEW


def prepare_output(cfg, overwrite=False, learn=True, ignored=()):
    """Make cfg.OUTPUT_DIR ready for a run and choose the seed if cfg.SEED is negative.

    Args:
        cfg: configuration, not frozen.
        overwrite: remove the run that the folder contains.
        learn: whether the run trains; only then an unfinished run can be continued.
        ignored: prefixes of settings that change no number of this run, `dassl.engine.build.ignored_settings(cfg)`.

    Returns:
        NEW, UNFINISHED (the run will be continued) or FINISHED (nothing to do; a line says so).

    Raises:
        UserError: the folder is not writable; another run is going on in it; it contains a run with other settings; or
            it contains an unfinished run and this run only tests.
    """
    directory = cfg.OUTPUT_DIR
    try:
        os.makedirs(directory, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        reason = error.strerror or error
        raise UserError(
            f"cannot write to the output folder {directory} ({reason}); choose another --output-dir"
        ) from None
    hold(directory)
    if overwrite:
        remove_run(directory)
    state = run_state(directory)
    if state == UNFINISHED and not learn:
        raise UserError(f"{directory} contains an unfinished training run; choose another --output-dir for the test")
    if state != NEW and has_config(directory):
        if cfg.SEED < 0:
            cfg.SEED = read_config(directory).get("SEED", cfg.SEED)
        changed = changed_settings(cfg, directory, ignored)
        if changed:  # also for a finished run: its numbers are not the ones that were asked for
            kind = "a finished" if state == FINISHED else "an unfinished"
            lines = [f"{key}: {old} in the folder, {new} now" for key, old, new in changed[:20]]
            raise UserError(
                f"{directory} contains {kind} run with other settings; use the same settings, choose another "
                "--output-dir, or replace the run with --overwrite. Different settings:\n  " + "\n  ".join(lines)
            )
    if state == FINISHED:
        print(f"{directory} contains a finished run, see its {RESULTS}; nothing to do. --overwrite replaces the run")
    else:
        settle_seed(cfg)
    return state


def hold(directory):
    """Reserve a folder for this process until `leave_output` or the end of the process.

    On a disk without locks nothing is reserved.

    Raises:
        UserError: another run is going on in the folder.
    """
    directory = os.path.realpath(directory)
    if directory in _held:
        return
    lock, owner = contextlib.ExitStack(), os.path.join(directory, OWNER)
    try:
        lock.enter_context(locked(os.path.join(directory, LOCK)))
    except Timeout:
        who = ""
        with contextlib.suppress(OSError), open(owner, encoding="utf-8") as stream:
            who = stream.read().strip()
        raise UserError(
            f"{directory}: another run is going on in this folder{who and f' ({who})'}; wait until it ends or choose "
            "another --output-dir"
        ) from None
    with contextlib.suppress(OSError), open(owner, "w", encoding="utf-8") as stream:
        stream.write(f"process {os.getpid()} on {socket.gethostname()}\n")
    _held[directory] = lock


def leave_output():
    """Close the log and release the folders that this process has reserved."""
    with contextlib.suppress(OSError):  # e.g. a full disk, which the run has reported already
        close_logger()
    for directory, lock in _held.items():
        for name in (OWNER, LOCK):
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(directory, name))
        lock.close()
    _held.clear()


def settle_seed(cfg):
    """Draw a seed if cfg.SEED is negative, so that config.yaml is enough to repeat the run. Returns cfg.SEED."""
    if cfg.SEED < 0:
        frozen = cfg.is_frozen()
        cfg.defrost()
        cfg.SEED = random.SystemRandom().randrange(2**31)
        if frozen:
            cfg.freeze()
    return cfg.SEED


def remove_run(directory):
    """Remove the files that a run writes into its folder, and no others."""
    for name in model_names(directory):
        folder = os.path.join(directory, name)
        for file in [
            *glob.glob(os.path.join(glob.escape(folder), "model*.pth.tar*")),
            os.path.join(folder, "checkpoint"),
        ]:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(file)
        with contextlib.suppress(OSError):
            os.rmdir(folder)
    shutil.rmtree(os.path.join(directory, "tensorboard"), ignore_errors=True)
    for pattern in (RESULTS, CONFIG, TASKS, "cmat.pt", "log.txt*"):
        for file in glob.glob(os.path.join(glob.escape(directory), pattern)):
            os.unlink(file)
