"""Trainers written for Dassl train, test, save and load; steps are counted; mistakes are told."""

import pytest
import torch
from torch import nn

from dassl.engine import TRAINER_REGISTRY, TrainerBase, TrainerXU, build_trainer
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.runs.checkpoints import require_checkpoint
from dassl.utils import read_json
from dassl.utils.errors import ConfigError, NonFiniteLossError, UserError
from tests.dassl import toy


@pytest.fixture
def root(tmp_path):
    toy.draw_images(tmp_path)
    with toy.registered(ToyCounting, ToyDiverging, ToyMultiTask, ToyXU):
        yield tmp_path


class CountingSGD(torch.optim.SGD):
    steps = 0

    def step(self, closure=None):
        self.steps += 1
        return super().step(closure)


class ToyCounting(toy.ToyCoOp):
    """One optimiser and one schedule under three names, as SoftCPT's published trainer registers them."""

    def build_model(self):
        self.model = toy.ToyNet(self.dm.dataset.classnames)
        self.optim = CountingSGD(self.model.parameters(), lr=self.cfg.OPTIM.LR)
        self.sched = build_lr_scheduler(self.optim, self.cfg.OPTIM)
        for name in ("a", "b", "c"):
            self.register_model(name, self.model, self.optim, self.sched)
        if self.cfg.TRAINER.TOYCOOP.PREC == "amp":
            self.scaler = torch.amp.GradScaler("cpu")


class ToyDiverging(toy.ToyCoOp):
    def forward_backward(self, batch):
        if self.epoch == 1 and self.batch_idx == 2:
            self.model_backward_and_update(self.model(batch["img"]).sum() * float("nan"))
        return {"loss": 1.0}


class ToyMultiTask(toy.ToyCoOp):
    def forward_backward(self, batch):
        output = self.model(batch["img"])
        loss = nn.functional.cross_entropy(output, self.dm.space.column(batch["task"], batch["label"]))
        self.model_backward_and_update(loss)
        return {"loss": loss.item()}


class ToyXU(TrainerXU, toy.ToyCoOp):
    def forward_backward(self, batch_x, batch_u):
        x, y, u = self.parse_batch_train(batch_x, batch_u)
        self.seen = (*getattr(self, "seen", ()), (len(x), len(u)))
        loss = nn.functional.cross_entropy(self.model(x), y) + 0 * self.model(u).sum()
        self.model_backward_and_update(loss)
        return {"loss_x": loss.item()}

    parse_batch_train = TrainerXU.parse_batch_train


def test_coop_style_trainer_learns_tests_and_records(root, capsys):
    cfg = toy.config(root, root / "run", OPTIM__MAX_EPOCH=12, OPTIM__LR=0.2, TRAIN__TENSORBOARD=True)
    cfg.freeze()
    trainer = build_trainer(cfg)
    trainer.train()
    out = capsys.readouterr().out
    assert "epoch [1/12][2/3]\ttime " in out and "\tlr 1.000e-05" in out and "\tlr 2.000e-01" in out
    assert out.index("Finished training") < out.index("=> result\n* total: 18\n")
    record = read_json(root / "run" / "results.json")
    assert record["status"] == "complete" and record["trainer"] == "ToyCoOp" and record["suite"] == "ToyColours"
    assert record["seed"] == 0 and record["epoch"] == record["epochs"] == 12 and record["device"] == "cpu"
    assert record["learnable_parameters"] == 3 * 64 * 3 + 3 + 6
    assert record["tasks"][0]["value"] == record["mean"]["value"] > 90
    assert record["tasks"][0]["images"] == 18 and record["tasks"][0]["classes"] == 3
    assert record["hashes"]["split"] and record["hashes"]["config"] and record["peak_memory_bytes"] > 1e6
    assert list((root / "run" / "tensorboard").iterdir())

    # The saved model, loaded Dassl's way, gives the same result; the resolved configuration builds the same run.
    again = build_trainer(cfg)
    again.load_model(str(root / "run"), epoch=12)
    assert again.test() == pytest.approx(record["mean"]["value"])
    repeat = toy.config(root, root / "other")
    repeat.merge_from_file(str(root / "run" / "config.yaml"))
    assert repeat == cfg
    with pytest.raises(FileNotFoundError):
        again.load_model(str(root / "run"), epoch=3)


def test_same_seed_same_weights_other_seed_others(root):
    def weights(seed, folder):
        cfg = toy.config(root, root / folder, SEED=seed, TEST__NO_TEST=True)
        build_trainer(cfg).train()
        path = root / folder / "learner" / "model.pth.tar-4"
        return torch.load(path, weights_only=True)["state_dict"]["1.weight"]

    assert torch.equal(weights(0, "a"), weights(0, "b"))
    assert not torch.equal(weights(0, "a"), weights(1, "c"))


def test_negative_seed_is_drawn_and_recorded(root):
    trainer = build_trainer(toy.config(root, root / "run", SEED=-1, OPTIM__MAX_EPOCH=1))
    trainer.train()
    assert trainer.cfg.SEED >= 0
    assert read_json(root / "run" / "results.json")["seed"] == trainer.cfg.SEED


@pytest.mark.parametrize(
    ("repeat", "prec", "steps", "schedule"), [(0, "fp32", 1, 1), (1, "fp32", 1, 1), (3, "fp32", 3, 3), (3, "amp", 1, 3)]
)
def test_each_optimiser_and_schedule_steps_once_unless_the_quirk_is_asked_for(root, repeat, prec, steps, schedule):
    cfg = toy.config(root, root / "run", "ToyColours", "ToyCounting", OPTIM__LEGACY_REPEAT_STEP=repeat)
    cfg.TRAINER.TOYCOOP.PREC = prec
    cfg.OPTIM.WARMUP_EPOCH, cfg.OPTIM.MAX_EPOCH, cfg.TEST.NO_TEST = -1, 2, True
    if prec == "amp" and not hasattr(torch.amp, "GradScaler"):
        pytest.skip("this torch has no GradScaler for CPUs")
    trainer = build_trainer(cfg)
    trainer.train()
    assert trainer.optim.steps == 2 * 3 * steps  # epochs * batches
    assert trainer.sched.last_epoch == 2 * schedule


def test_quirk_runs_through_the_cosine_four_times_as_fast(root):
    model = nn.Linear(2, 2)
    cfg = toy.config(root, root, OPTIM__LEGACY_REPEAT_STEP=4, OPTIM__WARMUP_EPOCH=-1, OPTIM__MAX_EPOCH=8)
    trainer = TrainerBase()
    trainer.cfg = cfg
    optim = build_optimizer(model, cfg.OPTIM)
    trainer.register_model("m", model, optim, build_lr_scheduler(optim, cfg.OPTIM))
    rates = []
    for _ in range(8):
        rates.append(trainer.get_current_lr())
        trainer.model_backward_and_update(model(torch.ones(1, 2)).sum())
        trainer.update_lr()
    assert rates == pytest.approx([0.05, 0.025, 0, 0.025, 0.05, 0.025, 0, 0.025], abs=1e-9)
    assert trainer.get_current_lr() == pytest.approx(0.05)  # ends at its peak


def test_repeated_steps_are_on_the_same_gradient(root):
    model = nn.Linear(1, 1, bias=False)
    cfg = toy.config(root, root, OPTIM__LEGACY_REPEAT_STEP=3, OPTIM__MOMENTUM=0.0, OPTIM__WEIGHT_DECAY=0.0)
    trainer = TrainerBase()
    trainer.cfg = cfg
    trainer.register_model("m", model, build_optimizer(model, cfg.OPTIM))
    before = model.weight.item()
    trainer.model_backward_and_update((model.weight**2).sum())
    assert model.weight.item() == pytest.approx(before - 3 * 0.05 * 2 * before)


def test_non_finite_loss_names_epoch_batch_and_tasks(root):
    cfg = toy.config(root, root / "run", "ToySuite", "ToyDiverging", TEST__EVALUATOR="ClassificationMT")
    cfg.DATALOADER.TRAIN_X.BATCH_SIZE = 12
    with pytest.raises(NonFiniteLossError, match=r"epoch 2, batch 3 of 3, tasks of the batch: .*\(.*\)") as caught:
        build_trainer(cfg).train()
    assert isinstance(caught.value, FloatingPointError)
    assert "0 (colours of things)" in str(caught.value) or "4 (redness)" in str(caught.value)


def test_multi_task_evaluation_through_the_engine(root, capsys):
    cfg = toy.config(root, root / "run", "ToySuite", "ToyMultiTask", TEST__EVALUATOR="ClassificationMT")
    build_trainer(cfg).train()
    record = read_json(root / "run" / "results.json")
    assert [task["id"] for task in record["tasks"]] == [0, 4]
    assert record["tasks"][1]["classes_without_images"] == ["invisible"] and record["tasks"][1]["metric"] == "mean_acc"
    assert record["mean"]["value"] == pytest.approx(sum(task["value"] for task in record["tasks"]) / 2)
    out = capsys.readouterr().out
    assert f"* task: 4 (redness)\ttotal: 18\tmetric: {record['tasks'][1]['mean_acc']:.2f}%\n* average: " in out


def test_best_model_on_validation(root, capsys):
    build_trainer(toy.config(root, root / "run", TEST__FINAL_MODEL="best_val")).train()
    out = capsys.readouterr().out
    assert out.count("=> validation result") == 4 and out.count("=> result") == 1
    assert (root / "run" / "learner" / "model-best.pth.tar").is_file()


def test_without_a_validation_result_the_last_model_is_tested(root, capsys, monkeypatch):
    """As where the only metric is an area under a curve, and the validation images are of one class."""
    monkeypatch.setattr(toy.ToyCoOp, "validate", lambda trainer: float("nan"))
    build_trainer(toy.config(root, root / "run", TEST__FINAL_MODEL="best_val")).train()
    out = capsys.readouterr().out
    assert "no epoch had a validation result; testing the last model" in out and "inf" not in out
    assert not (root / "run" / "learner" / "model-best.pth.tar").exists() and "=> result" in out


def test_best_model_without_validation_split_is_an_error(root):
    cfg = toy.config(root, root / "run", TEST__FINAL_MODEL="best_val", DATASET__VAL_PERCENT=0.0)
    with pytest.raises(UserError, match="needs a validation split, and ToyColours has none"):
        build_trainer(cfg)


def test_validation_leaves_training_as_it_was(root):
    def loss(folder, **settings):
        build_trainer(toy.config(root, root / folder, TEST__FINAL_MODEL="last_step", **settings)).train()
        return torch.load(root / folder / "learner" / "model.pth.tar-4", weights_only=True)["state_dict"]["1.weight"]

    class Validating(toy.ToyCoOp):
        def after_epoch(self):
            self.validate()
            super().after_epoch()

    TRAINER_REGISTRY.register(Validating, force=True, name="ToyValidating")
    assert torch.equal(loss("a"), loss("b", TRAINER__NAME="ToyValidating"))


def test_labelled_and_unlabelled_batches(root):
    cfg = toy.config(root, root / "run", "ToyColours", "ToyXU", OPTIM__MAX_EPOCH=1, TRAIN__COUNT_ITER="train_u")
    trainer = build_trainer(cfg)
    trainer.train()
    assert trainer.seen == ((6, 6),)  # 18 labelled, 6 unlabelled images: one unlabelled batch
    cfg.OUTPUT_DIR, cfg.TRAIN.COUNT_ITER = str(root / "x"), "train_x"
    trainer = build_trainer(cfg)
    trainer.train()
    assert trainer.seen == ((6, 6),) * 3


def test_models_are_registered_and_asked_for_by_name():
    trainer = TrainerBase()
    a, b = nn.Dropout(), nn.Dropout()
    trainer.register_model("a", a)
    trainer.register_model("b", b)
    trainer.set_model_mode("eval", ["b"])
    assert a.training and not b.training and trainer.get_model_names() == ["a", "b"]
    with pytest.raises(ValueError, match="registered as 'a'"):
        trainer.register_model("a", b)
    with pytest.raises(ValueError, match="there are: a, b"):
        trainer.get_model_names("c")


def test_load_model_takes_best_then_newest_and_lists_epochs(root):
    model = nn.Linear(2, 2)

    def trainer(module):
        base = TrainerBase()
        base.register_model("m", module)
        return base

    for epoch in (0, 4):
        nn.init.constant_(model.weight, epoch)
        trainer(model).save_model(epoch, str(root))
    loaded = nn.Linear(2, 2)
    trainer(loaded).load_model(str(root))
    assert loaded.weight[0, 0] == 4
    trainer(loaded).load_model(str(root), epoch=1)
    assert loaded.weight[0, 0] == 0
    with pytest.raises(FileNotFoundError, match="no checkpoint of epoch 3 in .*; epochs with checkpoints: 1, 5"):
        trainer(loaded).load_model(str(root), epoch=3)
    with pytest.raises(FileNotFoundError, match="contains no checkpoint"):
        require_checkpoint(str(root / "m"))
    with pytest.raises(UserError, match="other settings, tasks or classes"):
        trainer(nn.Linear(3, 2)).load_model(str(root))


def test_settings_are_checked_before_anything_is_built(root):
    cfg = toy.config(root, root / "run")
    cfg.OPTIM.NAME, cfg.TEST.FINAL_MODEL = "sdg", "best"
    with pytest.raises(ConfigError, match=r"(?s)2 problems.*OPTIM.NAME.*did you mean sgd.*TEST.FINAL_MODEL"):
        build_trainer(cfg)
