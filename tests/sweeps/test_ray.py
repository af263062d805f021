"""Runs on a local Ray cluster of two nodes, with a fast train.py. Skipped without Ray; with it about two minutes:

pip install -r requirements-ray.txt && python -m pytest -q tests/sweeps/test_ray.py
"""

import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

ray = pytest.importorskip("ray", reason="Ray is not installed (requirements-ray.txt)")

import sweep  # noqa: E402
from dassl.utils import UserError  # noqa: E402
from sweeps import ray as engine_module  # noqa: E402
from sweeps.ray import Ray  # noqa: E402
from sweeps.task import Origin  # noqa: E402
from sweeps.work import DONE, FAILED, SKIPPED, Display, work  # noqa: E402

from .cluster import alive, attempts, call, parent_of, repository  # noqa: E402


@pytest.fixture(scope="module")
def cluster():
    from ray.cluster_utils import Cluster

    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    found.second = found.add_node(num_cpus=1)
    yield found
    ray.shutdown()
    found.shutdown()


@pytest.fixture
def engine(cluster, tmp_path):
    engine = Ray(cluster.address)
    engine.origin = Origin(str(repository(tmp_path / "repository")))
    yield engine
    ray.shutdown()


def until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    assert condition()


class Soon:
    """A thread that runs `action` once `condition` holds; its error is raised at the end of the block."""

    def __init__(self, condition, action):
        self.condition, self.action, self.error = condition, action, None

    def run(self):
        try:
            until(self.condition)
            self.action()
        except BaseException as error:
            self.error = error

    def __enter__(self):
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def __exit__(self, *_):
        self.thread.join()
        assert self.error is None


def nodes_of(calls):
    """Nodes, by the process of their raylet, on which runs were tried."""
    return {line.split()[1] for each in calls for line in attempts(each)}


def test_runs_are_made_on_both_nodes_and_finished_ones_are_skipped(engine, tmp_path):
    assert (engine.held, engine.slots) == (2, 4) and "2 nodes, 2 at a time" in str(engine)
    calls = [call(tmp_path / f"run{number}", "FIRST_SECONDS", "1") for number in range(6)]
    jobs = work(calls, engine, Display())
    assert [job.lines for job in jobs if job.state != DONE] == []
    assert all(len(attempts(each)) == 1 for each in calls)
    assert all(job.seconds >= 1 for job in jobs)
    assert len(nodes_of(calls)) == 2
    assert {job.state for job in work(calls, engine, Display())} == {SKIPPED}


def test_a_users_mistake_is_made_once_and_ends_the_sweep(engine, tmp_path):
    calls = [call(tmp_path / f"run{number}", "STATUS", "2") for number in range(20)]
    jobs = work(calls, engine, Display())
    failed = [job for job in jobs if job.state == FAILED]
    assert failed[0].status == 2 and failed[0].lines[-1] == "error: a user's mistake"
    assert all(len(attempts(each)) <= 1 for each in calls)
    assert len(failed) <= engine.slots  # those that were queued before


def test_other_failures_are_not_retried_and_the_others_are_made(engine, tmp_path):
    calls = [call(tmp_path / "bad", "STATUS", "5"), call(tmp_path / "good")]
    jobs = work(calls, engine, Display())
    assert [(job.state, job.status) for job in jobs] == [(FAILED, 5), (DONE, 0)]
    assert [len(attempts(each)) for each in calls] == [1, 1]


def test_a_run_of_a_crashed_worker_is_made_again(engine, tmp_path):
    run = call(tmp_path / "run", "FIRST_SECONDS", "600")

    def kill():
        child = attempts(run)[0].split()[0]
        worker = parent_of(child)
        assert worker != os.getpid()
        os.kill(worker, signal.SIGKILL)

    with Soon(lambda: attempts(run), kill):
        (job,) = work([run], engine, Display())
    assert job.state == DONE and len(attempts(run)) == 2  # the second waits for the lock of the first, which ends


def test_an_interruption_ends_the_runs_and_the_queue(engine, tmp_path):
    calls = [call(tmp_path / f"run{number}", "FIRST_SECONDS", "600") for number in range(4)]
    begun = lambda: sum(len(attempts(each)) for each in calls) == 2  # noqa: E731

    def interrupted(ended=engine.ended):
        if begun():
            raise KeyboardInterrupt
        return ended()

    engine.ended = interrupted
    with pytest.raises(KeyboardInterrupt):
        work(calls, engine, Display())
    assert begun() and not any(alive(line.split()[0]) for each in calls for line in attempts(each))


@pytest.mark.parametrize("request_, text", [({"gpus": 0.5}, "0.5 GPUs"), ({"cpus": 3}, "3 CPUs")])
def test_what_no_node_can_hold_is_refused_at_once(cluster, request_, text):
    with pytest.raises(UserError, match=f"no node of the Ray cluster can hold a run.*{text}"):
        Ray(cluster.address, **request_)
    ray.shutdown()


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:10001", "127.0.0.1"])
def test_a_wrong_address_is_an_error_at_once(address):
    with pytest.raises(UserError, match=f"cannot connect to the Ray cluster {address}"):
        Ray(address)


def test_results_that_are_not_visible_here_are_one_error(engine, tmp_path, monkeypatch):
    monkeypatch.setattr(engine_module, "VISIBLE", 1.0)
    monkeypatch.setattr(engine_module, "is_complete", lambda folder: False)
    calls = [call(tmp_path / f"run{number}") for number in range(20)]
    jobs = work(calls, engine, Display())
    failed = [job for job in jobs if job.state == FAILED]
    assert failed[0].status == 2 and "OUTPUT has to be a folder on a disk that all nodes" in failed[0].lines[0]
    assert len(failed) < len(calls)


def test_a_node_without_the_repository_uses_the_copy_of_the_code(cluster, tmp_path):
    engine = Ray(cluster.address)
    engine.origin = Origin("/nowhere/repository")
    run = replace(call(tmp_path / "run"), config=Path("/nowhere/repository/configs/x.yaml"))
    (job,) = work([run], engine, Display())
    ray.shutdown()
    missing = [line for line in job.lines if line.endswith("configs/x.yaml: no such file")]  # says the real train.py
    assert job.status == 2 and len(missing) == 1 and "/_ray_pkg_" in missing[0]


def test_sweep_refuses_gpus_that_the_cluster_does_not_have(cluster, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("OUTPUT", str(tmp_path))
    status = sweep.main(["embedded", "--engine", "ray", "--address", cluster.address, "--gpus-per-run", "0.25"])
    ray.shutdown()
    err = capsys.readouterr().err
    assert status == 2 and "no node of the Ray cluster can hold a run" in err
    assert len(err.strip().splitlines()) == 1 and not list(tmp_path.iterdir())


def test_runs_of_a_lost_node_are_made_on_another(engine, cluster, tmp_path):  # the last test: a node is gone
    calls = [call(tmp_path / f"run{number}", "FIRST_SECONDS", "4") for number in range(4)]

    def remove():
        cluster.remove_node(cluster.second, allow_graceful=False)

    with Soon(lambda: len(nodes_of(calls)) == 2, remove):
        jobs = work(calls, engine, Display())
    assert {job.state for job in jobs} == {DONE}
    assert sorted(len(attempts(each)) for each in calls) == [1, 1, 1, 2]
