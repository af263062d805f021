"""What tables say about the runs they show: the method, common settings, and settings changed from the config file."""

import contextlib
import io
import json

import pytest

import parse_test_res
import train
from reporting import table

FILES = ("--dataset-config-file", "configs/datasets/icon5.yaml", "--config-file")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Two methods on one task of Icon-5; SoftCPT has one seed with another number of epochs."""
    folder = tmp_path_factory.mktemp("runs")
    runs = {
        "soft/seed1": ("SoftCPT-NATS", "MTCoOp", "OPTIM.MAX_EPOCH", "1"),
        "soft/seed2": ("MTCoOp", "MTCoOp", "OPTIM.MAX_EPOCH", "2", "TRAINER.MTCOOP.TASK_CSC", "True"),
        "hard/seed1": ("CoOp-CA", "MTCoOpHard", "OPTIM.MAX_EPOCH", "1", "OPTIM.LR", "0.1"),
    }
    for name, (method, trainer, *opts) in runs.items():
        arguments = ["--trainer", method, *FILES, f"configs/trainers/{trainer}/tiny_ep20.yaml", "--seed", name[-1]]
        arguments += ["--output-dir", str(folder / name), "DATASET.NUM_SHOTS", "1", *opts]
        arguments += ["DATASET.SUBSAMPLE_TASKS", "task2", "TRAIN.TENSORBOARD", "False", "DATALOADER.NUM_WORKERS", "0"]
        arguments += ["DATALOADER.FEATURE_CACHE_DIR", str(folder / "cache")]
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            assert train.main(arguments) == 0
        (folder / "printed.txt").write_text(printed.getvalue())  # of the last run
    return folder


def test_a_run_ends_with_its_result_and_what_to_do_next(root):
    lines = (root / "printed.txt").read_text().splitlines()
    assert sum(line.startswith("Compared with zero-shot CLIP: ") for line in lines) == 1
    value = json.loads((root / "hard/seed1/results.json").read_text())["mean"]["value"]
    assert lines[-4:] == [
        f"CoOp-CA on Icon5, seed 1: {value:.2f}%",
        f"The results are in {root}/hard/seed1/results.json. Next:",
        f"  python parse_test_res.py {root}/hard",
        f"  python predict.py {root}/hard/seed1 IMAGE",
    ]


def test_a_run_records_its_method_and_what_was_changed(root):
    found = json.loads((root / "soft/seed2/results.json").read_text())
    assert found["trainer"] == "MTCoOp" and found["method"] == "SoftCPT-NATS"
    assert found["overrides"] == {"OPTIM.MAX_EPOCH": 2}  # not what the name of the method says
    assert found["config_files"] == ["configs/datasets/icon5.yaml", "configs/trainers/MTCoOp/tiny_ep20.yaml"]


def test_one_experiment_names_method_settings_and_changes(root, capsys):
    assert parse_test_res.main([str(root / "soft")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "SoftCPT-NATS, Icon5, 1 image per class, tiny, fp32"
    assert lines[2] == "changed from the configuration file: OPTIM.MAX_EPOCH 1; OPTIM.MAX_EPOCH 2"
    assert "note: the runs differ in epochs: 1, 2" in lines


def test_a_table_says_which_row_was_changed(root, capsys):
    assert table.main([f"A={root / 'soft'}", f"B={root / 'hard'}"]) == 0
    out = capsys.readouterr().out
    assert "Icon5, 1 image per class, tiny, fp32\n" in out
    changed = "OPTIM.LR 0.1 (B); OPTIM.MAX_EPOCH 1; OPTIM.MAX_EPOCH 2 (A)"
    assert f"changed from the configuration file: {changed}\n" in out
    assert "note: the experiments differ in epochs (1, 2)" in out


def test_rows_below_a_folder_have_the_names_of_methods(root, capsys):
    assert parse_test_res.main([str(root), "--multi-exp"]) == 0
    out = capsys.readouterr().out
    assert "soft (SoftCPT-NATS)" in out and "hard (CoOp-CA)" in out
    assert "differ in method (CoOp-CA, SoftCPT-NATS), epochs (1, 2), OPTIM.LR (0.1, as in the file)" in out


def test_a_run_of_an_early_version_is_named_by_its_settings(root, capsys, tmp_path):
    old = tmp_path / "old" / "seed1"
    old.mkdir(parents=True)
    found = json.loads((root / "soft/seed1/results.json").read_text())
    for key in ("method", "overrides", "config_files"):
        del found[key]
    (old / "results.json").write_text(json.dumps(found))
    (old / "config.yaml").write_text((root / "soft/seed1/config.yaml").read_text())
    assert parse_test_res.main([str(old.parent), "--json"]) == 0
    (experiment,) = json.loads(capsys.readouterr().out)["experiments"]
    assert experiment["settings"]["method"] == "SoftCPT-NATS" and experiment["overrides"] == {}
