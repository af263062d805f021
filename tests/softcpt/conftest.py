"""Small finished runs, made once per session and method, whose data are kept for comparisons."""

import pytest
import torch

from dassl.engine import build_trainer
from tests.models import state_dict, tiny_vit
from tests.suite import config


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """OpenAI-style weights of a small random ViT."""
    file = tmp_path_factory.mktemp("weights") / "vit.pt"
    torch.save(state_dict(tiny_vit()), file)
    return file


@pytest.fixture(scope="session")
def trained(weights, tmp_path_factory):
    """A function (method, *settings) -> folder with the finished run `run` and its data `data`."""
    made = {}

    def run(trainer, *opts):
        if (trainer, opts) not in made:
            folder = tmp_path_factory.mktemp(trainer)
            build_trainer(config(folder, trainer, weights, 32, "OPTIM.MAX_EPOCH", 1, *opts)).train()
            made[trainer, opts] = folder
        return made[trainer, opts]

    return run
