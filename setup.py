"""What is installed: the package softcpt and, as its parts, the packages beside it. The rest is in pyproject.toml.

The parts are softcpt.dassl, softcpt.datasets, ... and not `dassl`, `datasets`, ..., names that other packages have, too
(softcpt/rooms.py). The configurations are part of it, because the names of methods are read there.
"""

import runpy
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
ROOMS = runpy.run_path(str(HERE / "softcpt/rooms.py"), run_name="softcpt.rooms")["ROOMS"]
DATA = ("yaml", "csv", "json", "zip", "safetensors", "j2", "css", "js")
FOLDERS = {f"softcpt.{room}": room for room in (*ROOMS, "configs")}
INSIDE = [f"softcpt.{room}.{name}" for room in ROOMS for name in find_packages(str(HERE / room))]

setup(
    packages=["softcpt", *FOLDERS, *INSIDE],
    package_dir={"softcpt": "softcpt", **FOLDERS},
    package_data={"": ["NOTICE", *(f"**/*.{end}" for end in DATA)]},
)
