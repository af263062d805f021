"""Every published command: what train.py is given, and which folder the results go to."""

import json
import os
import re
import shutil
import subprocess

import pytest

from tests.scripts.clone import REPOSITORY, split_arguments

SCRIPTS = sorted(path.name for path in (REPOSITORY / "scripts").glob("*.sh"))
SHELLS = [shell for shell in (["sh"], ["dash"], ["bash", "--posix"], ["busybox", "sh"]) if shutil.which(shell[0])]


def hard(n_ctx, csc, tsc):
    return {"N_CTX": n_ctx, "CSC": csc, "TSC": tsc}


def soft(class_n_ctx, class_csc, task_n_ctx, task_csc, n_ctx, csc, pg_type, pg_ratio, **more):
    names = ("CLASS_N_CTX", "CLASS_CSC", "TASK_N_CTX", "TASK_CSC", "N_CTX", "CSC", "PG_TYPE", "PG_RATIO")
    values = (class_n_ctx, class_csc, task_n_ctx, task_csc, n_ctx, csc, pg_type, pg_ratio)
    return {**dict(zip(names, values, strict=True)), **more}


NATA = soft("0", "False", "4", "False", "16", "False", "lin", "1")
NATS = soft("0", "False", "4", "True", "16", "False", "lin", "1")
CSTA = soft("4", "True", "4", "False", "16", "True", "lin", "1")
NATA_FOLDER = "cnctx0_ccscFalse_tnctx4_tcscFalse_nctx16_cscFalse_typelin_ratio1_loss"
CSTA_FOLDER = "cnctx4_ccscTrue_tnctx4_tcscFalse_nctx16_cscTrue_typelin_ratio1_loss"

# command, trainer, settings of the method, folder
TRAINING = [
    (
        "main_mtcoop_hard.sh general10 rn50_ep50 16 16 False False",
        hard("16", "False", "False"),
        "output/general10/MTCoOpHard/rn50_ep50_16shots/nctx16_cscFalse_tscFalse",
    ),
    (
        "main_mtcoop_hard.sh general10 rn50_ep50 1 16 False True",
        hard("16", "False", "True"),
        "output/general10/MTCoOpHard/rn50_ep50_1shots/nctx16_cscFalse_tscTrue",
    ),
    (
        "main_mtcoop_hard.sh general10 rn50_ep50 2 16 True False",
        hard("16", "True", "False"),
        "output/general10/MTCoOpHard/rn50_ep50_2shots/nctx16_cscTrue_tscFalse",
    ),
    (
        "main_mtcoop.sh general10 rn50_ep50 8 0 False 4 False 16 False lin 1",
        NATA,
        f"output/general10/MTCoOp/rn50_ep50_8shots/{NATA_FOLDER}",
    ),
    (
        "main_mtcoop.sh general10 rn50_ep50 4 0 False 4 True 16 False lin 1",
        NATS,
        "output/general10/MTCoOp/rn50_ep50_4shots/cnctx0_ccscFalse_tnctx4_tcscTrue_nctx16_cscFalse_typelin_ratio1_loss",
    ),
    (
        "main_mtcoop.sh plant6 rn50_ep50 4 4 True 4 False 16 True lin 1",
        CSTA,
        f"output/plant6/MTCoOp/rn50_ep50_4shots/{CSTA_FOLDER}",
    ),
    (
        "main_mtcoop_cls_sample.sh general10 rn50_ep50 4 4 True 4 False 16 True lin 1 0.1",
        {**CSTA, "CLS_SAMPLE_RATE": "0.1"},
        f"outputd/general10/MTCoOp/rn50_ep50_4shots/{CSTA_FOLDER}_csr0.1",
    ),
    (
        "main_mtcoop_base2new_train.sh general10 rn50_ep50 4 0 False 4 False 16 False lin 1",
        NATA,
        f"output/base2new/general10/MTCoOp/rn50_ep50_4shots/{NATA_FOLDER}/base",
    ),
]


@pytest.mark.parametrize(("command", "settings", "folder"), TRAINING, ids=[row[0][:40] for row in TRAINING])
def test_training_commands(clone, command, settings, folder):
    script, *arguments = command.split()
    done = clone.sh(script, *arguments)
    assert done.returncode == 0, done.stderr
    trainer = "MTCoOpHard" if "hard" in script else "MTCoOp"
    prefix = "TRAINER.MTCOOPH." if "hard" in script else "TRAINER.MTCOOP."
    dataset, config, shots = arguments[:3]

    runs = [split_arguments(run) for run in clone.runs()]
    assert [options["--seed"] for options, _ in runs] == ["1", "2", "3"]
    for options, pairs in runs:
        assert options == {
            "--root": f"{clone.folder}/data",
            "--seed": options["--seed"],
            "--trainer": trainer,
            "--dataset-config-file": f"{clone.folder}/configs/datasets/{dataset}.yaml",
            "--config-file": f"{clone.folder}/configs/trainers/{trainer}/{config}.yaml",
            "--output-dir": f"{clone.folder}/{folder}/seed{options['--seed']}",
        }
        expected = {prefix + name: value for name, value in settings.items()}
        if "base2new" in script:
            expected["DATASET.SUBSAMPLE_CLASSES"] = "base"
        assert pairs == {"DATASET.NUM_SHOTS": shots, **expected}


ZEROSHOT = [
    ("zeroshot.sh plant6 rn50 5", "output/ZeroshotCLIP/rn50/plant6-5", "task5", None),
    ("zeroshot.sh fashion20 rn50 0", "output/ZeroshotCLIP/rn50/fashion20-0", "task0", None),
    ("zeroshot.sh plant6 rn50", "output/ZeroshotCLIP/rn50/plant6", "all", None),
    ("zeroshot_base2new.sh plant6 rn50 3 base", "output/base2new/ZeroshotCLIP/rn50/base/plant6-3", "task3", "base"),
    ("zeroshot_base2new.sh plant6 rn50 3 new", "output/base2new/ZeroshotCLIP/rn50/new/plant6-3", "task3", "new"),
    ("zeroshot_base2new.sh plant6 rn50 new", "output/base2new/ZeroshotCLIP/rn50/new/plant6", "all", "new"),
]


@pytest.mark.parametrize(("command", "folder", "tasks", "classes"), ZEROSHOT, ids=[row[0] for row in ZEROSHOT])
def test_zeroshot_commands(clone, command, folder, tasks, classes):
    script, *arguments = command.split()
    done = clone.sh(script, *arguments)
    assert done.returncode == 0, done.stderr
    [run] = clone.runs()
    options, pairs = split_arguments(run)
    assert options["--trainer"] == "ZeroshotCLIP"
    assert "--eval-only" in options
    assert options["--output-dir"] == f"{clone.folder}/{folder}"
    assert options["--config-file"] == f"{clone.folder}/configs/trainers/ZeroshotCLIP/rn50.yaml"
    expected = {"DATASET.SUBSAMPLE_TASKS": tasks}
    if classes:
        expected["DATASET.SUBSAMPLE_CLASSES"] = classes
    assert pairs == expected


BASE2NEW = ["icon5", "tiny_ep20", "4", "0", "False", "4", "False", "16", "False", "lin", "1"]


def test_new_classes_are_tested_with_the_base_model_at_its_last_epoch(clone):
    assert clone.sh("main_mtcoop_base2new_train.sh", *BASE2NEW, SEEDS="1 2").returncode == 0
    done = clone.sh("main_mtcoop_base2new_test.sh", *BASE2NEW, SEEDS="1 2")
    assert done.returncode == 0, done.stderr
    parent = f"{clone.folder}/output/base2new/icon5/MTCoOp/tiny_ep20_4shots/{NATA_FOLDER}"
    for seed, run in zip("12", clone.runs()[2:], strict=True):
        options, pairs = split_arguments(run)
        assert options["--model-dir"] == f"{parent}/base/seed{seed}"
        assert options["--load-epoch"] == "20"  # what results.json says, not the published 50
        assert options["--output-dir"] == f"{parent}/new/seed{seed}"
        assert "--eval-only" in options
        assert pairs["DATASET.SUBSAMPLE_CLASSES"] == "new"


def test_new_classes_are_tested_again_with_another_base_model(clone):
    assert clone.sh("main_mtcoop_base2new_train.sh", *BASE2NEW, SEEDS="1").returncode == 0
    assert clone.sh("main_mtcoop_base2new_test.sh", *BASE2NEW, SEEDS="1").returncode == 0
    assert clone.sh("main_mtcoop_base2new_test.sh", *BASE2NEW, SEEDS="1").returncode == 0
    assert len(clone.runs()) == 2
    parent = clone.folder / f"output/base2new/icon5/MTCoOp/tiny_ep20_4shots/{NATA_FOLDER}"
    later = (parent / "new/seed1/results.json").stat().st_mtime + 10
    os.utime(parent / "base/seed1/results.json", (later, later))
    done = clone.sh("main_mtcoop_base2new_test.sh", *BASE2NEW, SEEDS="1")
    assert done.returncode == 0, done.stderr
    assert "--overwrite" in clone.runs()[2]


def test_new_classes_without_a_finished_base_run(clone):
    done = clone.sh("main_mtcoop_base2new_test.sh", *BASE2NEW)
    assert done.returncode == 2
    assert "base/seed1" in done.stderr
    assert "first run main_mtcoop_base2new_train.sh" in done.stderr
    assert clone.runs() == []


def test_environment_and_extra_pairs(clone):
    done = clone.sh(
        "main_mtcoop_hard.sh",
        *["icon5", "tiny_ep20", "4", "16", "False", "True", "OPTIM.LR", "0.01", "SEED", "7", "TRAINER.MyMethod.NAME"],
        "two words",
        SEEDS="0 12",
        OUTPUT="out here",
        YOUR_DATA_PATH="my data",
    )
    assert done.returncode == 0, done.stderr
    runs = [split_arguments(run) for run in clone.runs()]
    assert [options["--seed"] for options, _ in runs] == ["0", "12"]
    options, pairs = runs[1]
    # relative to where the script was called
    assert options["--root"] == f"{clone.record}/my data"
    assert options["--output-dir"].startswith(f"{clone.record}/out here/output/icon5/")
    assert pairs["OPTIM.LR"] == "0.01"
    assert pairs["TRAINER.MyMethod.NAME"] == "two words"
    assert (clone.record / "out here/output").is_dir()


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_shells(clone, shell):
    for script in SCRIPTS:
        subprocess.run([*shell, "-n", str(clone.folder / "scripts" / script)], check=True)
    folder = clone.folder / "scripts"
    arguments = ["icon5", "tiny_ep20", "4", "16", "False", "True"]
    done = clone.sh("main_mtcoop_hard.sh", *arguments, cwd=folder, shell=shell, SEEDS="1")
    assert done.returncode == 0, done.stderr
    assert len(clone.runs()) == 1
    assert clone.sh("zeroshot.sh", "icon5", "nothing", shell=shell).returncode == 2


HARD = ["icon5", "tiny_ep20", "4", "16", "False", "True"]
HARD_FOLDER = "output/icon5/MTCoOpHard/tiny_ep20_4shots/nctx16_cscFalse_tscTrue"


def test_finished_runs_are_skipped_and_others_go_on(clone):
    folder = clone.folder / HARD_FOLDER
    for seed, status in ((1, "complete"), (2, "running")):
        (folder / f"seed{seed}").mkdir(parents=True)
        (folder / f"seed{seed}/results.json").write_text(json.dumps({"status": status}))
    (folder / "seed3").mkdir()  # a folder alone is not a result
    done = clone.sh("main_mtcoop_hard.sh", *HARD)
    assert done.returncode == 0, done.stderr
    assert [split_arguments(run)[0]["--seed"] for run in clone.runs()] == ["2", "3"]
    assert f"skipped, already finished: {folder}/seed1" in done.stdout
    assert f"resumes: {folder}/seed2" in done.stdout
    assert f"starts: {folder}/seed3" in done.stdout
    assert clone.sh("main_mtcoop_hard.sh", *HARD).returncode == 0
    assert len(clone.runs()) == 2


def test_a_finished_run_with_other_settings_is_not_taken_for_this_one(clone):
    assert clone.sh("main_mtcoop_hard.sh", *HARD, SEEDS="1").returncode == 0
    done = clone.sh("main_mtcoop_hard.sh", *HARD, "OPTIM.LR", "0.5", SEEDS="1")
    assert done.returncode == 2
    assert "there: OPTIM.LR (not given)" in done.stderr
    assert "now:   OPTIM.LR 0.5" in done.stderr
    assert len(clone.runs()) == 1


def test_the_first_failure_stops_and_is_shown(clone):
    done = clone.sh("main_mtcoop_hard.sh", *HARD, FAIL_SEED="2")
    assert done.returncode == 3
    assert [split_arguments(run)[0]["--seed"] for run in clone.runs()] == ["1", "2"]
    assert f"failed with exit status 3: {clone.folder}/{HARD_FOLDER}/seed2" in done.stderr
    assert "log line 39" in done.stderr
    assert "log line 20" not in done.stderr
    assert "error: ValueError: the loss is nan" in done.stderr
    assert clone.sh("main_mtcoop_hard.sh", *HARD).returncode == 0
    assert [split_arguments(run)[0]["--seed"] for run in clone.runs()] == ["1", "2", "2", "3"]


def test_a_mistake_that_train_has_named_is_not_told_twice(clone):
    done = clone.sh("main_mtcoop_hard.sh", *HARD, FAIL_SEED="1", FAIL_STATUS="2")
    assert done.returncode == 2 and len(clone.runs()) == 1
    assert "failed with exit status 2" in done.stderr and "see its message above" in done.stderr
    assert "log line" not in done.stderr and "the loss is nan" not in done.stderr


def test_an_old_log_is_not_shown_for_a_run_that_wrote_none(clone):
    assert clone.sh("main_mtcoop_hard.sh", *HARD, FAIL_SEED="1").returncode == 3
    done = clone.sh("main_mtcoop_hard.sh", *HARD, REFUSE="1")
    assert done.returncode == 2
    assert "OPTIM.LRR: no such setting" in done.stderr
    assert "log line" not in done.stderr


def test_success_without_results_is_a_failure(clone):
    done = clone.sh("main_mtcoop_hard.sh", *HARD, SILENT="1")
    assert done.returncode == 1
    assert "did not write a complete results.json" in done.stderr
    assert len(clone.runs()) == 1


MISTAKES = [
    ("main_mtcoop.sh", "", "DATASET is missing"),
    ("main_mtcoop.sh", "icon5 tiny_ep20 4 0 False 4 False 16 False lin", "PG_RATIO is missing"),
    ("main_mtcoop.sh", "icon5 tiny_ep20 many 0 False 4 False 16 False lin 1", 'all images), found "many"'),
    ("main_mtcoop.sh", "icon6 tiny_ep20 4 0 False 4 False 16 False lin 1", 'file of configs/datasets, found "icon6"'),
    ("main_mtcoop.sh", "icon5 tiny 4 0 False 4 False 16 False lin 1", 'configs/trainers/MTCoOp, found "tiny"'),
    ("main_mtcoop.sh", "icon5 tiny_ep20 4 0 no 4 False 16 False lin 1", "CLASS_CSC has to be True or False"),
    ("main_mtcoop.sh", "icon5 tiny_ep20 4 0 False 4 False 16 False lin 1 0.1", '"0.1" is one argument too many'),
    ("main_mtcoop.sh", "icon5 tiny_ep20 4 0 False 4 False 16 False lin 1 OPTIM.LR", "OPTIM.LR has no value"),
    ("main_mtcoop_cls_sample.sh", "icon5 tiny_ep20 4 4 False 4 False 16 True lin 1", "CLS_SAMPLE_RATE is missing"),
    ("main_mtcoop_hard.sh", "icon5 tiny_ep20 4 16 False False True", '"True" is one argument too many'),
    ("zeroshot.sh", "icon5 tiny_ep20 faces", '"faces" is one argument too many'),
    ("zeroshot_base2new.sh", "icon5 tiny_ep20 2 old", 'CLASSES has to be base or new, found "old"'),
]  # fmt: skip


@pytest.mark.parametrize(("script", "arguments", "message"), MISTAKES, ids=[row[2][:40] for row in MISTAKES])
def test_mistakes_get_a_usage_text(clone, script, arguments, message):
    done = clone.sh(script, *arguments.split())
    assert done.returncode == 2
    assert message in done.stderr
    assert f"usage: sh {script} DATASET CFG" in done.stderr
    assert f"example: sh {script} icon5 tiny_ep20" in done.stderr
    assert "general10" in done.stderr  # the config files there are
    assert clone.runs() == []


def test_all_mistakes_at_once_with_the_values_found(clone):
    done = clone.sh("main_mtcoop_hard.sh", *["icon9", "tiny_ep20", "x", "16", "False", "True"], SEEDS="one")
    assert done.returncode == 2
    assert 'found "icon9"' in done.stderr
    assert 'found "x"' in done.stderr
    assert 'found "one"' in done.stderr
    assert "found: DATASET=icon9 CFG=tiny_ep20 SHOTS=x N_CTX=16 CSC=False TSC=True" in done.stderr


@pytest.mark.parametrize("script", ["all_methods", "demo", "per_task", "pool", "upt_table1", "upt_table2", "xd_test"])
def test_scripts_of_several_launchers_show_their_comment(clone, script):
    done = clone.sh(f"{script}.sh", "--help")
    assert (done.returncode, done.stderr, clone.runs()) == (0, "", [])
    head = (clone.folder / "scripts" / f"{script}.sh").read_text().split("\n\n")[0].splitlines()[1:]
    assert done.stdout.splitlines() == [line.removeprefix("#").removeprefix(" ") for line in head]


def test_help(clone):
    done = clone.sh("zeroshot.sh", "--help")
    assert done.returncode == 0
    assert "usage: sh zeroshot.sh DATASET CFG [TASKID] [KEY VALUE ...]" in done.stdout


@pytest.mark.parametrize(
    "script",
    [
        *(
            f"main_{name}"
            for name in [
                "mtcoop",
                "coop",
                "cocoop",
                "kgcoop",
                "plot",
                "prograd",
                "upt",
                "vpt",
                "mtupt",
                "mtcoop_cls_sample",
            ]
        ),
        "linearprob",
        "protonet",
        "zeroshot_base2new",
    ],
)
def test_help_explains_each_argument_with_its_values(clone, script):
    lines = clone.sh(f"{script}.sh", "-h").stdout.splitlines()
    usage = next(line for line in lines if line.startswith("usage: ")).split(" [KEY VALUE")[0].split()[3:]
    lines = lines[lines.index("arguments:") + 1 :]
    for name in (word.strip("[]") for word in usage):
        place = next(number for number, line in enumerate(lines) if line.startswith(f"    {name} "))
        assert len(lines[place].split(maxsplit=1)[1]) > 10 and len(lines[place + 1].strip()) > 5


def test_examples_name_config_files_that_exist():
    for path in (REPOSITORY / "scripts").glob("*.sh"):
        text = path.read_text()
        if "\nTRAINER=" not in text:
            continue
        trainer = next(line for line in text.splitlines() if line.startswith("TRAINER=")).split("=")[1]
        if path.name.endswith("_base2new_test.sh"):
            continue  # it has the arguments of the other half
        words = re.search(rf"^# +.*sh {path.name} (.+)", text, re.MULTILINE)[1].split()
        if trainer == "${1:-}":  # the name of the method is an argument
            trainer = words.pop(0)
        dataset, config = words[:2]
        assert (REPOSITORY / f"configs/datasets/{dataset}.yaml").is_file(), path
        assert (REPOSITORY / f"configs/trainers/{trainer}/{config}.yaml").is_file(), path
