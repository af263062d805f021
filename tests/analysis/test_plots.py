"""Test the output files and the common parts of figures."""

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from analysis import plots
from dassl.utils import UserError


def test_slow_imports_are_deferred():
    program = "import sys, analysis; sys.exit(bool({'matplotlib', 'torch', 'sklearn'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
    for path in Path(plots.__file__).parent.glob("*.py"):
        at_once = [ast.unparse(node) for node in ast.parse(path.read_text(encoding="utf-8")).body]
        heads = [line for line in at_once if line.startswith(("import", "from"))]
        assert not any("matplotlib" in line or "sklearn" in line for line in heads), path


def test_output_paths(tmp_path):
    assert plots.output(None, tmp_path, "tasks") == str(tmp_path / "figures" / "tasks")
    for name in ("a", "a.png", "a.csv"):
        assert plots.output(str(tmp_path / "new" / name), "", "") == str(tmp_path / "new" / "a")
    assert plots.output(str(tmp_path / "lr0.1"), "", "") == str(tmp_path / "lr0.1")
    (tmp_path / "file").touch()
    for wrong, text in ((tmp_path, "is a folder"), (tmp_path / "file" / "a", "cannot write")):
        with pytest.raises(UserError, match=text):
            plots.output(str(wrong), "", "tasks")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


def test_a_failed_drawing_keeps_earlier_files(tmp_path):
    path = str(tmp_path / "deep" / "a")

    def draw(text):
        with plots.figure(path, ["n"], [{"n": 1}], 2, 2) as figure:
            figure.add_subplot().set_title("cost in $, 50 % of $")
            if text:
                raise RuntimeError(text)

    draw("")
    before = [(tmp_path / "deep" / f"a{ending}").read_bytes() for ending in plots.ENDINGS]
    with pytest.raises(RuntimeError, match="bug"):
        draw("bug")
    draw("")  # the same figure, the same bytes
    assert [(tmp_path / "deep" / f"a{ending}").read_bytes() for ending in plots.ENDINGS] == before
    assert len(list((tmp_path / "deep").iterdir())) == 3


def test_names_do_not_overlap():
    rng = np.random.default_rng(0)
    for count in (1, 2, 13, 20):
        for where in (rng.random(count), np.full(count, 0.99), np.linspace(0, 1, count)):
            found = plots.spread_out(where, 0.05)
            order = np.argsort(where, kind="stable")
            assert (np.diff(found[order]) > 0.05 - 1e-9).all()
            assert found.min() > -1e-9 and found.max() < 1 + 1e-9
    apart = np.array([0.9, 0.1, 0.5])
    assert plots.spread_out(apart, 0.05) == pytest.approx(apart)


def test_wrapped_names_are_complete():
    name = "birds, reptiles, sea animals and insects"
    assert plots.wrapped(name).replace("\n", " ") == name and max(map(len, plots.wrapped(name).split("\n"))) <= 26
    assert plots.wrapped("") == ""
