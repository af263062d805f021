"""Whatever the files of a run contain: one line for the user, and the other runs stay readable."""

import json
import os

import pytest

from dassl.runs import record
from dassl.runs.open import read_space
from dassl.runs.record import error_of
from dassl.runs.results import last_epoch, read_run
from dassl.utils import read_json, write_json
from dassl.utils.errors import UserError
from sweeps.calls import COMPLETE, NONE, UNFINISHED, state
from tests.reporting.written import log, parse, result, write

DEEP = "[" * 100_000
TASK = result(1.0)["tasks"][0]
RESULTS = {
    "list": "[1]",
    "number": "5",
    "text": '"complete"',
    "empty": "",
    "cut": json.dumps(result(70.0))[:300],
    "deep": DEEP,
    "deep value": json.dumps(result(70.0))[:-1] + f', "x": {DEEP}',
    "not UTF-8": b'{"status": "\xff"}',
    "UTF-16": json.dumps(result(70.0)).encode("utf-16"),
    "binary": bytes(range(256)),
    "huge integer": json.dumps(result(70.0))[:-1] + f', "seed": {"9" * 5000}}}',
    "long seed": json.dumps(result(70.0, seed=10**400)),
    "seed": json.dumps(result(70.0, seed=[1])),
    "status": json.dumps(result(70.0, status=["complete"])),
    "blank error": json.dumps({"status": "failed", "error": " \n "}),
    "error": json.dumps({"status": "failed", "error": {"a": 1}}),
    "mean": json.dumps(result(70.0, mean=3)),
    "no value": json.dumps(result(70.0, mean={})),
    "mean text": json.dumps(result(70.0, mean={"value": "70"})),
    "mean bool": json.dumps(result(70.0, mean={"value": True})),
    "mean list": json.dumps(result(70.0, mean={"value": [70]})),
    "mean huge": json.dumps(result(70.0, mean={"value": 10**400})),
    "tasks": json.dumps(result(70.0))[:-1] + ', "tasks": {"a": 1}}',
    "task": json.dumps(result(70.0))[:-1] + ', "tasks": [1]}',
    "task id": json.dumps({**result(70.0), "tasks": [{**TASK, "id": "0"}]}),
    "task id list": json.dumps({**result(70.0), "tasks": [{**TASK, "id": [0]}]}),
    "task images": json.dumps({**result(70.0), "tasks": [{**TASK, "images": "x"}]}),
    "task value": json.dumps({**result(70.0), "tasks": [{**TASK, "value": {}}]}),
}


def as_bytes(content):
    return content if isinstance(content, bytes) else content.encode()


@pytest.mark.parametrize("name", RESULTS)
def test_one_damaged_result_does_not_take_the_table_away(tmp_path, capsys, name):
    write(tmp_path / "seed1", results=result(70.0))
    (write(tmp_path / "seed2") / "results.json").write_bytes(as_bytes(RESULTS[name]))
    for more in ((), ("--json",), ("--csv",), ("--multi-exp",)):
        status, out, err = parse(capsys, tmp_path, *more)
        assert status == 0 and "70" in out and "Traceback" not in err
    assert "unfinished: seed2 (results.json " in parse(capsys, tmp_path)[1]
    folder = tmp_path / "seed2"
    assert state(folder, []) in (NONE, UNFINISHED, COMPLETE) and len(error_of(folder).splitlines()) <= 1
    try:
        assert last_epoch(folder) >= 0
    except ValueError as error:
        assert len(str(error).splitlines()) == 1


ODD = {
    "settings": {"trainer": {"a": 1}, "suite": [1], "shots": [2]},
    "hashes": {"hashes": 5, "command": 7, "models": 3, "suite_tasks": "abc"},
    "costs": {"seconds": [1], "learnable_parameters": True, "peak_memory_bytes": "x"},
}


@pytest.mark.parametrize("name", ODD)
def test_odd_entries_beside_the_numbers_are_left_out(tmp_path, capsys, name):
    write(tmp_path / "seed1", results=result(70.0))
    folder = write(tmp_path / "seed2", results=result(60.0, **ODD[name]))
    status, out, _ = parse(capsys, tmp_path)
    assert status == 0 and "65.00" in out
    assert record.hash_of(folder, "split") is None and record.command_of(folder) == []
    run = read_run(folder)
    assert run.costs == {} and run.suite_tasks == ()


def test_numbers_that_json_does_not_know_count_as_no_value(tmp_path, capsys):
    write(tmp_path / "seed1", results=result(70.0))
    text = json.dumps(result(60.0)).replace("59.0", "NaN").replace("58.0", "1e999")
    write(tmp_path / "seed2", results=text)
    status, out, _ = parse(capsys, tmp_path)
    assert status == 0 and "65.00" in out and "seed2: results.json contains NaN, which counts as no value" in out
    status, out, _ = parse(capsys, tmp_path, "--json")
    assert json.loads(out, parse_constant=pytest.fail)
    with pytest.raises(UserError, match="NaN is not a number that JSON knows"):
        read_json(tmp_path / "seed2/results.json")
    write_json({"a": [float("nan"), (float("inf"), 1.5)]}, tmp_path / "a.json")
    assert read_json(tmp_path / "a.json") == {"a": [None, [None, 1.5]]}


KINDS = ["folder", "pipe", "loop", "nothing"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["results.json", "log.txt"])
def test_other_things_in_place_of_a_file(tmp_path, capsys, name, kind):
    write(tmp_path / "seed1", results=result(70.0))
    path = write(tmp_path / "seed2") / name
    {
        "folder": path.mkdir,
        "pipe": lambda: os.mkfifo(path),
        "loop": lambda: path.symlink_to(path),
        "nothing": lambda: path.symlink_to("/nowhere"),
    }[kind]()
    status, out, _ = parse(capsys, tmp_path)
    assert status == 0 and "70.00" in out and "unfinished: seed2 (" in out


LOGS = {
    "one line": "x" * 10**6,
    "huge number": f"Finished training\n=> result\n* total: {'9' * 5000}\n* overall_metric: 1%\n",
    "infinite": f"Finished training\n=> result\n* overall_metric: {'9' * 400}%\n",
    "binary": bytes(range(256)) * 100,
}


@pytest.mark.parametrize("name", LOGS)
def test_odd_logs(tmp_path, capsys, name):
    write(tmp_path / "seed1", log=log(70.0))
    (write(tmp_path / "seed2") / "log.txt").write_bytes(as_bytes(LOGS[name]))
    status, out, err = parse(capsys, tmp_path)
    assert status == 0 and "70.00" in out and " inf" not in out and not err


SETTINGS = {"list": "- 1", "text": "abc", "group": "OPTIM: 3", "tab": "a:\n\t- b: c", "deep": "[" * 5000}
SETTINGS |= {"not UTF-8": b"a: \xff", "bomb": "a: &a [x, x]\n" + "".join(f"{x}: &{x} [*a, *a]\n" for x in "bc")}


@pytest.mark.parametrize("name", SETTINGS)
def test_odd_settings_of_a_finished_run(tmp_path, capsys, name):
    folder = write(tmp_path / "seed1", results=result(70.0, epochs=None))
    (folder / "config.yaml").write_bytes(as_bytes(SETTINGS[name]))
    with pytest.raises(ValueError) as raised:
        last_epoch(folder)
    assert len(str(raised.value).splitlines()) == 1


TASKS = ["{}", "[]", "[1]", "5", DEEP, "NaN", '[{"key": 1}]', '[{"key": 1, "name": "a", "classnames": ["b"]}]']
TASKS += ['[{"key": "a", "name": "a", "classnames": 5}]', '[{"key": "a", "name": "a", "classnames": [5]}]']


@pytest.mark.parametrize("content", TASKS, ids=range(len(TASKS)))
def test_odd_tasks(tmp_path, content):
    (tmp_path / "tasks.json").write_text(content)
    with pytest.raises(UserError, match="tasks.json") as caught:
        read_space(tmp_path)
    assert "\n" not in str(caught.value)
