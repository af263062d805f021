"""Every test session has a feature cache of its own: nothing of the user's is read, nothing is left behind."""

import pytest

import dassl  # noqa: F401  before torch: it keeps the threads of several test runs from slowing each other down


@pytest.fixture(scope="session", autouse=True)
def own_feature_cache(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setenv("SOFTCPT_CACHE", str(tmp_path_factory.mktemp("cache")))
    yield
    patch.undo()
