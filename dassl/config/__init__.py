"""Configuration: packages declare their settings, `get_cfg_default` collects them, `load` merges files and options."""

from dassl.config.compare import RESULT_NEUTRAL_KEYS, config_hash, differences, overrides
from dassl.config.files import parse_yaml, read_settings, read_yaml
from dassl.config.rules import TEXTS, Rule, above, at_least, between, each, is_number, one_of
from dassl.config.tree import (
    check,
    clean_cfg,
    declare,
    declare_contradictions,
    get_cfg_default,
    load,
    nearest_setting,
    settings,
    settle_method,
)
from dassl.utils.errors import ConfigError
from dassl.utils.methods import method_name, methods
