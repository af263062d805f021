"""Options of sweep.py for engines, without Ray and SLURM."""

import sys

import pytest

import sweep
from dassl.utils import UserError
from sweeps.engines import check, engine_of, slurm_request


def options(*words):
    return sweep.build_parser().parse_args(["grid", *words])


@pytest.mark.parametrize(
    "words, expected",
    [
        (["--pack", "2"], "--pack is for --engine slurm, not for local"),
        (["--engine", "ray", "--time", "5"], "--time is for --engine slurm, not for ray"),
        (["--engine", "slurm", "--address", "a:1"], "--address is for --engine ray, not for slurm"),
        (["--gpus-per-run", "0.5"], "--gpus-per-run is for --engine ray and slurm, not for local"),
        (["--engine", "ray", "--gpus", "0,1"], "--gpus is for --engine local, not for ray"),
    ],
)
def test_options_of_other_engines_are_refused(words, expected):
    with pytest.raises(UserError, match=expected):
        check(options(*words))


@pytest.mark.parametrize("engine", ["ray", "slurm"])
@pytest.mark.parametrize(
    "words, expected",
    [
        (["--gpus-per-run", "2"], "--gpus-per-run has to be 0, 1, or a part of one GPU such as 0.25; found 2"),
        (["--gpus-per-run", "nan"], "--gpus-per-run has to be .*found nan"),
        (["--cpus-per-run", "0"], "--cpus-per-run has to be a whole number.*found 0"),
        (["--cpus-per-run", "1.5"], "--cpus-per-run has to be a whole number.*found 1.5"),
        (["--jobs", "0"], "has to be a number of runs"),
    ],
)
def test_wrong_amounts_are_refused_before_anything_starts(engine, words, expected, monkeypatch):
    monkeypatch.setattr("sweeps.engines._module", lambda name: pytest.fail("the engine starts"))
    with pytest.raises(UserError, match=expected):
        engine_of(options("--engine", engine, *words))


@pytest.mark.parametrize("name, text", [("pack", "0"), ("time", "1:00:00")])
def test_wrong_whole_numbers_are_refused(name, text, monkeypatch):
    monkeypatch.setattr("sweeps.engines._module", lambda name: pytest.fail("the engine starts"))
    with pytest.raises(UserError, match=f"--{name} has to be a whole number, at least 1; found {text}"):
        engine_of(options("--engine", "slurm", f"--{name}", text))


@pytest.mark.parametrize("engine, package", [("ray", "ray"), ("slurm", "submitit")])
def test_a_missing_package_is_named_with_its_requirements(engine, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    for name in [name for name in sys.modules if name.startswith((f"{package}.", f"sweeps.{engine}"))]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(UserError, match=f"needs the package {package}: pip install -r requirements-{engine}.txt"):
        engine_of(options("--engine", engine))


def test_what_is_asked_of_slurm():
    pytest.importorskip("submitit")
    words = ["--pack", "3", "--time", "90", "--partition", "p", "--gpus-per-run", "0.5", "--cpus-per-run", "2"]
    request = slurm_request(options("--engine", "slurm", *words, "--jobs", "7"))
    assert (request.pack, request.minutes, request.partition, request.gpus) == (3, 90, "p", 0.5)
    assert (request.cpus, request.most, request.beside) == (2, 7, 2)
