"""The log of a run: printed text also goes to a file."""

import os
import sys
import time

from tqdm import tqdm

from dassl.program import ESCAPE, discard
from dassl.utils.tools import without_home


class Logger:
    """A replacement of sys.stdout that writes to the console and to a log file (line-buffered).

    If the console cannot be written any more, e.g. because `head` has read enough or the terminal is closed, the log
    goes on without it. Progress bars are moved out of the way of printed lines.
    The file has ~ for the user's home folder, because logs are shared.

    Args:
        fpath: log file, or None to write to the console only.
        append: append to an existing file instead of replacing it.
        console: stream of the console; default: the current sys.stdout.
    """

    def __init__(self, fpath=None, append=False, console=None):
        self.console = console or sys.stdout
        self.line = ""  # the beginning of a line that waits for its end
        self.file = None
        if fpath is not None:
            os.makedirs(os.path.dirname(os.path.abspath(fpath)), exist_ok=True)
            mode = "a" if append else "w"
            self.file = open(fpath, mode, encoding="utf-8", errors=ESCAPE, buffering=1)  # noqa: SIM115

    def write(self, text):
        self.write_file(text)
        bars = bool(getattr(tqdm, "_instances", ()))
        text = self.line + text
        end = text.rfind("\n") + 1 if bars else len(text)
        self.line = text[end:]
        try:
            if bars and end:
                with tqdm.external_write_mode():
                    self._show(text[:end])
            else:
                self._show(text[:end])
        except OSError:
            discard(self.console)
        return len(text)

    def _show(self, text):
        try:
            self.console.write(text)
        except UnicodeEncodeError:  # a console without an error handler
            self.console.write(text.encode("ascii", ESCAPE).decode())

    def write_file(self, text):
        if self.file is not None:
            self.file.write(without_home(text))

    def flush(self):
        try:
            self.console.flush()
        except OSError:
            discard(self.console)
        if self.file is not None:
            self.file.flush()

    def __getattr__(self, name):
        """Everything else, such as `isatty` and `encoding`, is that of the console."""
        return getattr(self.console, name)

    def close(self):
        """Close the file; the console stays open."""
        if self.line:
            self._show(self.line)
            self.line = ""
        self.flush()
        if self.file is not None:
            self.file.close()
            self.file = None

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()


def setup_logger(output=None, append=False):
    """Write everything printed to a log file as well.

    Args:
        output: folder of log.txt, or a path ending in .txt or .log; None does nothing.
        append: append to an existing log. Otherwise an existing log is kept, and the new log's name ends in the time.
    """
    if output is None:
        return
    path = output if output.endswith((".txt", ".log")) else os.path.join(output, "log.txt")
    if os.path.exists(path) and not append:
        path += time.strftime("-%Y-%m-%d-%H-%M-%S")
    close_logger()
    sys.stdout = Logger(path, append=append)


def close_logger():
    """Undo `setup_logger`."""
    if isinstance(sys.stdout, Logger):
        logger, sys.stdout = sys.stdout, sys.stdout.console
        logger.close()


def log_only(line):
    """Write a line to the log file only (a terminal shows a progress bar instead)."""
    if isinstance(sys.stdout, Logger):
        sys.stdout.write_file(line + "\n")
