"""The commands in the table of docs/methods.md are understood, and make what the other columns are about."""

import re

import trainers  # noqa: F401  registers the methods
from benchmarks.methods import METHODS
from dassl.config import get_cfg_default, load
from sweeps.dry_run import dry_run
from sweeps.requests import script_calls
from tests.docs.method_tables import ROWS, costs
from tests.docs.tables import DOCS
from train import configure, parse


def test_every_command_trains_its_row(tmp_path, monkeypatch):
    """With the arguments that the page gives as an example."""
    table = (DOCS / "methods.md").read_text(encoding="utf-8").split("<!-- table: methods -->")[1].split("<!-- end")[0]
    told = re.findall(r"^\| ([^|]+?) \| \[\d\] \| `(\w+)` .*? `([^`]+)` \|$", table, re.MULTILINE)
    assert [row for row, *_ in told] == list(ROWS)
    for name, value in {"OUTPUT": str(tmp_path), "SHOTS": "4", "SEEDS": "1"}.items():
        monkeypatch.setenv(name, value)
    calls = []
    for _, _, command in told:
        script, *words = command.replace("…", "icon5 tiny_ep20 4").split()
        calls += script_calls(script.removesuffix(".sh"), words)
    assert dry_run(calls) == 0
    for (row, trainer, _), call in zip(told, calls, strict=True):
        cfg = configure(parse(call.planned()))
        assert trainer == cfg.TRAINER.NAME and cfg.DATASET.NAME == "Icon5", row
        if row not in METHODS:
            continue
        assert METHODS[row].trainer == trainer
        wanted = get_cfg_default()
        load(wanted, [], METHODS[row].pairs())
        found, wanted = (dict(one.TRAINER[METHODS[row].cls.section]) for one in (cfg, wanted))
        unread = {"PREC"} | ({"TASK_N_CTX"} if found.get("TASK_FEATURE") == "rand" else set())
        assert {k: v for k, v in found.items() if k not in unread} == {
            k: v for k, v in wanted.items() if k not in unread
        }, row


def test_costs_in_a_table():
    assert costs(None) == ["?", "?"]
    assert costs({"fit": 2.74}) == ["2.7 in all", "–"] and costs({"fit": 0.004}) == ["< 0.1 in all", "–"]
    assert costs({"relative": 12.345, "live_relative": 1.004}) == ["12.3", "1.00"]
    assert costs({"live_relative": 1.5}) == ["–", "1.50"]
