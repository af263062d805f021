"""Figures: one style for all of them, and the files of one figure.

A figure of the report is an SVG inside the page, which takes the colours of the page (light or dark), and a PDF and a
PNG for papers and slides. matplotlib is imported when a figure is drawn.
"""

from __future__ import annotations

import html
import io
import re
import textwrap
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

# Okabe and Ito, "Color Universal Design" (2008), without yellow, which is too pale for points on white, and with
# nearly black for black, which SVGs do not name
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#1b1b1b")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")  # one more than colours, so pairs repeat only after 56 series
STYLE = {
    "font.family": "DejaVu Sans",  # part of matplotlib, so figures are the same on every machine
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "0.9",
    "text.parse_math": False,  # class names may contain "$"
    "pdf.fonttype": 42,  # text that can be searched and copied
}
DPI = 150
FILES = {  # options of the files of a figure; without dates, so that the same numbers give the same bytes
    "svg": {"transparent": True, "metadata": {"Date": None, "Creator": None}},
    "pdf": {"metadata": {"CreationDate": None}},
    "png": {"dpi": DPI, "metadata": {"Software": None}},
}
PREFIX = "\x1a"  # stands for the beginning of ids and classes, which `Figure.inline` chooses
INK, GRID = COLOURS[-1], "#dedede"  # in the page: the colour of the text and of thin lines
ON_PAGE = {
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlesize": 9,
    "axes.labelsize": 8,
    "axes.linewidth": 0.6,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "svg.fonttype": "none",  # text stays text: small, searchable, readable by screen readers
    "svg.hashsalt": "report",  # the same numbers give the same bytes
    "text.color": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
}


def series(number: int) -> dict:
    """Colour and marker of series `number`, as keyword arguments for plot and scatter."""
    return {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)]}


def wrapped(name: str, width: int = 26) -> str:
    """Wrap a long name at `width` characters; words are not broken."""
    return "\n".join(textwrap.wrap(name, width, break_long_words=False)) or name


@dataclass(frozen=True)
class Figure:
    """A drawn figure.

    Attributes:
        name: file name without extension.
        caption: what the figure shows, one or two sentences.
        description: the numbers in words, for screen readers.
        svg: the figure as part of an HTML page, see `inline`.
        files: {extension: content} for files beside the page.
    """

    name: str
    caption: str
    description: str
    svg: str
    files: dict[str, bytes]

    def inline(self, number: int) -> str:
        """The SVG of the figure with this number in a page, with ids and classes that no other figure has."""
        return self.svg.replace(PREFIX, f"f{number}-")


def draw(name: str, caption: str, description: str, size: tuple[float, float], paint: Callable) -> Figure:
    """Draw a figure of `size` (width, height) inches: `paint(figure)` fills an empty matplotlib Figure."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    with rc_context({**STYLE, **ON_PAGE}):
        figure = Canvas(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        paint(figure)
        files = rendered(figure, FILES, margin=0.05)
    vector = files.pop("svg").decode()
    return Figure(name, caption, description, _inline(vector, caption, description), files)


def rendered(figure, kinds: Iterable[str], margin: float) -> dict[str, bytes]:
    """{kind: content} of the files of a matplotlib Figure, with a margin in inches around everything drawn.

    PDF and PNG have a box for each letter that the font lacks.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        figure.draw_without_rendering()  # the layout is computed once for all files
        figure.set_layout_engine(None)  # not "none", which draws every file twice
        box = figure.get_tightbbox().padded(margin)
        files = {}
        for kind in kinds:
            buffer = io.BytesIO()
            figure.savefig(buffer, format=kind, bbox_inches=box, **FILES[kind])
            files[kind] = buffer.getvalue()
    return files


def _inline(svg: str, title: str, description: str) -> str:
    """The SVG for use inside a page: small, with unique ids, the page's colours, a title and a description."""
    opening, body = svg[svg.index("<svg") :].split(">", 1)
    width, height = (round(float(size)) for size in re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', opening).groups())
    body = re.sub(
        r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->|<clipPath.*?</clipPath>", "", body, flags=re.S
    )
    body = "".join(_without_empty_groups(re.split(r"(<[^>]*>)", body)))
    body = re.sub(r"<defs>\s*</defs>", "", body)
    styles = dict.fromkeys(re.findall(r'style="([^"]*)"', body))
    classes = {style: f"{PREFIX}{number}" for number, style in enumerate(styles)}
    rules = "".join(f".{each}{{{style}}}" for style, each in classes.items())
    rules = rules.replace("; ", ";").replace(": ", ":")
    body = re.sub(r'style="([^"]*)"', lambda found: f'class="{classes[found[1]]}"', body)
    names = dict.fromkeys(re.findall(r'\bid="([^"]*)"', body))
    for number, old in enumerate(names):
        body = re.sub(rf'(id="|href="#){old}"', rf'\1{PREFIX}m{number}"', body)
    ids = f'aria-labelledby="{PREFIX}t" aria-describedby="{PREFIX}d"'
    return (
        f'<svg role="img" {ids} viewBox="0 0 {width} {height}" width="{4 * width // 3}" '
        f'xmlns:xlink="http://www.w3.org/1999/xlink"><title id="{PREFIX}t">{html.escape(title)}</title>'
        f'<desc id="{PREFIX}d">{html.escape(description)}</desc><style>{rules}</style>{body}'
    )


def _without_empty_groups(parts: list[str]) -> Iterator[str]:
    """The tags of an SVG and the text between them, with short tags and without groups that have no attributes."""
    opened = []
    for part in parts:
        tag = _short_tag(part) if part.startswith("<") else part if part.strip() else ""
        if tag.startswith("<g") and not tag.endswith("/>"):
            opened.append(tag != "<g>")
        drop = (tag.startswith("<g") and not opened[-1]) or tag == "<g/>" or (tag == "</g>" and not opened.pop())
        yield "" if drop else tag


def _short_tag(tag: str) -> str:
    """A tag without clipping and names of parts, with coordinates of one digit and the colours of the page."""
    tag = re.sub(r' clip-path="[^"]*"| transform="rotate\(-0 [^"]*"', "", re.sub(r"\s+", " ", tag))
    if tag.startswith("<g "):
        tag = re.sub(r' id="[^"]*"', "", tag)
    tag = re.sub(r' (d|x|y|x1|y1|x2|y2|transform)="([^"]*)"', lambda found: f' {found[1]}="{_rounded(found[2])}"', tag)
    for number, colour in enumerate(COLOURS[:-1]):
        tag = re.sub(rf"(?i){colour}\b", f"var(--c{number})", tag)
    return tag.replace(INK, "currentColor").replace(GRID, "var(--line)").replace("'DejaVu Sans'", "inherit")


def _rounded(coordinates: str) -> str:
    text = re.sub(r"-?\d+\.\d+", lambda number: f"{float(number[0]):.1f}".removesuffix(".0"), coordinates)
    return re.sub(r" ?([MLQCz]) ?", r"\1", text).strip()
