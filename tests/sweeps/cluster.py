"""For the tests of cluster engines: a repository whose train.py is fast, and calls of it."""

from pathlib import Path

from dassl import program
from sweeps.calls import Call

REPO = Path(__file__).parents[2]
TRAIN = f"""
import json, os, signal, sys, time
sys.path.insert(0, {str(REPO)!r})
from dassl import program
program.begin()
from dassl.runs.folder import hold, leave_output


@program.entry
def main():
    words = dict(zip(sys.argv[1::2], sys.argv[2::2]))
    folder = words["--output-dir"]
    os.makedirs(folder, exist_ok=True)
    hold(folder)
    with open(folder + "/attempts", "a") as stream:
        stream.write(f"{{os.getpid()}} {{os.environ.get('RAY_RAYLET_PID', '')}}\\n")
    attempt = len(open(folder + "/attempts").readlines())
    print("output of attempt", attempt)
    try:
        if attempt == 1:
            until = time.monotonic() + float(words.get("FIRST_SECONDS", 0))
            while time.monotonic() < until:
                program.check()
                time.sleep(0.05)
        if int(words.get("STATUS", 0)) == 2:
            from dassl.utils import UserError
            raise UserError("a user's mistake")
        if int(words.get("STATUS", 0)):
            return int(words["STATUS"])
        environment = {{name: os.environ.get(name) for name in ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")}}
        with open(folder + "/results.json", "w") as stream:
            json.dump({{"status": "complete", "words": words, "environment": environment}}, stream)
    finally:
        leave_output()

sys.exit(main())
"""


def repository(folder):
    """A folder with train.py. KEY VALUE words: FIRST_SECONDS of its first attempt, exit STATUS."""
    folder.mkdir(parents=True)
    (folder / "train.py").write_text(TRAIN)
    return folder


def call(folder, *pairs, **values):
    return Call(folder, "Fake", REPO / "configs/x.yaml", REPO / "configs/y.yaml", 1, pairs, folder.name, **values)


def attempts(call):
    """The processes that have tried to make a run."""
    path = call.folder / "attempts"
    return path.read_text().splitlines() if path.exists() else []


def parent_of(process):
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def alive(process):
    """Whether a process is running."""
    try:
        return not program._ended(int(process)) and Path(f"/proc/{int(process)}").exists()
    except OSError:
        return False
