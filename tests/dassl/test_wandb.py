"""Weights & Biases (TRAIN.WANDB): what is sent, and what happens without the package or an account."""

import importlib.machinery
import sys
import types

import pytest
import torch

from dassl.engine import build_trainer
from dassl.engine.wandb_run import REQUIREMENT
from dassl.requirements import FILE
from dassl.runs.record import known_results
from dassl.utils.errors import NonFiniteLossError, UserError
from tests.dassl import toy


@pytest.fixture
def root(tmp_path):
    toy.draw_images(tmp_path)
    with toy.registered():
        yield tmp_path


class StandIn(types.ModuleType):
    """A module with the parts of wandb that are used. `runs` are the runs that have been started."""

    class Error(Exception):
        pass

    def __init__(self):
        super().__init__("wandb")
        self.__spec__ = importlib.machinery.ModuleSpec("wandb", None)
        self.runs, self.refused = [], None

    def Settings(self, **given):
        return given

    def init(self, **given):
        if self.refused:
            raise self.refused
        self.runs.append(StandInRun(given))
        return self.runs[-1]


class StandInRun:
    def __init__(self, given):
        self.given, self.rows, self.summary, self.axes, self.code = given, [], {}, {}, None

    def define_metric(self, name, step_metric):
        self.axes[name] = step_metric

    def log(self, row):
        self.rows.append(row)

    def finish(self, exit_code):
        self.code = exit_code


@pytest.fixture
def wandb(monkeypatch):
    module = StandIn()
    monkeypatch.setitem(sys.modules, "wandb", module)
    monkeypatch.setattr("dassl.engine.wandb_run.met", lambda requirement: True)
    return module


def test_it_gets_numbers_settings_command_and_results(root, wandb):
    cfg = toy.config(root, root / "run", TRAIN__WANDB="lab/shapes", TEST__FINAL_MODEL="best_val")
    trainer = build_trainer(cfg)
    trainer.train()
    (run,) = wandb.runs
    assert (run.given["entity"], run.given["project"]) == ("lab", "shapes") and run.given["dir"] == cfg.OUTPUT_DIR
    assert run.given["config"]["OPTIM.LR"] == cfg.OPTIM.LR and run.given["config"]["command"] == sys.argv
    assert run.given["config"]["method"] == "ToyCoOp" and run.given["config"]["seed"] == 0
    train = [row for row in run.rows if "train/loss" in row]
    assert [row["train/step"] for row in train] == list(range(12))  # 4 epochs of 3 batches, one row each
    assert all({"train/loss", "train/acc", "train/lr"} <= row.keys() for row in train)
    validated = [row for row in run.rows if "val/accuracy" in row]
    assert [row["epoch"] for row in validated] == [0, 1, 2, 3]
    (tested,) = [row for row in run.rows if "test/accuracy" in row]
    record = known_results(root / "run")
    assert tested["test/accuracy"] == record["mean"]["value"] and tested["test/ece"] == record["mean"]["ece"]
    assert run.axes == {"train/*": "train/step", "val/*": "epoch", "test/*": "epoch"}
    assert run.summary["result"]["mean"] == record["mean"]
    assert run.summary["result"]["tasks"]["ToyColours"] == record["tasks"][0]
    assert run.code == 0


def test_it_changes_no_result_and_a_test_alone_is_a_run(root, wandb):
    build_trainer(toy.config(root, root / "plain")).train()
    assert not wandb.runs
    build_trainer(toy.config(root, root / "run", TRAIN__WANDB="shapes")).train()
    files = [root / name / "learner" / "model.pth.tar-4" for name in ("plain", "run")]
    first, second = (known_results(root / name) for name in ("plain", "run"))
    assert first["mean"] == second["mean"] and first["hashes"] == second["hashes"]
    assert (root / "plain/predictions.csv").read_bytes() == (root / "run/predictions.csv").read_bytes()
    one, two = (torch.load(file, weights_only=True)["state_dict"] for file in files)
    assert all(torch.equal(value, two[key]) for key, value in one.items())
    again = build_trainer(toy.config(root, root / "test", TRAIN__WANDB="shapes"))
    again.load_model(str(root / "run"), epoch=4)
    again.test_and_record()
    again.close()
    assert wandb.runs[-1].given["entity"] is None and len(wandb.runs) == 2
    assert wandb.runs[-1].summary["result"]["mean"] == first["mean"] and wandb.runs[-1].code == 0


def test_a_failed_run_is_a_failed_run(root, wandb, monkeypatch):
    def diverge(self, batch):
        raise NonFiniteLossError("the loss is NaN")

    monkeypatch.setattr(toy.ToyCoOp, "forward_backward", diverge)
    trainer = build_trainer(toy.config(root, root / "run", TRAIN__WANDB="shapes"))
    with pytest.raises(NonFiniteLossError):
        trainer.train()
    trainer.close()
    assert wandb.runs[0].code == 1 and not wandb.runs[0].summary


def test_without_the_package_a_project_or_an_account(root, wandb, monkeypatch):
    for project in ("", "/", "lab/", "/shapes", "a/b/c"):
        cfg = toy.config(root, root / "run", TRAIN__WANDB=project)
        if project:
            with pytest.raises(UserError, match="expected PROJECT or TEAM/PROJECT"):
                build_trainer(cfg)
    cfg = toy.config(root, root / "run", TRAIN__WANDB="shapes")
    wandb.refused = wandb.Error("no API key\nconfigured")
    with pytest.raises(UserError, match="cannot start: no API key configured. `wandb login` logs in, WANDB_MODE=off"):
        build_trainer(cfg).train()
    for missing in (None, types.ModuleType("wandb")):  # not installed; a folder of this name
        monkeypatch.setitem(sys.modules, "wandb", missing)
        with pytest.raises(UserError, match="shapes needs the package wandb>=.*pip install -r requirements-wandb.txt"):
            build_trainer(cfg)
    build_trainer(toy.config(root, root / "off"))
    assert REQUIREMENT in (FILE.parent / "requirements-wandb.txt").read_text().splitlines()


def test_an_offline_run_of_the_package_itself(root, monkeypatch):
    pytest.importorskip("wandb", reason="wandb is not installed (requirements-wandb.txt)")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("HOME", str(root / "jane"))
    trainer = build_trainer(toy.config(root, root / "run", TRAIN__WANDB="shapes", OPTIM__MAX_EPOCH=1))
    trainer.train()
    (file,) = (root / "run" / "wandb").glob("offline-run-*/run-*.wandb")
    content = file.read_bytes()
    assert b"train/loss" in content and b"OPTIM.LR" in content and b"macro_f1" in content
    written = b"".join(path.read_bytes() for path in (root / "run" / "wandb").rglob("*.wandb"))
    assert b"jane" not in written
