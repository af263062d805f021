"""Every copied case, through the same runner as `python -m tests.parity`, and the runner itself."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.models import uneven_vit
from tests.parity import on_features
from tests.parity.__main__ import main
from tests.parity.published import as_read
from tests.parity.runner import METHODS, NotHere, run_case

CASES = Path(__file__).parent / "cases"
ALL = [path for path in sorted(CASES.glob("*.json")) if path.with_suffix(".npz").is_file()]
HERE = [path for path in ALL if "trainer" in (case := json.loads(path.read_text())) or case["method"] in METHODS]


@pytest.mark.parametrize("path", HERE, ids=[path.stem for path in HERE])
def test_case(path):
    errors = run_case(path)
    kinds = {name.partition(".")[0] for name in errors}
    steps = len(json.loads(path.read_text())["losses"])
    epochs = {"losses", "epoch1", "last", "aggregated", "logits_aggregated"}  # a case of several epochs
    assert kinds >= {"logits", "losses", "grad", f"after{steps}"} or kinds >= epochs
    assert {name: error for name, (error, limit) in errors.items() if not error <= limit} == {}


ON_FEATURES = [path for path in ALL if json.loads(path.read_text()).get("method") in on_features.METHODS]


@pytest.mark.parametrize("path", ON_FEATURES, ids=[path.stem for path in ON_FEATURES])
def test_case_on_features(path):
    errors = run_case(path)
    assert any(name.startswith("logits") for name in errors)
    assert {name: error for name, (error, limit) in errors.items() if not error <= limit} == {}


def test_the_case_of_the_aggregation_alone():
    errors = run_case(CASES / "promptsrc_gpa.json")
    assert errors.keys() == {f"{i}.{kind}" for i in range(3) for kind in ("weights", "aggregated")}
    assert {name: error for name, (error, limit) in errors.items() if not error <= limit} == {}


def test_depths_of_a_case_end_at_the_layers_of_their_tower():
    case = {"method": "ivlp", "depth_text": 9, "depth_vision": 9, "ctx_init": ""}
    read = as_read(case, {}, uneven_vit())
    assert (read["depth_text"], read["depth_vision"]) == (2, 4)


def test_methods_that_are_not_here_are_said_to_be_missing():
    with pytest.raises(NotHere, match="nothing_like_it"):
        path = CASES / "other.json"
        run_case(_case(path, {"method": "nothing_like_it"}))


def _case(path, content):
    class Fake:
        def read_text(self):
            return json.dumps(content)

    return Fake()


def test_the_command_fails_on_a_wrong_number(tmp_path, capsys):
    for name in ("clip_vit.npz", "nata.json"):
        shutil.copy(CASES / name, tmp_path)
    with np.load(CASES / "nata.npz") as stored:
        data = dict(stored)
    np.savez(tmp_path / "nata.npz", **data)
    assert main([str(tmp_path)]) == 0 and "1 passed, 0 failed" in capsys.readouterr().out
    data["logits"] = data["logits"] * 1.001
    np.savez(tmp_path / "nata.npz", **data)
    assert main([str(tmp_path)]) == 1 and "FAILED logits" in capsys.readouterr().out
    empty = tmp_path / "empty"
    empty.mkdir()
    assert main([str(empty)]) == 2 and "no cases" in capsys.readouterr().err


def test_a_case_that_does_not_run_fails_and_the_others_run(tmp_path, capsys):
    shutil.copy(CASES / "clip_vit.npz", tmp_path)
    case = json.loads((CASES / "cata.json").read_text())
    changes = {"shape": {"PG_TYPE": "linmean"}, "unknown": {"PG_TYP": "lin"}, "whole": {}}
    for name, change in changes.items():
        (tmp_path / f"{name}.json").write_text(json.dumps({**case, "opts": {**case["opts"], **change}}))
        shutil.copy(CASES / "cata.npz", tmp_path / f"{name}.npz")
    assert main([str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert "1 passed, 2 failed" in out and "size mismatch for prompt_gen.proj" in out
    assert "opts: TRAINER.MTCOOP.PG_TYP: no such setting; did you mean TRAINER.MTCOOP.PG_TYPE?" in out
