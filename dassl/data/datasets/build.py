"""The registry of datasets."""

from __future__ import annotations

from difflib import get_close_matches

from dassl.utils import Registry, UserError

DATASET_REGISTRY = Registry("DATASET")


def build_dataset(cfg):
    """Build the dataset cfg.DATASET.NAME; its class is called with cfg.

    Raises:
        UserError: no dataset of that name is registered (the nearest registered name is given).
    """
    name = cfg.DATASET.NAME
    known = sorted(DATASET_REGISTRY.registered_names())
    if name not in known:
        if not name:
            hint = "set DATASET.NAME, or give --dataset-config-file"
            hint = "beside DATASET.TASKS it is Suite" if getattr(cfg.DATASET, "TASKS", None) else hint
        else:
            lower = {k.lower(): k for k in known}
            near = get_close_matches(name.lower(), lower, n=1, cutoff=0.5)
            hint = f"did you mean {lower[near[0]]}? " if near else ""
            hint += f"registered: {', '.join(known) or 'none'}"
        raise UserError(f"DATASET.NAME {name!r} is not a registered dataset; {hint}")
    return DATASET_REGISTRY.get(name)(cfg)
