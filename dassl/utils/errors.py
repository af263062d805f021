"""Errors for the user, and how to tell them from errors of the program."""

import errno
import linecache
import os
import re
from difflib import get_close_matches
from itertools import islice

PROJECT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class UserError(ValueError):
    """The user's input is wrong. The text says what was found, what was expected and how to fix it."""


class ConfigError(UserError):
    """All problems of a configuration, in one text."""


class UnknownNameError(UserError, KeyError):
    """A name is not registered. Also a KeyError, because code written for Dassl catches KeyError."""

    __str__ = Exception.__str__  # KeyError would print the text's repr


class NonFiniteLossError(UserError, FloatingPointError):
    """The loss is infinite or NaN. Also a FloatingPointError, because code written for Dassl catches it."""


# Errors of the operating system that users can fix, with what they can do about each.
SPACE = "free some space, or choose a folder on another disk"
RIGHTS = "check the permissions, or choose another folder"
SYSTEM_ERRORS = {
    errno.ENOSPC: SPACE,
    errno.EDQUOT: SPACE,
    errno.EFBIG: "the disk or a limit (ulimit -f) allows no file of this size",
    errno.EROFS: "this disk can only be read; choose a folder on another disk",
    errno.EIO: "the disk reports a failure; check it, or choose a folder on another disk",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ELOOP: "remove the symbolic link that leads back to itself",
    errno.EMFILE: "raise the limit of open files (ulimit -n), or use fewer DATALOADER.NUM_WORKERS",
    errno.ENFILE: "the machine has too many open files; end other programs",
    errno.ENOMEM: "memory is full; end other programs",
    errno.EACCES: RIGHTS,
    errno.EPERM: RIGHTS,
    errno.ENOENT: "",
    errno.ENOTDIR: "a part of the path is a file; move it away, or choose another path",
    errno.EISDIR: "expected a file; move the folder away, or choose another path",
    errno.EEXIST: "move it away, or choose another path",
    errno.ENOTEMPTY: "move what is in it away, or choose another path",
    errno.EBUSY: "another program uses it",
    errno.ETXTBSY: "another program uses it",
    errno.ENXIO: "expected a plain file",
    errno.ENODEV: "expected a plain file",
    errno.EXDEV: "choose a folder on the same disk",
    errno.EOPNOTSUPP: "this disk does not support it; choose a folder on another disk",
    errno.ESTALE: "the network disk has changed; try again",
    errno.ETIMEDOUT: "the network disk or the server does not answer; try again",
}
# torch.save replaces the system's error by a RuntimeError of its own.
TORCH_WRITE = re.compile(r"enforce fail at inline_container|PytorchStreamWriter failed|unexpected pos \d+ vs \d+")
# PyTorch's errors are RuntimeErrors, on a CPU and on a GPU.
TORCH_MEMORY = re.compile(r"enforce fail at alloc_cpu|not enough memory|out of memory")
NUL = re.compile(r"embedded null (byte|character)|source code string cannot contain null")


def _of_system(error):
    return isinstance(error, OSError) and error.errno in SYSTEM_ERRORS and not isinstance(error, BrokenPipeError)


def _of_memory(error):
    torch_says = isinstance(error, RuntimeError) and TORCH_MEMORY.search(str(error))
    return isinstance(error, MemoryError) or bool(torch_says)


def is_user_error(error):
    """Whether an exception is a message for the user (shown without a traceback) or a bug (shown with one).

    User errors are UserError, the errors of the system that a user can fix (SYSTEM_ERRORS, e.g. a full disk),
    FileNotFoundError, PermissionError, NotADirectoryError, IsADirectoryError, torch's error for a file that it could
    not write, and a lack of memory. A plain ValueError is a user error if a `raise` statement of this project raised
    it. ValueErrors from libraries and from expressions such as int("x") are bugs.
    """
    if isinstance(error, (UserError, FileNotFoundError, PermissionError, NotADirectoryError, IsADirectoryError)):
        return True
    if _of_system(error) or _of_memory(error) or (isinstance(error, RuntimeError) and TORCH_WRITE.search(str(error))):
        return True
    if not isinstance(error, ValueError) or error.__traceback__ is None:
        return False
    if NUL.search(str(error)):  # Python's own error for a path that no system accepts
        return True
    trace = error.__traceback__
    while trace.tb_next is not None:
        trace = trace.tb_next
    file = os.path.abspath(trace.tb_frame.f_code.co_filename)
    inside = file.startswith(PROJECT + os.sep) and "site-packages" not in file
    return inside and linecache.getline(file, trace.tb_lineno).strip().startswith("raise ")


def describe(error):
    """The text of an error for its user: for errors of the system the path, what happened, and what to do."""
    if _of_system(error) and error.strerror:
        paths = (name for name in (error.filename, error.filename2) if isinstance(name, (str, bytes, os.PathLike)))
        found = ": ".join([" -> ".join(map(os.fsdecode, paths)), error.strerror]).removeprefix(": ")
        return "; ".join(filter(None, (found, SYSTEM_ERRORS[error.errno])))
    if isinstance(error, RuntimeError) and TORCH_WRITE.search(str(error)):
        return f"a file could not be written: the disk is full, or a limit is reached; {SPACE}"
    if _of_memory(error):
        return (
            "not enough memory; end other programs, or choose a smaller batch (DATALOADER.TRAIN_X.BATCH_SIZE, "
            f"DATALOADER.TEST.BATCH_SIZE) or backbone: {next(iter(str(error).splitlines()), '') or 'MemoryError'}"
        )
    if isinstance(error, ValueError) and NUL.search(str(error)):
        return "a path contains the character NUL, which no system accepts; remove it"
    return str(error) or type(error).__name__


def nearest(word, words):
    """Return the most similar of `words`, or None. Case is ignored.

    An abbreviation of `word` ("lin" for "linear") is preferred to a word of moderate similarity ("linmean").
    """
    lower = {str(candidate).lower(): candidate for candidate in words}
    word = str(word).lower()
    short = sorted((candidate for candidate in lower if len(candidate) > 2 and word.startswith(candidate)), key=len)
    found = get_close_matches(word, lower, n=1, cutoff=0.8) or short[-1:] or get_close_matches(word, lower, n=1)
    return lower[found[0]] if found else None


def did_you_mean(word, words):
    """The end of a message about an unknown word: the most similar of `words`; "" if none is similar."""
    near = nearest(word, words)
    return "" if near is None else f"; did you mean {near}?"


def near_path(path):
    """The end of a message about a missing file or folder; "" if nothing can be said.

    It names a similar file or folder beside the missing one (at most 2,000 names are compared), or says that the path
    is a folder or a device.
    """
    path = os.path.abspath(os.path.expanduser(path))
    if os.path.lexists(path):
        return f"; it is a {'folder' if os.path.isdir(path) else 'pipe, a device or a link to nothing'}"
    while not os.path.isdir(folder := os.path.dirname(path)):
        path = folder
    try:
        with os.scandir(folder) as entries:
            known = [entry.name for entry in islice(entries, 2000) if entry.name[0] != "."]
    except OSError:
        return ""
    near = nearest(os.path.basename(path), known)
    return f"; did you mean {os.path.join(folder, near)}?" if near else ""


def counted(number, what):
    """A number with its noun, for messages: "1 image", "2,000 images", "2 classes"."""
    return f"{number:,} {what}" + ("" if number == 1 else "es" if what.endswith("s") else "s")
