"""Without the packages of requirements.txt every program ends with one line."""

import os
import re
import subprocess
import venv
from pathlib import Path

import pytest

from dassl.requirements import FOR_TESTS, MODULES, MissingPackages, missing, require

PROJECT = Path(__file__).parents[2]


def test_packages_are_found_by_the_names_of_their_modules(tmp_path):
    assert missing() == []
    names = re.findall(r"^[\w-]+", (PROJECT / "requirements.txt").read_text(), re.MULTILINE)
    assert set(MODULES) | set(FOR_TESTS) <= set(names)
    file = tmp_path / "requirements.txt"
    file.write_text("# comment\npyyaml-not-there>=1\ntorch>=2.4  # found\nalso_not_there\npytest-xdist\n\n")
    assert missing(file) == ["pyyaml-not-there", "also_not_there"]
    with pytest.raises(MissingPackages, match="pyyaml-not-there, also_not_there are not installed in"):
        require(str(file))
    require(str(tmp_path / "nowhere.txt"))


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """An interpreter without any package."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, symlinks=True, with_pip=False)
    return str(folder / "bin/python")


PROGRAMS = ["train.py --trainer CoOp", "predict.py run image.png", "interpret_prompt.py run", "-m datasets.check icon5"]
PROGRAMS += ["-m analysis.tasks run", "-m benchmarks.methods", "-m features.store", "-m tools.pretrain_tiny"]
PROGRAMS += ["-m scripts.suite_tasks configs/datasets/icon5.yaml"]


@pytest.mark.parametrize("command", PROGRAMS, ids=str.split)
def test_programs_name_what_is_missing(bare, command):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run([bare, *command.split()], cwd=PROJECT, env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith("error: torch, torchvision, open_clip_torch, yacs, numpy, pillow, ")
    assert f"{bare} -m pip install -r requirements.txt" in line and "sh scripts/install.sh" in line


def test_other_errors_stay_as_they_are(bare, tmp_path):
    def python(end):
        start = f"import sys\nsys.path.insert(0, {str(PROJECT)!r})\ntry:\n    import dassl\nexcept ImportError:\n    "
        return subprocess.run([bare, "-c", start + end], cwd=tmp_path, capture_output=True, text=True)

    done = python("1 / 0")
    assert done.returncode == 1 and "ZeroDivisionError" in done.stderr
    done = python("raise")
    assert done.returncode == 2 and f"-r {PROJECT}/requirements.txt" in done.stderr
