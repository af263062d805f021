"""The declared settings, and how a run's configuration is put together from files and the command line."""

import hashlib
import importlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass

import yaml
from yacs.config import CfgNode

from dassl.config.rules import Rule, as_rule, at_least, between, coerce, nearest, nearest_key, one_of, show
from dassl.utils.errors import ConfigError

__all__ = ["Rule", "at_least", "between", "check", "config_hash", "declare", "differences", "get_cfg_default", "load"]
__all__ += ["one_of", "settings", "ConfigError", "Setting"]

# Rooms whose import declares the settings of the engine. Trainers and datasets declare theirs when they are imported.
ROOMS = ("dassl.data", "dassl.optim", "dassl.engine", "dassl.evaluation")

# Keys that say where things lie or how a run is watched: the same run with other values gives the same numbers.
PLACES = ("OUTPUT_DIR", "RESUME", "VERBOSE", "DATASET.ROOT", "DATALOADER.OLD_DATA_PATH", "DATALOADER.NEW_DATA_PATH")
PLACES += ("DATALOADER.NUM_WORKERS", "TRAIN.PRINT_FREQ", "TRAIN.CHECKPOINT_FREQ", "TRAIN.CHECKPOINT_KEEP")
PLACES += ("DATALOADER.FEATURE_CACHE", "DATALOADER.FEATURE_CACHE_DIR", "DATALOADER.FEATURE_CACHE_GB")
PLACES += ("DATALOADER.FEATURE_BANK",)  # to rounding
PLACES += ("TRAIN.TENSORBOARD", "TEST.PER_TASK_RESULT", "TEST.PER_CLASS_RESULT", "TEST.ZERO_SHOT_CHECK")


@dataclass(frozen=True)
class Setting:
    """One declared key: default, rule of its values (or None), types accepted besides the default's, help, reader."""

    key: str
    default: object
    rule: Rule | None = None
    also: tuple = ()
    help: str = ""
    read: Callable | None = None


_settings: dict[str, Setting] = {}


def settings():
    """The declared settings, {key: Setting}, in order of the keys."""
    return dict(sorted(_settings.items()))


def declare(key, default, *, allowed=None, help="", also=(), read=None):
    """Declare a setting; its owner does so where the code that reads it lives.

    Args:
        key: dotted path, e.g. "OPTIM.LR".
        default: value and type of the setting; None accepts any value.
        allowed: a sequence of values; a callable(value) -> bool whose docstring (or `text`) says what is expected;
            (callable, text); or a `Rule`. For a list, each item must be allowed.
        help: one line for people.
        also: types accepted besides the default's, e.g. (list,).
        read: callable(value as it was given) -> value of the default's type; TypeError says what was expected.

    Raises:
        ValueError: the key exists with another default, or is both a setting and a group of settings.
    """
    known = _settings.get(key)
    if known is not None and (known.default != default or type(known.default) is not type(default)):
        raise ValueError(f"setting {key} is declared twice, with default {known.default!r} and with {default!r}")
    for other in _settings:
        if other.startswith(key + ".") or key.startswith(other + "."):
            raise ValueError(f"setting {key} cannot be declared beside {other}: one is a group of the other")
    if known is None or (allowed is not None and known.rule is None):
        _settings[key] = Setting(key, default, as_rule(allowed), tuple(also), help, read)


def get_cfg_default():
    """Configuration (yacs CfgNode) of all declared settings at their defaults."""
    for room in ROOMS:
        importlib.import_module(room)
    cfg = CfgNode()
    for key, setting in settings().items():
        *groups, leaf = key.split(".")
        node = cfg
        for group in groups:
            node = node.setdefault(group, CfgNode())
        default = setting.default
        node[leaf] = type(default)(default) if isinstance(default, list) else default  # no list shared between runs
    return cfg


def flatten(cfg, prefix=""):
    """{dotted key: value} of the leaves of a configuration."""
    leaves = {}
    for name, value in cfg.items():
        if isinstance(value, CfgNode):
            leaves.update(flatten(value, f"{prefix}{name}."))
        else:
            leaves[prefix + name] = value
    return leaves


def load(cfg, files=(), opts=(), opts_from="command line"):
    """Merge YAML files, then KEY VALUE pairs, into `cfg`.

    Args:
        cfg: configuration to change; its keys are the ones that may be set.
        files: paths of YAML files, later ones win; empty ones are left out.
        opts: [KEY, VALUE, KEY, VALUE, ...]; values are Python literals or plain text.
        opts_from: where they come from, for messages.

    Raises:
        ConfigError: every problem of all sources in one message; `cfg` is unchanged then.
    """
    problems, entries = [], []
    for file in files:
        if file:
            entries += [(str(file), key, value) for key, value in _read_yaml(file, cfg, problems)]
    opts = list(opts)
    if len(opts) % 2:
        problems.append(f"{opts_from}: {show(opts[-1])} has no value; settings are given as KEY VALUE pairs")
        opts.pop()
    entries += [(opts_from, key, value) for key, value in zip(opts[::2], opts[1::2], strict=True)]

    leaves = flatten(cfg)
    own = _own_group({"TRAINER.NAME": leaves.get("TRAINER.NAME"), **{key: value for _, key, value in entries}})
    merged, sources = {}, {}
    for source, key, value in entries:
        if key not in leaves:
            problems.append(f"{source}: {_unknown(key, leaves, own)}")
            continue
        setting = _settings.get(key)
        default = setting.default if setting else leaves[key]
        try:
            value = setting.read(value) if setting and setting.read else value
            merged[key] = coerce(value, default, setting.also if setting else ())
            sources[key] = source
        except TypeError as error:
            problems.append(f"{source}: {key} = {show(value)}: {error}")
    problems += [f"{sources[key]}: {text}" for key, value in merged.items() if (text := _forbidden(key, value))]
    _raise(problems)
    for key, value in merged.items():
        *groups, leaf = key.split(".")
        node = cfg
        for group in groups:
            node = node[group]
        node[leaf] = value


def check(cfg):
    """Check the type and the allowed values of every declared setting in `cfg`.

    Raises:
        ConfigError: all problems in one message.
    """
    problems = []
    for key, value in flatten(cfg).items():
        if key in _settings:
            try:
                coerce(value, _settings[key].default, _settings[key].also)
            except TypeError as error:
                problems.append(f"{key} = {show(value)}: {error}")
                continue
            if text := _forbidden(key, value):
                problems.append(text)
    _raise(problems)


def config_hash(cfg):
    """SHA-256 (hex) of the settings that decide a run's numbers: all but folders, workers and printing."""
    leaves = {key: value for key, value in flatten(cfg).items() if key not in PLACES}
    return hashlib.sha256(json.dumps(leaves, sort_keys=True, default=str).encode()).hexdigest()


def differences(cfg, file, unread=()):
    """Settings that decide a run's numbers and differ from a config.yaml: [(key, value in the file, in `cfg`)].

    `unread`: beginnings of further settings that decide none.
    """
    with open(file, encoding="utf-8") as stream:
        old = flatten(CfgNode(yaml.safe_load(stream) or {}))
    new = flatten(cfg)
    found = []
    for key in sorted(set(old) | set(new)):
        default = _settings[key].default if key in _settings else "(not set)"  # a file older than the setting
        a, b = old.get(key, default), new.get(key, default)
        if (
            key not in PLACES
            and not key.startswith(tuple(unread))
            and json.dumps(a, default=str) != json.dumps(b, default=str)
        ):
            found.append((key, a, b))
    return found


def _read_yaml(file, cfg, problems):
    """[(dotted key, value)] of a YAML file; what is wrong with the file goes to `problems`."""
    if not os.path.isfile(file):
        problems.append(f"{file}: no such file")
        return []
    try:
        with open(file, encoding="utf-8") as stream:
            content = yaml.safe_load(stream)
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        problems.append(f"{file}: not readable as YAML: {' '.join(str(error).split())}")
        return []
    if content is None:
        return []
    if not isinstance(content, dict):
        problems.append(f"{file}: expected settings as KEY: value, found {type(content).__name__}")
        return []
    found = []

    def walk(node, content, prefix):
        for name, value in content.items():
            key = f"{prefix}{name}"
            inner = node.get(name) if isinstance(node, CfgNode) else None
            if isinstance(inner, CfgNode) and value is None:
                continue  # a group whose entries are all commented out
            if isinstance(inner, CfgNode) and not isinstance(value, dict):
                problems.append(f"{file}: {key} = {show(value)}: a group of settings, expected {key}.<NAME> below it")
            elif isinstance(value, dict) and (isinstance(inner, CfgNode) or not _is_leaf(node, name)):
                walk(inner, value, key + ".")
            else:
                found.append((key, value))

    walk(cfg, content, "")
    return found


def _is_leaf(node, name):
    return isinstance(node, CfgNode) and name in node


def _own_group(values):
    """The group of settings of the trainer that is named, "TRAINER.COOP", or "" where that is not known."""
    from dassl.engine.build import TRAINER_REGISTRY  # the engine declares its settings here

    name = str(values["TRAINER.NAME"])
    section = getattr(TRAINER_REGISTRY.get(name), "section", "") if name in TRAINER_REGISTRY else ""
    return section and f"TRAINER.{section}"


def _unknown(key, leaves, own):
    if near := nearest_key(key, leaves, own):
        return f"{key}: no such setting; did you mean {near}?"
    group = key.rpartition(".")[0] + "."
    beside = sorted(leaf.removeprefix(group) for leaf in leaves if leaf.startswith(group)) if group != "." else []
    hint = f"{group[:-1]} has {', '.join(beside)}" if beside else "see config.yaml of any run for all keys"
    return f"{key}: no such setting; {hint}"


def _forbidden(key, value):
    """The problem with a value, or an empty text."""
    setting = _settings.get(key)
    if setting is None or setting.rule is None or setting.rule(value):
        return ""
    near, choices = None, [choice for choice in setting.rule.choices if isinstance(choice, str)]
    words = value if isinstance(value, (list, tuple)) else [value]
    words = [word for word in words if isinstance(word, str) and word not in choices]
    if words:
        near = nearest(words[0], choices)
    return f"{key} = {show(value)}: expected {setting.rule.text}" + (f"; did you mean {near}?" if near else "")


def _raise(problems):
    if len(problems) == 1:
        raise ConfigError(f"a problem in the configuration: {problems[0]}")
    if problems:
        raise ConfigError("\n  ".join([f"{len(problems)} problems in the configuration:", *problems]))
