"""Every declared setting refuses the values that no setting can have, before a run begins."""

import pytest

import datasets  # noqa: F401
import train
import trainers  # noqa: F401
from dassl.config import ConfigError, check, get_cfg_default, load, settings
from dassl.config.rules import is_number, show
from dassl.data.datasets import build_dataset
from tests.datasets.own.images import draw
from tests.datasets.settings import config

get_cfg_default()
NUMBERS = [key for key, setting in settings().items() if is_number(setting.default)]
# Numbers that mean something at any size, of either sign.
FREE = {"VERSION", "SEED", "INPUT.GN_MEAN", "TRAINER.MTCOOP.PG_RATIO"}
FREE |= {"DATASET.STL10_FOLD", "DATASET.CIFAR_C_LEVEL"}  # read by datasets written for Dassl
EXTREME = (float("nan"), float("inf"), -float("inf"), 1e308, -1e308, 2**64, -(2**70), 10**5000, "1" * 5000)
OF_OTHER_TYPES = ("one", [1], {"a": 1}, True, None, "a\0b", "[" * 5000)


def problem(key, value):
    with pytest.raises(ConfigError) as error:
        load(get_cfg_default(), [], [key, value])
    return str(error.value)


@pytest.mark.parametrize("key", NUMBERS)
def test_no_number_is_extreme_or_of_another_type(key):
    for value in (*EXTREME, *OF_OTHER_TYPES):
        text = problem(key, value)
        assert f"{key} = " in text and "expected" in text and "\n" not in text and len(text) < 600
    setting = settings()[key]
    assert (setting.rule is None) == (key in FREE), f"declare the allowed values of {key}"
    assert key in FREE or (problem(key, -7) and setting.rule(setting.default))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("SEED", 2**64),
        ("INPUT.PIXEL_STD", [0, 1, 1]),
        ("INPUT.PIXEL_STD", [1, 1]),
        ("INPUT.PIXEL_MEAN", [0.5]),
        ("INPUT.PIXEL_MEAN", ["a", 1, 1]),
        ("INPUT.PIXEL_MEAN", [float("nan"), 1, 1]),
        ("INPUT.SIZE", "(0, 224)"),
        ("INPUT.SIZE", (10**9, 224)),
        ("INPUT.SIZE", (224.5, 224)),
        ("INPUT.RRCROP_SCALE", (0.5, 0.1)),
        ("INPUT.COLORJITTER_H", 0.7),
        ("OPTIM.ADAM_BETA1", 1),
        ("OPTIM.STEPSIZE", ["x"]),
        ("OPTIM.NEW_LAYERS", (3,)),
        ("OPTIM.MAX_EPOCH", 0),
        ("DATALOADER.TRAIN_X.BATCH_SIZE", 0),
        ("DATALOADER.TEST.BATCH_SIZE", 10**9),
        ("DATALOADER.NUM_WORKERS", 1_000_000),
        ("TRAINER.UPT.WIDTH", 10**9),
        ("DATASET.ROOT", "a\0b"),
        ("DATASET.TASKS", [{"ROOT": "a\0b"}]),
        ("DATASET.TASKS", "[" * 5000),
        ("OUTPUT_DIR", "out/\udcff"),
        ("DATASET.TASKS", [{"ROOT": "\udcff"}]),
    ],
)
def test_values_without_a_meaning(key, value):
    assert key in problem(key, value)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"OPTIM.WARMUP_EPOCH": 99, "OPTIM.MAX_EPOCH": 2}, "OPTIM.WARMUP_EPOCH 99 exceeds OPTIM.MAX_EPOCH 2"),
        ({"OPTIM.NAME": "sgd", "OPTIM.SGD_NESTEROV": True, "OPTIM.MOMENTUM": 0}, "OPTIM.SGD_NESTEROV True needs"),
        ({"INPUT.TRANSFORMS": ["gaussian_blur"], "INPUT.GB_K": 999}, "INPUT.GB_K 999 is too large"),
    ],
)
def test_settings_that_contradict_each_other(given, expected):
    cfg = get_cfg_default()
    load(cfg, [], [word for pair in given.items() for word in pair])
    with pytest.raises(ConfigError, match=expected):
        check(cfg)


def test_values_in_messages_are_short():
    assert show(10**5000) == "an integer of extreme size" and show("é") == "é" and show("\udcff") == "'\\udcff'"
    assert len(show("x" * 10_000)) < 350


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--shots", "4"], "did you mean DATASET.NUM_SHOTS VALUE?"),
        (["--lr", "0.01"], "did you mean OPTIM.LR VALUE?"),
        (["--epochs=3"], "did you mean OPTIM.MAX_EPOCH VALUE?"),
        (["--batch-size", "3"], "did you mean DATALOADER.TRAIN_X.BATCH_SIZE VALUE?"),
    ],
)
def test_an_unknown_flag_is_answered_with_a_setting(words, expected, capsys):
    with pytest.raises(SystemExit):
        train.parse(words)
    assert expected in capsys.readouterr().err


def test_key_equals_value_and_the_name_of_a_dataset(capsys):
    assert train.main(["OPTIM.LR=0.01", "SEED", "x=1", "--dataset", "icon5"]) == 2
    error = capsys.readouterr().err
    assert "OPTIM.LR=0.01: settings are given as KEY VALUE pairs, expected OPTIM.LR 0.01" in error
    assert "icon5: no such file; did you mean" in error and "configs/datasets/icon5.yaml?" in error
    assert "SEED = x=1: expected an integer" in error


def test_a_file_of_another_method_is_refused_unless_nothing_is_learned(tmp_path, capsys):
    file = tmp_path / "coop.yaml"
    file.write_text("TRAINER: {COOP: {N_CTX: 4}}\n")
    words = ["--config-file", str(file), "DATASET.NAME", "Icon5", "OUTPUT_DIR", str(tmp_path / "out")]
    assert train.main([*words, "--trainer", "MTCoOp"]) == 2
    error = capsys.readouterr().err
    assert f"{file} has settings of another method (TRAINER.COOP)" in error and "reads TRAINER.MTCOOP" in error
    assert not (tmp_path / "out").exists()
    assert train.main([*words, "--trainer", "ZeroshotCLIP"]) == 2  # later: the size of the images
    assert f"WARNING: {file} has settings of another method" in capsys.readouterr().out
    file.write_text("TRAINER: {COOP: {N_CTX: 4}, MTCOOP: {N_CTX: 4}}\n")  # as config.yaml of a run
    assert train.main([*words, "--trainer", "MTCoOp", "OPTIM.WARMUP_EPOCH", "99"]) == 2
    assert "another method" not in capsys.readouterr().err


def test_classes_with_fewer_images_than_shots_are_told(tmp_path, capsys):
    draw(tmp_path / "photos", *(f"{part}/ant/{i}.png" for part in ("train", "val", "test") for i in range(3)))
    draw(tmp_path / "photos", *(f"{part}/bee/{i}.png" for part in ("train", "val", "test") for i in range(9)))
    build_dataset(config("Suite", tmp_path, TASKS=[{"ROOT": "photos"}], NUM_SHOTS=3))
    assert "fewer training images" not in capsys.readouterr().out
    dataset = build_dataset(config("Suite", tmp_path, TASKS=[{"ROOT": "photos"}], NUM_SHOTS=4))
    assert len(dataset.train_x) == 7
    assert (
        "photos: 1 class of 2 with fewer training images than DATASET.NUM_SHOTS 4, all of which are used (ant: 3)"
        in capsys.readouterr().out
    )
