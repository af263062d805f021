"""Archives that were downloaded but not unpacked: which belong to a dataset, and the command that unpacks each."""

from __future__ import annotations

import re
import tarfile
import zipfile
import zlib
from itertools import islice
from pathlib import Path

from datasets.doctor.published import OTHER_FOLDERS, plain
from datasets.folders import listing, q
from datasets.table import Row

ENDINGS = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar", ".zip", ".rar", ".7z")


def archives_in(row: Row, place: Path, root: Path | None) -> list[Path]:
    """Archives in the folder `place`, else those in the data root whose name says that they are this dataset's."""
    found = [path for path in _files(place) if _stem(path.name)]
    if found or root is None:
        return found
    known = {plain(name) for name in (row.name, row.folder, *OTHER_FOLDERS.get(row.folder, ()))}
    known |= {plain(folder.split("/")[0]) for folder in (row.images, *row.image_folders)} - {"", "images", "data"}
    published = {name for file in row.files for name in (file.name, *file.also)} - {"archive.zip"}  # Kaggle's, of any
    published |= set(re.findall(r"[\w.-]+(?:" + "|".join(map(re.escape, ENDINGS)) + ")", row.source))
    archives = [path for path in _files(root) if _stem(path.name)]
    return [path for path in archives if path.name in published or plain(_stem(path.name)) in known]


def _files(folder: Path) -> list[Path]:
    return [folder / name for name in listing(folder)[1]]


def _stem(name: str) -> str:
    """Name of an archive without its ending, "" for other files."""
    ending = next((ending for ending in ENDINGS if name.lower().endswith(ending)), "")
    return name[: -len(ending)] if ending else ""


def unpacking(row: Row, archive: Path, place: Path, root: Path | None) -> tuple[str, str]:
    """(the command that unpacks an archive to where it belongs, "") or ("", what is wrong with the archive).

    Looks at the beginning of the archive only; the folder it begins with decides where it is unpacked.

    Args:
        row: the dataset.
        archive: the file.
        place: the folder that its content is for.
        root: the data root if `place` is the dataset's folder, None if it is one within it.
    """
    by_hand = archive.name.lower().endswith((".rar", ".7z"))
    try:
        top = "" if by_hand else _first_folder(archive)
    except (OSError, EOFError, tarfile.TarError, zipfile.BadZipFile, zlib.error, ValueError) as error:
        return "", f"it cannot be read as an archive ({error or type(error).__name__})"
    known = {name for file in row.files if file.put for name in (file.name, *file.also)}
    if root is not None and archive.name in known and not by_hand:  # it knows where everything in it belongs
        command = f"python -m datasets.download {row.name} --root {q(root)}"
        bring = f"mkdir -p {q(place)} && mv {q(archive)} {q(place)}/ && "
        return (command if archive.parent == place else bring + command), ""
    target = place.parent if top == place.name else place
    make, name, where = "" if target.is_dir() else f"mkdir -p {q(target)} && ", q(archive), q(target)
    if by_hand:
        return f"{make}7z x {name} -o{where}", ""
    return f"{make}unzip -q {name} -d {where}" if zipfile.is_zipfile(
        archive
    ) else f"{make}tar -xf {name} -C {where}", ""


def _first_folder(archive: Path) -> str:
    if archive.name.lower().endswith(".zip"):
        with zipfile.ZipFile(archive) as content:
            names = content.namelist()[:50]
    else:
        with tarfile.open(archive) as content:
            names = [member.name for member in islice(content, 5)]
    tops = (name.removeprefix("./").split("/")[0] for name in names)
    return next((top for top in tops if top not in ("", ".", "__MACOSX")), "")
