"""The drawing styles of Icon-13 side by side: `python -m tools.style_sheet docs/figures/styles.png`.

One row per style (the source first) and one column per class: the first test drawing in the order of the index.
"""

import io
import sys
import zipfile

from PIL import Image, ImageDraw

from datasets.icon13.styles import STYLED

CLASSES = (
    "pig", "rabbit", "horse", "angry face", "skull", "thumbs up", "hamburger", "cookie", "carrot", "cactus", "key",
    "castle", "bus",
)  # fmt: skip
PICTURE, GAP, LABEL = 64, 8, 76


def sheet() -> Image.Image:
    """The sheet, RGB on white.

    Raises:
        KeyError: a class without a drawing in one of the styles.
    """
    step = PICTURE + GAP
    page = Image.new("RGB", (LABEL + len(CLASSES) * step, GAP + len(STYLED) * step), "white")
    draw = ImageDraw.Draw(page)
    for row, source in enumerate(STYLED.values()):
        loaded = source.load("")
        first = {loaded.tasks[item.task].classnames[item.label]: item.path for item in reversed(loaded.test)}
        top = GAP + row * step
        draw.text((GAP, top + PICTURE // 2), source.style.name, fill="black", anchor="lm", font_size=15)
        with zipfile.ZipFile(loaded.root) as archive:
            for column, name in enumerate(CLASSES):
                with Image.open(io.BytesIO(archive.read(first[name]))) as picture:
                    page.paste(picture.convert("RGB"), (LABEL + column * step, top))
    return page


if __name__ == "__main__":
    sheet().quantize(128).save(sys.argv[1], optimize=True)
