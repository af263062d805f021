"""Small tools of the engine: registry, log, files, checkpoints, meters, random states, errors."""

from dassl.utils.errors import ConfigError, NonFiniteLossError, UnknownNameError, UserError, counted, is_user_error
from dassl.utils.logger import Logger, close_logger, log_only, setup_logger
from dassl.utils.names import found_in
from dassl.utils.registry import Registry, check_availability

# Looked up on first use: tools and meters import PyTorch, which errors and logs do not need, and the others are in
# rooms that import this package.
NAMES = {
    "dassl.utils.tools": "tools atomic_write check_isfile collect_env_info count_num_param download_url get_rng_state "
    "git_commit listdir_nohidden mkdir_if_missing open_file peak_memory_bytes preserved_rng read_json set_random_seed "
    "set_rng_state tolist_if_not versions write_json",
    "dassl.utils.meters": "meters AverageMeter MetricMeter",
    "dassl.utils.torchtools": "init_network_weights open_all_layers open_specified_layers",
    "dassl.runs.checkpoint_file": "load_checkpoint load_pretrained_weights resume_from_checkpoint save_checkpoint",
    "dassl.data.images": "read_image",
}
__getattr__ = found_in(__name__, NAMES)
