"""The engines by name."""

from __future__ import annotations

import importlib
import math

from dassl.utils.errors import UserError

from .calls import Place
from .local import Local, read_jobs, share_processors

# options of sweep.py that only some engines have
OWN = {
    "gpus": ("local",),
    "address": ("ray",),
    "cpus_per_run": ("ray", "slurm"),
    "gpus_per_run": ("ray", "slurm"),
    "pack": ("slurm",),
    "partition": ("slurm",),
    "time": ("slurm",),
}


def engine_of(options):
    """(engine, KEY VALUE words for all its runs) for the options of sweep.py. Raises UserError."""
    check(options)
    if options.engine == "local":
        gpus = tuple(int(word) for word in options.gpus.replace(",", " ").split())
        jobs = read_jobs(options.jobs)
        return Local(jobs, gpus), share_processors(jobs)
    cpus = _amount(options, "cpus_per_run", 1)
    gpus = _amount(options, "gpus_per_run", None)
    # if a run has one processor, worker processes only take time from it
    more = ["DATALOADER.NUM_WORKERS", "0"] if cpus <= 1 and not gpus else []
    if options.engine == "ray":
        most = read_jobs(options.jobs) if options.jobs else None
        engine = _module("ray").Ray(options.address, cpus, gpus, most)
        return engine, more if not engine.gpus else []
    request = slurm_request(options)
    return _module("slurm").Slurm(_slurm_folder(), request), more


def check(options) -> None:
    """Refuse options that the engine does not have. Raises UserError."""
    for name, engines in OWN.items():
        if getattr(options, name) and options.engine not in engines:
            raise UserError(
                f"--{name.replace('_', '-')} is for --engine {' and '.join(engines)}, not for {options.engine}"
            )


def slurm_request(options):
    """What the options ask of SLURM. Raises UserError."""
    cpus, gpus = _amount(options, "cpus_per_run", 1), _amount(options, "gpus_per_run", 0)
    if cpus != math.ceil(cpus):
        raise UserError(f"--cpus-per-run has to be a whole number for SLURM, found {options.cpus_per_run}")
    asked = (_whole(options, "pack", 1), int(cpus), gpus, _whole(options, "time", 60), options.partition)
    most = read_jobs(options.jobs) if options.jobs else None
    return _module("slurm").Request(*asked, most)


def show_script(options, runs: int) -> None:
    """Print the batch script of a sweep as comments."""
    request = slurm_request(options)
    print(f"# as a SLURM array, {request.pack} per element:")
    for line in request.script(runs, _slurm_folder()).splitlines():
        print(f"# {line}".rstrip())


def _slurm_folder():
    return Place.of_environment().output / "output" / "slurm"


def _module(name: str):
    package = {"ray": "ray", "slurm": "submitit"}[name]
    try:
        return importlib.import_module(f"sweeps.{name}")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != package:
            raise
        raise UserError(
            f"--engine {name} needs the package {package}: pip install -r requirements-{name}.txt"
        ) from None


def _amount(options, name: str, default: float | None) -> float | None:
    """The value of --cpus-per-run or --gpus-per-run. Raises UserError."""
    text, gpus = getattr(options, name), name == "gpus_per_run"
    if not text:
        return default
    expected = "0, 1, or a part of one GPU such as 0.25" if gpus else "a whole number, or a part of one such as 0.5"
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not (0 <= value <= 1 if gpus else 0 < value < 10**4 and (value < 1 or value == int(value))):
        raise UserError(f"--{name.replace('_', '-')} has to be {expected}; found {text}")
    return value


def _whole(options, name: str, default: int) -> int:
    text = getattr(options, name)
    if not text:
        return default
    if not text.isdigit() or int(text) < 1:
        raise UserError(f"--{name} has to be a whole number, at least 1; found {text}")
    return int(text)
