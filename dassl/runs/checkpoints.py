"""Checkpoints of a run: <folder>/<model name>/model.pth.tar-<epoch>, one file per registered model and epoch.

They are written atomically, and loaded without executing anything they contain.
"""

import os
import pickle
import re
import warnings
from collections.abc import Mapping

import numpy as np
import torch

from dassl.utils.errors import UserError
from dassl.utils.tools import atomic_write, mkdir_if_missing

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


# ---- one file: Dassl's functions ----


def save_checkpoint(state, save_dir, is_best=False, remove_module_from_keys=True, model_name=""):
    """Write a checkpoint into `save_dir`, and its name into the file `checkpoint` there.

    Args:
        state: dict with "state_dict" and "epoch" and whatever else, of tensors and plain values.
        save_dir: folder, created if missing.
        is_best: write model-best.pth.tar as well.
        remove_module_from_keys: drop the "module." that DataParallel puts before each name.
        model_name: file name; default model.pth.tar-<epoch>.

    Returns:
        path of the file written.
    """
    mkdir_if_missing(save_dir)
    state = dict(state)
    if remove_module_from_keys:
        state["state_dict"] = _without_module(state["state_dict"])
    name = model_name or f"model.pth.tar-{state['epoch']}"
    path = os.path.join(save_dir, name)
    for target in [path] + ([os.path.join(save_dir, "model-best.pth.tar")] if is_best else []):
        with atomic_write(target, "wb") as stream:
            torch.save(state, stream)
    if name.startswith("model.pth.tar"):  # the best model is no place to resume from
        with atomic_write(os.path.join(save_dir, "checkpoint")) as stream:
            stream.write(name + "\n")
    print(f"Checkpoint saved to {path}")
    return path


def load_checkpoint(fpath):
    """Read a checkpoint to the CPU, tensors and plain values only.

    Raises:
        UserError: no path given; a file with pickled objects (nothing in it is executed); a file that is no checkpoint.
        FileNotFoundError: no such file.
    """
    if not fpath:
        raise UserError("no checkpoint to load: the path is empty")
    if not os.path.isfile(fpath):
        raise FileNotFoundError(f"no checkpoint at {fpath}")
    try:
        return torch.load(fpath, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "Unsupported operand" in str(error):  # not even the beginning of what torch writes
            raise UserError(f"{fpath} is no whole checkpoint: torch.save did not write it, or not to its end") from None
        raise UserError(
            f"{fpath} holds pickled Python objects besides tensors and plain values. Loading those can run code, so it "
            "is refused. If you trust the file, keep its weights alone, once: "
            f"python -c \"import torch; c = torch.load('{fpath}', map_location='cpu', weights_only=False); "
            "torch.save({'state_dict': c['state_dict'], 'epoch': c.get('epoch', 0)}, "
            f"'{fpath}')\" (with the package that wrote it importable)"
        ) from None
    except (EOFError, RuntimeError, ValueError, KeyError) as error:
        reason = str(error).split(".")[0] or "it is empty"
        raise UserError(f"{fpath} is no whole checkpoint: {' '.join(reason.split())}") from None


def load_pretrained_weights(model, weight_path):
    """Copy the tensors of a checkpoint whose name and shape fit into `model`; the others are named in a warning."""
    checkpoint = load_checkpoint(weight_path)
    weights = _without_module(checkpoint.get("state_dict", checkpoint))
    own = model.state_dict()
    fitting = {
        name: tensor
        for name, tensor in weights.items()
        if name in own and isinstance(tensor, torch.Tensor) and own[name].shape == tensor.shape
    }
    model.load_state_dict({**own, **fitting})
    left = [name for name in weights if name not in fitting]
    if not fitting:
        warnings.warn(f"nothing in {weight_path} fits the model by name and shape; it is unchanged", stacklevel=2)
    else:
        print(f"Loaded {len(fitting)} of {len(own)} tensors from {weight_path}")
        if left:
            warnings.warn(f"left out of {weight_path} (other name or shape): {', '.join(left)}", stacklevel=2)


def resume_from_checkpoint(fdir, model, optimizer=None, scheduler=None):
    """Load the newest checkpoint of a folder, as its file `checkpoint` names it.

    Returns:
        the epoch to go on with.
    """
    pointer = os.path.join(fdir, "checkpoint")
    if not os.path.isfile(pointer):
        raise FileNotFoundError(f"no checkpoint to resume from in {fdir}: the file {pointer} is missing")
    with open(pointer, encoding="utf-8") as stream:
        path = os.path.join(fdir, stream.readline().strip())
    checkpoint = load_checkpoint(path)
    model.load_state_dict(checkpoint["state_dict"])
    if optimizer is not None and checkpoint.get("optimizer") is not None:
        optimizer.load_state_dict(checkpoint["optimizer"])
    if scheduler is not None and checkpoint.get("scheduler") is not None:
        scheduler.load_state_dict(checkpoint["scheduler"])
    print(f"Loaded {path}, going on at epoch {checkpoint['epoch'] + 1}")
    return checkpoint["epoch"]


def _without_module(state_dict):
    prefix = "module."
    return {name[len(prefix) :] if name.startswith(prefix) else name: value for name, value in state_dict.items()}
