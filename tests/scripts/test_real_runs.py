"""The launchers with the real train.py, on one task of the embedded suite."""

import json
import os
import subprocess
import sys

from tests.scripts.clone import REPOSITORY

ARGUMENTS = "icon5 tiny_ep20 1 0 False 4 False 16 False lin 1 OPTIM.MAX_EPOCH 1 DATASET.SUBSAMPLE_TASKS task2"


def sh(script, output, arguments):
    environment = {name: value for name, value in os.environ.items() if name != "YOUR_DATA_PATH"}
    environment |= {"PYTHON": sys.executable, "OUTPUT": str(output), "SEEDS": "1", "OMP_NUM_THREADS": "1"}
    command = ["sh", str(REPOSITORY / "scripts" / script), *arguments.split()]
    return subprocess.run(command, cwd=output, env=environment, capture_output=True, text=True, timeout=300)


def test_base_to_new_and_its_table(tmp_path):
    output = tmp_path / "some where"
    output.mkdir()
    for script in ("main_mtcoop_base2new_train.sh", "main_mtcoop_base2new_test.sh"):
        done = sh(script, output, ARGUMENTS)
        assert done.returncode == 0, done.stderr
    [new] = output.glob("output/base2new/icon5/MTCoOp/tiny_ep20_1shots/cnctx0_*_loss/task2/new/seed1/results.json")
    results = json.loads(new.read_text())
    assert (results["status"], results["protocol"], results["trainer"]) == ("complete", "new", "MTCoOp")
    assert [task["id"] for task in results["tasks"]] == [2]

    # finished: nothing is run again
    before = new.stat().st_mtime_ns
    done = sh("main_mtcoop_base2new_test.sh", output, ARGUMENTS)
    assert done.returncode == 0
    assert "skipped, already finished" in done.stdout
    assert new.stat().st_mtime_ns == before

    command = [sys.executable, str(REPOSITORY / "parse_test_res.py"), str(new.parents[1]), "--json"]
    parsed = json.loads(subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path).stdout)
    assert parsed["experiments"][0]["overall"]["mean"] == results["mean"]["value"]

    # the log alone, as the published parser reads it, says the same to its two decimals
    new.unlink()
    parsed = subprocess.run([*command, "--test-log"], check=True, capture_output=True, text=True, cwd=tmp_path).stdout
    assert abs(json.loads(parsed)["experiments"][0]["overall"]["mean"] - results["mean"]["value"]) < 0.00501


def test_each_task_by_itself_and_the_mean_of_the_suite(tmp_path):
    arguments = "icon5 tiny 1 euclidean DATASET.TASKS [Icon13/produce,Icon13/dishes]"
    done = sh("per_task.sh", tmp_path, f"protonet.sh {arguments}")
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "output/icon5/ProtoNet/tiny_1shots/metriceuclidean"
    results = [json.loads((folder / f"task{t}/seed1/results.json").read_text()) for t in (0, 1)]
    assert [task["key"] for run in results for task in run["tasks"]] == ["produce", "dishes"]
    command = [sys.executable, str(REPOSITORY / "parse_test_res.py"), str(folder), "--json", "--seeds", "1"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path)
    value = sum(run["mean"]["value"] for run in results) / 2
    assert abs(json.loads(done.stdout)["experiments"][0]["overall"]["mean"] - value) < 1e-9 and not done.stderr


def test_a_missing_dataset_is_one_message(tmp_path):
    done = sh("main_mtcoop_hard.sh", tmp_path, "plant6 tiny_ep20 1 16 False True DATASET.ROOT /nowhere")
    assert done.returncode == 2
    assert "/nowhere" in done.stderr
    assert "Traceback" not in done.stderr
