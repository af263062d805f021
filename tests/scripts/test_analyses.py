"""The launchers of the papers' analyses: what train.py is given, and where it goes."""

import pytest

from tests.scripts.project import split_arguments

NATA = {"TRAINER.MTCOOP.N_CTX": "16", "TRAINER.MTCOOP.TASK_N_CTX": "4"}
CA = {"TRAINER.MTCOOPH.N_CTX": "16", "TRAINER.MTCOOPH.TSC": "True"}
FOLDER = "output/analysis/icon5/tiny_ep20_4shots"


EQUAL = {"CLASS_N_CTX": "0", "CLASS_CSC": "False", "TASK_CSC": "False", "CSC": "False"}  # as in the files of configs
EQUAL |= {"PG_TYPE": "lin", "PG_RATIO": "1"}


def started(project, script, *arguments, **environment):
    """{folder of a run below the project: (trainer, KEY VALUE pairs)} of a launcher with one seed."""
    done = project.sh(script, *arguments, SEEDS="2", **environment)
    assert done.returncode == 0, done.stderr
    found = {}
    for run in project.runs():
        options, pairs = split_arguments(run)
        assert options["--seed"] == "2"
        assert options["--config-file"].endswith(f"configs/trainers/{options['--trainer']}/tiny_ep20.yaml")
        more = {**{f"TRAINER.MTCOOP.{name}": value for name, value in EQUAL.items()}, "TRAINER.MTCOOPH.CSC": "False"}
        pairs = {key: value for key, value in pairs.items() if more.get(key) != value}
        folder = options["--output-dir"].removeprefix(f"{project.folder}/").removesuffix("/seed2")
        found[folder] = (options["--trainer"], pairs)
    return found, done.stdout


def shots(number, settings, **more):
    return {"DATASET.NUM_SHOTS": number, **settings, **more}


def test_backbones(project):
    arguments = ("icon5", "tiny_ep20", "4", "OPTIM.LR", "0.1")
    found, out = started(project, "analysis_backbones.sh", *arguments, BACKBONES="RN50 ViT-B/16")
    expected = {}
    for name in ("RN50", "ViT-B/16"):
        for method, trainer, settings in (("CoOp-CA", "MTCoOpHard", CA), ("SoftCPT-NATA", "MTCoOp", NATA)):
            more = {"MODEL.BACKBONE.NAME": name, "OPTIM.LR": "0.1"}
            folder = f"{FOLDER}/backbones/{name.replace('/', '-')}/{method}"
            expected[folder] = (trainer, shots("4", settings, **more))
    assert found == expected
    assert f'"{project.folder}/{FOLDER}/backbones" --multi-exp' in out


def test_lengths(project):
    found, _ = started(project, "analysis_length.sh", "icon5", "tiny_ep20", "4", LENGTHS="2 32", TASK_LENGTHS="8")
    assert found == {
        f"{FOLDER}/length/nctx2": ("MTCoOp", shots("4", {**NATA, "TRAINER.MTCOOP.N_CTX": "2"})),
        f"{FOLDER}/length/nctx32": ("MTCoOp", shots("4", {**NATA, "TRAINER.MTCOOP.N_CTX": "32"})),
        f"{FOLDER}/length/tnctx8": ("MTCoOp", shots("4", {**NATA, "TRAINER.MTCOOP.TASK_N_CTX": "8"})),
    }


def test_task_features(project):
    found, _ = started(project, "analysis_task_feature.sh", "icon5", "tiny_ep20", "4", DIMS="16")
    expected = {}
    for feature in ("te", "rand"):
        for name, k in ((feature, "0"), (f"{feature}_dim16", "16")):
            settings = {**NATA, "TRAINER.MTCOOP.TASK_FEATURE": feature, "TRAINER.MTCOOP.TASK_FEATURE_DIM": k}
            expected[f"{FOLDER}/task_feature/{name}"] = ("MTCoOp", shots("4", settings))
    assert found == expected


def test_stability(project):
    found, out = started(project, "analysis_stability.sh", "icon5", "tiny_ep20", SHOTS_LIST="1 16")
    folder = "output/analysis/icon5/tiny_ep20/stability"
    assert found == {
        f"{folder}/{method}/{k}shots": (trainer, shots(k, settings))
        for method, trainer, settings in (("CoOp-CA", "MTCoOpHard", CA), ("SoftCPT-NATA", "MTCoOp", NATA))
        for k in ("1", "16")
    }
    assert "--multi-exp --relative-std" in out


@pytest.mark.parametrize(
    ("script", "environment", "message"),
    [
        ("analysis_backbones.sh", {"BACKBONES": "RN50 a;b"}, 'BACKBONES has to be names of backbones, found "a;b"'),
        ("analysis_length.sh", {"LENGTHS": "4 many"}, 'LENGTHS has to be numbers of tokens, found "many"'),
        ("analysis_task_feature.sh", {"DIMS": "0"}, 'DIMS has to be numbers of dimensions, found "0"'),
        ("analysis_stability.sh", {"SHOTS_LIST": "-1"}, 'SHOTS_LIST has to be numbers of images per class, found "-1"'),
    ],
)
def test_mistakes(project, script, environment, message):
    arguments = ["icon5", "tiny_ep20", "4"][: 2 if "stability" in script else 3]
    done = project.sh(script, *arguments, **environment)
    assert done.returncode == 2 and message in done.stderr
    missing = project.sh(script)
    assert missing.returncode == 2 and f"usage: sh {script} DATASET CFG" in missing.stderr
    assert project.runs() == []
