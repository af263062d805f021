"""The work of a sweep: which runs are made, in which order, and what is said about them.

Finished runs are skipped, interrupted ones resume. An engine (`local`, `ray`, `slurm`) makes the others.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Protocol

from dassl import program
from dassl.runs.folder import going_on
from dassl.runs.record import entries, error_of, is_complete, known_results
from dassl.utils import counted
from dassl.utils.errors import UserError

from .calls import COMPLETE, NONE, Call, OtherSettings

WAITING, RUNNING, DONE, SKIPPED, REFUSED, FAILED, ELSEWHERE, LEFT = (
    "waiting", "running", "finished", "skipped", "refused", "failed", "elsewhere", "not made",
)  # fmt: skip
GOING_ON = "another run is going on in this folder"  # in the message of train.py, whose other run may have ended since
LINES = 15  # last lines of a log that are shown after a failure


@dataclass
class Job:
    """A call with what became of it.

    Attributes:
        name: "[number/total] label".
        state: one of the states above.
        status: exit status of train.py, once it has ended.
        lines: last lines of its output, if the engine has them.
    """

    call: Call
    number: int
    total: int
    state: str = WAITING
    status: int | None = None
    began: float = 0.0
    seconds: float = 0.0
    lines: list[str] = field(default_factory=list)
    why: str = ""

    @property
    def name(self) -> str:
        return f"[{self.number}/{self.total}] {self.call.label}"

    @property
    def accuracy(self) -> str:
        """ ", 67.12 %", or "" without a result."""
        value = entries(known_results(self.call.folder), "mean").get("value")
        return "" if value is None else f", {value:.2f} %"


class Engine(Protocol):
    """Makes runs. `slots`: how many may be begun before one has ended."""

    slots: int

    def start(self, job: Job, words: list[str]) -> None:
        """Begin `train.py WORDS`."""

    def ended(self) -> list[Job]:
        """Wait a moment, then return the jobs that have ended, with `status` and `lines` set."""

    def stop(self) -> None:
        """End all runs that are going on, so that they can be resumed, and wait for their end."""


class Display:
    """What is printed while runs are made; this one prints nothing."""

    def begins(self, jobs: Sequence[Job]) -> None: ...
    def starts(self, job: Job, resumes: bool) -> None: ...
    def settled(self, job: Job, jobs: Sequence[Job]) -> None: ...
    def ends(self) -> None: ...


def work(
    calls: Sequence[Call],
    engine: Engine,
    display: Display,
    overwrite: bool = False,
    more: Sequence[str] = (),
    go_on: bool = True,
) -> list[Job]:
    """Make the runs of `calls` that are not finished. Returns one job per call.

    After a failure the others are made, unless no run has succeeded and the failure is a user error, which the others
    probably share. Without `go_on`, nothing is made after a failure or a refusal. A run that tests a model waits for
    it. A run that somebody else is making is waited for at the end.

    Args:
        more: KEY VALUE words for all calls, before their own.

    Raises:
        KeyboardInterrupt: after the runs that were going on have ended.
    """
    jobs = [Job(call, number, len(calls)) for number, call in enumerate(calls, 1)]
    display.begins(jobs)
    running: list[Job] = []
    try:
        while True:
            program.check()
            ready = [] if _hopeless(jobs, go_on) else _ready(jobs)
            while ready and len(running) < engine.slots:
                job = ready.pop(0)
                if _begin(job, engine, display, overwrite, more):
                    running.append(job)
                else:
                    display.settled(job, jobs)
                    ready = [] if _hopeless(jobs, go_on) else _ready(jobs)
            if running:
                for job in engine.ended():
                    running.remove(job)
                    _end(job)
                    display.settled(job, jobs)
            elif not ready:
                elsewhere = [job for job in jobs if job.state == ELSEWHERE]
                if not elsewhere or _hopeless(jobs, go_on):
                    break
                _look_elsewhere(elsewhere)
                for job in elsewhere:
                    if job.state != ELSEWHERE:
                        display.settled(job, jobs)
    except BaseException:
        engine.stop()
        raise
    finally:
        display.ends()
    for job in jobs:
        if job.state == WAITING:
            job.state = LEFT
    return jobs


def _hopeless(jobs: Sequence[Job], go_on: bool) -> bool:
    failed = [job for job in jobs if job.state == FAILED]
    if not go_on:
        return bool(failed) or any(job.state == REFUSED for job in jobs)
    if not failed:
        return False
    return failed[0].status == 2 and not any(job.state in (DONE, SKIPPED) for job in jobs)


def _ready(jobs: Sequence[Job]) -> list[Job]:
    """Waiting jobs whose model, if they test one or start from one, is not being trained by another job."""
    busy = {job.call.folder for job in jobs if job.state in (WAITING, RUNNING, ELSEWHERE)}
    return [job for job in jobs if job.state == WAITING and job.call.needs not in busy]


def _begin(job: Job, engine: Engine, display: Display, overwrite: bool, more: Sequence[str]) -> bool:
    """Start a job, or settle it without a run: finished before, refused, or made by somebody else."""
    call = job.call
    try:
        state = call.state(overwrite)
        if state == COMPLETE:
            job.state = SKIPPED
            return False
        words = call.words(overwrite, more)
    except OtherSettings as error:
        job.state, job.why = REFUSED, str(error)
        return False
    except (UserError, FileNotFoundError) as error:
        job.state, job.status, job.why = FAILED, 2, str(error)
        return False
    if going_on(call.folder):
        job.state = ELSEWHERE
        return False
    job.state, job.began = RUNNING, time.time()
    display.starts(job, resumes=state != NONE)
    engine.start(job, words)
    return True


def _end(job: Job) -> None:
    """Settle a job whose run has ended."""
    job.seconds = job.seconds or time.time() - job.began  # an engine with a queue has measured them
    if job.status == 0 and is_complete(job.call.folder):
        job.state = DONE
    elif job.status == 2 and (going_on(job.call.folder) or any(GOING_ON in line for line in job.lines)):
        job.state = ELSEWHERE
    else:
        job.state, job.why = FAILED, error_of(job.call.folder)
        if job.status == 0:
            job.status, job.why = 1, "train.py succeeded but did not write a complete results.json"
        job.why = job.why or killed_by(job.status)


def killed_by(status: int) -> str:
    """Which signal has ended a process with this exit status, in words; "" for none."""
    number = status - 128
    if number not in {each.value for each in signal.Signals}:
        return ""
    memory = ", as the kernel does when memory runs out" if number == signal.SIGKILL else ""
    return f"ended by {signal.Signals(number).name}{memory}"


def _look_elsewhere(jobs: Sequence[Job]) -> None:
    """Look at runs that somebody else is making: finished ones are settled, abandoned ones wait for us."""
    time.sleep(1)
    for job in jobs:
        if is_complete(job.call.folder):
            job.state = SKIPPED
        elif not going_on(job.call.folder):
            job.state = WAITING


def log_of(folder: Path, since: float) -> Path | None:
    """The log that a run has written since then."""
    logs = [path for path in Path(folder).glob("log.txt*") if path.stat().st_mtime >= since]
    return max(logs, key=lambda path: path.stat().st_mtime, default=None)


def failure_text(job: Job) -> str:
    """What is known about a failed run: its last lines and its error."""
    if job.status == 2:  # a user error: one message
        return "\n".join(job.lines[-LINES:]) or job.why
    log = log_of(job.call.folder, job.began)
    if log:
        lines = [f"last lines of {log}:"]
        lines += ["    " + line for line in log.read_text(encoding="utf-8", errors="replace").splitlines()[-LINES:]]
    else:
        lines = ["it wrote no log", *("    " + line for line in job.lines[-LINES:])]
    text = "\n".join(lines)
    reason = job.why.partition(": ")[2] or job.why  # a log has it without the name of the exception
    return text if reason in text else f"{text}\nerror: {job.why}"


def summary(jobs: Sequence[Job]) -> int:
    """Print what was not made. Returns the exit status: of the first failure, or 2 after a refusal."""
    failed = [job for job in jobs if job.state == FAILED]
    for title, some in (("failed", failed), ("not made", [job for job in jobs if job.state == LEFT])):
        if some:
            names = [f"    {job.name}" + (f": {first_line(job)}" if job.state == FAILED else "") for job in some]
            print(f"{title}: {len(some)} of {len(jobs)}", *names, sep="\n", file=sys.stderr)
    if failed:
        print("the same command continues with what is missing", file=sys.stderr)
        return failed[0].status or 1
    if refused := [job for job in jobs if job.state == REFUSED]:
        print(
            f"{len(refused)} of {counted(len(jobs), 'run')} finished before with other settings and kept. To repeat "
            "all runs, add --overwrite; to write to another place, set OUTPUT=FOLDER.",
            file=sys.stderr,
        )
        return 2
    return 0


def first_line(job: Job) -> str:
    """The reason of a failure in one line."""
    reason = job.why or next((line for line in reversed(job.lines) if line.strip()), "")
    return reason.strip().partition("\n")[0] or f"exit status {job.status}"


# ---- displays --------------------------------------------------------------------------------------------------------


class Attended(Display):
    """One run at a time, whose output is shown: the launchers, and grids with several methods."""

    def __init__(self, script: str, several: bool = False):
        self.script, self.several, self.began = script, several, time.time()

    def starts(self, job: Job, resumes: bool) -> None:
        if self.several:
            print(f"== {job.name}")
        if job.call.outdated():
            print(f"the model is newer than its test; the test is repeated: {job.call.folder}")
        print(f"{'resumes' if resumes else 'starts'}: {job.call.folder}", flush=True)

    def settled(self, job: Job, jobs: Sequence[Job]) -> None:
        if job.state == SKIPPED:
            print(f"skipped, already finished: {job.call.folder}", flush=True)
        elif job.state == REFUSED:
            print(job.why, file=sys.stderr)
        elif job.state == ELSEWHERE:
            print(f"another program is making this run, it is waited for: {job.call.folder}", flush=True)
        elif job.state == FAILED and job.status == 2:
            advice = (
                "see its message above; after fixing the error, run the same (or the corrected) command to continue"
            )
            text = f"\n{self.script}: failed with exit status 2: {job.call.folder}\n{advice}"
            print(text if job.began else f"{self.script}: {job.why}", file=sys.stderr)
        elif job.state == FAILED:
            print(
                f"\n{self.script}: failed with exit status {job.status}: {job.call.folder}\n{failure_text(job)}\n"
                "run the same command again to continue from here",
                file=sys.stderr,
            )
        if self.several and job.seconds:
            print(f"  {progress_text(jobs, self.began)}", flush=True)


class Lines(Display):
    """Several runs at a time: a line when one starts or ends."""

    def begins(self, jobs: Sequence[Job]) -> None:
        self.began, self.told = time.time(), False

    def starts(self, job: Job, resumes: bool) -> None:
        print(f"{job.name}: {'resumes' if resumes else 'starts'}", flush=True)

    def settled(self, job: Job, jobs: Sequence[Job]) -> None:
        print(self.text(job), file=sys.stderr if job.state in (FAILED, REFUSED) else sys.stdout, flush=True)
        if job.state != SKIPPED:
            print(f"  {progress_text(jobs, self.began)}", flush=True)

    def text(self, job: Job) -> str:
        """What is said about a job that has ended."""
        if job.state == DONE:
            return f"{job.name}: finished after {job.seconds:.0f} s{job.accuracy}"
        if job.state == SKIPPED:
            return f"{job.name}: skipped, already finished"
        if job.state == ELSEWHERE:
            return f"{job.name}: another program is making this run"
        if job.state == REFUSED:
            changes = [line for line in job.why.splitlines() if line.startswith(("  there: ", "  now: "))]
            return "\n".join([f"{job.name}: not run, already finished with other settings", *changes])
        first, self.told = not self.told, True
        text = f"{job.name}: failed with exit status {job.status}, folder: {job.call.folder}"
        return f"{text}\n{failure_text(job)}" if first else f"{text}: {first_line(job)}"


def show_begin(runs: int, jobs: int) -> None:
    """Print how many runs will be made on this machine, and how many at a time."""
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    print(f"{counted(runs, 'run')}, {jobs} at a time, {threads} thread{'' if threads == '1' else 's'} each", flush=True)


def progress_text(jobs: Sequence[Job], began: float) -> str:
    """How many runs are done, and when the others will be."""
    open_jobs = [job for job in jobs if job.state in (WAITING, RUNNING, ELSEWHERE)]
    made = [job for job in jobs if job.state in (DONE, FAILED) and job.seconds]
    elapsed = time.time() - began
    left = (
        f", about {timedelta(seconds=round(elapsed / len(made) * len(open_jobs)))} left" if made and open_jobs else ""
    )
    return f"{len(jobs) - len(open_jobs)} of {len(jobs)} done, {timedelta(seconds=round(elapsed))} elapsed{left}"
