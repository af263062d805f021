"""Packages of requirements.txt that are missing: one line says which, and what installs them. Standard library only."""

import os
import re
import sys
from importlib.util import find_spec

FILE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "requirements.txt")
MODULES = {"open_clip_torch": "open_clip", "pillow": "PIL", "scikit-learn": "sklearn"}  # not called like their package
FOR_TESTS = ("pytest", "pytest-xdist", "ruff")


class MissingPackages(ImportError):
    """Packages this project needs are not installed."""


def missing(file=FILE):
    """Names of the packages of a requirements file that the running interpreter cannot import."""
    with open(file, encoding="utf-8") as stream:
        names = [re.match(r"[\w.-]*", line)[0] for line in stream]
    return [name for name in names if name and name not in FOR_TESTS and find_spec(MODULES.get(name, name)) is None]


def require(file=FILE):
    """To be called before any of them is imported.

    Raises:
        MissingPackages: some are missing. A program that does not catch it ends with this one line and status 2.
    """
    names = missing(file) if os.path.isfile(file) else []
    if not names:
        return
    usual = sys.excepthook

    def hook(kind, error, trace):
        if kind is not MissingPackages:
            return usual(kind, error, trace)
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)

    sys.excepthook = hook
    here = os.path.relpath(file) if os.path.dirname(file) == os.getcwd() else file
    raise MissingPackages(
        f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} not installed in {sys.executable}; to install: "
        f"{sys.executable} -m pip install -r {here} (or sh scripts/install.sh, which makes .venv)"
    )
