"""Datasets and suites. Importing this package registers all of them in `DATASET_REGISTRY`."""

from datasets.suites import SOURCES, SUITES, register_all

globals().update(register_all())  # so that `from datasets import OxfordPets` works

__all__ = ["SOURCES", "SUITES"]
