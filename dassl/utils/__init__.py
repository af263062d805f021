"""Small tools of the engine: registry, log, files, checkpoints, meters, seeds, errors."""

from dassl.utils.checkpoints import (
    count_num_param,
    load_checkpoint,
    load_pretrained_weights,
    resume_from_checkpoint,
    save_checkpoint,
)
from dassl.utils.errors import ConfigError, NonFiniteLossError, UnknownNameError, UserError, is_user_error
from dassl.utils.files import atomic_write, check_isfile, listdir_nohidden, mkdir_if_missing, read_json, write_json
from dassl.utils.logger import Logger, close_logger, log_only, setup_logger
from dassl.utils.meters import AverageMeter, MetricMeter
from dassl.utils.registry import Registry, check_availability
from dassl.utils.seeds import get_rng_state, preserved_rng, set_random_seed, set_rng_state
from dassl.utils.system import collect_env_info, git_commit, peak_memory_bytes, versions
from dassl.utils.texts import counted

__all__ = [
    "AverageMeter",
    "ConfigError",
    "Logger",
    "MetricMeter",
    "NonFiniteLossError",
    "Registry",
    "UnknownNameError",
    "UserError",
    "atomic_write",
    "check_availability",
    "check_isfile",
    "close_logger",
    "collect_env_info",
    "count_num_param",
    "counted",
    "get_rng_state",
    "git_commit",
    "is_user_error",
    "listdir_nohidden",
    "load_checkpoint",
    "load_pretrained_weights",
    "log_only",
    "mkdir_if_missing",
    "peak_memory_bytes",
    "preserved_rng",
    "read_image",
    "read_json",
    "resume_from_checkpoint",
    "save_checkpoint",
    "set_random_seed",
    "set_rng_state",
    "setup_logger",
    "versions",
    "write_json",
]


def __getattr__(name):
    # read_image lives with the data code, which itself imports this package: looked up when it is first asked for.
    if name == "read_image":
        from dassl.data.images import read_image

        return read_image
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
