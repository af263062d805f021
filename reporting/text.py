"""Tables of text, as Markdown with aligned columns or as LaTeX. Imports pandas for LaTeX only."""

from dataclasses import dataclass

WIDTH = 120  # most characters per line of a table


@dataclass(frozen=True)
class Table:
    """Cells of text; the first `left` columns are aligned left, the others right. A legend may follow below."""

    header: list[str]
    rows: list[list[str]]
    left: int = 1
    legend: str = ""

    def __str__(self) -> str:
        return render(self.header, self.rows, self.left) + self._below()

    def _below(self) -> str:
        return f"\n\n{self.legend}" if self.legend else ""

    @property
    def width(self) -> int:
        return len(render(self.header, self.rows, self.left).partition("\n")[0])

    def markdown(self) -> str:
        """As `str`, where a | within a cell does not end it."""
        header, *rows = [[cell.replace("|", "\\|") for cell in row] for row in (self.header, *self.rows)]
        return render(header, rows, self.left) + self._below()

    def latex(self) -> str:
        """A tabular with the rules of the package booktabs."""
        import pandas as pd

        columns = "l" * self.left + "r" * (len(self.header) - self.left)
        cells = pd.DataFrame([self.header, *self.rows], dtype=object)  # a name may head several columns
        text = cells.to_latex(index=False, header=False, escape=True, column_format=columns)
        begin, top, rule, head, rest = text.split("\n", 4)
        text = "\n".join([begin, top, head, rule, rest])
        text = latex_signs(text)
        return text.rstrip("\n") + (f"\n{comment(self.legend)}" if self.legend else "")


def render(header: list[str], rows: list[list[str]], left: int = 1) -> str:
    """Markdown table; the first `left` columns are aligned left, the others right."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]

    def line(row):
        cells = [
            text.ljust(w) if i < left else text.rjust(w) for i, (text, w) in enumerate(zip(row, widths, strict=True))
        ]
        return "| " + " | ".join(cells) + " |"

    rule = "|" + "|".join("-" * (w + 2) if i < left else "-" * (w + 1) + ":" for i, w in enumerate(widths)) + "|"
    return "\n".join([line(header), rule, *(line(row) for row in rows)])


def latex_signs(text: str) -> str:
    """The signs of tables that LaTeX has no letters for, as commands."""
    known = {"<": "$<$", ">": "$>$", "±": r"$\pm$", "−": "$-$", "‡": r"$\ddagger$", "–": "--", "…": r"\dots{}"}
    for sign, command in {**known, "↳": r"\quad ", "→": r"$\to$"}.items():
        text = text.replace(sign, command)
    return text


def comment(text: str) -> str:
    """The lines of a text as comments of LaTeX, without the empty ones."""
    return "\n".join(f"% {line}" for line in text.splitlines() if line)


def cell(mean: float, spread: float) -> str:
    """ "72.00 ± 2.16", "72.00" without a spread, "-" without a value, which are NaN."""
    if mean != mean:
        return "-"
    return f"{mean:.2f}" if spread != spread else f"{mean:.2f} ± {spread:.2f}"


def spread_text(ci95: bool) -> str:
    """What "±" stands for."""
    if ci95:
        return "mean ± 95 % interval over seeds (1.96 * std / sqrt(n), population std: ddof = 0), per cent"
    return "mean ± standard deviation over seeds (population: ddof = 0), per cent; no ± where n = 1"


def number_text(choice) -> str:
    """What the numbers of a `Choice` are."""
    name = "the metric each task declares" if choice.number == "overall_metric" else choice.number
    return f"number: {name}" + ("" if choice.task else "; over several tasks their unweighted mean")


def mean_title(choice, tasks: int) -> str:
    """The name of the column or row with the mean over `tasks` tasks."""
    if choice.task is not None:
        return choice.task[1]
    return "mean over tasks" if tasks > 1 else "overall"
