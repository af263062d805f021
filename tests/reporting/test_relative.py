import numpy as np
import pytest

import parse_test_res
from tests.reporting.written import parse, parse_json, result, rows_of, write

VALUES = {"a": (60.0, 66.0, 72.0), "b": (80.0, 80.0, 83.0)}


@pytest.fixture
def folder(tmp_path):
    """Two experiments with three seeds; the tasks' values are 10 below and 10 above the overall values."""
    for name, values in VALUES.items():
        for seed, value in enumerate(values, 1):
            write(tmp_path / f"all/{name}/seed{seed}", results=result(value, (value - 10, value + 10), seed=seed))
    write(tmp_path / "all/single/seed1", results=result(50.0, (40.0, 60.0), seed=1))
    return tmp_path / "all"


def ratio(values):
    return 100 * np.std(values) / np.mean(values)


def test_relative_standard_deviations(folder, capsys):
    status, out, _ = parse(capsys, folder, "--multi-exp", "--relative-std")
    assert status == 0
    rows = rows_of(out.split("relative standard deviation")[1])
    assert rows["experiment"] == ["n", "overall", "of a task"]
    data = parse_json(capsys, folder, "--multi-exp", "--relative-std")["relative_std"]
    for name, values in VALUES.items():
        values = np.array(values)
        tasks = [ratio(values - 10), ratio(values + 10)]
        assert rows[name] == ["3", f"{ratio(values):.2f}", f"{np.mean(tasks):.2f}"]
        assert data[name]["overall"] == pytest.approx(ratio(values))
        assert data[name]["of_a_task"] == pytest.approx(np.mean(tasks))
        assert list(data[name]["tasks"].values()) == pytest.approx(tasks)
    assert rows["single"] == ["1", "-", "-"] and data["single"]["overall"] is None


def test_only_on_request_and_not_in_csv(folder, capsys):
    assert "relative" not in parse(capsys, folder, "--multi-exp")[1]
    assert "relative_std" not in parse_json(capsys, folder, "--multi-exp")
    with pytest.raises(SystemExit) as stop:
        parse_test_res.main([str(folder), "--multi-exp", "--relative-std", "--csv"])
    assert stop.value.code == 2 and "spread over the column mean" in capsys.readouterr().err
