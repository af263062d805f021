"""Weight files: OpenAI's cache, resumable verified downloads, and reading without ever executing a pickle."""

from __future__ import annotations

import os
import pickle
import re
import warnings
import zipfile
from pathlib import Path

import torch

from dassl.utils import UserError
from dassl.utils.locks import locked
from dassl.utils.tools import hexdigest as sha256
from dassl.utils.transfer import Damaged, Unreachable, fetch, origin_of

__all__ = ["cache_dir", "download", "expected_sha256", "read_state_dict", "sha256"]


def cache_dir() -> Path:
    """OpenAI's cache of weights, `~/.cache/clip`."""
    return Path("~/.cache/clip").expanduser()


def expected_sha256(url: str) -> str | None:
    """OpenAI's URLs carry the SHA-256 of their file as the folder it lies in; None for other URLs."""
    found = re.search(r"/([0-9a-f]{64})/[^/]+$", url)
    return found.group(1) if found else None


def download(url: str, root: str | os.PathLike, digest: str | None = None) -> Path:
    """Fetch `url` into folder `root` and return the path; a file that is there and verifies is used as it is.

    It goes on where it was interrupted; the final name appears only once the checksum (`digest`, or the one in the
    URL) holds. Raises UserError with URL, file name, place and SHA-256 when there is no network, and when a finished
    file does not verify.
    """
    digest = digest or expected_sha256(url)
    target = Path(root) / url.rsplit("/", 1)[-1]
    by_hand = f"Fetch {url} by hand and put it at {target}" + (f"\n  SHA-256 {digest}" if digest else "")

    def there() -> bool:
        if not target.is_file():
            return False
        if digest is None or (found := sha256(target)) == digest:
            return True
        raise UserError(
            f"{target} is not the file it should be: its SHA-256 is {found}, expected {digest}. "
            f"Delete it to download it again. {by_hand}"
        )

    if there():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock, text = target.with_name(target.name + ".lock"), f"waiting for another run, which downloads {target}"
        with locked(lock, text):  # runs begun together would write one and the same unfinished file
            if there():
                return target
            fetch(url, target, f"sha256:{digest}" if digest else "")
    except Damaged as error:
        raise UserError(f"The download of {url} does not verify: {error}. {by_hand}") from None
    except (Unreachable, OSError) as error:
        raise UserError(
            f"The weights {target.name} are not in {target.parent} and cannot be downloaded ({error}). {by_hand}"
        ) from None
    origin_of(target).unlink(missing_ok=True)
    return target


def read_state_dict(path: str | os.PathLike) -> dict[str, torch.Tensor]:
    """Tensors of a weight file by name: safetensors, OpenAI's TorchScript archive, or a (nested) torch state dict.

    Nothing in the file is executed: pickles are read with `weights_only=True`. Raises UserError for anything else.
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
                warnings.simplefilter(
                    "ignore", FutureWarning
                )  # TorchScript is deprecated; OpenAI's files are what they are
                return dict(torch.jit.load(str(path), map_location="cpu").state_dict())
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        reason = str(error).splitlines()[0] if str(error) else "it is empty"
        if isinstance(error, pickle.UnpicklingError):  # torch's text recommends to load without weights_only
            reason = "it holds more than plain tensors, or torch did not write it"
        raise UserError(
            f"{path} is not a readable weight file ({reason}). "
            "Expected OpenAI's TorchScript archive, a state dict of plain tensors, or .safetensors; "
            "a file with other pickled objects is never opened."
        ) from None
    except Exception as error:  # safetensors raises its own class on a damaged header
        raise UserError(f"{path} is not a readable weight file ({error}).") from None
    for key in ("state_dict", "model"):  # training checkpoints hold the weights under one of these
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
