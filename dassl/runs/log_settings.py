"""What a log in the published format, and the place of its folder, tell about a run without a results.json.

CoOp, SoftCPT and similar programs print all settings under "** Config **", this project under "Settings:". The folders
of their launchers are OUTPUT/DATASET/TRAINER/CFG_16shots/SETTINGS/seed1, OUTPUT/ZeroshotCLIP/CFG/DATASET,
OUTPUT/base2new/train_base/DATASET/shots_16/TRAINER/CFG/seed1 and
OUTPUT/evaluation/TRAINER/CFG_16shots/SETTINGS/DATASET/seed1. Printed settings are preferred to names of folders.
"""

import re
from functools import cache
from itertools import islice
from pathlib import Path

from dassl.config.files import read_yaml
from dassl.config.rules import parse
from dassl.utils.methods import method_name
from dassl.utils.tools import open_file

HEAD = 3000  # lines of a log among which the settings are
LONGEST_LINE = 2**16  # characters of a log that are read as one line
HEADING = re.compile(r"\*\* Config \*\*|Settings:")
ENTRY = re.compile(r"( *)([A-Z][A-Z0-9_]*):(?: (.*))?")
CONFIG_FILE = re.compile(r"(?<!dataset[-_])config[-_]file[:=]? *(\S+\.ya?ml)")
SHOTS = re.compile(r"(?:(.+)_)?(-?\d+)shots?")
SWITCH = re.compile(r"(c|t|)(csc|tsc)(True|False)")  # of SoftCPT's folders: cnctx0_ccscFalse_tnctx4_tcscFalse_...
SWITCHES = {"csc": "CSC", "tsc": "TSC", "ccsc": "CLASS_CSC", "tcsc": "TASK_CSC"}
BACKBONES = {"rn50": "RN50", "rn101": "RN101", "vit_b32": "ViT-B/32", "vit_b16": "ViT-B/16", "vit_l14": "ViT-L/14"}
DATASETS = Path(__file__).parents[2] / "configs" / "datasets"
HALVES = {"train_base": "base", "test_new": "new", "base": "base", "new": "new"}


def log_settings(path, folder):
    """What is known about a run that has only a log.

    Args:
        path: its log, or None.
        folder: the folder of the run.

    Returns:
        ({name in results.SETTINGS: value or None}, seed or None, name of the configuration file or "")
    """
    printed, config = _printed(path) if path else ({}, "")
    named = _named(Path(folder))
    data = printed.get("DATASET") or {}
    trainer = _value(printed, "TRAINER", "NAME") or named.get("trainer")
    known = printed if printed else named.get("switches")
    classes, shots = data.get("SUBSAMPLE_CLASSES"), data.get("NUM_SHOTS", named.get("shots"))
    classes = classes if classes in ("base", "new") else named.get("classes")
    seed = printed.get("SEED")
    settings = {
        "trainer": trainer,
        "method": method_name(known) if known else trainer,
        "suite": data.get("NAME") or _dataset_name(named.get("suite")),
        "protocol": classes or (None if shots is None else "few-shot" if shots >= 1 else "all"),
        "subsample_tasks": data.get("SUBSAMPLE_TASKS"),
        "shots": shots,
        "epochs": _value(printed, "OPTIM", "MAX_EPOCH"),
        "backbone": _value(printed, "MODEL", "BACKBONE", "NAME") or named.get("backbone"),
        "precision": None,
        "split": None,
    }
    return settings, seed if isinstance(seed, int) and seed >= 0 else None, config or named.get("config", "")


def config_of_folder(folder):
    """Name of the configuration file by the names of the folders; "" if they do not tell it."""
    return _named(Path(folder)).get("config", "")


@cache
def _dataset_name(file):
    """DATASET.NAME of a file of configs/datasets, after which launchers name folders; else its argument."""
    try:
        name = _value(read_yaml(DATASETS / f"{file}.yaml"), "DATASET", "NAME")
    except (OSError, ValueError):
        return file
    return file if name in (None, "Suite") else name  # all users' own data have the name Suite


def _value(settings, *keys):
    for key in keys:
        settings = settings.get(key) if isinstance(settings, dict) else None
    return settings


def _printed(path):
    """(settings as nested dicts, name of the configuration file) as a log has them at its top; ({}, "") without."""
    config, found, groups = "", {}, None
    try:
        with open_file(path, encoding="utf-8", errors="replace") as file:
            for line in islice(iter(lambda: file.readline(LONGEST_LINE), ""), HEAD):
                if groups is None:
                    if match := CONFIG_FILE.search(line):
                        config = Path(match[1]).stem
                    groups = [(-1, found)] if HEADING.fullmatch(line.strip()) else None
                elif match := ENTRY.fullmatch(line.rstrip("\n")):
                    indent, name, text = len(match[1]), match[2], match[3]
                    while groups[-1][0] >= indent:
                        groups.pop()
                    if text is None:
                        groups.append((indent, groups[-1][1].setdefault(name, {})))
                    else:
                        groups[-1][1][name] = parse(text)
                elif found:
                    break
    except (OSError, ValueError):
        return {}, ""
    return found, config


def _named(folder):
    """What the names of the folders tell: "suite", "trainer", "config", "shots", "classes", "backbone", "switches"."""
    parts = folder.absolute().parts
    parts = parts[:-1] if re.fullmatch(r"seed[-_]?\d+", parts[-1]) else parts
    found = {}
    for name in reversed(parts):
        if name in HALVES:
            found["classes"] = HALVES[name]
            break
    if "ZeroshotCLIP" in parts[-4:]:  # OUTPUT/ZeroshotCLIP/CFG/DATASET, with base or new before DATASET
        at = len(parts) - 1 - parts[::-1].index("ZeroshotCLIP")
        if len(parts) > at + 2:
            found |= {"trainer": parts[at], "config": parts[at + 1], "suite": re.sub(r"-\d+$", "", parts[-1])}
    for at in reversed(range(2, len(parts))):
        match = SHOTS.fullmatch(parts[at])
        if not match or not match[1]:
            continue
        found |= {"suite": parts[at - 2], "trainer": parts[at - 1], "config": match[1], "shots": int(match[2])}
        if parts[at - 2] == "evaluation":
            found["suite"] = parts[-1]
        break
    else:
        at = next((at for at, name in enumerate(parts) if re.fullmatch(r"shots_\d+", name)), len(parts))
        if 0 < at < len(parts) - 2:  # CoCoOp: DATASET/shots_16/TRAINER/CFG
            found |= {"suite": parts[at - 1], "shots": int(parts[at][6:]), "trainer": parts[at + 1]}
            found["config"] = parts[at + 2]
    group = {"MTCoOp": "MTCOOP", "MTCoOpHard": "MTCOOPH"}.get(found.get("trainer"))
    words = [SWITCH.fullmatch(word) for name in parts[-2:] for word in name.split("_")]
    switches = {SWITCHES[match[1] + match[2]]: match[3] == "True" for match in words if match}
    if group and switches:
        found["switches"] = {"TRAINER": {"NAME": found["trainer"], group: switches}}
    for prefix, backbone in BACKBONES.items():
        if re.match(rf"{prefix}(_|$)", found.get("config", "")):
            found["backbone"] = backbone
    return found
