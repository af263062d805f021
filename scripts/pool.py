"""Run launchers side by side: `python pool.py [KEY VALUE ...] <LIST`, called by pool.sh, which describes the list.

Environment: JOBS, OUTPUT, and what the launchers read. The other runs are made after a failure, unless no run has
succeeded and the failure is a user error, which the others probably share.
"""

import os
import subprocess
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parent
sys.path[0] = str(SCRIPTS.parent)

from dassl import program  # noqa: E402
from dassl.runs.record import known_results  # noqa: E402

LAUNCHED = os.environ.get(program.LAUNCHED, "")  # processes whose end ends this one and its runs

TOLD = ("starts: ", "resumes: ")  # how lib.sh announces the folder of a run


class Job:
    """A line of the list: label, seeds and command, separated by tabs."""

    def __init__(self, line, number, total, folder):
        self.label, self.seeds, command = (line.split("\t", 2) + ["", ""])[:3]
        self.command, self.name = command.split(), f"[{number}/{total}] {self.label}"
        self.log, self.refusals = folder / f"{number}.log", folder / f"{number}.refused"
        self.process = self.status = None

    def start(self, arguments, shown):
        script, *rest = self.command
        alive = " ".join(filter(None, (LAUNCHED, str(os.getpid()))))
        environment = os.environ | {"SEEDS": self.seeds, "POOL_REFUSED": str(self.refusals), program.LAUNCHED: alive}
        self.began = time.time()
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                ["sh", str(SCRIPTS / script), *rest, *arguments],
                env=environment,
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C comes to this process, which ends the others
                **({} if shown else {"stdout": log, "stderr": subprocess.STDOUT}),
            )

    def ended(self):
        self.status = self.process.poll()
        return self.status is not None

    def lines(self):
        return self.log.read_text(encoding="utf-8", errors="replace").splitlines()

    def folders(self):
        """Output folders of the runs that this job has begun."""
        return [line.split(": ", 1)[1] for line in self.lines() if line.startswith(TOLD)]

    def refused(self):
        """Number of runs that were finished before with other settings."""
        return len(self.refusals.read_text().splitlines()) if self.refusals.exists() else 0

    def accuracy(self):
        """ ", 67.12 %", the mean over the results of the runs, or ""."""
        try:
            values = [known_results(folder)["mean"]["value"] for folder in self.folders()]
            return f", {sum(values) / len(values):.2f} %" if values else ""
        except (KeyError, TypeError):
            return ""


def report(job, first_failure):
    """Print how a job has ended."""
    if job.status != 0:
        logs = ", ".join(f"{folder}/log.txt" for folder in job.folders())
        text = [f"{job.name}: failed with exit code {job.status}" + (f", log: {logs}" if logs else "")]
        if first_failure:
            text += [f"    {line}" for line in job.lines()[-25:]]
        print(*text, sep="\n", file=sys.stderr, flush=True)
    elif job.refused():
        text = [line for line in job.lines() if line.startswith(("  there: ", "  now: "))]
        print(
            f"{job.name}: not run, already finished with other settings",
            *dict.fromkeys(text),
            sep="\n",
            file=sys.stderr,
        )
    elif job.folders():
        print(f"{job.name}: finished after {time.time() - job.began:.0f} s{job.accuracy()}")
    else:
        print(f"{job.name}: skipped, already finished")


def progress(jobs, began):
    """Print how many jobs are done, and when the others will be."""
    done = [job for job in jobs if job.status is not None]
    made = [job for job in done if job.log.stat().st_size == 0 or job.folders()]
    elapsed = time.time() - began
    left = f", about {timedelta(seconds=round(elapsed / len(made) * (len(jobs) - len(done))))} left" if made else ""
    if len(done) < len(jobs):
        print(f"  {len(done)} of {len(jobs)} done, {timedelta(seconds=round(elapsed))} elapsed{left}", flush=True)


def work(jobs, arguments, at_a_time):
    """Run the jobs. Returns those that were not started."""
    began, waiting, running, failed = time.time(), list(jobs), [], []
    try:
        while waiting or running:
            hopeless = failed and failed[0].status == 2 and not any(job.status == 0 for job in jobs)
            while waiting and len(running) < at_a_time and not hopeless:
                job = waiting.pop(0)
                print(f"== {job.label}" if at_a_time == 1 else f"{job.name}: starts", flush=True)
                job.start(arguments, shown=at_a_time == 1)
                running.append(job)
            if hopeless and not running:
                break
            time.sleep(0.05)
            for job in [job for job in running if job.ended()]:
                running.remove(job)
                failed += [job] if job.status else []
                if at_a_time > 1:
                    report(job, first_failure=failed == [job])
                progress(jobs, began)
    except BaseException:
        for _ in range(2):  # a second time if this program is interrupted again
            for job in running:
                if job.process.poll() is None:
                    job.process.terminate()
            try:
                for job in running:
                    job.process.wait()
                break
            except KeyboardInterrupt:
                continue
        raise
    return waiting


@program.entry(resume="the same command continues from the last checkpoints")
def main(arguments):
    lines, at_a_time = [line for line in sys.stdin.read().splitlines() if line], int(os.environ["JOBS"])
    with tempfile.TemporaryDirectory(prefix="softcpt.") as folder:
        jobs = [Job(line, number, len(lines), Path(folder)) for number, line in enumerate(lines, 1)]
        server = preload(folder) if len(jobs) > 1 else None
        try:
            if at_a_time > 1:
                threads = os.environ["OMP_NUM_THREADS"]
                each = f"{threads} thread{'s' if threads != '1' else ''} each"
                print(f"{len(jobs)} runs, {at_a_time} at a time, {each}", flush=True)
            waiting = work(jobs, arguments, at_a_time)
        finally:
            if server is not None:
                server.terminate()
                server.wait()
        return summary(jobs, waiting)


def preload(folder):
    """Start preloaded.py if the environment wants it. Without it, runs start normally."""
    wanted = os.environ.get("PRELOAD") or str(not os.path.exists("/dev/nvidiactl") and not os.path.exists("/dev/kfd"))
    if wanted != "True" or sys.platform != "linux" or os.environ.get("PRELOADED"):
        return None
    socket = os.environ["PRELOADED"] = os.path.join(folder, "socket")
    quiet = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    server = subprocess.Popen([sys.executable, str(SCRIPTS / "preloaded.py"), socket], **quiet)
    for _ in range(40):  # until it listens
        if os.path.exists(socket) or server.poll() is not None:
            break
        time.sleep(0.05)
    return server


def summary(jobs, waiting):
    """Print what was not made, and return the exit code: that of the first failure, or 2 after a refusal."""
    failed = [job for job in jobs if job.status]
    for title, some in (("failed", failed), ("not made", waiting)):
        if some:
            print(
                f"{title}: {len(some)} of {len(jobs)}", *(f"    {job.name}" for job in some), sep="\n", file=sys.stderr
            )
    if failed:
        print("the same command continues with what is missing", file=sys.stderr)
        return failed[0].status
    if refused := sum(job.refused() for job in jobs):
        print(
            f"pool.sh: {refused} of the runs were already finished with other settings and are kept. To repeat all "
            "runs, add --overwrite; to write to another place, set OUTPUT=FOLDER.",
            file=sys.stderr,
        )
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
