"""Runs on this machine: forked from one process that has imported everything, or started anew where there is a GPU."""

from __future__ import annotations

import multiprocessing
import os
import re
import runpy
import sys
import tempfile
from multiprocessing import connection, forkserver
from pathlib import Path

from dassl import program
from dassl.utils.errors import UserError

from .calls import REPOSITORY
from .work import LINES, Job


def processors() -> int:
    """The number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_jobs() -> int:
    """Runs at a time: one more than processors, at most 4; 1 with a single processor."""
    count = processors()
    return 1 if count == 1 else min(count + 1, 4)


def read_jobs(text: str) -> int:
    """The number of runs at a time in JOBS or --jobs. Raises UserError."""
    if not text:
        return default_jobs()
    if not re.fullmatch("0*[1-9][0-9]*", text):
        raise UserError(f'JOBS has to be a number of runs, at least 1; found "{text}"')
    return int(text)


def has_gpu() -> bool:
    return os.path.exists("/dev/nvidiactl") or os.path.exists("/dev/kfd")


def share_processors(jobs: int) -> list[str]:
    """Divide the processors among `jobs` runs, in the environment. Returns KEY VALUE words for all runs."""
    if jobs == 1:
        return []
    # with more threads than processors, threads wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", str(-(-processors() // jobs)))
    # if runs use all processors, worker processes only take time from them
    return ["DATALOADER.NUM_WORKERS", "0"] if os.environ["OMP_NUM_THREADS"] == "1" else []


class Local:
    """Runs side by side on this machine.

    Args:
        slots: runs at a time. With 1, the output of runs is shown.
        gpus: numbers of the GPUs to use, each for `slots` / len(gpus) runs; () leaves the choice to the runs.
        forked: fork runs from a process with all imports, which takes seconds less per run. Default: unless there is a
            GPU, where it is impossible. PRELOAD in the environment decides otherwise.
    """

    def __init__(self, slots: int, gpus: tuple[int, ...] = (), forked: bool | None = None):
        self.slots = slots
        wanted = os.environ.get("PRELOAD") or str(sys.platform == "linux" and not has_gpu())
        forked = (wanted == "True" and not gpus) if forked is None else forked
        forked = forked and len(os.fsencode(tempfile.gettempdir())) < 64  # the path of a socket has about 100 bytes
        self.context = multiprocessing.get_context("forkserver" if forked else "spawn")
        self.running: dict[int, tuple[Job, multiprocessing.Process, Path | None]] = {}  # by sentinel
        self.folder = tempfile.TemporaryDirectory(prefix="softcpt.")
        self.free = [gpus[slot % len(gpus)] for slot in range(slots)] if gpus else []
        self.gpu: dict[int, int] = {}  # by number of the job

    def start(self, job: Job, words: list[str]) -> None:
        log = None if self.slots == 1 else Path(self.folder.name) / f"{job.number}.log"
        parents = " ".join(filter(None, (os.environ.get(program.LAUNCHED), str(os.getpid()))))
        environment = {**os.environ, program.LAUNCHED: parents}
        if self.free:
            self.gpu[job.number] = self.free.pop(0)
            environment["CUDA_VISIBLE_DEVICES"] = str(self.gpu[job.number])
        if self.context.get_start_method() == "forkserver":
            _begin_server()
        process = self.context.Process(target=_run, args=(words, log, environment, os.getcwd()))
        process.start()
        self.running[process.sentinel] = job, process, log

    def ended(self) -> list[Job]:
        found = []
        for sentinel in connection.wait(list(self.running), timeout=0.5):
            job, process, log = self.running.pop(sentinel)
            process.join()
            job.status = process.exitcode if process.exitcode >= 0 else 128 - process.exitcode
            job.lines = tail(log)
            if job.number in self.gpu:
                self.free.append(self.gpu.pop(job.number))
            found.append(job)
        return found

    def stop(self) -> None:
        processes = [process for _, process, _ in self.running.values()]
        for _ in range(2):  # a second time if this program is interrupted again
            for process in processes:
                process.terminate()
            try:
                for process in processes:
                    process.join()
                break
            except KeyboardInterrupt:
                continue


def _begin_server() -> None:
    """Start the process that runs are forked from, unless it runs. It looks for packages in its current folder."""
    folder = os.getcwd()
    os.chdir(REPOSITORY)
    try:
        forkserver.set_forkserver_preload(["sweeps.preload"])
        forkserver.ensure_running()
    finally:
        os.chdir(folder)


def tail(log: Path | None) -> list[str]:
    """The last lines of a log."""
    if log is None or not log.exists():
        return []
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - 16_000))
        return stream.read().decode("utf-8", errors="replace").splitlines()[-LINES:]


def _run(words: list[str], log: Path | None, environment: dict[str, str], folder: str) -> None:
    """What the process of a run does: it becomes `python train.py WORDS`."""
    if hasattr(os, "setsid"):
        os.setsid()  # signals of the terminal come to the sweep, which passes them on
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    if log is not None:
        target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(target, 1)
        os.dup2(target, 2)
    train = str(REPOSITORY / "train.py")
    sys.argv, sys.path[0] = [train, *words], str(REPOSITORY)
    runpy.run_path(train, run_name="__main__")
