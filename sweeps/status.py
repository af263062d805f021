"""What has become of the runs of a grid, read from their folders, and the live display of a sweep."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from dassl.runs.folder import LOG, NEW_LOG, going_on
from dassl.runs.record import FAILED as FAILED_RUN
from dassl.runs.record import entries, is_run, known_results

from .calls import NONE, Call, OtherSettings
from .work import DONE, ELSEWHERE, FAILED, REFUSED, RUNNING, SKIPPED, WAITING, Job, Lines, progress_text

EPOCH = re.compile(r"epoch \[(\d+)/(\d+)\]\[(\d+)/(\d+)\].*\teta (\d+:\d\d:\d\d|\d+ days?, \d+:\d\d:\d\d)")
STATES = ("finished", "other settings", "running", "failed", "interrupted", "waiting")


@dataclass(frozen=True)
class Status:
    """State of a run, one of STATES, and more about it in words."""

    state: str
    about: str = ""


def status_of(call: Call) -> Status:
    """What has become of a call. "other settings": its folder holds a finished run that a sweep would not take for it.

    Raises:
        ValueError, FileNotFoundError: such a run cannot be compared, because train.py would refuse the call.
    """
    folder = call.folder
    data = known_results(folder)
    if data.get("status") == "complete":
        try:
            if call.state() == NONE:  # the model is newer than its test
                return Status("waiting")
        except OtherSettings as error:
            return Status("other settings", "; ".join(line.strip() for line in str(error).splitlines()[1:3]))
        value = entries(data, "mean").get("value")
        return Status("finished", "" if value is None else f"{value:.2f} %")
    if going_on(folder):
        return Status("running", epoch_text(folder))
    if data.get("status") == FAILED_RUN:
        return Status("failed", str(data.get("error", "")).strip().partition("\n")[0])
    return Status("interrupted", epoch_text(folder)) if is_run(folder) else Status("waiting")


def epoch_text(folder: Path) -> str:
    """ "epoch 3 of 20, about 0:01:02 left", by the last such line of the log; "" without one."""
    for name in (NEW_LOG, LOG):
        path = Path(folder) / name
        try:
            with path.open("rb") as stream:
                stream.seek(max(0, path.stat().st_size - 8192))
                lines = stream.read().decode("utf-8", errors="replace").splitlines()
        except OSError:
            continue
        for line in reversed(lines):
            if match := EPOCH.search(line):
                return f"epoch {match[1]} of {match[2]}, about {match[5]} left"
    return ""


def show_status(calls: Sequence[Call]) -> int:
    """Print the status of all runs: a line per row, then what is to be looked at. Returns the exit status."""
    from reporting.text import render

    found = [(call, status_of(call)) for call in calls]
    rows = []
    for label in dict.fromkeys(call.row for call in calls):
        count = Counter(status.state for call, status in found if call.row == label)
        rows.append([label, *(str(count[state] or "") for state in STATES)])
    total = Counter(status.state for _, status in found)
    rows.append(["all", *(str(total[state] or "") for state in STATES)])
    print(render(["row", *STATES], rows))
    for state in ("other settings", "running", "failed", "interrupted"):
        some = [(call, status) for call, status in found if status.state == state]
        if some:
            print(f"\n{state}:")
        for call, status in some[:20]:
            print(f"    {call.label}" + (f": {status.about}" if status.about else "") + f"\n        {call.folder}")
        if some[20:]:
            print(f"    and {len(some) - 20} more")
    return 0


class Live(Lines):
    """A display for terminals: a bar, what is running, and the last runs that have ended."""

    def begins(self, jobs: Sequence[Job]) -> None:
        from rich.live import Live as RichLive

        super().begins(jobs)
        self.jobs = jobs
        self.live = RichLive(self, refresh_per_second=2, transient=True)
        self.live.start()

    def ends(self) -> None:
        self.live.stop()

    def starts(self, job: Job, resumes: bool) -> None: ...

    def settled(self, job: Job, jobs: Sequence[Job]) -> None:
        if job.state in (DONE, FAILED, REFUSED):
            self.live.console.print(self.text(job), markup=False, highlight=False)

    def __rich__(self):
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.text import Text

        count = Counter(job.state for job in self.jobs)
        done = sum(count[state] for state in (DONE, SKIPPED, FAILED, REFUSED))
        parts = [
            f"{count[state]} {state}" for state in (DONE, SKIPPED, RUNNING, ELSEWHERE, WAITING, FAILED) if count[state]
        ]
        lines = [Text(f"{progress_text(self.jobs, self.began)} ({', '.join(parts)})")]
        for job in [job for job in self.jobs if job.state == RUNNING][:16]:
            seconds = timedelta(seconds=round(time.time() - job.began))
            lines.append(
                Text(f"  {job.call.label}: {epoch_text(job.call.folder) or 'starts'} ({seconds})", no_wrap=True)
            )
        return Group(*lines, ProgressBar(total=len(self.jobs), completed=done, width=60))
