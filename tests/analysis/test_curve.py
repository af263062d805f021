"""Curves of training, from the training lines of logs."""

import csv

import pytest

from analysis import curve
from dassl.runs.logs import training_epochs

LOG = """\
SoftCPT-NATA on Icon5, seed 1
epoch [1/3][10/12]\ttime 0.1 (0.2)\tdata 0.1 (0.1)\teta 0:00:01\tloss 3.0000 (3.5000) acc 10.0 (12.5)\tlr 1.000e-05
Evaluating on the val split
=> validation result
* total: 1,106
* overall_metric: 40.50%
* mean_acc: 39.00%
epoch [2/3][5/12]\ttime 0.1 (0.2)\tdata 0.1 (0.1)\teta 0:00:01\tloss 2.9000 (2.9500) acc 20.0 (22.5)\tlr 2.000e-03
epoch [2/3][10/12]\ttime 0.1 (0.2)\tdata 0.1 (0.1)\teta 0:00:01\tloss 2.0000 (2.5000) acc 20.0 (32.5)\tlr 2.000e-03
Resumed after epoch 1
epoch [2/3][10/12]\ttime 0.1 (0.2)\tdata 0.1 (0.1)\teta 0:00:01\tloss 2.0000 (2.2500) acc 20.0 (35.0)\tlr 2.000e-03
epoch [3/3][10/12]\ttime 0.1 (0.2)\tdata 0.1 (0.1)\teta 0:00:01\tloss 1.0000 (nan) acc 50.0 (45.0)\tlr 1.000e-03
Finished training
=> result
* overall_metric: 44.00%
"""


def run(folder, log=LOG):
    folder.mkdir(parents=True)
    (folder / "log.txt").write_text(log)
    return str(folder)


def test_each_epoch_is_its_last_line_and_has_its_validation():
    epochs = training_epochs(LOG.splitlines())
    assert [epoch["epoch"] for epoch in epochs] == [1, 2, 3]
    assert epochs[0]["loss"] == 3.5 and epochs[0]["validation"] == 40.5 and epochs[0]["lr"] == 1e-5
    assert epochs[1]["loss"] == 2.25 and epochs[1]["acc"] == 35.0  # as the resumed run has it
    assert epochs[2]["loss"] != epochs[2]["loss"] and "validation" not in epochs[2]
    coop = "epoch [1/50] batch [5/8]\ttime 0.5 (0.6)\tloss 1.2 (1.5)\tacc 5.0 (6.0)\tlr 1e-03"
    assert training_epochs([coop]) == [{"epoch": 1, "time": 0.6, "loss": 1.5, "acc": 6.0, "lr": 1e-3}]


def test_runs_and_experiments_are_drawn_together(tmp_path, capsys):
    for seed in (1, 2):
        run(tmp_path / f"mine/seed{seed}")
    single = run(tmp_path / "single")
    assert curve.main([str(tmp_path / "mine"), "--out", str(tmp_path / "figure"), single]) == 0
    with open(tmp_path / "figure.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(dict.fromkeys(row["run"] for row in rows)) == ["seed1", "seed2", "single"] and len(rows) == 9
    assert rows[0]["loss"] == "3.5" and rows[0]["validation_percent"] == "40.5" and not rows[1]["validation_percent"]
    assert (tmp_path / "figure.png").stat().st_size and (tmp_path / "figure.pdf").stat().st_size
    assert "single: epoch 3, loss nan, training accuracy 45.0 %" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: None, "no such folder"),
        (lambda folder: folder.mkdir(), "no runs in"),
        (lambda folder: run(folder, "=> result\n* overall_metric: 44.00%\n"), "no training line in a log.txt"),
    ],
)
def test_folders_without_a_curve_are_one_error(make, message, tmp_path, capsys):
    make(tmp_path / "folder")
    assert curve.main([str(tmp_path / "folder")]) == 2
    found = capsys.readouterr()
    assert message in found.err and not found.out
