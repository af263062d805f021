"""What `python -m datasets.check` costs without --deep: nothing for each image but its name in a listing."""

import builtins
import os
import random
import tracemalloc
from pathlib import Path

import pytest

from datasets import verify
from tests.datasets import layouts
from tests.datasets.checking import checked, field


def counting(calls, name, real):
    def counted(*args, **kwargs):
        calls[name] += 1
        return real(*args, **kwargs)

    return counted


def test_no_file_is_looked_at_for_being_in_a_list(tmp_path, capsys, monkeypatch):
    """As many looks at single files and as many listings for 400 images as for 4,000."""

    def costs(images):
        root = tmp_path / str(images)
        layouts.make("EuroSAT", root, images=images)
        calls = dict.fromkeys(("stat", "lstat", "open", "listdir", "scandir"), 0)
        with monkeypatch.context() as patch:
            for name in calls:
                module = builtins if name == "open" else os
                patch.setattr(module, name, counting(calls, name, getattr(module, name)))
            assert checked(capsys, "EuroSAT", "--root", root)[0] == 0
        return calls

    few, many = costs(40), costs(400)
    assert few == many
    assert many["open"] <= 40 and many["stat"] + many["lstat"] <= 60


@pytest.fixture
def many_images(tmp_path, monkeypatch):
    """call(images): a EuroSAT whose folders seem to hold that many; returns the paths that are opened as images."""
    layouts.make("EuroSAT", tmp_path, images=2)
    listdir, looked = os.listdir, []
    monkeypatch.setattr(verify, "not_a_download", lambda path: looked.append(path) or "")

    def call(images):
        names = [f"{random.Random(i).getrandbits(64):016x}.jpg" for i in range(images // 10)]

        def synthetic(path="."):
            return list(names) if Path(path).parent.name == "2750" else listdir(path)

        monkeypatch.setattr(os, "listdir", synthetic)
        return looked

    return call


def test_a_hundred_thousand_images(tmp_path, capsys, many_images):
    looked = many_images(100_000)
    status, text = checked(capsys, "EuroSAT", "--root", tmp_path)
    assert status == 0
    assert field(text, "images") == ["train 50,000, val 20,000, test 30,000"]
    assert len(looked) == 24


def test_memory_for_an_image_is_bounded(tmp_path, capsys, many_images):
    many_images(20_000)
    tracemalloc.start()
    assert checked(capsys, "EuroSAT", "--root", tmp_path)[0] == 0
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak / 20_000 < 1000


def test_a_run_looks_at_no_more_than_the_check(tmp_path, monkeypatch):
    from dassl.data.datasets import build_dataset
    from tests.datasets.settings import config

    layouts.make("EuroSAT", tmp_path, images=100)
    build_dataset(config("EuroSAT", tmp_path))  # the split is made and saved
    calls = dict.fromkeys(("stat", "open"), 0)
    for name in calls:
        module = builtins if name == "open" else os
        monkeypatch.setattr(module, name, counting(calls, name, getattr(module, name)))
    assert len(build_dataset(config("EuroSAT", tmp_path)).test) == 300
    assert calls["open"] <= 40 and calls["stat"] <= 60
