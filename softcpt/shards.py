"""Predictions for more images than one machine classifies in a day: shards in, a Parquet file per shard out.

A shard is a tar or zip archive of images, or some thousand images of a folder or list. Its part is written at once when
all its images are done, so a part that exists is whole, and a repeated command makes only what is missing.
"""

from __future__ import annotations

import csv
import hashlib
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dassl.data.archives import ENDINGS as ARCHIVES
from dassl.data.archives import split_archive
from dassl.runs.record import hash_of
from dassl.utils import UserError, atomic_write, counted, read_json, write_json
from dassl.utils.errors import describe

from .images import is_image

SIZE = 10_000  # images of a folder or list that make a shard
SETTINGS, UNREADABLE = "predictions.json", "unreadable.csv"


@dataclass(frozen=True)
class Shard:
    """Images that are classified together: an archive, or paths. `name`: of its part, without ending."""

    name: str
    images: tuple[str, ...]


@dataclass(frozen=True)
class Done:
    """What became of a shard. `error`: why it has no part; "" if it has."""

    name: str
    images: int = 0
    unreadable: int = 0
    seconds: float = 0.0
    error: str = ""


def find_shards(sources: Iterable[str | os.PathLike], size: int = SIZE) -> list[Shard]:
    """The shards of archives, folders, lists of paths (.txt, relative to the list's folder) and images.

    Each archive is a shard, also in a folder; other images make shards of `size`. Each image is in one shard only.

    Raises:
        FileNotFoundError: a source does not exist, or there is no image at all.
    """
    archives: dict[str, Shard] = {}  # by path
    loose: list[tuple[str, list[str]]] = []  # (stem, paths)
    for source in map(os.fspath, sources):
        if os.path.isdir(source):
            paths = sorted(os.path.join(where, name) for where, _, names in os.walk(source) for name in names)
            loose.append((Path(source).resolve().name, paths))
        elif not os.path.isfile(source) and not split_archive(source):
            raise FileNotFoundError(f"no such image, folder, archive or list: {source}")
        elif source.lower().endswith(".txt"):
            loose.append((Path(source).stem, _listed(source)))
        else:
            loose.append(("images", [source]))
    for path in (path for _, paths in loose for path in paths if path.lower().endswith(ARCHIVES)):
        archives[os.path.abspath(path)] = _named(Path(path).stem, (path,), str(os.path.getsize(path)))
    found, seen = list(archives.values()), set()
    for stem in dict.fromkeys(stem for stem, _ in loose):
        images = {os.path.abspath(path): path for name, paths in loose if name == stem for path in paths}
        images = {key: path for key, path in images.items() if is_image(path) and key not in seen}
        images = {key: path for key, path in images.items() if (split_archive(key) or [""])[0] not in archives}
        seen |= images.keys()
        paths = list(images.values())
        starts = range(0, len(paths), size)
        found += [_named(f"{stem}-{n:05d}", tuple(paths[start : start + size])) for n, start in enumerate(starts)]
    if not found:
        raise FileNotFoundError("no image in: " + ", ".join(map(str, sources)))
    return found


def _listed(path: str) -> list[str]:
    lines = (line.strip() for line in Path(path).read_text(encoding="utf-8").splitlines())
    return list(dict.fromkeys(os.path.join(os.path.dirname(path), line) for line in lines if line))


def _named(stem: str, images: tuple[str, ...], *more: str) -> Shard:
    """The shard of these images, whose name tells it from others. `more`: values that change when the images change."""
    digest = hashlib.sha256("\0".join((*map(os.path.abspath, images), *more)).encode()).hexdigest()[:8]
    return Shard(f"{stem}-{digest}", images)


def settle(folder: str | os.PathLike, run: str | os.PathLike, task: str | None, topk: int) -> None:
    """Create the folder of the parts, and record what they are. Raises UserError if it has parts of other settings."""
    folder, hashes = Path(folder), {what: hash_of(run, what) for what in ("config", "split", "weights")}
    settings = {"run": os.path.abspath(run), "hashes": hashes, "task": task, "topk": topk}
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / SETTINGS).is_file():
        known = read_json(folder / SETTINGS)
        odd = [key for key, value in settings.items() if not isinstance(known, dict) or known.get(key) != value]
        if odd:
            there = known.get(odd[0]) if isinstance(known, dict) else known
            raise UserError(
                f"{folder} has predictions with another {odd[0]}: found {there}, now {settings[odd[0]]}. "
                "Give another folder after -o, or remove this one"
            )
    elif any(folder.glob("*.parquet")):
        raise UserError(f"{folder} has Parquet files of another program; give another folder after -o")
    else:
        write_json(settings, folder / SETTINGS)


def make_part(shard: Shard, model, folder: str | os.PathLike, task: str | None, topk: int) -> Done:
    """Classify the images of a shard and write its part; nothing is done if there is a part.

    `model`: a `Classifier`. An image that cannot be read has a row with its `error`.
    """
    target, began = Path(folder) / f"{shard.name}.parquet", time.monotonic()
    try:
        if not target.is_file():
            write_part(target, model.stream(list(shard.images), task, topk, progress=False))
        images, unreadable = count(target)
    except (UserError, OSError) as error:
        return Done(shard.name, error=describe(error))
    return Done(shard.name, images, unreadable, time.monotonic() - began)


def write_part(target: Path, found: Iterable[Sequence]) -> None:
    """Write records, as `Classifier.stream` yields them, with the columns path, task, classes, probabilities, error."""
    import pyarrow
    import pyarrow.parquet

    words, numbers = pyarrow.list_(pyarrow.string()), pyarrow.list_(pyarrow.float32())
    kinds = {"path": pyarrow.string(), "task": pyarrow.string(), "classes": words, "probabilities": numbers}
    rows = [
        {
            "path": one.path,
            "task": one.task,
            "classes": [name for name, _ in one.classes],
            "probabilities": [probability for _, probability in one.classes],
            "error": one.error,
        }
        for records in found
        for one in records
    ]
    table = pyarrow.Table.from_pylist(rows, schema=pyarrow.schema({**kinds, "error": pyarrow.string()}))
    with atomic_write(target, "wb") as file:
        pyarrow.parquet.write_table(table, file, compression="zstd")


def count(part: Path) -> tuple[int, int]:
    """Numbers of images and of unreadable images in a part."""
    table = _read(part, ["path", "error"])
    return len(set(table["path"])), sum(bool(error) for error in table["error"])


def _read(part: Path, columns: list[str]) -> dict[str, list]:
    import pyarrow.parquet

    return pyarrow.parquet.read_table(part, columns=columns).to_pydict()


def summarise(folder: str | os.PathLike, shards: Sequence[Shard]) -> tuple[int, int]:
    """Write `unreadable.csv` of these shards' parts; returns the numbers of images and of unreadable ones."""
    total, broken = 0, []
    for shard in shards:
        part = Path(folder) / f"{shard.name}.parquet"
        if part.is_file():
            table = _read(part, ["path", "error"])
            total += len(set(table["path"]))
            broken += [pair for pair in zip(table["path"], table["error"], strict=True) if pair[1]]
    with atomic_write(Path(folder) / UNREADABLE) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("path", "error"))
        writer.writerows(broken)
    return total, len(broken)


def on_this_machine(run, shards: Sequence[Shard], folder, task: str | None, topk: int) -> Iterator[Done]:
    """Make the parts one after the other."""
    from .model import load

    model = load(run) if shards else None
    for shard in shards:
        yield make_part(shard, model, folder, task, topk)


def make_parts(
    run, sources, folder, task: str | None = None, topk: int = 5, engine=on_this_machine, show=print
) -> tuple[int, int, list[Done]]:
    """Classify all images of `sources`; the parts are in `folder`. Returns (images, unreadable ones, failed shards).

    `engine`: makes the missing parts and yields a `Done` for each. `show`: prints a line.

    Raises:
        UserError: pyarrow is missing, the run has no such task, or the folder has other predictions.
        FileNotFoundError: a source does not exist, or there is no image.
    """
    from .model import Classifier

    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise UserError("Parquet files need pyarrow: pip install pyarrow (it is in requirements-ray.txt)") from None
    Classifier(run).positions(task)
    shards = find_shards(sources)
    settle(folder, run, task, topk)
    missing = [shard for shard in shards if not (Path(folder) / f"{shard.name}.parquet").is_file()]
    show(f"{counted(len(shards), 'shard')}, {len(missing)} to classify")
    failed, ready, began = [], 0, time.monotonic()
    for number, done in enumerate(engine(run, missing, folder, task, topk), 1):
        ready += done.images
        rate = ready / max(time.monotonic() - began, 1e-9)
        state = f"failed: {done.error}" if done.error else counted(done.images, "image")
        state += f", {done.unreadable} unreadable" if done.unreadable else ""
        show(f"[{number}/{len(missing)}] {done.name}: {state}; {rate:,.0f} images a second so far")
        failed += [done] if done.error else []
    return *summarise(folder, shards), failed
