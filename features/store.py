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
import sys
import tempfile
import time
import zlib
from collections.abc import Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from dassl import program
from dassl.utils import atomic_write, counted
from dassl.utils.locks import locked

DIGEST = 16  # bytes of a view's digest; two of 10^9 views collide with probability 10^-21
STALE = 3600  # seconds after which a temporary file belongs to a run that was killed

_STORE = re.compile(f"[0-9a-f]{{{2 * DIGEST}}}")  # folder name of a store
_SHARD = r"[0-9a-f]{16}-\d+\.safetensors"
_TEMPORARY = re.compile(rf"\.{_SHARD}\.[0-9a-f]+\.tmp")  # of `atomic_write`
_FILES = re.compile(rf"{_SHARD}|{_TEMPORARY.pattern}")
_LOCK = re.compile(r"(test|seed-?\d+)\.lock")
_told: set[Path] = set()  # folders that cannot be written; a run says so once


def default_folder() -> Path:
    """The folder `features` in `$SOFTCPT_CACHE`, or in `~/.cache/softcpt` if the variable is not set."""
    folder = os.environ.get("SOFTCPT_CACHE") or os.path.expanduser("~/.cache/softcpt")
    if folder.startswith("~"):  # a user without a home, as in some containers
        folder = os.path.join(tempfile.gettempdir(), f"softcpt-{os.getuid()}")
    return Path(folder) / "features"


def digest(*parts) -> bytes:
    """16-byte hash of `parts`, which identifies a view or a kind. `parts` must be JSON-serialisable."""
    return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=DIGEST).digest()


class FeatureStore:
    """Features of one kind: `missing` finds the features to compute, `rows` reads features, `add` writes new ones.

    `kind`: everything that the features depend on besides the image, JSON-serialisable. `folder`: the folder that
    contains all stores. `shape`: of one feature; files with features of another shape are not used.
    """

    def __init__(self, kind: dict, folder: Path | str | None = None, shape: tuple[int, ...] | None = None):
        self.kind, self.shape = digest(kind).hex(), shape
        self.folder = Path(folder or default_folder()).expanduser() / self.kind
        self._where: dict[bytes, tuple[np.ndarray, int]] = {}  # digest -> (features of a shard, row)
        self._known: set[str] = set()

    def __len__(self) -> int:
        return len(self._where)

    def refresh(self) -> None:
        """Read the shards that were added on disk since the last call."""
        problems, paths = [], []
        with suppress(OSError):  # `add` says what is wrong with the folder
            paths = sorted(self.folder.glob("*.safetensors"))
        for path in paths:
            if path.name not in self._known:
                self._known.add(path.name)
                if problem := self._take(path):
                    found, reason = problem
                    problems.append(f"{path} {found}; its features will be computed again ({reason})")
        if problems:
            more = f", and {counted(len(problems) - 1, 'more file')} alike" if len(problems) > 1 else ""
            print(f"Feature cache: {problems[0]}{more}")

    def _take(self, path: Path) -> tuple[str, object] | None:
        """Take the features of a shard. Returns what is wrong with it and why, or None."""
        if not path.is_file():
            return "is not used", "it is not a file"
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
            if self.shape is not None and features.shape[1:] != self.shape:
                raise ValueError(f"its features have the shape {features.shape[1:]}, expected {self.shape}")
            if not np.isfinite(features).all():
                raise ValueError("it has features that are not finite")
        except OSError as error:  # no permission to read it, or another run has just removed it
            return "cannot be read", error
        except (SafetensorError, ValueError, KeyError, TypeError, IndexError, OverflowError, MemoryError) as error:
            with suppress(OSError):  # it stays in a folder of another user
                path.unlink(missing_ok=True)
            return "is not used", " ".join(str(error).split())
        with suppress(OSError):
            os.utime(path)  # shards in use are removed last
        for row, name in enumerate(digests):
            self._where.setdefault(name.tobytes(), (features, row))
        return None

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
        """Add the features (n, ...) of `names`: on disk if it can be written, else for this run only.

        Features that are not finite are for this run only, too: a later run may compute them without the mistake.
        """
        features = np.ascontiguousarray(features, dtype=np.float32)
        self._where.update({name: (features, row) for row, name in enumerate(names)})
        finite = np.isfinite(features).reshape(len(names), -1).all(1)
        if not finite.all():
            count = counted(int((~finite).sum()), "feature")
            print(f"WARNING: {count} of images are not finite; they are used by this run only")
            names, features = [name for name, good in zip(names, finite, strict=True) if good], features[finite]
        if names:
            self._write(names, features)

    def _write(self, names: Sequence[bytes], features: np.ndarray) -> None:
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
            if self.folder.parent not in _told:
                _told.add(self.folder.parent)
                print(
                    f"Feature cache: cannot write to {self.folder} ({error.strerror or error}); the features are used "
                    "by this run only"
                )
            return
        self._where.update({name: (features, row) for row, name in enumerate(names)})


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


def _entries(folder: Path | str | None, pattern: re.Pattern) -> list[os.DirEntry]:
    """Files in the stores below `folder` whose names match. Links are left alone, because they lead elsewhere."""
    found = []
    with suppress(OSError), os.scandir(Path(folder or default_folder()).expanduser()) as stores:
        for store in stores:
            if _STORE.fullmatch(store.name) and store.is_dir(follow_symlinks=False):
                with suppress(OSError), os.scandir(store.path) as files:
                    found += [f for f in files if pattern.fullmatch(f.name) and f.is_file(follow_symlinks=False)]
    return found


def usage(folder: Path | str | None = None) -> list[tuple[Path, int, float]]:
    """List (file, bytes, time of last use) of all stores below `folder`: shards and temporary files of killed runs."""
    found = []
    for entry in _entries(folder, _FILES):
        with suppress(OSError):  # another run has just removed it
            stat = entry.stat(follow_symlinks=False)
            found.append((Path(entry.path), stat.st_size, stat.st_mtime))
    return found


def prune(limit: float, folder: Path | str | None = None) -> int:
    """Remove temporary files of killed runs, then the least recently used shards until at most `limit` bytes are left.

    Returns the number of files removed.
    """
    files, old = usage(folder), time.time() - STALE
    total, removed = sum(size for _, size, _ in files), 0
    killed = [file for file in files if _TEMPORARY.fullmatch(file[0].name) and file[2] < old]
    shards = [file for file in files if not _TEMPORARY.fullmatch(file[0].name)]
    for path, size, _ in killed + sorted(shards, key=lambda shard: shard[2]):
        if total <= limit and not _TEMPORARY.fullmatch(path.name):
            break
        try:
            path.unlink(missing_ok=True)
        except OSError:  # a file of another user
            continue
        total -= size
        removed += 1
        with suppress(OSError):  # it is not empty
            path.parent.rmdir()
    return removed


def clear(folder: Path | str | None = None) -> tuple[int, int]:
    """Remove the files of all stores below `folder`, and no other file. Returns (files, bytes) removed."""
    removed = [(path, size) for path, size, _ in usage(folder)]
    locks = _entries(folder, _LOCK)
    for path in [path for path, _ in removed] + [Path(lock.path) for lock in locks]:
        with suppress(OSError):
            path.unlink(missing_ok=True)
    for store in {path.parent for path, _ in removed} | {Path(lock.path).parent for lock in locks}:
        with suppress(OSError):  # it holds files of another program or user
            store.rmdir()
    gone = [size for path, size in removed if not path.exists()]
    return len(gone), sum(gone)


@program.entry
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
        if left := len(usage(folder)):
            print(f"{folder}: {counted(left, 'file')} of other users cannot be removed")
    print(f"{folder}: {word}{counted(count, 'file')}, {size / 2**20:.1f} MiB")


if __name__ == "__main__":
    sys.exit(main())
