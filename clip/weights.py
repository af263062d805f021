"""Weight files: OpenAI's cache, verified downloads, and reading that never executes a pickle."""

from __future__ import annotations

import http.client
import os
import pickle
import re
import ssl
import tarfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from dassl.utils.errors import UserError, describe
from dassl.utils.locks import locked
from dassl.utils.tools import hexdigest as sha256
from dassl.utils.tools import odd_tensor
from dassl.utils.transfer import Damaged, Unreachable, fetch, forget

from .torchscript import is_torchscript, read_torchscript

__all__ = ["cache_dir", "download", "expected_sha256", "hub_within_reach", "read_state_dict", "sha256"]

ANSWER = 10  # seconds for the first answer of the hub


def cache_dir() -> Path:
    """OpenAI's cache of weights, `~/.cache/clip`."""
    return Path("~/.cache/clip").expanduser()


def expected_sha256(url: str) -> str | None:
    """SHA-256 of the file at `url`: OpenAI's URLs carry it as the last folder. None for other URLs."""
    found = re.search(r"/([0-9a-f]{64})/[^/]+$", url)
    return found.group(1) if found else None


def download(url: str, root: str | os.PathLike) -> Path:
    """Download `url` into the folder `root` unless the file is there, verify it, and return its path.

    The file gets its final name only after its checksum (the one in the URL) has been verified. An interrupted download
    is resumed by the next call. Of several runs that start together, one downloads and the others wait.

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
                fetch(url, target, f"sha256:{digest}" if digest else "")
                forget(target)
    except Damaged as error:
        raise UserError(f"The download of {url} is damaged or incomplete: {error}. {by_hand}") from None
    except (Unreachable, OSError) as error:
        raise UserError(
            f"The weights {target.name} are not in {target.parent} and cannot be downloaded ({describe(error)}). "
            f"{by_hand}"
        ) from None
    return target


@contextmanager
def hub_within_reach() -> Iterator[str]:
    """Let the client of the Hugging Face hub use its cache only if the hub cannot be reached.

    Without a network the client tries again for a minute. This function asks the hub once and waits `ANSWER` seconds.

    Yields: why the hub cannot be reached; "" if it can.
    """
    from huggingface_hub import constants

    before, reason = constants.HF_HUB_OFFLINE, ""
    try:
        urllib.request.urlopen(urllib.request.Request(constants.ENDPOINT, method="HEAD"), timeout=ANSWER).close()
    except urllib.error.HTTPError:
        pass  # it answers
    except (OSError, ValueError, http.client.HTTPException) as error:
        cause = getattr(error, "reason", error)
        if not isinstance(cause, ssl.SSLError):  # the client may know other certificates
            reason = f"no connection to {constants.ENDPOINT}: {getattr(cause, 'strerror', None) or cause}"
    constants.HF_HUB_OFFLINE = before or bool(reason)
    try:
        yield reason
    finally:
        constants.HF_HUB_OFFLINE = before


def read_state_dict(path: str | os.PathLike) -> dict[str, torch.Tensor]:
    """Tensors of a weight file by name: safetensors, OpenAI's TorchScript archive, or a (nested) torch state dict.

    Nothing in the file is executed: pickles are read with `weights_only=True`, TorchScript without its code.

    Raises:
        FileNotFoundError: there is no file at `path`.
        UserError: the file has another format, is damaged, or holds no tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"No weights at {path}. MODEL.BACKBONE.WEIGHTS names a .pt, .pth, .bin or .safetensors file."
        )
    try:
        found = _content(path)
    except Exception as error:  # the readers of damaged files raise nearly anything
        reason = str(error).splitlines()[0][:200] if str(error) else f"it is empty or damaged, {type(error).__name__}"
        if isinstance(error, pickle.UnpicklingError):  # torch's own message recommends loading without weights_only
            reason = "it holds more than plain tensors (save model.state_dict() instead), or was not written by torch"
        raise UserError(
            f"{path} is not a readable weight file ({reason}). "
            "Expected OpenAI's TorchScript archive, a state dict of plain tensors, or .safetensors; "
            "a file with other pickled objects is never opened."
        ) from None
    for key in ("state_dict", "model"):  # training checkpoints hold the weights under one of these keys
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    if not isinstance(found, dict):
        raise UserError(f"{path} holds a {type(found).__name__}, expected a state dict (name -> tensor).")
    tensors = {
        str(name).removeprefix("module."): value for name, value in found.items() if isinstance(value, torch.Tensor)
    }
    if not tensors:
        raise UserError(f"{path} holds no tensors, expected a state dict (name -> tensor).")
    for name, value in tensors.items():
        if odd := odd_tensor(value):
            raise UserError(f"{path}: the tensor {name} {odd}. Expected a state dict of plain tensors.")
    return tensors


def _content(path: Path) -> Any:
    """What a weight file holds, read by a reader that executes nothing of it."""
    with open(path, "rb") as file:
        head = file.read(9)
    if path.suffix == ".safetensors" or (len(head) == 9 and head[8:] == b"{"):
        from safetensors.torch import load_file

        return load_file(str(path))
    if head.startswith(b"PK") or zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if is_torchscript(archive.namelist()):
                return read_torchscript(path)
            if sum(entry.file_size for entry in archive.infolist()) > path.stat().st_size:
                raise ValueError("its parts are larger than the file; torch.save does not compress them")
            # torch does not compare the CRCs. It can leave them out; they are 0 then.
            if any(entry.CRC for entry in archive.infolist()) and (bad := archive.testzip()):
                raise ValueError(f"it is damaged: the CRC of {bad} is wrong")
    elif _is_tar(path):  # torch before 2.6 unpickles this format without restrictions
        raise ValueError("it has the format of PyTorch before 0.2")
    return torch.load(path, map_location="cpu", weights_only=True)


def _is_tar(path: Path) -> bool:
    """Whether a file is a plain tar archive. `tarfile.is_tarfile` also decompresses, and reads zeros to their end."""
    try:
        tarfile.open(path, "r:").close()
    except tarfile.TarError:
        return False
    return True
