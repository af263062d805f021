"""The plain examples give exactly the accuracies of the trainers, from the same seeds."""

import importlib
from pathlib import Path

import pytest

import datasets  # noqa: F401
import trainers  # noqa: F401
from dassl.config import get_cfg_default, load
from dassl.engine import build_trainer

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"


def trained(tmp_path, trainer, config, *opts):
    """{task: accuracy} of a run on Icon-5 with one training image per class and seed 2."""
    cfg = get_cfg_default()
    files = [str(ROOT / "configs" / name) for name in ("datasets/icon5.yaml", f"trainers/{config}.yaml")]
    given = {"TRAINER.NAME": trainer, "SEED": 2, "OUTPUT_DIR": str(tmp_path / "run"), "USE_CUDA": False}
    given |= {"DATASET.NUM_SHOTS": 1, "TRAIN.TENSORBOARD": False, "DATALOADER.FEATURE_CACHE_DIR": str(tmp_path)}
    load(cfg, files, [part for item in given.items() for part in item] + list(opts))
    engine = build_trainer(cfg)
    engine.train()
    return {task["name"]: task["overall_acc"] for task in engine.evaluator.report["tasks"]}


@pytest.mark.parametrize(
    ("example", "words", "run"),
    [
        ("softcpt_plain", ["--epochs", "3"], ("MTCoOp", "MTCoOp/tiny_ep20", "TRAINER.MTCOOP.CLASS_N_CTX", 0)),
        ("coop_plain", ["--epochs", "3"], ("MTCoOpHard", "MTCoOpHard/tiny_ep20", "TRAINER.MTCOOPH.TSC", True)),
        ("tip_adapter_plain", [], ("TipAdapter", "TipAdapter/tiny")),
    ],
)
def test_a_plain_example_gives_the_accuracies_of_its_trainer(example, words, run, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    found = importlib.import_module(example).main(["--shots", "1", "--seed", "2", *words])
    expected = trained(tmp_path, *run, *(("OPTIM.MAX_EPOCH", 3) if words else ()))
    assert len(expected) == 5 and {key: expected[key] for key in list(found)} == pytest.approx(found, abs=1e-9)


def test_examples_are_short_and_import_nothing_of_the_framework():
    own = {path.stem for path in ROOT.glob("*.py")} | {path.parent.name for path in ROOT.glob("*/__init__.py")}
    scripts = sorted(EXAMPLES.glob("*.py"))
    assert {"softcpt_plain.py", "coop_plain.py", "tip_adapter_plain.py"} <= {path.name for path in scripts}
    for path in scripts:
        lines = path.read_text(encoding="utf-8").splitlines()
        imported = {line.split()[1].split(".")[0] for line in lines if line.startswith(("import ", "from "))}
        assert not imported & own, path.name
        assert len(lines) <= 100 or path.name == "icons.py", path.name
