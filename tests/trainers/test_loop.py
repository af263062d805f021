"""Test the features of the training step: parameter groups, schedules per step, logged numbers, frozen features."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from clip.additions import Additions, Tokens, TowerAdditions
from dassl.engine import TRAINER_REGISTRY, build_trainer
from dassl.utils import UserError
from tests.models import state_dict, tiny_vit
from tests.suite import config
from trainers.base import MultiTaskTrainer
from trainers.learner import Learner
from trainers.settings import declare_shared

declare_shared("LOOP", PREC="fp32")


class TwoGroups(Learner):
    """A map of text features, and a map of image features that learns 6.5 times as fast (as the head of DePT does)."""

    def __init__(self, tower, space):
        super().__init__(tower, space)
        d = tower.output_dim
        self.slow, self.fast = nn.Parameter(torch.zeros(d, d)), nn.Parameter(torch.zeros(d, d))

    def text(self, select, added=None):
        features = self.hand_features()[select]
        return features + features @ self.slow

    def image(self, features, task=None):
        return features + features @ self.fast

    def parameter_groups(self):
        return [{"params": [self.slow]}, {"params": [self.fast], "lr_scale": 6.5, "weight_decay": 0.0}]


@TRAINER_REGISTRY.register()
class TestLoop(MultiTaskTrainer):
    __test__ = False  # not a test for pytest
    section = "LOOP"

    @classmethod
    def build_learner(cls, cfg, tower, space):
        return TwoGroups(tower, space)

    def loss(self, step):
        apart = F.mse_loss(step.image, step.frozen)
        return super().loss(step) + apart, {"apart": apart.item()}


@pytest.fixture
def build(tmp_path):
    weights = tmp_path / "vit.pt"
    torch.save(state_dict(tiny_vit()), weights)
    return lambda folder, *opts: build_trainer(config(tmp_path / folder, "TestLoop", weights, 32, *opts))


def test_groups_have_rates_and_decays_of_their_own(build):
    warm = ("OPTIM.LR_SCHEDULER", "cosine", "OPTIM.WARMUP_EPOCH", 1, "OPTIM.WARMUP_TYPE", "constant")
    trainer = build("a", *warm)
    seen, update = [], trainer.model_update
    trainer.model_update = lambda: seen.append([g["lr"] for g in trainer.optim.param_groups]) or update()
    trainer.train()
    assert seen[0] == [1e-5, 1e-5] and seen[-1] == pytest.approx([0.02, 0.13])  # the warm-up's rate, then their own
    assert [group["weight_decay"] for group in trainer.optim.param_groups] == [trainer.cfg.OPTIM.WEIGHT_DECAY, 0.0]


def test_a_schedule_per_step_ends_with_the_run_and_goes_on_after_a_stop(build, tmp_path):
    per_step = ("OPTIM.LR_SCHEDULER", "cosine", "OPTIM.LR_PER", "step", "TRAIN.CHECKPOINT_FREQ", 1)
    whole = build("whole", *per_step)
    whole.train()
    assert whole.optim.param_groups[0]["lr"] == pytest.approx(0, abs=1e-12) and whole.sched.last_epoch == 10
    stopped = build("stopped", *per_step)
    step, count = stopped.forward_backward, []

    def killed(batch):
        if len(count) == 7:
            raise KeyboardInterrupt
        count.append(1)
        return step(batch)

    stopped.forward_backward = killed
    with pytest.raises(KeyboardInterrupt):
        stopped.train()
    again = build("stopped", *per_step)
    again.train()
    for name, value in whole.model.named_parameters():
        assert torch.equal(value, dict(again.model.named_parameters())[name])


def test_numbers_of_the_loss_are_printed_and_frozen_features_come_out_of_the_bank(build, capsys):
    found = []
    for bank in (False, True):
        trainer = build(f"bank{bank}", "DATALOADER.FEATURE_BANK", bank, "TRAIN.PRINT_FREQ", 5)
        trainer.train()
        lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch [")]
        found.append([line.split("apart ")[1].split()[0] for line in lines])
    assert len(found[0]) == 2 and found[0] == found[1] and float(found[0][-1]) > 0


def test_a_model_that_is_loaded_and_trained_knows_its_classes(build, tmp_path):
    build("base", "DATASET.SUBSAMPLE_CLASSES", "base").train()
    every = build("all")
    every.load_model(str(tmp_path / "base" / "run"))
    assert every.model.known.tolist() == [True] * 3 + [False] * 2 + [True] + [True] * 2 + [False] * 2
    every.train()
    assert every.model.known.all()


def test_a_finished_run_is_tested_with_its_own_features(build, tmp_path):
    build("a").train()
    again = build("a")
    before = again.text_features().clone()  # of the untrained learner
    again.train()
    assert not torch.equal(again.text_features(), before)


def test_learners_that_cannot_work_are_refused(build, tmp_path, monkeypatch):
    def refused(message, error=UserError, **changes):
        with monkeypatch.context() as patch, pytest.raises(error, match=message):
            for name, change in changes.items():
                patch.setattr(TwoGroups, name, change)
            build("a").forward_backward(next(iter(build("b").train_loader_x)))

    tokens = Additions(Tokens(torch.zeros(2, 1, 2, 64), [1]))
    refused("adds 2 sets to the text tower", additions=lambda self: TowerAdditions(text=tokens))
    refused("adds 2 sets to the image tower", additions=lambda self: TowerAdditions(image=tokens))

    def with_tower(self, tower, space):
        Learner.__init__(self, tower, space)
        self.visual = tower.clip.visual

    refused("holds visual.*a weight of the frozen CLIP", __init__=with_tower)
    monkeypatch.setattr(TestLoop, "loss", lambda self, step: (MultiTaskTrainer.loss(self, step), {"acc": 1.0}))
    refused("logs a number called 'acc'", ValueError)


def test_local_features_and_the_start_of_a_learner_go_together(build, monkeypatch):
    seen = []
    monkeypatch.setattr(TwoGroups, "additions", lambda self: TowerAdditions(image=Additions(local=True)))
    monkeypatch.setattr(TwoGroups, "image", lambda self, features, task=None: features.mean(1))
    monkeypatch.setattr(TwoGroups, "start", lambda self, samples: seen.extend(samples.train + samples.val))
    trainer = build("a")
    trainer._start()
    assert [tuple(own.features.shape) for own in seen] == [(20, 48), (4, 48), (16, 48), (5, 48), (1, 48), (4, 48)]
