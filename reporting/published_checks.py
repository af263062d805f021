"""Check published figures against themselves: do printed averages follow from the figures they are averages of?

A printed number stands for an interval: half a last digit to both sides, and more if it was read off a plot. A printed
average contradicts its parts if no numbers in the intervals of the parts have an average in its own interval. The
arithmetic is exact.
"""

from collections.abc import Callable, Sequence
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction

import pandas as pd

from reporting.published_tables import COSTS, ROW, TRAINED_ON, H, load

KEY = ("method", "backbone", "protocol", "classes", "shots")
MEAN, SHOTS, SPREAD, HARMONIC = "mean over datasets", "mean over shots", "mean of the ±", "harmonic mean"
MEAN_OF_H = "it is the mean of the datasets' harmonic means"
Interval = tuple[Fraction, Fraction]


def checks() -> pd.DataFrame:
    """A row per printed average whose parts are printed beside it.

    Columns: `source`, those of KEY, `dataset`; `kind`; `printed`; `parts`, the average of the printed parts, rounded to
    as many digits; `low` and `high`, the least and the greatest average that the parts allow; `equal`, whether
    `printed` is `parts`; `follows`, whether `printed` does not contradict its parts; `remark`, what it is instead
    where that is known.
    """
    frame = load()
    figures = frame[~frame["computed"] & ~frame["metric"].isin(COSTS)].to_dict("records")
    rows = [*_over_datasets(figures), *_over_shots(figures), *_over_halves(figures)]
    return pd.DataFrame(rows).astype({"shots": "Int64"})


def disagreements() -> pd.DataFrame:
    """Averages over the eleven datasets that several sources print with different values.

    Columns: those of KEY, and `values`, {value: [keys of its sources]}.
    """
    frame = load()
    frame = frame[~frame["computed"] & (frame["dataset"] == "General11") & frame["read_off_plot"].isna()]
    rows = []
    for key, group in frame.groupby(list(KEY), sort=False, dropna=False):
        values = {value: list(part["source"]) for value, part in group.groupby("value", sort=False)}
        if len(values) > 1:
            rows.append((*key, values))
    return pd.DataFrame(rows, columns=[*KEY, "values"]).astype({"shots": "Int64"})


# ---------------------------------------------------------------------------------------------------- what is checked


def _groups(figures: Sequence[dict], names: Sequence[str]) -> dict[tuple, list[dict]]:
    """The figures by the values of some columns; a group-by of pandas takes seconds for thousands of groups."""
    found: dict[tuple, list[dict]] = {}
    for figure in figures:
        found.setdefault(tuple(figure[name] for name in names), []).append(figure)
    return found


def _over_datasets(figures: Sequence[dict]) -> list[dict]:
    found = []
    for row in _groups(figures, ROW).values():
        parts = [figure for figure in row if not figure["mean_over"]]
        for average in row:
            # the harmonic mean in a row of averages is that of the averages
            if average["mean_over"] in ("datasets", "targets") and average["classes"] != H:
                targets = average["mean_over"] == "targets"
                chosen = [part for part in parts if not (targets and part["dataset"] == TRAINED_ON)]
                found += [_check(MEAN, average, chosen, _mean)] if chosen else []
    return found


def _over_shots(figures: Sequence[dict]) -> list[dict]:
    found, same = [], ["table", "source", "method", "backbone", "classes", "metric", "dataset"]
    for group in _groups(figures, same).values():
        parts = [figure for figure in group if not figure["mean_over"]]
        for average in (figure for figure in group if figure["mean_over"] == "shots"):
            found.append(_check(SHOTS, average, parts, _mean))
            spreads = [{**figure, "value": figure["std"]} for figure in (average, *parts)]
            found.append(_check(SPREAD, spreads[0], spreads[1:], _mean))
    return found


def _over_halves(figures: Sequence[dict]) -> list[dict]:
    figures, found = [figure for figure in figures if figure["protocol"] == "base-to-new"], []
    means = _means_of_h()
    for group in _groups(figures, ["table", "source", "method", "backbone", "shots", "dataset"]).values():
        parts = {figure["classes"]: figure for figure in group}
        if H in parts:
            row = _check(HARMONIC, parts[H], [parts["base"], parts["new"]], _harmonic)
            doubtful = parts[H]["mean_over"] and not row["follows"]
            other = means.get((row["method"], row["shots"]), []) if doubtful else []
            fits = any(_meet(_interval(parts[H]), mean) for mean in other)
            found.append({**row, "remark": MEAN_OF_H if fits else ""})
    return found


def _means_of_h() -> dict[tuple, list[Interval]]:
    """{(method, shots): per source, the means that the harmonic means of the datasets may have}."""
    frame, found = load(), {}
    frame = frame[(frame["classes"] == H) & (frame["mean_over"] == "")]
    for key, group in _groups(frame.to_dict("records"), ["method", "shots", "source"]).items():
        found.setdefault(key[:2], []).append(_average(_mean, group))
    return found


# ---------------------------------------------------------------------------------------------------- intervals


def _check(kind: str, printed: dict, parts: Sequence[dict], average: Callable) -> dict:
    low, high = _average(average, parts)
    exact = average([_exact(part) for part in parts])
    digits = int(printed["decimals"])
    rounded = (Decimal(exact.numerator) / exact.denominator).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP)
    return {
        **{name: printed[name] for name in ("source", *KEY, "dataset")},
        "kind": kind,
        "printed": printed["value"],
        "parts": float(rounded),
        "low": float(low),
        "high": float(high),
        "equal": float(rounded) == printed["value"],
        "follows": _meet(_interval(printed), (low, high)),
        "remark": "",
    }


def _exact(figure: dict) -> Fraction:
    """The number as it is printed: the float of a decimal number is not exact."""
    return Fraction(f"{figure['value']:.{int(figure['decimals'])}f}")


def _interval(figure: dict) -> Interval:
    """The numbers that a printed number stands for."""
    plot = figure["read_off_plot"]
    half = Fraction(1, 2 * 10 ** int(figure["decimals"])) + (Fraction(str(plot)) if plot > 0 else 0)
    return _exact(figure) - half, _exact(figure) + half


def _average(average: Callable, figures: Sequence[dict]) -> Interval:
    """The least and the greatest average of numbers that the figures stand for; `average` grows with each of them."""
    lows, highs = zip(*map(_interval, figures), strict=True)
    return average(lows), average(highs)


def _meet(one: Interval, other: Interval) -> bool:
    return one[0] <= other[1] and other[0] <= one[1]


def _mean(values: Sequence[Fraction]) -> Fraction:
    return sum(values, Fraction()) / len(values)


def _harmonic(values: Sequence[Fraction]) -> Fraction:
    base, new = values
    return 2 * base * new / (base + new)
