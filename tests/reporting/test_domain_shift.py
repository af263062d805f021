"""Tables of models tested on other datasets."""

import csv
import io
import json

import numpy as np
import pytest

from reporting import domain_shift
from tests.reporting.written import numbers, rows_of, write

NAMES = ["v2", "sketch"]
VALUES = {"source": {1: 80.0, 2: 84.0}, "v2": {1: 60.0, 2: 70.0}, "sketch": {1: 40.0, 2: 41.0}}


def result(value, suite, **more):
    return {"status": "complete", "suite": suite, "tasks": [], "mean": numbers(value), **more}


@pytest.fixture
def folder(tmp_path):
    for name, values in VALUES.items():
        for seed, value in values.items():
            place = "" if name == "source" else f"xd/{name}/"
            write(tmp_path / f"CoOp/{place}seed{seed}", results=result(value, name.title(), seed=seed))
    return tmp_path / "CoOp"


def table(capsys, *arguments):
    """(exit code, output, errors)"""
    status = domain_shift.main([str(argument) for argument in arguments])
    return (status, *capsys.readouterr())


def test_source_targets_and_averages(folder, capsys):
    status, out, _ = table(capsys, f"CoOp={folder}", "--targets", *NAMES, "--seeds", 1, 2)
    assert status == 0 and "note" not in out
    every, targets = np.array([[80, 60, 40], [84, 70, 41]]), np.array([[60, 40], [70, 41]])
    wanted = ["82.00 ± 2.00", "65.00 ± 5.00", "40.50 ± 0.50"]
    for values in (every, targets):
        wanted.append(f"{values.mean():.2f} ± {values.mean(1).std():.2f}")
    assert rows_of(out) == {"method": ["Source", "V2", "Sketch", "average", "OOD average"], "CoOp": wanted} | {
        key: value for key, value in rows_of(out).items() if key.startswith("-")
    }


def test_transfer_has_the_average_of_the_targets_alone(folder, capsys):
    rows = rows_of(table(capsys, "--cross", f"CoOp={folder}")[1])
    assert rows["method"] == ["Source", "Sketch", "V2", "average of targets"]  # sorted by name without --targets
    assert rows["CoOp"][-1].startswith("52.75")


def test_published_averages(tmp_path):
    """Averages of CoOp and UPT in Table 1 of the UPT paper: ImageNet, V2, Sketch, A, R; average, OOD average."""
    published = {"CoOp": (71.51, 64.20, 47.99, 49.71, 75.21, 61.72, 59.28)}
    published["UPT"] = (72.63, 64.35, 48.66, 50.66, 76.24, 62.51, 59.98)
    names = ("", "xd/v2", "xd/sketch", "xd/a", "xd/r")
    for method, values in published.items():
        for name, value in zip(names, values[:5], strict=True):
            write(tmp_path / method / name / "seed1", results=result(value, ""))
    rows = domain_shift.load_rows([f"{method}={tmp_path / method}" for method in published], ["v2", "sketch", "a", "r"])
    for row, values in zip(rows, published.values(), strict=True):
        found = row.stats(domain_shift.Choice(), cross=False).mean
        assert list(found) == pytest.approx(values, abs=0.0051)


def test_missing_tests_are_listed_and_have_no_average(folder, capsys):
    (folder / "xd/v2/seed2/results.json").unlink()
    (folder / "xd/v2/seed2").rmdir()
    write(folder / "xd/sketch/seed2", results={"status": "failed", "error": "ValueError: no such image"})
    status, out, _ = table(capsys, f"CoOp={folder}", "--targets", *NAMES, "a", "--seeds", 1, 2)
    assert status == 0
    assert "missing: v2, seed2" in out and "missing: every test on a" in out
    assert "sketch: unfinished: seed2" in out and "no such image" in out
    assert rows_of(out)["CoOp"] == ["82.00 ± 2.00", "60.00", "40.00", "-", "-", "-"]
    rows = rows_of(table(capsys, f"CoOp={folder}", "--targets", *NAMES, "--seeds", 1, 2)[1])
    # mean of the columns' means; only one seed has all columns, so there is no spread
    assert rows["CoOp"][-2:] == [f"{(82 + 60 + 40) / 3:.2f}", "50.00"]


def test_zero_shot_runs_are_sibling_folders(folder, tmp_path, capsys):
    for name, value in (("source", 50.0), ("v2", 44.0), ("sketch", 30.0)):
        write(tmp_path / f"ZeroshotCLIP/tiny/{name}", results=result(value, name.title()))
    status, out, _ = table(capsys, f"zero-shot={tmp_path}/ZeroshotCLIP/tiny/source", f"CoOp={folder}", "--seeds", 1, 2)
    assert status == 0 and "note" not in out
    assert rows_of(out)["zero-shot"] == ["50.00", "30.00", "44.00", "41.33", "37.00"]


def test_json_and_csv_are_unrounded(folder, capsys):
    status, out, _ = table(capsys, f"CoOp={folder}", "--json", "--keyword", "mean_acc")
    (row,) = json.loads(out)["rows"]
    assert status == 0 and row["columns"]["V2"] == {"mean": 64.0, "spread": 5.0, "n": 2}  # written.py writes value - 1
    assert row["columns"]["OOD average"]["mean"] == pytest.approx((59 + 69 + 39 + 40) / 4)
    (row,) = csv.DictReader(io.StringIO(table(capsys, f"CoOp={folder}", "--csv")[1]))
    assert float(row["average"]) == pytest.approx((82 + 65 + 40.5) / 3)
    assert float(row["average spread"]) == pytest.approx(np.std([60, 65]))


@pytest.mark.parametrize(
    "arguments, text",
    [
        (["CoOp"], 'expected LABEL=FOLDER, e.g. CoOp=output/..., found "CoOp"'),
        (["CoOp={folder}/xd/v2"], "no tests on other datasets in"),
        (["CoOp={folder}/none", "--targets", "v2"], "no such folder"),
        (["CoOp={folder}", "--keyword", "speed"], "--keyword speed: expected one of"),
        (["CoOp={folder}", "other={other}"], "the rows have different sources: Else, Source"),
    ],
)
def test_mistakes_are_one_message(folder, tmp_path, capsys, arguments, text):
    write(tmp_path / "other/seed1", results=result(50.0, "Else"))
    places = {"folder": folder, "other": tmp_path / "other"}
    status, out, errors = table(capsys, *(argument.format(**places) for argument in arguments))
    assert status == 2 and text in errors and not out
