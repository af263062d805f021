import re
import shlex
from pathlib import Path

import pytest

import train
import trainers  # noqa: F401  the commands name them
from dassl.config import load
from dassl.data.datasets import build_dataset
from datasets.icon13.styles import TARGETS
from datasets.suites import SOURCES, SUITES
from tests.datasets.settings import config
from tests.docs.tables import OTHERS

FILES = sorted((Path(__file__).parents[2] / "configs/datasets").glob("*.yaml"))
FOR_TESTING = {"ImageNetV2", "ImageNetSketch", "ImageNetA", "ImageNetR"}
FOR_TESTING |= {f"Icon{n}{style.name}" for n in (5, 13) for style in TARGETS}


def test_every_suite_and_its_datasets_have_a_config_file():
    names = {
        line.split(":")[1].strip().strip('"') for f in FILES for line in f.read_text().splitlines() if "  NAME" in line
    }
    assert names <= {*SUITES, *SOURCES}
    published = {*SUITES, *SOURCES} - {row.name for row in OTHERS}
    assert not published - names, "datasets of suites need a file in configs/datasets, e.g. eurosat.yaml"


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_a_config_file_loads_its_dataset(file, data_root):
    cfg = config("", data_root)
    load(cfg, [str(file)], [])
    dataset = build_dataset(cfg)
    assert dataset.test
    assert bool(dataset.train_x) == (cfg.DATASET.NAME not in FOR_TESTING)
    told = re.search(r"([\d,]+) classes", file.read_text())[1]
    assert int(told.replace(",", "")) == dataset.num_classes


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_the_header_has_the_exact_command(file):
    command = re.search(r"# python train.py (.*?)\n(?!#     )", file.read_text(), re.DOTALL)[1]
    args = train.parse(shlex.split(command.replace("\\\n#", " ")))
    assert args.dataset_config_file == f"configs/datasets/{file.name}"
    cfg = train.configure(args)
    assert args.eval_only == (cfg.TRAINER.NAME == "ZeroshotCLIP" or bool(args.model_dir))
    assert cfg.OUTPUT_DIR and cfg.TRAINER.NAME in ("MTCoOp", "ZeroshotCLIP")
