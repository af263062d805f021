import pytest

import datasets  # noqa: F401  registered before tests that put the registries back
import trainers  # noqa: F401
from tests.scripts.project import Clone, Project


@pytest.fixture
def project(tmp_path, monkeypatch):
    return Project(tmp_path, monkeypatch)


@pytest.fixture
def clone(tmp_path):
    return Clone(tmp_path)
