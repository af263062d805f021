"""The figures of the report, drawn from statistics."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from reporting.figures import COLOURS, INK, Figure, draw, series, wrapped
from reporting.page.blocks import number
from reporting.page.costs import COSTS, DRAWN, front_of

MOST_PANELS, MOST_BARS, MOST_BANDS = 24, 16, 8
WIDTH, ACROSS = 10.4, 5  # inches of a wide figure, and its panels beside each other
Styles = Mapping[str, int]  # number of the colour and marker of each row, the same in all figures


def _line(row: str, styles: Styles) -> dict:
    count = len(COLOURS)
    return {**series(styles[row]), "ls": ("-", "--", ":")[styles[row] // count % 3], "ms": 4, "lw": 1.3}


def _legend(figure, axes) -> None:
    """A legend above the axes in as many columns as fit, for which the figure becomes higher."""
    handles = {}
    for each in axes:
        handles |= dict(zip(*each.get_legend_handles_labels()[::-1], strict=True))
    names = [_short(name, 44) for name in handles]
    columns = max(1, min(6, int(17 * figure.get_figwidth()) // (max(map(len, names), default=0) + 8)))
    figure.set_figheight(figure.get_figheight() + 0.17 * math.ceil(len(names) / columns))
    figure.legend(handles.values(), names, loc="outside upper left", ncols=columns)


def _panels(figure, count: int, most: int = 4, **shared):
    columns = min(count, most)
    lines = math.ceil(count / columns)
    axes = figure.subplots(lines, columns, squeeze=False, **shared)
    for spare in axes.flat[count:]:
        spare.set_visible(False)
    for lowest in axes.flat[max(0, count - columns) : count]:  # there may be nothing below
        lowest.tick_params(labelbottom=True)
    return list(axes.flat[:count])


def _words(means: Mapping[str, str]) -> str:
    return "; ".join(f"{name}: {text}" for name, text in means.items())


def curves(
    name: str,
    caption: str,
    stats: pd.DataFrame,
    panels: Sequence[str],
    rows: Sequence[str],
    ticks: Sequence[str],
    styles,
) -> Figure:
    """Values over numbers of images, a panel per task or one in all, with bands of ± one standard deviation.

    Args:
        stats: columns panel, row, column (a tick, or "zero-shot"), mean, std.
        ticks: numbers of images in order, as text.
    """
    at = {key: part.set_index("column") for key, part in stats.groupby(["panel", "row"])}
    single = len(panels) == 1

    def paint(figure) -> None:
        axes = [figure.subplots()] if single else _panels(figure, len(panels), ACROSS, sharex=True)
        for axis, panel in zip(axes, panels, strict=True):
            for row in rows:
                _curve(axis, at.get((panel, row)), row, ticks, styles, plain=not single and len(rows) > MOST_BANDS)
            axis.set_xticks(range(len(ticks)), ticks)
            axis.set_xlim(-0.2, len(ticks) - 0.8)
            axis.set_title("" if single else wrapped(panel, 24))
        figure.supxlabel("training images per class", fontsize=8)
        _legend(figure, axes)

    height = 3.6 if single else 1.6 * math.ceil(len(panels) / ACROSS) + 0.6
    last = {row: at[panels[0], row]["mean"] for row in rows if (panels[0], row) in at}
    words = {row: ", ".join(f"{tick} {number(mean)}" for tick, mean in found.items()) for row, found in last.items()}
    description = f"{panels[0]}. {_words(words)}" if single else f"{len(panels)} panels; the numbers are in the tables."
    return draw(name, caption, description, (7.4 if single else WIDTH, height), paint)


def _curve(axis, found: pd.DataFrame | None, row: str, ticks: Sequence[str], styles: Styles, plain: bool) -> None:
    """One line with its band; `plain`: without a band, and with a marker at the end only."""
    if found is None:
        return
    if "zero-shot" in found.index:
        dashes = ((4, 2), (1, 1.5), (6, 1.5, 1, 1.5))[styles[row] % 3]
        axis.axhline(found.loc["zero-shot", "mean"], color=INK, lw=1, ls=(0, dashes), label=row)
        return
    known = [(x, tick) for x, tick in enumerate(ticks) if tick in found.index]
    if not known:
        return
    x = [position for position, _ in known]
    mean, std = (found.loc[[tick for _, tick in known], part].to_numpy(float) for part in ("mean", "std"))
    line = _line(row, styles)
    axis.plot(x, mean, label=row, markevery=[-1] if plain else None, **line)
    if np.isfinite(std).any() and not plain:
        std = np.nan_to_num(std)
        axis.fill_between(x, mean - std, mean + std, color=line["color"], alpha=0.15, lw=0)


def bars(
    name: str, caption: str, panels: Mapping[str, pd.DataFrame], label: str, styles: Styles | None = None, **shared
) -> Figure:
    """Horizontal bars, a panel per key: frames with the index of the bars and the columns mean and perhaps std.

    With `styles` a bar has the colour of its row; without, bars above and below zero differ in colour and side.
    `shared` are options of matplotlib's subplots, such as sharex.
    """
    count = max(map(len, panels.values()))
    across = ACROSS if shared.get("sharey") or len(panels) % 4 == 1 else 4

    def paint(figure) -> None:
        axes = _panels(figure, len(panels), across, **shared)
        for axis, (title, found) in zip(axes, panels.items(), strict=True):
            means = found["mean"].to_numpy(float)
            signs = [COLOURS[0] if mean >= 0 else COLOURS[1] for mean in means]
            colours = [COLOURS[styles[row] % len(COLOURS)] for row in found.index] if styles else signs
            errors = {"xerr": found["std"].fillna(0)} if "std" in found and found["std"].notna().any() else {}
            axis.barh(
                range(len(means)), means, color=colours, height=0.7, error_kw={"ecolor": INK, "lw": 0.7}, **errors
            )
            axis.set_yticks(range(len(means)), [_short(row) for row in found.index])
            axis.grid(visible=False, axis="y")
            axis.set_title(wrapped(title, 30))
            axis.axvline(0, color=INK, lw=0.6)
            axis.set_ylim(count - 0.5, -0.5)
            axis.locator_params(axis="x", nbins=5)
        figure.supxlabel(label, fontsize=8)

    words = {
        title: ", ".join(f"{row} {number(mean)}" for row, mean in found["mean"].items())
        for title, found in list(panels.items())[:3]
    }
    height = math.ceil(len(panels) / across) * (0.17 * count + 0.5) + 0.4
    return draw(name, caption, _words(words), (WIDTH if len(panels) > 2 else 3.4 * len(panels), height), paint)


def _short(text: str, most: int = 30) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def fronts(
    name: str, caption: str, costs: pd.DataFrame, values: pd.Series, label: str, larger: bool, styles
) -> Figure | None:
    """Values against costs, a panel per recorded cost, each with its Pareto front as a line; None without costs."""
    shown = [cost for cost in DRAWN if (costs[cost].notna() & values.reindex(costs.index).notna()).sum() > 1]
    if not shown:
        return None

    def paint(figure) -> None:
        axes = _panels(figure, len(shown))
        for axis, cost in zip(axes, shown, strict=True):
            title, unit, _ = COSTS[cost]
            amounts = costs[cost] / unit
            for row in costs.index:
                look = _line(row, styles) | {"ls": "none", "ms": 6}
                axis.plot(amounts[row], values.get(row, np.nan), label=row, **look)
            front = front_of(cost, costs, values, larger)
            axis.plot(amounts[front], values[front], color=INK, lw=0.9, ls=":", drawstyle="steps-post", zorder=0)
            _cost_scale(axis, amounts)
            axis.margins(x=0.12)
            axis.set_xlabel(title)
        axes[0].set_ylabel(label)
        _legend(figure, axes)

    words = {COSTS[cost][0]: " then ".join(front_of(cost, costs, values, larger)) for cost in shown}
    size = (3.4 * len(shown), 2.9)
    return draw(name, caption, f"Pareto fronts by rising cost. {_words(words)}", size, paint)


def _cost_scale(axis, amounts: pd.Series) -> None:
    """A logarithmic axis with few ticks, which is linear below the smallest cost above zero if there is a cost of zero.

    Costs of one order of magnitude get a linear axis.
    """
    from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

    positive = amounts[amounts > 0]
    if positive.empty or (len(positive) == len(amounts.dropna()) and positive.max() < 10 * positive.min()):
        axis.xaxis.set_major_locator(MaxNLocator(4))
    elif len(positive) < len(amounts.dropna()):
        axis.set_xscale("symlog", linthresh=positive.min(), linscale=0.5)
    else:
        axis.set_xscale("log")
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda amount, _: _engineering(amount)))


def _engineering(amount: float) -> str:
    """3000 as 3k, 2500000 as 2.5M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(amount) >= size:
            return f"{amount / size:g}{letter}"
    return f"{amount:g}"


def training(name: str, caption: str, found: Mapping[str, pd.DataFrame], styles: Styles) -> Figure:
    """Training curves: loss, and accuracy on validation or on the training images, over epochs, a line per row.

    Args:
        found: {row: frame indexed by epoch with the columns loss, acc, validation as far as they are known}.
    """
    titles = {"loss": "training loss", "acc": "accuracy on training images (%)", "validation": "validation (%)"}
    shown = [part for part in titles if any(part in each and each[part].notna().any() for each in found.values())]

    def paint(figure) -> None:
        axes = _panels(figure, len(shown))
        for axis, part in zip(axes, shown, strict=True):
            for row, each in found.items():
                if part in each:
                    line = _line(row, styles) | {"marker": None, "ls": ("-", "--", ":")[styles[row] // 7 % 3]}
                    axis.plot(each.index, each[part], label=row, **line)
            axis.set_title(titles[part])
            axis.xaxis.get_major_locator().set_params(integer=True)
        figure.supxlabel("epoch", fontsize=8)
        _legend(figure, axes)

    words = {
        row: f"loss {number(each['loss'].iloc[-1])} after {each.index[-1]} epochs"
        for row, each in found.items()
        if "loss" in each
    }
    return draw(name, caption, _words(words), (3.6 * len(shown), 2.5), paint)


def matrices(name: str, caption: str, panels: Mapping[str, np.ndarray]) -> Figure:
    """Confusion matrices (C, C) in per cent of the images of the true class (row), a panel per task."""

    def paint(figure) -> None:
        axes = _panels(figure, len(panels), ACROSS)
        for axis, (task, matrix) in zip(axes, panels.items(), strict=True):
            image = axis.imshow(matrix, cmap="Blues", vmin=0, vmax=100, interpolation="nearest")
            axis.set(xticks=[], yticks=[])
            axis.set_title(wrapped(task, 24))
            axis.grid(visible=False)
        axes[0].set_ylabel("true class")
        figure.supxlabel("predicted class", fontsize=8)
        figure.colorbar(image, ax=axes, shrink=0.6, label="% of the class")

    right = {task: f"{number(np.nanmean(np.diag(matrix)))} % on the diagonal" for task, matrix in panels.items()}
    return draw(name, caption, _words(right), (WIDTH, 2.2 * math.ceil(len(panels) / ACROSS) + 0.4), paint)
