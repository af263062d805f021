"""Data sets on the Hugging Face hub: which files a repository has, and where each is downloaded from.

The library huggingface_hub is asked for the list of files, so HF_ENDPOINT, HF_HOME, HF_HUB_OFFLINE and a saved token
mean what they mean there. No token is needed. The files themselves come through `dassl.utils.transfer`, which resumes
them, keeps space on the disk and compares them with the checksums of the list. A file that is in the library's cache
already is used there.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from dassl.utils.transfer import Damaged, Unreachable
from datasets.known.remote import Hub
from datasets.known.row import Row

TIMEOUT = 20  # seconds for the list of files
ARCHIVES = (".zip", ".tar.gz", ".tgz", ".tar", ".tar.bz2", ".tar.xz")


@dataclass(frozen=True)
class HubFile:
    """A file of a repository.

    Attributes:
        path: its path in the repository.
        url: where it is downloaded from.
        size: bytes.
        checksum: "sha256:…" of large files, "" for small ones.
        blob: git's hash of a small file.
        cached: its path in the cache of huggingface_hub; "" if it is not there.
    """

    path: str
    url: str
    size: int = 0
    checksum: str = ""
    blob: str = ""
    cached: str = ""

    @property
    def name(self) -> str:
        """The last part of its path."""
        return PurePosixPath(self.path).name


def files_of(hub: Hub) -> tuple[HubFile, ...]:
    """The files of a repository, in the newest commit of its revision.

    Raises:
        Unreachable: no network, no such repository, or one that needs an account.
    """
    try:
        from huggingface_hub import HfApi, hf_hub_url, try_to_load_from_cache
    except ImportError as error:
        raise Unreachable(f"the hub needs the package huggingface_hub ({error})") from None
    endpoint = os.environ.get("HF_ENDPOINT") or None
    for repo in hub.repos:
        where = f"{(endpoint or 'https://huggingface.co').rstrip('/')}/datasets/{repo}"
        try:
            info = HfApi(endpoint=endpoint).dataset_info(
                repo, revision=hub.revision or None, files_metadata=True, timeout=TIMEOUT
            )
            break
        except Exception as error:  # the library and its client raise classes of their own
            if getattr(getattr(error, "response", None), "status_code", 0) in (401, 403, 404):
                if repo != hub.repos[-1]:
                    continue
                raise Unreachable(f"{where}: there is no such repository or revision, or it needs an account") from None
            text = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
            raise Unreachable(f"{where}: {text}") from None
    found = []
    for file in info.siblings or ():
        cached = try_to_load_from_cache(repo, file.rfilename, revision=info.sha, repo_type="dataset")
        found.append(
            HubFile(
                file.rfilename,
                hf_hub_url(repo, file.rfilename, repo_type="dataset", revision=info.sha, endpoint=endpoint),
                file.size or 0,
                f"sha256:{file.lfs.sha256}" if file.lfs else "",
                "" if file.lfs else file.blob_id or "",
                cached if isinstance(cached, str) else "",
            )
        )
    if not found:
        raise Unreachable(f"{where}: the repository is empty")
    return tuple(sorted(found, key=lambda file: file.path))


def verify_blob(path: Path, file: HubFile) -> None:
    """Compare a small file with git's hash in the list. Raises Damaged, and removes the file, if they differ."""
    content = path.read_bytes()
    if (
        file.blob
        and hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest() != file.blob
    ):
        path.unlink()
        raise Damaged(f"{file.name} is damaged: it has another hash than in the repository")


def archive_of(row: Row, files: Iterable[HubFile]) -> HubFile | None:
    """The archive with the name of the dataset or its folder, in any spelling; None if there is none."""
    names = {_plain(name) for name in (row.name, row.folder, *row.other_folders)}
    for file in files:
        ending = next((each for each in ARCHIVES if file.name.lower().endswith(each)), "")
        if ending and _plain(file.name[: -len(ending)]) in names:
            return file
    return None


def named(name: str, row: Row, files: Iterable[HubFile]) -> HubFile | None:
    """The file called `name` that belongs to the dataset: the name or a folder of its path has the dataset's name."""
    known = {_plain(each) for each in (row.name, row.folder, *row.other_folders)}
    found = [file for file in files if file.name == name]
    inside = [file for file in found if known & set(map(_plain, PurePosixPath(file.path).parts[:-1]))]
    own = any(each in _plain(name) for each in known)
    found = inside or (found if own else [])
    return found[0] if len(found) == 1 else None


def shards_of(part: str, paths: Iterable[str]) -> list[str]:
    """The paths of the shards of a part of a webdataset, in their order."""
    numbers = {path: int(match[1]) for path in paths if (match := re.fullmatch(rf"{part}/0*(\d+)\.tar", path))}
    return sorted(numbers, key=numbers.__getitem__)


def _plain(name: str) -> str:
    return re.sub(r"[-_. ]", "", name.lower())
