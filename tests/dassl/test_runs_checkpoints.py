"""Checkpoint files: written atomically, loaded without executing anything they contain."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from dassl import utils
from dassl.utils.errors import UserError

PROJECT = Path(__file__).parents[2]


@pytest.mark.parametrize("first", ["dassl.runs.checkpoints", "dassl.runs.open", "dassl.utils"])
def test_the_names_of_dassl_utils_do_not_depend_on_the_order_of_imports(first):
    names = "load_checkpoint, load_pretrained_weights, resume_from_checkpoint, save_checkpoint"
    code = f"import {first}; from dassl.utils import {names}"
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
