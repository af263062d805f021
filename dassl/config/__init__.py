"""Configuration: every room declares its settings, `get_cfg_default` gathers them, `load` merges files and options."""

from dassl.config.tree import (
    ConfigError,
    Rule,
    at_least,
    between,
    check,
    config_hash,
    declare,
    differences,
    get_cfg_default,
    load,
    one_of,
    settings,
)

__all__ = [
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
    "settings",
]
