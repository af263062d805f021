"""The methods, one file each. Importing this package registers all of them and declares their settings."""

from . import (
    cocoop,
    coop,
    kgcoop,
    linear_probe,
    mtcoop,
    mtcoop_hard,
    mtupt,
    plot,
    prograd,
    protonet,
    upt,
    vpt,
    zsclip,
)

__all__ = [
    "cocoop",
    "coop",
    "kgcoop",
    "linear_probe",
    "mtcoop",
    "mtcoop_hard",
    "mtupt",
    "plot",
    "prograd",
    "protonet",
    "upt",
    "vpt",
    "zsclip",
]
