"""Checkpoints of a run on disk: <folder>/<model name>/model.pth.tar-<epoch>, one for each registered model."""

import os
import re
from collections.abc import Mapping

import numpy as np
import torch

from dassl.utils import load_checkpoint
from dassl.utils.errors import UserError

BEST = "model-best.pth.tar"
_TEMPORARY = re.compile(r"\.(model.*\.pth\.tar.*|checkpoint|results\.json|tasks\.json|config\.yaml)\..*\.tmp")
_NAME = re.compile(r"model\.pth\.tar-(\d+)")


def checkpoint_path(directory, name, epoch=None):
    """Path of a model's checkpoint of an epoch, or of its best one."""
    return os.path.join(directory, name, BEST if epoch is None else f"model.pth.tar-{epoch}")


def model_names(directory):
    """Names of the models that have checkpoints in a run's folder; runs further below it are none of its models."""
    found = []
    for entry in os.scandir(directory):
        if entry.is_dir() and any(_NAME.fullmatch(file) or file == BEST for file in os.listdir(entry.path)):
            found.append(entry.name)
    return sorted(found)


def saved_epochs(directory, names=None):
    """Epochs for which every one of `names` (default: all models below the folder) has a checkpoint, ascending."""
    names = model_names(directory) if names is None else names
    common = None
    for name in names:
        folder = os.path.join(directory, name)
        files = os.listdir(folder) if os.path.isdir(folder) else []
        epochs = {int(match[1]) for file in files if (match := _NAME.fullmatch(file))}
        common = epochs if common is None else common & epochs
    return sorted(common or [])


def require_checkpoint(directory, epoch=None, names=None):
    """Check that a folder holds a checkpoint to load, before anything slow begins.

    Raises:
        FileNotFoundError: no such folder, no checkpoint in it, or none of `epoch` (the message lists those there are).
    """
    if not os.path.isdir(directory):
        raise FileNotFoundError(f"nothing to load: there is no folder {directory}")
    names = model_names(directory) if names is None else names
    epochs = saved_epochs(directory, names)
    best = bool(names) and all(os.path.isfile(checkpoint_path(directory, name)) for name in names)
    if not epochs and not best:
        expected = os.path.join(directory, "<model name>", "model.pth.tar-<epoch>")
        raise FileNotFoundError(f"nothing to load: {directory} holds no checkpoint (expected {expected})")
    if epoch is not None and epoch not in epochs:
        there = ", ".join(map(str, epochs)) or "none, only the best model on validation (leave the epoch out)"
        raise FileNotFoundError(f"no checkpoint of epoch {epoch} in {directory}; epochs there: {there}")


def load_epoch(directory, names, epoch):
    """{name: checkpoint} of one epoch.

    Raises:
        UserError: one of the files is not whole, or is of another run's epoch.
    """
    loaded = {}
    for name in names:
        path = checkpoint_path(directory, name, epoch)
        checkpoint = load_checkpoint(path)
        if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
            raise UserError(f"{path} is no checkpoint: it has no state_dict")
        loaded[name] = checkpoint
    return loaded


def prune(directory, names, keep):
    """Remove all but the newest `keep` periodic checkpoints (0: none is removed)."""
    if keep <= 0:
        return
    newest = saved_epochs(directory, names)[-keep:]
    for name in names:
        for epoch in saved_epochs(directory, [name]):
            if newest and epoch < newest[0]:
                os.unlink(checkpoint_path(directory, name, epoch))


def tidy(directory, names, keep):
    """Remove what a killed run left: unfinished temporary files, and checkpoints it had no time to prune."""
    for folder in [directory, *(os.path.join(directory, name) for name in names)]:
        for file in os.listdir(folder) if os.path.isdir(folder) else []:
            if _TEMPORARY.fullmatch(file):
                os.unlink(os.path.join(folder, file))
    prune(directory, names, keep)


def plain(value):
    """A copy in tensors and plain values, which `torch.load(weights_only=True)` of every torch version reads."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value)
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}  # MultiStepLR keeps a Counter
    if isinstance(value, (list, tuple)):
        return type(value)(plain(item) for item in value)
    return value
