"""Write run folders for the tests of reporting, and parse printed tables."""

import json

import parse_test_res

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
    """A complete log: validation in each epoch, end of training, test."""
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
    """(exit code, output, errors)"""
    status = parse_test_res.main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def parse_json(capsys, *arguments):
    status, out, _ = parse(capsys, *arguments, "--json")
    assert status == 0
    return json.loads(out)


def rows_of(out):
    """{first cell: other cells} of the printed table."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in out.splitlines() if line.startswith("|")]
    return {cells[0]: cells[1:] for cells in lines}
