"""Every published configuration file keeps its name and its settings, whatever files it is built from."""

import json
from pathlib import Path

import pytest

import datasets  # noqa: F401  declares settings
import trainers  # noqa: F401  declares settings
from dassl.config import get_cfg_default, load
from dassl.config.tree import flatten

REPO = Path(__file__).resolve().parents[2]
# "defaults": {key: value}; then one line per file of configs/, without folder and ending: {key: value} that it sets
PUBLISHED = json.loads(Path(__file__).with_name("resolved.json").read_text(encoding="utf-8"))
DEFAULTS = PUBLISHED.pop("defaults")


def plain(values):
    return json.loads(json.dumps(values))  # tuples become lists


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_file_gives_the_published_settings(name):
    cfg = get_cfg_default()
    load(cfg, [REPO / "configs" / f"{name}.yaml"])
    found = flatten(cfg)
    expected = {**DEFAULTS, **PUBLISHED[name]}
    assert plain({key: found.get(key) for key in expected}) == expected
