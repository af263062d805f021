"""Test the store of image features on disk."""

import os
import threading

import numpy as np
import pytest

from features.store import FeatureStore, clear, digest, main, prune, usage

KIND = {"weights": "w", "transform": "t"}


def names(*numbers):
    return [digest(n) for n in numbers]


def features(*numbers):
    return np.stack([np.full(6, n, np.float32) for n in numbers])


@pytest.fixture()
def filled(tmp_path):
    store = FeatureStore(KIND, tmp_path)
    store.add(names(1, 2, 3), features(1, 2, 3))
    return store


def shards(folder):
    return sorted(folder.glob("*/*.safetensors"))


def test_what_is_added_is_found_by_the_next_run(filled, tmp_path):
    again = FeatureStore(KIND, tmp_path)
    again.refresh()
    assert again.missing(names(3, 4, 1, 5)) == [1, 3]
    assert np.array_equal(again.rows(names(3, 1, 3)), features(3, 1, 3))
    with pytest.raises(KeyError):
        again.rows(names(4))


def test_another_kind_shares_nothing(filled, tmp_path):
    other = FeatureStore({**KIND, "transform": "u"}, tmp_path)
    other.refresh()
    assert other.missing(names(1, 2)) == [0, 1]


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "foreign", "text"])
def test_damaged_and_foreign_files_are_said_and_not_used(damage, filled, tmp_path, capsys):
    (path,) = shards(tmp_path)
    body = path.read_bytes()
    if damage == "cut":
        path.write_bytes(body[:-10])
    elif damage == "flipped":
        path.write_bytes(body[:-10] + bytes([body[-10] ^ 1]) + body[-9:])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "text":
        path.write_text("not a tensor")
    else:
        FeatureStore({"weights": "other"}, tmp_path / "elsewhere").add(names(1, 2, 3), features(7, 7, 7))
        path.write_bytes(shards(tmp_path / "elsewhere")[0].read_bytes())
    again = FeatureStore(KIND, tmp_path)
    again.refresh()
    assert again.missing(names(1, 2, 3)) == [0, 1, 2]
    assert f"{path} is not used; its features will be computed again" in capsys.readouterr().out
    again.add(names(1, 2, 3), features(1, 2, 3))
    third = FeatureStore(KIND, tmp_path)
    third.refresh()
    assert third.missing(names(1, 2, 3)) == []


def test_a_folder_that_cannot_be_written_serves_the_run_alone(tmp_path, capsys):
    blocker = tmp_path / "file"
    blocker.write_text("in the way")
    store = FeatureStore(KIND, blocker)
    store.refresh()
    store.add(names(1), features(1))
    assert np.array_equal(store.rows(names(1)), features(1))
    store.add(names(2), features(2))
    FeatureStore({"other": 1}, blocker).add(names(1), features(1))
    assert capsys.readouterr().out.count("cannot write") == 1


def test_features_of_another_user_are_read_and_stay(filled, tmp_path, monkeypatch, capsys):
    """In a read-only shared folder neither the time of last use nor a damaged file can be changed."""

    def denied(*args, **options):
        raise PermissionError(13, "Permission denied")

    damaged = FeatureStore({"weights": "other"}, tmp_path)
    damaged.add(names(1), features(1))
    path = next(damaged.folder.glob("*.safetensors"))
    path.write_bytes(path.read_bytes()[:-1])
    monkeypatch.setattr("os.utime", denied)
    monkeypatch.setattr("pathlib.Path.unlink", denied)
    again = FeatureStore(KIND, tmp_path)
    again.refresh()
    assert np.array_equal(again.rows(names(2)), features(2)) and capsys.readouterr().out == ""
    other = FeatureStore({"weights": "other"}, tmp_path)
    other.refresh()
    assert other.missing(names(1)) == [0] and "not used; its features will be computed again" in capsys.readouterr().out
    assert prune(0, tmp_path) == 0 and len(shards(tmp_path)) == 2
    monkeypatch.setattr("features.store.safe_open", denied)
    again = FeatureStore(KIND, tmp_path)
    again.refresh()
    assert again.missing(names(1, 2)) == [0, 1] and "cannot be read" in capsys.readouterr().out


def test_files_that_are_not_features_are_never_removed(filled, tmp_path):
    weights = tmp_path / "models" / "weights.safetensors"
    weights.parent.mkdir()
    weights.write_bytes(b"weights of a model")
    assert len(usage(tmp_path)) == 1 and prune(0, tmp_path) == 1
    assert clear(tmp_path) == (0, 0) and not filled.folder.exists() and weights.exists()


def test_clear_removes_what_the_store_has_made_and_counts_it(filled, tmp_path, capsys):
    foreign = tmp_path / ("ab" * 16)
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("not a feature")
    (filled.folder / "notes.txt").write_text("not a feature")
    (tmp_path / ("cd" * 16)).symlink_to(filled.folder)
    shard = next(filled.folder.glob("*.safetensors"))
    killed = shard.with_name(f".{shard.name}.0123abcd.tmp")
    killed.write_bytes(b"x" * 1000)
    with filled.filling("test"):
        pass
    size = shard.stat().st_size
    assert sorted(size for _, size, _ in usage(tmp_path)) == sorted([size, 1000])
    main(["clear", "--dir", str(tmp_path)])
    assert f"{tmp_path}: removed 2 files, 0.0 MiB" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.rglob("*.*")) == ["notes.txt", "thesis.txt"]
    (filled.folder / "notes.txt").unlink()
    filled.add(names(1), features(1))
    assert clear(tmp_path)[0] == 1 and not filled.folder.exists() and (foreign / "thesis.txt").exists()


def test_temporary_files_of_killed_runs_count_and_go(filled, tmp_path):
    (shard,) = shards(tmp_path)
    old, young = (shard.with_name(f".{shard.name}.{name}.tmp") for name in ("00000000", "11111111"))
    for path in (old, young):
        path.write_bytes(b"x" * 1000)
    os.utime(old, (1, 1))
    assert prune(10**9, tmp_path) == 1 and not old.exists() and young.exists() and shard.exists()


def test_features_that_are_not_finite_are_not_kept(tmp_path, capsys):
    store = FeatureStore(KIND, tmp_path)
    store.add(names(1, 2, 3), features(1, np.nan, np.inf))
    assert np.array_equal(store.rows(names(1, 2)), features(1, np.nan), equal_nan=True)
    assert "WARNING: 2 features of images are not finite" in capsys.readouterr().out
    again = FeatureStore(KIND, tmp_path)
    again.refresh()
    assert again.missing(names(1, 2, 3)) == [1, 2]
    store = FeatureStore({"other": 1}, tmp_path)
    store.add(names(1), features(np.nan))
    assert len(shards(tmp_path)) == 1
    with pytest.MonkeyPatch.context() as patch:  # as an earlier version wrote them
        patch.setattr("features.store.np.isfinite", lambda values: np.ones(np.shape(values), bool))
        FeatureStore(KIND, tmp_path / "old").add(names(1), features(np.nan))
    again = FeatureStore(KIND, tmp_path / "old")
    again.refresh()
    assert again.missing(names(1)) == [0] and shards(tmp_path / "old") == []


def test_hostile_files_are_one_line_and_another_shape_is_not_used(filled, tmp_path, capsys):
    os.mkfifo(filled.folder / "a.safetensors")
    (filled.folder / "b.safetensors").mkdir()
    (filled.folder / "c.safetensors").write_bytes(b"\xff" * 4096)
    (filled.folder / "d.safetensors").symlink_to("d.safetensors")
    (filled.folder / "e.safetensors").symlink_to("/dev/zero")
    again = FeatureStore(KIND, tmp_path, (6,))
    again.refresh()
    out = capsys.readouterr().out
    assert again.missing(names(1, 2, 3)) == [] and len(out.splitlines()) == 1 and "and 4 more files alike" in out
    FeatureStore(KIND, tmp_path / "two").add(names(1), features(1))
    other = FeatureStore(KIND, tmp_path / "two", (2, 3))
    other.refresh()
    assert other.missing(names(1)) == [0] and "the shape (6,), expected (2, 3)" in capsys.readouterr().out


def test_many_runs_fill_one_store(tmp_path):
    def fill(start):
        store = FeatureStore(KIND, tmp_path)
        for n in range(start, start + 20):
            store.refresh()
            if store.missing(names(n)):
                store.add(names(n), features(n))

    threads = [threading.Thread(target=fill, args=(start,)) for start in (0, 5, 10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store = FeatureStore(KIND, tmp_path)
    store.refresh()
    wanted = list(range(30))
    assert np.array_equal(store.rows(names(*wanted)), features(*wanted))


def test_the_command_shows_and_clears(filled, tmp_path, capsys):
    main(["show", "--dir", str(tmp_path)])
    assert f"{tmp_path}: 1 file, 0.0 MiB" in capsys.readouterr().out
    main(["clear", "--dir", str(tmp_path)])
    assert shards(tmp_path) == [] and "removed" in capsys.readouterr().out


def test_the_least_recently_used_go_first(tmp_path):
    store = FeatureStore(KIND, tmp_path)
    for n in range(4):
        store.add(names(n), features(n))
    sizes = {size for _, size, _ in usage(tmp_path)}
    assert len(sizes) == 1
    order = shards(tmp_path)
    for age, path in enumerate(order):
        os.utime(path, (1000 + age, 1000 + age))
    assert prune(2 * sizes.pop(), tmp_path) == 2
    assert shards(tmp_path) == sorted(order[2:])
    assert clear(tmp_path)[0] == 2 and shards(tmp_path) == []


def test_one_run_at_a_time_fills_a_part(tmp_path, capsys):
    """The second run waits, then finds the features of the first; other parts are not locked meanwhile."""
    first, second, order = FeatureStore({"a": 1}, tmp_path), FeatureStore({"a": 1}, tmp_path), []
    entered = threading.Event()

    def wait_and_look():
        entered.set()
        with second.filling("seed1"):
            second.refresh()
            order.append(f"second, {len(second)} found")

    with first.filling("seed1"):
        thread = threading.Thread(target=wait_and_look)
        thread.start()
        entered.wait()
        with second.filling("seed2"):
            order.append("another part")
        first.add([b"0" * 16], np.ones((1, 4), np.float32))
        order.append("first")
    thread.join()
    assert order == ["another part", "first", "second, 1 found"]
    with first.filling("seed1"):  # free again
        pass
