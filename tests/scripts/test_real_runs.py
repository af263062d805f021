"""The scripts with the real train.py, on one task of the embedded suite."""

import json
import os
import subprocess
import sys

import pytest

from sweeps.__main__ import main
from tests.reporting.written import parse
from tests.scripts.project import REPOSITORY, VARIABLES

ARGUMENTS = "icon5 tiny_ep20 1 0 False 4 False 16 False lin 1 OPTIM.MAX_EPOCH 1 DATASET.SUBSAMPLE_TASKS task2"


def sh(script, output, arguments):
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    environment |= {"PYTHON": sys.executable, "OUTPUT": str(output), "SEEDS": "1", "OMP_NUM_THREADS": "1"}
    command = ["sh", str(REPOSITORY / "scripts" / script), *arguments.split()]
    return subprocess.run(command, cwd=output, env=environment, capture_output=True, text=True, timeout=300)


@pytest.fixture
def here(monkeypatch):
    """Calls a script in this process: here(NAME, folder of the results, arguments, variable=value, ...)."""

    def call(name, output, arguments, **environment):
        for variable in VARIABLES:
            monkeypatch.delenv(variable, raising=False)
        for variable, value in {"OUTPUT": str(output), "SEEDS": "1", "OMP_NUM_THREADS": "1", **environment}.items():
            monkeypatch.setenv(variable, value)
        return main([name, *arguments.split()])

    return call


def test_base_to_new_and_its_table(tmp_path, here, capsys):
    output = tmp_path / "some where"
    output.mkdir()
    done = sh("main_mtcoop_base2new_train.sh", output, ARGUMENTS)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("starts: ") and "The results are in" in done.stdout  # the run's own words
    assert here("main_mtcoop_base2new_test", output, ARGUMENTS) == 0
    [new] = output.glob("output/base2new/icon5/MTCoOp/tiny_ep20_1shots/cnctx0_*_loss/task2/new/seed1/results.json")
    results = json.loads(new.read_text())
    assert (results["status"], results["protocol"], results["trainer"]) == ("complete", "new", "MTCoOp")
    assert [task["id"] for task in results["tasks"]] == [2]

    # finished: nothing is run again
    before = new.stat().st_mtime_ns
    capsys.readouterr()
    assert here("main_mtcoop_base2new_test", output, ARGUMENTS) == 0
    assert "skipped, already finished" in capsys.readouterr().out
    assert new.stat().st_mtime_ns == before

    parsed = json.loads(parse(capsys, new.parents[1], "--json")[1])
    assert parsed["experiments"][0]["overall"]["mean"] == results["mean"]["value"]

    # the log alone, as the published parser reads it, says the same to its two decimals
    new.unlink()
    parsed = json.loads(parse(capsys, new.parents[1], "--json", "--test-log")[1])
    assert abs(parsed["experiments"][0]["overall"]["mean"] - results["mean"]["value"]) < 0.00501


def test_each_task_by_itself_and_the_mean_of_the_suite(tmp_path, here, capsys):
    arguments = "icon5 tiny 1 euclidean DATASET.TASKS [Icon13/produce,Icon13/dishes]"
    assert here("per_task", tmp_path, f"protonet.sh {arguments}") == 0
    folder = tmp_path / "output/icon5/ProtoNet/tiny_1shots/metriceuclidean"
    results = [json.loads((folder / f"task{t}/seed1/results.json").read_text()) for t in (0, 1)]
    assert [task["key"] for run in results for task in run["tasks"]] == ["produce", "dishes"]
    capsys.readouterr()
    status, out, err = parse(capsys, folder, "--json", "--seeds", 1)
    value = sum(run["mean"]["value"] for run in results) / 2
    assert abs(json.loads(out)["experiments"][0]["overall"]["mean"] - value) < 1e-9 and (status, err) == (0, "")


def test_a_missing_dataset_is_one_message(tmp_path):
    done = sh("main_mtcoop_hard.sh", tmp_path, "plant6 tiny_ep20 1 16 False True DATASET.ROOT /nowhere")
    assert done.returncode == 2
    assert "/nowhere" in done.stderr
    assert "Traceback" not in done.stderr and "see its message above" in done.stderr


def test_forked_runs_and_others_have_the_same_numbers(tmp_path, here):
    numbers = []
    for preload, seeds in (("True", "1 2"), ("False", "2")):
        settings = "OPTIM.MAX_EPOCH 1 DATALOADER.FEATURE_BANK False DATASET.TASKS [Icon13/produce]"
        where = {"SEEDS": seeds, "METHODS": "CoOp-CA", "SHOTS": "1", "JOBS": "2", "PRELOAD": preload}
        assert here("all_methods", tmp_path / preload, f"icon5 tiny_ep20 {settings}", **where) == 0
        found = sorted((tmp_path / preload).rglob("results.json"))
        numbers.append([json.loads(path.read_text())["tasks"] for path in found])
    assert [len(each) for each in numbers] == [2, 1] and numbers[0][1] == numbers[1][0]
