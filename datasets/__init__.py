"""Datasets and suites. Importing this package registers all of them in `DATASET_REGISTRY`."""

from datasets.dataset import register_all
from datasets.suites import SOURCES, SUITES

globals().update(register_all())  # so that `from datasets import OxfordPets` works

__all__ = ["SOURCES", "SUITES"]
