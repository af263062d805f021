"""Checkpoints: whole or absent on disk, read without executing anything they contain."""

import os
import pickle
import warnings

import torch

from dassl.utils.errors import UserError
from dassl.utils.tools import atomic_write, mkdir_if_missing


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


def count_num_param(model=None, params=None):
    """Number of scalars in a module, or in an iterable of parameters or of parameter groups."""
    if model is not None:
        return sum(p.numel() for p in model.parameters())
    if params is None:
        raise ValueError("count_num_param needs a model or parameters")
    return sum(sum(q.numel() for q in p["params"]) if isinstance(p, dict) else p.numel() for p in params)


def _without_module(state_dict):
    prefix = "module."
    return {name[len(prefix) :] if name.startswith(prefix) else name: value for name, value in state_dict.items()}
