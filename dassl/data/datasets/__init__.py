"""Datasets: the registry, the base classes, and one labelled image."""

from .base_dataset import DatasetBase, DatasetBaseMT, Datum, DatumMT
from .build import DATASET_REGISTRY, build_dataset
