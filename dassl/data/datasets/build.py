"""The registry of datasets."""

from dassl.utils import Registry, UserError

DATASET_REGISTRY = Registry("DATASET")


def build_dataset(cfg):
    """Build the dataset cfg.DATASET.NAME. Its class is called with cfg.

    Raises:
        UserError: no dataset has this name (the text gives the nearest one), or no name is set.
    """
    if not cfg.DATASET.NAME:
        raise UserError(
            "no dataset is given: set DATASET.NAME (with DATASET.TASKS it is Suite), or give --dataset-config-file"
        )
    return DATASET_REGISTRY.get(cfg.DATASET.NAME)(cfg)
