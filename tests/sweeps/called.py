"""Calls of train.py, and the records of runs that are not made."""

import json

from sweeps.calls import CONFIGS, Call, configuration
from tests.scripts.project import results


def call(folder, *pairs, trainer="CoOp", config="tiny_ep20", **more):
    files = {"config": CONFIGS / f"trainers/{trainer}/{config}.yaml", "dataset": CONFIGS / "datasets/icon5.yaml"}
    return Call(folder, trainer, seed=1, pairs=pairs, label=folder.name, **files, **more)


def record(made, status="complete", settings=True, **more):
    """Write what a run says about itself. Without `settings`, there is no config.yaml."""
    made.folder.mkdir(parents=True, exist_ok=True)
    data = {**results(70.0, made.words()), "status": status, **more}
    (made.folder / "results.json").write_text(json.dumps(data))
    if settings:
        (made.folder / "config.yaml").write_text(configuration(made.words()).dump())
    return made
