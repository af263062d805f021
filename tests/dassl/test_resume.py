"""A run that is killed and resumed ends with the same bits as an uninterrupted run."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dassl.config import get_cfg_default
from dassl.engine import build_trainer
from dassl.utils import read_json
from dassl.utils.errors import UserError
from tests.dassl import toy

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def root(tmp_path):
    toy.draw_images(tmp_path)
    with toy.registered():
        yield tmp_path


def weights(folder, name="model.pth.tar-4"):
    return [torch.load(folder / model / name, weights_only=True) for model in ("learner", "bias")]


def assert_equal(a, b):
    assert type(a) is type(b)
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            if key != "seconds":
                assert_equal(a[key], b[key])
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_equal(x, y)
    else:
        assert a == b


def test_killed_at_five_moments_equals_uninterrupted(root):
    done = subprocess.run(
        [sys.executable, "-m", "tests.dassl.toy", str(root)], cwd=PROJECT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "Resumed from" in done.stdout
    whole, killed = root / "whole", root / "killed"
    # Weights, optimiser, schedule, random states and best result have the same bits.
    assert_equal(weights(whole), weights(killed))
    assert_equal(weights(whole, "model-best.pth.tar"), weights(killed, "model-best.pth.tar"))
    a, b = read_json(whole / "results.json"), read_json(killed / "results.json")
    assert a["status"] == b["status"] == "complete"
    assert a["tasks"] == b["tasks"] and a["mean"] == b["mean"] and a["epoch"] == b["epoch"]
    names = sorted(path.relative_to(whole) for path in whole.rglob("*"))
    assert names == sorted(path.relative_to(killed) for path in killed.rglob("*"))  # no temporary files are left


def test_epoch_missing_for_one_model_is_not_resumed_from(root):
    cfg = toy.config(root, root / "run", OPTIM__MAX_EPOCH=3, TRAIN__CHECKPOINT_FREQ=1, TRAIN__CHECKPOINT_KEEP=0)
    build_trainer(cfg).train()
    (root / "run" / "bias" / "model.pth.tar-3").unlink()
    torn = root / "run" / "bias" / "model.pth.tar-2"
    torn.write_bytes(torn.read_bytes()[:700])  # as after a full disk
    trainer = build_trainer(cfg)
    assert trainer.resume_model_if_exist(str(root / "run")) == 1


def test_checkpoint_keep(root):
    def left(keep, freq=1, epochs=4, folder=""):
        output = root / (folder or f"keep{keep}_{freq}")
        settings = {"TRAIN__CHECKPOINT_FREQ": freq, "TRAIN__CHECKPOINT_KEEP": keep, "OPTIM__MAX_EPOCH": epochs}
        build_trainer(toy.config(root, output, TEST__NO_TEST=True, **settings)).train()
        return [sorted(path.name[-1] for path in (output / m).glob("model.pth.tar-*")) for m in ("learner", "bias")]

    assert left(1) == [["4"], ["4"]]
    assert left(2) == [["3", "4"]] * 2
    assert left(0) == [["1", "2", "3", "4"]] * 2
    automatic = get_cfg_default().TRAIN
    assert left(automatic.CHECKPOINT_KEEP) == [["1", "2", "3", "4"]] * 2  # a frequency of one's own: as in Dassl
    assert left(automatic.CHECKPOINT_KEEP, automatic.CHECKPOINT_FREQ, 11) == [["1"]] * 2  # of epoch 11, not of 10
    left(automatic.CHECKPOINT_KEEP, 1, 3, "changed")
    left(automatic.CHECKPOINT_KEEP, automatic.CHECKPOINT_FREQ, 12, "changed")
    found = {path.name.split("-")[1] for path in (root / "changed" / "bias").glob("model.pth.tar-*")}
    assert found == {"1", "2", "3", "12"}  # what the first part asked for is left


def test_resume_from_another_folder(root, capsys):
    first = toy.config(root, root / "first", TRAIN__CHECKPOINT_FREQ=1, TRAIN__CHECKPOINT_KEEP=0)
    build_trainer(first).train()
    for model in ("learner", "bias"):
        for epoch in (3, 4):
            (root / "first" / model / f"model.pth.tar-{epoch}").unlink()
    build_trainer(toy.config(root, root / "second", RESUME=str(root / "first"))).train()
    assert "after epoch 2" in capsys.readouterr().out
    build_trainer(toy.config(root, root / "whole")).train()
    assert_equal(weights(root / "second"), weights(root / "whole"))
    with pytest.raises(FileNotFoundError, match="no such folder"):
        build_trainer(toy.config(root, root / "third", RESUME=str(root / "nowhere"))).train()
    with pytest.raises(UserError, match="MAX_EPOCH is 2"):
        build_trainer(toy.config(root, root / "whole", OPTIM__MAX_EPOCH=2)).train()
