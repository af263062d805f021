"""Frames of runs (reporting/frame.py) made by hand, for the tests of the report."""

import pandas as pd

from reporting.frame import COLUMNS

ABOUT = {
    "trainer": "CoOp",
    "suite": "Toy",
    "protocol": "few-shot",
    "classes": "all",
    "source_suite": "",
    "backbone": "RN50",
    "config": "rn50",
    "split": "test",
    "chosen_on": "",
    "status": "complete",
    "problem": "",
    "joined": False,
    "train_seconds": 10.0,
    "test_seconds": 1.0,
    "memory_bytes": 2**30,
    "parameters": 1000,
    "declared": "overall_acc",
    "split_hash": "same",
    "version": "torch 2",
}


def run(method, values, shots=1, seed=1, **more):
    """The rows of one run: `values` is {task: value}; its mean is added. {}: a run without results."""
    name = "" if shots is None else f"_{shots}shots"
    half = {"base": "base/", "new": "new/"}.get(more.get("classes"), "")
    experiment = more.pop("experiment", f"{more.get('suite', 'Toy')}/{half}{method}/rn50{name}")
    path = f"output/{experiment}" + ("" if seed is None else f"/seed{seed}")
    about = {**ABOUT, "method": method, "experiment": experiment, "path": path, "shots": shots, "seed": seed}
    about["command"] = f"train.py --trainer {method} --seed {seed} --output-dir {path}"
    if not values:
        return [{**about, "status": "failed", "problem": "out of memory", **more}]
    rows = [
        {**about, "task_id": i, "task": task, "task_key": task, "images": 100, "value": value, **more}
        for i, (task, value) in enumerate(values.items())
    ]
    rows.append({**about, "task": "", "task_key": "", "value": sum(values.values()) / len(values), **more})
    return [{**row, "metric": metric} for metric in ("overall_metric", "overall_acc") for row in rows]


def frame(*runs):
    table = pd.DataFrame([row for rows in runs for row in rows]).reindex(columns=list(COLUMNS))
    texts = [column for column, kind in COLUMNS.items() if kind == "str"]
    table[texts] = table[texts].astype(object).fillna("")
    return table.astype(COLUMNS)


def zero_shot(values=None, **more):
    return run("ZeroshotCLIP", values or {"a": 50.0, "b": 40.0}, None, None, parameters=0, train_seconds=0.0, **more)
