"""parse_test_res.py on folders written here: results.json, published logs, killed and repeated runs."""

import csv
import io
import json
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import parse_test_res
from reporting import table
from reporting.experiments import missing_seeds
from reporting.runs import read_run

NAMES = ("faces", "food (raw)")


def numbers(value):
    return {"value": value, "overall_acc": value, "mean_acc": value - 1, "macro_f1": value - 2}


def result(value, tasks=(60.0, 80.0), **more):
    """A results.json of two tasks."""
    entry = {"images": 1200, "metric": "overall_acc"}
    rows = [
        {"id": i, "key": f"k{i}", "name": name, **entry, **numbers(x)}
        for i, (name, x) in enumerate(zip(NAMES, tasks, strict=True))
    ]
    settings = {"trainer": "MTCoOp", "suite": "Icon5", "shots": 4, "epochs": 20}
    return {"format": 1, "status": "complete", **settings, "tasks": rows, "mean": numbers(value), **more}


def block(value, tasks=(60.0, 80.0), title="result"):
    """A printed result as the published code prints it."""
    lines = [f"=> {title}", "* total: 2,400", f"* overall_metric: {value:.2f}%", "=> per-task result"]
    for i, (name, x) in enumerate(zip(NAMES, tasks, strict=True)):
        lines.append(f"* task: {i} ({name})\ttotal: 1,200\tmetric: {x:.2f}%")
    return "\n".join([*lines, f"* average: {value:.2f}%", ""])


EPOCH = (
    "epoch [{}/3][5/5]\ttime 0.123 (0.130)\tdata 0.001 (0.002)\teta 0:01:02\t"
    "loss 1.23 (1.34) map 61.2 (60.1)\tlr 1.990e-03\n"
)


def log(value, tasks=(60.0, 80.0)):
    """A whole log: a validation in each epoch, training ends, test."""
    epochs = "".join(EPOCH.format(n) + "Evaluate on the *val* set\n" + block(n, (n, n)) for n in (1, 2, 3))
    return (
        f"** Config **\n{epochs}Finished training\nEvaluate on the *test* set\n{block(value, tasks)}Elapsed: 0:01:02\n"
    )


def write(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        name = {"results": "results.json", "log": "log.txt"}[name]
        (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def parse(capsys, *arguments):
    """(exit status, output, errors)"""
    status = parse_test_res.main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def parse_json(capsys, *arguments):
    status, out, _ = parse(capsys, *arguments, "--json")
    assert status == 0
    return json.loads(out)


def rows_of(out):
    """Cells of the printed table by first column."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in out.splitlines() if line.startswith("|")]
    return {cells[0]: cells[1:] for cells in lines}


@pytest.fixture
def three(tmp_path):
    for seed, value in ((1, 70.0), (2, 71.0), (3, 75.0)):
        write(tmp_path / f"exp/seed{seed}", results=result(value, (value - 10, value + 10), seed=seed))
    return tmp_path / "exp"


def test_mean_and_std_over_seeds(three, capsys):
    status, out, _ = parse(capsys, three)
    assert status == 0
    rows = rows_of(out)
    mean, std = np.mean([70, 71, 75]), np.std([70, 71, 75])
    assert rows["task"] == ["metric", "images", "seed1", "seed2", "seed3", "mean", "n"]
    assert rows["overall"] == ["overall_metric", "", "70.00", "71.00", "75.00", f"{mean:.2f} ± {std:.2f}", "3"]
    assert rows["faces"] == ["overall_acc", "1,200", "60.00", "61.00", "65.00", f"{mean - 10:.2f} ± {std:.2f}", "3"]
    assert "population: ddof = 0" in out
    assert "note:" not in out


def test_confidence_interval(three, capsys):
    data = parse_json(capsys, three, "--ci95")
    assert data["experiments"][0]["overall"]["spread"] == pytest.approx(1.96 * np.std([70, 71, 75]) / np.sqrt(3))
    assert data["spread"] == "ci95"
    assert "95 % interval" in parse(capsys, three, "--ci95")[1]


def test_missing_and_unfinished_seeds_are_named(three, capsys):
    write(three / "seed2", results=result(0, status="running"))
    write(three / "seed5", results={"status": "failed", "error": "ValueError: loss is nan"})
    (three / "seed6").mkdir()
    write(three / "seed7", results='{"status": "compl')
    status, out, _ = parse(capsys, three)
    assert status == 0
    assert rows_of(out)["overall"][-2:] == [f"72.50 ± {np.std([70, 75]):.2f}", "2"]
    assert "missing: seed 4" in out
    assert "unfinished: seed2 (results.json says 'running')" in out
    assert "unfinished: seed5 (results.json says 'failed': ValueError: loss is nan)" in out
    assert "unfinished: seed6 (neither results.json nor log.txt)" in out
    assert "unfinished: seed7 (results.json cannot be read" in out
    assert "missing: seed 9" in parse(capsys, three, "--seeds", "1", "9")[1]


def test_which_seeds_are_missed():
    assert missing_seeds([1, 2, 3]) == []
    assert missing_seeds([2]) == [1, 3]
    assert missing_seeds([1, 2, 5]) == [3, 4]
    assert missing_seeds([0, 1]) == []  # chosen freely
    assert missing_seeds([42]) == []


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
        # before the per-task part begins the overall value stands, as in a log without such a part
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
    # trained further after a finished test: what was tested last still stands, later validations do not count
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
    assert "faces" not in parse(capsys, three, "--keyword", "task1")[1]
    status, _, err = parse(capsys, three, "--keyword", "fotos")
    assert status == 2
    assert "macro_f1" in err
    assert "0 (faces), 1 (food (raw))" in err


def test_json_results_and_logs_together(tmp_path, capsys):
    write(tmp_path / "seed1", results=result(70.0))
    write(tmp_path / "seed2", log=log(72.0))
    rows = rows_of(parse(capsys, tmp_path)[1])
    assert rows["overall"][-2:] == ["71.00 ± 1.00", "2"]
    assert rows["faces"][0] == "overall_acc"  # known from the one that tells
    data = parse_json(capsys, tmp_path, "--keyword", "macro_f1")["experiments"][0]
    assert data["overall"]["n"] == 1  # the log does not have it


def test_several_experiments(three, tmp_path, capsys):
    for seed in (1, 2):
        write(tmp_path / f"deep/er/seed{seed}", results=result(80.0, (70.0, 90.0)))
    write(tmp_path / "zero", results=result(30.0, (20.0, 40.0)))
    write(tmp_path / "none/seed1", log="")
    status, out, _ = parse(capsys, tmp_path, "--multi-exp")
    assert status == 0
    rows = rows_of(out)
    assert rows["experiment"] == ["n", "overall", *NAMES]
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
    assert "note: deep/er: missing: seed 3" in out
    assert parse_json(capsys, tmp_path, "--multi-exp")["average"] == pytest.approx((72 + 80 + 30) / 3)


def test_experiments_with_other_tasks_are_not_set_side_by_side(tmp_path, capsys):
    write(tmp_path / "a/seed1", results=result(70.0))
    write(tmp_path / "b/seed1", results={**result(60.0), "tasks": result(60.0)["tasks"][:1]})
    out = parse(capsys, tmp_path, "--multi-exp")[1]
    assert rows_of(out)["experiment"] == ["n", "overall"]
    assert "the experiments do not have the same tasks" in out


def test_a_single_run_has_no_spread(tmp_path, capsys):
    write(tmp_path / "zero", results=result(30.0))
    out = parse(capsys, tmp_path / "zero")[1]
    assert rows_of(out)["overall"][-2:] == ["30.00", "1"]
    assert "note:" not in out


def test_runs_with_other_names_are_seeds_only_if_they_fit_together(tmp_path, capsys):
    write(tmp_path / "good/a", results=result(30.0, seed=1))
    write(tmp_path / "good/b", results=result(40.0, seed=2))
    assert parse_json(capsys, tmp_path / "good")["experiments"][0]["overall"]["mean"] == 35.0
    write(tmp_path / "bad/plant6-0", results=result(30.0, seed=1, subsample_tasks="task0"))
    write(tmp_path / "bad/plant6-1", results=result(40.0, seed=1, subsample_tasks="task1"))
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


def test_errors_say_what_was_looked_for(three, tmp_path, capsys):
    assert parse(capsys, tmp_path / "nowhere")[::2] == (2, f"no such folder: {tmp_path / 'nowhere'}\n")
    (tmp_path / "empty").mkdir()
    status, _, err = parse(capsys, tmp_path / "empty")
    assert status == 2
    assert "looked for seed1, seed2, ... and for results.json or log.txt" in err
    status, _, err = parse(capsys, tmp_path)
    assert status == 2
    assert f"such as {three}: use --multi-exp" in err
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


def test_tables_fit_the_width(tmp_path, capsys):
    names = [f"a rather long task name number {number}" for number in range(13)]
    folders = []
    for method in range(4):
        data = result(50.0)
        data["tasks"] = [{**data["tasks"][0], "id": i, "name": name} for i, name in enumerate(names)]
        folders.append(write(tmp_path / f"{'x' * 90}{method}/seed1", results=data).parent)
    status = table.main(["--title", "Title", *(f"method {i}={folder}" for i, folder in enumerate(folders))])
    out = capsys.readouterr().out
    assert status == 0
    assert rows_of(out)["task"] == ["method 0", "method 1", "method 2", "method 3"]  # tasks became rows
    assert set(names) <= set(rows_of(out))
    lines = [line for line in out.splitlines() if line.startswith("|")]
    assert max(map(len, lines)) <= table.WIDTH
    out = parse(capsys, tmp_path, "--multi-exp")[1]  # long paths move below the table
    lines = [line for line in out.splitlines() if line.startswith("|")]
    assert max(map(len, lines)) <= table.WIDTH
    assert f"   4  {'x' * 90}3" in out
    assert table.main([str(folders[0])]) == 2
    assert "expected LABEL=FOLDER" in capsys.readouterr().err


def test_as_a_program_from_anywhere_without_torch(three, tmp_path):
    program = Path(parse_test_res.__file__)
    code = """
import runpy, sys
sys.modules["torch"] = None  # importing it would fail
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
    environment = {"PYTHONPATH": str(program.parent), "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-c", code, str(program), str(three)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "72.00 ? " in done.stdout  # a terminal without the sign is no reason to fail
