"""The methods, one file each. Importing this package registers all of them and declares their settings."""

from . import mtcoop, mtcoop_hard, zsclip

__all__ = ["mtcoop", "mtcoop_hard", "zsclip"]
