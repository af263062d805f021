"""Weight files: OpenAI's cache, verified downloads, and reading that never executes a pickle."""

from __future__ import annotations

import http.client
import os
import pickle
import re
import sys
import warnings
import zipfile
from pathlib import Path

import torch
from torch.hub import download_url_to_file

from dassl.utils import UserError
from dassl.utils.locks import locked
from dassl.utils.tools import hexdigest as sha256

__all__ = ["cache_dir", "download", "expected_sha256", "read_state_dict", "sha256"]


def cache_dir() -> Path:
    """OpenAI's cache of weights, `~/.cache/clip`."""
    return Path("~/.cache/clip").expanduser()


def expected_sha256(url: str) -> str | None:
    """SHA-256 of the file at `url`: OpenAI's URLs carry it as the last folder. None for other URLs."""
    found = re.search(r"/([0-9a-f]{64})/[^/]+$", url)
    return found.group(1) if found else None


def download(url: str, root: str | os.PathLike) -> Path:
    """Download `url` into the folder `root` unless the file is there, verify it, and return its path.

    The file gets its final name only after its checksum (the one in the URL) has been verified. Of several runs that
    start together, one downloads and the others wait.

    Raises:
        UserError: the file cannot be downloaded, or has another checksum. The message gives URL, path and SHA-256.
    """
    digest = expected_sha256(url)
    target = Path(root) / url.rsplit("/", 1)[-1]
    by_hand = f"Download {url} by hand and put it at {target}" + (f"\n  SHA-256 {digest}" if digest else "")
    if target.is_file():
        if digest and (found := sha256(target)) != digest:
            raise UserError(
                f"{target} is damaged: its SHA-256 is {found}, expected {digest}. "
                f"Delete the file to download it again. {by_hand}"
            )
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock, message = target.with_name(target.name + ".lock"), f"Another run is downloading {target}; waiting for it"
        with locked(lock, message):
            if not target.is_file():
                download_url_to_file(url, str(target), digest, progress=sys.stderr.isatty())
    except RuntimeError as error:  # torch raises it for a wrong checksum
        raise UserError(f"The download of {url} is damaged or incomplete: {error}. {by_hand}") from None
    except (OSError, http.client.HTTPException) as error:
        raise UserError(
            f"The weights {target.name} are not in {target.parent} and cannot be downloaded ({error}). {by_hand}"
        ) from None
    return target


def read_state_dict(path: str | os.PathLike) -> dict[str, torch.Tensor]:
    """Tensors of a weight file by name: safetensors, OpenAI's TorchScript archive, or a (nested) torch state dict.

    Pickles are read with `weights_only=True`, so nothing in them is executed.

    Raises:
        FileNotFoundError: there is no file at `path`.
        UserError: the file has another format, or holds no tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"No weights at {path}. MODEL.BACKBONE.WEIGHTS names a .pt, .pth, .bin or .safetensors file."
        )
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(str(path))
        if _is_torchscript(path):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # TorchScript is deprecated, OpenAI's files still use it
                return dict(torch.jit.load(str(path), map_location="cpu").state_dict())
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        reason = str(error).splitlines()[0] if str(error) else "it is empty"
        if isinstance(error, pickle.UnpicklingError):  # torch's own message recommends loading without weights_only
            reason = "it holds more than plain tensors, or was not written by torch"
        raise UserError(
            f"{path} is not a readable weight file ({reason}). "
            "Expected OpenAI's TorchScript archive, a state dict of plain tensors, or .safetensors; "
            "a file with other pickled objects is never opened."
        ) from None
    except Exception as error:  # safetensors raises its own class on a damaged header
        raise UserError(f"{path} is not a readable weight file ({error}).") from None
    for key in ("state_dict", "model"):  # training checkpoints hold the weights under one of these keys
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    if not isinstance(found, dict):
        raise UserError(f"{path} holds a {type(found).__name__}, expected a state dict (name -> tensor).")
    tensors = {name.removeprefix("module."): value for name, value in found.items() if isinstance(value, torch.Tensor)}
    if not tensors:
        raise UserError(f"{path} holds no tensors, expected a state dict (name -> tensor).")
    return tensors


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any("/code/" in name or name.endswith("constants.pkl") for name in archive.namelist())
