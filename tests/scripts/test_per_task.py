"""Launchers of linear probe, ProtoNet and the ensemble, and any launcher on each task of a suite separately."""

import pytest

from sweeps.requests import suite_tasks
from tests.scripts.project import split_arguments


def runs(project):
    return [split_arguments(run) for run in project.runs()]


def folders(project):
    return [options["--output-dir"].removeprefix(f"{project.folder}/output/") for options, _ in runs(project)]


def test_linear_probe_runs_tasks_shots_and_seeds(project):
    assert project.sh("linearprob.sh", "plant6", "rn50", "0", SHOTS="1").returncode == 0
    done = project.sh("linearprob.sh", "plant6", "rn50", "1", SEEDS="3")
    assert done.returncode == 0, done.stderr
    place = "plant6/LinearProbe/rn50_{}shots/task{}/seed{}"
    expected = [place.format(shots, task, 3) for task in (0, 1) for shots in (1, 2, 4, 8, 16)]
    assert folders(project) == [place.format(1, 0, seed) for seed in (1, 2, 3)] + expected[1:]  # the first was there
    options, pairs = runs(project)[-1]
    assert options["--trainer"] == "LinearProbe" and options["--seed"] == "3"
    assert pairs == {"DATASET.NUM_SHOTS": "16", "DATASET.SUBSAMPLE_TASKS": "task1"}


def test_linear_probe_of_a_task_that_is_not_there_runs_nothing(project):
    done = project.sh("linearprob.sh", "icon5", "tiny", "5")
    assert done.returncode == 2 and project.runs() == []
    assert done.stderr == 'linearprob.sh: MAXTASKID has to be the number of a task of icon5, 0 to 4, found "5"\n'


def test_linear_probe_of_all_tasks_at_once(project):
    done = project.sh("linearprob.sh", "icon5", "tiny", "TRAINER.LINEARPROBE.C", "0.5", SHOTS="2 4", SEEDS="1")
    assert done.returncode == 0, done.stderr
    assert folders(project) == [f"icon5/LinearProbe/tiny_{shots}shots/seed1" for shots in (2, 4)]
    assert runs(project)[0][1] == {"DATASET.NUM_SHOTS": "2", "TRAINER.LINEARPROBE.C": "0.5"}


@pytest.mark.parametrize("task", ["", "3"])
def test_protonet(project, task):
    done = project.sh("protonet.sh", "icon5", "tiny", "4", "euclidean", *task, SEEDS="1")
    assert done.returncode == 0, done.stderr
    [(options, pairs)] = runs(project)
    assert options["--trainer"] == "ProtoNet"
    assert folders(project) == [
        "icon5/ProtoNet/tiny_4shots/metriceuclidean" + (f"/task{task}" if task else "") + "/seed1"
    ]
    expected = {"DATASET.NUM_SHOTS": "4", "TRAINER.PROTONET.METRIC": "euclidean"}
    assert pairs == expected | ({"DATASET.SUBSAMPLE_TASKS": "task3"} if task else {})


def test_ensemble(project):
    assert project.sh("zeroshot2.sh", "plant6", "rn50", "5").returncode == 0
    assert project.sh("zeroshot2_base2new.sh", "plant6", "rn50", "new").returncode == 0
    assert folders(project) == ["ZeroshotCLIP2/rn50/plant6-5", "base2new/ZeroshotCLIP2/rn50/new/plant6"]
    assert [options["--trainer"] for options, _ in runs(project)] == ["ZeroshotCLIP2"] * 2


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
def test_any_launcher_for_each_task(project, command, folder):
    def call(tasks):
        done = project.sh("per_task.sh", *command.split(), "OPTIM.LR", "0.1", TASKS=tasks, SEEDS="1", SHOTS="4")
        assert done.returncode == 0, done.stderr
        return done.stdout

    out = call("0 4")
    assert out.count("starts: ") == 2
    parent = f"{project.folder}/output/"
    expected = [parent + folder.format(task) for task in (0, 4)]
    if folder.startswith("../"):
        expected = [f"{project.folder}/{folder[3:].format(task)}" for task in (0, 4)]
    assert [options["--output-dir"] for options, _ in runs(project)] == expected
    assert [pairs["DATASET.SUBSAMPLE_TASKS"] for _, pairs in runs(project)] == ["task0", "task4"]
    assert {pairs["OPTIM.LR"] for _, pairs in runs(project)} == {"0.1"}
    out = call("0 2 4")  # continues with the missing tasks
    assert out.count("skipped, already finished") == 2 and len(project.runs()) == 3


@pytest.mark.parametrize(("command", "folder"), LAUNCHERS.items(), ids=[c.split()[0] for c in LAUNCHERS])
def test_a_task_given_as_a_setting_has_the_folder_of_that_task(project, command, folder):
    for setting in (["DATASET.SUBSAMPLE_TASKS", "task3"], []):
        where = {} if setting else {"TASK": "3"}
        done = project.sh(*command.split(), *setting, SEEDS="1", SHOTS="4", **where)
        assert done.returncode == 0, done.stderr
    [(options, pairs)] = runs(project)  # the second time it was there
    parent = f"{project.folder}/outputd/" if folder.startswith("../") else f"{project.folder}/output/"
    assert options["--output-dir"] == parent + folder.removeprefix("../outputd/").format(3)
    assert pairs["DATASET.SUBSAMPLE_TASKS"] == "task3"


COOP = "icon5 tiny_ep20 4 16 False True"
TASK_MISTAKES = {
    f"main_coop.sh {COOP} DATASET.SUBSAMPLE_TASKS faces,task2": "faces,task2 has no folder here. For one task",
    f"main_coop.sh {COOP} 1 DATASET.SUBSAMPLE_TASKS task2": "task2, but this is the folder of task 1: omit",
    "linearprob.sh icon5 tiny 4 DATASET.SUBSAMPLE_TASKS task2": "task 2 is asked for, and tasks 0 to 4 (MAXTASKID)",
    f"per_task.sh main_coop.sh {COOP} DATASET.SUBSAMPLE_TASKS task2": "task2, but this is the folder of task 0: omit",
    "analysis_length.sh icon5 tiny_ep20 4 DATASET.SUBSAMPLE_TASKS task2": "their table cover a whole suite",
    "demo.sh DATASET.SUBSAMPLE_TASKS task2": "these runs and their table cover a whole suite",
}


@pytest.mark.parametrize(("command", "message"), TASK_MISTAKES.items(), ids=[c.split()[0] for c in TASK_MISTAKES])
def test_tasks_without_a_folder_of_their_own_are_refused(project, command, message):
    done = project.sh(*command.split(), **({"TASKS": "0 2"} if command.startswith("per_task") else {}))
    assert done.returncode == 2 and project.runs() == []
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_all_tasks_may_be_given_as_a_setting(project):
    assert project.sh("main_coop.sh", *COOP.split(), "DATASET.SUBSAMPLE_TASKS", "all", SEEDS="1").returncode == 0
    assert folders(project) == ["icon5/CoOp/tiny_ep20_4shots/nctx16_cscFalse_tscTrue/seed1"]


def test_the_first_failure_stops(project):
    arguments = ("per_task.sh", "protonet.sh", "icon5", "tiny", "4", "cosine")
    done = project.sh(*arguments, TASKS="0 1", FAIL_SEED="2")
    assert done.returncode == 3 and len(project.runs()) == 2


def test_a_launcher_that_does_not_know_tasks_runs_nothing(project):
    for script, *words in (("all_methods.sh", "icon5", "tiny_ep20"), ("demo.sh",), ("upt_table2.sh",)):
        done = project.sh(script, *words, TASK="0")
        assert done.returncode == 2 and "TASK=0 is set, which this script does not support" in done.stderr
    done = project.sh("per_task.sh", "demo.sh", "icon5", "tiny", TASKS="0 1")
    assert done.returncode == 2 and "has to be a launcher in scripts/" in done.stderr
    done = project.sh("protonet.sh", "icon5", "tiny", "4", "cosine", "3", TASK="1")
    assert done.returncode == 2 and "got another TASKID" in done.stderr


MISTAKES = [
    ("per_task.sh", "", {}, 'has to be a launcher in scripts/, e.g. main_coop.sh; found ""'),
    (
        "per_task.sh",
        "python.sh icon5 tiny",
        {},
        'has to be a launcher in scripts/, e.g. main_coop.sh; found "python.sh"',
    ),
    ("per_task.sh", "protonet.sh icon7 tiny", {}, 'has to be a file of configs/datasets; found "icon7"'),
    ("per_task.sh", "method.sh MaPLe icon7 tiny_ep20 4", {}, 'has to be a file of configs/datasets; found "icon7"'),
    ("per_task.sh", "protonet.sh icon5 tiny 4", {}, "protonet.sh: METRIC is missing"),
    ("per_task.sh", "protonet.sh icon5 tiny 4 cosine", {"TASK": "2"}, 'TASKS="2" restricts this script to it'),
    ("per_task.sh", "protonet.sh icon5 tiny 4 cosine", {"TASKS": "two"}, "TASK has to be the number of a task"),
    ("protonet.sh", "icon5 tiny 4 manhattan", {}, "METRIC has to be cosine or euclidean"),
    ("linearprob.sh", "icon5 tiny four", {}, '"four" is one argument too many'),
    ("linearprob.sh", "icon5 tiny 4", {"SHOTS": "1 few"}, 'found "few"'),
]


@pytest.mark.parametrize(("script", "arguments", "environment", "message"), MISTAKES, ids=[m[3][:40] for m in MISTAKES])
def test_mistakes(project, script, arguments, environment, message):
    done = project.sh(script, *arguments.split(), **environment)
    assert done.returncode == 2 and project.runs() == []
    assert message in done.stderr


def test_usage_of_a_call_without_arguments(project):
    asked, bare = project.sh("per_task.sh", "--help"), project.sh("per_task.sh")
    assert (asked.returncode, bare.returncode) == (0, 2)
    assert "sh per_task.sh main_coop.sh icon5 tiny_ep20 4 16 False False" in asked.stdout
    assert bare.stderr.startswith(asked.stdout)


def test_numbers_of_the_tasks_of_a_suite(project):
    assert suite_tasks("icon5", ("OPTIM.LR", "0.1")) == [0, 1, 2, 3, 4]
    assert suite_tasks("fashion20", ()) == list(range(20))
    assert suite_tasks("icon5", ("DATASET.TASKS", "[Icon13/faces, OxfordPets]")) == [0, 1]
    words = ["protonet.sh", "icon5", "tiny", "4", "cosine", "DATASET.TASKS"]
    done = project.sh("per_task.sh", *words, "[Icon13/noses]")
    assert done.returncode == 2 and "has no task 'noses'" in done.stderr and project.runs() == []
    done = project.sh("per_task.sh", *words, "[Icon13/faces,Icon13/dishes]", SEEDS="1")
    assert done.returncode == 0 and len(project.runs()) == 2
