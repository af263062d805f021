"""Bring a webdataset from the Hugging Face hub: download its shards, and lay them out as images and a list of labels.

Shards that are in the dataset's folder, or in a mirror that is a folder, are used without a network, e.g. those that
`hf download REPOSITORY --repo-type dataset --local-dir FOLDER` has downloaded.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from dassl.utils import atomic_write, counted
from dassl.utils.disk import SPARE, copy_sparing, free_space, size
from dassl.utils.transfer import Unreachable, fetch, forget, was_fetched
from datasets.fetch.archives import ArchiveError
from datasets.fetch.hub import HubFile, shards_of, verify_blob
from datasets.fetch.options import TEMPORARY, Options, discard, is_there, move
from datasets.fetch.shards import DamagedShard, unpack_shards
from datasets.folders import some
from datasets.known.row import Row

PARTS = ("train", "test")
NAMES, TEMPLATES = "classnames.txt", "zeroshot_classification_templates.txt"
COUNT = "nshards.txt"  # in the folder of a part: the number of its shards


def bring_shards(row: Row, options: Options) -> None:
    """Bring the images, labels and class names of a webdataset. Says why if that is not possible.

    Raises:
        OSError: the disk.
    """
    folder, images = options.root / row.folder, options.root / row.folder / row.images
    if is_there(images):
        return
    try:
        if here := _at_hand(row, options):
            options.say(f"{row.name}: using the shards in {here}")
            files = {path.relative_to(here).as_posix(): path for path in here.rglob("*") if path.is_file()}
        else:
            files = _download(row, options)
        temporary = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=folder))
        try:
            shards = {part: [files[path] for path in shards_of(part, files)] for part in PARTS}
            unpack_shards(shards, temporary / "images")
            for text in (NAMES, TEMPLATES):
                if text in files and files[text] != folder / text:
                    copy_sparing(files[text], temporary / text)
                    move(temporary / text, folder / text)
            move(temporary / "images", images)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except DamagedShard as error:
        bad = folder / error.path
        text = discard(bad, was_fetched(bad), bad.parent) if bad.is_file() else ""
        return options.say(f"{row.name}: {error}{text}")
    except (Unreachable, ArchiveError) as error:
        return options.say(f"{row.name}: {error}")
    options.say(f"{row.name}: unpacked {counted(sum(map(len, shards.values())), 'shard')} to {images}")
    _clear(folder, options.keep)


def _at_hand(row: Row, options: Options) -> Path | None:
    """The folder with all shards: the dataset's own, or a mirror; None if there is none."""
    mirror = options.mirror_folder
    places = [options.root / row.folder, *([mirror / row.folder, mirror] if mirror else [])]
    return next((place for place in places if _is_whole(place)), None)


def _is_whole(folder: Path) -> bool:
    """Whether a folder has the class names and, in both parts, as many shards as `nshards.txt` says, or all from 0."""
    if not (folder / NAMES).is_file():
        return False
    for part in PARTS:
        found = shards_of(part, [f"{part}/{path.name}" for path in folder.glob(f"{part}/*.tar")])
        numbers = [int(Path(path).stem) for path in found]
        with contextlib.suppress(OSError, ValueError):
            if len(numbers) != int((folder / part / COUNT).read_text()):
                return False
        if not numbers or numbers != list(range(len(numbers))):
            return False
    return True


def _download(row: Row, options: Options) -> Mapping[str, Path]:
    """Download the shards and texts; returns {path in the repository: file}. Raises Unreachable and OSError."""
    folder = options.root / row.folder
    files = {file.path: file for file in options.on_hub(row.hub)}
    shards = [path for part in PARTS for path in shards_of(part, files)]
    if gone := [f"{part}/0.tar" for part in PARTS if not shards_of(part, files)] + [
        t for t in [NAMES] if t not in files
    ]:
        raise Unreachable(f"{row.hub.page} has no {some(gone)}; expected a webdataset with {NAMES}")
    left = sum(files[path].size for path in shards if not (folder / path).is_file())
    unpacked = sum(files[path].size for path in shards)
    if left + unpacked + SPARE > free_space(folder):
        text = f"about {size(left + unpacked)} are needed in {folder}, but {size(free_space(folder))} are free"
        raise Unreachable(text)
    for part in PARTS:  # so that a later run knows whether all shards are there
        (folder / part).mkdir(exist_ok=True)
        with atomic_write(folder / part / COUNT) as file:
            file.write(f"{len(shards_of(part, files))}\n")
    texts = [text for text in (NAMES, TEMPLATES) if text in files]
    where = files[shards[0]].url.partition("/resolve/")[0]
    options.say(f"{row.name}: downloading {counted(len(shards), 'shard')} ({size(left)}) from {where}")
    return {path: _fetch(files[path], folder / path) for path in (*texts, *shards)}


def _fetch(file: HubFile, target: Path) -> Path:
    """Bring one file, unless it is there or in the cache of huggingface_hub; returns its path. Raises Unreachable."""
    if target.is_file():
        return target
    if file.cached:
        return Path(file.cached)
    try:
        fetch(file.url, target, file.checksum)
    except Unreachable as error:
        raise type(error)(f"{file.url}: {error}") from None
    if file.blob:
        verify_blob(target, file)
        forget(target)
    return target


def _clear(folder: Path, keep: bool) -> None:
    """Remove the shards that were downloaded, unless they are kept, and what says so."""
    for part in PARTS:
        for path in sorted((folder / part).glob("*.tar")):
            ours = was_fetched(path)
            forget(path)
            if ours and not keep:
                path.unlink()
        with contextlib.suppress(OSError):  # the user's own shards are still there
            if not any((folder / part).glob("*.tar")):
                (folder / part / COUNT).unlink(missing_ok=True)
            (folder / part).rmdir()
