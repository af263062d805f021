"""Image features on disk: computed once, shared by every run that needs the same ones.

A store is a folder for one kind of feature (weights, precision, preprocessing). It holds shards: files that are written
once, under a new name, whole or not at all, and never changed. So any number of runs may fill a store at once; at worst
two of them compute the same feature. A shard carries the digest of what it is a feature of for each row, the kind it
belongs to and a checksum; one that is cut, damaged or of another kind is set aside with a line saying so, and its rows
are computed anew.
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
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from dassl.utils import atomic_write, counted

DIGEST = 16  # bytes that identify a view; two of 10^9 views coincide with probability 10^-21
_STORE = re.compile(f"[0-9a-f]{{{2 * DIGEST}}}")  # name of a store's folder


def default_folder() -> Path:
    """`$SOFTCPT_CACHE`, else `~/.cache/softcpt`, and in it `features`."""
    return Path(os.environ.get("SOFTCPT_CACHE") or Path("~/.cache/softcpt").expanduser()) / "features"


def digest(*parts) -> bytes:
    """What identifies a view or a kind: 16 bytes of a hash over `parts`, which JSON can write."""
    return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=DIGEST).digest()


class FeatureStore:
    """Features of one kind: `find` says which are there, `rows` reads them, `add` writes new ones.

    `kind`: everything the features depend on besides the image itself, as something JSON can write. `folder`: of all
    stores.
    """

    def __init__(self, kind: dict, folder: Path | str | None = None):
        self.kind = digest(kind).hex()
        self.folder = Path(folder or default_folder()) / self.kind
        self._where: dict[bytes, tuple[np.ndarray, int]] = {}  # digest -> (features of a shard, row)
        self._known: set[str] = set()

    def __len__(self) -> int:
        return len(self._where)

    def refresh(self) -> None:
        """Take in the shards that are new on disk."""
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
        except OSError as error:  # not ours to read, or just removed by another run
            print(f"Feature cache: {path} cannot be read and will be computed anew ({error})")
            return
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            print(f"Feature cache: {path} is not used and will be computed anew ({error})")
            with suppress(OSError):  # in somebody else's folder it stays
                path.unlink(missing_ok=True)
            return
        with suppress(OSError):
            os.utime(path)  # a shard in use is the last to be removed
        for row, name in enumerate(digests):
            self._where.setdefault(name.tobytes(), (features, row))

    def missing(self, wanted: Sequence[bytes]) -> list[int]:
        """Positions in `wanted` of the features that are not here."""
        return [position for position, name in enumerate(wanted) if name not in self._where]

    def rows(self, wanted: Sequence[bytes]) -> np.ndarray:
        """Features of `wanted`, (len(wanted), ...) fp32, a copy. Raises KeyError for one that is not here."""
        return np.stack([features[row] for features, row in map(self._where.__getitem__, wanted)])

    @contextmanager
    def filling(self, part: str):
        """Within the block no other run computes features of this `part` of the store; others wait for the end of it.

        A run that dies lets the next one in. Where files cannot be locked runs may compute the same feature twice.
        """
        lock = FileLock(self.folder / f"{part}.lock")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                print("Another run is computing the same features; waiting for it")
                lock.acquire()
        except (OSError, NotImplementedError):
            pass
        try:
            yield
        finally:
            lock.release()

    def add(self, names: Sequence[bytes], features: np.ndarray) -> None:
        """Keep features (n, ...) of `names`; on disk if that is possible, for this run in any case."""
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
            print(f"Feature cache: cannot write to {self.folder} ({error}); the features serve this run only")
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
        raise ValueError("it is cut short")
    return np.memmap(path, np.float32, "r", 8 + header_length + start, tuple(entry["shape"]))


def usage(folder: Path | str | None = None) -> list[tuple[Path, int, float]]:
    """(shard, bytes, time of last use) of all stores below `folder`."""
    found = []
    for path in Path(folder or default_folder()).glob("*/*.safetensors"):
        if not _STORE.fullmatch(path.parent.name):  # weights of a model, say: nothing of ours, and not ours to remove
            continue
        with suppress(OSError):  # another run has just removed it
            stat = path.stat()
            found.append((path, stat.st_size, stat.st_mtime))
    return found


def prune(limit: float, folder: Path | str | None = None) -> int:
    """Remove the shards not used for longest until at most `limit` bytes are left; returns how many went."""
    shards = sorted(usage(folder), key=lambda shard: shard[2])
    total, removed = sum(size for _, size, _ in shards), 0
    for path, size, _ in shards:
        if total <= limit:
            break
        try:
            path.unlink(missing_ok=True)
        except OSError:  # of another user
            continue
        total -= size
        removed += 1
    return removed


def clear(folder: Path | str | None = None) -> tuple[int, int]:
    """Remove all stores below `folder`; returns (shards, bytes) that went."""
    shards = usage(folder)
    for path in Path(folder or default_folder()).glob("*"):
        if _STORE.fullmatch(path.name):
            shutil.rmtree(path, ignore_errors=True)
    gone = [size for path, size, _ in shards if not path.exists()]
    return len(gone), sum(gone)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m features.store", description="The image features kept on disk.")
    parser.add_argument("action", choices=("show", "clear"), help="say what is there, or remove it")
    parser.add_argument("--dir", type=Path, default=None, help=f"folder of the features, default {default_folder()}")
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
