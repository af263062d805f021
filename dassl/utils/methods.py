"""Names of methods in published tables, from configs/methods.yaml: each means a trainer and settings. No PyTorch."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import yaml

FILE = Path(__file__).parents[2] / "configs" / "methods.yaml"
NAME = "TRAINER.NAME"


@cache
def methods():
    """{name: {dotted key: value}}; TRAINER.NAME is among the keys."""
    with open(FILE, encoding="utf-8") as stream:
        return yaml.safe_load(stream)


def method_name(settings):
    """The name under which a run is shown: the first method whose trainer and settings it has, else its trainer.

    Args:
        settings: nested settings of the run: a CfgNode, or the content of its config.yaml. A setting that an early
            version did not have yet fits every method.
    """
    trainer = _value(settings, NAME)
    for name, row in methods().items():
        if row[NAME] == trainer and all(_value(settings, key) in (value, None) for key, value in row.items()):
            return name
    return str(trainer or "")


def implied(settings):
    """The keys of the settings that the name of a run (`method_name`) says already."""
    return methods().get(method_name(settings), {}).keys()


def _value(settings, key):
    for part in key.split("."):
        settings = settings.get(part) if isinstance(settings, Mapping) else None
    return settings
