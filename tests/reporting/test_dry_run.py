"""Calls that a dry run prints."""

import pytest

from reporting.dry_run import look


@pytest.mark.parametrize(
    ("config", "epoch"), [("CLIPLoRA/tiny_ep20", ["--load-epoch", "20"]), ("CLIPLoRA/vit_b16", [])]
)
def test_the_epoch_of_a_model_that_is_yet_to_be_trained(config, epoch, tmp_path):
    """With OPTIM.STEPS_PER_SHOT only the data tell it, and train.py takes the newest model."""
    start = ["--trainer", "CLIPLoRA", "--config-file", f"configs/trainers/{config}.yaml"]
    start += ["--dataset-config-file", "configs/datasets/icon5.yaml", "--output-dir", str(tmp_path / "new")]
    start += ["--model-dir", str(tmp_path / "base")]
    rest = ["--eval-only", "DATASET.NUM_SHOTS", "4"]
    state, words, mistake = look([*start, "--load-epoch", "last", *rest])
    assert (state, mistake) == ("none", "") and words == [*start, *epoch, *rest]
