"""train.py: exit codes, one message per user error, finished and unfinished folders."""

import errno
import multiprocessing
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import dassl.config.tree
import train
from dassl.config import read_yaml
from dassl.runs.open import load_trainer, read_setup
from dassl.utils import UserError, read_json, write_json
from tests.dassl import toy

PROJECT = Path(__file__).parents[2]


class ToyFixed(toy.ToyCoOp):
    learns = False


class ToyBuggy(toy.ToyCoOp):
    def build_model(self):
        int("a bug")


class ToyKept(toy.ToyCoOp):
    """A trainer that outlives its run, as in a debugger after an error."""

    kept = []

    def build_model(self):
        self.kept.append(self)
        super().build_model()

    def forward_backward(self, batch):
        if self.epoch == 1:
            raise UserError("stop here")
        return super().forward_backward(batch)


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setattr(dassl.config.tree, "_settings", dassl.config.settings())
    dassl.config.declare("TRAINER.TOYCOOP.PREC", "fp32", allowed=("fp32", "amp"))
    with toy.registered(ToyFixed, ToyBuggy, ToyKept):
        yield


@pytest.fixture
def run(tmp_path, capsys):
    toy.draw_images(tmp_path)
    settings = tmp_path / "toy.yaml"
    settings.write_text(toy.config(tmp_path, "").dump())

    def run(*arguments, output="run"):
        """Exit status, stdout, stderr."""
        status = train.main(
            ["--config-file", str(settings), "--output-dir", str(tmp_path / output), *map(str, arguments)]
        )
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def fails(outcome, *parts):
    """One message on stderr, status 2."""
    status, _, err = outcome
    assert status == 2 and err.startswith("error: ") and "Traceback" not in err
    for part in parts:
        assert part in err


def test_train_then_finished_then_overwrite(run, tmp_path):
    status, out, err = run("--seed", 0, "OPTIM.MAX_EPOCH", 1)
    assert status == 0 and "Finished training" in out
    log = (tmp_path / "run" / "log.txt").read_text()
    assert log.endswith(out) and "MAX_EPOCH: 1" in log and "MAX_EPOCH: 1" not in out  # the settings are in the log
    before = (tmp_path / "run" / "results.json").read_text()
    status, out, err = run("--seed", 0, "OPTIM.MAX_EPOCH", 1)
    assert status == 0 and len(out.splitlines()) == 1 and "contains a finished run" in out
    assert (tmp_path / "run" / "results.json").read_text() == before
    (tmp_path / "run" / "notes.txt").write_text("mine")
    below = tmp_path / "run" / "other" / "learner" / "model.pth.tar-1"  # another run in a folder below
    below.parent.mkdir(parents=True)
    below.touch()
    fails(run("--seed", 0), "a finished run with other settings", "OPTIM.MAX_EPOCH: 1 in the folder, ")
    status, out, err = run("OPTIM.MAX_EPOCH", 2, "--overwrite", "--seed", 0)  # flags may follow the settings
    assert status == 0 and read_json(tmp_path / "run" / "results.json")["epoch"] == 2
    assert (tmp_path / "run" / "notes.txt").exists() and below.exists() and not list(tmp_path.glob("run/learner/*-1"))
    # The resolved configuration repeats the run.
    config = str(tmp_path / "run" / "config.yaml")
    assert train.main(["--config-file", config, "--output-dir", str(tmp_path / "again")]) == 0
    a, b = read_json(tmp_path / "run" / "results.json"), read_json(tmp_path / "again" / "results.json")
    assert a["tasks"] == b["tasks"] and a["hashes"] == b["hashes"]


def test_unfinished_folder_is_continued_with_its_own_settings_only(run, tmp_path):
    assert run("--seed", -1, "OPTIM.MAX_EPOCH", 2, "TEST.NO_TEST", "True")[0] == 0
    results = read_json(tmp_path / "run" / "results.json")
    write_json({**results, "status": "running"}, tmp_path / "run" / "results.json")
    fails(
        run("--seed", -1, "OPTIM.MAX_EPOCH", 2, "OPTIM.LR", 0.1),
        "other settings",
        "OPTIM.LR: 0.05 in the folder, 0.1 now",
    )
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    fails(run("--eval-only", "--model-dir", tmp_path / "copy"), "contains an unfinished training run")
    status, out, _ = run("--seed", -1, "OPTIM.MAX_EPOCH", 2, "TEST.NO_TEST", "True")  # resumes with the recorded seed
    assert status == 0 and "after epoch 2" in out
    assert read_json(tmp_path / "run" / "results.json")["seed"] == results["seed"] >= 0


def test_eval_only(run, tmp_path):
    assert run("OPTIM.MAX_EPOCH", 2)[0] == 0
    value = read_json(tmp_path / "run" / "results.json")["mean"]["value"]
    model = tmp_path / "run"
    status, out, _ = run("--eval-only", "--model-dir", model, "--load-epoch", 2, output="eval")
    record = read_json(tmp_path / "eval" / "results.json")
    assert status == 0 and record["status"] == "complete" and record["mean"]["value"] == value
    assert "Finished training" not in out and not list(tmp_path.glob("eval/*/model*"))
    for more in ((), ("--overwrite",)):  # which would have removed the model
        fails(run("--eval-only", "--model-dir", model, *more), "is the folder of the model that is tested")
    assert list(model.glob("*/model.pth.tar-2"))
    fails(run("--eval-only", output="e"), "--eval-only needs --model-dir", "ToyCoOp")
    fails(
        run("--eval-only", "--model-dir", model, "--load-epoch", 7, output="e"), "epoch 7", "epochs with checkpoints: 2"
    )
    fails(run("--eval-only", "--model-dir", tmp_path / "x", output="e"), "no such folder")
    fails(run("--eval-only", "--model-dir", tmp_path / "toy", output="e"), "contains no checkpoint")
    fails(run("--eval-only", "--model-dir", model / "learner", output="e"), "contains no checkpoint")
    fails(run("--model-dir", model, output="e"), "--resume continues a run")
    fails(run("--resume", tmp_path / "x", output="e"), "no such folder")
    assert not (tmp_path / "e").exists()
    assert run("--resume", tmp_path / "own", output="own")[0] == 0  # its own empty folder: training starts
    for arguments in (("--eval-only",), ()):  # a trainer that does not learn needs no model
        output = f"fixed{len(arguments)}"
        status, out, _ = run("--trainer", "ToyFixed", *arguments, output=output)
        assert status == 0 and "=> result" in out and "Finished training" not in out
        record = read_json(tmp_path / output / "results.json")
        assert record["status"] == "complete" and record["epochs"] == 0


def test_no_train_builds_and_stops(run, tmp_path):
    status, out, _ = run("--no-train")
    assert status == 0
    assert not (tmp_path / "run" / "results.json").exists()
    assert (
        "Everything is built and nothing is trained: ToyCoOp, 1 task, 3 classes, 18 training images, "
        "6 unlabelled images, 9 validation images, 18 test images, 585 learnable parameters\n"
        "To train: the same command without --no-train\n"
    ) in out


@pytest.mark.parametrize(("epochs", "status"), [(1, 0), (3, 2)])
def test_no_worker_outlives_a_run(run, epochs, status):
    settings = ("OPTIM.MAX_EPOCH", epochs, "DATALOADER.NUM_WORKERS", 2)
    assert run("--trainer", "ToyKept", *settings)[0] == status
    assert ToyKept.kept[-1].train_loader_x.persistent_workers
    assert multiprocessing.active_children() == []
    assert len(list(ToyKept.kept.pop().train_loader_x)) == 3  # the workers start again on demand


def test_splits_that_have_changed_are_told(run, tmp_path, monkeypatch):
    first = tmp_path / "run"
    assert run("OPTIM.MAX_EPOCH", 2)[0] == 0
    again = ("--config-file", first / "config.yaml")  # the last one given counts
    model = ("--eval-only", "--model-dir", first, "--load-epoch", 2)
    for arguments, output in ((again, "a"), (model, "b"), (("--resume", first), "c")):
        status, out, _ = run(*arguments, "OPTIM.MAX_EPOCH", 2, output=output)
        assert status == 0 and "WARNING" not in out
    (tmp_path / "toy" / "red thing" / "0.png").rename(tmp_path / "toy" / "red thing" / "9.png")
    for arguments, output in ((again, "d"), (model, "e"), (("--resume", first), "f")):
        status, out, _ = run(*arguments, "OPTIM.MAX_EPOCH", 2, output=output)
        [line] = [line for line in out.splitlines() if line.startswith("WARNING")]
        hashes = [read_json(tmp_path / name / "results.json")["hashes"]["split"][:12] for name in ("run", output)]
        assert status == 0 and f"in {first} " in line and all(value in line for value in hashes)
    assert "WARNING: the splits" not in run(*again, "--seed", 5, output="g")[1]  # another seed may draw other splits
    with monkeypatch.context() as there:
        there.chdir(first)
        assert "WARNING: the splits" in run("--config-file", "config.yaml", "OPTIM.MAX_EPOCH", 2, output="h")[1]

    record = read_json(first / "results.json")
    write_json({**record, "status": "running"}, first / "results.json")
    fails(run("OPTIM.MAX_EPOCH", 2), "differ from the splits of the run in", "start anew with --overwrite")
    assert list(first.glob("*/model.pth.tar-2"))
    assert run("OPTIM.MAX_EPOCH", 2, "--overwrite")[0] == 0


def test_configuration_mistakes_all_at_once(run, tmp_path):
    outcome = run(
        "--trainer", "ToyCop", "--transforms", "random_flip", "--seed", 3, "OPTIM.LRR", 1, "TEST.SPLIT", "tset"
    )
    fails(
        outcome,
        "OPTIM.LRR",
        "did you mean OPTIM.LR?",
        "TRAINER.NAME = ToyCop",
        "TEST.SPLIT = tset",
        "did you mean test?",
    )
    assert not (tmp_path / "run").exists()


def test_no_dataset(run):
    fails(run("DATASET.NAME", ""), "no dataset is given (DATASET.NAME)", "--dataset-config-file")


def test_arguments_set_their_settings():
    arguments = ["--root", "R", "--output-dir", "O", "--seed", "0", "--trainer", "ToyCoOp", "--backbone", "tiny"]
    arguments += [
        "--old-data-path",
        "/a",
        "--new-data-path",
        "/b",
        "OPTIM.LR",
        "1",
        "--transforms",
        "random_flip",
        "normalize",
    ]
    cfg = train.configure(train.parse(arguments))
    assert (cfg.DATASET.ROOT, cfg.OUTPUT_DIR, cfg.SEED, cfg.TRAINER.NAME) == ("R", "O", 0, "ToyCoOp")
    assert (
        cfg.MODEL.BACKBONE.NAME == "tiny"
        and cfg.OPTIM.LR == 1
        and type(cfg.INPUT.TRANSFORMS)(["random_flip", "normalize"]) == cfg.INPUT.TRANSFORMS
    )
    assert (cfg.DATALOADER.OLD_DATA_PATH, cfg.DATALOADER.NEW_DATA_PATH) == ("/a", "/b")


def test_unwritable_output_folder(run, tmp_path):
    (tmp_path / "file").touch()
    fails(run(output="file"), "cannot write to the output folder")
    fails(run(output="file/below"), "cannot write to the output folder")


def test_two_runs_do_not_share_a_folder(run, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    code = "import sys; from dassl.runs.folder import hold; hold(sys.argv[1]); print('holds', flush=True); input()"
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)],
        cwd=PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with other:
        assert other.stdout.readline() == "holds\n"
        for flag in ((), ("--overwrite",)):
            fails(
                run("OPTIM.MAX_EPOCH", 1, *flag), "another run is going on", f"process {other.pid} on ", "--output-dir"
            )
        assert {path.name for path in folder.iterdir()} == {".lock", ".lock.owner"}  # the run wrote nothing else
        assert run("OPTIM.MAX_EPOCH", 1, output="elsewhere")[0] == 0
        other.kill()  # the lock of a killed run does not count
        other.wait()
    assert (folder / ".lock").exists()
    assert run("OPTIM.MAX_EPOCH", 1)[0] == 0 and not list(folder.glob(".lock*"))


def test_broken_image_and_bug(run, tmp_path):
    (tmp_path / "toy" / "red thing" / "0.png").write_bytes(b"no image")
    for workers in (0, 1):
        outcome = run("DATALOADER.NUM_WORKERS", workers)
        fails(outcome, "0.png", "ToyColours")
        assert len(outcome[2].splitlines()) == 1
    record = read_json(tmp_path / "run" / "results.json")
    assert record["status"] == "failed" and "0.png" in record["error"]
    assert "error: " in (tmp_path / "run" / "log.txt").read_text()
    with pytest.raises(ValueError, match="a bug"):
        run("--trainer", "ToyBuggy", output="bug")
    assert read_json(tmp_path / "bug" / "results.json")["status"] == "failed"
    assert "Traceback" in (tmp_path / "bug" / "log.txt").read_text()


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def finished(run, tmp_path):
    """A finished run, with files of the user among its own."""
    assert run("OPTIM.MAX_EPOCH", 1, "TRAIN.TENSORBOARD", "True")[0] == 0
    folder = tmp_path / "run"
    for name in ("tensorboard/notes.txt", "log.txt.mine", "learner/model.pth.tar-1.mine", "results.json.mine"):
        (folder / name).write_text("mine")
    shutil.copytree(folder / "learner", folder / "kept")
    return folder


@pytest.mark.parametrize(
    "more",
    [
        ("--seed", "x"),
        ("DATASET.NAME", "ToyColour"),
        ("DATASET.ROOT", "/nowhere"),
        ("MODEL.INIT_WEIGHTS", "/nowhere"),
        ("--resume", "/nowhere"),
        ("--trainer", "ToyBuggy"),
        ("--no-train",),
    ],
)
def test_overwrite_keeps_the_run_until_the_new_one_is_built(run, finished, more):
    before = contents(finished)
    try:
        status = run("--overwrite", *more)[0]
        assert status == (0 if more == ("--no-train",) else 2)
    except (SystemExit, ValueError):  # argparse, and the bug
        pass
    assert contents(finished) == before


def test_overwrite_keeps_the_run_if_it_is_stopped_early(run, finished, monkeypatch):
    before = contents(finished)

    def stop(self):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(toy.ToyCoOp, "build_model", stop)
        assert run("--overwrite")[0] == 130 and contents(finished) == before
    status, out, _ = run("--overwrite", "OPTIM.MAX_EPOCH", 1, "--eval-only", "--trainer", "ToyFixed")
    after = contents(finished)
    assert status == 0 and "=> result" in (finished / "log.txt").read_text() and "ToyCoOp" not in out
    mine = {path for path in before if path.suffix == ".mine" or path.parent.name == "kept"}
    own = {finished / name for name in ("results.json", "config.yaml", "tasks.json", "predictions.csv", "log.txt")}
    notes = {(finished / "tensorboard/notes.txt").relative_to(finished)}
    assert after.keys() == mine | notes | {path.relative_to(finished) for path in own}
    assert read_json(finished / "results.json")["trainer"] == "ToyFixed"


def test_a_damaged_checkpoint_is_never_used(run, finished):
    path = finished / "learner" / "model.pth.tar-1"
    whole = path.read_bytes()
    other = path.with_name("model.pth.tar-3")
    other.write_bytes(whole)
    shutil.copy(finished / "bias/model.pth.tar-1", finished / "bias/model.pth.tar-3")
    model = ("--eval-only", "--model-dir", finished, "--load-epoch", 1)
    status, out, _ = run("--resume", finished, "OPTIM.MAX_EPOCH", 1, output="a")  # the older one is what its name says
    assert status == 0 and f"{other} is named after epoch 3 and is a checkpoint of epoch 1" in out
    other.unlink()
    path.write_bytes(whole.replace(whole[1000:1010], bytes(10)))
    for more in (model, ("--resume", finished)):
        fails(run(*more, output="b"), f"{path} is not a complete checkpoint", "checksum")
    results = read_json(finished / "results.json")
    write_json({**results, "status": "running"}, finished / "results.json")
    fails(run("OPTIM.MAX_EPOCH", 1, "TRAIN.TENSORBOARD", "True"), "no checkpoint in", "can be read", str(path))
    assert path.exists()


def test_settings_are_compared_by_their_hash_without_config_yaml(run, finished):
    same = ("OPTIM.MAX_EPOCH", 1, "TRAIN.TENSORBOARD", "True")
    (finished / "config.yaml").unlink()
    assert "nothing to do" in run(*same, "--seed", -1)[1]
    fails(run(*same, "OPTIM.LR", 0.1), "a finished run without a config.yaml", "--overwrite")


def test_a_trainer_that_takes_only_a_configuration_is_opened_with_its_data(finished):
    class ToyCfgOnly(toy.ToyCoOp):
        def __init__(self, cfg):
            super().__init__(cfg)

    toy.TRAINER_REGISTRY.register(ToyCfgOnly)
    cfg, space = read_setup(str(finished))
    cfg.TRAINER.NAME = "ToyCfgOnly"
    trainer = load_trainer(str(finished), cfg, space, epoch=1)
    assert trainer.dm.space.num_classes == 3 and trainer.test_loader is not None


def test_no_file_of_a_run_names_the_home_folder(tmp_path, monkeypatch, capsys):
    home = tmp_path / "homes" / "jane"
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setattr(socket, "gethostname", lambda: "janes-machine")
    toy.draw_images(home)
    weights = home / "w.pth"
    torch.save(torch.nn.Linear(1, 1).state_dict(), weights)
    (home / "toy.yaml").write_text(toy.config(home, "", OPTIM__MAX_EPOCH=1, TRAIN__TENSORBOARD=True).dump())
    output = home / "out" / "run"
    settings = ["--config-file", str(home / "toy.yaml"), "MODEL.INIT_WEIGHTS", str(weights)]
    with pytest.warns(UserWarning, match="no tensor"):
        assert train.main([*settings, "--output-dir", str(output)]) == 0
    shared = [path for path in output.rglob("*") if path.is_file()]
    assert len(shared) == 10 and not [path for path in shared if b"jane" in path.read_bytes() + path.name.encode()]
    config = read_yaml(output / "config.yaml")
    assert config["DATASET"]["ROOT"] == "~" and config["OUTPUT_DIR"] == "~/out/run"
    assert config["MODEL"]["INIT_WEIGHTS"] == "~/w.pth"

    capsys.readouterr()
    assert train.main([*settings, "--output-dir", str(output)]) == 0  # the same settings, written otherwise
    assert "nothing to do" in capsys.readouterr().out
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.warns(UserWarning, match="no tensor"):
        assert train.main(["--config-file", str(output / "config.yaml"), "--output-dir", "~/out/again"]) == 0
    a, b = read_json(output / "results.json"), read_json(home / "out" / "again" / "results.json")
    assert a["mean"] == b["mean"] and a["hashes"] == b["hashes"]
    assert train.main(["--config-file", str(home / "toy.yaml"), "--output-dir", "~/out/x", "DATASET.ROOT", "~/no"]) == 2
    assert "~/no" in read_json(home / "out" / "x" / "results.json")["error"]


def test_overwrite_and_resume_contradict_each_other(run, finished):
    fails(run("--overwrite", "--resume", finished), "give one of them")


def test_a_finished_test_of_another_model_is_no_result(run, finished, tmp_path):
    """Nor is a test the result of a training, or the other way round."""
    test = ("--eval-only", "--load-epoch", 1, "--model-dir")
    assert run(*test, finished, output="test")[0] == 0
    shutil.copytree(finished, tmp_path / "copy")
    fails(
        run(*test, tmp_path / "copy", output="test"),
        "the model in ../run, epoch 1; now it is a test of the model in ../copy",
    )
    status, out, _ = run(*test, finished, output="test")
    assert status == 0 and "nothing to do" in out
    fails(run(output="test"), "contains a test of the model in ../run, epoch 1; now it is a training run")
    fails(run(*test, tmp_path / "copy", "OPTIM.MAX_EPOCH", 1), "contains a training run; now it is a test")


def test_arguments_without_effect_are_refused(run, finished, tmp_path):
    for given in (("--model-dir", finished), ("--load-epoch", 1), ("--resume", finished)):
        for more in ((), ("--eval-only",)):
            fails(run("--trainer", "ToyFixed", *given, *more, output="e"), "ToyFixed learns nothing")
    fails(run("--eval-only", "--model-dir", finished, "--resume", finished, output="e"), "omit --resume")
    assert not (tmp_path / "e").exists()
    assert train.main(["--config-file", str(tmp_path / "toy.yaml"), "--output-dir", ""]) == 2


@pytest.mark.parametrize("name", [".lock", ".lock.owner"])
def test_pipes_named_as_the_lock_do_not_hang(run, tmp_path, name):
    (tmp_path / "run").mkdir()
    os.mkfifo(tmp_path / "run" / name)
    assert run("OPTIM.MAX_EPOCH", 1, "TEST.NO_TEST", "True")[0] == 0


@pytest.mark.parametrize("name", ["tensorboard", "learner", "results.json", "log.txt"])
def test_things_in_the_way_are_found_before_anything_is_built(run, tmp_path, monkeypatch, name):
    monkeypatch.setattr(toy.ToyCoOp, "model_names", ("learner",), raising=False)
    path = tmp_path / "run" / name
    path.parent.mkdir()
    path.mkdir() if "." in name else path.touch()
    fails(run("--trainer", "ToyBuggy", "TRAIN.TENSORBOARD", "True"), f"{path} is in the way")


@pytest.mark.parametrize("name", ["results.json", "model.pth.tar-2", "config.yaml"])
def test_a_full_disk_is_one_line_and_nothing_stays_locked(run, tmp_path, monkeypatch, name):
    replace = os.replace

    def full(source, target):
        if str(target).endswith(name):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), source, None, target)
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    outcome = run("OPTIM.MAX_EPOCH", 2)
    fails(outcome, f"{name}: No space left on device; free some space")
    assert len(outcome[2].splitlines()) == 1
    names = {path.name for path in tmp_path.glob("run/**/*")}
    assert not any(name.startswith(".") for name in names)
    if name != "results.json":
        assert read_json(tmp_path / "run" / "results.json")["status"] == "failed"


def test_the_record_of_an_interrupted_run_says_so(run, tmp_path, monkeypatch):
    def after_epoch(self):
        toy.ToyCoOp.after_epoch(self)
        raise KeyboardInterrupt

    monkeypatch.setattr(ToyKept, "after_epoch", after_epoch)
    status, _, err = run("--trainer", "ToyKept", "TRAIN.CHECKPOINT_FREQ", 1)
    record = read_json(tmp_path / "run" / "results.json")
    assert record["epoch"] == 1
    assert status == 130 and err.startswith("interrupted") and len(err.splitlines()) == 1
    assert record["status"] == "interrupted" and "error" not in record and record["finished"]
    eval_only = ("--eval-only", "--model-dir", tmp_path / "run", "--load-epoch", 1)
    status, out, err = run(*eval_only, output="eval")
    assert (status, err) == (0, "") and "WARNING" in out and "the run is not finished, its status is interrupted" in out


def test_status_of_the_real_program(tmp_path):
    command = [sys.executable, "train.py", "--output-dir", str(tmp_path / "run"), "--trainer", "Nope"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and "TRAINER.NAME = Nope" in done.stderr and "Traceback" not in done.stderr
    assert not done.stdout
