"""Base classes, new classes and their harmonic mean."""

import csv
import io

import numpy as np
import pytest

from tests.reporting.written import NAMES, numbers, parse, parse_json, result, rows_of, write

BASE, NEW = {1: (80.0, 60.0), 2: (90.0, 70.0)}, {1: (40.0, 60.0), 2: (50.0, 50.0)}  # seed: values of the two tasks


def h(base, new):
    return 2 / (1 / base + 1 / new)


@pytest.fixture
def folder(tmp_path):
    for half, values in (("base", BASE), ("new", NEW)):
        for seed, tasks in values.items():
            write(tmp_path / f"loss/{half}/seed{seed}", results=result(np.mean(tasks), tasks, seed=seed, protocol=half))
    return tmp_path / "loss"


def test_harmonic_mean(folder, capsys):
    status, out, _ = parse(capsys, folder, "--seeds", "1", "2")
    assert status == 0
    rows = rows_of(out)
    assert rows["task"] == ["metric", "base", "new", "H"]
    # as in published tables: harmonic mean of the two means, not mean of the seeds' harmonic means
    spread = np.std([h(70, 50), h(80, 50)])
    assert rows["mean over tasks"] == [
        "overall_metric",
        "75.00 ± 5.00",
        "50.00 ± 0.00",
        f"{h(75, 50):.2f} ± {spread:.2f}",
    ]
    spread = np.std([h(80, 40), h(90, 50)])
    assert rows[NAMES[0]] == ["overall_acc", "85.00 ± 5.00", "45.00 ± 5.00", f"{h(85, 45):.2f} ± {spread:.2f}"]
    assert "H: harmonic mean of the two means" in out and "note:" not in out
    rows = rows_of(parse(capsys, folder, "--keyword", NAMES[1])[1])
    assert rows[NAMES[1]][1:3] == ["65.00 ± 5.00", "55.00 ± 5.00"] and NAMES[0] not in rows


def test_published_numbers():
    """CoOp and CLIP on 11 datasets, from the table of the CoCoOp paper."""
    from reporting.base2new import harmonic

    assert harmonic(82.69, 63.22) == pytest.approx(71.66, abs=0.005)
    assert harmonic(69.34, 74.22) == pytest.approx(71.70, abs=0.005)
    assert harmonic(0, 0) == 0


def test_a_task_without_new_classes(folder, capsys):
    for seed, (value, _) in NEW.items():
        data = result(value, (value, 0), seed=seed)
        write(folder / f"new/seed{seed}", results={**data, "tasks": data["tasks"][:1]})
    out = parse(capsys, folder)[1]
    rows = rows_of(out)
    assert rows[NAMES[1]] == ["overall_acc", "65.00 ± 5.00", "-", "-"]
    assert rows["mean over tasks"][1:3] == ["85.00 ± 5.00", "45.00 ± 5.00"]  # the first task only
    assert f"without new classes, so not in the overall values: {NAMES[1]}" in out


def test_a_missing_half(folder, capsys):
    write(folder / "new/seed2", results={"status": "running"})
    out = parse(capsys, folder)[1]
    assert rows_of(out)["mean over tasks"][1:] == ["75.00 ± 5.00", "50.00", f"{h(75, 50):.2f}"]
    assert "note: new: unfinished: seed2 (results.json says 'running')" in out
    assert "base and new do not have the same seeds" in out


def test_several_experiments_have_a_table_below(folder, tmp_path, capsys):
    for half, value in (("base", 60.0), ("new", 66.0)):
        write(tmp_path / f"zero/{half}/icon5", results=result(value, seed=1))
    status, out, _ = parse(capsys, tmp_path, "--multi-exp")
    assert status == 0
    rows = rows_of(out)
    assert rows["loss/base"][:2] == ["2", "75.00 ± 5.00"]
    assert rows["zero/icon5"] == ["60.00", "66.00", f"{h(60, 66):.2f}"]
    assert rows["loss"][:2] == ["75.00 ± 5.00", "50.00 ± 0.00"]
    pairs = parse_json(capsys, tmp_path, "--multi-exp")["base_to_new"]
    assert [pair["experiment"] for pair in pairs] == ["loss", "zero/icon5"]
    assert pairs[1]["overall"]["harmonic"] == {"mean": pytest.approx(h(60, 66)), "spread": None, "n": 1}
    status, _, err = parse(capsys, tmp_path)
    assert status == 2 and "base and new classes of 2 experiments (loss, zero/icon5): use --multi-exp" in err
    assert rows_of(parse(capsys, tmp_path / "zero")[1])["mean over tasks"][1:3] == ["60.00", "66.00"]


def test_runs_of_single_tasks(tmp_path, capsys):
    for task in (0, 1):
        for half, values in (("base", BASE), ("new", NEW)):
            for seed, found in values.items():
                row = {**result(0)["tasks"][task], **numbers(found[task])}
                data = {**result(found[task], seed=seed), "tasks": [row], "suite_tasks": ["k0", "k1"]}
                write(tmp_path / f"nctx16/task{task}/{half}/seed{seed}", results=data)
    rows = rows_of(parse(capsys, tmp_path / "nctx16")[1])
    assert rows["mean over tasks"][1:3] == ["75.00 ± 5.00", "50.00 ± 0.00"]
    assert rows["mean over tasks"][3].startswith(f"{h(75, 50):.2f} ± ")


def test_csv(folder, capsys):
    _, out, _ = parse(capsys, folder, "--csv")
    rows = [row for row in csv.DictReader(io.StringIO(out)) if row["experiment"] == "harmonic"]
    assert [row["task"] for row in rows] == [*NAMES, ""]
    assert float(rows[-1]["mean"]) == pytest.approx(h(75, 50))
