"""The declared settings, and the configuration of a run: defaults, then files, then the command line."""

from collections.abc import Callable
from dataclasses import dataclass

from yacs.config import CfgNode

from dassl.config.files import read_settings
from dassl.config.rules import Rule, as_rule, coerce, nearest_key, show
from dassl.utils.errors import ConfigError, did_you_mean
from dassl.utils.methods import NAME, methods
from dassl.utils.names import imported
from dassl.utils.registry import TRAINER_REGISTRY
from dassl.utils.tools import with_home

# Packages whose import declares the settings of the engine. Trainers and datasets declare theirs when imported.
ROOMS = ("dassl.data", "dassl.optim", "dassl.engine", "dassl.evaluation")


class Config(CfgNode):
    """A yacs CfgNode whose `merge_from_file` understands `_BASE_` and reports all problems of the file at once."""

    def merge_from_file(self, cfg_filename):
        load(self, [cfg_filename])


@dataclass(frozen=True)
class Setting:
    """A declared setting; `declare` explains the fields."""

    key: str
    default: object
    rule: Rule | None = None
    also: tuple = ()
    help: str = ""
    read: Callable | None = None


_settings: dict[str, Setting] = {}
_contradictions: list[Callable] = []


def settings():
    """The declared settings, {key: Setting}, sorted by key."""
    return dict(sorted(_settings.items()))


def declare(key, default, *, allowed=None, help="", also=(), read=None):
    """Declare a setting, beside the code that reads it.

    Args:
        key: dotted path, e.g. "OPTIM.LR".
        default: default value; its type is the type of the setting. None accepts any value.
        allowed: the allowed values: a sequence; (callable(value) -> bool, text that says what is expected); or a
            `Rule`, e.g. `at_least(1)`. For a list, every item must be allowed.
        help: one line for people.
        also: types accepted in addition to the type of the default, e.g. (list,).
        read: callable(value as given) -> value of the default's type; its TypeError says what was expected.

    Raises:
        ValueError: the key is declared already with another default, or is both a setting and a group of settings.
    """
    known = _settings.get(key)
    if known is not None and (known.default != default or type(known.default) is not type(default)):
        raise ValueError(f"setting {key} is declared twice, with default {known.default!r} and with {default!r}")
    for other in _settings:
        if other.startswith(key + ".") or key.startswith(other + "."):
            raise ValueError(f"setting {key} cannot be declared beside {other}: one is a group of the other")
    if known is None or (allowed is not None and known.rule is None):
        _settings[key] = Setting(key, default, as_rule(allowed), tuple(also), help, read)


def declare_contradictions(find):
    """Add a check of settings against each other: `find(cfg)` returns a list of problems. Can decorate `find`."""
    _contradictions.append(find)
    return find


def get_cfg_default():
    """Return a configuration (yacs CfgNode) with all declared settings at their defaults."""
    for room in ROOMS:
        imported(room)
    cfg = Config()
    for key, setting in settings().items():
        *groups, leaf = key.split(".")
        node = cfg
        for group in groups:
            node = node.setdefault(group, CfgNode())
        default = setting.default
        node[leaf] = type(default)(default) if isinstance(default, list) else default  # runs must not share a list
    return cfg


def flatten(cfg, prefix="", group=CfgNode):
    """Return {dotted key: value} of all settings of a configuration, whose groups have the type `group`."""
    leaves = {}
    for name, value in cfg.items():
        if isinstance(value, group):
            leaves.update(flatten(value, f"{prefix}{name}.", group))
        else:
            leaves[prefix + name] = value
    return leaves


def load(cfg, files=(), opts=(), opts_from="command line", only=()):
    """Merge YAML files, then KEY VALUE pairs, into `cfg`.

    Args:
        cfg: configuration to change. Only its keys may be set.
        files: paths of YAML files; later files override earlier ones, empty paths are ignored. A file may name other
            files under `_BASE_`, see `read_settings`.
        opts: [KEY, VALUE, KEY, VALUE, ...]; values are Python literals or plain text.
        opts_from: name of the source of `opts` in messages.
        only: top-level names to merge, e.g. ("DATASET", "DATALOADER"); empty: all. Settings under other names are
            ignored and need not be declared, e.g. the method's settings in the config.yaml of a run.

    Raises:
        ConfigError: one message with every problem of all sources; `cfg` is unchanged then.
    """
    problems, entries = [], []
    for file in filter(None, files):
        entries += read_settings(file, cfg, problems, only)
    pairs = _pairs(opts, opts_from, problems)
    entries += [(opts_from, key, value) for key, value in pairs if not only or key.split(".")[0] in only]

    leaves = flatten(cfg)
    own = _method_group({NAME: leaves.get(NAME), **{key: value for _, key, value in entries}})
    merged, sources = {}, {}
    for source, key, value in entries:
        if key not in leaves:
            problems.append(f"{source}: {_unknown(key, leaves, own)}")
            continue
        setting = _settings.get(key)
        default = setting.default if setting else leaves[key]
        try:
            value = with_home(value)
            value = setting.read(value) if setting and setting.read else value
            merged[key] = coerce(value, default, setting.also if setting else ())
            sources[key] = source
        except TypeError as error:
            problems.append(f"{source}: {key} = {show(value)}: {error}")
    _apply_method(merged, sources, leaves, problems)
    problems += [f"{sources[key]}: {text}" for key, value in merged.items() if (text := _forbidden(key, value))]
    _raise(problems)
    for key, value in merged.items():
        _set(cfg, key, value)


def _set(cfg, key, value):
    *groups, leaf = key.split(".")
    node = cfg
    for group in groups:
        node = node[group]
    node[leaf] = value


def _apply_method(merged, sources, leaves, problems):
    """Replace the name of a method (`dassl.utils.methods`) in `merged` by its trainer and settings.

    Args:
        merged: {dotted key: value} of the given settings. A given value that contradicts the method is a problem.
        sources: {dotted key: source of its value in `merged`}.
        leaves: {dotted key: value} of all settings.
        problems: list to which messages are appended.
    """
    name = merged.get(NAME)
    row = {} if name in TRAINER_REGISTRY else methods().get(name, {})
    if row.get(NAME) not in TRAINER_REGISTRY or not row.keys() <= leaves.keys():
        return
    for key, value in row.items():
        if key != NAME and merged.get(key, value) != value:
            problems.append(
                f"{sources[key]}: {key} = {show(merged[key])}: the method {name} has {show(value)} by definition "
                f"({sources[NAME]}: {NAME} {name}); leave one of the two out"
            )
        merged[key] = value
        sources.setdefault(key, sources[NAME])


def settle_method(cfg):
    """If cfg.TRAINER.NAME is the name of a method, e.g. SoftCPT-NATA, set its trainer and its settings.

    Raises:
        ConfigError: a changed setting contradicts the method.
    """
    leaves, problems = flatten(cfg), []
    changed = {key: leaves[key] for key in leaves if key in _settings and leaves[key] != _settings[key].default}
    before = dict(changed)
    _apply_method(changed, dict.fromkeys(changed, "the configuration"), leaves, problems)
    _raise(problems)
    if changed != before:
        frozen = cfg.is_frozen()
        cfg.defrost()
        for key, value in changed.items():
            _set(cfg, key, value)
        if frozen:
            cfg.freeze()


def _pairs(opts, opts_from, problems):
    """Yield (key, value) of [KEY, VALUE, KEY, VALUE, ...]; append a problem for everything else."""
    words = iter(opts)
    for key in words:
        key, equals, value = str(key).partition("=")
        form = "settings are given as KEY VALUE pairs"
        if equals:
            problems.append(f"{opts_from}: {show(f'{key}={value}')}: {form}, expected {show(key)} {show(value)}")
            continue
        missing = object()
        if (value := next(words, missing)) is missing:
            problems.append(f"{opts_from}: {show(key)} has no value; {form}")
            return
        yield key, value


def nearest_setting(word, cfg):
    """The key of `cfg` that `word` was most likely meant to be ("LR", "shots"), or None."""
    keys = sorted(flatten(cfg), key=lambda key: "TRAIN_X" not in key)  # --batch-size: of training
    general = [
        key for key in keys if not key.startswith("TRAINER.") or key.count(".") == 1
    ]  # --epochs: of every method
    general = [key for key in general if ".VAL_" not in key]  # --shots: of training
    return ("." not in word and nearest_key(word, general)) or nearest_key(word, keys)


def check(cfg):
    """Check the type and the allowed values of every declared setting in `cfg`, and the settings against each other.

    Raises:
        ConfigError: one message with all problems.
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
    _raise([problem for find in _contradictions for problem in find(cfg)])


def clean_cfg(cfg, trainer):
    """Remove the settings of all methods but `trainer` from cfg.TRAINER, so that a printed `cfg` is shorter."""
    section = getattr(TRAINER_REGISTRY.get(trainer), "section", "") if trainer in TRAINER_REGISTRY else ""
    own = {trainer.upper(), *((section, "ZSCLIP") if section else ())}  # hand-made prompts serve many methods
    for name in [name for name, value in cfg.TRAINER.items() if isinstance(value, CfgNode) and name not in own]:
        del cfg.TRAINER[name]


def _method_group(values):
    """Group of the settings of the method that TRAINER.NAME names, e.g. "TRAINER.COOP"; "" if it is unknown."""
    name = str(values[NAME])
    name = name if name in TRAINER_REGISTRY else methods().get(name, {}).get(NAME, name)
    section = getattr(TRAINER_REGISTRY.get(name), "section", "") if name in TRAINER_REGISTRY else ""
    return section and f"TRAINER.{section}"


def _unknown(key, leaves, own):
    """Message for a key that is not in `leaves`."""
    known = [leaf for leaf in leaves if ".VAL_" not in leaf or "VAL" in key.upper()]  # DATASET.SHOTS: of training
    if near := nearest_key(key, known, own):
        return f"{key}: no such setting; did you mean {near}?"
    group = key.rpartition(".")[0] + "."
    beside = sorted(leaf.removeprefix(group) for leaf in leaves if leaf.startswith(group)) if group != "." else []
    hint = f"{group[:-1]} has {', '.join(beside)}" if beside else "see config.yaml of any run for all keys"
    return f"{key}: no such setting; {hint}"


def _forbidden(key, value):
    """Message for a value that is not allowed; "" for an allowed value."""
    setting = _settings.get(key)
    if setting is None or setting.rule is None or setting.rule(value):
        return ""
    choices = [choice for choice in setting.rule.choices if isinstance(choice, str)]
    words = value if isinstance(value, (list, tuple)) else [value]
    words = [word for word in words if isinstance(word, str) and word not in choices]
    hint = did_you_mean(words[0], choices) if words else ""
    return f"{key} = {show(value)}: expected {setting.rule.text}{hint}"


def _raise(problems):
    if len(problems) == 1:
        raise ConfigError(f"a problem in the configuration: {problems[0]}")
    if problems:
        raise ConfigError("\n  ".join([f"{len(problems)} problems in the configuration:", *problems]))
