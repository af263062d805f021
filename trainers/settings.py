"""Settings that many methods share: defined once, with allowed values and help."""

from __future__ import annotations

from clip.backbones import PRECISIONS
from dassl.config import at_least, between, declare, settings

POSITIONS = ("end", "middle", "front")  # positions of the class name, as in CoOp: at the end, …

PRECISION = "precision of the frozen towers (prompts: fp32). fp16 and amp need CUDA, a CPU uses fp32; bf16 always works"
SHARED = {  # name: (allowed values, help)
    "PREC": (PRECISIONS, PRECISION),
    "N_CTX": (between(1, 1000), "L, number of context tokens"),
    "CTX_INIT": (None, "initial words of the context (N_CTX tokens); '': random values from N(0, 0.02)"),
    "CSC": (None, "one context per class"),
    "TSC": (None, "one context per task of a suite"),
    "CLASS_TOKEN_POSITION": (POSITIONS, "position of the class name"),
    "SCALE": (at_least(0), "scale of the cosines; 0: CLIP's own, which is 100 in OpenAI's models"),
    "TEMPLATES": (
        None,
        "hand-made templates: '' the first of each task; all: all of each task; a text with {} for all tasks; or a "
        "YAML or JSON file {key or name of a task: templates, or {class: sentences}}",
    ),
    "CHOSEN_ON": (
        ("val", "test"),
        "split whose images choose the settings that the method searches; test: as published, and marked in all tables",
    ),
    "DROPOUT": (between(0, 0.9), "dropout rate of what the method adds to the towers, in training"),
}


def declare_shared(section: str, **defaults) -> None:
    """Declare settings of SHARED for the method in cfg.TRAINER.<section>, with its defaults: N_CTX=16, …"""
    for name, default in defaults.items():
        allowed, text = SHARED[name]
        declare(f"TRAINER.{section}.{name}", default, allowed=allowed, help=text)


def arguments(c, *names: str) -> dict:
    """Keyword arguments from settings of the section `c`: {name in lower case: value} of each of `names`."""
    return {name.lower(): c[name] for name in names}


def is_shared(section: str, name: str) -> bool:
    """Whether `declare_shared` declared the setting `name` of a section, so that it means what SHARED says."""
    found = settings().get(f"TRAINER.{section}.{name}")
    return found is not None and found.help == SHARED[name][1]


def is_changed(key: str, c, name: str) -> bool:
    """Whether the setting `name` of the section `c`, whose keys begin with `key`, differs from its default."""
    return c[name] != settings()[key + name].default


def unread_problems(key: str, c, chooser: str, readers: dict[str, tuple]) -> list[str]:
    """Problems with changed settings that nothing reads: {setting: values of `chooser` with which it is read}."""
    return [
        f"{key}{name} {c[name]} needs {key}{chooser} {' or '.join(map(str, values))}, found {c[chooser]}"
        for name, values in readers.items()
        if c[chooser] not in values and is_changed(key, c, name)
    ]
