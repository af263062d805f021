"""Logs in the published format: only the final test result counts."""

import statistics

import pytest

from dassl.runs.results import read_run
from tests.reporting.written import EPOCH, NAMES, block, log, parse, parse_json, result, rows_of, write


def test_results_json_wins_over_a_log(tmp_path, capsys):
    write(tmp_path / "seed1", results=result(70.0), log=log(10.0))
    write(tmp_path / "seed2", results=result(70.0, status="running"), log=log(10.0))
    data = parse_json(capsys, tmp_path)["experiments"][0]
    assert data["overall"]["values"] == {"seed1": 70.0}
    assert list(data["unfinished"]) == ["seed2"]


def test_published_logs_count_only_the_final_test(tmp_path, capsys):
    for seed, value in ((1, 67.12), (2, 69.0), (3, 70.5)):
        write(tmp_path / f"seed{seed}", log=log(value, (value - 1, value + 1)))
    data = parse_json(capsys, tmp_path)["experiments"][0]
    assert data["overall"]["values"] == {"seed1": 67.12, "seed2": 69.0, "seed3": 70.5}
    assert [(task["id"], task["name"]) for task in data["tasks"]] == list(enumerate(NAMES))
    assert [task["images"] for task in data["tasks"]] == [1200, 1200]
    assert data["tasks"][1]["values"] == {"seed1": 68.12, "seed2": 70.0, "seed3": 71.5}
    assert data["overall"]["spread"] == pytest.approx(statistics.pstdev([67.12, 69.0, 70.5]))


def test_a_log_cut_off_anywhere_in_its_last_result(tmp_path):
    whole = log(67.12)
    last = whole.rindex("* average: 67.12%") + len("* average: 67.12%")
    overall = whole.rindex("* overall_metric: 67.12%") + len("* overall_metric: 67.12%")
    tasks = whole.rindex("=> per-task")
    for end in range(whole.index("Finished training"), len(whole)):
        run = read_run(write(tmp_path / "seed1", log=whole[:end]))
        # before the per-task part, the overall value counts, as in a log without per-task part
        assert run.finished == (end >= last or overall <= end < tasks + len("=> p")), whole[:end][-60:]
        if run.finished:
            assert run.numbers["overall_metric"] == 67.12
        else:
            assert "cut off" in run.problem or "no test result" in run.problem or "Finished" in run.problem


def test_killed_in_training_after_validations(tmp_path, capsys):
    write(tmp_path / "seed1", log=log(67.0).split("Finished training")[0])
    for option in ([], ["--test-log"]):
        status, _, err = parse(capsys, tmp_path, *option)
        assert status == 2
        assert 'log.txt: no "Finished training"' in err


def test_validation_results_never_count(tmp_path):
    tail = "Finished training\nEvaluate on the *val* set\n" + block(11.0) + block(12.0, title="validation result")
    folder = write(tmp_path / "seed1", log=EPOCH.format(1) + tail)
    assert not read_run(folder).finished
    tail += "Evaluate on the *test* set\n" + block(60.0) + block(13.0, title="validation result")
    write(folder, log=EPOCH.format(1) + tail)
    assert read_run(folder).numbers["overall_metric"] == 60.0


def test_the_newest_complete_log_counts(tmp_path):
    folder = write(tmp_path / "seed1", log=log(50.0))
    (folder / "log.txt-2024-01-09-10-00-00").write_text(log(60.0))
    (folder / "log.txt-2024-01-10-09-00-00").write_text(log(65.0))
    (folder / "log.txt-2024-02-01-00-00-00").write_text(log(70.0).split("Finished")[0])
    run = read_run(folder)
    assert run.numbers["overall_metric"] == 65.0
    assert run.source == "log.txt-2024-01-10-09-00-00"
    assert "newer but unfinished is log.txt-2024-02-01-00-00-00" in run.notes[0]


def test_a_run_that_went_on_in_the_same_log(tmp_path):
    killed = log(10.0).split("Finished training")[0]
    assert read_run(write(tmp_path / "seed1", log=killed + log(66.0))).numbers["overall_metric"] == 66.0
    # training continues after a finished test: the last test counts, later validations do not
    assert read_run(write(tmp_path / "seed2", log=log(66.0) + killed)).numbers["overall_metric"] == 66.0


def test_logs_of_evaluations(tmp_path, capsys):
    for seed, value in ((1, 40.0), (2, 42.0)):
        write(tmp_path / f"seed{seed}", log=f"Loading weights\n{block(value)}")
    status, _, err = parse(capsys, tmp_path)
    assert status == 2
    assert "--test-log" in err
    data = parse_json(capsys, tmp_path, "--test-log")
    assert data["experiments"][0]["overall"]["mean"] == 41.0


def test_single_task_logs(tmp_path, capsys):
    text = "Finish training\n=> result\n* total: 2,463\n* correct: 2,000\n"
    text += "* accuracy: {:.2f}%\n* error: 19.00%\n* macro_f1: 80.00%\n"
    for seed, value in ((1, 81.0), (2, 83.0), (3, 82.0)):
        write(tmp_path / f"seed{seed}", log=text.format(value))
    assert parse_json(capsys, tmp_path)["experiments"][0]["overall"]["mean"] == pytest.approx(82.0)
    assert parse_json(capsys, tmp_path, "--keyword", "accuracy")["experiments"][0]["overall"]["n"] == 3
    assert parse_json(capsys, tmp_path, "--keyword", "macro_f1")["experiments"][0]["overall"]["mean"] == 80.0


def test_json_results_and_logs_together(tmp_path, capsys):
    write(tmp_path / "seed1", results=result(70.0))
    write(tmp_path / "seed2", log=log(72.0))
    rows = rows_of(parse(capsys, tmp_path)[1])
    assert rows["mean over tasks"][-2:] == ["71.00 ± 1.00", "2"]
    assert rows["faces"][0] == "overall_acc"  # from the run with a results.json
    data = parse_json(capsys, tmp_path, "--keyword", "macro_f1")["experiments"][0]
    assert data["overall"]["n"] == 1  # the log does not contain it
