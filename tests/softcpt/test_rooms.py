"""An installed softcpt hides no package of others, e.g. `datasets` of Hugging Face, and loads a run all the same."""

import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

REPO = Path(__file__).parents[2]
PROGRAM = """
import sys
sys.path.insert(0, {folder!r})
import clip, datasets
import softcpt
assert not {{"torch", "dassl", "softcpt.dassl"}} & sys.modules.keys()
model = softcpt.load({run!r}, device="cpu")
assert len(model.classify({image!r}, "marks")[0].classes) == 4
import importlib
assert datasets.THEIRS and clip.THEIRS and importlib.import_module("datasets").THEIRS
from softcpt.trainers.base import MultiTaskTrainer
from softcpt.datasets.readers import IMAGE_ENDINGS
assert isinstance(model.trainer, MultiTaskTrainer) and ".png" in IMAGE_ENDINGS
from softcpt.dassl.utils import MetricMeter, read_image
from softcpt.clip.model import build_model
ours = {{name.split(".")[0] for name in sys.modules}} & {{"dassl", "trainers", "features", "reporting", "analysis"}}
assert not ours, ours
try:
    import trainers
except ModuleNotFoundError:
    print("as it should be")
"""


def test_beside_packages_of_the_same_names(trained, tmp_path):
    folder = trained("MTCoOp")
    run = shutil.copytree(folder / "run", tmp_path / "run")
    config = yaml.safe_load((run / "config.yaml").read_text())
    known = {key: value for key, value in config["TRAINER"].items() if not isinstance(value, dict) or key == "MTCOOP"}
    (run / "config.yaml").write_text(yaml.safe_dump({**config, "TRAINER": known}))  # without methods of other tests
    (tmp_path / "softcpt").symlink_to(REPO / "softcpt")  # on the path is softcpt alone, as after an installation
    for name in ("datasets", "clip"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("THEIRS = True\n")
    image = str(folder / "data/marks/dot/test0.png")
    program = PROGRAM.format(folder=str(tmp_path), run=str(run), image=image)
    # The run is on a suite that only the tests know; its tasks.json is enough.
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0 and done.stdout == "as it should be\n", done.stdout + done.stderr


def test_importing_is_cheap():
    program = (
        "import sys, softcpt; print(sorted(m for m in sys.modules if m.split('.')[0] in ('torch', 'dassl', 'numpy')))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=REPO)
    assert done.stdout == "[]\n", done.stdout + done.stderr


def test_in_the_checkout_everything_is_loaded_once():
    import dassl.utils
    import softcpt

    assert softcpt.load.__globals__["UserError"] is dassl.utils.UserError
    assert "softcpt.dassl" not in sys.modules
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        softcpt.nothing  # noqa: B018


def test_all_packages_are_installed(monkeypatch):
    setuptools = pytest.importorskip("setuptools")
    given = {}
    monkeypatch.setattr(setuptools, "setup", given.update)
    runpy.run_path(str(REPO / "setup.py"))
    rooms = runpy.run_path(str(REPO / "softcpt/rooms.py"), run_name="softcpt.rooms")["ROOMS"]
    expected = {
        "softcpt." + ".".join(file.parent.relative_to(REPO).parts)
        for room in rooms
        for file in (REPO / room).rglob("__init__.py")
    }
    assert set(given["packages"]) == expected | {"softcpt", "softcpt.configs"}
    top = {name for name in given["packages"] if "." not in name}
    assert top == {"softcpt"}
    folders = {path.parent.name for path in REPO.glob("*/__init__.py")}
    assert folders - {"tests", "tools", "benchmarks", "softcpt"} == set(rooms)
