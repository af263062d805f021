"""All declared settings as Markdown: `python -m reporting.settings_table > docs/settings.md`.

Unlike the rest of this package it imports the project, whose rooms declare their settings when they are imported.
"""

from __future__ import annotations

import re
import sys
import textwrap

WIDTH = 120  # columns a line may take
COLUMNS = ("key", "default", "allowed", "meaning")
HEAD = """\
# Settings

Made by `python -m reporting.settings_table > docs/settings.md`; not to be edited by hand. A setting is declared beside
the code that reads it. How files and arguments set them: [running.md](running.md).

An empty "allowed" means: any value of the default's type. A number stands for a whole number where the default is one.
A list may be written as a Python literal, such as "(224, 224)", on the command line and in YAML.
"""
NEUTRAL = """\
## Settings that decide no number

Two runs that differ only in these count as the same run, for resuming and in `hashes.config` of results.json.
Features read from the bank equal those computed live to rounding."""


def code(text: str) -> str:
    return f"`{text}`"


def names(values: list) -> str:
    return ", ".join(code(value if isinstance(value, str) and value else repr(value)) for value in values)


def cells(setting, shortened: str) -> dict[str, str]:
    """The row of a setting: {column: text}."""
    rule = setting.rule
    allowed = "" if rule is None else names(rule.choices) or rule.text
    if setting.also:
        allowed = "a text or a list"
    meaning = re.sub(r"<(?=\w)", "&lt;", setting.help).replace("|", "&#124;")  # no HTML, no further column
    return dict(zip(COLUMNS, (code(shortened), code(repr(setting.default)), allowed, meaning), strict=True))


def line(row: dict[str, str]) -> str:
    return "| " + " | ".join(row.values()) + " |"


def fitted(row: dict[str, str]) -> tuple[str, list[str]]:
    """A row as a line of at most WIDTH columns, and what had to move below the table."""
    notes = []
    for column in ("meaning", "allowed"):
        if len(line(row)) > WIDTH and len(row[column]) > len("see below"):
            notes.insert(0, f"{'allowed: ' if column == 'allowed' else ''}{row[column]}")
            row = {**row, column: "see below"}
    return line(row), notes


def group_table(group: str, settings: dict) -> list[str]:
    """Heading, table and notes of the settings below `group` ("" for those below none)."""
    lines = [f"## {code(group)}" if group else "## Settings of their own", ""]
    lines += [line(dict(zip(COLUMNS, COLUMNS, strict=True))), "|" + "-|" * len(COLUMNS)]
    below = []
    for key, setting in settings.items():
        short = key.removeprefix(group + ".")
        text, notes = fitted(cells(setting, short))
        lines.append(text)
        if notes:
            note = f"- {code(short)}: {'; '.join(notes)}"
            below += textwrap.wrap(note, WIDTH, subsequent_indent="  ", break_on_hyphens=False, break_long_words=False)
    return [*lines, "", *below, *([""] if below else [])]


def render() -> str:
    """The page."""
    import datasets  # noqa: F401
    import trainers  # noqa: F401
    from dassl.config import RESULT_NEUTRAL_KEYS, get_cfg_default, settings

    get_cfg_default()  # imports the rooms of the engine
    groups: dict[str, dict] = {}
    for key, setting in settings().items():
        group = key.rpartition(".")[0]
        groups.setdefault(group, {})[key] = setting
    lines = HEAD.splitlines() + [""]
    for group in sorted(groups):
        lines += group_table(group, groups[group])
    lines += [*NEUTRAL.splitlines(), ""]
    lines += textwrap.wrap(", ".join(map(code, RESULT_NEUTRAL_KEYS)) + ".", WIDTH, break_on_hyphens=False)
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(render())
