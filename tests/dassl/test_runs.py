"""Run folders: one owner of their files, runs of the previous version, and a metric that a user registers."""

import ast
import csv
import importlib.util
import io
import json
import shutil
from pathlib import Path

import pytest
import torch

import datasets  # noqa: F401
import parse_test_res
import predict
import train
import trainers  # noqa: F401
from dassl.metrics import METRICS
from dassl.runs.results import read_run
from dassl.utils import load_checkpoint, read_json, write_json
from tests.dassl import toy

PROJECT = Path(__file__).parents[2]
PREVIOUS = Path(__file__).parent / "previous_version"  # CoOp on one task of Icon-5, 2 epochs, written before dassl/runs
NAMES = ("results.json", "config.yaml", "tasks.json")


def texts_of(path):
    """The string constants of a Python file, without docstrings and the parts of f-strings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    prose |= {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    nodes = (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in prose)
    return {node.value for node in nodes if isinstance(node.value, str)}


def test_only_dassl_runs_names_the_files_of_a_run():
    files = [path for path in PROJECT.rglob("*.py") if path.relative_to(PROJECT).parts[0] not in ("tests", ".venv")]
    named = {path.relative_to(PROJECT).as_posix(): texts_of(path) & set(NAMES) for path in files}
    owners = {path for path, found in named.items() if found}
    assert owners == {"dassl/runs/record.py"}


@pytest.fixture
def previous(tmp_path):
    return shutil.copytree(PREVIOUS, tmp_path / "previous")


def same_tasks(a, b):
    assert all(old.keys() <= new.keys() for new, old in zip(a["tasks"], b["tasks"], strict=True))
    return [task["value"] for task in a["tasks"]] == pytest.approx([task["value"] for task in b["tasks"]], abs=1)


def test_a_model_of_the_previous_version_is_tested_again(previous, tmp_path):
    arguments = ["--config-file", str(previous / "config.yaml"), "--output-dir", str(tmp_path / "test")]
    assert train.main([*arguments, "--eval-only", "--model-dir", str(previous)]) == 0
    found, expected = read_json(tmp_path / "test" / "results.json"), read_json(previous / "results.json")
    new = {"models", "method", "config_files", "overrides", "tested_model", "chosen", "fewshot_split"}
    new |= {"task_unknown", "task_weights"}
    assert found.keys() == expected.keys() | new and same_tasks(found, expected)
    assert found["hashes"]["split"] == expected["hashes"]["split"]


def test_an_unfinished_run_of_the_previous_version_goes_on(previous, capsys):
    expected = read_json(previous / "results.json")
    write_json({**expected, "status": "running", "epoch": 1}, str(previous / "results.json"))
    (previous / "prompt_learner" / "model.pth.tar-2").unlink()
    assert train.main(["--config-file", str(previous / "config.yaml"), "--output-dir", str(previous)]) == 0
    assert "after epoch 1" in capsys.readouterr().out
    assert same_tasks(read_json(previous / "results.json"), expected)
    a, b = (load_checkpoint(str(folder / "prompt_learner" / "model.pth.tar-2")) for folder in (previous, PREVIOUS))
    assert a.keys() == b.keys() and a["state_dict"].keys() == b["state_dict"].keys()
    a, b = (each["state_dict"]["prompt_learner.ctx"] for each in (a, b))
    assert torch.allclose(a, b, atol=1e-3)


def test_a_finished_run_of_the_previous_version_is_left_alone(previous, capsys):
    before = (previous / "results.json").read_bytes()
    assert train.main(["--config-file", str(previous / "config.yaml"), "--output-dir", str(previous)]) == 0
    assert "nothing to do" in capsys.readouterr().out and (previous / "results.json").read_bytes() == before


def test_a_run_of_the_previous_version_predicts_and_appears_in_tables(previous, tmp_path, capsys):
    toy.draw_images(tmp_path)
    image = next((tmp_path / "toy").rglob("*.png"))
    assert predict.main([str(previous), str(image)]) == 0
    assert capsys.readouterr().out.split("\t")[1] == "hands"
    assert parse_test_res.main([str(previous)]) == 0
    row = "| hand gestures and body parts | overall_acc    |    185 |    45.41 | 45.41 | 1 |"
    assert row in capsys.readouterr().out


UNCERTAINTY = '''
from dassl.metrics import METRICS


@METRICS.register(needs="probabilities", larger_is_better=False)
def mean_uncertainty(probabilities, labels):
    """Mean of 1 - the probability of the predicted class, in per cent."""
    return 100 * (1 - probabilities.max(1).values).mean()
'''


@pytest.fixture
def uncertainty(tmp_path):
    (tmp_path / "uncertainty.py").write_text(UNCERTAINTY)
    spec = importlib.util.spec_from_file_location("uncertainty", tmp_path / "uncertainty.py")
    known = dict(METRICS._objects)
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    yield METRICS.get("mean_uncertainty")
    METRICS._objects.clear()
    METRICS._objects.update(known)


def test_a_metric_in_one_file_appears_everywhere(uncertainty, previous, tmp_path, capsys):
    shutil.move(previous, tmp_path / "runs" / "seed2")  # a run that did not measure it
    run = tmp_path / "runs" / "seed1"
    arguments = ["--config-file", str(PREVIOUS / "config.yaml"), "--output-dir", str(run), "--eval-only"]
    assert train.main([*arguments, "--model-dir", str(tmp_path / "runs" / "seed2")]) == 0
    result = read_json(run / "results.json")
    value = result["tasks"][0]["mean_uncertainty"]
    assert (
        0 < value < 100
        and result["mean"]["mean_uncertainty"] == value != result["zero_shot"]["mean"]["mean_uncertainty"]
    )
    assert f"* mean_uncertainty: {value:.2f}%" in capsys.readouterr().out
    assert (
        read_run(run).numbers["mean_uncertainty"] == value
        and "mean_uncertainty" not in read_run(tmp_path / "runs" / "seed2").numbers
    )

    assert parse_test_res.main([str(tmp_path / "runs")]) == 0
    out = capsys.readouterr().out
    assert "number: mean_uncertainty; over several tasks their unweighted mean" in out
    assert (
        f"| hand gestures and body parts | mean_uncertainty |    185 | {value:.2f} |     - | {value:.2f} | 1 |" in out
    )
    assert parse_test_res.main([str(tmp_path / "runs"), "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [(row["task"], row["metric"]) for row in rows][2:] == [
        ("hand gestures and body parts", "mean_uncertainty"),
        ("", "mean_uncertainty"),
    ]
    assert float(rows[2]["mean"]) == value and rows[2]["n"] == "1"
    assert parse_test_res.main([str(tmp_path / "runs"), "--json"]) == 0
    further = json.loads(capsys.readouterr().out)["further_metrics"]
    assert further["mean_uncertainty"][0]["overall"]["values"] == {"seed1": value, "seed2": None}


def test_metrics_say_what_they_need():
    with pytest.raises(
        ValueError, match="predictions, probabilities, logits, or a function of a batch, found 'images'"
    ):
        METRICS.register(needs="images")
    assert METRICS.declarable() == ("overall_acc", "mean_acc", "macro_f1", "roc_auc", "mAP", "mAP_11_points")
