"""Runs on the test suite with small random towers. Each run is created once for all tests of this folder."""

import pytest
import torch

from dassl.engine import build_trainer
from tests.models import state_dict, tiny_rn, tiny_vit
from tests.suite import config


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """A function that returns (trainer, folder) of a run, trained for one epoch; on="rn" uses a ResNet."""
    home, made = tmp_path_factory.mktemp("runs"), {}
    for name, model in (("vit", tiny_vit()), ("rn", tiny_rn())):
        torch.save(state_dict(model), home / f"{name}.pt")

    def make(method, *settings, on="vit"):
        key = (method, *settings, on)
        if key not in made:
            folder = home / f"run{len(made)}"
            size = {"vit": 32, "rn": 64}[on]
            cfg = config(home, method, home / f"{on}.pt", size, "OUTPUT_DIR", str(folder), *settings)
            if on == "rn":
                cfg.MODEL.BACKBONE.NAME = "RN50"
            cfg.OPTIM.MAX_EPOCH = 1
            trainer = build_trainer(cfg)
            trainer.train() if trainer.learns else trainer.test_and_record()
            made[key] = trainer, str(folder)
        return made[key]

    return make
