"""The header of a method's configuration: one command that uses the file, and a score only where a page has it."""

import re
from pathlib import Path

import pytest

from sweeps.launchers import LAUNCHERS

REPO = Path(__file__).resolve().parents[2]
FILES = sorted((REPO / "configs/trainers").glob("*/*.yaml"))


def header(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.startswith("#")]


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_header_names_the_command_that_uses_the_file(path):
    commands = [line for line in header(path) if line.startswith("#   ")]
    assert len(commands) == 1
    script, *words = re.fullmatch(r"#   (?:SHOTS=4 )?sh scripts/(.*)", commands[0])[1].split()
    if script in ("method.sh", "method_base2new.sh"):
        assert words.pop(0) == path.parent.name
    else:
        assert LAUNCHERS[script.removesuffix(".sh")].trainer == path.parent.name
    dataset, config = words[:2]
    assert config == path.stem and (REPO / f"configs/datasets/{dataset}.yaml").is_file()


def test_expected_scores_are_those_of_the_pages():
    found = 0
    for path in FILES:
        for line in header(path):
            if line.startswith("# Expected"):
                score, page = re.search(r": ([\d.]+(?: ± [\d.]+)?) % \(.*?([\w/]+\.md)\)\.$", line).groups()
                assert f"| {score} |" in (REPO / page).read_text(encoding="utf-8"), f"{path}: {page} has no {score}"
                found += 1
    assert found
