"""Grids and rows: which runs a file means, and what is said about mistakes in it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

import sweep
from dassl.utils import UserError
from sweeps.calls import CONFIGS, Place
from sweeps.grid import GRIDS, expand, read_grid, runs_of, selected
from sweeps.launchers import Request, calls
from sweeps.rows import read_rows
from sweeps.status import status_of
from sweeps.tables import show_tables
from tests.sweeps.called import record

PLACE = Place(Path("/data"), Path("/results"))
GRID = """
rows: [softcpt/ZeroshotCLIP, softcpt/CoOp-CA, softcpt/ProGrad]
suites: [general10, plant6]
config: rn50_ep50
shots: [1, 16]
seeds: [1, 2]
"""


@pytest.fixture
def written(tmp_path):
    def write(text, name="grid.yaml"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def pairs(call):
    return dict(zip(call.pairs[::2], call.pairs[1::2], strict=True))


@pytest.mark.parametrize("name", sorted(path.stem for path in GRIDS.glob("*.yaml")))
def test_every_grid_of_the_project_has_config_files_for_all_its_rows(name):
    experiments = expand(read_grid(name), PLACE)
    assert experiments and not [each.missing for each in experiments if each.missing]
    for call in runs_of(experiments):
        assert call.config.is_file() and call.dataset.is_file()


@pytest.mark.parametrize("name", sorted(path.stem for path in (CONFIGS / "rows").glob("*.yaml")))
def test_every_file_of_rows_can_be_read(name):
    assert all(row.label == label for label, row in read_rows(name).items())


def test_a_grid_has_the_runs_of_the_launchers(written):
    runs = runs_of(expand(read_grid(written(GRID)), PLACE))
    assert len(runs) == 2 + 2 * 2 * 2 * 2  # zero-shot once per suite; row, suite, shots, seed
    values = {"DATASET": "plant6", "CFG": "rn50_ep50", "SHOTS": "16", "N_CTX": "16", "CSC": "False", "TSC": "True"}
    wanted = calls(Request("main_mtcoop_hard", values, seeds=(1, 2), place=PLACE, label="CoOp-CA"))
    assert [call for call in runs if call.row == "CoOp-CA" and call.dataset.stem == "plant6"][:2] == wanted


def test_rows_follow_suite_and_shots(written):
    runs = [call for call in runs_of(expand(read_grid(written(GRID)), PLACE)) if call.row == "ProGrad"]
    found = {
        (c.dataset.stem, pairs(c)["DATASET.NUM_SHOTS"]): (c.config.stem, "TRAINER.PROGRAD.TASK_LAMBDA" in pairs(c))
        for c in runs
    }
    assert found == {
        ("general10", "1"): ("rn50_ep50", False),
        ("general10", "16"): ("rn50", True),
        ("plant6", "1"): ("rn50_ep50", False),
        ("plant6", "16"): ("rn50", False),
    }


def test_runs_with_most_images_come_first_and_tests_last(written):
    grid = read_grid(written(GRID.replace("ProGrad", "CoOp-MT") + "protocol: base-to-new\n"))
    runs = runs_of(expand(grid, PLACE))
    shots = [int(pairs(call).get("DATASET.NUM_SHOTS", 0)) for call in runs if call.model is None]
    assert shots == sorted(shots, reverse=True)
    tests = [call.model is not None for call in runs]
    assert tests == sorted(tests) and {call.model for call in runs if call.model} <= {call.folder for call in runs}


def test_one_run_per_task_and_rows_that_share(written):
    text = "rows: [upt2/UPT, upt2/MTUPT-soft]\nsuites: icon5\nconfig: tiny_ep20\nshots: 4\nseeds: 1\n"
    joint = runs_of(expand(read_grid(written(text)), PLACE))
    assert [pairs(call).get("TRAINER.UPT.TSC") for call in joint] == ["True", None]
    each = runs_of(expand(read_grid(written(text + "tasks: each\n")), PLACE))
    own = [call for call in each if call.row == "UPT"]
    assert [pairs(call)["DATASET.SUBSAMPLE_TASKS"] for call in own] == [f"task{t}" for t in range(5)]
    assert {pairs(call)["TRAINER.UPT.TSC"] for call in own} == {"False"} and len(each) == 6


def test_variants_have_folders_of_their_own(written):
    text = """
rows: softcpt/CoOp-CA
suites: icon5
config: tiny_ep20
shots: 4
seeds: 3
variants: {short: {TRAINER.MTCOOPH.N_CTX: 4}, long: {TRAINER.MTCOOPH.N_CTX: 32}}
folder: "lengths/{row}/{variant}"
"""
    runs = runs_of(expand(read_grid(written(text)), PLACE, ["OPTIM.LR", "0.1"]))
    assert [str(call.folder) for call in runs] == [
        f"/results/output/lengths/CoOp-CA/{v}/seed3" for v in ("short", "long")
    ]
    assert [pairs(call)["TRAINER.MTCOOPH.N_CTX"] for call in runs] == ["4", "32"]
    assert {pairs(call)["OPTIM.LR"] for call in runs} == {"0.1"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", "expected a mapping with rows, suites"),
        ("rows: softcpt\nsuites: icon5\n", "config is missing"),
        ("rows: softcpt\nsuites: icon6\nconfig: tiny_ep20\n", "'icon6' is not a file of configs/datasets"),
        ("rows: softcpd\nsuites: icon5\nconfig: tiny_ep20\n", "no file .*softcpd.yaml; expected a YAML file or one of"),
        ("rows: softcpt/CoOp-XA\nsuites: icon5\nconfig: tiny_ep20\n", 'unknown row "CoOp-XA"; rows: ZeroshotCLIP'),
        ("rows: softcpt\nsuites: icon5\nconfig: tiny_ep20\nshot: 4\n", "unknown entry 'shot'; expected rows, suites"),
        (
            "rows: softcpt\nsuites: icon5\nconfig: tiny_ep20\nshots: [four]\n",
            "shots has to be whole numbers, found 'four'",
        ),
        ("rows: softcpt\nsuites: icon5\nconfig: tiny_ep20\nprotocol: b2n\n", "protocol has to be one of few-shot"),
        ("rows: softcpt\nsuites: icon5\nconfig: tiny_ep20\nvariants: {a: {SEED: 1}}\n", "variants need a folder"),
    ],
)
def test_mistakes_in_a_grid(written, text, message):
    with pytest.raises(UserError, match=message):
        read_grid(written(text))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{arguments: {}}", "expected a mapping with a launcher"),
        ("{launcher: main_copo}", "unknown launcher main_copo"),
        ("{launcher: main_coop, arguments: {N_CTX: 4, CSC: False}}", "main_coop needs the argument TSC"),
        ("{launcher: main_cocoop, arguments: {TSC: True, W: 8}}", "main_cocoop has no argument W; expected TSC"),
        ("{launcher: main_cocoop, argument: {}}", "unknown entry argument"),
        ("{launcher: method, name: MaPel}", "needs a name, a folder of configs/trainers; found 'MaPel'"),
        ("{launcher: zeroshot, cases: [{when: {shot: 1}}]}", "its `when`"),
    ],
)
def test_mistakes_in_rows(written, row, message):
    with pytest.raises(UserError, match=message):
        read_rows(str(written(f"Mine: {row}\n", "rows.yaml")))


def test_selected_runs(written):
    runs = runs_of(expand(read_grid(written(GRID)), PLACE))
    found = selected(runs, "row=CoOp* shots=1,2 suite=plant6")
    assert [(call.row, call.seed) for call in found] == [("CoOp-CA", 1), ("CoOp-CA", 2)]
    assert selected(runs, "") == runs
    with pytest.raises(UserError, match="fits none of the 18 runs; rows: "):
        selected(runs, "row=MaPLe")
    with pytest.raises(UserError, match="unknown 'rows'; expected row, suite"):
        selected(runs, "rows=KgCoOp")
    with pytest.raises(UserError, match="expected conditions such as"):
        selected(runs, "CoOp-CA")


def test_status_of_a_grid(written, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("OUTPUT", str(tmp_path))
    grid = written("rows: softcpt/CoOp-CA\nsuites: icon5\nconfig: tiny_ep20\nshots: 1\nseeds: [1, 2, 3]\n")
    runs = runs_of(expand(read_grid(grid), Place.of_environment()))
    for call, content in zip(
        runs,
        ({"status": "complete", "mean": {"value": 12.345}}, {"status": "failed", "error": "ValueError: no\nmore"}),
        strict=False,
    ):
        call.folder.mkdir(parents=True)
        (call.folder / "results.json").write_text(json.dumps(content))
    assert [(status.state, status.about) for status in map(status_of, runs)] == [
        ("finished", "12.35 %"),
        ("failed", "ValueError: no"),
        ("waiting", ""),
    ]
    assert sweep.main([str(grid), "--status"]) == 0
    out = capsys.readouterr().out
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in out.splitlines() if line.startswith("|")]
    assert cells[-1] == ["all", "1", "", "", "1", "", "1"] and "ValueError: no" in out


def test_status_names_finished_runs_with_other_settings(written, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("OUTPUT", str(tmp_path))
    grid = written("rows: softcpt/CoOp-CA\nsuites: icon5\nconfig: tiny_ep20\nshots: 1\nseeds: [1, 2]\n")
    place = Place.of_environment()
    for call, lr in zip(runs_of(expand(read_grid(grid), place)), ("0.5", "0.25"), strict=True):
        record(replace(call, pairs=(*call.pairs, "OPTIM.LR", lr)))
    assert sweep.main([str(grid), "--status", "OPTIM.LR", "2.5e-1"]) == 0
    out = capsys.readouterr().out
    assert "other settings:" in out and "there: OPTIM.LR 0.5; now:   OPTIM.LR 0.25" in out
    last = [line for line in out.splitlines() if line.startswith("| all")]
    assert [cell.strip() for cell in last[0].split("|")[2:4]] == ["1", "1"]


def test_a_table_has_the_rows_of_which_a_run_has_begun(written, tmp_path, capsys):
    """The others were left out by --only."""
    rows = "[softcpt/ZeroshotCLIP, softcpt/CoOp-CA, softcpt/KgCoOp]"
    grid = read_grid(written(f"rows: {rows}\nsuites: icon5\nconfig: tiny_ep20\nshots: 1\nseeds: 1\n"))
    experiments = expand(grid, Place(Path("/data"), tmp_path))
    show_tables(grid, experiments)
    assert capsys.readouterr().out == ""
    for call in runs_of(experiments):
        if call.row == "KgCoOp":
            record(call, settings=False)
    show_tables(grid, experiments)
    out = capsys.readouterr().out
    assert "KgCoOp" in out and "70.00" in out and "CoOp-CA" not in out and "Zeroshot" not in out


def test_a_dry_run_checks_every_setting(written, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("OUTPUT", str(tmp_path))
    grid = written("rows: softcpt/CoOp-CA\nsuites: icon5\nconfig: tiny_ep20\nshots: [1, 4]\nseeds: [1, 2]\n")
    assert sweep.main([str(grid), "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert out.count("train.py --root") == 4 and out.endswith("# 4 to run\n")
    assert sweep.main([str(grid), "--dry-run", "OPTIM.LRR", "0.1"]) == 2
    errors = capsys.readouterr().err
    assert "4 of 4 cannot run" in errors and "did you mean OPTIM.LR?" in errors and errors.count("did you mean") == 1
    assert list(tmp_path.iterdir()) == [grid]


CONTINUE = """
rows: [mvlpt/CoOp, mvlpt/UPT]
suites: icon8
targets: icon5
protocol: continue
config: tiny_ep20
shots: 4
seeds: [1, 2]
numbers: [0, 3]
"""


def test_continued_runs_start_from_the_model_of_their_seed(written, tmp_path):
    place = Place(tmp_path / "data", tmp_path)
    coop, upt = expand(read_grid(written(CONTINUE)), place)
    runs = runs_of([coop, upt])
    assert len(runs) == 2 * (2 + 2 * 2 + 2 * 2)  # rows; sources, from scratch and continued by task and seed
    sources = {call.folder for call in runs if call.dataset.stem == "icon8"}
    assert {call.source for call in runs if call.source} == sources and len(sources) == 4
    first = max(i for i, call in enumerate(runs) if not call.source)
    assert first < min(i for i, call in enumerate(runs) if call.source)
    by_folder = {call.folder: call for call in runs}
    for call in (call for call in runs if call.source):
        assert call.source.name == call.folder.name == f"seed{call.seed}"
        scratch = by_folder[tmp_path / "output" / call.folder.relative_to(tmp_path / "output/continued/icon8")]
        assert (scratch.pairs, scratch.config, scratch.source) == (call.pairs, call.config, None)
        with pytest.raises(UserError, match="no finished training run in .*\n?first run the sweep's training runs"):
            call.words()
        assert call.planned()[-1].endswith(f"/seed{call.seed}/prompt_learner/model.pth.tar-last")
    call = next(call for call in runs if call.source)
    call.source.mkdir(parents=True)
    results = {"status": "complete", "epochs": 20, "tasks": [], "mean": {"value": 1.0}}
    (call.source / "results.json").write_text(json.dumps(results))
    assert call.words()[-2:] == ["MODEL.INIT_WEIGHTS", f"{call.source}/prompt_learner/model.pth.tar-20"]
    assert not call.outdated() and coop.continued["icon5"][1].endswith("nctx16_cscFalse_tscFalse/task*")


@pytest.mark.parametrize(
    "change, found",
    [
        (("targets: icon5\n", ""), "the protocol continue needs targets"),
        (("numbers: [0, 3]", "tasks: each"), "the protocol continue needs targets, and trains jointly"),
        (("mvlpt/UPT", "softcpt/ZeroshotCLIP"), "row ZeroshotCLIP: it learns nothing, so there is nothing to continue"),
        (("numbers: [0, 3]", "folder: 'x{variant}'\nvariants: {a: {SEED: 1}}"), "has no variants"),
    ],
)
def test_what_cannot_be_continued(written, change, found):
    with pytest.raises(UserError, match=found):
        expand(read_grid(written(CONTINUE.replace(*change))), PLACE)
