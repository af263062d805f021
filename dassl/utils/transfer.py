"""Download one file from one URL. An interrupted download is resumed.

`<name>.part` holds the bytes that have arrived. `<name>.origin.json` holds their URL and the server's version of the
file, so that a part is only continued with the same file. The final name appears once the file is complete.
"""

from __future__ import annotations

import http.client
import json
import os
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from dassl.utils.disk import BLOCK, SPARE, free_space, size, write_sparing
from dassl.utils.tools import atomic_write, hexdigest, not_a_download

TIMEOUT = 60  # seconds without a byte
PAUSES = (1, 3, 10)  # seconds before each new attempt after a broken connection
AGENT = "softcpt-download/1.0"
# Raised by a connection that breaks or cannot be made; other OSErrors come from the disk.
_BROKEN = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError)
DRIVE = "https://drive.google.com/file/d/{}/view"  # the page of a file, for people


class Unreachable(Exception):
    """A file that cannot be downloaded from this place; the text says why."""


class Damaged(Unreachable):
    """A file that arrived but is not the published one; it has been deleted."""


def fetch(url: str, target: Path, checksum: str = "") -> None:
    """Download `url` to the path `target`, with a progress bar on a terminal.

    A broken connection is resumed as long as every attempt gets further than the best one before. A server that cannot
    continue a file (no HTTP Range), or that has another version by now, sends the whole file again.

    Args:
        url: http or https.
        target: the destination, in an existing folder; must not exist.
        checksum: "md5:…" or "sha256:…" in hex; "" for none.

    `origin_of(target)` stays beside the file and marks it as downloaded by this module; the caller removes it.

    Raises:
        Unreachable: no such file or host, no network, or a web page in place of the file. Arrived bytes are kept.
        Damaged: the file arrived and its checksum is wrong.
        OSError: the disk; also if less than `disk.SPARE` bytes of it would stay free. Arrived bytes are kept.
    """
    part = _part_of(target)
    best, pauses = _size(part), list(PAUSES)
    while True:
        try:
            _receive(url, target)
            break
        except _BROKEN as error:
            reason = getattr(error, "reason", None) or error
            text = (getattr(reason, "strerror", None) or str(reason).strip() or type(error).__name__).splitlines()[0]
            if isinstance(error, urllib.error.HTTPError) and error.code < 500 and error.code not in (408, 429):
                raise Unreachable(f"HTTP status {error.code}, {text}") from None
            if _size(part) > best:
                best, pauses = _size(part), list(PAUSES)
            if not pauses or (isinstance(error, urllib.error.URLError) and not best):
                kept = f"; {_size(part):,} bytes have arrived and are kept" if _size(part) else ""
                raise Unreachable(f"{text}{kept}") from None
            time.sleep(pauses.pop(0))
    _finish(part, target, checksum)


def origin_of(target: Path) -> Path:
    """The file that records where `target` was downloaded from."""
    return target.with_name(target.name + ".origin.json")


def part_size(target: Path) -> int:
    """Bytes of `target` that an interrupted call has downloaded."""
    return _size(_part_of(target))


def was_fetched(target: Path) -> bool:
    """Whether `fetch` made `target`: the file has an origin, and no part whose origin it is."""
    return origin_of(target).exists() and not _part_of(target).exists()


def forget(target: Path) -> None:
    """Remove the part and the origin of `target`."""
    _part_of(target).unlink(missing_ok=True)
    origin_of(target).unlink(missing_ok=True)


def fetch_from_drive(number: str, target: Path, checksum: str = "") -> None:
    """Download the file with the id `number` from Google Drive, with the package gdown.

    Raises:
        Unreachable: gdown is not installed, or Google refuses the file.
        Damaged: the file arrived, but is a web page or has the wrong checksum.
    """
    try:
        import gdown
    except ImportError:
        raise Unreachable("Google Drive needs the package gdown: `pip install gdown`") from None
    part = _part_of(target)
    forget(target)  # gdown cannot continue a part
    try:
        gdown.download(id=number, output=str(part))
    except Exception as error:  # gdown and requests raise classes of their own
        raise Unreachable(f"Google Drive: {str(error).strip() or type(error).__name__}".splitlines()[0]) from None
    if not part.exists():
        raise Unreachable("Google Drive: gdown could not download the file")
    _record(origin_of(target), DRIVE.format(number), "")
    _finish(part, target, checksum)


def verify(path: Path, checksum: str = "") -> None:
    """Raise Damaged for a web page, a Git LFS pointer, an empty file, or a file whose checksum is not `checksum`."""
    name = path.name.removesuffix(".part")
    if found := not_a_download(path):
        raise Damaged(f"{name} is {found}")
    kind, _, expected = checksum.partition(":")
    if expected and (digest := hexdigest(path, kind)) != expected:
        raise Damaged(f"{name} is damaged: its {kind.upper()} is {digest}, expected {expected}")


def _finish(part: Path, target: Path, checksum: str) -> None:
    """Give a complete part its name. Raises Damaged, and removes the part, if it is not the published file."""
    try:
        verify(part, checksum)
    except Damaged:
        forget(target)
        raise
    os.replace(part, target)


def _receive(url: str, target: Path) -> None:
    """Make one attempt: append the missing bytes to the part, or write it from the start if it cannot be continued."""
    part, origin = _part_of(target), origin_of(target)
    validator = _validator(url, origin)
    have = 0 if validator is None else _size(part)
    headers = {"User-Agent": AGENT, "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if validator:
            headers["If-Range"] = validator  # a server that has another version by now sends all of it
    try:
        response = urllib.request.urlopen(urllib.request.Request(_ascii(url), headers=headers), timeout=TIMEOUT)
    except (ValueError, http.client.InvalidURL) as error:
        raise Unreachable(f"this is not a URL ({error})") from None
    except urllib.error.HTTPError as error:
        if error.code != 416 or not have:
            raise
        if error.headers.get("Content-Range", "").endswith(f"/{have}"):
            return  # nothing is missing
        forget(target)
        raise ConnectionError("the server has a shorter file than the one begun") from None
    with response:
        if response.headers.get_content_type() == "text/html":
            raise Unreachable("the server sent a web page in place of the file")
        start = have if response.status == 206 else 0
        if start and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            forget(target)
            raise ConnectionError("the server continued the file at the wrong place")
        left = response.headers.get("Content-Length", "")
        total = start + int(left) if left.isdecimal() else None
        if total is not None and total - start + SPARE > free_space(part):
            raise Unreachable(f"the server sends {size(total - start)}, but {size(free_space(part))} are free")
        # A strong ETag, or else the date, identifies this version of the file for If-Range.
        etag = response.headers.get("ETag", "")
        version = etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified", "")
        _record(origin, url, version)
        bar = tqdm(total=total, initial=start, unit="B", unit_scale=True, desc=part.stem, disable=None, leave=False)
        with open(part, "ab" if start else "wb") as file, bar:
            write_sparing(file, _arriving(response, bar))
    if total is not None and _size(part) < total:
        raise ConnectionError(f"the connection was closed after {_size(part):,} of {total:,} bytes")


def _arriving(response: http.client.HTTPResponse, bar: tqdm) -> Iterator[bytes]:
    """The blocks of an answer, as they arrive."""
    while True:
        try:
            block = response.read(BLOCK)
        except _BROKEN:
            raise
        except OSError as error:  # such as "no route to host"; without this it would be taken for an error of the disk
            raise ConnectionError(str(error)) from None
        if not block:
            return
        bar.update(len(block))
        yield block


def _ascii(url: str) -> str:
    """The URL with everything quoted that HTTP does not carry: blanks and letters of other alphabets."""
    return urllib.parse.quote(url, safe="%/:=&?~#+!$,;'@()*[]")


def _part_of(target: Path) -> Path:
    return target.with_name(target.name + ".part")


def _record(origin: Path, url: str, validator: str) -> None:
    with atomic_write(origin) as file:
        json.dump({"url": url, "validator": validator}, file)


def _validator(url: str, origin: Path) -> str | None:
    """The version recorded for a part of this URL; None if the part came from another place."""
    try:
        saved = json.loads(origin.read_text(encoding="utf-8"))
        return str(saved["validator"]) if saved["url"] == url else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
