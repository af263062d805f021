"""Read the output of the commands of `analysis`."""

import csv

import numpy as np
from PIL import Image

KEYS = ("shades", "one", "marks")  # keys of the tasks of the test suite


def rows_of(path):
    """Rows of path.csv.

    Also checks that the PNG is not blank, that nothing is cut off at its edges, and that the PDF is complete.
    """
    with Image.open(f"{path}.png") as image:
        picture = np.asarray(image.convert("RGB"))
    assert min(picture.shape[:2]) > 200 and (picture < 250).any(-1).mean() > 0.01
    edges = (picture[[0, -1]], picture[:, [0, -1]])
    assert all((edge > 250).all() for edge in edges)
    with open(f"{path}.pdf", "rb") as file:
        content = file.read()
    assert content.startswith(b"%PDF") and content.rstrip().endswith(b"%%EOF")
    with open(f"{path}.csv", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def refused(capsys, main, *arguments):
    """The single error line of a command that is refused."""
    capsys.readouterr()
    assert main([str(argument) for argument in arguments]) == 2
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert out == "" and len(lines) == 1 and err.endswith(lines[0] + "\n")
    return lines[0]
