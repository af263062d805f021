"""Without the packages of requirements.txt every program ends with one line."""

import os
import re
import subprocess
import venv
from pathlib import Path

import pytest

from dassl.requirements import FILE, MODULES, met, require

PROJECT = Path(__file__).parents[2]
LINES = [line for line in FILE.read_text().splitlines() if line and line[0] != "#"]


def test_requirements_are_compared_with_the_installed_packages(capsys, tmp_path, monkeypatch):
    require(FILE.read_text())
    assert met("torch>=2.4") and not met("torch>=999") and not met("not-there>=1")
    assert met("torch>=2,<999") and not met("torch>=1,<2")
    (tmp_path / "only_on_the_path.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    assert met("only_on_the_path>=1")  # no metadata, so no version
    with pytest.raises(SystemExit) as caught:
        require("# comment\nnot-there>=1\ntorch>=2.4\n\ntorch>=999\n")
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith(
        "error: missing, or installed in another version: not-there>=1, torch>=999. To install: "
    )


def test_the_file_has_the_form_that_is_read():
    assert all(re.fullmatch(r"[\w-]+>=[\d.]+(,<[\d.]+)?", line) for line in LINES)
    assert set(MODULES) <= {line.split(">=")[0] for line in LINES}


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """An interpreter without any package."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, symlinks=True, with_pip=False)
    return str(folder / "bin/python")


PROGRAMS = ["train.py --trainer CoOp", "predict.py run image.png", "export.py run -o x", "interpret_prompt.py run"]
PROGRAMS += ["-m datasets.check icon5", "-m analysis.tasks run", "-m benchmarks.methods", "-m features.store"]
PROGRAMS += ["-m tools.pretrain_tiny", "sweep.py embedded", "sweeps/__main__.py main_coop icon5"]
PROGRAMS += ["dassl/requirements.py"]


@pytest.mark.parametrize("command", PROGRAMS, ids=str.split)
def test_programs_name_what_is_missing(bare, command):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run([bare, *command.split()], cwd=PROJECT, env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith("error: missing, or installed in another version: torch>=2.4, torchvision>=")
    assert f"{bare} -m pip install -r {FILE}" in line and "sh scripts/install.sh" in line
    assert ("pytest-xdist" in line) == (command == "dassl/requirements.py")  # only the test command needs it
