"""One file from one URL: resumed where it was interrupted, and never under its final name before it is whole.

`<name>.part` holds the bytes that have arrived, `<name>.origin.json` where they came from, so that they are continued
only from the same file on the same server. torchvision's own downloader starts again each time and writes to the final
name; its way to Google Drive is used here.
"""

from __future__ import annotations

import http.client
import importlib.util
import json
import os
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from dassl.utils.tools import atomic_write, hexdigest, not_a_download

BLOCK = 1 << 20
TIMEOUT = 60  # seconds without a byte
PAUSES = (1, 3, 10)  # seconds before each new attempt after a broken connection
AGENT = "softcpt-download/1.0"
# What a connection that cannot be made, or breaks, raises; other OSErrors are the disk's.
_BROKEN = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError)
DRIVE = "https://drive.google.com/file/d/{}/view"  # the page of a file, for people


class Unreachable(Exception):
    """A file that cannot be fetched from there; the text says why."""


class Damaged(Unreachable):
    """A file that arrived, but is not the one that was published; it has been deleted."""


class Busy(Exception):
    """Another process fetches into the same folder."""


@contextmanager
def alone(folder: Path, wait: bool = False) -> Iterator[None]:
    """Keep a second process from fetching into `folder`, where the system and the disk know such locks.

    Raises Busy, or with `wait` says so and waits, while another one does.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not wait:
                raise Busy("another download of it is running") from None
            print(f"waiting for another run, which downloads to {folder}", flush=True)
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError:  # some network disks have no locks
            pass
        yield
    finally:
        os.close(handle)


def fetch(url: str, target: Path, checksum: str = "", room: Callable[[int], None] | None = None) -> None:
    """Fetch `url` to the path `target`, whose folder exists, with a progress bar on a terminal.

    A connection that breaks is taken up again for as long as every attempt brings the file further. A server that
    cannot continue a file (no HTTP Range), or has another one by now, sends it from the start.

    Args:
        url: http or https.
        target: where to; must not exist.
        checksum: "md5:…" or "sha256:…" in hex; "" for none.
        room: called with the number of bytes still to come before they are written; raises if they do not fit.

    `origin_of(target)` stays beside the file and marks it as fetched by this module; the caller removes it.

    Raises:
        Unreachable: no such file or host, no network, a web page in place of the file. What has arrived stays.
        Damaged: it arrived and its checksum is wrong.
        OSError: the disk.
    """
    part, origin = target.with_name(target.name + ".part"), origin_of(target)
    best, pauses = _size(part), list(PAUSES)
    while True:
        try:
            _receive(url, part, origin, room)
            break
        except (*_BROKEN, _Cut) as error:
            if isinstance(error, urllib.error.HTTPError) and error.code < 500 and error.code not in (408, 429):
                raise Unreachable(f"HTTP status {error.code}, {error.reason}") from None
            if _size(part) > best:
                best, pauses = _size(part), list(PAUSES)
            if not pauses or (isinstance(error, urllib.error.URLError) and not best):
                kept = f"; {best:,} bytes have arrived and are kept" if best else ""
                raise Unreachable(f"{_reason(error)}{kept}") from None
            time.sleep(pauses.pop(0))
    try:
        verify(part, checksum)
    except Damaged:
        part.unlink()
        origin.unlink(missing_ok=True)
        raise
    os.replace(part, target)


def origin_of(target: Path) -> Path:
    """The file that says where `target` was fetched from."""
    return target.with_name(target.name + ".origin.json")


def part_size(target: Path) -> int:
    """Bytes of `target` that an interrupted call has fetched."""
    return _size(target.with_name(target.name + ".part"))


def fetch_from_drive(number: str, target: Path, checksum: str = "") -> None:
    """Fetch the file with the id `number` from Google Drive, by way of torchvision and gdown.

    Raises:
        Unreachable: gdown is not installed, or Google does not hand the file out.
        Damaged: it arrived, but is a web page or has the wrong checksum.
    """
    if importlib.util.find_spec("gdown") is None:
        raise Unreachable("Google Drive needs the package gdown: `pip install gdown`")
    from torchvision.datasets.utils import download_file_from_google_drive  # slow to import

    part = target.with_name(target.name + ".part")
    part.unlink(missing_ok=True)  # gdown cannot continue it
    try:
        download_file_from_google_drive(number, str(part.parent), part.name)
    except Exception as error:  # gdown and requests raise classes of their own
        raise Unreachable(f"Google Drive: {str(error).strip() or type(error).__name__}".splitlines()[0]) from None
    try:
        verify(part, checksum)
    except Damaged:
        part.unlink()
        raise
    with atomic_write(origin_of(target)) as file:
        json.dump({"url": DRIVE.format(number), "validator": ""}, file)
    os.replace(part, target)


def verify(path: Path, checksum: str = "") -> None:
    """Raises Damaged for a file that is a web page, a pointer or empty, or whose checksum is not `checksum`."""
    found = not_a_download(path)
    if found:
        raise Damaged(f"{path.name.removesuffix('.part')} is {found}")
    kind, _, expected = checksum.partition(":")
    if not expected:
        return
    digest = hexdigest(path, kind)
    if digest != expected:
        text = f"{path.name.removesuffix('.part')} is damaged: its {kind.upper()} is {digest}, published is {expected}"
        raise Damaged(text)


class _Cut(Exception):
    """The connection was closed before the announced end."""


def _receive(url: str, part: Path, origin: Path, room: Callable[[int], None] | None) -> None:
    """One attempt: append what is missing of `part`, or write it anew where it cannot be continued."""
    have, validator = _size(part), _validator(url, origin)
    if have and validator is None:
        have = 0  # of another server, or of an unknown one
    headers = {"User-Agent": AGENT, "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if validator:
            headers["If-Range"] = validator  # a server that has another file by now sends all of it
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not have:
            raise
        if error.headers.get("Content-Range", "").endswith(f"/{have}"):
            return  # nothing is missing
        part.unlink()
        raise _Cut("the server has a shorter file than the one begun; starting again") from None
    with response:
        if response.headers.get_content_type() == "text/html":
            raise Unreachable("the server sent a web page in place of the file")
        start = _start(response)
        if start not in (0, have):
            part.unlink()
            raise _Cut("the server continued the file at the wrong place; starting again")
        left = response.headers.get("Content-Length", "")
        total = start + int(left) if left.isdigit() else None
        if room and total is not None:
            room(total - start)
        with atomic_write(origin) as file:
            json.dump({"url": url, "validator": _strong(response)}, file)
        bar = tqdm(total=total, initial=start, unit="B", unit_scale=True, desc=part.stem, disable=None, leave=False)
        with open(part, "ab" if start else "wb") as file, bar:
            while block := response.read(BLOCK):
                file.write(block)
                bar.update(len(block))
    if total is not None and _size(part) < total:
        raise _Cut(f"the connection was closed after {_size(part):,} of {total:,} bytes")


def _start(response: http.client.HTTPResponse) -> int:
    """The byte the response begins with."""
    if response.status != 206:
        return 0
    text = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
    return int(text) if text.isdigit() else -1


def _strong(response: http.client.HTTPResponse) -> str:
    """What identifies this very version of the file for If-Range; "" if the server says nothing."""
    etag = response.headers.get("ETag", "")
    return etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified", "")


def _validator(url: str, origin: Path) -> str | None:
    """The validator saved with a part of this URL; None where the part is from elsewhere."""
    try:
        saved = json.loads(origin.read_text(encoding="utf-8"))
        return str(saved["validator"]) if saved["url"] == url else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None) or error
    return str(getattr(reason, "strerror", None) or reason or type(error).__name__)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
