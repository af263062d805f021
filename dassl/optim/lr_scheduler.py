"""build_lr_scheduler: a schedule of the learning rate, per epoch or per step, with an optional warm-up."""

import math

from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, MultiStepLR, StepLR

from dassl.config import at_least, declare, declare_contradictions, each
from dassl.utils import check_availability
from dassl.utils.errors import UserError

AVAIL_SCHEDS = ("single_step", "multi_step", "cosine")
AVAI_SCHEDS = AVAIL_SCHEDS  # Dassl's name
AVAIL_WARMUPS = ("linear", "constant")

declare("OPTIM.LR_SCHEDULER", "single_step", allowed=AVAIL_SCHEDS, help="schedule of the learning rate over the epochs")
declare(
    "OPTIM.LR_PER",
    "epoch",
    allowed=("epoch", "step"),
    help="when the learning rate changes; step: after every batch, all numbers of epochs counted in batches",
)
declare("OPTIM.LR_MIN", 0.0, allowed=at_least(0), help="learning rate at which the cosine ends")
declare(
    "OPTIM.STEPSIZE",
    (-1,),
    allowed=each(lambda size: type(size) is int, "a list of integers"),
    help="single_step: epochs between decays (<= 0: no decay); multi_step: epochs of the decays",
)
declare("OPTIM.GAMMA", 0.1, allowed=at_least(0), help="factor of each decay of single_step and multi_step")
declare("OPTIM.MAX_EPOCH", 10, allowed=at_least(1), help="number of epochs, and half the period of the cosine")
declare(
    "OPTIM.STEPS_PER_SHOT",
    0,
    allowed=at_least(0),
    help="steps per shot and task, in place of MAX_EPOCH epochs: 500 with 16 shots and 2 tasks give 16000 steps",
)
declare(
    "OPTIM.WARMUP_EPOCH", -1, allowed=at_least(-1), help="epochs of warm-up before the schedule begins; -1, 0: none"
)
declare(
    "OPTIM.WARMUP_STEPS",
    0,
    allowed=at_least(0),
    help="with LR_PER step: steps of warm-up instead of WARMUP_EPOCH; 0: use WARMUP_EPOCH",
)
declare(
    "OPTIM.WARMUP_TYPE",
    "linear",
    allowed=AVAIL_WARMUPS,
    help="warm-up at one rate (constant), or at a linearly growing rate",
)
declare("OPTIM.WARMUP_CONS_LR", 1e-5, allowed=at_least(0), help="learning rate of the constant warm-up")
declare("OPTIM.WARMUP_MIN_LR", 1e-5, allowed=at_least(0), help="learning rate in the first epoch of the linear warm-up")
declare(
    "OPTIM.WARMUP_RECOUNT",
    True,
    help="count the epochs of the schedule from the end of the warm-up (False: from the beginning of the run)",
)
declare(
    "OPTIM.LEGACY_REPEAT_STEP",
    0,
    allowed=at_least(0),
    help=(
        "reproduces a quirk of the published SoftCPT code, which registers one optimiser under 3 names (4 with class "
        "prompts) and steps once for each name. n >= 2: the optimiser steps n times per batch with the same gradient "
        "(with a GradScaler, i.e. PREC amp, once) and the schedule steps n times per epoch, so the learning rate "
        "follows the cosine n times as fast: with 3 it is 0 after a third of the epochs, at its peak after two "
        "thirds, and 0 at the end; with 4 it ends at its peak. 0 or 1: each steps once"
    ),
)


@declare_contradictions
def _schedule_problems(cfg):
    c = cfg.OPTIM
    if c.STEPS_PER_SHOT and cfg.DATASET.NUM_SHOTS < 1:
        return [
            f"OPTIM.STEPS_PER_SHOT {c.STEPS_PER_SHOT} needs shots, found DATASET.NUM_SHOTS {cfg.DATASET.NUM_SHOTS}: "
            "set NUM_SHOTS, or OPTIM.STEPS_PER_SHOT 0 and the number of epochs in OPTIM.MAX_EPOCH"
        ]
    by_steps = c.LR_PER == "step" and c.WARMUP_STEPS
    if by_steps or c.WARMUP_EPOCH <= c.MAX_EPOCH:
        return []
    epochs = f"OPTIM.WARMUP_EPOCH {c.WARMUP_EPOCH} exceeds OPTIM.MAX_EPOCH {c.MAX_EPOCH}"
    return [f"{epochs}, so the learning rate would never leave the warm-up; expected at most {c.MAX_EPOCH}"]


def run_length(cfg, tasks, batches):
    """Length of a run: (epochs, steps) with OPTIM.STEPS_PER_SHOT, (MAX_EPOCH, 0) without it or without batches.

    Args:
        cfg: configuration.
        tasks: number of tasks.
        batches: steps of a whole epoch. The last epoch ends with the last step.
    """
    steps = cfg.OPTIM.STEPS_PER_SHOT * max(cfg.DATASET.NUM_SHOTS, 0) * tasks
    if not steps or not batches:
        return cfg.OPTIM.MAX_EPOCH, 0
    return math.ceil(steps / batches), steps


def build_lr_scheduler(optimizer, optim_cfg, batches=0, epochs=0, steps=0):
    """Build the schedule OPTIM.LR_SCHEDULER for `optimizer`.

    Call its step() once after each epoch, or with OPTIM.LR_PER step once after each step of the optimiser.

    Args:
        optimizer: the optimiser.
        optim_cfg: cfg.OPTIM.
        batches: steps per epoch, for OPTIM.LR_PER step.
        epochs, steps: length of the run if it is not MAX_EPOCH epochs, see `run_length`.

    Raises:
        UserError: unknown schedule or warm-up, or multi_step without a list of epochs.
    """
    check_availability(optim_cfg.LR_SCHEDULER, AVAIL_SCHEDS)
    per_step = optim_cfg.LR_PER == "step"
    unit = max(batches, 1) if per_step else 1  # what one epoch of the settings counts
    epochs = epochs or optim_cfg.MAX_EPOCH
    sizes = optim_cfg.STEPSIZE
    sizes = list(sizes) if isinstance(sizes, (list, tuple)) else [sizes]
    if optim_cfg.LR_SCHEDULER == "single_step":
        size = sizes[-1] if sizes else -1
        size = unit * (size if size > 0 else epochs)
        scheduler = StepLR(optimizer, step_size=size, gamma=optim_cfg.GAMMA)
    elif optim_cfg.LR_SCHEDULER == "multi_step":
        if not sizes or min(sizes) <= 0:
            raise UserError(
                f"OPTIM.STEPSIZE = {tuple(sizes)}: multi_step needs the epochs of its decays, e.g. (30, 40)"
            )
        scheduler = MultiStepLR(optimizer, milestones=[unit * size for size in sizes], gamma=optim_cfg.GAMMA)
    else:
        period = float(steps if per_step and steps else unit * epochs)
        scheduler = CosineAnnealingLR(optimizer, T_max=period, eta_min=optim_cfg.LR_MIN)
    warmup = (optim_cfg.WARMUP_STEPS if per_step else 0) or unit * optim_cfg.WARMUP_EPOCH
    if warmup <= 0:
        return scheduler
    check_availability(optim_cfg.WARMUP_TYPE, AVAIL_WARMUPS)
    if not optim_cfg.WARMUP_RECOUNT:
        scheduler.last_epoch = warmup
    constant = optim_cfg.WARMUP_CONS_LR if optim_cfg.WARMUP_TYPE == "constant" else None
    return WarmupScheduler(optimizer, scheduler, warmup, optim_cfg.WARMUP_MIN_LR, constant)


class WarmupScheduler(LRScheduler):
    """Warm-up for some epochs, followed by another schedule from its beginning.

    Args:
        optimizer: the optimiser.
        successor: schedule after the warm-up, built on the same optimiser at its full rate.
        warmup_epoch: epochs of warm-up, >= 1.
        min_lr: learning rate in epoch 0; in epoch e > 0 of the linear warm-up it is base * e / warmup_epoch.
        constant_lr: learning rate in all epochs of the warm-up, instead of the linear warm-up.
    """

    def __init__(self, optimizer, successor, warmup_epoch, min_lr=1e-5, constant_lr=None):
        self.successor = successor
        self.warmup_epoch = warmup_epoch
        self.min_lr = min_lr
        self.constant_lr = constant_lr
        super().__init__(optimizer)

    def get_lr(self):
        if self.last_epoch >= self.warmup_epoch:
            return self._successor_lrs()
        if self.constant_lr is not None:
            return [self.constant_lr for _ in self.base_lrs]
        if self.last_epoch == 0:
            return [self.min_lr for _ in self.base_lrs]
        return [base * self.last_epoch / self.warmup_epoch for base in self.base_lrs]

    def step(self, epoch=None):
        if self.last_epoch >= self.warmup_epoch:
            self.successor.step()
            self._last_lr = self._successor_lrs()
        else:
            super().step()

    def _successor_lrs(self):
        return [float(lr) for lr in self.successor.get_last_lr()]

    def state_dict(self):
        """Plain values, including the state of the successor, so that checkpoints load with weights_only=True."""
        state = {key: value for key, value in super().state_dict().items() if key != "successor"}
        return {**state, "successor": self.successor.state_dict()}

    def load_state_dict(self, state_dict):
        state = dict(state_dict)
        successor = state.pop("successor", None)
        if isinstance(successor, dict):
            self.successor.load_state_dict(successor)
        super().load_state_dict(state)


# ---- compatibility: the schedules of the warm-up under Dassl's names ----

_BaseWarmupScheduler = WarmupScheduler


class ConstantWarmupScheduler(WarmupScheduler):
    def __init__(self, optimizer, successor, warmup_epoch, cons_lr, last_epoch=-1, verbose=False):
        super().__init__(optimizer, successor, warmup_epoch, constant_lr=cons_lr)


class LinearWarmupScheduler(WarmupScheduler):
    def __init__(self, optimizer, successor, warmup_epoch, min_lr, last_epoch=-1, verbose=False):
        super().__init__(optimizer, successor, warmup_epoch, min_lr)
