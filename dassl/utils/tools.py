"""Files, random states and the environment of a run.

PyTorch is imported by the functions that need it, so that programs that only read results start at once.
"""

import hashlib
import json
import math
import os
import platform
import random
import re
import resource
import secrets
import stat
import subprocess
import sys
import warnings
from contextlib import contextmanager, suppress
from importlib import metadata

from dassl import program
from dassl.utils.errors import PROJECT, UserError
from dassl.utils.names import found_in

# Dassl's names for things in other modules
__getattr__ = found_in(__name__, {"dassl.utils.registry": "check_availability", "dassl.data.images": "read_image"})

# ---- files ----


@contextmanager
def atomic_write(path, mode="w"):
    """Open a temporary file beside `path` and rename it to `path` once it is completely on disk.

    A process that is killed leaves the old file or the new one, never a part of it. On an exception nothing changes.
    Errors of the system, e.g. a full disk, name `path`. Signals that end a program wait for the end of the block.
    """
    folder, name = os.path.split(os.path.abspath(path))
    temporary = os.path.join(folder, f".{name}.{secrets.token_hex(4)}.tmp")
    # File names need not be text in UTF-8. What is not is written as \udcXX, which JSON reads back.
    text = {} if "b" in mode else {"encoding": "utf-8", "errors": "backslashreplace"}
    with program.uninterrupted():
        try:
            with open(temporary, mode.replace("w", "x"), **text) as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, path)
        except BaseException as error:
            with suppress(OSError):
                os.unlink(temporary)
            if isinstance(error, OSError) and error.errno and error.filename in (None, temporary):
                raise OSError(error.errno, error.strerror, os.fspath(path)) from error
            raise


_KINDS = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}


def open_file(path, mode="r", **options):
    """Open a file to read it. Reading a pipe or a device could wait for ever, so they are refused.

    Raises:
        UserError: a pipe, a socket or a device.
        OSError: as `open`.
    """
    kind = _KINDS.get(stat.S_IFMT(os.stat(path).st_mode))
    if kind:
        raise UserError(f"{os.fspath(path)}: {kind}, not a file")
    return open(path, mode, **options)


def _homes():
    """The user's home folder as written and without symbolic links, if it is not the whole disk."""
    home = os.path.expanduser("~")
    return [path for path in dict.fromkeys((home, os.path.realpath(home))) if len(path) > 1 and os.path.isabs(path)]


def without_home(value):
    """A copy of a text, or of the texts in dicts and lists, with ~ for the user's home folder: it contains a name."""
    if isinstance(value, dict):
        return {key: without_home(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(without_home(item) for item in value)
    if isinstance(value, str):
        for home in _homes():
            value = re.sub(rf"(?<![\w.~-]){re.escape(home)}(?![\w.-])", "~", value)
    return value


def with_home(value):
    """A copy of a path, or of the paths in dicts and lists, with the user's home folder for ~ at the beginning."""
    if isinstance(value, dict):
        return {key: with_home(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(with_home(item) for item in value)
    return os.path.expanduser(value) if isinstance(value, str) and (value == "~" or value[:2] == "~/") else value


def mkdir_if_missing(dirname):
    """Create a folder and its parents if they do not exist."""
    os.makedirs(dirname, exist_ok=True)


def listdir_nohidden(path, sort=False):
    """Names in a folder that do not begin with a dot."""
    names = [name for name in os.listdir(path) if not name.startswith(".")]
    return sorted(names) if sort else names


def check_isfile(fpath):
    """Return whether `fpath` is a file; warn if it is not."""
    found = os.path.isfile(fpath)
    if not found:
        warnings.warn(f'no file at "{fpath}"', stacklevel=2)
    return found


MOST_JSON = 256 * 2**20  # bytes of a JSON file; the splits of ImageNet take a tenth


def read_json(fpath, odd=None):
    """Content of a JSON file.

    Args:
        fpath: path of the file.
        odd: list to which NaN and infinite numbers are appended, as in files of other programs; they are read as None.
            Without a list, they are an error, as the standard has no such numbers.

    Raises:
        FileNotFoundError: no such file.
        UserError: in one line why it cannot be read: not a file, not JSON, too deep, too large.
    """

    def number(text):
        value = float(text)
        if math.isfinite(value):
            return value
        if odd is None:
            raise ValueError(f"{text} is not a number that JSON knows")
        odd.append(text)
        return None

    try:
        with open_file(fpath, "rb") as stream:
            content = stream.read(MOST_JSON + 1)
        if len(content) > MOST_JSON:
            raise UserError(f"{os.fspath(fpath)}: larger than {MOST_JSON >> 20} MiB")
        return json.loads(content.decode("utf-8-sig"), parse_float=number, parse_constant=number)
    except (FileNotFoundError, UserError):
        raise
    except OSError as error:
        raise UserError(f"{os.fspath(fpath)}: {error.strerror or error}") from None
    except RecursionError:
        raise UserError(f"{os.fspath(fpath)}: not readable as JSON: its brackets nest too deeply") from None
    except ValueError as error:  # not UTF-8, not JSON, an integer of thousands of digits
        raise UserError(f"{os.fspath(fpath)}: not readable as JSON: {error}") from None


def write_json(obj, fpath):
    """Write a JSON file (indented, atomically) and create its folder. NaN and infinite numbers are written as null."""
    mkdir_if_missing(os.path.dirname(os.path.abspath(fpath)))
    with atomic_write(fpath) as stream:
        json.dump(finite(obj), stream, indent=2, ensure_ascii=False, allow_nan=False)
        stream.write("\n")


def finite(obj):
    """A copy of dicts, lists and plain values for JSON, with None in place of NaN and infinite numbers."""
    if isinstance(obj, dict):
        return {key: finite(value) for key, value in obj.items()}
    if isinstance(obj, (list, tuple)):
        return [finite(value) for value in obj]
    return None if isinstance(obj, float) and not math.isfinite(obj) else obj


def hexdigest(path, kind="sha256"):
    """Checksum of a file as a hex string; `kind` is "md5" or "sha256"."""
    digest = hashlib.new(kind, usedforsecurity=False)
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def not_a_download(path):
    """What was saved in place of the wanted file: "a web page, not the file", a Git LFS pointer or "an empty file".

    Also "a pipe, not a file" and the like, which are not opened. Returns "" for every other file.
    """
    if kind := _KINDS.get(stat.S_IFMT(os.stat(path).st_mode)):
        return f"{kind}, not a file"
    with open(path, "rb") as stream:
        head = stream.read(512).lstrip()
    if not head:
        return "an empty file"
    if head[:15].lower().startswith((b"<!doctype html", b"<html", b"<head")):
        return "a web page, not the file"
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the file"
    return ""


def odd_tensor(value):
    """What keeps a tensor of a file from being used as weights, "" if nothing does."""
    import torch

    if value.layout != torch.strided or value.is_quantized or value.device.type != "cpu":
        return "is sparse, quantized or without values"
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        return f"has the shape {tuple(value.shape)}, but the file holds fewer values"
    return ""


def download_url(url, dst):
    """Download a file to `dst`, and create its folder."""
    from torch.hub import download_url_to_file

    mkdir_if_missing(os.path.dirname(os.path.abspath(dst)))
    download_url_to_file(url, dst)


# ---- random states ----


def set_random_seed(seed):
    """Seed Python, numpy and torch (CPU and all CUDA devices). 0 is a seed."""
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def get_rng_state():
    """State of all random generators as tensors and plain values, which `torch.load(weights_only=True)` can read."""
    import numpy as np
    import torch

    version, internal, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state()
    state = {
        "python": [version, list(internal), gauss],
        "numpy": [str(name), torch.from_numpy(keys.astype(np.int64)), int(position), int(has_gauss), float(cached)],
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def set_rng_state(state):
    """Restore the generators from a value of `get_rng_state`."""
    import numpy as np
    import torch

    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"])
    cuda = state.get("cuda", [])
    if torch.cuda.is_available() and len(cuda) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(cuda)


@contextmanager
def preserved_rng():
    """Restore all random generators after the block."""
    state = get_rng_state()
    try:
        yield
    finally:
        set_rng_state(state)


# ---- environment ----


def versions():
    """Versions of Python, the platform and the packages that affect results: {name: version or None}."""
    import torch

    found = {"python": platform.python_version(), "platform": platform.platform(), "torch": torch.__version__}
    for name in ("torchvision", "open_clip_torch", "numpy", "pillow"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # e.g. on PYTHONPATH
            found[name] = None
    return found


def collect_env_info():
    """Versions, threads and devices as lines of text."""
    import torch

    lines = [f"{name}: {version}" for name, version in versions().items()]
    lines.append(f"threads: {torch.get_num_threads()}")
    if torch.cuda.is_available():
        lines.append(f"CUDA: {torch.version.cuda}, cuDNN: {torch.backends.cudnn.version()}")
        lines += [f"GPU {i}: {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count())]
    else:
        lines.append("GPU: none")
    return "\n".join(lines)


def git_commit():
    """Commit of this project's checkout, with "-dirty" if tracked files have changed; None outside a checkout."""
    if not os.path.exists(os.path.join(PROJECT, ".git")):
        return None  # git would report the commit of any repository that contains the project
    try:
        command = ["git", "-C", PROJECT, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None


def peak_memory_bytes(device=None):
    """Peak memory so far in bytes: torch's allocations on a CUDA device, else the resident set of this process."""
    import torch

    if device is not None and torch.device(device).type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)


def count_num_param(model=None, params=None):
    """Number of scalars in a module, or in an iterable of parameters or of parameter groups."""
    if model is not None:
        return sum(p.numel() for p in model.parameters())
    if params is None:
        raise ValueError("count_num_param needs a model or parameters")
    return sum(sum(q.numel() for q in p["params"]) if isinstance(p, dict) else p.numel() for p in params)


# ---- lists ----


def tolist_if_not(x):
    """`x` as a list; a list is returned unchanged."""
    return x if isinstance(x, list) else [x]
