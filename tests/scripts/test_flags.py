"""--dry-run and --overwrite of the launchers."""

import json
import os
import shlex
import subprocess

import pytest

import datasets  # noqa: F401  registered before tests that put the registries back
import trainers  # noqa: F401
from reporting import dry_run, run_info
from tests.scripts.clone import REPOSITORY, split_arguments

HARD = ["icon5", "tiny_ep20", "4", "16", "False", "True"]
BASE2NEW = ["main_coop_base2new_{}.sh", "icon5", "tiny_ep20", "4", "16", "False", "True"]


def listed(clone):
    """(comments, calls as (options, pairs)) of the last --dry-run."""
    found = clone.dry_run()
    comments = [record[0] for record in found if record[0].startswith("#")]
    return comments, [split_arguments(record) for record in found if not record[0].startswith("#")]


@pytest.mark.parametrize("place", [0, 3, 7])
def test_both_flags_stand_anywhere(clone, place):
    arguments = [*HARD, "OPTIM.LR", "0.01"]
    done = clone.sh("main_mtcoop_hard.sh", *arguments[:place], "--dry-run", *arguments[place:], SEEDS="1 2")
    assert done.returncode == 0, done.stderr
    assert clone.runs() == [] and not (clone.folder / "output").exists()
    _, calls = listed(clone)
    done = clone.sh("main_mtcoop_hard.sh", *arguments[:place], "--overwrite", *arguments[place:], SEEDS="1 2")
    assert done.returncode == 0, done.stderr
    made = [split_arguments(run) for run in clone.runs()]
    assert [("--overwrite" in options, pairs["OPTIM.LR"]) for options, pairs in made] == [(True, "0.01")] * 2
    for options, _ in made:
        del options["--overwrite"]
    assert calls == made


def test_overwrite_makes_finished_runs_anew(clone):
    for _ in range(2):
        assert clone.sh("main_mtcoop_hard.sh", *HARD, SEEDS="1").returncode == 0
    assert len(clone.runs()) == 1
    done = clone.sh("main_mtcoop_hard.sh", "--overwrite", *HARD, "OPTIM.LR", "0.5", SEEDS="1")
    assert done.returncode == 0 and len(clone.runs()) == 2, done.stderr


def test_test_on_new_classes_leaves_the_base_model_alone(clone):
    script, *arguments = BASE2NEW
    assert clone.sh(script.format("train"), *arguments, SEEDS="1").returncode == 0
    for _ in range(2):
        done = clone.sh(script.format("test"), "--overwrite", *arguments, SEEDS="1")
        assert done.returncode == 0, done.stderr
    base, *tests = [split_arguments(run)[0] for run in clone.runs()]
    assert "--overwrite" not in base and len(tests) == 2
    for options in tests:
        assert "--overwrite" in options and options["--model-dir"] == base["--output-dir"]
        assert options["--output-dir"].endswith("/new/seed1")


def test_dry_run_of_a_test_without_its_model(clone):
    script, *arguments = BASE2NEW
    done = clone.sh(script.format("test"), *arguments, "--dry-run", SEEDS="1")
    assert done.returncode == 0, done.stderr
    comments, [(options, _)] = listed(clone)
    assert "after main_coop_base2new_train.sh with the same arguments" in comments[0]
    assert options["--load-epoch"] == "last"
    assert clone.sh(script.format("train"), *arguments, SEEDS="1").returncode == 0
    assert clone.sh(script.format("test"), *arguments, "--dry-run", SEEDS="1").returncode == 0
    comments, [(options, _)] = listed(clone)
    assert comments == [] and options["--load-epoch"] == "20"


@pytest.mark.parametrize("jobs", ["1", "3"])
def test_pool_passes_the_flags_on(clone, jobs):
    demo = ["demo.sh", "OPTIM.LR", "0.01"]
    where = {"SEEDS": "2", "JOBS": jobs, "OMP_NUM_THREADS": "1"}
    done = clone.sh(*demo, "--dry-run", **where)
    assert done.returncode == 0 and done.stdout == "", done.stderr
    comments, calls = listed(clone)
    assert (len(comments), comments[0], comments[-1]) == (13, "# SoftCPT-NATA, 8 shots", "# ZeroshotCLIP")
    methods = ["MTCoOp", "MTCoOpHard", "MTCoOpHard"] * 4 + ["ZeroshotCLIP"]
    assert [options["--trainer"] for options, _ in calls] == methods
    workers = {"1": None, "3": "0"}[jobs]  # as the runs themselves would have them
    assert {(pairs["OPTIM.LR"], pairs.get("DATALOADER.NUM_WORKERS")) for _, pairs in calls} == {("0.01", workers)}
    for _ in range(2):
        done = clone.sh(*demo, "--overwrite", **where)
        assert done.returncode == 0 and "| SoftCPT-NATA" in done.stdout, done.stderr
    assert len(clone.runs()) == 26 and all("--overwrite" in run for run in clone.runs())


def test_other_scripts_of_several_launchers_pass_the_flags_on(clone):
    where = {"SEEDS": "2", "SHOTS": "1 2", "METHODS": "NATA PLOT"}
    done = clone.sh("all_methods.sh", "--dry-run", "icon5", "tiny_ep20", **where)
    assert done.returncode == 0 and "|" not in done.stdout, done.stderr
    assert [options["--trainer"] for options, _ in listed(clone)[1]] == ["MTCoOp", "PLOT"] * 2
    where["TASKS"] = "0 3"
    done = clone.sh("per_task.sh", "main_mtcoop_hard.sh", *HARD, "--dry-run", "--overwrite", **where)
    assert done.returncode == 0, done.stderr
    comments, calls = listed(clone)
    assert comments == ["# task 0", "# task 3"]
    assert [pairs["DATASET.SUBSAMPLE_TASKS"] for _, pairs in calls] == ["task0", "task3"]
    assert clone.runs() == []


def test_mistakes_in_the_arguments_end_a_dry_run(clone):
    done = clone.sh("main_mtcoop_hard.sh", *HARD[:5], "--dry-run")
    assert done.returncode == 2 and "TSC is missing" in done.stderr
    line = "one\t1\tprotonet.sh icon5 tiny 4 manhattan\ntwo\t1\tprotonet.sh icon5 tiny 4 cosine\n"
    pool = ["sh", str(clone.folder / "scripts/pool.sh"), "--dry-run"]
    environment = {**os.environ, "PYTHON": str(clone.interpreter), "STANDIN": str(clone.record)}
    done = subprocess.run(pool, input=line, env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and "METRIC has to be cosine or euclidean" in done.stderr
    assert len(listed(clone)[1]) == 1  # the others are looked at all the same
    done = clone.sh("test.sh", "--dry-run")
    assert done.returncode == 2 and "takes no --dry-run" in done.stderr


def test_printed_lines_are_those_that_run(clone):
    clone.folder = REPOSITORY
    settings = ["INPUT.SIZE", "(64, 64)", "OPTIM.LR", "1e-2"]
    where = {"OUTPUT": str(clone.record / "it's here"), "SEEDS": "7", "CHECK_SETTINGS": "yes"}
    script, *arguments = BASE2NEW
    done = clone.sh(script.format("test"), *arguments, *settings, "--dry-run", **where)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if not line.startswith("#")]
    assert len(lines) == 1 and "# 1 to run" in done.stdout
    subprocess.run(["sh", "-c", lines[0]], cwd=REPOSITORY, env={**os.environ, "STANDIN": str(clone.record)}, check=True)
    options, pairs = split_arguments(clone.runs()[0])
    folder = f"{where['OUTPUT']}/output/base2new/icon5/CoOp/tiny_ep20_4shots/nctx16_cscFalse_tscTrue"
    assert (options["--model-dir"], options["--output-dir"]) == (f"{folder}/base/seed7", f"{folder}/new/seed7")
    assert options["--config-file"] == "configs/trainers/CoOp/tiny_ep20.yaml" and options["--load-epoch"] == "20"
    assert (pairs["INPUT.SIZE"], pairs["OPTIM.LR"]) == ("(64, 64)", "1e-2")


def call(folder, *pairs, trainer="CoOp", config="tiny_ep20", options=()):
    files = [f"{REPOSITORY}/configs/{name}.yaml" for name in ("datasets/icon5", f"trainers/{trainer}/{config}")]
    places = ["--dataset-config-file", files[0], "--config-file", files[1], "--output-dir", str(folder)]
    return ["--trainer", trainer, *places, *options, "--seed", "1", *pairs]


def examine(tmp_path, capsys, *calls):
    """(status, printed, errors) of reporting.dry_run on some calls of train.py."""
    file = tmp_path / "list"
    file.write_text("".join(f"{word}\0" for words in calls for word in [len(words), *words]))
    return dry_run.main([str(file), "python"]), *capsys.readouterr()


REFUSED = {
    "OPTIM.LRR: no such setting; did you mean OPTIM.LR?": ["OPTIM.LRR", "1"],
    "DATASET.NUM_SHOTS = four: expected an integer": ["DATASET.NUM_SHOTS", "four"],
    "this suite has no task 'task9'": ["DATASET.SUBSAMPLE_TASKS", "task9"],
    "unknown dataset 'OxfordCats'": ["DATASET.TASKS", "[OxfordCats]"],
    "exclude each other": ["TRAINER.COOP.CSC", "True", "TRAINER.COOP.TSC", "True"],
    "for testing only": ["DATASET.TASKS", "[ImageNetA]"],
    "unknown backbone 'RN49'": ["MODEL.BACKBONE.NAME", "RN49"],
    "no file at /nowhere/w.pt": ["MODEL.BACKBONE.WEIGHTS", "/nowhere/w.pt"],
}


def test_settings_are_checked_without_data_and_weights(tmp_path, capsys, monkeypatch):
    def read(*_):
        raise AssertionError("data or weights are read")

    monkeypatch.setattr("clip.backbones.read_state_dict", read)
    monkeypatch.setattr("datasets.dataset.read_sources", read)
    calls = [call(tmp_path / f"seed{i}", *pairs) for i, pairs in enumerate(REFUSED.values())]
    again = call(tmp_path / "again", *REFUSED["unknown backbone 'RN49'"])
    status, printed, errors = examine(tmp_path, capsys, *calls, again, call(tmp_path / "good"))
    assert status == 2
    assert printed.count("python train.py") == len(calls) + 2
    assert f"{len(calls) + 1} of {len(calls) + 2} cannot run:" in errors
    for message in REFUSED:
        assert errors.count(message) == 1
    assert "seed6 and 1 more:" in errors and "good" not in errors
    weights = tmp_path / "own weights.pt"
    weights.touch()
    vpt = call(tmp_path / "vpt", "MODEL.BACKBONE.WEIGHTS", str(weights), trainer="VPT")
    assert examine(tmp_path, capsys, vpt)[0] == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["list", "own weights.pt"]


def test_what_is_there_already(tmp_path, capsys):
    for name, status in (("done", "complete"), ("part", "running"), ("other", "complete")):
        (tmp_path / name).mkdir()
        words = call(tmp_path / name, "OPTIM.LR", "0.5" if name == "other" else "0.1")
        (tmp_path / name / "results.json").write_text(json.dumps({"status": status, "command": ["train.py", *words]}))
    calls = [call(tmp_path / name, "OPTIM.LR", "0.1") for name in ("done", "part", "new")]
    status, printed, errors = examine(tmp_path, capsys, *calls, ["# a comment"])
    assert (status, errors) == (0, "")
    assert f"# finished already: {tmp_path}/done" in printed and f"# continues the run in {tmp_path}/part" in printed
    assert "# a comment" in printed and "# 2 to run, 1 finished already" in printed
    lines = [shlex.split(line) for line in printed.splitlines() if not line.startswith("#")]
    assert [line[line.index("--output-dir") + 1] for line in lines] == [f"{tmp_path}/part", f"{tmp_path}/new"]

    other = call(tmp_path / "other", "OPTIM.LR", "0.1")
    status, _, errors = examine(tmp_path, capsys, other)
    assert status == 2 and "holds a finished run made with other settings" in errors
    status, printed, _ = examine(tmp_path, capsys, call(tmp_path / "other", options=["--overwrite"]))
    assert status == 0 and f"# removes the run in {tmp_path}/other" in printed


def test_a_mistake_over_a_finished_run_is_named_and_not_the_settings(tmp_path, capsys):
    words = call(tmp_path, "OPTIM.LR", "0.002")
    (tmp_path / "results.json").write_text(json.dumps({"status": "complete", "command": ["train.py", *words]}))
    (tmp_path / "config.yaml").write_text(dry_run.configuration(words).dump())

    def state(*pairs):
        return run_info.main(["state", str(tmp_path), *call(tmp_path, *pairs)]), *capsys.readouterr()

    for pairs, message in (
        (("OPTIM.LRR", "0.002"), "OPTIM.LRR: no such setting; did you mean OPTIM.LR?"),
        (("OPTIM.LR", "slow"), "OPTIM.LR = slow: expected a number"),
        (("OPTIM.LR", "0.5"), "holds a finished run made with other settings"),
    ):
        status, out, err = state(*pairs)
        assert (status, out) == (3 if "other" in message else 2, "") and message in err
    assert state("OPTIM.LR", "2e-3") == (0, "complete\n", "")


def test_settings_that_a_method_does_not_read_do_not_make_its_run_another_one(tmp_path, capsys):
    def state(trainer, config, *pairs):
        folder = tmp_path / trainer
        if not folder.exists():
            folder.mkdir()
            words = call(folder, "SEED", "1", trainer=trainer, config=config)
            (folder / "results.json").write_text(json.dumps({"status": "complete", "command": ["train.py", *words]}))
            (folder / "config.yaml").write_text(dry_run.configuration(words).dump())
        words = call(folder, "SEED", "1", *pairs, trainer=trainer, config=config)
        return run_info.main(["state", str(folder), *words]), *capsys.readouterr()

    epochs, plot, templates = ("OPTIM.MAX_EPOCH", "1"), ("TRAINER.PLOT.N", "2"), ("TRAINER.ZSCLIP.ENSEMBLE", "task")
    for trainer, config in (("ZeroshotCLIP", "tiny_ep20"), ("ProtoNet", "tiny")):
        status, out, errors = state(trainer, config, *epochs, *plot)
        assert (status, out) == (
            0,
            "complete\n",
        ) and "does not read TRAINER.PLOT.N" in errors  # out is the answer alone
    assert state("CoOp", "tiny_ep20", *plot)[0] == 0
    for trainer, config, pairs, there, now in (
        ("CoOp", "tiny_ep20", (*epochs, *plot), "OPTIM.MAX_EPOCH 20", "OPTIM.MAX_EPOCH 1"),
        ("ZeroshotCLIP", "tiny_ep20", (*epochs, *templates), "TRAINER.ZSCLIP.ENSEMBLE imagenet", "ENSEMBLE task"),
    ):
        status, _, errors = state(trainer, config, *pairs)
        lines = errors.splitlines()[-3:]
        assert status == 3 and lines[0] == f"  there: {there}" and lines[1].endswith(now) and "--overwrite" in lines[2]


def test_settings_of_other_methods_are_told(tmp_path, capsys):
    pairs = ["TRAINER.PLOT.N", "2", "TRAINER.ZSCLIP.ENSEMBLE", "task", "TRAINER.COOP.N_CTX", "4", "TRAINER.PLOT.N", "4"]
    status, printed, errors = examine(tmp_path, capsys, *(call(tmp_path / name, *pairs) for name in ("a", "b")))
    assert (status, errors) == (0, "")
    [line] = [line for line in printed.splitlines() if "WARNING" in line]
    assert line.startswith("# WARNING: CoOp does not read TRAINER.PLOT.N; its own settings are TRAINER.COOP.*")
