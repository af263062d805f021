"""Optimisers and learning rates."""

import json
import math
from pathlib import Path

import pytest
import torch
from torch import nn

from dassl.config import get_cfg_default, settings
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils.errors import UserError

SCHEDULES = json.loads((Path(__file__).parent / "data" / "lr_schedules.json").read_text())


def optim_cfg(**values):
    cfg = get_cfg_default().OPTIM
    cfg.update(NAME="sgd", LR=0.002, **values)
    return cfg


def rates(cfg, epochs, batches=0):
    """The learning rate of each epoch, or with OPTIM.LR_PER step of each step."""
    optimizer = build_optimizer(nn.Linear(1, 1), cfg)
    scheduler = build_lr_scheduler(optimizer, cfg, batches)
    found = []
    for _ in range(epochs):
        found.append(optimizer.param_groups[0]["lr"])
        assert scheduler.get_last_lr() == [found[-1]]
        optimizer.step()
        scheduler.step()
    return found


@pytest.mark.parametrize("case", SCHEDULES)
def test_published_schedules(case):
    name, epochs, warmup = case.split("/")
    epochs, warmup = int(epochs.removeprefix("epochs=")), warmup.removeprefix("warmup=")
    cfg = optim_cfg(LR_SCHEDULER=name, MAX_EPOCH=epochs, STEPSIZE=(4,) if name == "single_step" else (3, 6))
    if warmup != "None":
        cfg.update(WARMUP_EPOCH=1, WARMUP_TYPE=warmup)
    assert rates(cfg, epochs) == pytest.approx(SCHEDULES[case], rel=1e-12, abs=1e-15)


def test_longer_warm_ups():
    linear = rates(optim_cfg(LR_SCHEDULER="single_step", MAX_EPOCH=9, WARMUP_EPOCH=4, WARMUP_TYPE="linear"), 6)
    assert linear == pytest.approx([1e-5, 0.0005, 0.001, 0.0015, 0.002, 0.002])
    constant = rates(optim_cfg(LR_SCHEDULER="single_step", MAX_EPOCH=9, WARMUP_EPOCH=3, WARMUP_TYPE="constant"), 5)
    assert constant == pytest.approx([1e-5, 1e-5, 1e-5, 0.002, 0.002])


def test_a_rate_that_changes_with_every_step():
    """Tip-Adapter-F: cosine to 0 per step. CLIP-LoRA: to 1e-6. Cross-modal: 50 steps of linear warm-up from 1e-5."""
    steps = range(5 * 7)
    plain = rates(optim_cfg(LR_SCHEDULER="cosine", MAX_EPOCH=5, LR_PER="step"), 35, batches=7)
    assert plain == pytest.approx([0.001 * (1 + math.cos(math.pi * i / 35)) for i in steps])
    least = rates(optim_cfg(LR_SCHEDULER="cosine", MAX_EPOCH=5, LR_PER="step", LR_MIN=1e-6), 36, batches=7)
    assert least == pytest.approx([1e-6 + (0.002 - 1e-6) / 2 * (1 + math.cos(math.pi * i / 35)) for i in range(36)])
    warm = rates(optim_cfg(LR_SCHEDULER="cosine", MAX_EPOCH=20, LR_PER="step", WARMUP_STEPS=50), 60, batches=7)
    assert warm[:50] == pytest.approx([1e-5, *(0.002 * i / 50 for i in range(1, 50))])
    assert warm[50:] == pytest.approx([0.001 * (1 + math.cos(math.pi * i / 140)) for i in range(10)])
    epochs = rates(optim_cfg(LR_SCHEDULER="single_step", MAX_EPOCH=9, STEPSIZE=(2,), LR_PER="step"), 9, batches=3)
    assert epochs == pytest.approx([0.002] * 6 + [0.0002] * 3)


def test_schedule_counted_from_the_beginning_of_the_run():
    warm = {"WARMUP_EPOCH": 2, "WARMUP_TYPE": "constant", "STEPSIZE": (4,), "MAX_EPOCH": 10}
    recount = rates(optim_cfg(LR_SCHEDULER="multi_step", **warm), 8)
    assert recount == pytest.approx([1e-5] * 2 + [0.002] * 4 + [0.0002] * 2)
    counted = rates(optim_cfg(LR_SCHEDULER="multi_step", WARMUP_RECOUNT=False, **warm), 8)
    assert counted == pytest.approx([1e-5] * 2 + [0.002] * 2 + [0.0002] * 4)
    cosine = rates(optim_cfg(LR_SCHEDULER="cosine", WARMUP_RECOUNT=False, **warm), 11)
    assert cosine[2] == pytest.approx(0.002) and cosine[10] == pytest.approx(0, abs=1e-12)  # ends with the run


@pytest.mark.parametrize("warmup", [-1, 3])
@pytest.mark.parametrize("name", ["single_step", "multi_step", "cosine"])
def test_schedule_goes_on_from_its_saved_state(name, warmup, tmp_path):
    cfg = optim_cfg(LR_SCHEDULER=name, STEPSIZE=(5,), MAX_EPOCH=10, WARMUP_EPOCH=warmup)
    whole = rates(cfg, 10)
    for stop in range(1, 9):
        model = nn.Linear(1, 1)
        optimizer = build_optimizer(model, cfg)
        scheduler = build_lr_scheduler(optimizer, cfg)
        for _ in range(stop):
            optimizer.step()
            scheduler.step()
        states = optimizer.state_dict(), scheduler.state_dict()
        optimizer = build_optimizer(model, cfg)
        scheduler = build_lr_scheduler(optimizer, cfg)
        optimizer.load_state_dict(states[0])
        scheduler.load_state_dict(states[1])
        found = []
        for _ in range(stop, 10):
            found.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
        assert found == whole[stop:]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("adam", "Adam"),
        ("amsgrad", "Adam"),
        ("sgd", "SGD"),
        ("rmsprop", "RMSprop"),
        ("radam", "RAdam"),
        ("adamw", "AdamW"),
    ],
)
@pytest.mark.parametrize("given", ["module", "parameters", "groups"])
def test_optimisers_from_modules_parameters_and_groups(name, kind, given):
    model = nn.Linear(2, 2)
    params = {
        "module": model,
        "parameters": list(model.parameters()),
        "groups": [{"params": [model.weight], "lr": 1.0}, {"params": [model.bias]}],
    }[given]
    cfg = optim_cfg()
    cfg.NAME = name
    optimizer = build_optimizer(params, cfg)
    assert type(optimizer).__name__ == kind
    assert optimizer.param_groups[0]["lr"] == (1.0 if given == "groups" else 0.002)
    assert optimizer.param_groups[-1]["lr"] == 0.002 and optimizer.defaults.get("amsgrad", False) == (name == "amsgrad")
    before = model.weight.clone()
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    assert not torch.equal(before, model.weight)


def test_staged_rates():
    model = nn.ModuleDict({"backbone": nn.Linear(2, 2), "head": nn.Linear(2, 2)})
    optimizer = build_optimizer(model, optim_cfg(STAGED_LR=True, NEW_LAYERS=("head",), BASE_LR_MULT=0.1))
    by_rate = {round(group["lr"], 9): {id(p) for p in group["params"]} for group in optimizer.param_groups}
    assert by_rate == {
        0.0002: {id(p) for p in model["backbone"].parameters()},
        0.002: {id(p) for p in model["head"].parameters()},
    }
    with pytest.raises(ValueError, match="no such name: 'haed', did you mean head"):
        build_optimizer(model, optim_cfg(STAGED_LR=True, NEW_LAYERS=("haed",)))
    with pytest.raises(UserError, match="give build_optimizer a module"):
        build_optimizer(list(model.parameters()), optim_cfg(STAGED_LR=True, NEW_LAYERS=("head",)))


def test_mistakes():
    optimizer = build_optimizer(nn.Linear(1, 1), optim_cfg())
    with pytest.raises(ValueError, match="did you mean cosine"):
        build_lr_scheduler(optimizer, optim_cfg(LR_SCHEDULER="cosin"))
    with pytest.raises(UserError, match="multi_step needs the epochs"):
        build_lr_scheduler(optimizer, optim_cfg(LR_SCHEDULER="multi_step"))
    with pytest.raises(ValueError, match="no such name: 'lion'"):
        build_optimizer(nn.Linear(1, 1), _named("lion"))


def _named(name):
    cfg = optim_cfg()
    cfg.NAME = name
    return cfg


def test_the_quirks_help_says_what_it_does_to_the_rate():
    text = settings()["OPTIM.LEGACY_REPEAT_STEP"].help
    assert "learning rate" in text and "ends at its peak" in text and "GradScaler" in text
