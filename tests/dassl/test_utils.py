"""Registry, log, files, meters, random states, errors."""

import errno
import os
import random
import sys

import numpy as np
import pytest
import torch
from torch import nn

from dassl import utils
from dassl.utils.errors import describe, is_user_error
from dassl.utils.tools import with_home, without_home


@pytest.fixture(autouse=True)
def console():
    yield
    utils.close_logger()


def test_registry():
    registry = utils.Registry("THING")

    @registry.register()
    class Lamp:
        pass

    assert registry.get("Lamp") is Lamp and registry.registered_names() == ["Lamp"] and "Lamp" in registry
    with pytest.raises(KeyError, match="already registered"):
        registry.register(Lamp)
    registry.register(Lamp, force=True)
    for kind in (KeyError, ValueError):  # Dassl's, and the one of user errors
        with pytest.raises(kind) as caught:
            registry.get("Lmap")
        assert str(caught.value) == "no such thing: 'Lmap', did you mean Lamp? Available: Lamp"
    with pytest.raises(ValueError, match="did you mean a"):
        utils.check_availability("aa", ["a", "b"])
    utils.check_availability("a", ["a", "b"])


def test_log_goes_to_console_and_file(tmp_path, capsys):
    utils.setup_logger(str(tmp_path))
    print("first")
    utils.setup_logger(str(tmp_path), append=True)  # no second copy of each line
    print("second")
    utils.log_only("quiet")
    assert (tmp_path / "log.txt").read_text() == "first\nsecond\nquiet\n"
    utils.close_logger()
    print("third")
    assert not isinstance(sys.stdout, utils.Logger)
    assert capsys.readouterr().out == "first\nsecond\nthird\n"
    utils.setup_logger(str(tmp_path))  # an old log is kept
    print("fourth")
    assert len(list(tmp_path.glob("log.txt-*"))) == 1
    assert "fourth" not in (tmp_path / "log.txt").read_text()
    utils.setup_logger(str(tmp_path / "own.log"))
    assert (tmp_path / "own.log").exists()


def test_atomic_write(tmp_path):
    path = tmp_path / "a.txt"
    with utils.atomic_write(path) as stream:
        stream.write("old é")
        assert not path.exists()
    with pytest.raises(RuntimeError), utils.atomic_write(path) as stream:
        stream.write("new")
        raise RuntimeError
    assert path.read_text(encoding="utf-8") == "old é" and os.listdir(tmp_path) == ["a.txt"]
    assert path.stat().st_mode & 0o777 == 0o666 & ~_umask()
    with utils.atomic_write(path, "wb") as stream:
        stream.write(b"\0")
    assert path.read_bytes() == b"\0"


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_files(tmp_path):
    utils.mkdir_if_missing(tmp_path / "a" / "b")
    utils.mkdir_if_missing(tmp_path / "a" / "b")
    for name in ("z", ".hidden", "y"):
        (tmp_path / "a" / name).touch()
    assert utils.listdir_nohidden(tmp_path / "a", sort=True) == ["b", "y", "z"]
    assert utils.check_isfile(str(tmp_path / "a" / "z"))
    with pytest.warns(UserWarning, match="no file at"):
        assert not utils.check_isfile(str(tmp_path / "a" / "x"))
    utils.write_json({"é": [1, None]}, str(tmp_path / "new" / "x.json"))
    assert utils.read_json(str(tmp_path / "new" / "x.json")) == {"é": [1, None]}


def test_read_image_is_importable_from_here(tmp_path):
    from PIL import Image

    Image.new("L", (3, 2), 7).save(tmp_path / "a.png")
    from dassl.utils import read_image

    assert read_image(str(tmp_path / "a.png")).mode == "RGB"
    with pytest.raises(AttributeError):
        utils.no_such_name  # noqa: B018


def test_count_num_param():
    model = nn.Linear(3, 2)
    assert utils.count_num_param(model) == utils.count_num_param(params=model.parameters()) == 8
    assert utils.count_num_param(params=[{"params": [model.weight]}, {"params": [model.bias]}]) == 8


def test_meters():
    meter = utils.AverageMeter()
    meter.update(1.0)
    meter.update(torch.tensor(4.0), n=2)
    assert meter.val == 4.0 and meter.avg == 3.0 and meter.count == 3
    ema = utils.AverageMeter(ema=True)
    ema.update(1.0)
    ema.update(2.0)
    assert ema.avg == pytest.approx(1.1)
    metrics = utils.MetricMeter()
    metrics.update({"loss": 1.23456, "map": 61.24})
    metrics.update({"loss": 2.0, "map": 60.0})
    assert str(metrics) == "loss 2.0000 (1.6173) map 60.0 (60.6)"
    with pytest.raises(TypeError):
        metrics.update(3)


def draw():
    return random.random(), np.random.rand(), torch.rand(1).item()


def test_seeds_and_random_states(tmp_path):
    utils.set_random_seed(0)
    first = draw()
    assert draw() != first
    utils.set_random_seed(0)
    assert draw() == first
    np.random.randn()  # keeps a cached value, which is part of the state
    random.gauss(0, 1)
    torch.save({"rng": utils.get_rng_state()}, tmp_path / "rng.pth")
    expected = (np.random.randn(), random.gauss(0, 1), *draw())
    with utils.preserved_rng():
        utils.set_rng_state(torch.load(tmp_path / "rng.pth", weights_only=True)["rng"])
        assert (np.random.randn(), random.gauss(0, 1), *draw()) == expected
        after = draw()
    assert draw() == after  # because both paths ended in the same state


def test_environment():
    assert f"torch: {torch.__version__}" in utils.collect_env_info()
    assert utils.peak_memory_bytes() > 10**7


def test_errors_of_users_and_of_programs():
    def caught(function):
        try:
            function()
        except Exception as error:
            return is_user_error(error)

    assert caught(lambda: utils.load_checkpoint("")) and caught(lambda: utils.load_checkpoint("nowhere"))
    assert caught(lambda: utils.count_num_param())  # a plain ValueError this project raises
    assert not caught(lambda: int("x")) and not caught(lambda: torch.zeros(2, 3) @ torch.zeros(2, 3))
    assert not caught(lambda: np.zeros(3).reshape(2, 2)) and not caught(lambda: {}["x"])


NAMES = "ENOSPC EDQUOT EFBIG EROFS EIO ENAMETOOLONG ELOOP EMFILE ENOTDIR EACCES EPERM"


@pytest.mark.parametrize("name", NAMES.split())
def test_errors_of_the_system_are_one_line_that_names_the_path(name, tmp_path, monkeypatch):
    number = getattr(errno, name)

    def fails(_):
        raise OSError(number, os.strerror(number))  # without a path, as a failed write

    monkeypatch.setattr(os, "fsync", fails)
    (tmp_path / "a").write_text("old")
    with pytest.raises(OSError, match=".") as caught, utils.atomic_write(tmp_path / "a") as stream:
        stream.write("new")
    text = describe(caught.value)
    assert is_user_error(caught.value) and text.startswith(f"{tmp_path / 'a'}: {os.strerror(number)}; ")
    assert (tmp_path / "a").read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_other_texts_of_errors(tmp_path):
    def error_of(function):
        with pytest.raises(Exception, match="^") as caught:
            function()
        return caught.value

    os.symlink("loop", tmp_path / "loop")
    for path, text in (
        (tmp_path / "loop", "symbolic"),
        (tmp_path / ("x" * 300), "shorter name"),
        (tmp_path / "a\0b", "NUL"),
    ):
        error = error_of(path.read_text)
        assert is_user_error(error) and text in describe(error) and "Errno" not in describe(error)
    error = error_of(lambda: torch.save(torch.zeros(10**6), "/dev/full"))
    assert is_user_error(error) and "disk is full" in describe(error) and "\n" not in describe(error)
    assert not is_user_error(BrokenPipeError(errno.EPIPE, "x")) and not is_user_error(OSError("of a library"))
    for function in (lambda: torch.empty(10**15), lambda: np.empty(10**15), lambda: bytearray(10**15)):
        error = error_of(function)
        assert is_user_error(error) and "not enough memory" in describe(error) and "\n" not in describe(error)
    assert describe(ValueError("text")) == "text"


def test_the_home_folder_is_written_as_a_tilde(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ann")
    for text, expected in (
        ("/home/ann", "~"),
        ("see /home/ann/a and '/home/ann'.", "see ~/a and '~'."),
        ("--dir=/home/ann/x:/home/ann", "--dir=~/x:~"),
        ("/home/anna/x", "/home/anna/x"),
        ("/home/ann-old", "/home/ann-old"),
        ("/mnt/home/ann/x", "/mnt/home/ann/x"),
    ):
        assert without_home(text) == expected
    assert without_home({"a": ["/home/ann/b", 3]}) == {"a": ["~/b", 3]}
    assert with_home({"a": ["~/b", "~", "a~/b", "~x"], "c": ("~/d",)}) == {
        "a": ["/home/ann/b", "/home/ann", "a~/b", "~x"],
        "c": ("/home/ann/d",),
    }
    monkeypatch.setenv("HOME", "/")
    assert without_home("/a/b") == "/a/b"
