"""Models of one dataset on others: xd_train.sh, xd_test.sh, upt_table1.sh; one real run of them."""

import json
import os

import pytest

import train
from tests.scripts.project import REPOSITORY, listed, split_arguments

ICONS = ["icon5_colour", "icon5_shaded", "icon5_contrast", "icon5_line", "icon5_solid"]
IMAGENET = ["imagenet", "imagenetv2", "imagenet_sketch", "imagenet_a", "imagenet_r"]
TEN = "caltech101 dtd eurosat fgvc_aircraft food101 oxford_flowers oxford_pets stanford_cars sun397 ucf101"
UPT = ["UPT", "imagenet", "vit_b16_ep50", "16", "upt", "8", "False"]
UPT_FOLDER = "output/imagenet/UPT/vit_b16_ep50_16shots/modeupt_nctx8_tscFalse"


def runs(project):
    return [split_arguments(run) for run in project.runs()]


def test_a_model_of_imagenet_is_tested_on_its_four_shifted_sets(project):
    for script in ("xd_train.sh", "xd_test.sh"):
        done = project.sh(script, *UPT, SEEDS="2")
        assert done.returncode == 0, done.stderr
    (model, settings), *tests = runs(project)
    assert model["--output-dir"] == f"{project.folder}/{UPT_FOLDER}/seed2" and "--eval-only" not in model
    for (options, pairs), target in zip(tests, IMAGENET[1:], strict=True):
        assert "--eval-only" in options and pairs == settings
        assert options["--dataset-config-file"] == f"{REPOSITORY}/configs/datasets/{target}.yaml"
        assert options["--model-dir"] == model["--output-dir"]
        assert (options["--load-epoch"], options["--seed"]) == ("20", "2")  # what the model's results.json says
        assert options["--output-dir"] == f"{project.folder}/{UPT_FOLDER}/xd/{target}/seed2"


def test_runs_of_the_launcher_are_taken_over_and_finished_tests_skipped(project):
    assert project.sh("main_upt.sh", *UPT[1:], SEEDS="1").returncode == 0
    done = project.sh("xd_train.sh", *UPT, SEEDS="1")
    assert done.returncode == 0 and "skipped, already finished" in done.stdout
    assert project.sh("xd_test.sh", *UPT, SEEDS="1", TARGETS="imagenet_a").returncode == 0
    done = project.sh("xd_test.sh", *UPT, SEEDS="1", TARGETS="imagenet_a dtd")
    assert done.returncode == 0, done.stderr
    places = [options["--output-dir"].removeprefix(f"{project.folder}/{UPT_FOLDER}/") for options, _ in runs(project)]
    assert places == ["seed1", "xd/imagenet_a/seed1", "xd/dtd/seed1"]
    # an interrupted test is run again, and so is a test that is older than its model
    (project.folder / UPT_FOLDER / "xd/dtd/seed1/results.json").write_text(json.dumps({"status": "running"}))
    model = project.folder / UPT_FOLDER / "seed1/results.json"
    later = model.stat().st_mtime + 100
    os.utime(model, (later, later))
    done = project.sh("xd_test.sh", *UPT, SEEDS="1", TARGETS="imagenet_a dtd")
    assert done.returncode == 0 and "the model is newer than its test" in done.stdout
    assert len(project.runs()) == 5 and all("--overwrite" in run for run in project.runs()[3:])


def test_a_method_without_its_own_launcher_takes_the_arguments_of_method_sh(project):
    words = ["MMRLpp", "imagenet", "vit_b16_ep1_batch32_cross_datasets", "16", "TRAINER.MMRLPP.BETA", "0.5"]
    for script in ("xd_train.sh", "xd_test.sh"):
        done = project.sh(script, *words, SEEDS="2", TARGETS="imagenet_a dtd")
        assert done.returncode == 0, done.stderr
    (model, settings), *tests = runs(project)
    folder = f"{project.folder}/output/imagenet/MMRLpp/vit_b16_ep1_batch32_cross_datasets_16shots/beta0.5"
    assert (model["--trainer"], model["--output-dir"]) == ("MMRLpp", f"{folder}/seed2")
    assert settings == {"DATASET.NUM_SHOTS": "16", "TRAINER.MMRLPP.BETA": "0.5"}
    for (options, pairs), target in zip(tests, ("imagenet_a", "dtd"), strict=True):
        assert options["--model-dir"] == model["--output-dir"] and pairs == settings
        assert options["--output-dir"] == f"{folder}/xd/{target}/seed2"


def test_tests_made_anew_leave_the_model_alone(project):
    assert project.sh("xd_train.sh", *UPT, SEEDS="1").returncode == 0
    for _ in range(2):
        done = project.sh("xd_test.sh", "--overwrite", *UPT, SEEDS="1", TARGETS="dtd")
        assert done.returncode == 0, done.stderr
    (model, _), *tests = runs(project)
    assert "--overwrite" not in model and len(tests) == 2
    for options, _ in tests:
        assert "--overwrite" in options and options["--model-dir"] == model["--output-dir"]
        assert options["--output-dir"].endswith("/xd/dtd/seed1")


def test_the_other_ten(project):
    def targets(source):
        done = project.sh("xd_test.sh", "UPT", source, *UPT[2:], "--dry-run", SEEDS="1", TARGETS="others")
        assert done.returncode == 0, done.stderr
        return [options["--dataset-config-file"].split("/")[-1][:-5] for options, _ in listed(done)[1]]

    assert targets("imagenet") == TEN.split()
    assert targets("dtd") == ["imagenet", *TEN.replace("dtd ", "").split()]


def test_one_task_of_the_source_is_tested_on_that_task_of_its_shifted_sets(project):
    words = ["VPT", "icon5_colour", "tiny_ep20", "4", "4", "True", "False", "2"]
    assert project.sh("xd_train.sh", *words, SEEDS="1").returncode == 0
    done = project.sh("xd_test.sh", *words, SEEDS="1")
    assert done.returncode == 0, done.stderr
    assert {pairs["DATASET.SUBSAMPLE_TASKS"] for _, pairs in runs(project)} == {"task2"} and len(project.runs()) == 5
    done = project.sh("xd_test.sh", *words, SEEDS="1", TARGETS="dtd")
    assert done.returncode == 2 and "dtd has other tasks; train on the dataset of that task" in done.stderr


MISTAKES = [
    ("xd_test.sh", UPT, {}, "first run sh scripts/xd_train.sh UPT imagenet vit_b16_ep50 16 upt 8 False"),
    ("xd_test.sh", ["ADAM", *UPT[1:]], {}, "METHOD has to be CoOp, CoCoOp, KgCoOp, ProGrad, PLOT, VPT, UPT, MTUPT"),
    ("xd_test.sh", ["CoOp", "icon5", "tiny_ep20", "4", "16", "False", "True"], {}, "icon5 has no shifted test sets"),
    ("xd_test.sh", UPT, {"TARGETS": "imagenet_b"}, 'has to be files of configs/datasets, found "imagenet_b"'),
    ("xd_test.sh", UPT, {"TARGETS": "imagenet"}, "imagenet is the source"),
    ("xd_test.sh", UPT[:-1], {}, "TSC is missing"),
    ("xd_test.sh", ["UPT", "imagenette", *UPT[2:]], {}, 'has to be a file of configs/datasets, found "imagenette"'),
    ("xd_train.sh", UPT, {"TASK": "3"}, "give the number of a task as TASKID"),
    ("xd_train.sh", [], {}, "trains METHOD on the source"),
    ("upt_table1.sh", ["icon5", "tiny_ep20"], {}, "DATASET icon5_colour, icon13_colour or imagenet"),
    ("upt_table1.sh", [], {"METHODS": "CoOp MaPLe"}, 'METHODS: unknown row "MaPLe"'),
]


@pytest.mark.parametrize(("script", "words", "where", "text"), MISTAKES, ids=[row[3][:35] for row in MISTAKES])
def test_mistakes(project, script, words, where, text):
    done = project.sh(script, *words, **where)
    assert done.returncode == 2
    assert text in done.stderr + done.stdout and project.runs() == []


ROWS = [
    "CoOp icon5_colour tiny_c4_ep20_ctxv1 4 4 False True",
    "CoCoOp icon5_colour tiny_ep20 4 True",
    "VPT icon5_colour tiny_ep20 4 4 False True",
    "VPT icon5_colour tiny_ep20 4 4 True True",
    "UPT icon5_colour tiny_ep20 4 upt 8 True",
    "MTCoOp icon5_colour tiny_ep20 4 0 False 4 False 16 False lin 1",
]
PUBLISHED = [
    "CoOp imagenet vit_b16_c4_ep50_ctxv1 16 4 False False",
    "CoCoOp imagenet vit_b16_c4_ep10_batch1_ctxv1 16 False",
    "VPT imagenet vit_b16_ep50 16 4 False False",
    "VPT imagenet vit_b16_ep50 16 4 True False",
    "UPT imagenet vit_b16_ep50 16 upt 8 False",
    "MTCoOp imagenet vit_b16_ep50 16 0 False 4 False 16 False lin 1",
]


@pytest.mark.parametrize(
    ("words", "rows", "datasets", "config"),
    [([], ROWS, ICONS, "tiny_ep20"), (["imagenet", "vit_b16_ep50"], PUBLISHED, IMAGENET, "vit_b16")],
    ids=["embedded", "published"],
)
def test_rows_of_the_table(project, words, rows, datasets, config):
    """All models, then zero-shot, then all tests, as the launchers make them."""
    done = project.sh("upt_table1.sh", *words, SEEDS="3", JOBS="1", TARGETS="dtd")
    assert done.returncode == 0, done.stderr
    made = list(project.calls)
    kinds = ["test" if "--model-dir" in run else "zero-shot" if "--eval-only" in run else "model" for run in made]
    assert kinds == ["model"] * 6 + ["zero-shot"] * 5 + ["test"] * 24
    for script in ("xd_train.sh", "xd_test.sh"):
        for row in rows:
            done = project.sh(script, *row.split(), SEEDS="3")
            assert done.returncode == 0 and "starts" not in done.stdout, (row, done.stdout, done.stderr)
    for name in datasets:
        assert "skipped, already finished" in project.sh("zeroshot.sh", name, config).stdout


def test_the_table_by_one_command(project):
    where = {"SEEDS": "1", "JOBS": "1", "METHODS": "ZeroshotCLIP VPT-deep"}
    done = project.sh("upt_table1.sh", **where)
    assert done.returncode == 0, done.stderr
    assert len(project.runs()) == 5 + 5
    lines = [[part.strip() for part in line.split("|")[1:-1]] for line in done.stdout.splitlines() if line[:1] == "|"]
    assert [line[0] for line in lines if not line[0].startswith("-")] == ["method", "ZeroshotCLIP", "VPT-deep"]
    assert lines[0][2:] == [*ICONS[1:], "average", "OOD average"]
    assert {tuple(line[1:]) for line in lines[2:]} == {("51.00",) * 7} and "missing" not in done.stdout
    again = project.sh("upt_table1.sh", **where)
    assert again.returncode == 0 and len(project.runs()) == 10


def test_a_model_with_contexts_of_tasks_on_drawings_in_another_style(tmp_path, capsys):
    """Real runs: the context of a task is found on its shifted set, and a task without one is refused."""

    def run(name, tasks, *arguments):
        out = tmp_path / name
        files = "--dataset-config-file configs/datasets/icon13.yaml --config-file configs/trainers/CoOp/tiny_ep20.yaml"
        settings = ("OPTIM.MAX_EPOCH", 1, "DATASET.NUM_SHOTS", 1, "TRAINER.COOP.TSC", True, "DATASET.TASKS", tasks)
        caches = ("DATALOADER.FEATURE_CACHE", False, "DATALOADER.FEATURE_BANK", False, "TRAIN.TENSORBOARD", False)
        command = f"--trainer CoOp --seed 1 --output-dir {out} {files}".split()
        status = train.main([*command, *map(str, (*settings, *caches, *arguments))])
        results = out / "results.json"
        return status, json.loads(results.read_text()) if status == 0 else capsys.readouterr().err

    assert run("source", "[Icon13Colour/produce, Icon13Colour/mammals]")[0] == 0
    tested = ("--eval-only", "--model-dir", tmp_path / "source")
    status, found = run("line", "[Icon13Line/mammals]", *tested)
    assert status == 0 and [(task["key"], task["classes"]) for task in found["tasks"]] == [("mammals", 6)]
    assert found["epoch"] == 1 and found["tasks"][0]["images"] == 7
    status, errors = run("faces", "[Icon13Line/faces]", *tested)
    (line,) = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert status == 2 and "none was learned for 'faces'" in line


def test_a_row_of_a_table_names_launcher_and_settings(project):
    nats = ["icon5_colour", "tiny_ep20", "4", "0", "False", "4", "True", "16", "False", "lin", "1"]
    for method in ("SoftCPT-NATS", "SoftCPT"):
        assert project.sh("xd_train.sh", method, *nats, SEEDS="1", OUTPUT=f"{project.folder}/{method}").returncode == 0
    assert [options["--trainer"] for options, _ in runs(project)] == ["SoftCPT-NATS", "MTCoOp"]
    done = project.sh("xd_train.sh", "SoftCPT-NAT", *nats)
    assert done.returncode == 2 and 'a folder of configs/trainers, such as MaPLe; found "SoftCPT-NAT"' in done.stderr
