"""One command for every row of the published table."""

import pytest

from tests.scripts.project import split_arguments

SOFT = ("CLASS_N_CTX", "CLASS_CSC", "TASK_CSC", "CSC")
ROWS = {  # row: trainer, config file for general10 rn50_ep50, settings of the method's section
    "ZeroshotCLIP": ("ZeroshotCLIP", "rn50", {}),
    "ZeroshotCLIP2": ("ZeroshotCLIP2", "rn50", {}),
    "LinearProbe": ("LinearProbe", "rn50", {}),
    "ProtoNet": ("ProtoNet", "rn50", {"METRIC": "cosine"}),
    "CoOp-MT": ("MTCoOpHard", "rn50_ep50", {"CSC": "False", "TSC": "False"}),
    "CoOp-CA": ("MTCoOpHard", "rn50_ep50", {"CSC": "False", "TSC": "True"}),
    "CoOp-CS": ("MTCoOpHard", "rn50_ep50", {"CSC": "True", "TSC": "False"}),
    "CoCoOp": ("CoCoOp", "rn50_c4_ep10_batch1_ctxv1", {"TSC": "True"}),
    "ProGrad": ("ProGrad", "rn50_ep100", {"TSC": "True", "LAMBDA": "1.0", "N_CTX": "16"}),
    "KgCoOp": ("KgCoOp", "rn50_ep100_ctxv1", {"TSC": "True", "W": "8.0"}),
    "PLOT": ("PLOT", "rn50_ep50", {"TSC": "True", "N": "2", "N_CTX": "16"}),
    "SoftCPT*": ("MTCoOp", "rn50_ep50", {"TASK_FEATURE": "rand", "N_CTX": "16"}),
    "SoftCPT-NATA": ("MTCoOp", "rn50_ep50", dict(zip(SOFT, ("0", "False", "False", "False"), strict=True))),
    "SoftCPT-NATS": ("MTCoOp", "rn50_ep50", dict(zip(SOFT, ("0", "False", "True", "False"), strict=True))),
    "SoftCPT-CATA": ("MTCoOp", "rn50_ep50", dict(zip(SOFT, ("4", "False", "False", "True"), strict=True))),
    "SoftCPT-CSTA": ("MTCoOp", "rn50_ep50", dict(zip(SOFT, ("4", "True", "False", "True"), strict=True))),
    "SoftCPT-CATS": ("MTCoOp", "rn50_ep50", dict(zip(SOFT, ("4", "False", "True", "True"), strict=True))),
    "SoftCPT-CSTS": ("MTCoOp", "rn50_ep50", dict(zip(SOFT, ("4", "True", "True", "True"), strict=True))),
}


def table(done):
    """The names in the first column of the tables."""
    return [line.split("|")[1].strip() for line in done.stdout.splitlines() if line.startswith("| ")]


def test_every_row_runs_with_its_published_settings_and_stands_in_the_table(project):
    done = project.sh("all_methods.sh", "general10", "rn50_ep50", SHOTS="2", SEEDS="1", JOBS="1")
    assert done.returncode == 0, done.stderr
    assert "left out" not in done.stderr
    runs = [split_arguments(run) for run in project.runs()]
    assert len(runs) == len(ROWS)
    order = [*list(ROWS)[2:], *list(ROWS)[:2]]  # zero-shot learns nothing and comes last
    for (options, pairs), (trainer, config, wanted) in zip(runs, map(ROWS.get, order), strict=True):
        assert options["--trainer"] == trainer
        assert options["--config-file"].endswith(f"configs/trainers/{trainer}/{config}.yaml")
        assert pairs.get("DATASET.NUM_SHOTS") == (None if trainer.startswith("Zeroshot") else "2")
        found = {key.rpartition(".")[2]: value for key, value in pairs.items() if key.startswith("TRAINER.")}
        assert {key: found.get(key) for key in wanted} == wanted
    assert table(done) == ["experiment", *ROWS] * 2
    assert "missing" not in done.stdout  # of the seeds asked for


SHARES = "DescribableTextures=0.8,EuroSAT=0.8,OxfordFlowers=0.8"


@pytest.mark.parametrize(
    ("dataset", "cfg", "wanted"),  # of ProGrad: shots -> config file, TASK_LAMBDA; of PLOT: N
    [
        (
            "general10",
            "rn50_ep50",
            ({"1": ("rn50_ep50", None), "4": ("rn50_ep100", None), "8": ("rn50", SHARES), "16": ("rn50", SHARES)}, "2"),
        ),
        ("plant6", "rn50_ep50", ({"2": ("rn50_ep100", None), "16": ("rn50", None)}, "4")),
        ("icon5", "tiny_ep20", ({"4": ("tiny_ep20", None), "16": ("tiny_ep20", None)}, "4")),
    ],
)
def test_what_papers_set_by_suite_and_shots(project, dataset, cfg, wanted):
    shots, prompts = wanted
    where = {"SHOTS": " ".join(shots), "SEEDS": "1", "JOBS": "1", "METHODS": "ProGrad PLOT"}
    done = project.sh("all_methods.sh", dataset, cfg, **where)
    assert done.returncode == 0, done.stderr
    found = {}
    for options, pairs in map(split_arguments, project.runs()):
        if options["--trainer"] == "PLOT":
            assert pairs["TRAINER.PLOT.N"] == prompts and f"/n{prompts}_" in options["--output-dir"]
            continue
        assert pairs["TRAINER.PROGRAD.LAMBDA"] == "1.0"
        file = options["--config-file"].rpartition("/")[2].removesuffix(".yaml")
        found[pairs["DATASET.NUM_SHOTS"]] = file, pairs.get("TRAINER.PROGRAD.TASK_LAMBDA")
    assert found == shots
    assert table(done) == ["experiment", "ProGrad", "PLOT"] * 2 * len(shots)


def test_class_sampling_is_of_the_variants_with_class_features(project):
    where = {"SHOTS": "2", "SEEDS": "1", "JOBS": "1", "METHODS": "CoOp-CS NATA CATA CSTS", "CLS_SAMPLE_RATE": "0.1"}
    done = project.sh("all_methods.sh", "general10", "rn50_ep50", **where)
    assert done.returncode == 0, done.stderr
    pairs = [split_arguments(run)[1] for run in project.runs()]
    assert [found.get("TRAINER.MTCOOP.CLS_SAMPLE_RATE") for found in pairs] == [None, None, "0.1", "0.1"]
    assert table(done) == ["experiment", "CoOp-CS", "SoftCPT-NATA", "SoftCPT-CATA", "SoftCPT-CSTS"] * 2
    done = project.sh("all_methods.sh", "general10", "rn50_ep50", CLS_SAMPLE_RATE="often")
    assert done.returncode == 2 and 'CLS_SAMPLE_RATE has to be a number; found "often"' in done.stderr


def test_runs_of_single_tasks_do_not_stand_in_the_way(project):
    assert project.sh("linearprob.sh", "general10", "rn50", "1", SHOTS="2", SEEDS="1").returncode == 0
    where = {"SHOTS": "2", "SEEDS": "1", "METHODS": "ZeroshotCLIP LinearProbe"}
    done = project.sh("all_methods.sh", "general10", "rn50_ep50", **where)
    assert done.returncode == 0, done.stderr
    assert table(done) == ["experiment", "ZeroshotCLIP", "LinearProbe"] * 2


@pytest.mark.parametrize("first", ["1", "2"])
def test_a_run_made_alone_is_the_same_as_one_made_beside_others(project, first):
    """Side by side on one thread each, runs have no workers; that decides no number."""
    where = {"SHOTS": "2", "SEEDS": "1", "METHODS": "NATA", "OMP_NUM_THREADS": "1"}
    second = {"1": "2", "2": "1"}[first]
    for jobs in (first, second):
        done = project.sh("all_methods.sh", "icon5", "tiny_ep20", JOBS=jobs, **where)
        assert done.returncode == 0, done.stdout + done.stderr
    workers = [split_arguments(run)[1].get("DATALOADER.NUM_WORKERS") for run in project.runs()]
    assert workers == [{"1": None, "2": "0"}[first]]
