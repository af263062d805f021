"""Runs as job arrays of SLURM, through submitit (docs/sweeps-cluster.md)."""

from __future__ import annotations

import contextlib
import json
import math
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError, UncompletedJobError
from submitit.slurm.slurm import SlurmJob, _make_sbatch_string

from dassl.utils.errors import UserError

from .calls import REPOSITORY
from .task import Ended, Origin, Run
from .work import Job

ARRAY = 1000  # elements of an array; SLURM's default limit is 1001
GATHER = 30.0  # seconds in which runs that become ready one after another are collected for an array
GRACE = 20.0  # seconds after which the result of an ended element has to be visible here
PAUSE = 60.0  # seconds after a SIGTERM, within which SLURM kills a job that it preempts
ALIVE = ("PENDING", "RUNNING", "REQUEUED", "PREEMPTED", "SUSPENDED", "COMPLETING", "CONFIGURING")


class Pack:
    """The work of an array element: runs one after another, or several side by side on one GPU."""

    def __init__(self, runs: list[list[str]], origin: Origin, beside: int = 1):
        self.runs, self.origin, self.beside = runs, origin, beside

    def __call__(self) -> list[Ended]:
        self.ending, self.going_on = False, []
        with ThreadPoolExecutor(self.beside, initializer=_shield) as pool:
            futures = [pool.submit(self.make, words) for words in self.runs]
            while wait(futures, timeout=0.5).not_done:  # an endless wait can miss a second signal
                pass
            return [future.result() for future in futures]

    def make(self, words: list[str]) -> Ended:
        """Make a run. After a SIGTERM to all processes of the job, the run continues if the job does."""
        while not self.ending:
            run = Run(words, self.origin)
            self.going_on.append(run)
            ended = run.wait()
            self.going_on.remove(run)
            if ended.status != 128 + signal.SIGTERM:
                return ended
            until = time.monotonic() + PAUSE
            while not self.ending and time.monotonic() < until:
                time.sleep(0.2)
        return Ended(128 + signal.SIGTERM, [], 0.0, "")

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """End the runs. The job is queued again: it skips finished runs and continues the others."""
        self.ending = True
        for run in list(self.going_on):
            run.stop()
        for run in list(self.going_on):
            with contextlib.suppress(Exception):
                run.child.wait(timeout=60)
        return submitit.helpers.DelayedSubmission(Pack(self.runs, self.origin, self.beside))

    __submitit_checkpoint__ = checkpoint


def _shield() -> None:
    """Keep submitit's signal from the runs, which SLURM sends to all processes of a job."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})


@dataclass
class Element:
    """An array element: submitit's job, the words of its runs, and who waits for them here."""

    job: submitit.Job
    runs: list[list[str]]
    waiting: dict[int, Job] = field(default_factory=dict)  # by position in `runs`
    gone: float = 0.0  # when it was first seen to have ended without a result


@dataclass(frozen=True)
class Request:
    """What is asked of SLURM.

    Attributes:
        pack: runs per array element.
        cpus: processors per run.
        gpus: GPUs per run: 0, 1, or a part of one, for several runs side by side.
        minutes: time per array element.
        partition: "" for the default one.
        most: runs at a time; None: as SLURM decides.
    """

    pack: int = 1
    cpus: int = 1
    gpus: float = 0
    minutes: int = 60
    partition: str = ""
    most: int | None = None

    @property
    def beside(self) -> int:
        """Runs side by side in an element."""
        return max(1, min(self.pack, int(1 / self.gpus))) if self.gpus else 1

    def parameters(self) -> dict[str, object]:
        """Of submitit's SLURM executor."""
        found = {
            "job_name": "sweep",
            "time": self.minutes,
            "cpus_per_task": self.cpus * self.beside,
            "array_parallelism": math.ceil(self.most / self.beside) if self.most else ARRAY,
            "setup": [f'export PYTHONPATH="{REPOSITORY}${{PYTHONPATH:+:$PYTHONPATH}}"'],
            "stderr_to_stdout": True,
        }
        found |= {"gpus_per_node": 1} if self.gpus else {}
        return found | ({"partition": self.partition} if self.partition else {})

    def script(self, runs: int, folder: Path) -> str:
        """The batch script of the first array for a number of runs."""
        command = f"{sys.executable} -u -m submitit.core._submit {folder}"
        elements = min(math.ceil(runs / self.pack), ARRAY)
        return _make_sbatch_string(command, folder, map_count=elements, **self.parameters())


class Slurm:
    """Runs in job arrays, which go on if this program ends. The same command waits for them again.

    Args:
        folder: where submitit keeps its files; on a disk that all nodes share.
        request: what is asked of SLURM.
        cluster: submitit's name of the cluster: "slurm" or, in tests, "debug".

    Raises:
        UserError: this machine does not have SLURM's commands.
    """

    def __init__(self, folder: Path, request: Request, cluster: str = "slurm"):
        self.folder, self.request = Path(folder), request
        self.slots = ARRAY * request.pack
        try:
            self.executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
        except RuntimeError as error:
            raise UserError(f"--engine slurm needs a machine that submits jobs to SLURM: {error}") from None
        self.executor.update_parameters(**{f"slurm_{key}": value for key, value in request.parameters().items()})
        environment = {**Origin("").environment, "OMP_NUM_THREADS": str(request.cpus)}
        self.origin = Origin(str(REPOSITORY), environment=environment)
        self.collected: list[tuple[Job, list[str]]] = []
        self.since = 0.0  # when the first of them was collected
        self.elements: list[Element] = []
        self.earlier = self.submitted_earlier() if cluster == "slurm" else {}

    def __str__(self) -> str:
        return (
            f"SLURM: {self.request.pack} per array element, at most {self.request.minutes} minutes; see {self.folder}"
        )

    def submitted_earlier(self) -> dict[tuple[str, ...], tuple[Element, int]]:
        """{words: (element, position)} of runs that an earlier call has submitted and SLURM has not ended."""
        files = sorted(self.folder.glob("*.runs.json"))
        elements = [
            Element(SlurmJob(self.folder, file.name.partition(".")[0]), json.loads(file.read_text())) for file in files
        ]
        found = {}
        for file, element in zip(files, elements, strict=True):
            if element.job.done() or not element.job.state.startswith(ALIVE):
                file.unlink()
                continue
            found |= {tuple(words): (element, position) for position, words in enumerate(element.runs)}
        return found

    def start(self, job: Job, words: list[str]) -> None:
        element, position = self.earlier.pop(tuple(words), (None, 0))
        if element is None:
            self.since = self.since if self.collected else time.monotonic()
            self.collected.append((job, words))
            return
        element.waiting[position] = job
        if element not in self.elements:
            self.elements.append(element)

    def ended(self) -> list[Job]:
        if self.collected and (not self.elements or time.monotonic() - self.since > GATHER):
            self.submit()
        time.sleep(0.5)
        found = []
        for element in list(self.elements):
            results = self.results(element)
            if results is None:
                continue
            self.elements.remove(element)
            self.record(element).unlink(missing_ok=True)
            for position, job in element.waiting.items():
                job.status, job.lines, job.seconds, _ = results[position]
                found.append(job)
        return found

    def submit(self) -> None:
        """Submit the collected runs as arrays. Raises UserError if SLURM refuses them."""
        size = self.request.pack
        packs = [self.collected[start : start + size] for start in range(0, len(self.collected), size)]
        self.collected = []
        for start in range(0, len(packs), ARRAY):
            some = packs[start : start + ARRAY]
            works = [Pack([words for _, words in pack], self.origin, self.request.beside) for pack in some]
            try:
                jobs = self.executor.submit_array(works)
            except (FailedJobError, FailedSubmissionError) as error:
                raise UserError(f"SLURM does not accept the jobs: {error}") from None
            for job, work, pack in zip(jobs, works, some, strict=True):
                element = Element(job, work.runs, {position: each for position, (each, _) in enumerate(pack)})
                self.folder.mkdir(parents=True, exist_ok=True)
                self.record(element).write_text(json.dumps(element.runs))
                self.elements.append(element)

    def record(self, element: Element) -> Path:
        """The file with the words of an element's runs, which exists until it has ended."""
        return self.folder / f"{element.job.job_id}.runs.json"

    def results(self, element: Element) -> list[Ended] | None:
        """What has become of an element's runs; None as long as it has not ended."""
        job = element.job
        if not job.done():
            return None
        if job.paths.result_pickle.exists() or not isinstance(job, SlurmJob):
            with contextlib.suppress(FailedJobError, UncompletedJobError):
                return job.result()
        elif not element.gone or time.monotonic() - element.gone < GRACE:
            element.gone = element.gone or time.monotonic()
            return None
        text = f"the SLURM job {job.job_id} ended with state {job.state}; its log: {job.paths.stdout}"
        return [
            Ended(0 if _complete(words) else 1, [*_tail(job.paths.stdout), text], 0.0, "") for words in element.runs
        ]

    def stop(self) -> None:
        if self.elements:
            names = sorted({element.job.job_id.partition("_")[0] for element in self.elements})
            print(
                f"the jobs go on; the same command waits for them. To end them: scancel {' '.join(names)}",
                file=sys.stderr,
            )


def _complete(words: list[str]) -> bool:
    from dassl.runs.record import is_complete

    return is_complete(words[words.index("--output-dir") + 1])


def _tail(log: Path) -> list[str]:
    with contextlib.suppress(OSError):
        return log.read_text(errors="replace").splitlines()[-10:]
    return []
