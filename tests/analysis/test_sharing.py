import csv

import pytest
import torch

from analysis import sharing
from dassl.engine import build_trainer
from tests.models import state_dict, tiny_vit
from tests.suite import TASKS, config


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A function: a trainer on the test suite, trained for an epoch."""
    folder = tmp_path_factory.mktemp("sharing")
    torch.save(state_dict(tiny_vit()), folder / "vit.pt")

    def make(name, trainer="MTCoOp", *settings):
        cfg = config(folder, trainer, folder / "vit.pt", 32, "OUTPUT_DIR", str(folder / name), *settings)
        cfg.merge_from_list(["OPTIM.MAX_EPOCH", 1])
        trained = build_trainer(cfg)
        trained.train()
        return trained, str(folder / name)

    return make


def test_what_is_predicted_is_what_happens(run, tmp_path, capsys):
    trainer, folder = run("nata")
    out = tmp_path / "figures" / "sharing.csv"
    assert sharing.main([folder, "--out", str(out), "--lr", "0.5"]) == 0
    with open(out, encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
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


def test_the_weights_stay(run):
    trainer, _ = run("stay", "MTCoOp", "TRAINER.MTCOOP.TASK_FEATURE", "rand")
    before = {name: value.clone() for name, value in trainer.model.named_parameters()}
    assert len(sharing.measure(trainer, 0.1)) == 9
    for name, value in trainer.model.named_parameters():
        assert value.dtype == torch.float32 and torch.equal(value, before[name])


def test_runs_the_proposition_is_not_about(run, capsys):
    cases = {
        "a run of MTCoOp": ("hard", "MTCoOpHard"),
        "found lin and True": ("cata", "MTCoOp", "TRAINER.MTCOOP.CSC", True),
        "found mlp and False": ("mlp", "MTCoOp", "TRAINER.MTCOOP.PG_TYPE", "mlp"),
    }
    for text, arguments in cases.items():
        _, folder = run(*arguments)
        capsys.readouterr()
        assert sharing.main([folder]) == 2
        out, err = capsys.readouterr()
        assert out == "" and text in err
