"""The output folder of a run: check, reserve, prepare and clear it."""

import contextlib
import glob
import os
import random
import socket
import tempfile

from filelock import Timeout

from dassl.config import config_hash
from dassl.runs.checkpoints import model_names, saved_epochs, saved_files
from dassl.runs.compare import changed_settings
from dassl.runs.record import (
    CMAT,
    CONFIG,
    CONFUSION,
    PREDICTIONS,
    RESULTS,
    TASKS,
    has_config,
    hash_of,
    is_complete,
    known_results,
    log_files,
    read_config,
)
from dassl.utils import atomic_write, close_logger, open_file
from dassl.utils.errors import UserError
from dassl.utils.locks import locked
from dassl.utils.registry import TRAINER_REGISTRY

NEW, UNFINISHED, FINISHED = "new", "unfinished", "finished"
LOCK = ".lock"  # exists while a run is going on; the file of a killed run is not locked and keeps nobody out
OWNER = ".lock.owner"  # text that says which process holds the lock
NEW_LOG = ".replacing.log"  # the log of a run that will replace the one in its folder
LOG = "log.txt"
TENSORBOARD = "tensorboard"
_held = {}  # {folder reserved by this process: its lock}
_replacing = set()  # reserved folders whose old run is removed when the new run writes its first file


def run_state(directory):
    """NEW, UNFINISHED or FINISHED: what `directory` contains. An unfinished run is one with checkpoints."""
    if is_complete(directory):
        return FINISHED
    return UNFINISHED if os.path.isdir(directory) and saved_epochs(directory) else NEW


def prepare_output(cfg, overwrite=False, learn=True, ignored=(), model=None, epoch=None):
    """Make cfg.OUTPUT_DIR ready for a run and choose the seed if cfg.SEED is negative.

    Args:
        cfg: configuration, not frozen.
        overwrite: replace the run that the folder contains. It is removed by `replace_run`, once the new run has been
            built; until then, nothing of it changes.
        learn: whether the run trains; only then an unfinished run can be continued.
        ignored: prefixes of settings that change no number of this run, `dassl.engine.build.ignored_settings(cfg)`.
        model: folder of the model that is tested, or None for a run without one.
        epoch: which checkpoint of it; None for the best or newest.

    Returns:
        NEW, UNFINISHED (the run will be continued) or FINISHED (nothing to do; a line says so).

    Raises:
        UserError: the folder is not writable; another run is going on in it; other things have the names of files that
            the run writes; it contains a run with other settings; or it contains an unfinished run and this run only
            tests.
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
    refuse_blocked(cfg, learn)
    if overwrite:
        _replacing.add(os.path.realpath(directory))
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(directory, NEW_LOG))
        settle_seed(cfg)
        return NEW
    state = run_state(directory)
    if state == UNFINISHED and not learn:
        raise UserError(f"{directory} contains an unfinished training run; choose another --output-dir for the test")
    kind = "a finished" if state == FINISHED else "an unfinished"
    advice = "use the same settings, choose another --output-dir, or replace the run with --overwrite"
    if state != NEW and has_config(directory):
        if cfg.SEED < 0:
            cfg.SEED = read_config(directory).get("SEED", cfg.SEED)
        changed = changed_settings(cfg, directory, ignored)
        if changed:  # also for a finished run: its numbers are not the ones that were asked for
            lines = [f"{key}: {old} in the folder, {new} now" for key, old, new in changed[:20]]
            raise UserError(
                f"{directory} contains {kind} run with other settings; {advice}. Different settings:\n  "
                + "\n  ".join(lines)
            )
    elif state != NEW and hash_of(directory, "config"):
        seed = known_results(directory).get("seed")
        if cfg.SEED < 0 and isinstance(seed, int):
            cfg.SEED = seed
        if hash_of(directory, "config") != config_hash(cfg):
            raise UserError(
                f"{directory} contains {kind} run without a {CONFIG}, and the hash of its settings in {RESULTS} is not "
                f"that of the settings now; {advice}"
            )
    if state == FINISHED:
        refuse_other_test(directory, model, epoch)
        print(f"{directory} contains a finished run, see its {RESULTS}; nothing to do. --overwrite replaces the run")
    else:
        settle_seed(cfg)
    return state


def refuse_other_test(directory, model, epoch):
    """Check that the finished run in `directory` tested the model in folder `model` at `epoch`, or trained if None.

    Raises:
        UserError: it did not. Runs of earlier versions do not record what they tested.
    """
    record, now = known_results(directory), tested_model(directory, model, epoch)
    there = record.get("tested_model")
    if "tested_model" not in record or there == now:
        return

    def named(test):
        if not isinstance(test, dict):
            return "a training run"
        return f"a test of the model in {test.get('folder')}, epoch {test.get('epoch') or 'not given'}"

    raise UserError(
        f"{directory} contains {named(there)}; now it is {named(now)}; choose another --output-dir, or replace what is "
        "there with --overwrite"
    )


def tested_model(directory, model, epoch):
    """What the run in `directory` tests, as results.json records it; None without a model. Both may be moved."""
    if not model:
        return None
    return {"folder": os.path.relpath(os.path.realpath(model), os.path.realpath(directory)), "epoch": epoch}


def refuse_blocked(cfg, learn):
    """Check that nothing else has the names of the files and folders that a run writes into cfg.OUTPUT_DIR.

    Raises:
        UserError: naming the first of them.
    """
    trainer = TRAINER_REGISTRY.get(cfg.TRAINER.NAME)
    folders = list(getattr(trainer, "model_names", ())) if learn else []
    if learn and trainer.learns and cfg.TRAIN.TENSORBOARD:
        folders.append(TENSORBOARD)
    for name in (*folders, RESULTS, CONFIG, TASKS, PREDICTIONS, LOG):
        path = os.path.join(cfg.OUTPUT_DIR, name)
        if not os.path.lexists(path):
            continue
        there = f"{path} is in the way: "
        if name in folders and not os.path.isdir(path):
            raise UserError(f"{there}the run needs a folder of this name; move the file away")
        if name in folders and not os.access(path, os.W_OK | os.X_OK):
            raise UserError(f"{there}nothing can be written to this folder; change its permissions or move it away")
        if name not in folders and not os.path.isfile(path):
            raise UserError(f"{there}the run needs a file of this name; move it away")


def log_path(directory):
    """The file for the log of the run that is going on in `directory`."""
    return os.path.join(directory, NEW_LOG if replacing(directory) else LOG)


def replacing(directory):
    """Whether the folder still contains a run that the run of this process will replace."""
    return os.path.realpath(directory) in _replacing


def replace_run(directory):
    """Remove the old run of a folder for which `replacing` holds: the new run is about to write its first file."""
    if replacing(directory):
        remove_run(directory)
        _replacing.remove(os.path.realpath(directory))
        with contextlib.suppress(FileNotFoundError):
            os.replace(os.path.join(directory, NEW_LOG), os.path.join(directory, LOG))


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
        with contextlib.suppress(OSError, ValueError), open_file(owner, encoding="utf-8") as stream:
            who = stream.read(200).strip()
        raise UserError(
            f"{directory}: another run is going on in this folder{who and f' ({who})'}; wait until it ends or choose "
            "another --output-dir"
        ) from None
    with contextlib.suppress(OSError), atomic_write(owner) as stream:
        stream.write(f"process {os.getpid()} on {socket.gethostname()}\n")
    _held[directory] = lock


def going_on(directory):
    """Whether a run is going on in a folder: a process, here or on a machine with the same disk, holds its lock."""
    path = os.path.join(directory, LOCK)
    if not os.path.exists(path):
        return False
    try:
        with locked(path):
            return False
    except Timeout:
        return True


def leave_output():
    """Close the log and release the folders that this process has reserved."""
    with contextlib.suppress(OSError):  # e.g. a full disk, which the run has reported already
        close_logger()
    for directory, lock in _held.items():
        for name in (*((NEW_LOG,) if directory in _replacing else ()), OWNER, LOCK):
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(directory, name))
        lock.close()
    _held.clear()
    _replacing.clear()


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
    """Remove the files that a run has written into its folder, and no others.

    results.json is the first and config.yaml the last: a removal that is cut short leaves an unfinished run.
    """
    files = [os.path.join(directory, name) for name in (RESULTS, TASKS, PREDICTIONS, CMAT, CONFUSION)]
    files += [path for name in model_names(directory) for path in saved_files(os.path.join(directory, name))]
    files += [str(path) for path in log_files(directory)]
    files += glob.glob(os.path.join(glob.escape(directory), TENSORBOARD, "events.out.tfevents.*"))
    for file in (*files, os.path.join(directory, CONFIG)):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(file)
    for folder in {os.path.dirname(file) for file in files} - {directory}:
        with contextlib.suppress(OSError):  # it contains other files
            os.rmdir(folder)
