"""The file of a checkpoint: written atomically, and loaded without executing anything it contains.

It is an archive of torch.save whose zip comment is a checksum of all bytes before it, so that a copy of the file keeps
its checksum and torch.load reads it as any other. In files without a checksum, which others have written, the CRCs of
the archive count.
"""

import hashlib
import io
import math
import os
import pickle
import struct
import warnings
import zipfile
from collections.abc import Mapping
from numbers import Real

import numpy as np
import torch

from dassl.runs.checkpoints import BEST, POINTER
from dassl.utils.errors import UserError
from dassl.utils.tools import atomic_write, mkdir_if_missing, odd_tensor, open_file

MOST_BYTES = 64 * 2**30  # of a checkpoint; a sparse file can claim any size
_END = b"PK\x05\x06"  # beginning of the last 22 bytes of a zip archive without a comment
_SEAL = b"sha256:"  # beginning of the comment, followed by 64 digits


def load_saved(path, epoch=None):
    """Read a model's checkpoint and check what it consists of.

    Args:
        path: path of the file.
        epoch: the epoch in the file's name, None for model-best.pth.tar.

    Returns:
        dict with at least "state_dict" {name: tensor or plain value} and "epoch", the finished epochs.

    Raises:
        UserError: the file is damaged, is not a checkpoint of a model, or is one of another epoch.
        FileNotFoundError: no such file.
    """
    checkpoint = load_checkpoint(path)
    wrong = _wrong(checkpoint)
    if wrong:
        raise UserError(f"{path} is not a checkpoint of a model: {wrong}")
    found = checkpoint.get("epoch") or epoch or 0  # a checkpoint reduced to its weights need not know its epoch
    if epoch is not None and found != epoch:
        raise UserError(f"{path} is named after epoch {epoch} and is a checkpoint of epoch {found}; rename it")
    return {**checkpoint, "epoch": found}


def _wrong(checkpoint):
    """What is wrong with the structure of a checkpoint; "" if nothing is."""
    if not isinstance(checkpoint, dict):
        return f"it is {_kind(checkpoint)}, expected a dictionary with state_dict and epoch"
    weights, epoch = checkpoint.get("state_dict"), checkpoint.get("epoch")
    if not isinstance(weights, Mapping) or not all(isinstance(name, str) for name in weights):
        return "it has no state_dict of tensors by name"
    if not (epoch is None or (isinstance(epoch, int) and not isinstance(epoch, bool) and epoch >= 0)):
        return f"its epoch is {_kind(epoch)}, expected a number of finished epochs"
    for name in ("optimizer", "scheduler", "scaler", "rng", "seconds"):
        if not isinstance(checkpoint.get(name), (Mapping, type(None))):
            return f"its {name} is {_kind(checkpoint[name])}, expected a dictionary"
    for tensor in _tensors(checkpoint):
        if odd := odd_tensor(tensor):
            return f"a tensor in it {odd}"
    numbers = {"best_result": checkpoint.get("best_result"), **(checkpoint.get("seconds") or {})}
    for name, value in numbers.items():
        if value is not None and (not isinstance(value, Real) or math.isnan(value)):
            return f"its {name} is {_kind(value)}, expected a number"
    return ""


def _tensors(value):
    """The tensors in nested dictionaries, lists and tuples, which may contain themselves."""
    left, seen = [value], {}
    while left:
        part = left.pop()
        if isinstance(part, torch.Tensor):
            yield part
        elif isinstance(part, (Mapping, list, tuple)) and id(part) not in seen:
            seen[id(part)] = part
            left += part.values() if isinstance(part, Mapping) else part


def _kind(value):
    return repr(value)[:40] if isinstance(value, (Real, str, type(None))) else f"of type {type(value).__name__}"


def misfit(model, weights):
    """How the names and shapes of `weights` differ from those of `model`, in one line; "" if they do not."""
    known = model.state_dict()
    own = {name: value for name, value in known.items() if isinstance(value, torch.Tensor)}
    shapes = {
        name: (tuple(weights[name].shape), tuple(value.shape))
        for name, value in own.items()
        if isinstance(weights.get(name), torch.Tensor)
    }
    parts = [
        ("missing", [name for name in own if name not in weights]),
        ("unknown", [name for name in weights if name not in known]),
        ("not a tensor", [name for name in own if name in weights and name not in shapes]),
        ("of another shape", [f"{name} {a}, expected {b}" for name, (a, b) in shapes.items() if a != b]),
    ]
    texts = [f"{kind}: {', '.join(names[:3])}" + (", ..." if len(names) > 3 else "") for kind, names in parts if names]
    return "; ".join(texts)


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
    stream = io.BytesIO()
    torch.save(state, stream)
    content = _sealed(stream.getvalue())
    for target in [path] + ([os.path.join(save_dir, BEST)] if is_best else []):
        with atomic_write(target, "wb") as stream:
            stream.write(content)
    if name.startswith("model.pth.tar"):  # training is not resumed from the best model
        with atomic_write(os.path.join(save_dir, POINTER)) as stream:
            stream.write(name + "\n")
    print(f"Checkpoint saved to {path}")
    return path


def _sealed(archive):
    """A zip archive with the SHA-256 of all that precedes the comment as its comment."""
    if archive[-22:-18] != _END or archive[-2:] != b"\0\0":
        return archive
    archive = archive[:-2] + struct.pack("<H", len(_SEAL) + 64)
    return archive + _SEAL + hashlib.sha256(archive).hexdigest().encode()


def _damage(content):
    """What shows that bytes of a checkpoint have changed; "" if nothing does."""
    comment = len(_SEAL) + 64
    if content[-comment:].startswith(_SEAL):
        whole = hashlib.sha256(content[:-comment]).hexdigest().encode() == content[-64:]
        return "" if whole else "its bytes do not have the checksum that it was written with"
    if content[:2] != b"PK" and _END not in content[-1024:]:
        return ""  # written by an old version of PyTorch, not as an archive
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if content[-22:-18] != _END or content[-2:] != b"\0\0":
                return "its end, where the checksum is, has changed"
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                return "it was not written by torch.save, which does not compress"
            return "its bytes do not have the checksum that they were written with" if archive.testzip() else ""
    except Exception as error:  # anything, for damaged headers
        return f"the archive is cut off or damaged ({' '.join(str(error).split())})"


def load_checkpoint(fpath):
    """Read a checkpoint to the CPU, tensors and plain values only.

    Raises:
        UserError: an empty path; a file with pickled objects (they are not executed); a file that is not a complete
            checkpoint, or whose bytes have changed since it was written.
        FileNotFoundError: no such file.
    """
    if not fpath:
        raise UserError("no checkpoint to load: the path is empty")
    if os.path.isdir(fpath):
        raise UserError(f"{fpath} is a folder, expected the file of a checkpoint")
    if not os.path.exists(fpath):
        raise FileNotFoundError(f"no checkpoint at {fpath}")
    too_large = UserError(f"{fpath} does not fit into memory: {os.path.getsize(fpath):,} bytes")
    if os.path.getsize(fpath) > MOST_BYTES:
        raise too_large
    try:
        with open_file(fpath, "rb") as stream:
            content = stream.read()
    except MemoryError:
        raise too_large from None
    if damage := _damage(content):
        raise UserError(f"{fpath} is not a complete checkpoint: {damage}")
    try:
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
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
    except Exception as error:  # the contents of a foreign file make the unpickler raise nearly anything
        reason = str(error).split(".")[0] or "it is empty"
        raise UserError(f"{fpath} is not a complete checkpoint: {' '.join(reason.split())}") from None


def load_pretrained_weights(model, weight_path):
    """Copy the tensors of a checkpoint that fit `model` by name and shape. A warning lists the others.

    Modules with a method `match_saved` find their rows by owner first. Returns whether every tensor was found.
    """
    checkpoint = load_checkpoint(weight_path)
    weights = checkpoint.get("state_dict", checkpoint) if isinstance(checkpoint, Mapping) else None
    if not isinstance(weights, Mapping) or not all(isinstance(name, str) for name in weights):
        raise UserError(f"{weight_path} does not contain weights: expected tensors by name, or a state_dict of them")
    weights = _without_module(weights)
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
    with open_file(pointer, encoding="utf-8", errors="replace") as stream:
        name = stream.readline(1000).strip()
    if os.path.basename(name) != name:
        raise UserError(f"{pointer} names {name!r}, expected the name of a checkpoint beside it")
    path = os.path.join(fdir, name)
    checkpoint = load_saved(path)
    load_state(model, checkpoint["state_dict"], path)
    for part, state in ((optimizer, "optimizer"), (scheduler, "scheduler")):
        if part is not None and checkpoint.get(state) is not None:
            load_state(part, checkpoint[state], path, state)
    print(f"Loaded {path}, continuing with epoch {checkpoint['epoch'] + 1}")
    return checkpoint["epoch"]


def load_state(part, state, source, name="model"):
    """`part.load_state_dict(state)`, with an error for the user if the state is of something else.

    Args:
        part: module, optimiser, schedule or GradScaler.
        state: the state to load.
        source: where the state is from, for messages.
        name: what the part is, for messages.

    Raises:
        UserError: the state does not fit, or a parameter is infinite, NaN or of another kind of numbers.
    """
    module = isinstance(part, torch.nn.Module)
    for key, own in part.named_parameters() if module else ():
        value = state.get(key)
        if not isinstance(value, torch.Tensor):
            continue
        if value.is_floating_point() != own.is_floating_point():
            raise UserError(f"{source} does not fit the {name}: {key} is of type {value.dtype}, expected {own.dtype}")
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise UserError(f"{source}: {key} is infinite or NaN, so training had failed; use an earlier checkpoint")
    try:
        if not module and (odd := _odd_part(part.state_dict(), state)):
            raise ValueError(odd)
        schedule = isinstance(part, torch.optim.lr_scheduler.LRScheduler)  # it takes every name as an attribute
        if schedule and (odd := [name for name in state if callable(getattr(type(part), name, None))]):
            raise ValueError(f"{odd[0]} is one of its methods")
        part.load_state_dict(state)
        if isinstance(part, torch.optim.Optimizer):
            _check_history(part)
    except UserError:
        raise
    except Exception as error:  # whatever load_state_dict makes of a foreign state
        reason = (misfit(part, state) if module else "") or " ".join(str(error).split())[:200]
        raise UserError(
            f"{source} does not fit the {name}; it was trained with other settings, tasks or classes: {reason}"
        ) from None


def _odd_part(own, found, name="it"):
    """Which part of the state `found` cannot replace that of the state `own`; "" if none. Either may have more."""
    if isinstance(own, Mapping) and isinstance(found, Mapping):
        return next(filter(None, (_odd_part(own[key], found[key], key) for key in own.keys() & found.keys())), "")
    if isinstance(own, (list, tuple)) and isinstance(found, (list, tuple)):
        return next(filter(None, (_odd_part(*pair, name) for pair in zip(own, found, strict=False))), "")
    if isinstance(own, (Mapping, list, tuple)):
        return f"{name} is {_kind(found)}"
    number = isinstance(own, Real) and not isinstance(own, bool)
    good = isinstance(found, Real) and math.isfinite(found) and (own < 0 or found >= 0) if number else True
    return "" if good else f"{name} is {_kind(found)}"


def _check_history(optimizer):
    """Raise ValueError if the loaded history of a parameter is not made of numbers and tensors of its shape."""
    for parameter, history in optimizer.state.items():
        for name, value in history.items():
            tensor = isinstance(value, torch.Tensor)
            if not (isinstance(value, (Real, type(None))) or (tensor and value.shape in (parameter.shape, ()))):
                found = f"of the shape {tuple(value.shape)}" if tensor else _kind(value)
                raise ValueError(f"{name} is {found}, expected a tensor of the shape {tuple(parameter.shape)}")


def _without_module(state_dict):
    return {name.removeprefix("module."): value for name, value in state_dict.items()}
