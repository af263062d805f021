"""Runs as tasks of a Ray cluster (docs/sweeps-cluster.md)."""

from __future__ import annotations

import os
import signal
import socket
import time

import ray

from dassl import program
from dassl.runs.record import is_complete
from dassl.utils import counted
from dassl.utils.errors import UserError

from .calls import REPOSITORY
from .task import Ended, Origin, train
from .work import Job

NOT_CODE = ["/.venv", "/.git", "/output", "/outputd", "/data", "__pycache__"]  # not sent to the nodes
SUBMITTED = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # set by `ray job submit`
VISIBLE = 60.0  # seconds after which a result that a node has written has to be visible here
END = 120.0  # seconds that interrupted runs have to end


class Ray:
    """Runs on all nodes of a Ray cluster.

    A run whose worker or node is lost is made again elsewhere, up to three times, and continues from its checkpoint.

    Args:
        address: of the cluster; "": a running cluster, or one on this machine, which ends with this program.
        cpus: processors per run.
        gpus: GPUs per run, at most 1; None: one if the cluster has GPUs.
        most: runs at a time; None: what the cluster can hold.

    Attributes:
        slots: twice as many runs as the cluster can hold, so that no node waits and a growing cluster grows.

    Raises:
        UserError: there is no cluster at the address, no node can hold a run, or OUTPUT is missing in a submitted job.
    """

    def __init__(self, address: str = "", cpus: float = 1, gpus: float | None = None, most: int | None = None):
        if SUBMITTED in os.environ and not os.environ.get("OUTPUT"):
            raise UserError(
                "OUTPUT is not set. In a job of `ray job submit` its default is a copy of the code, which is removed. "
                'Add --runtime-env-json \'{"env_vars": {"OUTPUT": "/shared/results"}}\' with a folder on a shared disk.'
            )
        connect(address)
        self.cpus, self.most = cpus, most
        self.gpus = float(any(_has(node, "GPU") for node in nodes())) if gpus is None else gpus
        self.look()
        # max_calls: workers for GPUs would otherwise be started anew for every run
        task = ray.remote(num_cpus=cpus, num_gpus=self.gpus, max_retries=3, retry_exceptions=False, max_calls=0)
        self.task = task(train)
        self.origin = Origin(str(REPOSITORY))
        self.running: dict[ray.ObjectRef, Job] = {}
        self.late: list[tuple[Job, Ended, float]] = []  # runs whose results are not visible here yet

    def look(self) -> None:
        """Set `slots` by the nodes that are alive. Raises UserError if none of them can hold a run."""
        counts = [
            min(int(_has(node, name) / each) for name, each in (("CPU", self.cpus), ("GPU", self.gpus)) if each)
            for node in nodes()
        ]
        if not any(counts) and not hasattr(self, "slots"):
            there = "; ".join(
                f"{node['NodeManagerAddress']}: {_has(node, 'CPU'):g} CPUs, {_has(node, 'GPU'):g} GPUs"
                for node in nodes()
            )
            raise UserError(
                f"no node of the Ray cluster can hold a run, which asks for {self.cpus:g} CPUs and {self.gpus:g} GPUs. "
                f"Nodes: {there}. Change --cpus-per-run or --gpus-per-run, or add a node."
            )
        self.looked = time.monotonic()
        self.held = min(sum(counts), self.most or 10**6)
        self.slots = min(max(2 * sum(counts), 1), self.most or 10**6)

    def __str__(self) -> str:
        gpus = f" and {self.gpus:g} GPU" if self.gpus else ""
        return f"Ray: {counted(len(nodes()), 'node')}, {self.held} at a time, for each {self.cpus:g} CPU{gpus}"

    def start(self, job: Job, words: list[str]) -> None:
        self.running[self.task.options(name=job.call.label).remote(words, self.origin)] = job

    def ended(self) -> list[Job]:
        if time.monotonic() - self.looked > 10:
            self.look()
        refs = list(self.running)
        done, _ = ray.wait(refs, timeout=0.5) if refs else time.sleep(0.5) or ([], [])
        if done:
            done, _ = ray.wait(refs, num_returns=len(refs), timeout=0)
        now = time.monotonic()
        for ref in done:
            self.late.append((self.running.pop(ref), _result(ref), now))
        found = [each for each in self.late if each[1].status or is_complete(each[0].call.folder)]
        for each in self.late:
            job, ended, since = each
            if each not in found and now - since > VISIBLE:
                found.append((job, ended._replace(status=2, lines=[_unseen(job, ended)]), since))
        settled = {id(job) for job, _, _ in found}
        self.late = [each for each in self.late if id(each[0]) not in settled]
        for job, ended, _ in found:
            job.status, job.lines, job.seconds = ended.status, ended.lines, ended.seconds
        return [job for job, _, _ in found]

    def stop(self) -> None:
        for ref in self.running:
            ray.cancel(ref)
        try:
            ray.wait(list(self.running), num_returns=len(self.running), timeout=END)
        finally:
            ray.shutdown()  # ends workers, and with them their runs


def connect(address: str) -> None:
    """Connect this program to a cluster, or start one on this machine. Raises UserError."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no reports to Ray's makers
    address = address or os.environ.get("RAY_ADDRESS", "")
    if address not in ("", "auto", "local"):
        refuse_unreachable(address)
    handlers = {number: signal.getsignal(number) for number in program.SIGNALS}
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    # a job of `ray job submit` has brought its code
    code = {} if SUBMITTED in os.environ else {"working_dir": str(REPOSITORY), "excludes": NOT_CODE}
    try:
        if address != "local":
            try:
                ray.init(address=address or "auto", runtime_env=code, **quiet)
                return
            except (ConnectionError, RuntimeError, ValueError) as error:
                if address or not isinstance(error, ConnectionError):
                    raise UserError(f"cannot connect to the Ray cluster {address}: {error}") from None
        ray.init(address="local", include_dashboard=False, object_store_memory=10**8, **quiet)
    finally:
        for number, handler in handlers.items():  # Ray replaces them
            signal.signal(number, handler)


def refuse_unreachable(address: str) -> None:
    """Check that something answers at an address, for which Ray itself waits for minutes. Raises UserError."""
    host, _, port = address.rpartition(":")
    try:
        if not port.isdigit() or "/" in host:
            raise OSError("expected HOST:PORT, as `ray start --head` prints it")
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise UserError(f"cannot connect to the Ray cluster {address}: {error}") from None


def nodes() -> list[dict]:
    """The nodes that are alive."""
    return [node for node in ray.nodes() if node["Alive"]]


def _has(node: dict, name: str) -> float:
    return node["Resources"].get(name, 0.0)


def _result(ref) -> Ended:
    try:
        return ray.get(ref)
    except ray.exceptions.RayError as error:  # workers or nodes were lost too often, or the code did not arrive
        return Ended(1, [f"Ray: {type(error).__name__}", *str(error).splitlines()], 0.0, "")


def _unseen(job: Job, ended: Ended) -> str:
    return (
        f"the run has ended on {ended.node}, but its results are not in {job.call.folder} on this machine; OUTPUT has "
        "to be a folder on a disk that all nodes and this machine share"
    )
