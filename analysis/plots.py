"""Common parts of the analyses' figures: heat maps and files. Style and colours are those of reporting/figures.py.

A figure NAME is written to NAME.png and NAME.pdf, and its numbers to NAME.csv. matplotlib is imported when a figure is
drawn.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from dassl.utils import UserError, atomic_write, mkdir_if_missing
from reporting.figures import DPI, STYLE, rendered, series, wrapped  # noqa: F401  part of this module, too

MAP = "viridis"  # perceptually uniform, also for colour-blind readers
ENDINGS = (".png", ".pdf", ".csv")


# ---- files ----


def output(given: str | None, folder: str | os.PathLike, name: str) -> str:
    """Path of a figure's files without extension: `given` without its extension, or else folder/figures/name.

    Call it before slow steps. Raises UserError if the files cannot be written.
    """
    path = given or os.path.join(folder, "figures", name)
    stem, ending = os.path.splitext(path)
    path = stem if ending in ENDINGS else path
    if not os.path.basename(path) or os.path.isdir(path):
        raise UserError(f"--out {path} is a folder: expected the beginning of file names, such as {path}/{name}")
    there = os.path.dirname(os.path.abspath(path))
    while not os.path.exists(there):
        there = os.path.dirname(there)
    if not os.path.isdir(there) or not os.access(there, os.W_OK):
        raise UserError(f"--out {path}: cannot write into {there}; choose another place with --out NAME")
    return path


@contextmanager
def figure(path: str, columns: Sequence[str], rows: Sequence[dict], width: float, height: float) -> Iterator:
    """Yield an empty matplotlib Figure of `width` x `height` inches and write it when the block ends.

    The figure goes to path.png and path.pdf, and `rows` go to path.csv with the header `columns`. The three paths are
    printed. Nothing is written if the block raises an exception.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        drawn = Figure(figsize=(width, height), dpi=DPI, layout="constrained")  # the DPI affects the width of text
        FigureCanvasAgg(drawn)
        yield drawn
        files = rendered(drawn, ("png", "pdf"), margin=0.1)
    files["csv"] = as_csv(columns, rows).encode()
    mkdir_if_missing(os.path.dirname(os.path.abspath(path)))
    for ending, content in files.items():
        with atomic_write(f"{path}.{ending}", "wb") as stream:
            stream.write(content)
        print(f"{path}.{ending}")


def as_csv(columns: Sequence[str], rows: Sequence[dict]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


# ---- pieces of figures ----


def heat_map(axes, values: np.ndarray, rows: Sequence[str], columns: Sequence[str], text: str, label: str, **limits):
    """Draw a matrix as colours with its numbers in format `text` and a colour bar with the label `label`.

    rows, columns: names of the rows and columns. limits: vmin and vmax of the colours; values beyond them are clipped.
    Cells with NaN stay grey and without a number.
    """
    image = axes.imshow(values, cmap=MAP, aspect="equal", **limits)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.set_xticks(range(len(columns)), [wrapped(name) for name in columns], rotation=90, fontsize=8)
    axes.set_yticks(range(len(rows)), [wrapped(name, 40) for name in rows], fontsize=8)
    axes.tick_params(length=0)
    axes.set_facecolor("0.88")
    for (i, j), value in np.ndenumerate(values):
        if np.isnan(value):
            continue
        dark, number = image.norm(value) < 0.6, format(value, text)
        number = format(0.0, text) if float(number) == 0 else number  # not -0.00
        axes.text(j, i, number, ha="center", va="center", fontsize=7, color="w" if dark else "k")
    beyond = "max" if np.nanmax(values) > image.norm.vmax else "neither"
    bar = axes.figure.colorbar(image, ax=axes, shrink=0.5, aspect=15, extend=beyond)
    bar.set_label(label, fontsize=8)
    bar.ax.tick_params(labelsize=7)


def names_above(axes, positions: Sequence[float], names: Sequence[str]) -> None:
    """Write the name of every x position above the axes, without overlaps, with a thin line down to its position.

    Call it after the limits of x are final. The names need about 1.6 inches above the axes.
    """
    low, high = axes.get_xlim()
    where = (np.asarray(positions, float) - low) / (high - low)
    places = spread_out(where, min(0.055, 1 / max(len(names), 1)))
    line = {"color": "0.6", "lw": 0.6, "transform": axes.transAxes, "clip_on": False}
    for x, place, name in zip(where, places, names, strict=True):
        axes.plot([x, x, place], [0, 1, 1.06], zorder=0, **line)
        axes.text(
            place, 1.07, wrapped(name, 30), transform=axes.transAxes, rotation=90, ha="center", va="bottom", fontsize=7
        )


def spread_out(where: np.ndarray, least: float) -> np.ndarray:
    """Move positions in [0, 1] as little as possible so that they are at least `least` apart.

    Neighbours that touch are merged into a block, which is centred on the mean of their wanted positions.
    """
    order = np.argsort(where, kind="stable")
    blocks: list[list] = []  # [sum of wanted starts, members]
    for i, index in enumerate(order):
        blocks.append([where[index] - i * least, 1])
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] >= blocks[-1][0] / blocks[-1][1]:
            total, members = blocks.pop()
            blocks[-1] = [blocks[-1][0] + total, blocks[-1][1] + members]
    starts = np.concatenate([np.full(members, total / members) for total, members in blocks])
    found = np.clip(starts, 0, max(0.0, 1 - least * (len(where) - 1))) + least * np.arange(len(where))
    return found[np.argsort(order, kind="stable")]
