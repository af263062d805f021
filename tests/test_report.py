"""report.py: the table of all runs as files."""

import importlib.util

import pandas as pd
import pytest

import report
from reporting.frame import COLUMNS, read_frame
from tests.reporting.written import result, write


@pytest.fixture
def output(tmp_path):
    for seed in (1, 2):
        write(tmp_path / f"output/exp/seed{seed}", results=result(70.0 + seed, seed=seed, method='a "b", c'))
    (tmp_path / "output/exp/seed3").mkdir()
    return tmp_path / "output"


def test_csv(output, tmp_path, capsys):
    file = tmp_path / "runs.csv"
    assert report.main([str(output), "--csv", str(file)]) == 0
    assert capsys.readouterr().out == f"{file}: 25 rows of 3 runs\n"
    found, frame = pd.read_csv(file, keep_default_na=False), read_frame([output])
    assert list(found.columns) == list(COLUMNS) and set(found.method) == {'a "b", c', ""}
    assert pd.to_numeric(found.value).equals(frame.value)  # every digit
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".tmp"]


def test_parquet_keeps_types(output, tmp_path, capsys):
    pytest.importorskip("pyarrow")
    file = tmp_path / "runs.parquet"
    assert report.main([str(output), "--parquet", str(file)]) == 0
    found = pd.read_parquet(file)
    assert found.seed.dtype == "Int64" and found.task_id.dtype == "Int64"
    expected = read_frame([output])
    assert list(found.pop("metric").dropna()) == list(expected.pop("metric").dropna())
    pd.testing.assert_frame_equal(found, expected)


def test_mistakes_are_one_error(output, tmp_path, capsys, monkeypatch):
    for words, text in (
        ([str(output), "--csv", str(tmp_path / "no/runs.csv")], f"there is no folder {tmp_path}/no; create it"),
        ([str(tmp_path / "nowhere"), "--csv", str(tmp_path / "a.csv")], "no such folder"),
    ):
        assert report.main(words) == 2
        assert text in capsys.readouterr().err
    for words, text in (([str(output)], "nothing to write"), (["--csv", "a.csv"], "expected at least one folder")):
        with pytest.raises(SystemExit):
            report.main(words)
        assert text in capsys.readouterr().err
    there = importlib.util.find_spec
    monkeypatch.setattr(report, "find_spec", lambda name: None if name == "pyarrow" else there(name))
    assert report.main([str(output), "--parquet", str(tmp_path / "a.parquet")]) == 2
    assert "pip install pyarrow" in capsys.readouterr().err
    assert not (tmp_path / "a.parquet").exists()


def test_page(output, tmp_path, capsys):
    page = tmp_path / "report/index.html"
    words = [str(output), "-o", str(page.parent), "--metric", "accuracy", "--title", "Mine"]
    assert report.main(words) == 0
    assert capsys.readouterr().out == f"{page}\n"
    assert "<h1>Mine</h1>" in page.read_text(encoding="utf-8")
    assert report.main([*words, "--baseline", "nobody"]) == 2
    assert "--baseline nobody is not a row of these runs" in capsys.readouterr().err
