"""Tables of tasks trained from scratch and from a model of other tasks."""

import numpy as np

from reporting.continued import continued_tables
from tests.reporting.test_per_task import single
from tests.reporting.written import rows_of, write

SCRATCH = {0: {1: 50.0, 2: 54.0, 3: 58.0}, 2: {1: 30.0, 2: 31.0, 3: 32.0}}
CONTINUED = {0: {1: 60.0, 2: 54.0}, 2: {1: 20.0, 2: 30.0, 3: 40.0}}


def test_differences_are_those_of_equal_seeds(tmp_path):
    for name, values in (("scratch", SCRATCH), ("continued", CONTINUED)):
        for task, by_seed in values.items():
            for seed, value in by_seed.items():
                write(tmp_path / f"{name}/task{task}/seed{seed}", results=single(task, value, seed=seed))
    text = continued_tables([("CoOp", f"{tmp_path}/scratch/task*", f"{tmp_path}/continued/task*")], (1, 2, 3))
    rows = rows_of(text)
    assert rows["task"] == ["from scratch", "from sources", "difference"]
    std = np.std([50, 54, 58])
    assert rows["faces"] == [f"54.00 ± {std:.2f}", "57.00 ± 3.00", "+5.00 ± 5.00"]
    differences = [20 - 30, 30 - 31, 40 - 32]
    assert rows["birds"][2] == f"{np.mean(differences):.2f} ± {np.std(differences):.2f}"
    assert rows["mean"] == ["42.50 ± 2.04", "41.00 ± 1.00", "-0.25 ± 0.25"]  # seed 3 lacks a task
    assert "note: CoOp, from sources:" in text


def test_runs_that_are_missing_are_reported(tmp_path):
    text = continued_tables([("CoOp", f"{tmp_path}/scratch/task*", f"{tmp_path}/continued/task*")])
    assert "CoOp: " in text and "scratch" in text
