from pathlib import Path

import pytest

from dassl.config import load
from dassl.data.datasets import build_dataset
from datasets.suites import SOURCES, SUITES
from tests.datasets.settings import config

FILES = sorted((Path(__file__).parents[2] / "configs/datasets").glob("*.yaml"))


def test_every_registered_dataset_has_a_config_file():
    names = {
        line.split(":")[1].strip().strip('"') for f in FILES for line in f.read_text().splitlines() if "NAME" in line
    }
    assert names == {*SUITES, *SOURCES}


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_a_config_file_loads_its_dataset(file, data_root):
    cfg = config("", data_root)
    load(cfg, [str(file)], [])
    dataset = build_dataset(cfg)
    assert dataset.train_x and dataset.test
