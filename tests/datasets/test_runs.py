"""One epoch of SoftCPT and zero-shot, through the command line, on every suite with a small random CLIP."""

import json
import shutil

import pytest
import torch

import train
from dassl.data.datasets import build_dataset
from datasets.table import ROWS
from tests.datasets.checking import checked
from tests.datasets.settings import config
from tests.models import state_dict, tiny_vit

SUITES = {"General10": (10, 1191), "Plant6": (6, 116), "Fashion20": (20, 78), "RS8": (8, 208)}
SHIFTED = ("ImageNetA", "ImageNetR")
SETTINGS = (
    "INPUT.SIZE (32,32) INPUT.TRANSFORMS ['normalize'] OPTIM.MAX_EPOCH 1 DATALOADER.NUM_WORKERS 0 USE_CUDA False "
    "DATALOADER.FEATURE_CACHE False DATALOADER.TRAIN_X.BATCH_SIZE 500 DATALOADER.TEST.BATCH_SIZE 500 VERBOSE False "
    "DATASET.NUM_SHOTS 1"
)


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "vit.pt"
    torch.save(state_dict(tiny_vit()), path)
    return path


@pytest.fixture
def run(tmp_path, vit, data_root):
    """run(name of the output, trainer, dataset, *arguments) -> (exit status, results.json or None)."""

    def run(name, trainer, dataset, *arguments):
        out = tmp_path / name
        command = f"--trainer {trainer} --seed 1 --root {data_root} --output-dir {out}".split()
        settings = ["DATASET.NAME", dataset, "MODEL.BACKBONE.WEIGHTS", str(vit), *SETTINGS.split()]
        status = train.main([*command, *settings, *map(str, arguments)])
        results = out / "results.json"
        return status, json.loads(results.read_text()) if results.exists() else None

    return run


@pytest.mark.parametrize("suite", SUITES)
def test_softcpt_on_base_classes_and_zero_shot_on_new_ones(run, suite):
    tasks, classes = SUITES[suite]
    base = run("base", "MTCoOp", suite, "DATASET.SUBSAMPLE_CLASSES", "base")
    new = run("new", "ZeroshotCLIP", suite, "DATASET.SUBSAMPLE_CLASSES", "new", "--eval-only")
    assert base[0] == new[0] == 0
    assert len(base[1]["tasks"]) == len(new[1]["tasks"]) == tasks
    counts = [sum(task["classes"] for task in found["tasks"]) for _, found in (base, new)]
    assert sum(counts) == classes and 0 <= counts[0] - counts[1] <= tasks
    assert all(task["images"] >= task["classes"] - 1 for _, found in (base, new) for task in found["tasks"])


def test_softcpt_on_imagenet_and_the_shifted_sets(run, tmp_path):
    own = ("TRAINER.MTCOOP.TASK_CSC", True)  # a context of the task's own, which its shifted sets find
    assert run("ImageNet", "MTCoOp", "ImageNet", *own)[0] == 0
    for name in SHIFTED:
        status, found = run(name, "MTCoOp", name, *own, "--eval-only", "--model-dir", tmp_path / "ImageNet")
        (task,) = found["tasks"]
        assert status == 0 and task["images"] == task["classes"] == ROWS[name].classes


def test_imagenet_without_its_training_images_is_tested_on_and_not_trained_on(run, data_root, tmp_path, capsys):
    root = tmp_path / "root"
    (root / "imagenet/images").mkdir(parents=True)
    (root / "imagenet/images/val").symlink_to(data_root / "imagenet/images/val", target_is_directory=True)
    shutil.copy(data_root / "imagenet/classnames.txt", root / "imagenet")
    assert run("ImageNet", "MTCoOp", "ImageNet")[0] == 0
    capsys.readouterr()
    here = ("--root", root)
    for name, trainer, also in (("zs", "ZeroshotCLIP", ()), ("test", "MTCoOp", ("--model-dir", tmp_path / "ImageNet"))):
        status, found = run(name, trainer, "ImageNet", "--eval-only", *also, *here)
        assert status == 0 and found["tasks"][0]["images"] == 1000
    capsys.readouterr()
    text = "not there: images/train/; without training images there are only zero-shot and tests of trained models"
    assert run("train", "MTCoOp", "ImageNet", *here) == (2, None)
    printed = capsys.readouterr()
    assert text in printed.err and "Loading" not in printed.out
    status, found = checked(capsys, "ImageNet", "--root", root)
    assert status == 1 and text in found


def test_one_task_of_half_the_classes_of_fashion20(run):
    chosen = ("DATASET.SUBSAMPLE_CLASSES", "new", "DATASET.SUBSAMPLE_TASKS", "hat_style,task3")
    status, found = run("part", "MTCoOp", "Fashion20", *chosen)
    assert status == 0 and [task["key"] for task in found["tasks"]] == ["collar_type", "hat_style"]


def test_a_shifted_set_is_not_trained_on(run, tmp_path, capsys):
    assert run("a", "MTCoOp", "ImageNetA") == (2, None)
    text = capsys.readouterr().err
    assert text.startswith("error: ImageNetA: for testing only") and "--eval-only --model-dir" in text
    assert not (tmp_path / "a").exists()
    tasks = ("DATASET.TASKS", "[RSSCN7, ImageNetR]")
    assert run("b", "MTCoOp", "Suite", *tasks) == (2, None)
    assert "error: ImageNetR: for testing only" in capsys.readouterr().err
    assert run("c", "MTCoOp", "Suite", *tasks, "DATASET.SUBSAMPLE_TASKS", "task0")[0] == 0


def test_the_best_on_validation_is_refused(run, capsys):
    assert run("best", "MTCoOp", "ImageNet", "TEST.FINAL_MODEL", "best_val")[0] == 2
    assert "needs a validation split, and ImageNet has none" in capsys.readouterr().err


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_image_says_what_it_is(run, data_root, tmp_path, capfd, workers):
    """Its path, its dataset, its task and class, and where it stands in the split."""
    build_dataset(config("RSSCN7", data_root))  # makes the split
    folder = data_root / "rsscn7"
    content = json.loads((folder / "split_fixed_RSSCN7.json").read_text())
    path = folder / "RSSCN7" / content["test"][4][0]
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    try:
        tasks = ("DATASET.TASKS", "[WHURS19, RSSCN7]", "DATALOADER.NUM_WORKERS", workers)
        status, _ = run("broken", "ZeroshotCLIP", "Suite", "--eval-only", *tasks)
    finally:
        path.write_bytes(whole)
    assert status == 2
    (line,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    assert f"image cannot be read: {path}" in line
    assert (
        "; dataset Suite, task 1 (RSSCN7), class 4 (forest), entry 5 of test in split_fixed_RSSCN7.json of RSSCN7. "
        f"To list all unreadable images: python -m datasets.check {tmp_path}/broken/config.yaml --deep" in line
    )
