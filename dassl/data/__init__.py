"""Data: tasks, datasets, images, transforms, samplers, loaders."""

from .data_manager import DataManager, DatasetWrapper
