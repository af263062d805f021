"""The checkpoints of a run's folder: <folder>/<model name>/model.pth.tar-<epoch>, one per registered model and epoch.

Which there are, and which are kept. What one of them consists of: `checkpoint_file`.
"""

import os
import re

from dassl.config import settings
from dassl.runs.record import known_results

BEST = "model-best.pth.tar"
POINTER = "checkpoint"  # file with the name of the newest checkpoint beside it
_TEMPORARY = re.compile(r"\.(model.*\.pth\.tar.*|checkpoint|results\.json|tasks\.json|config\.yaml)\.[0-9a-f]{8}\.tmp")
_NAME = re.compile(r"model\.pth\.tar-(\d+)")


def checkpoint_path(directory, name, epoch=None):
    """Path of a model's checkpoint of an epoch, or of its best one."""
    return os.path.join(directory, name, BEST if epoch is None else f"model.pth.tar-{epoch}")


def model_names(directory):
    """Names of the models that have checkpoints directly in a run's folder, sorted.

    results.json names them; without it, every folder with checkpoints counts.
    """
    recorded = known_results(directory).get("models")
    recorded = recorded if isinstance(recorded, list) else []
    folders = [entry for entry in os.scandir(directory) if os.path.isdir(entry.path)]
    return sorted(x.name for x in folders if (not recorded or x.name in recorded) and _has_checkpoints(x.path))


def _has_checkpoints(folder):
    return any(_NAME.fullmatch(file) or file == BEST for file in os.listdir(folder))


def saved_files(folder):
    """Paths of the files that saving a model has written into the model's folder."""
    names = (file for file in os.listdir(folder) if _NAME.fullmatch(file) or file in (BEST, POINTER))
    return sorted(os.path.join(folder, file) for file in names)


def saved_epochs(directory, names=None):
    """Epochs for which each model of `names` (default: all models) has a checkpoint, ascending."""
    names = model_names(directory) if names is None else names
    common = None
    for name in names:
        folder = os.path.join(directory, name)
        files = os.listdir(folder) if os.path.isdir(folder) else []
        epochs = {int(match[1]) for file in files if (match := _NAME.fullmatch(file))}
        common = epochs if common is None else common & epochs
    return sorted(common or [])


def require_checkpoint(directory, epoch=None, names=None):
    """Check that a folder contains a checkpoint to load, before slow steps begin.

    Raises:
        FileNotFoundError: no such folder, no checkpoint in it, or no checkpoint of `epoch` (the message lists
            the epochs).
    """
    if not os.path.isdir(directory):
        raise FileNotFoundError(f"nothing to load: no such folder {directory}")
    names = model_names(directory) if names is None else names
    epochs = saved_epochs(directory, names)
    best = bool(names) and all(os.path.isfile(checkpoint_path(directory, name)) for name in names)
    if not epochs and not best:
        expected = os.path.join(directory, "<model name>", "model.pth.tar-<epoch>")
        raise FileNotFoundError(f"nothing to load: {directory} contains no checkpoint, expected {expected}")
    if epoch is not None and epoch not in epochs:
        there = ", ".join(map(str, epochs)) or "none, only the best model on validation (omit the epoch to load it)"
        raise FileNotFoundError(
            f"no checkpoint of epoch {epoch} in {directory}; epochs with checkpoints: {there}. A run with "
            "TRAIN.CHECKPOINT_FREQ 1 keeps every epoch"
        )


def kept(cfg):
    """The arguments `keep` and `every` of `prune`.

    Unless TRAIN.CHECKPOINT_KEEP says a number, checkpoints that a run asks for with its own TRAIN.CHECKPOINT_FREQ are
    kept, as in Dassl. Those of the default frequency only serve to resume.
    """
    if cfg.TRAIN.CHECKPOINT_KEEP >= 0:
        return cfg.TRAIN.CHECKPOINT_KEEP, 1
    frequency, default = cfg.TRAIN.CHECKPOINT_FREQ, settings()["TRAIN.CHECKPOINT_FREQ"].default
    return (1, default) if frequency == default else (0, 1)


def prune(directory, names, keep, every=1):
    """Remove periodic checkpoints except for the newest `keep`; keep = 0 removes none.

    Only epochs that are multiples of `every` are removed, so that those an earlier part of the run asked for are left.
    """
    if keep <= 0:
        return
    newest = saved_epochs(directory, names)[-keep:]
    for name in names:
        for epoch in saved_epochs(directory, [name]):
            if newest and epoch < newest[0] and epoch % every == 0:
                os.unlink(checkpoint_path(directory, name, epoch))


def tidy(directory, names, keep, every=1):
    """Remove the leftovers of a killed run: temporary files, and checkpoints beyond the newest `keep`."""
    for folder in [directory, *(os.path.join(directory, name) for name in names)]:
        for file in os.listdir(folder) if os.path.isdir(folder) else []:
            if _TEMPORARY.fullmatch(file):
                os.unlink(os.path.join(folder, file))
    prune(directory, names, keep, every)
