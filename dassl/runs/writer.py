"""Write results.json, config.yaml and tasks.json, each atomically."""

import os
import sys
import traceback
from datetime import datetime, timezone

from yacs.config import CfgNode

from dassl.config import config_hash, method_name
from dassl.metrics import METRICS
from dassl.runs.checkpoints import saved_epochs
from dassl.runs.folder import replacing
from dassl.runs.record import COMPLETE, CONFIG, FAILED, INTERRUPTED, RESULTS, TASKS, known_results
from dassl.utils import atomic_write, count_num_param, git_commit, log_only, peak_memory_bytes, versions, write_json
from dassl.utils.errors import describe as describe_error
from dassl.utils.errors import is_user_error
from dassl.utils.tools import without_home


def write_config(cfg):
    """Write the resolved configuration to config.yaml, which is enough to repeat the run.

    Paths below the user's home folder begin with ~, which is read as the home folder of the one who reads it.
    """
    copy = cfg.clone()
    copy.defrost()
    copy.RESUME = ""  # not needed to repeat the run
    for node in _groups(copy):
        node.update({key: without_home(value) for key, value in node.items() if not isinstance(value, CfgNode)})
    with atomic_write(os.path.join(cfg.OUTPUT_DIR, CONFIG)) as stream:
        stream.write(copy.dump())


def _groups(node):
    yield node
    for value in node.values():
        if isinstance(value, CfgNode):
            yield from _groups(value)


def write_tasks(trainer):
    """Write the tasks with their class names to tasks.json, so that predictions need no dataset."""
    space = getattr(trainer.dm, "space", None)
    if space is not None:
        write_json(space.plain(), os.path.join(trainer.cfg.OUTPUT_DIR, TASKS))


def describe(cfg):
    """The entries of results.json before the run starts; unknown values are None."""
    classes = cfg.DATASET.get("SUBSAMPLE_CLASSES", "all")
    shots = cfg.DATASET.NUM_SHOTS
    few = shots >= 1 or bool(cfg.DATASET.get("FEWSHOT_SPLIT", ""))
    return {
        "format": 1,
        "status": "running",
        "trainer": cfg.TRAINER.NAME,
        "method": method_name(cfg),
        "suite": cfg.DATASET.NAME,
        "protocol": classes if classes in ("base", "new") else "few-shot" if few else "all",
        "subsample_tasks": cfg.DATASET.get("SUBSAMPLE_TASKS", "all"),
        "suite_tasks": None,
        "split": cfg.TEST.SPLIT,
        "backbone": cfg.MODEL.get("BACKBONE", {}).get("NAME", ""),
        "precision": None,
        "seed": cfg.SEED,
        "shots": shots,
        "fewshot_split": None,
        "epochs": cfg.OPTIM.MAX_EPOCH,
        "config_files": [],
        "overrides": {},
        "epoch": 0,
        "tested_model": None,
        "models": [],
        "learnable_parameters": None,
        "tasks": [],
        "mean": dict.fromkeys(("value", *METRICS.names())),
        "zero_shot": None,
        "task_unknown": None,
        "task_weights": None,
        "chosen": None,
        "seconds": {"train": 0.0, "test": 0.0},
        "peak_memory_bytes": None,
        "versions": versions(),
        "git_commit": git_commit(),
        "hashes": {"config": config_hash(cfg), "split": None, "weights": None},
        "device": None,
        "finished": None,
        "command": list(sys.argv),
    }


def write_results(trainer, status, report=None):
    """Write results.json of a trainer's run.

    Args:
        trainer: a SimpleTrainer.
        status: "running" or "complete".
        report: the evaluator's report {"tasks": [...], "mean": {...}}; None before the test.
    """
    record = describe(trainer.cfg)
    parameters = {
        id(p): p for name in trainer.get_model_names() for p in trainer._models[name].parameters() if p.requires_grad
    }
    record.update(
        status=status,
        epochs=trainer.max_epoch if trainer.learns else 0,
        epoch=trainer.epochs_done,
        models=trainer.get_model_names(),
        learnable_parameters=count_num_param(params=parameters.values()),
        seconds={key: round(value, 3) for key, value in trainer.seconds.items()},
        peak_memory_bytes=peak_memory_bytes(trainer.device),
        device=str(trainer.device),
    )
    dataset = getattr(trainer.dm, "dataset", None)
    record["hashes"]["split"] = getattr(dataset, "split_hash", None)
    record["suite_tasks"] = getattr(dataset, "suite_tasks", None)
    record["fewshot_split"] = listed = getattr(dataset, "fewshot_split", None)
    if listed and record["shots"] < 1:  # the files decide
        record["shots"] = listed["shots"]
    if report is not None:
        record.update(tasks=report["tasks"], mean=report["mean"])
    extra = dict(trainer.run_extra)
    record["hashes"].update(extra.pop("hashes", {}))
    record.update(extra)
    if status != "running":
        record["finished"] = _now()
    write_json(without_home(record), os.path.join(trainer.cfg.OUTPUT_DIR, RESULTS))


def write_failure(cfg, error):
    """Record that the run stopped with `error`, in results.json and in the log.

    The status is "interrupted" after Ctrl-C and the like, "failed" after an error; the epoch is that of the newest
    checkpoint. Nothing changes in the folder of a
    finished run, and of a run that was to be replaced. Does not fail: `error` remains the error of the run, e.g. a full
    disk that takes no record either.
    """
    stopped = not isinstance(error, Exception)
    text = describe_error(error)
    try:
        log_only("interrupted" if stopped else f"error: {text}" if is_user_error(error) else _traceback(error))
        if replacing(cfg.OUTPUT_DIR):
            return
        record = known_results(cfg.OUTPUT_DIR) or describe(cfg)
        if record.get("status") != COMPLETE:
            record.pop("error", None)
            saved = saved_epochs(cfg.OUTPUT_DIR)
            record["epoch"] = saved[-1] if saved else record.get("epoch")
            record.update(status=INTERRUPTED if stopped else FAILED, finished=_now())
            if not stopped:
                record["error"] = f"{type(error).__name__}: {text}"
            write_json(without_home(record), os.path.join(cfg.OUTPUT_DIR, RESULTS))
    except Exception:
        pass


def _traceback(error):
    return "".join(traceback.format_exception(error)).rstrip()


def _now():
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
