"""A config with only what a test sets."""

from dassl.config import get_cfg_default


def config(name, root="", seed=1, **dataset):
    """Defaults, with DATASET.NAME, DATASET.ROOT, SEED, and further keys of DATASET."""
    cfg = get_cfg_default()
    cfg.SEED = seed
    cfg.DATASET.NAME = name
    cfg.DATASET.ROOT = str(root)
    for key, value in dataset.items():
        cfg.DATASET[key] = value
    return cfg
