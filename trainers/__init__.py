"""The methods, one file each. Importing this package registers all of them and declares their settings."""

from . import cocoop, coop, kgcoop, mtcoop, mtcoop_hard, zsclip

__all__ = ["cocoop", "coop", "kgcoop", "mtcoop", "mtcoop_hard", "zsclip"]
