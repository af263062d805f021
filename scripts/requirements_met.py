"""Exit status 0 when this interpreter has every package of a requirements file, else 1. Touches nothing.

Asked before pip is: an environment that has everything may well be one that pip refuses to write to.
"""

import sys
from importlib.metadata import PackageNotFoundError, version


def unmet(path):
    """Lines of the requirements file that the running interpreter does not satisfy."""
    try:
        from packaging.requirements import Requirement
    except ImportError:
        from pip._vendor.packaging.requirements import Requirement
    missing = []
    with open(path, encoding="utf-8") as file:
        lines = [line.split("#")[0].strip() for line in file]
    for line in filter(None, lines):
        requirement = Requirement(line)
        if requirement.marker and not requirement.marker.evaluate():
            continue
        try:
            if not requirement.specifier.contains(version(requirement.name), prereleases=True):
                missing.append(line)
        except PackageNotFoundError:
            missing.append(line)
    return missing


if __name__ == "__main__":
    try:
        found = unmet(sys.argv[1])
    except ImportError:  # neither packaging nor pip: let pip's own message speak
        found = ["(cannot tell)"]
    if found:
        print("missing or too old:", ", ".join(found))
    sys.exit(bool(found))
