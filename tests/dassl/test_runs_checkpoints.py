"""Checkpoint files: written atomically, loaded without executing anything they contain."""

import contextlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from dassl import utils
from dassl.runs import checkpoint_file
from dassl.utils.errors import UserError

PROJECT = Path(__file__).parents[2]


def test_the_names_of_dassl_utils_do_not_depend_on_the_order_of_imports():
    code = """
import importlib, sys
for first in ("dassl.runs.checkpoint_file", "dassl.runs.open", "dassl.utils"):
    for name in [name for name in sys.modules if name.partition(".")[0] == "dassl"]:
        del sys.modules[name]
    importlib.import_module(first)
    from dassl.utils import load_checkpoint, load_pretrained_weights, resume_from_checkpoint, save_checkpoint
"""
    assert subprocess.run([sys.executable, "-c", code], cwd=PROJECT, timeout=120).returncode == 0


def test_checkpoint_is_saved_loaded_and_resumed(tmp_path, capsys):
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    state = {f"module.{name}": value for name, value in model.state_dict().items()}
    path = utils.save_checkpoint(
        {"state_dict": state, "epoch": 3, "optimizer": optimizer.state_dict()}, str(tmp_path), is_best=True
    )
    assert path == str(tmp_path / "model.pth.tar-3") and (tmp_path / "model-best.pth.tar").is_file()
    assert (tmp_path / "checkpoint").read_text().strip() == "model.pth.tar-3"
    assert list(utils.load_checkpoint(path)["state_dict"]) == ["weight", "bias"]
    again = nn.Linear(2, 1)
    fresh = torch.optim.SGD(again.parameters(), lr=1.0, momentum=0.9)
    assert utils.resume_from_checkpoint(str(tmp_path), again, fresh) == 3
    assert torch.equal(again.weight, model.weight) and fresh.param_groups[0]["lr"] == 0.1
    with pytest.raises(FileNotFoundError, match="no checkpoint to resume from"):
        utils.resume_from_checkpoint(str(tmp_path / "x"), again)


class Evil:
    def __reduce__(self):
        return os.mkdir, ("executed",)


def test_pickled_objects_are_refused_with_one_clear_message(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = nn.Linear(1, 1)
    for index, extra in enumerate((Evil(), model, torch.optim.SGD(model.parameters(), lr=1))):
        for legacy in (True, False):
            path = str(tmp_path / f"{index}{legacy}.pth")
            torch.save({"state_dict": {}, "x": extra}, path, _use_new_zipfile_serialization=not legacy)
            with pytest.raises(UserError, match="contains pickled Python objects.*reduce it to its weights") as caught:
                utils.load_checkpoint(path)
            assert path in str(caught.value) and "\n" not in str(caught.value)
    assert not os.path.exists("executed")


def test_damaged_and_missing_checkpoints(tmp_path):
    path = tmp_path / "a.pth"
    torch.save({"state_dict": {"w": torch.rand(100)}}, path)
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"not a checkpoint at all", b"<html>not found</html>"):
        path.write_bytes(content)
        with pytest.raises(UserError, match="is not a complete checkpoint"):
            utils.load_checkpoint(str(path))
    with path.open("wb") as stream:
        stream.truncate(1 << 42)  # 4 TB on no disk space
    with pytest.raises(UserError, match="does not fit into memory"):
        utils.load_checkpoint(str(path))
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        utils.load_checkpoint(str(tmp_path / "b.pth"))
    with pytest.raises(ValueError, match="the path is empty"):
        utils.load_checkpoint("")


def test_pretrained_weights_of_fitting_name_and_shape(tmp_path):
    source, target = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1)), nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
    path = str(tmp_path / "w.pth")
    torch.save({"state_dict": {f"module.{name}": value for name, value in source.state_dict().items()}}, path)
    before = target[1].weight.clone()
    with pytest.warns(UserWarning, match="1.weight, 1.bias"):
        utils.load_pretrained_weights(target, path)
    assert torch.equal(target[0].weight, source[0].weight) and torch.equal(target[1].weight, before)
    torch.save(nn.Linear(5, 5).state_dict(), path)
    with pytest.warns(UserWarning, match="no tensor in"):
        utils.load_pretrained_weights(target, path)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A checkpoint with a checksum, as `torch.save` writes it, and as old versions of PyTorch wrote it."""
    folder = tmp_path_factory.mktemp("saved")
    state = {"state_dict": nn.Linear(3, 2).state_dict(), "epoch": 3, "optimizer": None}
    own = utils.save_checkpoint(state, str(folder / "own"))
    torch.save(state, folder / "plain")
    torch.save(state, folder / "legacy", _use_new_zipfile_serialization=False)
    return {"own": Path(own), "plain": folder / "plain", "legacy": folder / "legacy"}


def test_any_changed_byte_of_a_checkpoint_is_found(saved, tmp_path):
    whole, path = saved["own"].read_bytes(), tmp_path / "copy"
    assert torch.load(saved["own"], weights_only=True)["epoch"] == 3
    assert torch.load(saved["own"], weights_only=True, mmap=True)["epoch"] == 3
    damaged = [
        whole + b"x",
        whole[:-1],
        whole[1:],
        whole[:-40],
        whole[:-71],
        whole[: len(whole) // 2],
    ]
    for position in (*range(0, len(whole), 7), *range(len(whole) - 100, len(whole))):
        damaged.append(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(UserError, match="is not a complete checkpoint: ") as caught:
            utils.load_checkpoint(str(path))
        assert "\n" not in str(caught.value)
    path.write_bytes(whole)  # a copy of the file under another name
    assert utils.load_checkpoint(path)["epoch"] == 3


@pytest.mark.parametrize("kind", ["plain", "legacy"])
def test_checkpoints_without_a_checksum(saved, tmp_path, kind):
    assert utils.load_checkpoint(saved[kind])["epoch"] == 3
    whole, path = saved[kind].read_bytes(), tmp_path / "copy"
    weight = utils.load_checkpoint(saved[kind])["state_dict"]["weight"]
    tensor = whole.index(weight.numpy().tobytes())
    path.write_bytes(whole[:tensor] + b"xx" + whole[tensor + 2 :])
    if kind == "legacy":  # the format has no checksum at all
        assert utils.load_checkpoint(path)["epoch"] == 3
        return
    with pytest.raises(UserError, match="checksum"):
        utils.load_checkpoint(path)
    for position in range(0, len(whole), 5):  # one error or the same contents, whatever byte has changed
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 4]) + whole[position + 1 :])
        with contextlib.suppress(UserError):
            assert torch.equal(utils.load_checkpoint(path)["state_dict"]["weight"], weight)


def test_a_compressed_archive_is_refused_unread(saved, tmp_path):
    with zipfile.ZipFile(saved["plain"]) as old, zipfile.ZipFile(tmp_path / "a", "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    with pytest.raises(UserError, match="does not compress"):
        utils.load_checkpoint(tmp_path / "a")


WEIGHTS = {"weight": torch.zeros(2, 3), "bias": torch.zeros(2)}
STRUCTURES = [
    ([1, 2], "it is of type list"),
    (torch.zeros(3), "it is of type Tensor"),
    ({"epoch": 3}, "no state_dict"),
    ({"state_dict": [1], "epoch": 3}, "no state_dict"),
    ({"state_dict": {3: torch.zeros(1)}, "epoch": 3}, "no state_dict"),
    ({"state_dict": WEIGHTS, "epoch": "three"}, "its epoch is 'three'"),
    ({"state_dict": WEIGHTS, "epoch": True}, "its epoch is True"),
    ({"state_dict": WEIGHTS, "epoch": -3}, "its epoch is -3"),
    ({"state_dict": WEIGHTS, "epoch": 99}, "named after epoch 3 and is a checkpoint of epoch 99"),
    ({"state_dict": {"weight": torch.ones(3).to_sparse()}}, "a tensor in it is sparse"),
    ({"state_dict": WEIGHTS, "optimizer": [{"a": torch.ones(3, device="meta")}]}, "its optimizer is of type list"),
    ({"state_dict": WEIGHTS, "rng": {"a": [torch.ones(3, device="meta")]}}, "a tensor in it is .*without values"),
    ({"state_dict": {"weight": torch.zeros(1).expand(10**6, 10**6)}}, "but the file holds fewer values"),
    ({"state_dict": WEIGHTS, "epoch": 3, "optimizer": 5}, "its optimizer is 5"),
    ({"state_dict": WEIGHTS, "epoch": 3, "best_result": "x"}, "its best_result is 'x'"),
    ({"state_dict": WEIGHTS, "epoch": 3, "seconds": {"train": None, "x": float("nan")}}, "its x is nan"),
]


@pytest.mark.parametrize(("content", "text"), STRUCTURES)
def test_checkpoints_of_another_structure_are_one_error(tmp_path, content, text):
    path = tmp_path / "model.pth.tar-3"
    torch.save(content, path)
    with pytest.raises(UserError, match=text) as caught:
        checkpoint_file.load_saved(str(path), 3)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_checkpoint_reduced_to_its_weights_takes_the_epoch_of_its_name(tmp_path):
    for epoch in (None, 0):
        torch.save({"state_dict": WEIGHTS, "epoch": epoch}, tmp_path / "a")
        assert checkpoint_file.load_saved(tmp_path / "a", 7)["epoch"] == 7
        assert checkpoint_file.load_saved(tmp_path / "a")["epoch"] == 0


STATES = [
    ({}, "missing: weight, bias"),
    ({**WEIGHTS, "a": torch.zeros(1)}, "unknown: a"),
    ({**WEIGHTS, "bias": torch.zeros(3)}, r"of another shape: bias \(3,\), expected \(2,\)"),
    ({**WEIGHTS, "bias": 3}, "not a tensor: bias"),
    ({**WEIGHTS, "bias": torch.tensor([0, 1])}, "bias is of type torch.int64, expected torch.float32"),
    ({**WEIGHTS, "bias": torch.tensor([0, float("nan")])}, "bias is infinite or NaN"),
]


@pytest.mark.parametrize(("state", "text"), STATES)
def test_weights_of_another_model_are_one_line(state, text):
    with pytest.raises(UserError, match=text) as caught:
        checkpoint_file.load_state(nn.Linear(3, 2), state, "FILE")
    assert str(caught.value).startswith("FILE") and "state_dict" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_optimiser_states_of_something_else_are_one_line():
    optimizer = torch.optim.SGD(nn.Linear(3, 2).parameters(), lr=1.0)
    for state in ({}, {"state": {}, "param_groups": []}, {"state": 3, "param_groups": [{}]}, {"param_groups": None}):
        with pytest.raises(UserError, match="FILE does not fit the optimizer"):
            checkpoint_file.load_state(optimizer, state, "FILE", "optimizer")


def test_histories_and_schedules_with_odd_values_are_one_line():
    """They would stop the run at its first step, or change its learning rate silently."""
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    good = optimizer.state_dict()
    checkpoint_file.load_state(optimizer, good, "FILE", "optimizer")
    checkpoint_file.load_state(schedule, {}, "FILE", "scheduler")  # the state of another version may lack parts
    for value in ("x", -1.0, float("nan"), None):
        state = {**good, "param_groups": [{**good["param_groups"][0], "lr": value}]}
        with pytest.raises(UserError, match="FILE does not fit the optimizer.*lr is"):
            checkpoint_file.load_state(optimizer, state, "FILE", "optimizer")
    for value in (torch.zeros(7), "x"):
        with pytest.raises(UserError, match="momentum_buffer is"):
            checkpoint_file.load_state(
                optimizer, {**good, "state": {0: {"momentum_buffer": value}}}, "FILE", "optimizer"
            )
    for name, value in (("last_epoch", "x"), ("base_lrs", 3), ("step", 5)):
        with pytest.raises(UserError, match=f"FILE does not fit the scheduler.*{name} is"):
            checkpoint_file.load_state(schedule, {name: value}, "FILE", "scheduler")
