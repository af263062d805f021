"""Files with pickled items go from the original Dassl to this one and back: caches of few-shot samples."""

import pickle
import sys
import types

import pytest

from dassl.data.datasets import DatasetBase, Datum, DatumMT

HOME = "dassl.data.datasets.base_dataset"


class OriginalDatum:
    """Has the names and the state of the original's class, which has neither slots nor pickle methods."""

    def __init__(self, impath="", label=0, domain=0, classname=""):
        self._impath, self._label, self._domain, self._classname = impath, label, domain, classname


class OriginalDatumMT(OriginalDatum):
    def __init__(self, impath="", label=(), task=(), domain=0, classname=""):
        super().__init__(impath, label, domain, classname)
        self._task = task


@pytest.fixture
def original(monkeypatch):
    """A function that runs another one in the original's environment."""
    kinds = {name: type(name, (kind,), {"__module__": HOME}) for name, kind in [("Datum", OriginalDatum)]}
    kinds["DatumMT"] = type("DatumMT", (OriginalDatumMT,), {"__module__": HOME})
    module = types.ModuleType(HOME)
    vars(module).update(kinds)

    def there(function, *arguments):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, HOME, module)
            return function(*arguments, module)

    return there


def _cache(items, path, protocol):
    with open(path, "wb") as file:
        pickle.dump({"train": items[:2], "val": items[2:]}, file, protocol=protocol)


def _read(path, *_):
    with open(path, "rb") as file:
        return pickle.load(file)


VALUES = [("a/1.jpg", 0, 0, "cat"), ("a/2.jpg", 1, 0, "dog"), ("b/ü.jpg", 1, 2, "dog")]


@pytest.mark.parametrize("protocol", [0, 2, pickle.HIGHEST_PROTOCOL])
def test_few_shot_caches_of_the_original(original, tmp_path, protocol):
    path = tmp_path / "shot_2-seed_1.pkl"
    original(lambda module: _cache([module.Datum(*values) for values in VALUES], path, protocol))
    cache = _read(path)
    assert cache == {"train": [Datum(*v) for v in VALUES[:2]], "val": [Datum(*VALUES[2])]}
    dataset = DatasetBase(train_x=cache["train"], val=cache["val"], test=cache["val"])
    assert dataset.classnames == ["cat", "dog"] and dataset.val[0].domain == 2


@pytest.mark.parametrize("protocol", [0, 2, pickle.HIGHEST_PROTOCOL])
def test_the_original_reads_our_caches(original, tmp_path, protocol):
    path = tmp_path / "preprocessed.pkl"
    _cache([Datum(*values) for values in VALUES], path, protocol)
    found = original(lambda module: (_read(path), module.Datum))
    cache, kind = found
    items = cache["train"] + cache["val"]
    assert all(type(item) is kind for item in items)
    assert [tuple(vars(item).values()) for item in items] == VALUES
    assert list(vars(items[0])) == ["_impath", "_label", "_domain", "_classname"]


def test_items_of_several_tasks(original):
    values = ("a.jpg", [3], [1], 0, "cat")
    theirs = pickle.loads(original(lambda module: pickle.dumps(module.DatumMT(*values))))
    assert (theirs.impath, theirs.label, theirs.task, theirs.classname) == ("a.jpg", [3], [1], "cat")
    data = pickle.dumps(DatumMT(*values))
    assert original(lambda module: vars(pickle.loads(data))) == vars(theirs)


def test_items_that_an_earlier_version_pickled():
    """Its items had slots, whose state is a list of values."""
    for item, state in [(Datum("a", 1, 2, "x"), ["a", 1, 2, "x"]), (DatumMT("a", 1, 4, 2, "x"), ["a", 1, 4, 2, "x"])]:
        old = type(item).__new__(type(item))
        old.__setstate__(state)
        assert old == item
