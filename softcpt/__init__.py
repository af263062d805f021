"""Trained classifiers in use: `load` a finished run and classify images with it (docs/use.md).

>>> from softcpt import load
>>> model = load("output/runs/photos")
>>> model.classify("new/", topk=3)

Importing this package is cheap: PyTorch and all else is imported by the first access to one of its names.
"""

from importlib import import_module

from softcpt.rooms import open_rooms

open_rooms()
NAMES = ("Classifier", "Prediction", "UserError", "load")
__all__ = [*NAMES]


def __getattr__(name):
    if name not in NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("softcpt.model"), name)


def __dir__():
    return sorted({*globals(), *NAMES})
