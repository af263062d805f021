"""A lock between processes."""

from contextlib import contextmanager

from filelock import FileLock, Timeout


@contextmanager
def locked(path, waiting=""):
    """Hold the lock file `path`, which stays on the disk. On a disk without locks, continue without one.

    Args:
        path: the lock file; its folder exists.
        waiting: printed before waiting for another process that holds the lock.

    Raises:
        filelock.Timeout: another process holds the lock, and `waiting` is empty.
    """
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if not waiting:
            raise
        print(waiting, flush=True)
        lock.acquire()
    except (OSError, NotImplementedError):
        pass
    try:
        yield
    finally:
        lock.release()
