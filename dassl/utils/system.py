"""What a run ran on: versions, commit, memory."""

import os
import platform
import resource
import subprocess
import sys
from importlib import metadata

import torch

from dassl.utils.errors import PROJECT


def versions():
    """Versions of Python and the packages that decide numbers, {name: version or None}."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for key, package in (
        ("torch", "torch"),
        ("torchvision", "torchvision"),
        ("open_clip_torch", "open_clip_torch"),
        ("numpy", "numpy"),
        ("pillow", "pillow"),
    ):
        try:
            found[key] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[key] = None
    found["torch"] = torch.__version__
    return found


def collect_env_info():
    """Versions, threads and devices as lines of text."""
    lines = [f"{name}: {version}" for name, version in versions().items()]
    lines.append(f"threads: {torch.get_num_threads()}")
    if torch.cuda.is_available():
        lines.append(f"CUDA: {torch.version.cuda}, cuDNN: {torch.backends.cudnn.version()}")
        lines += [f"GPU {i}: {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count())]
    else:
        lines.append("GPU: none")
    return "\n".join(lines)


def git_commit():
    """Commit of this project's checkout, with "-dirty" when tracked files were changed; None outside a checkout."""
    if not os.path.exists(os.path.join(PROJECT, ".git")):
        return None  # git would answer for whatever repository lies above
    try:
        command = ["git", "-C", PROJECT, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None


def peak_memory_bytes(device=None):
    """Highest memory use so far in bytes: allocated by torch on a CUDA device, else resident set of this process."""
    if device is not None and torch.device(device).type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)
