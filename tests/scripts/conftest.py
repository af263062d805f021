import pytest

from tests.scripts.clone import Clone


@pytest.fixture
def clone(tmp_path):
    return Clone(tmp_path)
