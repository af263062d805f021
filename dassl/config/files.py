"""Settings read from YAML files, including the files that a file names under `_BASE_`."""

import os

import yaml
from yacs.config import CfgNode

from dassl.config.rules import show

BASE = "_BASE_"


def read_settings(file, cfg, problems, only=(), chain=()):
    """Read the settings of a YAML file and of its bases, lowest precedence first.

    `_BASE_: FILE` or `_BASE_: [FILE, FILE]` names the bases, relative to the folder of the file that names them. Bases
    may have bases. A later base overrides an earlier one, and the file overrides its bases. A value that is a list or
    a dictionary is replaced as a whole.

    Args:
        file: path of the file.
        cfg: configuration (yacs CfgNode). It tells a group of settings from a setting whose value is a dictionary.
        problems: list to which the message of every problem is appended.
        only: top-level names to read, e.g. ("DATASET", "DATALOADER"); empty: all.
        chain: the files that led to this one through `_BASE_`.

    Returns:
        [(path of the file, dotted key, value)].
    """
    file = os.path.normpath(file)
    path = " -> ".join([*chain, file])
    if os.path.realpath(file) in map(os.path.realpath, chain):
        problems.append(f"{path}: these files name each other under {BASE}; remove one of the entries")
        return []
    if not os.path.isfile(file):
        hint = f"; a file named under {BASE} is looked for relative to the folder of {chain[-1]}" if chain else ""
        problems.append(f"{path}: no such file{hint}")
        return []
    try:
        with open(file, encoding="utf-8") as stream:
            content = yaml.safe_load(stream)
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        problems.append(f"{path}: not readable as YAML: {' '.join(str(error).split())}")
        return []
    content = {} if content is None else content
    if not isinstance(content, dict):
        problems.append(f"{path}: expected settings as KEY: value, found {type(content).__name__}")
        return []
    bases = content.pop(BASE, [])
    bases = [bases] if isinstance(bases, str) else bases
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        problems.append(f"{path}: {BASE} = {show(bases)}: expected the path of a file, or a list of paths")
        bases = []
    found = []
    for base in bases:
        found += read_settings(os.path.join(os.path.dirname(file), base), cfg, problems, only, (*chain, file))
    content = {name: value for name, value in content.items() if not only or name in only}
    return found + [(file, key, value) for key, value in _leaves(content, cfg, "", file, problems)]


def _leaves(content, node, prefix, file, problems):
    """Yield (dotted key, value) of the settings below the group `node`."""
    for name, value in content.items():
        key = f"{prefix}{name}"
        inner = node.get(name, CfgNode())  # an unknown name may be a group or a setting
        if isinstance(inner, CfgNode) and isinstance(value, dict):
            yield from _leaves(value, inner, f"{key}.", file, problems)
        elif not isinstance(inner, CfgNode) or name not in node:
            yield key, value
        elif value is not None:  # None: all entries of the group are commented out
            problems.append(f"{file}: {key} = {show(value)}: a group of settings, expected {key}.<NAME> below it")
