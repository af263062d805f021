"""results.json: what a run was and what came out, for programs; the log is for people."""

import os
import sys
from datetime import datetime, timezone

from dassl.config import config_hash, differences, read_settings
from dassl.engine.build import TRAINER_REGISTRY, unread
from dassl.utils import atomic_write, count_num_param, git_commit, peak_memory_bytes, read_json, versions, write_json

EMPTY_MEAN = {"value": None, "overall_acc": None, "mean_acc": None, "macro_f1": None}


def write_config(cfg):
    """Write the resolved configuration, from which the run can be repeated."""
    copy = cfg.clone()
    copy.defrost()
    copy.RESUME = ""  # repeating the run does not need the other one
    with atomic_write(os.path.join(cfg.OUTPUT_DIR, "config.yaml")) as stream:
        stream.write(copy.dump())


def write_tasks(trainer):
    """Write tasks.json, what the run tells apart: with it and the model a prediction needs none of the data."""
    space = getattr(trainer.dm, "space", None)
    if space is not None:
        write_json(space.plain(), os.path.join(trainer.cfg.OUTPUT_DIR, "tasks.json"))


def describe(cfg):
    """What is known of a run before it starts."""
    classes = cfg.DATASET.get("SUBSAMPLE_CLASSES", "all")
    shots = cfg.DATASET.NUM_SHOTS
    return {
        "format": 1,
        "status": "running",
        "trainer": cfg.TRAINER.NAME,
        "suite": cfg.DATASET.NAME,
        "protocol": classes if classes in ("base", "new") else "few-shot" if shots >= 1 else "all",
        "subsample_tasks": cfg.DATASET.get("SUBSAMPLE_TASKS", "all"),
        "suite_tasks": None,
        "split": cfg.TEST.SPLIT,
        "backbone": cfg.MODEL.get("BACKBONE", {}).get("NAME", ""),
        "precision": None,
        "seed": cfg.SEED,
        "shots": shots,
        "epochs": cfg.OPTIM.MAX_EPOCH,
        "epoch": 0,
        "learnable_parameters": None,
        "tasks": [],
        "mean": dict(EMPTY_MEAN),
        "zero_shot": None,
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
        status: "running", "complete" or "failed".
        report: the evaluator's report ({"tasks": [...], "mean": {...}}), once there is one.
    """
    record = describe(trainer.cfg)
    parameters = {
        id(p): p for name in trainer.get_model_names() for p in trainer._models[name].parameters() if p.requires_grad
    }
    record.update(
        status=status,
        epochs=trainer.cfg.OPTIM.MAX_EPOCH if trainer.learns else 0,
        epoch=trainer.epochs_done,
        learnable_parameters=count_num_param(params=parameters.values()),
        seconds={key: round(value, 3) for key, value in trainer.seconds.items()},
        peak_memory_bytes=peak_memory_bytes(trainer.device),
        device=str(trainer.device),
    )
    dataset = getattr(trainer.dm, "dataset", None)
    record["hashes"]["split"] = getattr(dataset, "split_hash", None)
    record["suite_tasks"] = getattr(dataset, "suite_tasks", None)
    if report is not None:
        record.update(tasks=report["tasks"], mean=report["mean"])
    extra = dict(trainer.run_extra)
    record["hashes"].update(extra.pop("hashes", {}))
    record.update(extra)
    if status != "running":
        record["finished"] = _now()
    write_json(record, _path(trainer.cfg))


def split_change(trainer, directory):
    """How the splits of a trainer's data differ from those of the run in `directory`: a line for people.

    "" where they are the same, or cannot be compared: nothing is recorded there, or it was of other tasks. (The hash is
    that of the full splits, but for datasets that are written for Dassl, which know no more than the images they drew.)
    """
    dataset, recorded = getattr(trainer.dm, "dataset", None), os.path.join(directory, "config.yaml")
    try:
        there = read_json(os.path.join(directory, "results.json"))["hashes"]["split"]
        others = {key for key, _, _ in differences(trainer.cfg, recorded)}
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    full = getattr(dataset, "suite_tasks", None) is not None
    decide = ("DATASET.NAME", "DATASET.TASKS", "DATASET.SUBSAMPLE_TASKS") if full else ("DATASET.", "SEED")
    here = getattr(dataset, "split_hash", None)
    if not (there and here) or there == here or any(key.startswith(decide) for key in others):
        return ""
    return (
        f"the splits of {trainer.cfg.DATASET.NAME} (hash {here[:12]}) are not those that the run in {directory} was "
        f"made with ({there[:12]}): images or split files have changed since"
    )


def warn_of_split(trainer, config_file="", model_dir=""):
    """Print a line when the splits have changed since the run whose config.yaml, or whose model, is used."""
    again = config_file and os.path.basename(config_file) == "config.yaml"
    for directory in dict.fromkeys(filter(None, (again and (os.path.dirname(config_file) or "."), model_dir))):
        if change := split_change(trainer, directory):
            print(f"WARNING: {change}, and the numbers of the two cannot be compared")


def warn_of_unused(cfg, opts, file=None):
    """Print a line about settings that belong to other methods: on the command line, [KEY, VALUE, ...], or in `file`.

    A file that has settings of the method at hand, such as the config.yaml of a run, may have those of others, too.
    """
    section = getattr(TRAINER_REGISTRY.get(cfg.TRAINER.NAME), "section", "")
    groups = tuple(group for group in unread(cfg) if group.startswith("TRAINER."))
    unused = [key for key in dict.fromkeys(opts[::2]) if key.startswith(groups)]
    if unused:
        print(
            f"WARNING: {cfg.TRAINER.NAME} does not read {', '.join(unused)}; its own settings are TRAINER.{section}.*, "
            "see docs/settings.md"
        )
    paths = [key.split(".") for _, key, _ in read_settings(file, cfg, [])] if file else []
    named = dict.fromkeys(path[1] for path in paths if path[0] == "TRAINER" and len(path) > 2 and path[1] != "ZSCLIP")
    if section and named and section not in named:
        print(f"WARNING: {file} has settings of {', '.join(named)}, which {cfg.TRAINER.NAME} does not read")


def write_failure(cfg, error):
    """Note in results.json that the run stopped with an error; a finished run's file is left alone."""
    try:
        record = read_json(_path(cfg))
    except (OSError, ValueError):
        record = describe(cfg)
    if record.get("status") != "complete":
        record.update(status="failed", error=f"{type(error).__name__}: {error}", finished=_now())
        write_json(record, _path(cfg))


def _path(cfg):
    return os.path.join(cfg.OUTPUT_DIR, "results.json")


def _now():
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
