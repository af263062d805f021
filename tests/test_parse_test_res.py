"""parse_test_res.py on run folders with results.json: finished, killed and repeated runs."""

import csv
import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import parse_test_res
from reporting import table
from reporting.experiments import missing_seeds
from tests.reporting.written import NAMES, parse, parse_json, result, rows_of, write


@pytest.fixture
def three(tmp_path):
    """An experiment with three seeds and the overall values 70, 71 and 75."""
    for seed, value in ((1, 70.0), (2, 71.0), (3, 75.0)):
        write(tmp_path / f"exp/seed{seed}", results=result(value, (value - 10, value + 10), seed=seed))
    return tmp_path / "exp"


def test_mean_and_std_over_seeds(three, capsys):
    status, out, _ = parse(capsys, three)
    assert status == 0
    rows = rows_of(out)
    mean, std = np.mean([70, 71, 75]), np.std([70, 71, 75])
    assert rows["task"] == ["metric", "images", "seed1", "seed2", "seed3", "mean", "n"]
    assert rows["mean over tasks"] == ["overall_metric", "", "70.00", "71.00", "75.00", f"{mean:.2f} ± {std:.2f}", "3"]
    assert rows["faces"] == ["overall_acc", "1,200", "60.00", "61.00", "65.00", f"{mean - 10:.2f} ± {std:.2f}", "3"]
    assert "population: ddof = 0" in out
    assert "note:" not in out


def test_confidence_interval(three, capsys):
    data = parse_json(capsys, three, "--ci95")
    assert data["experiments"][0]["overall"]["spread"] == pytest.approx(1.96 * np.std([70, 71, 75]) / np.sqrt(3))
    assert data["spread"] == "ci95"
    assert "95 % interval" in parse(capsys, three, "--ci95")[1]


def test_missing_and_unfinished_seeds_are_listed(three, capsys):
    write(three / "seed2", results=result(0, status="running"))
    write(three / "seed5", results={"status": "failed", "error": "ValueError: loss is nan"})
    (three / "seed6").mkdir()
    write(three / "seed7", results='{"status": "compl')
    status, out, _ = parse(capsys, three)
    assert status == 0
    assert rows_of(out)["mean over tasks"][-2:] == [f"72.50 ± {np.std([70, 75]):.2f}", "2"]
    assert "missing: seed 4" in out
    assert "unfinished: seed2 (results.json says 'running')" in out
    assert "unfinished: seed5 (results.json says 'failed': ValueError: loss is nan)" in out
    assert "unfinished: seed6 (neither results.json nor log.txt)" in out
    assert "unfinished: seed7 (results.json cannot be read" in out
    assert "missing: seed 9" in parse(capsys, three, "--seeds", "1", "9")[1]


def test_expected_seeds():
    assert missing_seeds([1, 2, 3]) == []
    assert missing_seeds([1]) == missing_seeds([2]) == []  # SEEDS=1: no other seed is expected
    assert missing_seeds([1, 2, 5]) == [3, 4]
    assert missing_seeds([1, 2, 3, 4, 5, 9]) == missing_seeds([0, 3]) == []  # chosen freely
    assert missing_seeds([2], beside={1, 2, 3}) == [1, 3]
    assert missing_seeds([0, 42], beside={0, 7, 42}) == [7]


def test_seeds_of_sibling_experiments_are_expected(tmp_path, capsys):
    for path in ("nets/a/seed1", "nets/a/seed2", "nets/b/seed1", "other/c/seed1"):
        write(tmp_path / path, results=result(70.0))
    out = parse(capsys, tmp_path, "--multi-exp")[1]
    assert "note: nets/b: missing: seed 2" in out and out.count("missing") == 1
    assert "missing: seed 2" in parse(capsys, tmp_path / "nets/b")[1]
    assert "missing" not in parse(capsys, tmp_path / "nets/a")[1] + parse(capsys, tmp_path / "other/c")[1]
    assert "c: missing: seed 4" in parse(capsys, tmp_path, "--multi-exp", "--seeds", "1", "4")[1]
    write(tmp_path / "nets/zero/seed1", results=result(70.0, shots=-1, epochs=0))
    out = parse(capsys, tmp_path, "--multi-exp")[1]
    assert out.count("missing") == 1  # none of zero-shot CLIP, which has no use for seeds
    assert "zero: missing: seed 4" in parse(capsys, tmp_path, "--multi-exp", "--seeds", "1", "4")[1]


def test_keyword(three, capsys):
    assert parse_json(capsys, three, "--keyword", "macro_f1")["experiments"][0]["overall"]["mean"] == pytest.approx(
        70.0
    )
    rows = rows_of(parse(capsys, three, "--keyword", "macro_f1")[1])
    assert rows["faces"][0] == "macro_f1"
    assert rows["faces"][-2].startswith("60.00")
    for keyword in ("Food (raw)", "k1", "task1", "1"):
        data = parse_json(capsys, three, "--keyword", keyword)
        assert data["task"] == "food (raw)"
        assert data["experiments"][0]["overall"]["mean"] == pytest.approx(82.0)
    out = parse(capsys, three, "--keyword", "task1")[1]
    assert "faces" not in out and rows_of(out)["food (raw)"][:2] == ["overall_acc", "1,200"]
    status, _, err = parse(capsys, three, "--keyword", "fotos")
    assert status == 2
    assert "macro_f1" in err
    assert "0 (faces), 1 (food (raw))" in err


def test_several_experiments(three, tmp_path, capsys):
    for seed in (1, 2):
        write(tmp_path / f"deep/er/seed{seed}", results=result(80.0, (70.0, 90.0)))
    write(tmp_path / "zero", results=result(30.0, (20.0, 40.0)))
    write(tmp_path / "none/seed1", log="")
    status, out, _ = parse(capsys, tmp_path, "--multi-exp")
    assert status == 0
    rows = rows_of(out)
    assert rows["experiment"] == ["n", "mean over tasks", *NAMES]
    assert rows["exp"][0] == "3"
    assert rows["deep/er"] == ["2", "80.00 ± 0.00", "70.00 ± 0.00", "90.00 ± 0.00"]
    assert rows["zero"] == ["1", "30.00", "20.00", "40.00"]
    assert rows["none"] == ["0", "-", "-", "-"]
    assert rows["average"] == [
        "",
        f"{(72 + 80 + 30) / 3:.2f}",
        f"{(62 + 70 + 20) / 3:.2f}",
        f"{(82 + 90 + 40) / 3:.2f}",
    ]
    assert "the average is over the 3 of 4 experiments" in out
    assert "note: none: missing: seed 2, seed 3" in out  # seeds of the sibling exp
    assert "differ" not in out
    assert parse_json(capsys, tmp_path, "--multi-exp")["average"] == pytest.approx((72 + 80 + 30) / 3)


def test_experiments_with_other_tasks_have_no_task_columns(tmp_path, capsys):
    write(tmp_path / "a/seed1", results=result(70.0))
    write(tmp_path / "b/seed1", results={**result(60.0), "tasks": result(60.0)["tasks"][:1]})
    out = parse(capsys, tmp_path, "--multi-exp")[1]
    assert rows_of(out)["experiment"] == ["n", "mean over tasks"]
    assert "the experiments do not have the same tasks" in out
    assert "note: the average is over experiments that differ in tasks" in out


def test_an_average_of_unlike_experiments_reports_the_differences(tmp_path, capsys):
    write(tmp_path / "a/seed1", results=result(70.0, shots=1, suite="Icon13"))
    write(tmp_path / "b/seed1", results=result(60.0, shots=4))
    note = "note: the average is over experiments that differ in suite (Icon13, Icon5), shots (1, 4)\n"
    assert note in parse(capsys, tmp_path, "--multi-exp")[1]
    assert note in parse(capsys, tmp_path, "--multi-exp", "--json")[2]


@pytest.mark.parametrize("below", ["seed1", "CoOp/4shots/seed1", "seed1/again"])
def test_a_run_and_runs_below_it_do_not_hide_one_another(tmp_path, capsys, below):
    folder = write(tmp_path / "photos", results=result(70.0))
    write(folder / "seed1", results=result(50.0))
    write(folder / below, results=result(60.0))
    rows = rows_of(parse(capsys, folder, "--multi-exp")[1])
    assert rows["photos/."][:2] == ["1", "70.00"]
    assert [cells[1] for name, cells in rows.items() if name not in ("experiment", "average")].count("60.00") == 1
    assert "left out: the run in" in parse(capsys, folder)[1]


def test_runs_below_a_single_run_are_reported(tmp_path, capsys):
    folder = write(tmp_path / "photos", results=result(70.0))
    (folder / "tensorboard").mkdir()
    assert "note:" not in parse(capsys, folder)[1]
    write(folder / "CoOp/seed1", results=result(60.0))
    out = parse(capsys, folder)[1]
    assert rows_of(out)["mean over tasks"][-2:] == ["70.00", "1"]
    assert f"left out: what lies below the run, such as {folder}/CoOp; --multi-exp shows it" in out
    assert set(rows_of(parse(capsys, folder, "--multi-exp")[1])) >= {"photos", "CoOp"}


def test_a_single_run_has_no_spread(tmp_path, capsys):
    write(tmp_path / "zero", results=result(30.0))
    out = parse(capsys, tmp_path / "zero")[1]
    assert rows_of(out)["mean over tasks"][-2:] == ["30.00", "1"]
    assert "note:" not in out


def test_runs_with_other_names_are_seeds_only_if_they_fit_together(tmp_path, capsys):
    write(tmp_path / "good/a", results=result(30.0, seed=1))
    write(tmp_path / "good/b", results=result(40.0, seed=2))
    assert parse_json(capsys, tmp_path / "good")["experiments"][0]["overall"]["mean"] == 35.0
    write(tmp_path / "bad/plant6-0", results=result(30.0, seed=1, shots=2))
    write(tmp_path / "bad/plant6-1", results=result(40.0, seed=1, shots=4))
    status, _, err = parse(capsys, tmp_path / "bad")
    assert status == 2
    assert "use --multi-exp" in err


def test_seeds_that_do_not_belong_together(tmp_path, capsys):
    write(tmp_path / "seed1", results=result(70.0, seed=1))
    write(tmp_path / "seed2", results=result(71.0, seed=1, shots=8))
    out = parse(capsys, tmp_path)[1]
    assert "the runs differ in shots: 4, 8" in out
    assert "seed2: its results.json is of seed 1" in out


def test_a_task_without_images(tmp_path, capsys):
    write(tmp_path / "seed1", results=result(60.0, (60.0, 80.0)))
    data = result(60.0, (60.0, 80.0))
    data["tasks"][1].update(images=0, value=None, overall_acc=None, mean_acc=None, macro_f1=None)
    write(tmp_path / "seed2", results=data)
    out = parse(capsys, tmp_path)[1]
    assert rows_of(out)["food (raw)"][2:] == ["80.00", "-", "80.00", "1"]
    assert "food (raw): no value in seed2" in out


def test_errors_report_what_was_expected(three, tmp_path, capsys):
    assert parse(capsys, tmp_path / "nowhere")[::2] == (2, f"error: no such folder: {tmp_path / 'nowhere'}\n")
    (tmp_path / "empty").mkdir()
    status, _, err = parse(capsys, tmp_path / "empty")
    assert status == 2
    assert "looked for seed1, seed2, ... and for results.json or log.txt" in err
    status, _, err = parse(capsys, tmp_path)
    assert status == 2
    assert f"further down is {three}: use --multi-exp" in err
    status, _, err = parse(capsys, three / "seed1/results.json")
    assert status == 2
    assert "not a folder" in err
    write(tmp_path / "dead/seed1", results={"status": "running"})
    status, _, err = parse(capsys, tmp_path / "dead")
    assert status == 2
    assert "no finished run in" in err
    assert "seed1: results.json says 'running'" in err


def test_csv(three, capsys):
    (three / "seed4").mkdir()
    status, out, err = parse(capsys, three, "--csv")
    assert status == 0
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["task"] for row in rows] == [*NAMES, ""]
    assert float(rows[2]["mean"]) == pytest.approx(72.0)
    assert float(rows[2]["spread"]) == pytest.approx(np.std([70, 71, 75]))
    assert rows[0]["seeds"] == "seed1 seed2 seed3"
    assert rows[0]["unfinished"] == "seed4"
    assert "unfinished: seed4" in err


@pytest.mark.parametrize("words", [["--csv"], ["--json"]])
def test_formats_have_short_names(three, capsys, words):
    assert parse(capsys, three, *words) == parse(capsys, three, "--format", words[0][2:])
    assert parse(capsys, three, "--format", "text") == parse(capsys, three)
    with pytest.raises(SystemExit):
        parse(capsys, three, *words, "--format", "latex")
    assert "not allowed with" in capsys.readouterr().err


def test_latex(three, tmp_path, capsys):
    data = result(60.0, chosen={"k0": {"chosen_on": "test"}}, overrides={"OPTIM.LR": 0.1})
    data["tasks"][1]["name"] = "50% of A_B & {C}"
    write(three / "seed4", results=data)
    for seed in (1, 2, 3):
        other = result(70.0 + seed, seed=seed)
        other["tasks"][1]["name"] = data["tasks"][1]["name"]
        write(three / f"seed{seed}", results=other)
    status, out, _ = parse(capsys, three, "--format", "latex")
    lines = out.splitlines()
    begin, end = lines.index(r"\begin{tabular}{llrrrrrrr}"), lines.index(r"\end{tabular}")
    table = lines[begin : end + 1]
    assert status == 0 and [table[1], table[3], table[-2]] == [r"\toprule", r"\midrule", r"\bottomrule"]
    assert table[2] == r"task & metric & images & seed1 & seed2 & seed3 & seed4 & mean & n \\"
    std = np.std([71, 72, 73, 60])
    assert table[-3].startswith(r"mean over tasks & overall\_metric &  & 71.00 & 72.00 & 73.00 & 60.00 & ")
    assert table[-3].endswith(rf"69.00 $\pm$ {std:.2f} & 4 \\")
    assert table[5].startswith(r"50\% of A\_B \& \{C\} & overall\_acc & 1,200 & ")
    assert all(line.startswith("% ") or not line for line in lines[:begin] + lines[end + 1 :])
    assert "% note: the runs differ in OPTIM.LR: 0.1, as in the file" in lines
    out = parse(capsys, three.parent, "--multi-exp", "--format", "latex")[1]
    assert r"exp $\ddagger$ & 4 & 69.00 $\pm$ " in out


def test_markdown(three, tmp_path, capsys):
    write(tmp_path / "a|b/seed1", results=result(60.0))
    (three / "seed4").mkdir()
    out = parse(capsys, tmp_path, "--multi-exp", "--format", "markdown")[1]
    blocks = out.rstrip("\n").split("\n\n")
    (table,) = (block for block in blocks if block.startswith("|"))
    assert [line.count(" | ") for line in table.splitlines()] == [4, 0, 4, 4, 4] and "a\\|b" in table
    assert [block for block in blocks if block.startswith("note: exp: unfinished: seed4")]
    assert all("\n" not in block for block in blocks if block is not table)
    # no limit of the width, and so no numbers in place of labels
    write(tmp_path / f"{'x' * 130}/seed1", results=result(50.0))
    rows = rows_of(parse(capsys, tmp_path, "--multi-exp", "--format", "markdown")[1])
    assert rows["x" * 130][:2] == ["1", "50.00"]


def test_as_a_program_from_anywhere_without_loading_torch(three, tmp_path):
    program = Path(parse_test_res.__file__)
    code = """
import runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    assert "torch" not in sys.modules  # importing it takes seconds
"""
    environment = {"PYTHONPATH": str(program.parent), "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-c", code, str(program), str(three)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "72.00 +- " in done.stdout  # the sign is replaced if the terminal lacks it


def test_seeds_that_are_not_expected_are_named(three, capsys):
    out = parse(capsys, three, "--seeds", 1, 2, 4)[1]
    assert "note: missing: seed 4" in out and "note: not among the expected seeds, but part of the mean: seed 3" in out


def test_runs_further_down_are_named(three, tmp_path, capsys):
    write(tmp_path / "zero", results=result(60.0, (50.0, 70.0)))
    out = parse(capsys, tmp_path)[1]
    assert f"note: left out: what lies further down, such as {three}; --multi-exp shows it" in out


def test_several_folders_are_one_error(three, capsys):
    with pytest.raises(SystemExit) as stopped:
        parse_test_res.main([str(three), str(three)])
    assert stopped.value.code == 2
    assert "expected one folder, found 2; --multi-exp shows all below a folder" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        parse_test_res.main([])
    assert capsys.readouterr().err.endswith("the following arguments are required: FOLDER\n")


def test_tables_need_a_label_of_its_own_for_each_folder(three, capsys):
    for given, message in (
        ([str(three)], f'expected LABEL=FOLDER, e.g. CoOp=output/..., found "{three}"'),
        ([f"A={three}", f"A={three}"], 'the label "A" is given 2 times; each row needs its own'),
    ):
        assert table.main(given) == 2
        found = capsys.readouterr()
        assert message in found.err and not found.out


def test_numbers_whose_settings_were_chosen_on_test_images_are_marked(tmp_path, capsys):
    chosen = {"k0": {"alpha": 1.0, "chosen_on": "val"}, "k1": {"alpha": 2.0, "chosen_on": "test"}}
    write(tmp_path / "TipAdapter/seed1", results=result(70.0, chosen=chosen))
    write(tmp_path / "CoOp/seed1", results=result(60.0, chosen={"k0": chosen["k0"]}))
    note = "test images chose settings of the method, as published"
    status, out, _ = parse(capsys, tmp_path, "--multi-exp")
    assert status == 0 and "TipAdapter ‡" in out and "CoOp ‡" not in out and out.count(note) == 1
    _, out, _ = parse(capsys, tmp_path / "TipAdapter")
    assert note in out
    _, out, _ = parse(capsys, tmp_path / "CoOp")
    assert note not in out
    _, out, err = parse(capsys, tmp_path, "--multi-exp", "--csv")
    rows = {line.split(",")[0]: line.split(",")[-1] for line in out.splitlines()}
    assert rows == {"experiment": "chosen_on", "TipAdapter": "test", "CoOp": ""} and note in err
    write(tmp_path / "odd/seed1", results=result(60.0, chosen=["test"]))
    assert parse(capsys, tmp_path / "odd")[0] == 0
