"""Configuration: packages declare their settings, `get_cfg_default` collects them, `load` merges files and options."""

from dassl.config.files import parse_yaml, read_settings, read_yaml
from dassl.config.rules import Rule, at_least, between, one_of
from dassl.config.tree import (
    RESULT_NEUTRAL_KEYS,
    check,
    config_hash,
    declare,
    differences,
    get_cfg_default,
    load,
    settings,
)
from dassl.utils.errors import ConfigError

__all__ = [
    "RESULT_NEUTRAL_KEYS",
    "ConfigError",
    "Rule",
    "at_least",
    "between",
    "check",
    "config_hash",
    "declare",
    "differences",
    "get_cfg_default",
    "load",
    "one_of",
    "parse_yaml",
    "read_settings",
    "read_yaml",
    "settings",
]
