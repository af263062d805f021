"""What --dry-run says about calls of train.py: their mistakes, and what is there already."""

import shlex

import pytest

from sweeps.dry_run import dry_run, look
from tests.sweeps.called import call, record


def examine(capsys, *calls, overwrite=False):
    """(status, printed, errors)"""
    return dry_run(calls, overwrite), *capsys.readouterr()


REFUSED = {
    "OPTIM.LRR: no such setting; did you mean OPTIM.LR?": ["OPTIM.LRR", "1"],
    "DATASET.NUM_SHOTS = four: expected an integer": ["DATASET.NUM_SHOTS", "four"],
    "this suite has no task 'task9'": ["DATASET.SUBSAMPLE_TASKS", "task9"],
    "unknown dataset 'OxfordCats'": ["DATASET.TASKS", "[OxfordCats]"],
    "exclude each other": ["TRAINER.COOP.CSC", "True", "TRAINER.COOP.TSC", "True"],
    "for testing only": ["DATASET.TASKS", "[ImageNetA]"],
    "unknown backbone 'RN49'": ["MODEL.BACKBONE.NAME", "RN49"],
    "no file at /nowhere/w.pt": ["MODEL.BACKBONE.WEIGHTS", "/nowhere/w.pt"],
}


def test_settings_are_checked_without_data_and_weights(tmp_path, capsys, monkeypatch):
    def read(*_):
        raise AssertionError("data or weights are read")

    monkeypatch.setattr("clip.backbones.read_state_dict", read)
    monkeypatch.setattr("clip.names.read_state_dict", read)
    monkeypatch.setattr("datasets.dataset.read_sources", read)
    calls = [call(tmp_path / f"seed{i}", *pairs) for i, pairs in enumerate(REFUSED.values())]
    again = call(tmp_path / "again", *REFUSED["unknown backbone 'RN49'"])
    status, printed, errors = examine(capsys, *calls, again, call(tmp_path / "good"))
    assert status == 2
    assert printed.count(" train.py --root") == len(calls) + 2
    assert f"{len(calls) + 1} of {len(calls) + 2} cannot run:" in errors
    for message in REFUSED:
        assert errors.count(message) == 1
    assert "seed6 and 1 more:" in errors and "good" not in errors
    weights = tmp_path / "own weights.pt"
    weights.touch()
    vpt = call(tmp_path / "vpt", "MODEL.BACKBONE.WEIGHTS", str(weights), trainer="VPT")
    assert examine(capsys, vpt)[0] == 0
    assert [path.name for path in tmp_path.iterdir()] == ["own weights.pt"]


def test_what_is_there_already(tmp_path, capsys):
    for name, status in (("done", "complete"), ("part", "running"), ("other", "complete")):
        record(call(tmp_path / name, "OPTIM.LR", "0.5" if name == "other" else "0.1"), status, settings=False)
    calls = [call(tmp_path / name, "OPTIM.LR", "0.1") for name in ("done", "part", "new")]
    status, printed, errors = examine(capsys, *calls)
    assert (status, errors) == (0, "")
    assert f"# finished already: {tmp_path}/done" in printed and f"# continues the run in {tmp_path}/part" in printed
    assert "# 2 to run, 1 finished already" in printed
    lines = [shlex.split(line) for line in printed.splitlines() if not line.startswith("#")]
    assert [line[line.index("--output-dir") + 1] for line in lines] == [f"{tmp_path}/part", f"{tmp_path}/new"]

    other = call(tmp_path / "other", "OPTIM.LR", "0.1")
    status, _, errors = examine(capsys, other)
    assert status == 2 and "holds a finished run made with other settings" in errors
    status, printed, _ = examine(capsys, other, overwrite=True)
    assert status == 0 and f"# removes the run in {tmp_path}/other" in printed


def test_settings_of_other_methods_are_told(tmp_path, capsys):
    pairs = ["TRAINER.PLOT.N", "2", "TRAINER.ZSCLIP.ENSEMBLE", "task", "TRAINER.COOP.N_CTX", "4", "TRAINER.PLOT.N", "4"]
    status, printed, errors = examine(capsys, *(call(tmp_path / name, *pairs) for name in ("a", "b")))
    assert (status, errors) == (0, "")
    [line] = [line for line in printed.splitlines() if "WARNING" in line]
    assert line.startswith("# WARNING: CoOp does not read TRAINER.PLOT.N; its own settings are TRAINER.COOP.*")


@pytest.mark.parametrize("trained", [False, True])
def test_a_test_of_a_model(tmp_path, capsys, trained):
    model = call(tmp_path / "model")
    if trained:
        record(model, epochs=7)
        (model.folder / "prompt_learner").mkdir()
        (model.folder / "prompt_learner/model.pth.tar-7").touch()
    test = call(tmp_path / "test", model=model.folder, first="the training command")
    status, printed, errors = examine(capsys, test)
    assert (status, errors) == (0, "")
    assert ("# after the training command" in printed) != trained
    words = shlex.split(printed.splitlines()[-2])
    assert words[words.index("--load-epoch") + 1] == ("7" if trained else "20")  # of the settings, before it is made


@pytest.mark.parametrize(
    ("config", "epoch"), [("CLIPLoRA/tiny_ep20", ["--load-epoch", "20"]), ("CLIPLoRA/vit_b16", [])]
)
def test_the_epoch_of_a_model_that_is_yet_to_be_trained(config, epoch, tmp_path):
    """With OPTIM.STEPS_PER_SHOT only the data tell it, and train.py takes the newest model."""
    start = ["--trainer", "CLIPLoRA", "--config-file", f"configs/trainers/{config}.yaml"]
    start += ["--dataset-config-file", "configs/datasets/icon5.yaml", "--output-dir", str(tmp_path / "new")]
    start += ["--model-dir", str(tmp_path / "base")]
    rest = ["--eval-only", "DATASET.NUM_SHOTS", "4"]
    state, words, mistake = look([*start, "--load-epoch", "last", *rest], {})
    assert (state, mistake) == ("none", "") and words == [*start, *epoch, *rest]
