"""A run on another machine, as a child process of a Ray worker or a SLURM job.

Imports the standard library alone: every worker imports this module, and a worker that ends counts as lost.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from socket import gethostname
from typing import NamedTuple

LAUNCHED = "SOFTCPT_LAUNCHED"  # dassl.program.LAUNCHED, whose import can end a process
LINES = 15  # last lines of the output that are returned
ENVIRONMENT = ("SOFTCPT_CACHE", "HF_HOME", "HF_HUB_OFFLINE", "TORCH_HOME", "OMP_NUM_THREADS")


class Ended(NamedTuple):
    """A run that has ended: exit status, last lines of its output, seconds, name of the machine."""

    status: int
    lines: list[str]
    seconds: float
    node: str


@dataclass(frozen=True)
class Origin:
    """The program that asks for runs.

    Attributes:
        repository: its folder, with train.py.
        folder: its current folder, to which paths in KEY VALUE words may be relative.
        environment: variables for all runs.
    """

    repository: str
    folder: str = field(default_factory=os.getcwd)
    environment: dict[str, str] = field(
        default_factory=lambda: {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
    )


class Run:
    """`python train.py WORDS`, begun. It ends by itself, so that it can be resumed, once this process is gone."""

    def __init__(self, words: list[str], origin: Origin):
        repository, words = locate(words, origin.repository)
        self.began = time.monotonic()
        self.output = tempfile.TemporaryFile()  # noqa: SIM115  closed by `wait`
        self.child = subprocess.Popen(
            [sys.executable, str(repository / "train.py"), *words],
            cwd=origin.folder if os.path.isdir(origin.folder) else repository,
            env={**os.environ, **origin.environment, LAUNCHED: str(os.getpid())},
            stdin=subprocess.DEVNULL,
            stdout=self.output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # signals for this process are passed on by `stop`
        )

    def wait(self) -> Ended:
        """Wait for the end."""
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):  # signals are handled between two waits
                status = self.child.wait(timeout=0.5)
                break
        self.output.seek(0)
        lines = [line.decode("utf-8", errors="replace").rstrip("\n") for line in deque(self.output, LINES)]
        self.output.close()
        return Ended(status if status >= 0 else 128 - status, lines, time.monotonic() - self.began, gethostname())

    def stop(self) -> None:
        """Ask the run to end, so that it can be resumed."""
        self.child.terminate()


def locate(words: list[str], repository: str) -> tuple[Path, list[str]]:
    """(folder with train.py on this machine, words with its config files).

    The folder is the repository itself where this machine sees it, else the copy of the code that contains this module.
    """
    if (Path(repository) / "train.py").is_file():
        return Path(repository), words
    copy, configs = Path(__file__).resolve().parents[1], f"{repository}/configs/"
    return copy, [f"{copy}/configs/{word[len(configs) :]}" if word.startswith(configs) else word for word in words]


def train(words: list[str], origin: Origin) -> Ended:
    """Make a run. A KeyboardInterrupt ends it, so that it can be resumed."""
    run = Run(words, origin)
    while True:
        try:
            return run.wait()
        except KeyboardInterrupt:
            run.stop()
