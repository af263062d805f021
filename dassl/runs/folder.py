"""The output folder of a run: may it be used, and does it hold a finished or an unfinished run?"""

import contextlib
import glob
import os
import random
import shutil
import socket
import tempfile

import yaml

from dassl.runs.checkpoints import model_names, saved_epochs
from dassl.runs.compare import changed_settings
from dassl.runs.record import CONFIG, RESULTS, TASKS, has_config, known_results
from dassl.utils import close_logger
from dassl.utils.errors import UserError

try:
    import fcntl
except ImportError:  # Windows: nothing keeps two runs out of one folder
    fcntl = None

NEW, UNFINISHED, FINISHED = "new", "unfinished", "finished"
LOCK = ".lock"  # in the folder of a run while it is going on; one that a killed run has left keeps nobody out
_held = {}  # folders this process has for itself: their locks, open files


def run_state(directory):
    """Whether a folder holds no run, an unfinished one (it has checkpoints), or a finished one."""
    if known_results(directory).get("status") == "complete":
        return FINISHED
    return UNFINISHED if os.path.isdir(directory) and saved_epochs(directory) else NEW


def prepare_output(cfg, overwrite=False, learn=True, ignored=()):
    """Make cfg.OUTPUT_DIR ready, and settle cfg.SEED.

    Args:
        cfg: configuration, not frozen.
        overwrite: remove the run the folder holds.
        learn: whether this run trains, and so may go on with an unfinished one.
        ignored: prefixes of settings that decide no number of this run, `dassl.engine.build.unread(cfg)`.

    Returns:
        NEW, UNFINISHED (goes on) or FINISHED (nothing to do, which is printed).

    Raises:
        UserError: the folder cannot be written; or another run is going on in it; or it holds a run of other settings,
            or an unfinished one that this run, which only tests, must not touch.
    """
    directory = cfg.OUTPUT_DIR
    try:
        os.makedirs(directory, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        reason = error.strerror or error
        raise UserError(
            f"cannot write to the output folder {directory} ({reason}); choose another: --output-dir"
        ) from None
    hold(directory)
    if overwrite:
        remove_run(directory)
    state = run_state(directory)
    if state == UNFINISHED and not learn:
        raise UserError(f"{directory} holds an unfinished training run; test into another folder: --output-dir")
    if state != NEW and has_config(directory):
        if cfg.SEED < 0:
            with open(os.path.join(directory, CONFIG), encoding="utf-8") as stream:
                cfg.SEED = yaml.safe_load(stream).get("SEED", cfg.SEED)
        changed = changed_settings(cfg, directory, ignored)
        if changed:  # of a finished one too: who asked for other numbers must not be told that all is well
            kind = "a finished" if state == FINISHED else "an unfinished"
            lines = [f"{key}: {old} there, {new} here" for key, old, new in changed[:20]]
            raise UserError(
                f"{directory} holds {kind} run of other settings; repeat its own, choose another --output-dir, or "
                "start anew with --overwrite. They differ in\n  " + "\n  ".join(lines)
            )
    if state == FINISHED:
        print(f"{directory} holds a finished run, see its results.json; nothing is done. --overwrite runs anew")
    else:
        settle_seed(cfg)
    return state


def hold(directory):
    """Have a folder for this process alone, until `leave_output` or its end.

    The lock is the process's own: a worker that outlives a killed run does not keep the next one out.

    Raises:
        UserError: another run is going on in it, on this machine or, where the disk knows locks, on another one.
    """
    directory = os.path.realpath(directory)
    if fcntl is None or directory in _held:
        return
    path = os.path.join(directory, LOCK)
    while True:
        try:
            file = open(path, "a+", encoding="utf-8")  # noqa: SIM115  open as long as the folder is held
        except OSError:  # another user's run was killed here
            return
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            file.seek(0)
            who = file.read().strip()
            file.close()
            raise UserError(
                f"{directory}: another run is going on in this folder{who and f' ({who})'}; wait for its end or choose "
                "another --output-dir"
            ) from None
        except OSError:  # some network disks have no locks
            file.close()
            return
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                break
        file.close()  # whoever had the lock removed this file between the two
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
    file.flush()
    _held[directory] = file


def leave_output():
    """Close the log and let others have the folders that this process has held."""
    close_logger()
    for directory, file in _held.items():
        with contextlib.suppress(OSError):
            os.unlink(os.path.join(directory, LOCK))
        file.close()
    _held.clear()


def settle_seed(cfg):
    """Draw a seed where cfg.SEED is negative, so that the run can be repeated from its config.yaml."""
    if cfg.SEED < 0:
        frozen = cfg.is_frozen()
        cfg.defrost()
        cfg.SEED = random.SystemRandom().randrange(2**31)
        if frozen:
            cfg.freeze()
    return cfg.SEED


def remove_run(directory):
    """Remove what a run writes into its folder, and nothing else."""
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
