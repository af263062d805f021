"""Store image features on disk: each feature is computed once and shared by all runs that need it.

A store is a folder for one kind of feature (weights, precision, preprocessing). It consists of shards: files that are
written once, atomically and under a new name, and never changed. So any number of runs may fill a store at the same
time; at worst two runs compute the same feature. A shard holds a digest for each row that identifies its view, the kind
of its features and checksums. A shard that is truncated, damaged or of another kind is reported and deleted, and its
features are computed again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import zlib
from collections.abc import Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from dassl.utils import atomic_write, counted
from dassl.utils.locks import locked

DIGEST = 16  # bytes of a view's digest; two of 10^9 views collide with probability 10^-21
_STORE = re.compile(f"[0-9a-f]{{{2 * DIGEST}}}")  # folder name of a store


def default_folder() -> Path:
    """The folder `features` in `$SOFTCPT_CACHE`, or in `~/.cache/softcpt` if the variable is not set."""
    return Path(os.environ.get("SOFTCPT_CACHE") or Path("~/.cache/softcpt").expanduser()) / "features"


def digest(*parts) -> bytes:
    """16-byte hash of `parts`, which identifies a view or a kind. `parts` must be JSON-serialisable."""
    return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=DIGEST).digest()


class FeatureStore:
    """Features of one kind: `missing` finds the features to compute, `rows` reads features, `add` writes new ones.

    `kind`: everything that the features depend on besides the image, JSON-serialisable. `folder`: the folder that
    contains all stores.
    """

    def __init__(self, kind: dict, folder: Path | str | None = None):
        self.kind = digest(kind).hex()
        self.folder = Path(folder or default_folder()) / self.kind
        self._where: dict[bytes, tuple[np.ndarray, int]] = {}  # digest -> (features of a shard, row)
        self._known: set[str] = set()

    def __len__(self) -> int:
        return len(self._where)

    def refresh(self) -> None:
        """Read the shards that were added on disk since the last call."""
        for path in sorted(self.folder.glob("*.safetensors")):
            if path.name not in self._known:
                self._known.add(path.name)
                self._take(path)

    def _take(self, path: Path) -> None:
        try:
            with safe_open(str(path), "numpy") as file:
                about = file.metadata() or {}
                names = file.keys()
                digests = file.get_tensor("digests") if "digests" in names else None
            if about.get("kind") != self.kind or digests is None:
                raise ValueError("it belongs to another model or preprocessing")
            features = _mapped(path)
            if features.shape[0] != len(digests) or zlib.crc32(features) != int(about["crc32"]):
                raise ValueError("its checksum is wrong")
            if zlib.crc32(digests) != int(about["digests_crc32"]):
                raise ValueError("its checksum is wrong")
        except OSError as error:  # no permission to read it, or another run has just removed it
            print(f"Feature cache: {path} cannot be read; its features will be computed again ({error})")
            return
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            print(f"Feature cache: {path} is not used; its features will be computed again ({error})")
            with suppress(OSError):  # it stays in a folder of another user
                path.unlink(missing_ok=True)
            return
        with suppress(OSError):
            os.utime(path)  # shards in use are removed last
        for row, name in enumerate(digests):
            self._where.setdefault(name.tobytes(), (features, row))

    def missing(self, wanted: Sequence[bytes]) -> list[int]:
        """Indices into `wanted` of features missing from the store."""
        return [position for position, name in enumerate(wanted) if name not in self._where]

    def rows(self, wanted: Sequence[bytes]) -> np.ndarray:
        """Copy of the features of `wanted`: (len(wanted), ...) fp32. Raises KeyError if one is missing."""
        return np.stack([features[row] for features, row in map(self._where.__getitem__, wanted)])

    @contextmanager
    def filling(self, part: str):
        """Lock a `part` of the store: other runs that want to compute its features wait until the block ends.

        The lock of a run that dies is released. If files cannot be locked, two runs may compute the same feature.
        """
        with suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
        with locked(self.folder / f"{part}.lock", "Another run is computing the same features; waiting for it"):
            yield

    def add(self, names: Sequence[bytes], features: np.ndarray) -> None:
        """Add the features (n, ...) of `names`: on disk if it can be written, else for this run only."""
        features = np.ascontiguousarray(features, dtype=np.float32)
        digests = np.frombuffer(b"".join(names), dtype=np.uint8).reshape(len(names), DIGEST)
        about = {
            "kind": self.kind,
            "crc32": str(zlib.crc32(features)),
            "digests_crc32": str(zlib.crc32(digests)),
        }
        path = (
            self.folder / f"{hashlib.blake2b(digests.tobytes(), digest_size=8).hexdigest()}-{os.getpid()}.safetensors"
        )
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with atomic_write(path, "wb") as file:
                file.write(save({"digests": digests, "features": features}, about))
            self._known.add(path.name)
            features = _mapped(path)
        except OSError as error:
            print(f"Feature cache: cannot write to {self.folder} ({error}); the features are used by this run only")
        for row, name in enumerate(names):
            self._where[name] = (features, row)


def _mapped(path: Path) -> np.ndarray:
    """The features of a shard as a memory map: (n, ...) fp32."""
    with open(path, "rb") as file:
        header_length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(header_length))
    entry = header["features"]
    if entry["dtype"] != "F32":
        raise ValueError("it does not hold fp32 features")
    start, end = entry["data_offsets"]
    if path.stat().st_size < 8 + header_length + end:
        raise ValueError("it is truncated")
    return np.memmap(path, np.float32, "r", 8 + header_length + start, tuple(entry["shape"]))


def usage(folder: Path | str | None = None) -> list[tuple[Path, int, float]]:
    """List (shard, bytes, time of last use) of all stores below `folder`."""
    found = []
    for path in Path(folder or default_folder()).glob("*/*.safetensors"):
        if not _STORE.fullmatch(path.parent.name):  # another program's file, e.g. model weights
            continue
        with suppress(OSError):  # another run has just removed it
            stat = path.stat()
            found.append((path, stat.st_size, stat.st_mtime))
    return found


def prune(limit: float, folder: Path | str | None = None) -> int:
    """Remove the least recently used shards until at most `limit` bytes are left. Returns the number removed."""
    shards = sorted(usage(folder), key=lambda shard: shard[2])
    total, removed = sum(size for _, size, _ in shards), 0
    for path, size, _ in shards:
        if total <= limit:
            break
        try:
            path.unlink(missing_ok=True)
        except OSError:  # a file of another user
            continue
        total -= size
        removed += 1
    return removed


def clear(folder: Path | str | None = None) -> tuple[int, int]:
    """Remove all stores below `folder`. Returns (shards, bytes) removed."""
    shards = usage(folder)
    for path in Path(folder or default_folder()).glob("*"):
        if _STORE.fullmatch(path.name):
            shutil.rmtree(path, ignore_errors=True)
    gone = [size for path, size, _ in shards if not path.exists()]
    return len(gone), sum(gone)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m features.store", description="Show or clear the image features stored on disk."
    )
    parser.add_argument("action", choices=("show", "clear"), help="show the stored files, or remove them")
    parser.add_argument("--dir", type=Path, default=None, help=f"folder of the features (default: {default_folder()})")
    args = parser.parse_args(argv)
    folder = args.dir or default_folder()
    if args.action == "show":
        shards = usage(folder)
        count, size, word = len(shards), sum(size for _, size, _ in shards), ""
    else:
        (count, size), word = clear(folder), "removed "
    print(f"{folder}: {word}{counted(count, 'file')}, {size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
