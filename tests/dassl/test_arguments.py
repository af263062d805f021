"""Command lines: the order of arguments does not matter, also with options that take several values."""

import pytest

import parse_test_res
import predict
import train
from dassl.utils.arguments import Parser, add_seeds
from reporting import domain_shift


@pytest.mark.parametrize(
    "words",
    [
        "--seeds 1 2 3 DIR",
        "DIR --seeds 1 2 3",
        "--seeds 1,2,3 DIR",
        "--ci95 --seeds 1, 2 3 --csv DIR",
        "--seed 1 2 3 DIR",  # an abbreviation
        "--csv DIR --seeds=1,2,3",
        "--seeds 1 2 3 -- DIR",
    ],
)
def test_values_of_a_list_do_not_swallow_the_folder(words):
    options = parse_test_res.build_parser().parse_args(words.split())
    assert options.seeds == [1, 2, 3] and str(options.directory) == "DIR"


@pytest.mark.parametrize("words", ["--targets a b L=D M=E", "L=D --targets a b --cross M=E", "L=D M=E --targets a,b"])
def test_targets_end_at_the_first_folder(words):
    options = domain_shift.build_parser().parse_args(words.split())
    assert options.targets == ["a", "b"] and options.experiments == ["L=D", "M=E"]


def test_settings_may_follow_transforms_and_images_may_follow_options():
    args = train.parse(["--transforms", "random_flip", "center_crop", "OPTIM.LR", "0.1", "--seed", "3", "SEED", "4"])
    assert getattr(args, "INPUT.TRANSFORMS") == ["random_flip", "center_crop"]
    assert args.opts == ["OPTIM.LR", "0.1", "SEED", "4"]
    args = predict.parse(["RUN", "--topk", "3", "a.png", "--json", "b.png"])
    assert args.run == "RUN" and args.images == ["a.png", "b.png"] and args.topk == 3


@pytest.mark.parametrize("words", [["--seeds", "one"], ["--seeds"], ["--seeds", "--csv", "DIR"]])
def test_a_list_without_numbers_is_an_error(words, capsys):
    parser = Parser()
    add_seeds(parser, "expected seeds")
    parser.add_argument("--csv", action="store_true")
    parser.add_argument("folder", nargs="?")
    with pytest.raises(SystemExit) as stopped:
        parser.parse_args(words)
    assert stopped.value.code == 2
    expected = "'one': expected whole numbers" if "one" in words else "expected one argument"
    assert f"argument --seeds: {expected}" in capsys.readouterr().err
