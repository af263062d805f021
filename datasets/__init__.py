"""Datasets and suites. Importing this package registers all of them in `DATASET_REGISTRY`."""

from dassl import program  # isort: skip

if program.runs(__name__):  # before the slow imports
    program.begin()

from datasets.dataset import register_all
from datasets.suites import SOURCES, SUITES


def _explained(error):
    from datasets.explain import explained

    return explained(error)


program.explained = _explained
globals().update(register_all())  # so that `from datasets import OxfordPets` works

__all__ = ["SOURCES", "SUITES"]
