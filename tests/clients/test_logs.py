"""Logs are read in both directions: ours by parsers of other programs, and theirs by ours."""

import re

import pytest
import torch

from dassl.data.tasks import Task, TaskSpace
from dassl.evaluation import Classification, ClassificationMT
from dassl.runs.results import read_run
from tests.dassl import toy
from tests.reporting.written import NAMES, log, parse_json, write


def published_log(value, tasks):
    """A log of the published SoftCPT code: the tasks follow without a heading of their own."""
    return log(value, tasks).replace("=> per-task result\n", "").replace(f"* average: {value:.2f}%\n", "")


def test_per_task_rows_of_published_logs(tmp_path, capsys):
    for seed, value in ((1, 67.0), (2, 69.0)):
        write(tmp_path / f"seed{seed}", log=published_log(value, (value - 1, value + 1)))
    data = parse_json(capsys, tmp_path)["experiments"][0]
    assert data["overall"]["values"] == {"seed1": 67.0, "seed2": 69.0}
    assert [(task["id"], task["name"]) for task in data["tasks"]] == list(enumerate(NAMES))
    assert data["tasks"][1]["values"] == {"seed1": 68.0, "seed2": 70.0}


@pytest.mark.parametrize("last", ["* task: 1 (food (raw))\ttotal: 1,200\tmetric: 80.00%", "* overall_metric: 67.00%"])
def test_an_order_of_lines_does_not_matter(tmp_path, last):
    lines = ["Finished training", "=> result", "* total: 2,400", "* task: 0 (faces)\ttotal: 1,200\tmetric: 60.00%"]
    both = {"* overall_metric: 67.00%", "* task: 1 (food (raw))\ttotal: 1,200\tmetric: 80.00%"}
    lines += [*(both - {last}), last]
    run = read_run(write(tmp_path / "seed1", log="\n".join(lines)))
    assert run.finished and run.numbers["overall_metric"] == 67.0
    assert [(task.id, task.numbers["overall_metric"]) for task in run.tasks] == [(0, 60.0), (1, 80.0)]


def coops_parser(text, end, pattern):
    """Values of a line after the line `end`, as parsers of CoOp's family find them."""
    found, ready = [], False
    for line in text.splitlines():
        ready = ready or line.strip() == end
        if ready and (match := re.compile(pattern).search(line.strip())):
            found.append(match.groups())
    return found


@pytest.fixture
def two_tasks(tmp_path, capsys):
    """Printed text of a test of two tasks."""
    space = TaskSpace((Task("a", "kinds (of) things", ("x", "y")), Task("b", "colours", ("u", "v", "w"), id=1)))
    evaluator = ClassificationMT(toy.config(tmp_path, tmp_path), space=space)
    evaluator.process(torch.eye(5), torch.tensor([0, 1, 0, 1, 1]), torch.tensor([0, 0, 1, 1, 1]))
    evaluator.evaluate()
    return capsys.readouterr().out


def test_their_parsers_read_the_rows_of_our_tasks(two_tasks):
    text = "Finished training\n" + two_tasks
    number = r"([\d.]+)%"
    assert coops_parser(text, "Finished training", rf"^\* overall_metric: {number}") == [("83.33",)]
    rows = coops_parser(text, "Finished training", rf"^\* task: (\d+) \((.*)\)\s+total: ([\d,]+)\s+metric: {number}")
    assert rows == [("0", "kinds (of) things", "2", "100.00"), ("1", "colours", "3", "66.67")]


def test_coops_parser_reads_a_test_of_one_task(tmp_path, capsys):
    evaluator = Classification(toy.config(tmp_path, tmp_path), {0: "x", 1: "y"})
    evaluator.process(torch.eye(2)[[0, 1, 1]], torch.tensor([0, 1, 0]))
    evaluator.evaluate()
    text = "Finish training\n" + capsys.readouterr().out
    assert coops_parser(text, "Finish training", r"\* accuracy: ([\.\deE+-]+)%") == [("66.67",)]
