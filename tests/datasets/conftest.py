import shutil

import pytest

from tests.datasets import layouts


@pytest.fixture(scope="session")
def data_root(tmp_path_factory):
    """A data root with all of General-10, Plant-6 and Fashion-20; tests add nothing but the splits made."""
    root = tmp_path_factory.mktemp("data")
    layouts.make_general10(root)
    layouts.make_plant6(root)
    layouts.make_fashion20(root)
    yield root
    shutil.rmtree(root)  # thousands of files, which pytest would keep for three more runs
