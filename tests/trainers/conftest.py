"""Fixtures of the tests of trainers."""

import pytest
import torch

from tests.models import state_dict, tiny_vit


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """Weight file of the tiny ViT. Tests read it only."""
    path = tmp_path_factory.mktemp("weights") / "vit.pt"
    torch.save(state_dict(tiny_vit()), path)
    return path
