"""Numbers of papers compared with measured ones."""

import statistics

import pytest

from reporting import published, table
from tests.reporting.written import numbers, result, rows_of, write

UPT = {"ImageNet": 72.63, "EuroSAT": 90.51}  # from Table 2


def experiment(folder, values, seeds=(1, 2), keys=None, **settings):
    """A folder of runs: task i has values[i] + seed."""
    for seed in seeds:
        tasks = [value + seed for value in values]
        data = result(statistics.fmean(tasks), tasks[:2], **settings)
        for task, value, key in zip(data["tasks"], tasks, keys or ("a", "b"), strict=True):
            task.update(numbers(value), key=key)
        write(folder / f"seed{seed}", results=data)
    return folder


def show(capsys, *arguments):
    assert table.main([str(argument) for argument in arguments]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("name", published.SOURCES)
def test_shipped_tables_agree_with_themselves(name):
    """Printed averages are the averages of the other columns, up to 0.03."""
    rows = published.load(name).rows
    for methods in rows.values():
        for method, row in methods.items():
            others = [value.mean for column, value in row.items() if "average" not in column]
            assert all(0 < value.mean < 100 for value in row.values())
            if others:
                assert statistics.fmean(others) == pytest.approx(row["average"].mean, abs=0.04), method
            if name == "upt1":
                assert statistics.fmean(others[1:]) == pytest.approx(row["OOD average"].mean, abs=0.04), method
    assert len(rows) == {"softcpt": 4, "upt1": 1, "upt2": 1}[name]


def test_a_column_per_task_and_the_average_last(tmp_path, capsys):
    folder = experiment(tmp_path / "one", (50.0, 70.0))
    other = experiment(tmp_path / "two", (40.0, 60.0), seeds=(1,))
    out = show(capsys, "--per-task-columns", f"one={folder}", f"two={other}")
    rows = rows_of(out)
    assert rows["method"] == ["n", "a", "b", "average"]
    assert rows["one"] == ["2", "51.50 ± 0.50", "71.50 ± 0.50", "61.50 ± 0.50"]
    assert rows["two"] == ["1", "41.00", "61.00", "51.00"]
    wanted = show(capsys, "--per-task-columns", "--keyword", "mean_acc", f"one={folder}")
    assert rows_of(wanted)["one"][1] == "50.50 ± 0.50"  # written.py writes value - 1


def test_numbers_of_the_same_data_stand_below_and_beside(tmp_path, capsys):
    same = {"suite": "General11", "shots": 16, "backbone": "ViT-B/16", "subsample_tasks": "each by itself"}
    folder = experiment(tmp_path / "upt", (70.0, 90.0), keys=tuple(UPT), **same)
    out = show(capsys, "--per-task-columns", "--published", "upt2", f"UPT={folder}", f"MTUPT-soft={folder}")
    rows = rows_of(out)
    assert rows["… published"] == ["", *map(str, UPT.values()), ""]  # the published average is over eleven datasets
    assert rows["UPT"] == ["81.50 ± 0.50", "81.44", "+0.06"]  # the second table
    assert len(rows["MTUPT-soft"]) == 4 and "here: ViT-B/16, 16 images per class" in out


def test_a_dataset_of_several_columns_has_its_own(tmp_path, capsys):
    """ImageNet's own number in the table of its shifted sets, not their average."""
    data = result(71.0, suite="ImageNet", shots=16)
    data["tasks"] = [{**data["tasks"][0], **numbers(71.0), "key": "ImageNet"}]
    write(tmp_path / "seed1", results=data)
    rows = rows_of(show(capsys, "--published", "upt1", f"CoOp={tmp_path}"))
    assert rows["CoOp"] == ["71.00", "71.51", "-0.51"]


@pytest.mark.parametrize("option", [["--published", "upt2"], ["--per-task-columns"]])
def test_one_task_has_neither_average_nor_published_overall_value(tmp_path, capsys, option):
    folder = experiment(tmp_path / "joint", (40.0, 50.0))
    assert table.main([*option, "--keyword", "a", f"Joint={folder}"]) == 2
    assert "--keyword a: a metric is needed" in capsys.readouterr().err


def test_other_data_are_reported(tmp_path, capsys):
    folder = experiment(tmp_path / "joint", (40.0, 50.0), backbone="tiny")
    out = show(capsys, "--published", "upt2", f"Joint={folder}")
    assert rows_of(out)["Joint"] == ["46.50 ± 0.50", "78.70"]
    assert "Of other data than these" in out and "here: tiny, 4 images per class" in out and "difference" not in out
    part = experiment(tmp_path / "part", (40.0, 50.0), suite="General11", subsample_tasks="task1")
    assert "difference" not in show(capsys, "--published", "upt2", f"Joint={part}")


def test_softcpts_table_by_suite_and_shots(tmp_path, capsys):
    four = experiment(tmp_path / "four", (60.0, 70.0), suite="Plant6", backbone="RN50")
    zero = experiment(tmp_path / "zero", (50.0, 52.0), suite="Plant6", shots=-1, protocol="all")
    out = show(capsys, "--published", "softcpt", f"NATA={four}", f"ZeroshotCLIP={zero}", f"CATA={four}")
    rows = rows_of(out)
    assert rows["NATA"] == ["66.50 ± 0.50", "68.72 ± 1.53", "-2.22"]
    assert rows["ZeroshotCLIP"][1] == "50.96 ± 0.00" and len(rows["CATA"]) != 3
    three = experiment(tmp_path / "three", (60.0, 70.0), suite="Plant6", shots=3)
    assert "it has no number for any of these" in show(capsys, "--published", "softcpt", f"NATA={three}")
    scenes = experiment(tmp_path / "scenes", (60.0, 70.0), suite="RS8")  # with datasets that the paper does not publish
    assert len(rows_of(show(capsys, "--published", "softcpt", f"NATA={scenes}"))["NATA"]) == 2
    icon = experiment(tmp_path / "icon", (60.0, 70.0))
    assert "it has no number for any of these" in show(capsys, "--published", "softcpt", f"NATA={icon}")
