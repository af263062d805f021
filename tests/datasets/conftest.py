import os
import shutil
import tempfile
from pathlib import Path

import pytest

from tests.datasets import layouts


@pytest.fixture(scope="session")
def quick_folder(tmp_path_factory):
    """quick_folder(name): an empty folder, in memory where that is possible: there are ten thousand files to write."""
    memory, made = Path("/dev/shm"), []

    def make(name):
        roomy = os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 1 << 29
        path = Path(tempfile.mkdtemp(prefix=name, dir=memory)) if roomy else tmp_path_factory.mktemp(name)
        made.append(path)
        return path

    yield make
    for path in made:
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def data_root(quick_folder):
    """A data root with every registered dataset; tests add nothing but the splits made."""
    return layouts.make_everything(quick_folder("data"))
