"""How configurations differ, and which settings decide the numbers of a run."""

import hashlib
import json

from dassl.config.files import read_yaml
from dassl.config.tree import flatten, get_cfg_default, load, settings
from dassl.utils.errors import ConfigError
from dassl.utils.methods import NAME, implied
from dassl.utils.tools import with_home

# Settings that do not change the results of a run: folders, workers, printing and caches.
RESULT_NEUTRAL_KEYS = ("OUTPUT_DIR", "RESUME", "VERBOSE", "DATASET.ROOT")
RESULT_NEUTRAL_KEYS += ("DATALOADER.OLD_DATA_PATH", "DATALOADER.NEW_DATA_PATH", "DATALOADER.NUM_WORKERS")
RESULT_NEUTRAL_KEYS += ("TRAIN.PRINT_FREQ", "TRAIN.CHECKPOINT_FREQ", "TRAIN.CHECKPOINT_KEEP")
RESULT_NEUTRAL_KEYS += ("DATALOADER.FEATURE_CACHE", "DATALOADER.FEATURE_CACHE_DIR", "DATALOADER.FEATURE_CACHE_GB")
RESULT_NEUTRAL_KEYS += ("DATALOADER.FEATURE_BANK",)  # equal up to rounding
RESULT_NEUTRAL_KEYS += ("TRAIN.TENSORBOARD", "TEST.PER_TASK_RESULT", "TEST.PER_CLASS_RESULT", "TEST.ZERO_SHOT_CHECK")
RESULT_NEUTRAL_KEYS += ("TEST.PREDICTIONS", "TRAIN.WANDB")
# Settings that results.json has under names of their own, and that tables show.
SHOWN_KEYS = (NAME, "SEED", "DATASET.NUM_SHOTS", "DATASET.SUBSAMPLE_TASKS", "DATASET.SUBSAMPLE_CLASSES", "TEST.SPLIT")


def overrides(cfg, files, ignored=()):
    """The settings in which `cfg` differs from its configuration files, without those that are shown anyway.

    Args:
        cfg: configuration.
        files: paths of the configuration files that it was built from; empty paths are ignored.
        ignored: prefixes of settings that the method does not read.

    Returns:
        {dotted key: value}. Left out are RESULT_NEUTRAL_KEYS, seed, shots, the choice of tasks and classes, and
        the settings that the name of the method says.
    """
    base = get_cfg_default()
    load(base, files)
    base, leaves = flatten(base), flatten(cfg)
    shown = {*RESULT_NEUTRAL_KEYS, *SHOWN_KEYS, *implied(cfg)}
    return {
        key: value
        for key, value in leaves.items()
        if key not in shown and not key.startswith(tuple(ignored)) and base.get(key) != value
    }


def config_hash(cfg):
    """Return the SHA-256 (hex) of all settings except RESULT_NEUTRAL_KEYS."""
    leaves = {key: value for key, value in flatten(cfg).items() if key not in RESULT_NEUTRAL_KEYS}
    return hashlib.sha256(_canonical(leaves).encode()).hexdigest()


def _canonical(value):
    """`value` as JSON, equal for equal settings: the order of the keys of a mapping means nothing."""
    try:
        return json.dumps(value, sort_keys=True, default=str)
    except TypeError:  # keys of several types, or of types that JSON does not have, as dates
        return json.dumps(_with_text_keys(value), sort_keys=True, default=str)


def _with_text_keys(value):
    if isinstance(value, dict):
        return {str(key): _with_text_keys(inner) for key, inner in value.items()}
    return [_with_text_keys(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def differences(cfg, file, ignored=()):
    """Return the settings that differ between a run's config.yaml and `cfg`, without RESULT_NEUTRAL_KEYS.

    Args:
        cfg: configuration.
        file: path of the config.yaml. A setting that it lacks (it was added later) counts as the default.
        ignored: keys that begin with one of these texts are ignored, too.

    Returns:
        [(key, value in the file, value in `cfg`)], sorted by key.

    Raises:
        ConfigError: the file does not hold settings.
    """
    recorded = read_yaml(file) or {}
    if not isinstance(recorded, dict):
        raise ConfigError(f"{file}: expected the settings of a run, found {type(recorded).__name__}")
    old, new, known = flatten(with_home(recorded), group=dict), flatten(cfg), settings()
    found = []
    for key in sorted(old.keys() | new.keys()):
        default = known[key].default if key in known else "(not set)"
        a, b = old.get(key, default), new.get(key, default)
        neutral = key in RESULT_NEUTRAL_KEYS or key.startswith(tuple(ignored))
        if not neutral and _canonical(a) != _canonical(b):
            found.append((key, a, b))
    return found
