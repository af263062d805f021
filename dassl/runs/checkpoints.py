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

from dassl.runs.record import known_results
from dassl.utils.errors import UserError
from dassl.utils.tools import atomic_write, mkdir_if_missing

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
    folders = [entry for entry in os.scandir(directory) if entry.is_dir()]
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
        raise FileNotFoundError(f"no checkpoint of epoch {epoch} in {directory}; epochs with checkpoints: {there}")


def load_epoch(directory, names, epoch):
    """{name: checkpoint} of one epoch.

    Raises:
        UserError: a file is not a complete checkpoint.
    """
    loaded = {}
    for name in names:
        path = checkpoint_path(directory, name, epoch)
        checkpoint = load_checkpoint(path)
        if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
            raise UserError(f"{path} is not a checkpoint: it has no state_dict")
        loaded[name] = checkpoint
    return loaded


def prune(directory, names, keep):
    """Remove periodic checkpoints except for the newest `keep`; keep = 0 removes none."""
    if keep <= 0:
        return
    newest = saved_epochs(directory, names)[-keep:]
    for name in names:
        for epoch in saved_epochs(directory, [name]):
            if newest and epoch < newest[0]:
                os.unlink(checkpoint_path(directory, name, epoch))


def tidy(directory, names, keep):
    """Remove the leftovers of a killed run: temporary files, and checkpoints beyond the newest `keep`."""
    for folder in [directory, *(os.path.join(directory, name) for name in names)]:
        for file in os.listdir(folder) if os.path.isdir(folder) else []:
            if _TEMPORARY.fullmatch(file):
                os.unlink(os.path.join(folder, file))
    prune(directory, names, keep)


def plain(value):
    """A copy of tensors and plain values that `torch.load(weights_only=True)` of every torch version can read."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value)
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}  # MultiStepLR keeps a Counter
    if isinstance(value, (list, tuple)):
        return type(value)(plain(item) for item in value)
    return value


# ---- single files, under Dassl's names ----


def save_checkpoint(state, save_dir, is_best=False, remove_module_from_keys=True, model_name=""):
    """Write a checkpoint into `save_dir`, and its name into the file `checkpoint` there.

    Args:
        state: dict of tensors and plain values, with at least "state_dict" and "epoch".
        save_dir: folder, created if it is missing.
        is_best: write model-best.pth.tar as well.
        remove_module_from_keys: remove the prefix "module." that DataParallel adds to each name.
        model_name: file name; default model.pth.tar-<epoch>.

    Returns:
        path of the written file.
    """
    mkdir_if_missing(save_dir)
    state = dict(state)
    if remove_module_from_keys:
        state["state_dict"] = _without_module(state["state_dict"])
    name = model_name or f"model.pth.tar-{state['epoch']}"
    path = os.path.join(save_dir, name)
    for target in [path] + ([os.path.join(save_dir, BEST)] if is_best else []):
        with atomic_write(target, "wb") as stream:
            torch.save(state, stream)
    if name.startswith("model.pth.tar"):  # training is not resumed from the best model
        with atomic_write(os.path.join(save_dir, POINTER)) as stream:
            stream.write(name + "\n")
    print(f"Checkpoint saved to {path}")
    return path


def load_checkpoint(fpath):
    """Read a checkpoint to the CPU, tensors and plain values only.

    Raises:
        UserError: an empty path; a file with pickled objects (they are not executed); a file that is not a complete
            checkpoint.
        FileNotFoundError: no such file.
    """
    if not fpath:
        raise UserError("no checkpoint to load: the path is empty")
    if not os.path.isfile(fpath):
        raise FileNotFoundError(f"no checkpoint at {fpath}")
    try:
        return torch.load(fpath, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "Unsupported operand" in str(error):  # the first bytes are not written by torch
            raise UserError(
                f"{fpath} is not a complete checkpoint: it was not written by torch.save, or was truncated"
            ) from None
        raise UserError(
            f"{fpath} contains pickled Python objects besides tensors and plain values. Loading them can execute code, "
            "so the file is refused. If you trust it, reduce it to its weights once: "
            f"python -c \"import torch; c = torch.load('{fpath}', map_location='cpu', weights_only=False); "
            "torch.save({'state_dict': c['state_dict'], 'epoch': c.get('epoch', 0)}, "
            f"'{fpath}')\" (the package that wrote it must be importable)"
        ) from None
    except (EOFError, RuntimeError, ValueError, KeyError) as error:
        reason = str(error).split(".")[0] or "it is empty"
        raise UserError(f"{fpath} is not a complete checkpoint: {' '.join(reason.split())}") from None


def load_pretrained_weights(model, weight_path):
    """Copy the tensors of a checkpoint that fit `model` by name and shape. A warning lists the others.

    Modules with a method `match_saved` find their rows by owner first. Returns whether every tensor was found.
    """
    checkpoint = load_checkpoint(weight_path)
    weights = _without_module(checkpoint.get("state_dict", checkpoint))
    for name, module in model.named_modules():
        prefix = f"{name}." if name else ""
        if hasattr(module, "match_saved") and any(key.startswith(prefix) for key in weights):
            module.match_saved(weights, prefix, partial=True)
    own = model.state_dict()
    fitting = {
        name: tensor
        for name, tensor in weights.items()
        if name in own and isinstance(tensor, torch.Tensor) and own[name].shape == tensor.shape
    }
    model.load_state_dict({**own, **fitting})
    left = [name for name, value in weights.items() if name not in fitting and isinstance(value, torch.Tensor)]
    if not fitting:
        warnings.warn(f"no tensor in {weight_path} fits the model by name and shape; nothing is loaded", stacklevel=2)
    else:
        print(f"Loaded {len(fitting)} of {len(own)} tensors from {weight_path}")
        if left:
            warnings.warn(f"not loaded from {weight_path} (other name or shape): {', '.join(left)}", stacklevel=2)
    return fitting.keys() >= {name for name, value in own.items() if isinstance(value, torch.Tensor)}


def resume_from_checkpoint(fdir, model, optimizer=None, scheduler=None):
    """Load the newest checkpoint of a folder, which its file `checkpoint` names.

    Returns:
        number of finished epochs, i.e. the next epoch counted from 0.
    """
    pointer = os.path.join(fdir, POINTER)
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
    print(f"Loaded {path}, continuing with epoch {checkpoint['epoch'] + 1}")
    return checkpoint["epoch"]


def _without_module(state_dict):
    prefix = "module."
    return {name[len(prefix) :] if name.startswith(prefix) else name: value for name, value in state_dict.items()}
