"""The methods, one file each. Importing this package registers all of them and declares their settings."""

from . import cocoop, coop, kgcoop, linear_probe, mtcoop, mtcoop_hard, plot, prograd, protonet, zsclip

__all__ = ["cocoop", "coop", "kgcoop", "linear_probe", "mtcoop", "mtcoop_hard", "plot", "prograd", "protonet", "zsclip"]
