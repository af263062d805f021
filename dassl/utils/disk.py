"""Write large files without filling the disk."""

import errno
import os
import shutil

BLOCK = 1 << 20
SPARE = 100 * 10**6  # bytes that always stay free


def free_space(path):
    """Bytes free on the disk that holds, or would hold, `path`."""
    path = os.path.abspath(path)
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return shutil.disk_usage(path).free


def size(count):
    """Bytes in MB or GB, as a text."""
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{max(count, 0) / 1e6:,.0f} MB"


def write_sparing(file, blocks):
    """Write blocks of bytes to a file that is open for writing, as long as `SPARE` bytes of its disk stay free.

    Raises:
        OSError: the disk is full (ENOSPC), or what `open` and `write` raise.
    """
    for block in blocks:
        if free_space(file.name) < SPARE + len(block):
            raise OSError(errno.ENOSPC, f"the disk is full ({size(SPARE)} of it stay free)", os.fspath(file.name))
        file.write(block)


def blocks_of(stream):
    """The content of a stream in blocks of at most 1 MiB."""
    return iter(lambda: stream.read(BLOCK), b"")


def copy_sparing(source, target):
    """Copy the content of a file, as long as `SPARE` bytes of the disk stay free."""
    with open(source, "rb") as content, open(target, "wb") as file:
        write_sparing(file, blocks_of(content))
