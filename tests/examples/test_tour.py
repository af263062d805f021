"""The notebook runs from top to bottom, and what it exports classifies as the run does."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def test_the_tour_runs_from_top_to_bottom(tmp_path):
    notebook = json.loads((EXAMPLES / "tour.ipynb").read_text(encoding="utf-8"))
    assert not any(cell.get("outputs") for cell in notebook["cells"])  # results belong to who runs it
    program = "\n".join("".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code")
    assert program.count("EPOCHS = 100") == 1
    program = program.replace("EPOCHS = 100", "EPOCHS = 2")
    environment = {**os.environ, "TOUR": str(tmp_path), "MPLBACKEND": "agg", "SOFTCPT_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=EXAMPLES, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for text in ("hand gestures and body parts", "SoftCPT-NATA", "ZeroshotCLIP", "Classifier("):
        assert text in done.stdout
    assert (tmp_path / "report" / "index.html").is_file() and (tmp_path / "accuracy.png").is_file()
    classified, exported = re.search(r"\.webp \[\('(.+?)', ", done.stdout), re.search(r"\tfaces\t(.+?)\t", done.stdout)
    assert classified[1] == exported[1]  # the most probable class of the first image
