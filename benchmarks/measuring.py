"""How the benchmarks measure: alternating timings, peak memory in processes of its own, the machine's rate, tables.

A benchmark has sides, "plain" and "ours": functions without arguments that do the same work in two ways.
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
    """Median seconds of each side over `repeat` rounds that run all of them in turn, after one more as warm-up."""
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


# ---- memory


def peak_over_base(run: Callable, device: torch.device) -> int:
    """Bytes that `run` adds at its peak to what is resident before it."""
    if device.type == "cuda":
        run()  # what the libraries allocate once is no part of a pass
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
    """Return freed memory to the system, else the pass would use again what building the model left, unseen."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # not glibc
        ctypes.CDLL(None).malloc_trim(0)


def _forget_peak() -> None:
    """Start the kernel's record of the highest resident size anew: building the model may have gone higher."""
    with contextlib.suppress(OSError):  # not Linux, or not allowed: then it is the peak since the process began
        Path("/proc/self/clear_refs").write_text("5")


def _resident(field: str) -> int:
    """Bytes of /proc/self/status; elsewhere the highest resident size so far.

    Preferred to ru_maxrss, which in a child process begins at the size its parent had.
    """
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.split(field + ":")[1].split()[0]) * 1024
    except (OSError, IndexError):
        unit = 1 if platform.system() == "Darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def add_memory_options(parser) -> None:
    """--memory-only, --no-memory, and --measure SIDE, which a program calls itself with."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--memory-only", action="store_true", help="measure memory, no time and no difference")
    group.add_argument("--no-memory", action="store_true", help="do not measure memory (two more processes)")
    group.add_argument("--measure", choices=SIDES, help="print the peak bytes of one side only")


def memory(program: str, argv: Sequence[str], sides: Sequence[str] = ()) -> dict[str, float]:
    """MiB that each of `sides` (default SIDES) of `program` adds at its peak, each in a process of its own."""
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


# ---- the machine's rate


def products_alone(tower: TextTower, rows: int) -> Callable:
    """A function that does the tower's projections of `rows` tokens, forward and backward, and nothing else.

    Its attribute `flops` is their number, so that its time gives the rate of the machine at just these shapes.
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
    """Floating-point operations of all matrix products that `run` really does, forward and backward."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


# ---- what is printed


def machine(args: Namespace) -> dict:
    """Where and on what a benchmark ran, for its JSON object."""
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
    """`result` as one JSON object, or a table of rows (what, plain, ours, ratio) and the notes under it."""
    if as_json:
        print(json.dumps(result))
        return
    print(f"{title}\n{machine_line(result)}")
    print_table([("", "plain", "ours", "ratio"), *rows])
    for note in notes:
        print(note)


def print_table(rows: Sequence[Sequence]) -> None:
    """Rows of equally many cells, the head among them: text on the left, then columns that end under each other."""
    rows = [[_cell(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for what, *cells in rows:
        print(
            "  ".join([what.ljust(widths[0]), *(c.rjust(w) for c, w in zip(cells, widths[1:], strict=True))]).rstrip()
        )


def machine_line(result: dict) -> str:
    """Where and on what `result` was measured, in a line."""
    return "backbone {backbone}, {dtype}, {device}, {threads} threads, torch {torch}, median of {repeat}".format(
        **result
    )


def by_image(sides: dict[str, Callable], same: Callable, images: dict[str, int], repeat: int, device: torch.device):
    """What two sides take for an image each and how far they differ, as (entries of a result, rows of its table).

    A side is a function that gives features and their gradient, of `images[side]` images; `same` is ours on as many
    images as the plain one takes.
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
    return result, [row("ms a pass", seconds, 1e3), row("ms an image", ms), *differences]


def row(what: str, values: dict[str, float], scale: float = 1.0) -> tuple:
    """A row of the table from the values of both sides, with plain / ours."""
    plain, ours = (values[side] * scale for side in SIDES)
    return what, plain, ours, f"{plain / max(ours, 1e-12):.1f} x"


def _cell(value) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
