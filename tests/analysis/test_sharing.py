"""Test predicted against actual moves of contexts (Proposition 1 of SoftCPT)."""

import pytest
import torch

from analysis import sharing
from tests.analysis.figures import refused, rows_of
from tests.suite import TASKS


def test_predicted_moves_equal_actual_moves(run, tmp_path, capsys):
    trainer, folder = run("MTCoOp")
    out = tmp_path / "figures" / "sharing"
    assert sharing.main([folder, "--out", f"{out}.csv", "--lr", "0.5"]) == 0
    rows = rows_of(out)
    keys = [task.key for task in TASKS]
    assert sorted((row["task"], row["by"]) for row in rows) == sorted((t, u) for t in keys for u in keys)
    with torch.no_grad():
        f = trainer.model.tower(trainer.model.task_prompt_learner()).double()
    gradients = {row["by"]: float(row["gradient_norm"]) for row in rows}
    assert gradients["one"] == 0 and gradients["shades"] > 0  # a task with one class has no loss
    for row in rows:
        t, u = keys.index(row["task"]), keys.index(row["by"])
        inner = (f[t] @ f[u]).item()
        assert float(row["inner_product"]) == pytest.approx(inner, rel=1e-4)
        assert float(row["cosine"]) == pytest.approx(inner / (f[t].norm() * f[u].norm()).item(), rel=1e-4)
        assert float(row["predicted"]) == pytest.approx(0.5 * abs(inner) * gradients[row["by"]], rel=1e-4)
        assert float(row["actual"]) == pytest.approx(float(row["predicted"]), rel=1e-3)
        assert float(row["relative_difference"]) < 1e-3


def test_weights_are_restored(run):
    trainer, _ = run("MTCoOp", "TRAINER.MTCOOP.TASK_FEATURE", "rand")
    before = {name: value.clone() for name, value in trainer.model.named_parameters()}
    assert len(sharing.measure(trainer, 0.1)) == 9
    for name, value in trainer.model.named_parameters():
        assert value.dtype == torch.float32 and torch.equal(value, before[name])


def test_runs_without_linear_meta_network_are_refused(run, capsys):
    cases = {
        "a run of SoftCPT": ("MTCoOpHard",),
        "found lin and True": ("MTCoOp", "TRAINER.MTCOOP.CSC", True),
        "found mlp and False": ("MTCoOp", "TRAINER.MTCOOP.PG_TYPE", "mlp"),
    }
    for text, arguments in cases.items():
        _, folder = run(*arguments)
        assert text in refused(capsys, sharing.main, folder)
