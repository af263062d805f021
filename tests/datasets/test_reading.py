"""A run without mistakes imports nothing that is only for mistakes; a run with mistakes gets the doctor's text."""

import subprocess
import sys
from pathlib import Path

import pytest

from dassl.data.datasets import DATASET_REGISTRY, build_dataset
from datasets.explain import explained
from datasets.reading import MissingData, UnusableData
from datasets.suites import asked
from tests.datasets import layouts
from tests.datasets.settings import config

REPO = Path(__file__).parents[2]


def test_a_run_without_mistakes_imports_neither_doctor_nor_downloads(tmp_path):
    arguments = (
        f"--trainer CoOp --seed 1 --output-dir {tmp_path}/run --config-file configs/trainers/CoOp/tiny_ep20.yaml "
    )
    arguments += "--dataset-config-file configs/datasets/icon5.yaml DATASET.NUM_SHOTS 1 OPTIM.MAX_EPOCH 1"
    program = (
        "import sys, train\n"
        f"code = train.main({arguments.split()!r})\n"
        "print('imported:', sorted(n for n in sys.modules if n.startswith(('datasets.doctor', 'datasets.fetch'))))\n"
        "sys.exit(code)"
    )
    found = subprocess.run([sys.executable, "-c", program], cwd=REPO, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert "imported: []" in found.stdout
    assert (tmp_path / "run/results.json").is_file()


def test_missing_data_carry_what_was_asked_for(tmp_path):
    layouts.make("EuroSAT", tmp_path)
    with pytest.raises(MissingData) as caught:
        build_dataset(config("Suite", tmp_path, TASKS=["EuroSAT", "OxfordPets", "Icon13/faces"]))
    error = caught.value
    assert (error.label, error.root) == ("Suite", str(tmp_path))
    assert list(error.sources) == ["EuroSAT", "OxfordPets", "Icon13"] and list(error.problems) == ["OxfordPets"]
    head = f"Suite: 1 of 3 datasets not found below DATASET.ROOT '{tmp_path}': "
    assert str(error) == f"{head}OxfordPets: no folder {tmp_path}/oxford_pets"
    assert f"get it     python -m datasets.download OxfordPets --root {tmp_path}" in str(explained(error))


def test_data_that_are_wrong_are_told_apart_from_missing_ones(tmp_path):
    layouts.make("EuroSAT", tmp_path)
    (tmp_path / "eurosat/2750/Creek").mkdir()
    (tmp_path / "eurosat/2750/Creek/1.jpg").touch()
    with pytest.raises(UnusableData, match="EuroSAT: cannot be used: .* found 11 classes, expected 10") as caught:
        build_dataset(config("EuroSAT", tmp_path))
    assert not isinstance(caught.value, FileNotFoundError)


def test_other_errors_are_not_explained():
    error = KeyError("x")
    assert explained(error) is error and str(error) == "'x'"


def test_what_a_configuration_asks_for(tmp_path):
    wanted = asked(config("General10", tmp_path, SUBSAMPLE_TASKS="EuroSAT,task0"))
    assert wanted.numbers == (0, 2) and [task.key for task in wanted.tasks] == ["Caltech101", "EuroSAT"]
    assert list(wanted.sources) == ["Caltech101", "EuroSAT"] and wanted.root == str(tmp_path)
    assert len(wanted.every) == 10 and wanted.indices("EuroSAT") == (0,) and wanted.indices("UCF101") == ()
    assert asked(config("", tmp_path, TASKS=["Icon13/faces"])).tasks[0].key == "faces"


def test_nothing_is_known_of_a_class_written_for_dassl(monkeypatch):
    monkeypatch.setitem(DATASET_REGISTRY._objects, "Theirs", type("Theirs", (), {}))
    assert asked(config("Theirs")) is None
