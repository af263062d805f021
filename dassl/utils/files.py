"""Folders, JSON, and files that are either whole or absent."""

import hashlib
import json
import os
import tempfile
import warnings
from contextlib import contextmanager


@contextmanager
def atomic_write(path, mode="w"):
    """Open a temporary file beside `path`; it takes the name `path` only once it is completely on disk.

    A process killed at any moment leaves the old file or the new one, never a part. On an exception nothing changes.
    """
    path = os.fspath(path)
    folder, name = os.path.split(os.path.abspath(path))
    handle, temporary = tempfile.mkstemp(prefix=f".{name}.", suffix=".tmp", dir=folder)
    try:
        with os.fdopen(handle, mode, encoding=None if "b" in mode else "utf-8") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp makes private files; these are ordinary ones
        os.replace(temporary, path)
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def mkdir_if_missing(dirname):
    """Create a folder with its parents, unless it exists."""
    os.makedirs(dirname, exist_ok=True)


def listdir_nohidden(path, sort=False):
    """Names in a folder that do not begin with a dot."""
    names = [name for name in os.listdir(path) if not name.startswith(".")]
    return sorted(names) if sort else names


def check_isfile(fpath):
    """Whether `fpath` is a file; warns if not."""
    found = os.path.isfile(fpath)
    if not found:
        warnings.warn(f'no file at "{fpath}"', stacklevel=2)
    return found


def read_json(fpath):
    """Content of a JSON file."""
    with open(fpath, encoding="utf-8") as stream:
        return json.load(stream)


def write_json(obj, fpath):
    """Write a JSON file (indented, atomic), creating its folder."""
    mkdir_if_missing(os.path.dirname(os.path.abspath(fpath)))
    with atomic_write(fpath) as stream:
        json.dump(obj, stream, indent=2, ensure_ascii=False)
        stream.write("\n")


def hexdigest(path, kind="sha256"):
    """Checksum of a file as a hex string; `kind` is "md5" or "sha256"."""
    digest = hashlib.new(kind, usedforsecurity=False)
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def not_a_download(path):
    """What was saved in place of the wanted file: "a web page, not the file", a Git LFS pointer or "an empty file".

    Returns "" for every other file.
    """
    with open(path, "rb") as stream:
        head = stream.read(512).lstrip()
    if not head:
        return "an empty file"
    if head[:15].lower().startswith((b"<!doctype html", b"<html", b"<head")):
        return "a web page, not the file"
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the file"
    return ""
