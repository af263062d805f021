"""Data: tasks, datasets, images, transforms, samplers, loaders."""

from . import settings
from .data_manager import DataManager, DatasetWrapper
