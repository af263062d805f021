"""Launchers of linear probe, ProtoNet and the ensemble, and any launcher on each task of a suite separately."""

import os
import subprocess
import sys

import pytest

from scripts import suite_tasks
from tests.scripts.clone import REPOSITORY, split_arguments


def runs(clone):
    return [split_arguments(run) for run in clone.runs()]


def folders(clone):
    return [options["--output-dir"].removeprefix(f"{clone.folder}/output/") for options, _ in runs(clone)]


def test_linear_probe_runs_tasks_shots_and_seeds(clone):
    assert clone.sh("linearprob.sh", "plant6", "rn50", "0", SHOTS="1").returncode == 0
    done = clone.sh("linearprob.sh", "plant6", "rn50", "1", SEEDS="3")
    assert done.returncode == 0, done.stderr
    place = "plant6/LinearProbe/rn50_{}shots/task{}/seed{}"
    expected = [place.format(shots, task, 3) for task in (0, 1) for shots in (1, 2, 4, 8, 16)]
    assert folders(clone) == [place.format(1, 0, seed) for seed in (1, 2, 3)] + expected[1:]  # the first was there
    options, pairs = runs(clone)[-1]
    assert options["--trainer"] == "LinearProbe" and options["--seed"] == "3"
    assert pairs == {"DATASET.NUM_SHOTS": "16", "DATASET.SUBSAMPLE_TASKS": "task1"}


def test_linear_probe_of_a_task_that_is_not_there_runs_nothing(tmp_path):
    done = subprocess.run(
        ["sh", str(REPOSITORY / "scripts/linearprob.sh"), "icon5", "tiny", "5"],
        env={**os.environ, "PYTHON": sys.executable, "OUTPUT": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and not list(tmp_path.iterdir())
    assert done.stderr == 'linearprob.sh: MAXTASKID has to be the number of a task of icon5, 0 to 4, found "5"\n'


def test_linear_probe_of_all_tasks_at_once(clone):
    done = clone.sh("linearprob.sh", "icon5", "tiny", "TRAINER.LINEARPROBE.C", "0.5", SHOTS="2 4", SEEDS="1")
    assert done.returncode == 0, done.stderr
    assert folders(clone) == [f"icon5/LinearProbe/tiny_{shots}shots/seed1" for shots in (2, 4)]
    assert runs(clone)[0][1] == {"DATASET.NUM_SHOTS": "2", "TRAINER.LINEARPROBE.C": "0.5"}


@pytest.mark.parametrize("task", ["", "3"])
def test_protonet(clone, task):
    done = clone.sh("protonet.sh", "icon5", "tiny", "4", "euclidean", *task, SEEDS="1")
    assert done.returncode == 0, done.stderr
    [(options, pairs)] = runs(clone)
    assert options["--trainer"] == "ProtoNet"
    assert folders(clone) == [
        "icon5/ProtoNet/tiny_4shots/metriceuclidean" + (f"/task{task}" if task else "") + "/seed1"
    ]
    expected = {"DATASET.NUM_SHOTS": "4", "TRAINER.PROTONET.METRIC": "euclidean"}
    assert pairs == expected | ({"DATASET.SUBSAMPLE_TASKS": "task3"} if task else {})


def test_ensemble(clone):
    assert clone.sh("zeroshot2.sh", "plant6", "rn50", "5").returncode == 0
    assert clone.sh("zeroshot2_base2new.sh", "plant6", "rn50", "new").returncode == 0
    assert folders(clone) == ["ZeroshotCLIP2/rn50/plant6-5", "base2new/ZeroshotCLIP2/rn50/new/plant6"]
    assert [options["--trainer"] for options, _ in runs(clone)] == ["ZeroshotCLIP2"] * 2


LAUNCHERS = {
    "main_coop.sh icon5 tiny_ep20 4 16 False False": (
        "icon5/CoOp/tiny_ep20_4shots/nctx16_cscFalse_tscFalse/task{}/seed1"
    ),
    "main_prograd.sh icon5 tiny_ep20 4 16 1.0 False False": (
        "icon5/ProGrad/tiny_ep20_4shots/nctx16_lambda1.0_cscFalse_tscFalse/task{}/seed1"
    ),
    "main_mtcoop_hard.sh icon5 tiny_ep20 4 16 True False": (
        "icon5/MTCoOpHard/tiny_ep20_4shots/nctx16_cscTrue_tscFalse/task{}/seed1"
    ),
    "main_mtcoop_base2new_train.sh icon5 tiny_ep20 4 0 False 4 False 16 False lin 1": (
        "base2new/icon5/MTCoOp/tiny_ep20_4shots/cnctx0_ccscFalse_tnctx4_tcscFalse_nctx16_cscFalse_typelin_ratio1_loss"
        "/task{}/base/seed1"
    ),
    "main_mtcoop_cls_sample.sh icon5 tiny_ep20 4 4 False 4 False 16 True lin 1 0.1": (
        "../outputd/icon5/MTCoOp/tiny_ep20_4shots/"
        "cnctx4_ccscFalse_tnctx4_tcscFalse_nctx16_cscTrue_typelin_ratio1_loss_csr0.1/task{}/seed1"
    ),
    "linearprob.sh icon5 tiny": "icon5/LinearProbe/tiny_4shots/task{}/seed1",
    "zeroshot.sh icon5 tiny_ep20": "ZeroshotCLIP/tiny_ep20/icon5-{}",
}


@pytest.mark.parametrize(("command", "folder"), LAUNCHERS.items(), ids=[c.split()[0] for c in LAUNCHERS])
def test_any_launcher_for_each_task(clone, command, folder):
    def call(tasks):
        done = clone.sh("per_task.sh", *command.split(), "OPTIM.LR", "0.1", TASKS=tasks, SEEDS="1", SHOTS="4")
        assert done.returncode == 0, done.stderr
        return done.stdout

    out = call("0 4")
    assert "== task 0" in out and "== task 4" in out
    parent = f"{clone.folder}/output/"
    expected = [parent + folder.format(task) for task in (0, 4)]
    if folder.startswith("../"):
        expected = [f"{clone.folder}/{folder[3:].format(task)}" for task in (0, 4)]
    assert [options["--output-dir"] for options, _ in runs(clone)] == expected
    assert [pairs["DATASET.SUBSAMPLE_TASKS"] for _, pairs in runs(clone)] == ["task0", "task4"]
    assert {pairs["OPTIM.LR"] for _, pairs in runs(clone)} == {"0.1"}
    out = call("0 2 4")  # continues with the missing tasks
    assert out.count("skipped, already finished") == 2 and len(clone.runs()) == 3


@pytest.mark.parametrize(("command", "folder"), LAUNCHERS.items(), ids=[c.split()[0] for c in LAUNCHERS])
def test_a_task_given_as_a_setting_has_the_folder_of_that_task(clone, command, folder):
    for setting in (["DATASET.SUBSAMPLE_TASKS", "task3"], []):
        done = clone.sh(*command.split(), *setting, TASK="" if setting else "3", SEEDS="1", SHOTS="4")
        assert done.returncode == 0, done.stderr
    [(options, pairs)] = runs(clone)  # the second time it was there
    parent = f"{clone.folder}/outputd/" if folder.startswith("../") else f"{clone.folder}/output/"
    assert options["--output-dir"] == parent + folder.removeprefix("../outputd/").format(3)
    assert pairs["DATASET.SUBSAMPLE_TASKS"] == "task3"


COOP = "icon5 tiny_ep20 4 16 False True"
TASK_MISTAKES = {
    f"main_coop.sh {COOP} DATASET.SUBSAMPLE_TASKS faces,task2": "faces,task2 has no folder here. For one task",
    f"main_coop.sh {COOP} 1 DATASET.SUBSAMPLE_TASKS task2": "task2, but this is the folder of task 1: omit",
    "linearprob.sh icon5 tiny 4 DATASET.SUBSAMPLE_TASKS task2": "task2, but this is the folder of task 0: omit",
    f"per_task.sh main_coop.sh {COOP} DATASET.SUBSAMPLE_TASKS task2": "task2, but this is the folder of task 0: omit",
    "analysis_length.sh icon5 tiny_ep20 4 DATASET.SUBSAMPLE_TASKS task2": "this script runs all tasks of a suite",
    "demo.sh DATASET.SUBSAMPLE_TASKS task2": "these runs and their table cover a whole suite",
}


@pytest.mark.parametrize(("command", "message"), TASK_MISTAKES.items(), ids=[c.split()[0] for c in TASK_MISTAKES])
def test_tasks_without_a_folder_of_their_own_are_refused(clone, command, message):
    done = clone.sh(*command.split(), TASKS="0 2" if command.startswith("per_task") else "")
    assert done.returncode == 2 and clone.runs() == []
    assert "DATASET.SUBSAMPLE_TASKS" in done.stderr and message in done.stderr
    assert done.stderr.count("\n") == 1


def test_all_tasks_may_be_given_as_a_setting(clone):
    assert clone.sh("main_coop.sh", *COOP.split(), "DATASET.SUBSAMPLE_TASKS", "all", SEEDS="1").returncode == 0
    assert folders(clone) == ["icon5/CoOp/tiny_ep20_4shots/nctx16_cscFalse_tscTrue/seed1"]


def test_the_first_failure_stops(clone):
    arguments = ("per_task.sh", "protonet.sh", "icon5", "tiny", "4", "cosine")
    done = clone.sh(*arguments, TASKS="0 1", FAIL_SEED="2")
    assert done.returncode == 3 and len(clone.runs()) == 2


def test_a_launcher_that_does_not_know_tasks_runs_nothing(clone):
    script = clone.folder / "scripts/plain.sh"
    script.write_text(
        '. "$(dirname -- "$0")/lib.sh"\nTRAINER=ProtoNet\narguments "DATASET CFG" "icon5 tiny" "$@"\n'
        'run "$OUTPUT/output/plain" --seed 1\n'
    )
    done = clone.sh("per_task.sh", "plain.sh", "icon5", "tiny", TASKS="0 1")
    assert done.returncode == 2 and clone.runs() == []
    assert "TASK=0, but this script runs something else" in done.stderr
    done = clone.sh("protonet.sh", "icon5", "tiny", "4", "cosine", "3", TASK="1")
    assert done.returncode == 2 and "got another TASKID" in done.stderr


MISTAKES = [
    ("per_task.sh", "", {}, 'has to be a launcher in scripts/, e.g. main_coop.sh; found ""'),
    ("per_task.sh", "lib.sh icon5 tiny", {}, 'has to be a launcher in scripts/, e.g. main_coop.sh; found "lib.sh"'),
    ("per_task.sh", "protonet.sh icon7 tiny", {}, 'has to be a file of configs/datasets; found "icon7"'),
    ("per_task.sh", "protonet.sh icon5 tiny 4 cosine", {"TASK": "2"}, 'TASKS="2" restricts this script to it'),
    ("per_task.sh", "protonet.sh icon5 tiny 4 cosine", {"TASKS": "two"}, "TASK has to be the number of a task"),
    ("protonet.sh", "icon5 tiny 4 manhattan", {}, "METRIC has to be cosine or euclidean"),
    ("linearprob.sh", "icon5 tiny four", {}, '"four" is one argument too many'),
    ("linearprob.sh", "icon5 tiny 4", {"SHOTS": "1 few"}, 'found "few"'),
]


@pytest.mark.parametrize(("script", "arguments", "environment", "message"), MISTAKES, ids=[m[3][:40] for m in MISTAKES])
def test_mistakes(clone, script, arguments, environment, message):
    done = clone.sh(script, *arguments.split(), **environment)
    assert done.returncode == 2 and clone.runs() == []
    assert message in done.stderr


def test_usage_of_a_call_without_arguments(clone):
    asked, bare = clone.sh("per_task.sh", "--help"), clone.sh("per_task.sh")
    assert (asked.returncode, bare.returncode) == (0, 2)
    assert "sh per_task.sh main_coop.sh icon5 tiny_ep20 4 16 False False" in asked.stdout
    assert bare.stderr.startswith(asked.stdout)


def test_numbers_of_the_tasks_of_a_suite(capsys):
    def numbers(name, *arguments):
        status = suite_tasks.main([str(REPOSITORY / f"configs/datasets/{name}.yaml"), *arguments])
        return status, *capsys.readouterr()

    assert numbers("icon5", "tiny", "4", "OPTIM.LR", "0.1") == (0, "0 1 2 3 4\n", "")
    assert numbers("fashion20")[1].split() == [str(number) for number in range(20)]
    assert numbers("icon5", "tiny", "DATASET.TASKS", "[Icon13/faces, OxfordPets]") == (0, "0 1\n", "")
    status, _, err = numbers("icon5", "DATASET.TASKS", "[Icon13/noses]")
    assert status == 2 and "has no task 'noses'" in err
