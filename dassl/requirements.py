"""Check that the packages of requirements.txt are installed. Uses the standard library only, as it runs before them."""

import re
import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

FILE = Path(__file__).resolve().parents[1] / "requirements.txt"
MODULES = {"open_clip_torch": "open_clip", "pillow": "PIL", "scikit-learn": "sklearn"}  # where the names differ


def met(requirement):
    """Whether NAME>=VERSION[,<VERSION] holds. Without metadata (e.g. on PYTHONPATH) the version is not checked."""
    name, *bounds = re.split(">=|,<", requirement)
    try:
        found, least, *above = ([int(n) for n in re.findall(r"\d+", text)] for text in (version(name), *bounds))
        return found >= least and all(found < bound for bound in above)
    except PackageNotFoundError:
        return find_spec(MODULES.get(name, name)) is not None


def require(text):
    """End the program with one line and exit status 2 unless every requirement of `text` (one per line) is met."""
    unmet = [line for line in text.splitlines() if line and line[0] != "#" and not met(line)]
    if unmet:
        print(
            f"error: missing, or installed in another version: {', '.join(unmet)}. To install: {sys.executable} -m pip "
            f"install -r {FILE} (or sh scripts/install.sh, which makes .venv)",
            file=sys.stderr,
        )
        sys.exit(2)


if __name__ == "__main__":
    require(FILE.read_text())
