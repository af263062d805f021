"""Settings of a run, and the building of its trainer."""

from contextvars import ContextVar

from dassl.config import ConfigError, at_least, declare, method_name, methods, one_of, read_settings, settle_method
from dassl.utils.registry import TRAINER_REGISTRY

TASKS = ContextVar("TASKS", default=None)  # the TaskSpace of build_trainer, for trainers whose __init__ takes cfg only
DEVICE = ContextVar("DEVICE", default=None)  # torch.device in place of the one that USE_CUDA chooses

declare("VERSION", 1, help="version of the settings")
declare("OUTPUT_DIR", "./output/run", help="output folder of the run")
declare("RESUME", "", help="folder of an unfinished run to resume; an unfinished run in OUTPUT_DIR resumes without it")
declare("SEED", -1, help="seed of the run (64 bits); if negative, a seed is drawn and recorded")
declare("USE_CUDA", True, help="use a GPU if there is one")
declare("VERBOSE", True, help="print a summary of the data")
declare("MODEL.INIT_WEIGHTS", "", help="checkpoint with the initial values of the learnable module")
# clip/ declares this key too, with the same default; here it serves trainers with a backbone of their own and no clip
declare(
    "MODEL.BACKBONE.NAME",
    "RN50",
    help="a name that `python -m clip.backbones` lists, hf-hub:ORG/REPOSITORY, local-dir:FOLDER, or a file",
)
declare(
    "TRAIN.CHECKPOINT_FREQ",
    10,
    allowed=at_least(-1),
    help="epochs between checkpoints; -1, 0: after the last epoch only",
)
declare(
    "TRAIN.CHECKPOINT_KEEP",
    -1,
    allowed=at_least(-1),
    help="how many of the newest checkpoints are kept; 0: all; -1: all if CHECKPOINT_FREQ is not 10, else the newest",
)
declare("TRAIN.PRINT_FREQ", 10, allowed=at_least(1), help="batches between training lines")
declare("TRAIN.TENSORBOARD", True, help="write scalars to OUTPUT_DIR/tensorboard")
declare(
    "TRAINER.NAME",
    "",
    allowed=one_of(lambda: {*TRAINER_REGISTRY.registered_names(), *methods()}, extra=("",)),
    help="trainer, or a method of configs/methods.yaml, which means a trainer and settings",
)


def method_of(cfg):
    """The trainer class of `cfg`. A registered class with a method `chosen(cfg)` gives another one for its settings."""
    method = TRAINER_REGISTRY.get(cfg.TRAINER.NAME)
    return method.chosen(cfg) if hasattr(method, "chosen") else method


def ignored_settings(cfg):
    """Prefixes of the settings that the method of `cfg` does not read, so they cannot affect its results.

    They are the sections of other methods and the class attribute `ignored_settings` of the method: prefixes, or a
    function of cfg that returns them. The section of
    hand-made prompts (ZSCLIP) is never included, because every method may start from them or be compared with them. A
    method written for Dassl has no attribute `section`; nothing is known about its settings, and the result is ().
    """
    if cfg.TRAINER.NAME not in TRAINER_REGISTRY:
        return ()
    method = method_of(cfg)
    if not getattr(method, "section", ""):
        return ()
    own = {getattr(kind, "section", "") for kind in method.__mro__} | {"ZSCLIP"}
    groups = [name for name, value in cfg.TRAINER.items() if isinstance(value, dict)]
    more = getattr(method, "ignored_settings", ())
    return (*(f"TRAINER.{name}." for name in groups if name not in own), *(more(cfg) if callable(more) else more))


def warn_of_unused(cfg, opts):
    """Print a warning about settings of other methods in `opts` ([KEY, VALUE, ...])."""
    section = getattr(method_of(cfg), "section", "")
    groups = tuple(group for group in ignored_settings(cfg) if group.startswith("TRAINER.") and group.endswith("."))
    unused = [key for key in dict.fromkeys(opts[::2]) if key.startswith(groups)]
    if unused:
        print(
            f"WARNING: {method_name(cfg)} does not read {', '.join(unused)}; its own settings are TRAINER.{section}.*, "
            "see docs/settings.md"
        )


def refuse_other_method(cfg, file):
    """Refuse a configuration file of another method, which would leave the method of `cfg` with its defaults.

    A file with settings of the current method, such as the config.yaml of a run, may also contain those of others.

    Raises:
        ConfigError: `file` has settings of other methods only. If the method of `cfg` learns nothing, a warning.
    """
    groups = tuple(group for group in ignored_settings(cfg) if group.startswith("TRAINER."))
    if not groups or not file:
        return
    keys = [key for _, key, _ in read_settings(file, cfg, []) if key.startswith("TRAINER.") and key.count(".") > 1]
    foreign = dict.fromkeys(key.split(".")[1] for key in keys if key.startswith(groups))
    if foreign and all(key.startswith((*groups, "TRAINER.ZSCLIP.")) for key in keys):
        method, name = TRAINER_REGISTRY.get(cfg.TRAINER.NAME), cfg.TRAINER.NAME
        text = (
            f"{file} has settings of another method (TRAINER.{', TRAINER.'.join(foreign)}), and the method is "
            f"{method_name(cfg)}, which reads TRAINER.{method.section}; give a --config-file of "
            f"configs/trainers/{name}, or another --trainer"
        )
        if method.learns:
            raise ConfigError(text)
        print(f"WARNING: {text}")  # CoOp's command for zero-shot CLIP names a file of CoOp


def build_trainer(cfg, space=None):
    """Build the trainer cfg.TRAINER.NAME with `cfg`. With a TaskSpace `space`, no data is needed.

    If the name is one of a method, such as SoftCPT-NATA, its trainer and settings are set in `cfg` first.
    """
    settle_method(cfg)
    method = method_of(cfg)
    token = TASKS.set(space)
    try:
        return method(cfg)
    finally:
        TASKS.reset(token)
