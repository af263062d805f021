"""Runs as SLURM arrays, with submitit's debug executor and stand-ins for SLURM's commands. Skipped without submitit:

pip install -r requirements-slurm.txt && python -m pytest -q tests/sweeps/test_slurm.py
"""

import os
import signal
import stat
import time

import pytest

submitit = pytest.importorskip("submitit", reason="submitit is not installed (requirements-slurm.txt)")

import sweep  # noqa: E402
from dassl.utils import UserError  # noqa: E402
from sweeps import slurm  # noqa: E402
from sweeps.slurm import Pack, Request, Slurm  # noqa: E402
from sweeps.task import Origin  # noqa: E402
from sweeps.work import DONE, FAILED, SKIPPED, Display, work  # noqa: E402

from .cluster import attempts, call, parent_of, repository  # noqa: E402

# Stand-ins: sbatch starts the elements of an array in the background, sacct and scontrol read and write $SLURM_STATE.
SBATCH = """#!/bin/sh
id=$(($(ls "$SLURM_STATE" | grep -c '[.]sh$') + 100)); cp "$1" "$SLURM_STATE/$id.sh"
range=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "$1")
for index in $(seq 0 "${range:-0}"); do
    name=$id; [ -n "$range" ] && name=${id}_$index
    echo RUNNING > "$SLURM_STATE/$name.state"
    setsid "$SLURM_STATE/../bin/element" "$id" "$name" "$range" "$index" > /dev/null 2>&1 &
done
echo "Submitted batch job $id"
"""
ELEMENT = """#!/bin/sh
export SLURM_JOB_ID=$1 SLURM_JOB_NUM_NODES=1 SLURM_NTASKS=1
[ -n "$3" ] && export SLURM_ARRAY_JOB_ID=$1 SLURM_ARRAY_TASK_ID=$4
echo $$ > "$SLURM_STATE/$2.pid"
while :; do
    rm -f "$SLURM_STATE/$2.requeue"
    bash "$SLURM_STATE/$1.sh"
    [ -e "$SLURM_STATE/$2.requeue" ] || break
done
echo COMPLETED > "$SLURM_STATE/$2.state"
"""
SACCT = """#!/bin/sh
echo 'JobID|State|NodeList'
for file in "$SLURM_STATE"/*.state; do echo "$(basename "$file" .state)|$(cat "$file")|here"; done
"""
SCONTROL = """#!/bin/sh
[ "$1" = requeue ] && touch "$SLURM_STATE/$2.requeue" "$SLURM_STATE/requeued"
"""
SRUN = """#!/bin/sh
while [ "${1#--}" != "$1" ]; do
    case $1 in
        --unbuffered) shift;;
        --output) log=$2; shift 2;;
        *) shift 2;;
    esac
done
log=$(echo "$log" | sed "s/%j/$SLURM_JOB_ID/; s/%A/$SLURM_ARRAY_JOB_ID/; s/%a/$SLURM_ARRAY_TASK_ID/; s/%t/0/")
exec "$@" >> "$log" 2>&1
"""


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """Stand-ins on PATH; the folder of their state."""
    folder, state = tmp_path / "bin", tmp_path / "state"
    folder.mkdir()
    state.mkdir()
    texts = {"sbatch": SBATCH, "element": ELEMENT, "sacct": SACCT, "scontrol": SCONTROL, "srun": SRUN}
    for name, text in texts.items():
        (folder / name).write_text(text)
        (folder / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_STATE", str(state))
    monkeypatch.setattr(slurm, "GRACE", 1.0)
    slurm.SlurmJob.watcher.clear()
    return state


@pytest.fixture
def engine(commands, tmp_path):
    def make(**request):
        engine = Slurm(tmp_path / "files", Request(**request))
        engine.origin = Origin(str(tmp_path / "repository"))
        return engine

    repository(tmp_path / "repository")
    return make


def until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    assert condition()


def arrays(state):
    """Numbers of elements of the arrays that were submitted."""
    texts = [path.read_text() for path in sorted(state.glob("*.sh"))]
    return [int(text.split("--array=0-")[1].split("%")[0]) + 1 if "--array" in text else 1 for text in texts]


def test_runs_are_packed_into_one_array(engine, commands, tmp_path):
    calls = [call(tmp_path / f"run{number}") for number in range(5)]
    calls[3] = call(tmp_path / "run3", "STATUS", "5")
    jobs = work(calls, engine(pack=2), Display())
    assert [job.state for job in jobs] == [DONE, DONE, DONE, FAILED, DONE]
    assert jobs[3].status == 5 and "output of attempt 1" in jobs[3].lines and jobs[0].seconds > 0
    assert arrays(commands) == [3] and all(len(attempts(each)) == 1 for each in calls)
    assert not list((tmp_path / "files").glob("*.runs.json"))


def test_a_users_mistake_comes_back(engine, tmp_path):
    (job,) = work([call(tmp_path / "run", "STATUS", "2")], engine(), Display())
    assert (job.state, job.status, job.lines[-1]) == (FAILED, 2, "error: a user's mistake")


def test_the_same_command_waits_for_jobs_of_an_interrupted_one(engine, commands, tmp_path, capsys):
    calls = [call(tmp_path / f"run{number}", "FIRST_SECONDS", "4") for number in range(2)]
    first = engine()
    first.ended = lambda: first.submit() or (_ for _ in ()).throw(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        work(calls, first, Display())
    assert "scancel 100" in capsys.readouterr().err
    second = engine()
    assert len(second.earlier) == 2
    assert {job.state for job in work(calls, second, Display())} <= {DONE, SKIPPED}
    assert arrays(commands) == [2] and all(len(attempts(each)) == 1 for each in calls)
    assert engine().earlier == {}


@pytest.mark.parametrize("sigterm", [False, True])
def test_a_preempted_job_continues(engine, commands, tmp_path, sigterm):
    """SLURM sends USR2 to all processes of a job, and perhaps SIGTERM before."""
    calls = [call(tmp_path / "done"), call(tmp_path / "run", "FIRST_SECONDS", "600")]
    preempting = engine(pack=2)

    def ended(usual=preempting.ended):
        found = usual()
        if attempts(calls[1]) and not any(commands.glob("*.preempted")):
            (commands / "1.preempted").touch()
            child = int(attempts(calls[1])[0].split()[0])
            parent = parent_of(child)
            for number in [signal.SIGTERM] * sigterm + [signal.SIGUSR2]:
                os.kill(parent, number)
                os.kill(child, number)
        return found

    preempting.ended = ended
    assert [job.state for job in work(calls, preempting, Display())] == [DONE, DONE]
    assert len(attempts(calls[1])) == 2 and (commands / "requeued").exists()


def test_a_job_that_is_lost_is_a_failure_of_its_open_runs(engine, commands, tmp_path):
    calls = [call(tmp_path / "done"), call(tmp_path / "run", "FIRST_SECONDS", "600")]
    lost = engine(pack=2)

    def ended(usual=lost.ended):
        if attempts(calls[1]) and not (commands / "killed").exists():
            (commands / "killed").touch()
            os.killpg(int((commands / "100.pid").read_text()), signal.SIGKILL)
            (commands / "100.state").write_text("NODE_FAIL\n")
        return usual()

    lost.ended = ended
    first, second = work(calls, lost, Display())
    assert (first.state, second.state) == (DONE, FAILED)
    assert "the SLURM job 100 ended with state NODE_FAIL" in second.lines[-1]


def test_a_refused_submission_is_one_error(engine, commands, tmp_path):
    (commands.parent / "bin" / "sbatch").write_text("#!/bin/sh\necho 'sbatch: error: invalid partition' >&2\nexit 1\n")
    with pytest.raises(UserError, match="(?s)SLURM does not accept the jobs.*invalid partition"):
        work([call(tmp_path / "run")], engine(partition="no"), Display())


def test_without_slurm_there_is_one_error(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="needs a machine that submits jobs to SLURM"):
        Slurm(tmp_path / "files", Request())


def test_debug_executor(tmp_path):
    engine = Slurm(tmp_path / "files", Request(pack=3), cluster="debug")
    engine.origin = Origin(str(repository(tmp_path / "repository")))
    handlers = {number: signal.getsignal(number) for number in (signal.SIGUSR2, signal.SIGTERM)}
    assert {job.state for job in work([call(tmp_path / f"run{n}") for n in range(4)], engine, Display())} == {DONE}
    assert handlers == {number: signal.getsignal(number) for number in handlers}


def test_parts_of_a_gpu_are_runs_side_by_side(tmp_path):
    assert [Request(pack=8, gpus=gpus).beside for gpus in (0, 1, 0.5, 0.25, 0.05)] == [1, 1, 2, 4, 8]
    origin = Origin(str(repository(tmp_path / "repository")))
    calls = [call(tmp_path / f"run{number}", "FIRST_SECONDS", "2") for number in range(3)]
    ended = Pack([each.words() for each in calls], origin, beside=3)()
    assert [each.status for each in ended] == [0, 0, 0]
    times = [(each.folder / "attempts").stat().st_mtime for each in calls]
    assert max(times) - min(times) < 2  # begun before the first has ended


def test_script_asks_for_what_the_options_say(tmp_path):
    text = Request(pack=10, cpus=2, gpus=0.25, minutes=90, partition="short", most=40).script(95, tmp_path)
    for line in ("array=0-9%10", "cpus-per-task=8", "gpus-per-node=1", "time=90", "partition=short"):
        assert f"#SBATCH --{line}\n" in text
    assert "array=0-999%1000" in Request().script(5000, tmp_path) and "gpus" not in Request().script(1, tmp_path)


def test_dry_run_prints_the_script(tmp_path, monkeypatch, capsys):
    words = ["embedded", "--rows", "ZeroshotCLIP", "--shots", "1", "--engine", "slurm", "--pack", "4", "--dry-run"]
    monkeypatch.setenv("OUTPUT", str(tmp_path))
    assert sweep.main(words) == 0
    out = capsys.readouterr().out
    assert "# #SBATCH --time=60" in out and f"submitit.core._submit {tmp_path}/output/slurm" in out
    commands = [line for line in out.splitlines() if not line.startswith("#")]
    assert len(commands) == 1 and "train.py" in commands[0] and not list(tmp_path.iterdir())
