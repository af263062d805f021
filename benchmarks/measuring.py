"""Measuring: alternating timings, peak memory, the rate of matrix products, tables.

A benchmark has two sides, "plain" and "ours": functions without arguments that do the same work in two ways.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import platform
import resource
import statistics
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from clip.text_tower import TextTower
from dassl.utils import counted
from reporting.text import render

from .common import free_memory, positive, relative

SIDES = ("plain", "ours")
SIDES_HEAD = ("", "plain", "ours", "ratio")
MIB = 2**20
NOT_SETTINGS = ("json", "memory", "memory_only", "no_memory", "methods")  # flags that change no measured value


def alternate(
    sides: dict[str, Callable],
    repeat: int,
    device: torch.device,
    warm_up: bool = True,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Median seconds of each side over `repeat` rounds. A round runs all sides in turn; a first round is a warm-up."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(not warm_up, repeat + 1):
        for name, run in sides.items():
            _wait(device)
            begin = clock()
            run()
            _wait(device)
            if turn:
                seconds[name].append(clock() - begin)
    return {name: statistics.median(values) for name, values in seconds.items()}


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


# ---- memory ----


def peak_over_base(run: Callable, device: torch.device, warm_up: bool = True) -> int:
    """Peak memory of `run` in bytes, minus the memory in use before it."""
    if warm_up:
        run()  # a first pass, so that one-time allocations of the libraries are not counted
    if device.type == "cuda":
        base = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        run()
        return torch.cuda.max_memory_allocated(device) - base
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # glibc only; else the pass reuses freed memory, uncounted
        ctypes.CDLL(None).malloc_trim(0)
    with contextlib.suppress(OSError):  # not Linux, or not allowed: the peak since the start of the process is used
        Path("/proc/self/clear_refs").write_text("5")
    base = _resident("VmRSS")
    run()
    return _resident("VmHWM") - base


def _resident(field: str) -> int:
    """A field of /proc/self/status in bytes; on other systems the peak resident size."""
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.split(field + ":")[1].split()[0]) * 1024
    except (OSError, IndexError):
        unit = 1 if platform.system() == "Darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def add_memory_options(parser) -> None:
    """Add --memory-only and --no-memory."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--memory-only", action="store_true", help="measure memory only, no times and differences")
    group.add_argument("--no-memory", action="store_true", help="do not measure memory")


def add_image_options(parser) -> None:
    """Add --images, --checkpoint, --plain-images and the options of memory: of benchmarks of the image tower."""
    parser.add_argument("--images", type=positive, default=32, help="B, images per batch")
    parser.add_argument(
        "--checkpoint", action="store_true", help="our side recomputes activations in the backward pass"
    )
    parser.add_argument(
        "--plain-images", type=positive, help="images of the plain side (default: as many as fit into memory)"
    )
    add_memory_options(parser)


def images_of(args: Namespace, size: int) -> dict[str, int]:
    """The images of each side, where an image of the plain side takes `size` bytes."""
    wanted = args.plain_images or max(1, int(0.7 * free_memory(torch.device(args.device)) / size))
    return {"plain": min(wanted, args.images), "ours": args.images}


def peaks(sides: dict[str, Callable], device: torch.device) -> dict[str, float]:
    """Peak memory of each side in MiB, minus the memory in use before it."""
    return {name: peak_over_base(run, device) / MIB for name, run in sides.items()}


# ---- rate of matrix products ----


def products_alone(tower: TextTower, rows: int) -> Callable:
    """A function that computes only the tower's projections of `rows` tokens, forward and backward.

    Its attribute `flops` is the number of operations, so its time gives the rate of the machine for these shapes.
    """
    weights = []  # (out, in) each
    for block in tower.blocks:
        attn, mlp = block.attn, block.mlp
        weights += [attn.in_proj_weight, attn.out_proj.weight, mlp.c_fc.weight, mlp.c_proj.weight]
    sizes = {size for weight in weights for size in weight.shape}
    x = {size: torch.randn(rows, size, device=tower.device, dtype=weights[0].dtype) for size in sizes}

    @torch.no_grad()
    def run() -> None:
        for weight in weights:
            F.linear(x[weight.shape[1]], weight)
        for weight in reversed(weights):
            x[weight.shape[0]] @ weight

    run.flops = 4 * rows * sum(weight.numel() for weight in weights)
    return run


def flops(run: Callable) -> int:
    """Floating-point operations of all matrix products in `run`, forward and backward."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


# ---- both sides ----


def compare(sides: dict[str, Callable], same: Callable, counts: dict[str, int], unit: str, args, beside=None):
    """Times, differences and peak memory of two sides, as far as `args` asks for them.

    Args:
        sides: each returns features and their gradient for `counts[side]` images or classes.
        same: our side with as many images or classes as the plain side.
        counts: images or classes of each side.
        unit: "image" or "class".
        args: flags of the program, with those of `add_memory_options`.
        beside: {name: function} that is timed as well.

    Returns:
        (entries of a result, rows of its table, notes).
    """
    device, result, rows, notes = torch.device(args.device), {}, [], []
    if not args.memory_only:
        pairs = zip(("features", "gradients"), same(), sides["plain"](), strict=True)
        difference = {what: relative(found, expected) for what, found, expected in pairs}
        seconds = alternate({**sides, **(beside or {})}, args.repeat, device)
        ms = {side: 1e3 * seconds[side] / counts[side] for side in SIDES}
        result = {"seconds": seconds, f"ms_per_{unit}": ms, f"speedup_per_{unit}": ms["plain"] / ms["ours"]}
        result["difference"] = difference
        rows = [row("ms per pass", seconds, 1e3), row(f"ms per {unit}", ms), *difference_rows(difference)]
    if not args.no_memory:
        result["memory_mib"] = peaks(sides, device)
        rows.append(row("peak MiB over the base", result["memory_mib"]))
    if counts["plain"] < counts["ours"]:
        notes.append(f"plain ran on {counts['plain']} of the {counted(counts['ours'], unit)}: compare times per {unit}")
    return result, rows, notes


def add_memory_per_image(result: dict, rows: list, images: dict[str, int]) -> None:
    """Add the peak memory per image to the result and the rows of `compare`, if memory was measured."""
    if "memory_mib" in result:
        result["memory_mib_per_image"] = {side: result["memory_mib"][side] / images[side] for side in SIDES}
        rows.append(row("… per image", result["memory_mib_per_image"]))


# ---- output ----


def settings(program: str, args: Namespace) -> dict:
    """Name and flags of a benchmark and the machine, for its JSON object."""
    flags = {name: value for name, value in vars(args).items() if name not in NOT_SETTINGS}
    machine = {"threads": torch.get_num_threads(), "torch": torch.__version__, "processor": platform.machine()}
    return {"program": program, **flags, **machine}


def report(result: dict, title: str, rows: Sequence[Sequence], notes: Sequence[str], as_json: bool, head=SIDES_HEAD):
    """Print `result` as one JSON object, or as a table with the columns `head`, followed by notes."""
    if as_json:
        print(json.dumps(result))
        return
    about = "backbone {backbone}, {dtype}, {device}, {threads} threads, torch {torch}, median of {repeat}"
    print(f"{title}\n{about.format(**result)}")
    print(render(list(head), [[_cell(value) for value in cells] for cells in rows]))
    for note in notes:
        print(note)


def row(what: str, values: dict[str, float], scale: float = 1.0) -> tuple:
    """A row of the table: the values of both sides, and the ratio plain / ours."""
    plain, ours = (values[side] * scale for side in SIDES)
    return what, plain, ours, f"{plain / max(ours, 1e-12):.1f} x"


def difference_rows(differences: dict[str, float]) -> list[tuple]:
    """Rows with the relative differences of both sides."""
    return [(f"relative difference of {what}", "", f"{value:.1e}", "") for what, value in differences.items()]


def _cell(value) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
