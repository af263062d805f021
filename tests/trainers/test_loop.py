"""Test the features of the training step: parameter groups, schedules per step, logged numbers, frozen features."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dassl.engine import TRAINER_REGISTRY, build_trainer
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
