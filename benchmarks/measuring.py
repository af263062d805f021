"""Measuring: alternating timings, peak memory in separate processes, the rate of matrix products, tables.

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
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from clip.text_tower import TextTower

from .common import relative

ROOT = Path(__file__).resolve().parents[1]
SIDES = ("plain", "ours")
MIB = 2**20


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


def peak_over_base(run: Callable, device: torch.device) -> int:
    """Peak memory of `run` in bytes, minus the memory in use before it."""
    if device.type == "cuda":
        run()  # a first pass, so that one-time allocations of the libraries are not counted
        base = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        run()
        return torch.cuda.max_memory_allocated(device) - base
    _give_back()
    _forget_peak()
    base = _resident("VmRSS")
    run()
    return _resident("VmHWM") - base


def _give_back() -> None:
    """Return freed memory to the system; otherwise the pass would reuse memory from building the model, uncounted."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # glibc only
        ctypes.CDLL(None).malloc_trim(0)


def _forget_peak() -> None:
    """Reset the kernel's record of the peak resident size, which building the model may have raised."""
    with contextlib.suppress(OSError):  # not Linux, or not allowed: the peak since the start of the process is used
        Path("/proc/self/clear_refs").write_text("5")


def _resident(field: str) -> int:
    """A field of /proc/self/status in bytes; on other systems the peak resident size.

    ru_maxrss is the second choice because in a child process it begins with the size of the parent.
    """
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.split(field + ":")[1].split()[0]) * 1024
    except (OSError, IndexError):
        unit = 1 if platform.system() == "Darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def add_memory_options(parser) -> None:
    """Add --memory-only, --no-memory, and --measure SIDE, which a program uses to call itself."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--memory-only", action="store_true", help="measure memory only, no times and differences")
    group.add_argument("--no-memory", action="store_true", help="do not measure memory (two more processes)")
    group.add_argument("--measure", choices=SIDES, help="print the peak bytes of one side only")


def memory(program: str, argv: Sequence[str], sides: Sequence[str] = ()) -> dict[str, float]:
    """Peak memory in MiB of each of `sides` (default SIDES) of `program`, each measured in its own process."""
    found = {}
    kept = [word for word in argv if word not in ("--json", "--memory-only")]
    for side in sides or SIDES:
        done = subprocess.run(
            [sys.executable, "-m", program, *kept, "--measure", side], cwd=ROOT, capture_output=True, text=True
        )
        if done.returncode:
            how = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"it ended with {done.returncode}"
            sys.exit(f"error: the memory of the {side} side could not be measured: {how}")
        found[side] = int(done.stdout.split()[-1]) / MIB
    return found


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


# ---- output ----


def machine(args: Namespace) -> dict:
    """Machine and settings of a benchmark, for its JSON object."""
    return {
        "backbone": args.backbone,
        "dtype": args.dtype,
        "device": args.device,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "processor": platform.machine(),
        "repeat": args.repeat,
    }


def report(result: dict, title: str, rows: list[tuple], notes: list[str], as_json: bool) -> None:
    """Print `result` as one JSON object, or as a table of rows (what, plain, ours, ratio) followed by notes."""
    if as_json:
        print(json.dumps(result))
        return
    print(f"{title}\n{machine_line(result)}")
    print_table([("", "plain", "ours", "ratio"), *rows])
    for note in notes:
        print(note)


def print_table(rows: Sequence[Sequence]) -> None:
    """Print rows of equal length, including the head: the first column left-aligned, the others right-aligned."""
    rows = [[_cell(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for what, *cells in rows:
        print(
            "  ".join([what.ljust(widths[0]), *(c.rjust(w) for c, w in zip(cells, widths[1:], strict=True))]).rstrip()
        )


def machine_line(result: dict) -> str:
    """One line with machine and settings of `result`."""
    return "backbone {backbone}, {dtype}, {device}, {threads} threads, torch {torch}, median of {repeat}".format(
        **result
    )


def by_image(sides: dict[str, Callable], same: Callable, images: dict[str, int], repeat: int, device: torch.device):
    """Time per image of two sides and their relative difference: (entries of a result, rows of its table).

    Each side returns features and their gradient for `images[side]` images. `same` is our side with as many images as
    the plain side.
    """
    (features, gradient), (expected, expected_gradient) = same(), sides["plain"]()
    seconds = alternate(sides, repeat, device)
    ms = {side: 1e3 * seconds[side] / images[side] for side in SIDES}
    difference = {"features": relative(features, expected), "gradients": relative(gradient, expected_gradient)}
    result = {
        "seconds": seconds,
        "ms_per_image": ms,
        "speedup_per_image": ms["plain"] / ms["ours"],
        "difference": difference,
    }
    differences = [(f"relative difference of {what}", "", f"{value:.1e}", "") for what, value in difference.items()]
    return result, [row("ms per pass", seconds, 1e3), row("ms per image", ms), *differences]


def row(what: str, values: dict[str, float], scale: float = 1.0) -> tuple:
    """A row of the table: the values of both sides, and the ratio plain / ours."""
    plain, ours = (values[side] * scale for side in SIDES)
    return what, plain, ours, f"{plain / max(ours, 1e-12):.1f} x"


def _cell(value) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
