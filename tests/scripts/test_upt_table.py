"""One command for every row of Table 2 of the UPT paper."""

import pytest

from tests.scripts.project import split_arguments

OWN = {"TSC": "True"}
ROWS = {  # row: trainer, config file for general11 vit_b16, settings of the method's section
    "CoOp": ("CoOp", "vit_b16_ctxv1", {"N_CTX": "4", "CSC": "False", **OWN}),
    "VPT-shallow": ("VPT", "vit_b16", {"N_CTX": "4", "DEEP": "False", **OWN}),
    "VPT-deep": ("VPT", "vit_b16", {"N_CTX": "4", "DEEP": "True", **OWN}),
    "Joint": ("UPT", "vit_b16", {"MODE": "joint", "N_CTX": "8", **OWN}),
    "Shared": ("UPT", "vit_b16", {"MODE": "shared", "N_CTX": "8", **OWN}),
    "MLP": ("UPT", "vit_b16", {"MODE": "mlp", "N_CTX": "8", **OWN}),
    "UPT": ("UPT", "vit_b16", {"MODE": "upt", "N_CTX": "8", **OWN}),
    "SoftCPT-NATA": ("MTCoOp", "vit_b16_ep50", {"CLASS_N_CTX": "0", "TASK_N_CTX": "4", "N_CTX": "16", "CSC": "False"}),
    "MTUPT-soft": ("MTUPT", "vit_b16_ep50", {"SHARING": "soft", "MODE": "upt", "N_CTX": "8"}),
    "MTUPT-hard": ("MTUPT", "vit_b16_ep50", {"SHARING": "hard", "MODE": "upt", "N_CTX": "8"}),
}


def found(run):
    """(trainer, config, settings of the section, task) of a call of train.py."""
    options, pairs = split_arguments(run)
    section = {key.rpartition(".")[2]: value for key, value in pairs.items() if key.startswith("TRAINER.")}
    config = options["--config-file"].rpartition("/")[2].removesuffix(".yaml")
    return options["--trainer"], config, section, pairs.get("DATASET.SUBSAMPLE_TASKS")


def first_column(done):
    return [line.split("|")[1].strip() for line in done.stdout.splitlines() if line.startswith("| ")]


def test_every_row_is_one_run_a_seed_and_stands_in_the_table(project):
    done = project.sh("upt_table2.sh", "general11", "vit_b16", "OPTIM.LR", "0.1", SHOTS="16", SEEDS="2", JOBS="1")
    assert done.returncode == 0, done.stderr
    runs = project.runs()
    assert [split_arguments(run)[0]["--seed"] for run in runs] == ["2"] * 10
    for run, (trainer, config, section) in zip(runs, ROWS.values(), strict=True):
        kind, name, settings, task = found(run)
        assert (kind, name, task) == (trainer, config, None)
        assert {key: settings.get(key) for key in section} == section
        pairs = split_arguments(run)[1]
        assert pairs["DATASET.NUM_SHOTS"] == "16" and pairs["OPTIM.LR"] == "0.1"
    published = ["CoOp", "VPT-shallow", "VPT-deep", "Joint", "Shared", "MLP", "UPT"]
    assert first_column(done) == ["method", *ROWS, "method", *published, "experiment", *ROWS]
    assert "missing" not in done.stdout and "| 78.24 |" in " ".join(done.stdout.split())
    again = project.sh("upt_table2.sh", "general11", "vit_b16", "OPTIM.LR", "0.1", SHOTS="16", SEEDS="2", JOBS="1")
    assert again.returncode == 0 and len(project.runs()) == 10


def test_rows_of_the_paper_for_each_task_by_itself(project):
    where = {"SEEDS": "1", "PER_TASK": "yes", "TASKS": "0 1", "METHODS": "VPT-deep UPT MTUPT-soft", "JOBS": "1"}
    done = project.sh("upt_table2.sh", **where)
    assert done.returncode == 0, done.stderr
    runs = [found(run) for run in project.runs()]
    assert [(trainer, task) for trainer, _, _, task in runs] == [
        ("VPT", "task0"),
        ("VPT", "task1"),
        ("UPT", "task0"),
        ("UPT", "task1"),
        ("MTUPT", None),
    ]
    assert all(config == "tiny_ep20" for _, config, _, _ in runs)  # icon5 and its model without arguments
    assert [section.get("TSC") for _, _, section, _ in runs] == ["False"] * 4 + [None]
    assert first_column(done)[:4] == ["method", "VPT-deep", "UPT", "MTUPT-soft"]
    alone = project.sh("upt_table2.sh", **where | {"TASKS": "1", "METHODS": "UPT"})  # as of a suite with one task
    assert alone.returncode == 0 and len(project.runs()) == 5 and first_column(alone)[:2] == ["method", "UPT"]


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        ("icon6 tiny_ep20", {}, 'DATASET a file of configs/datasets; found "icon6 tiny_ep20"'),
        ("icon5 rn50_ep50", {"METHODS": "VPT-deep"}, "configs/trainers/VPT has no rn50_ep50.yaml\nerror: no row has"),
        ("icon5 tiny_ep20 faces 3", {}, '"faces" is one argument too many, or not the KEY of a KEY VALUE pair'),
        ("", {"METHODS": "UPT CLIP"}, 'unknown row "CLIP"; rows: CoOp VPT-shallow'),
        ("", {"PER_TASK": "True"}, 'PER_TASK has to be yes or no; found "True"'),
        ("", {"SHOTS": "few"}, 'SHOTS has to be a whole number of images per class (0 or -1: all images); found "few"'),
        ("", {"TASK": "2"}, "TASK=2 is set, which this script does not support"),
    ],
)
def test_mistakes(project, arguments, environment, message):
    done = project.sh("upt_table2.sh", *arguments.split(), **environment)
    assert done.returncode == 2 and message in done.stderr and project.runs() == []


def test_on_the_published_data_all_settings_are_valid(project):
    """On each dataset separately, as published."""
    where = {"SEEDS": "1", "SHOTS": "16", "PER_TASK": "yes", "TASKS": "10"}
    done = project.sh("upt_table2.sh", "general11", "vit_b16", "--dry-run", **where)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[-1] == f"# {7 + 3} to run"
    assert sum(" train.py " in line and "DATASET.SUBSAMPLE_TASKS" in line for line in lines) == 7
