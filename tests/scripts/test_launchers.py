"""Every published command: what train.py is given, and which folder the results go to."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from sweeps.launchers import LAUNCHERS
from sweeps.requests import SCRIPTS as CALLERS
from sweeps.scripts import PLANS
from tests.scripts.project import REPOSITORY, split_arguments

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
def test_training_commands(project, command, settings, folder):
    script, *arguments = command.split()
    done = project.sh(script, *arguments)
    assert done.returncode == 0, done.stderr
    trainer = "MTCoOpHard" if "hard" in script else "MTCoOp"
    prefix = "TRAINER.MTCOOPH." if "hard" in script else "TRAINER.MTCOOP."
    dataset, config, shots = arguments[:3]

    runs = [split_arguments(run) for run in project.runs()]
    assert [options["--seed"] for options, _ in runs] == ["1", "2", "3"]
    for options, pairs in runs:
        assert options == {
            "--root": f"{REPOSITORY}/data",
            "--seed": options["--seed"],
            "--trainer": trainer,
            "--dataset-config-file": f"{REPOSITORY}/configs/datasets/{dataset}.yaml",
            "--config-file": f"{REPOSITORY}/configs/trainers/{trainer}/{config}.yaml",
            "--output-dir": f"{project.folder}/{folder}/seed{options['--seed']}",
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
def test_zeroshot_commands(project, command, folder, tasks, classes):
    script, *arguments = command.split()
    done = project.sh(script, *arguments)
    assert done.returncode == 0, done.stderr
    [run] = project.runs()
    options, pairs = split_arguments(run)
    assert options["--trainer"] == "ZeroshotCLIP"
    assert "--eval-only" in options
    assert options["--output-dir"] == f"{project.folder}/{folder}"
    assert options["--config-file"] == f"{REPOSITORY}/configs/trainers/ZeroshotCLIP/rn50.yaml"
    expected = {"DATASET.SUBSAMPLE_TASKS": tasks}
    if classes:
        expected["DATASET.SUBSAMPLE_CLASSES"] = classes
    assert pairs == expected


BASE2NEW = ["icon5", "tiny_ep20", "4", "0", "False", "4", "False", "16", "False", "lin", "1"]


def test_new_classes_are_tested_with_the_base_model_at_its_last_epoch(project):
    assert project.sh("main_mtcoop_base2new_train.sh", *BASE2NEW, SEEDS="1 2").returncode == 0
    done = project.sh("main_mtcoop_base2new_test.sh", *BASE2NEW, SEEDS="1 2")
    assert done.returncode == 0, done.stderr
    parent = f"{project.folder}/output/base2new/icon5/MTCoOp/tiny_ep20_4shots/{NATA_FOLDER}"
    for seed, run in zip("12", project.runs()[2:], strict=True):
        options, pairs = split_arguments(run)
        assert options["--model-dir"] == f"{parent}/base/seed{seed}"
        assert options["--load-epoch"] == "20"  # what results.json says, not the published 50
        assert options["--output-dir"] == f"{parent}/new/seed{seed}"
        assert "--eval-only" in options
        assert pairs["DATASET.SUBSAMPLE_CLASSES"] == "new"


def test_new_classes_are_tested_again_with_another_base_model(project):
    assert project.sh("main_mtcoop_base2new_train.sh", *BASE2NEW, SEEDS="1").returncode == 0
    assert project.sh("main_mtcoop_base2new_test.sh", *BASE2NEW, SEEDS="1").returncode == 0
    assert project.sh("main_mtcoop_base2new_test.sh", *BASE2NEW, SEEDS="1").returncode == 0
    assert len(project.runs()) == 2
    parent = project.folder / f"output/base2new/icon5/MTCoOp/tiny_ep20_4shots/{NATA_FOLDER}"
    later = (parent / "new/seed1/results.json").stat().st_mtime + 10
    os.utime(parent / "base/seed1/results.json", (later, later))
    done = project.sh("main_mtcoop_base2new_test.sh", *BASE2NEW, SEEDS="1")
    assert done.returncode == 0, done.stderr
    assert "--overwrite" in project.runs()[2]


def test_new_classes_without_a_finished_base_run(project):
    done = project.sh("main_mtcoop_base2new_test.sh", *BASE2NEW)
    assert done.returncode == 2
    assert "base/seed1" in done.stderr
    assert "first run main_mtcoop_base2new_train.sh" in done.stderr
    assert project.runs() == []


def test_environment_and_extra_pairs(project):
    done = project.sh(
        "main_mtcoop_hard.sh",
        *["icon5", "tiny_ep20", "4", "16", "False", "True", "OPTIM.LR", "0.01", "SEED", "7", "TRAINER.MyMethod.NAME"],
        "two words",
        SEEDS="0 12",
        OUTPUT="out here",
        YOUR_DATA_PATH="my data",
    )
    assert done.returncode == 0, done.stderr
    runs = [split_arguments(run) for run in project.runs()]
    assert [options["--seed"] for options, _ in runs] == ["0", "12"]
    options, pairs = runs[1]
    # relative to where the script was called
    assert options["--root"] == f"{project.record}/my data"
    assert options["--output-dir"].startswith(f"{project.record}/out here/output/icon5/")
    assert pairs["OPTIM.LR"] == "0.01"
    assert pairs["TRAINER.MyMethod.NAME"] == "two words"
    assert (project.record / "out here/output").is_dir()


PROGRAMS = ("demo.sh", "install.sh", "test.sh")
PARTS = ("launch.sh", "python.sh", "set_env.sh")


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_shells(clone, shell):
    for script in SCRIPTS:
        subprocess.run([*shell, "-n", str(clone.folder / "scripts" / script)], check=True)
    done = clone.sh("main_coop.sh", "icon5", "two words", "", cwd=clone.folder / "scripts", shell=shell)
    assert done.returncode == 0, done.stderr
    where = [f"{clone.folder}/scripts", "", f"{clone.folder}/data", str(clone.interpreter)]
    assert clone.calls() == [*where, "main_coop", "icon5", "two words", ""]


def test_every_script_hands_its_name_and_arguments_over(clone):
    launchers = [script for script in SCRIPTS if script not in PARTS + PROGRAMS]
    assert {f"{name}.sh" for name in (*LAUNCHERS, *CALLERS, *PLANS)} == {*launchers, "demo.sh"}
    for script in launchers:
        text = (clone.folder / "scripts" / script).read_text()
        assert text.splitlines()[-1] == f'exec sh "$(dirname -- "$0")/launch.sh" {script.removesuffix(".sh")} "$@"'
        assert text.count("\n") <= 12
    done = clone.sh("method.sh", "--dry-run", "x", YOUR_DATA_PATH="my data", OUTPUT="out here")
    assert done.returncode == 0, done.stderr
    where = [str(clone.record), "out here", f"{clone.record}/my data", str(clone.interpreter)]
    assert clone.calls() == [*where, "method", "--dry-run", "x"]


def test_packages_in_the_current_folder_and_a_closed_standard_input_do_not_matter(tmp_path):
    for name in ("dassl", "sweeps", "datasets"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError")
    command = ["sh", "-c", 'exec sh "$1" icon5 <&-', "sh", str(REPOSITORY / "scripts/main_coop.sh")]
    environment = {**os.environ, "PYTHON": sys.executable}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and done.stderr.startswith("main_coop.sh: CFG is missing\n")


HARD = ["icon5", "tiny_ep20", "4", "16", "False", "True"]
HARD_FOLDER = "output/icon5/MTCoOpHard/tiny_ep20_4shots/nctx16_cscFalse_tscTrue"


def test_finished_runs_are_skipped_and_others_go_on(project):
    folder = project.folder / HARD_FOLDER
    for seed, status in ((1, "complete"), (2, "running")):
        (folder / f"seed{seed}").mkdir(parents=True)
        (folder / f"seed{seed}/results.json").write_text(json.dumps({"status": status}))
    (folder / "seed3").mkdir()  # a folder alone is not a result
    done = project.sh("main_mtcoop_hard.sh", *HARD)
    assert done.returncode == 0, done.stderr
    assert [split_arguments(run)[0]["--seed"] for run in project.runs()] == ["2", "3"]
    assert f"skipped, already finished: {folder}/seed1" in done.stdout
    assert f"resumes: {folder}/seed2" in done.stdout
    assert f"starts: {folder}/seed3" in done.stdout
    assert project.sh("main_mtcoop_hard.sh", *HARD).returncode == 0
    assert len(project.runs()) == 2


def test_a_finished_run_with_other_settings_is_not_taken_for_this_one(project):
    assert project.sh("main_mtcoop_hard.sh", *HARD, SEEDS="1").returncode == 0
    done = project.sh("main_mtcoop_hard.sh", *HARD, "OPTIM.LR", "0.5", SEEDS="1")
    assert done.returncode == 2
    assert "there: OPTIM.LR (not given)" in done.stderr
    assert "now:   OPTIM.LR 0.5" in done.stderr
    assert len(project.runs()) == 1


def test_the_first_failure_stops_and_is_shown(project):
    done = project.sh("main_mtcoop_hard.sh", *HARD, FAIL_SEED="2")
    assert done.returncode == 3
    assert [split_arguments(run)[0]["--seed"] for run in project.runs()] == ["1", "2"]
    assert f"failed with exit status 3: {project.folder}/{HARD_FOLDER}/seed2" in done.stderr
    assert "log line 39" in done.stderr
    assert "log line 20" not in done.stderr
    assert "error: ValueError: the loss is nan" in done.stderr
    assert project.sh("main_mtcoop_hard.sh", *HARD).returncode == 0
    assert [split_arguments(run)[0]["--seed"] for run in project.runs()] == ["1", "2", "2", "3"]


def test_a_mistake_that_train_has_named_is_not_told_twice(project):
    done = project.sh("main_mtcoop_hard.sh", *HARD, FAIL_SEED="1", FAIL_STATUS="2")
    assert done.returncode == 2 and len(project.runs()) == 1
    assert "failed with exit status 2" in done.stderr and "see its message above" in done.stderr
    assert "log line" not in done.stderr and "the loss is nan" not in done.stderr


def test_an_old_log_is_not_shown_for_a_run_that_wrote_none(project):
    assert project.sh("main_mtcoop_hard.sh", *HARD, FAIL_SEED="1").returncode == 3
    done = project.sh("main_mtcoop_hard.sh", *HARD, REFUSE="1")
    assert done.returncode == 2
    assert "failed with exit status 2" in done.stderr
    assert "log line" not in done.stderr


def test_success_without_results_is_a_failure(project):
    done = project.sh("main_mtcoop_hard.sh", *HARD, SILENT="1")
    assert done.returncode == 1
    assert "did not write a complete results.json" in done.stderr
    assert len(project.runs()) == 1


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
def test_mistakes_get_a_usage_text(project, script, arguments, message):
    done = project.sh(script, *arguments.split())
    assert done.returncode == 2
    assert message in done.stderr
    assert f"usage: sh {script} DATASET CFG" in done.stderr
    assert f"example: sh {script} icon5 tiny_ep20" in done.stderr
    assert "general10" in done.stderr  # the config files there are
    assert project.runs() == []


def test_all_mistakes_at_once_with_the_values_found(project):
    done = project.sh("main_mtcoop_hard.sh", *["icon9", "tiny_ep20", "x", "16", "False", "True"], SEEDS="one")
    assert done.returncode == 2
    assert 'found "icon9"' in done.stderr
    assert 'found "x"' in done.stderr
    assert 'found "one"' in done.stderr
    assert "found: DATASET=icon9 CFG=tiny_ep20 SHOTS=x N_CTX=16 CSC=False TSC=True" in done.stderr


@pytest.mark.parametrize("script", ["all_methods", "demo", "per_task", "upt_table1", "upt_table2", "xd_test"])
def test_scripts_of_several_launchers_show_their_comment(project, script):
    done = project.sh(f"{script}.sh", "--help")
    assert (done.returncode, done.stderr, project.runs()) == (0, "", [])
    head = (REPOSITORY / "scripts" / f"{script}.sh").read_text().split("\n\n")[0].splitlines()[1:]
    assert done.stdout.splitlines() == [line.removeprefix("#").removeprefix(" ") for line in head]


def test_help(project):
    done = project.sh("zeroshot.sh", "--help")
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
        "analysis_length",
    ],
)
def test_help_explains_each_argument_with_its_values(project, script):
    lines = project.sh(f"{script}.sh", "-h").stdout.splitlines()
    usage = next(line for line in lines if line.startswith("usage: ")).split(" [KEY VALUE")[0].split()[3:]
    lines = lines[lines.index("arguments:") + 1 :]
    for name in (word.strip("[]") for word in usage):
        place = next(number for number, line in enumerate(lines) if line.startswith(f"    {name} "))
        assert len(lines[place].split(maxsplit=1)[1]) > 10 and len(lines[place + 1].strip()) > 5


def test_examples_name_config_files_that_exist():
    for path in (REPOSITORY / "scripts").glob("*.sh"):
        if path.stem not in LAUNCHERS:
            continue
        words = re.search(rf"^# +.*sh {path.name} (.+)", path.read_text(), re.MULTILINE)[1].split()
        trainer = LAUNCHERS[path.stem].trainer or words.pop(0)
        dataset, config = words[:2]
        assert (REPOSITORY / f"configs/datasets/{dataset}.yaml").is_file(), path
        assert (REPOSITORY / f"configs/trainers/{trainer}/{config}.yaml").is_file(), path


def test_an_unknown_name(project):
    for words in ((), ("lib",)):
        done = project.sh(*words or ("",))
        assert done.returncode == 2 and "expected the name of a launcher in scripts/" in done.stderr
