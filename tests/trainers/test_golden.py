"""Pin the losses of three epochs, so that changes of numbers are noticed. Torchvision's augmentation is off."""

import pytest
import torch

from dassl.engine import build_trainer
from tests.models import state_dict, tiny_vit
from tests.suite import config

SETTINGS = {
    "CoOp-MT": ("MTCoOpHard",),
    "CoOp-CA": ("MTCoOpHard", "TRAINER.MTCOOPH.TSC", True),
    "CoOp-CS": ("MTCoOpHard", "TRAINER.MTCOOPH.CSC", True, "TRAINER.MTCOOPH.TOKEN_POSITION", "middle"),
    "NATA": ("MTCoOp",),
    "CSTS": ("MTCoOp", *(x for key in ("CSC", "CLASS_CSC", "TASK_CSC") for x in (f"TRAINER.MTCOOP.{key}", True))),
    "sampled": ("MTCoOp", "TRAINER.MTCOOP.CSC", True, "TRAINER.MTCOOP.CLS_SAMPLE_RATE", 0.3),
    "repeated steps": ("MTCoOp", "OPTIM.LEGACY_REPEAT_STEP", 3),
}
# Mean loss per epoch.
GOLDEN = {
    "CoOp-MT": (1.322788, 1.243850, 1.194027),
    "CoOp-CA": (1.323743, 1.253668, 1.202165),
    "CoOp-CS": (1.958316, 1.212448, 0.726759),
    "NATA": (1.306071, 1.224402, 1.159065),
    "CSTS": (1.452009, 1.162900, 0.842852),
    "sampled": (1.109480, 1.166432, 0.961564),
    "repeated steps": (1.387645, 1.303972, 1.297050),
}


def epochs(tmp_path, trainer, *settings):
    weights = tmp_path / "vit.pt"
    torch.save(state_dict(tiny_vit()), weights)
    cfg = config(tmp_path, trainer, weights, 32, "OPTIM.MAX_EPOCH", 3, "INPUT.TRANSFORMS", ["normalize"], *settings)
    built, losses = build_trainer(cfg), []
    step = built.forward_backward
    built.forward_backward = lambda batch: losses.append(step(batch)["loss"]) or {"loss": losses[-1]}
    built.train()
    return torch.tensor(losses).view(3, 5).mean(1).tolist()


@pytest.mark.parametrize("name", SETTINGS)
def test_losses(name, tmp_path):
    assert epochs(tmp_path, *SETTINGS[name]) == pytest.approx(GOLDEN[name], rel=2e-4)
