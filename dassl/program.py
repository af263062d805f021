"""What all programs share: exit codes, signals, closed pipes, and texts that a console cannot show.

A program decorates its main() with `entry`. Programs and packages whose imports are slow call `begin` before them.
Imports no PyTorch, because it is the first import of every program.

Exit codes: 0: done, 1: an internal error (with a traceback), 2: a user error (one message), 128 + the number of the
signal that ended the program: 130 for SIGINT (Ctrl-C), 143 for SIGTERM, 129 for SIGHUP, 141 for a closed pipe.

A signal ends the program at the next safe moment: at once, after the batch within `orderly`, or after the file that is
written within `uninterrupted`. A second signal does not wait for the batch.
"""

import codecs
import contextlib
import errno
import functools
import json
import os
import select
import signal
import sys
import threading
import time

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
LAUNCHED = "SOFTCPT_LAUNCHED"  # environment: processes whose end ends this program, e.g. "123 456"


SAME = 0.3  # seconds; signals this close are one, sent to a group of processes and passed on by a script


class Interrupted(KeyboardInterrupt):
    """A signal has asked the program to end."""


class _State:
    whole = False  # the process belongs to a program, which began with `begin`
    owner = None  # process whose signals are handled; None: Python's own handling
    starting = False  # nothing has begun that must be finished or removed
    asked = 0  # first signal that asked the program to end
    when = 0.0  # its time
    urgent = False  # a signal that waits for the end of `uninterrupted` only
    orderly = uninterrupted = 0  # depth of the blocks


_state = _State()


def _handle(number, _frame):
    if os.getpid() != _state.owner:  # a forked worker of a loader; its owner ends it after Ctrl-C
        if number != signal.SIGINT:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        return
    again = bool(_state.asked) and time.monotonic() - _state.when > SAME
    if not _state.asked:
        _state.asked, _state.when = number, time.monotonic()
    elif not again:
        return
    if _state.starting:
        with contextlib.suppress(OSError):
            os.write(2, b"interrupted\n")
        os._exit(128 + number)
    if again or not _state.orderly:
        if not _state.uninterrupted:
            raise Interrupted
        _state.urgent = True


def asked():
    """Whether a signal has asked the program to end."""
    return bool(_state.asked)


def check():
    """Raise `Interrupted` if a signal has asked the program to end. Called between batches."""
    if _state.asked:
        raise Interrupted


def checked(iterable):
    """The items of an iterable, with `check` after each of them."""
    for item in iterable:
        yield item
        check()


@contextlib.contextmanager
def orderly():
    """Within the block, a first signal waits for `check`, or for the end of the block."""
    _state.orderly += 1
    try:
        yield
    finally:
        _state.orderly -= 1
    if not _state.orderly:
        check()


@contextlib.contextmanager
def uninterrupted():
    """Within the block, which must be short, all signals wait for its end."""
    _state.uninterrupted += 1
    try:
        yield
    finally:
        _state.uninterrupted -= 1
    if _state.urgent and not _state.uninterrupted:
        _state.urgent = False
        raise Interrupted


@contextlib.contextmanager
def starting():
    """Within the block, a signal ends the process at once. For slow imports, before anything must be finished."""
    _state.starting = _state.owner == os.getpid() and threading.current_thread() is threading.main_thread()
    try:
        yield
    finally:
        _state.starting = False


def begin():
    """Prepare the process of a program: signals, standard streams that are closed, and the end of who started it."""
    if _state.owner is None:
        _take_signals()
    _state.whole = _state.starting = True
    for number in (0, 1, 2):  # a file that is opened later must not become standard output
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    if launched := os.environ.pop(LAUNCHED, ""):
        _watch([int(word) for word in launched.split()])


def runs(package):
    """Whether Python was started with `-m` and a module of `package`, which is being imported."""
    return sys.argv[:1] == ["-m"] and f" -m {package}." in " ".join(sys.orig_argv)


def _watch(processes):
    """End this process as by SIGTERM once one of the scripts that started it is gone, e.g. by kill -9."""

    def wait():
        with contextlib.suppress(ProcessLookupError):
            while True:
                for process in processes:
                    os.kill(process, 0)  # does nothing to a process that exists
                    if _ended(process):
                        raise ProcessLookupError
                time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


def _ended(process):
    """Whether a process has ended and its status is not read yet. On Linux; elsewhere False."""
    with contextlib.suppress(OSError), open(f"/proc/{process}/stat", "rb") as stream:
        return stream.read().rpartition(b")")[2].split()[0] == b"Z"
    return False


def _take_signals():
    """Handle the signals that nobody has asked to ignore. Returns {signal: handler before}."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    _state.owner, _state.asked, _state.urgent = os.getpid(), 0, False
    found = {number: signal.getsignal(number) for number in SIGNALS}
    before = {number: handler for number, handler in found.items() if handler != signal.SIG_IGN}  # ignored as by nohup
    for number in before:
        signal.signal(number, _handle)
    return before


def entry(main=None, *, resume=""):
    """Decorate main() of a program, so that it returns an exit code in all cases but an internal error.

    Args:
        resume: what the user can do after an interruption, e.g. "the same command continues from here".
    """
    if main is None:
        return functools.partial(entry, resume=resume)
    if main.__module__ == "__main__":
        begin()

    @functools.wraps(main)
    def program(*args, **kwargs):
        before = {} if _state.owner == os.getpid() else _take_signals()
        _state.starting = False
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors=ESCAPE)
        try:
            return _status(lambda: main(*args, **kwargs), resume)
        finally:
            if _state.whole:
                _leave_python()
            elif before:
                for number, handler in before.items():
                    signal.signal(number, handler)
                _state.owner = None

    return program


def explained(error):
    """The error with what is known about its causes. `datasets` replaces this function, because it knows more."""
    return error


def _leave_python():
    """Let nothing but the end of Python follow, which an interruption or an unwritable stream would make noisy."""
    for number in SIGNALS:
        if signal.getsignal(number) is _handle:
            signal.signal(number, signal.SIG_IGN if number == signal.SIGINT else signal.SIG_DFL)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            discard(stream)


def _status(work, resume):
    try:
        try:
            status = work() or 0
            sys.stdout.flush()
            return status
        except Exception:
            check()  # an error after a signal is a consequence of it, e.g. of workers that are gone
            raise
    except KeyboardInterrupt:
        _print_error("interrupted" + (f"; {resume}" if resume else ""))
        return 128 + (_state.asked or signal.SIGINT)
    except Exception as error:
        from dassl.utils.errors import describe, is_user_error

        unread = [stream for stream in (sys.stdout, sys.stderr) if drop_if_unread(stream)]
        if unread and isinstance(error, OSError) and error.errno in (errno.EPIPE, errno.EIO):
            return 128 + signal.SIGPIPE
        if not is_user_error(error):
            raise
        _print_error(f"error: {describe(explained(error))}")
        return 2


def _print_error(text):
    with contextlib.suppress(OSError):  # nobody reads it
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        print(text, file=sys.stderr, flush=True)


def drop_if_unread(stream):
    """Whether the reader of a stream, e.g. `head`, is gone. If so, the stream is discarded."""
    with contextlib.suppress(AttributeError, OSError, ValueError):  # a replaced or closed stream
        poll = select.poll()
        poll.register(stream.fileno(), 0)
        if any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0)):
            discard(stream)
            return True
    return False


def discard(stream):
    """Let what is written to a stream, and what waits in its buffer, go nowhere."""
    with contextlib.suppress(AttributeError, OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


def ignore_interrupts(_worker=0):
    """Ignore Ctrl-C in a worker process of a loader, which its owner ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _escaped(error):
    text = error.object[error.start : error.end]
    return json.dumps(text.replace("±", "+-"))[1:-1], error.end


ESCAPE = "softcpt_escape"  # how to print what a console cannot show: as \uXXXX, which is valid in JSON, too
codecs.register_error(ESCAPE, _escaped)
