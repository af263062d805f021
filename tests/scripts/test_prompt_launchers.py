"""The launchers of the methods of single tasks: all tasks in one run, or one task alone."""

import pytest

from tests.scripts.project import REPOSITORY, split_arguments

# script without main_ and .sh, trainer, arguments, settings of the method, folder below CFG_SHOTSshots
LAUNCHERS = [
    (
        "coop",
        "CoOp",
        "general10 rn50_ep50 1 16 False True",
        {"COOP.N_CTX": "16", "COOP.CSC": "False", "COOP.TSC": "True"},
        "nctx16_cscFalse_tscTrue",
    ),
    ("cocoop", "CoCoOp", "general10 rn50_c4_ep10_batch1_ctxv1 1 True", {"COCOOP.TSC": "True"}, "tscTrue"),
    (
        "kgcoop",
        "KgCoOp",
        "general10 rn50_ep100_ctxv1 1 8.0 True",
        {"KGCOOP.W": "8.0", "KGCOOP.TSC": "True"},
        "w8.0_tscTrue",
    ),
    (
        "plot",
        "PLOT",
        "general10 rn50_ep50 1 4 16 False True",
        {"PLOT.N": "4", "PLOT.N_CTX": "16", "PLOT.CSC": "False", "PLOT.TSC": "True"},
        "n4_nctx16_cscFalse_tscTrue",
    ),
    (
        "vpt",
        "VPT",
        "general10 vit_b16_ep50 1 4 False True",
        {"VPT.N_CTX": "4", "VPT.DEEP": "False", "VPT.TSC": "True"},
        "nctx4_deepFalse_tscTrue",
    ),
    (
        "upt",
        "UPT",
        "general10 vit_b16_ep50 1 joint 8 True",
        {"UPT.MODE": "joint", "UPT.N_CTX": "8", "UPT.TSC": "True"},
        "modejoint_nctx8_tscTrue",
    ),
    (
        "mtupt",
        "MTUPT",
        "general10 vit_b16_ep50 1 soft upt 8",
        {"MTUPT.SHARING": "soft", "MTUPT.MODE": "upt", "MTUPT.N_CTX": "8"},
        "sharingsoft_modeupt_nctx8",
    ),
    (
        "prograd",
        "ProGrad",
        "general10 rn50_ep50 8 16 0.8 False True",
        {"PROGRAD.N_CTX": "16", "PROGRAD.LAMBDA": "0.8", "PROGRAD.CSC": "False", "PROGRAD.TSC": "True"},
        "nctx16_lambda0.8_cscFalse_tscTrue",
    ),
]


@pytest.mark.parametrize("task", ["", "3"], ids=["all tasks", "task 3"])
@pytest.mark.parametrize(
    ("name", "trainer", "arguments", "settings", "folder"), LAUNCHERS, ids=[r[0] for r in LAUNCHERS]
)
def test_training_and_base_to_new(project, name, trainer, arguments, settings, folder, task):
    words = [*arguments.split(), *([task] if task else []), "OPTIM.LR", "0.1"]
    for script in (f"main_{name}", f"main_{name}_base2new_train", f"main_{name}_base2new_test"):
        done = project.sh(f"{script}.sh", *words, SEEDS="2")
        assert done.returncode == 0, done.stderr
    config, shots = arguments.split()[1:3]
    below = f"general10/{trainer}/{config}_{shots}shots/{folder}" + (f"/task{task}" if task else "")
    output, pairs = f"{project.folder}/output", {f"TRAINER.{key}": value for key, value in settings.items()}
    pairs |= {"DATASET.NUM_SHOTS": shots, "OPTIM.LR": "0.1"} | ({"DATASET.SUBSAMPLE_TASKS": "task3"} if task else {})
    for run, place, classes in zip(
        project.runs(), ("", "base2new/", "base2new/"), ({}, {"base": "/base"}, {"new": "/new"}), strict=True
    ):
        options, found = split_arguments(run)
        half = next(iter(classes), None)
        assert options["--trainer"] == trainer and options["--seed"] == "2"
        assert options["--config-file"] == f"{REPOSITORY}/configs/trainers/{trainer}/{config}.yaml"
        assert options["--output-dir"] == f"{output}/{place}{below}{classes.get(half, '')}/seed2"
        assert found == pairs | ({"DATASET.SUBSAMPLE_CLASSES": half} if half else {})
        assert ("--eval-only" in options) == (half == "new")
        if half == "new":
            assert options["--model-dir"] == f"{output}/base2new/{below}/base/seed2" and options["--load-epoch"] == "20"


CSC, KEY = "CSC True: each class learns its own context", "TRAINER.PROGRAD.CSC"


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("coop", "icon5 tiny_ep20 4 16 True False", CSC),
        ("plot", "icon5 tiny_ep20 4 4 16 True False 2", CSC),
        ("prograd", f"icon5 tiny_ep20 4 16 1.0 False True {KEY} True", CSC),
        ("prograd", f"icon5 tiny_ep20 4 16 1.0 True False {KEY} False", None),
        ("mtcoop", "icon5 tiny_ep20 4 4 True 4 False 16 True lin 1", f"CLASS_{CSC}"),
        ("mtcoop", "icon5 tiny_ep20 4 4 False 4 True 16 True lin 1", None),
    ],
)
def test_contexts_of_classes_are_refused_before_the_base_classes_are_learned(project, name, arguments, message):
    done = project.sh(f"main_{name}_base2new_train.sh", *arguments.split(), SEEDS="1")
    if message is None:
        assert done.returncode == 0 and len(project.runs()) == 1
        return
    assert done.returncode == 2 and project.runs() == []
    assert done.stderr.startswith(f"main_{name}_base2new_train.sh: {message}, so new classes have no context")
    assert f"main_{name}.sh trains on all classes with it" in done.stderr
    dry = project.sh(f"main_{name}_base2new_train.sh", *arguments.split(), "--dry-run")
    assert dry.returncode == 2 and dry.stderr == done.stderr


def test_mistakes(project):
    done = project.sh("main_kgcoop.sh", "icon5", "tiny_ep20", "4", "heavy", "Yes", "faces")
    assert done.returncode == 2 and project.runs() == []
    assert 'W has to be a number, found "heavy"' in done.stderr and "TSC has to be True or False" in done.stderr
    assert '"faces" is one argument too many' in done.stderr
    assert "usage: sh main_kgcoop.sh DATASET CFG SHOTS W TSC [TASKID] [KEY VALUE ...]" in done.stderr
    unified = project.sh("main_mtupt.sh", "icon5", "tiny_ep20", "4", "softly", "upt2", "8")
    assert 'SHARING has to be soft, hard or task, found "softly"' in unified.stderr
    assert 'MODE has to be upt, joint, shared or mlp, found "upt2"' in unified.stderr
    missing = project.sh("main_cocoop_base2new_test.sh", "icon5", "tiny_ep20", "4", "True")
    assert missing.returncode == 2 and "first run main_cocoop_base2new_train.sh" in missing.stderr
