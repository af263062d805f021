"""The page of all settings: `python -m reporting.settings_table > docs/settings.md`.

Unlike the other modules of this package it imports the whole project, because packages declare their settings when
they are imported.
"""

from __future__ import annotations

import re
import sys
import textwrap

from dassl import program

WIDTH = 120  # columns per line
HEAD = """\
# Settings

This page is generated: `python -m reporting.settings_table > docs/settings.md`. It lists each setting with its default,
its allowed values in parentheses, and its meaning. Without parentheses, every value of the default's type is allowed.
"A number" is an integer if the default is an integer. A list may be written as a Python literal, such as "(224, 224)",
on the command line and in YAML.

Command-line arguments and their precedence: [running.md](running.md). A configuration file may build on other files:

```yaml
_BASE_: configs/trainers/MTCoOp/vit_b16_ep50.yaml
OPTIM:
  MAX_EPOCH: 100
```

`_BASE_` takes a path or a list of paths, relative to the folder of the file that names them. Later files override
earlier ones, and the file overrides its bases. The files of `configs/trainers/` build on `configs/backbones/` and
`configs/schedules/`. The `config.yaml` of a run lists all settings and has no bases.
"""
NEUTRAL = """\
## Settings that do not change results

Two runs that differ only in these settings count as the same run when a run is resumed and in `hashes.config` of
results.json. Features from the bank equal features computed live up to rounding."""


def code(value) -> str:
    return f"`{value if isinstance(value, str) and value else repr(value)}`"


def wrapped(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False)


def item(name: str, setting) -> list[str]:
    """Lines of the list item of a setting (dassl.config.tree.Setting)."""
    allowed = ", ".join(map(code, setting.rule.choices)) or setting.rule.text if setting.rule else ""
    allowed = "a text or a list" if setting.also else allowed
    meaning = re.sub(r"<(?=\w)", "&lt;", setting.help)  # not an HTML tag
    head = f"- `{name}` = `{setting.default!r}`" + (f" ({allowed})" if allowed else "")
    return wrapped(f"{head}: {meaning}" if meaning else head, indent="  ")


def render() -> str:
    """Return the page."""
    import datasets  # noqa: F401  declares settings
    import trainers  # noqa: F401  declares settings
    from dassl.config import RESULT_NEUTRAL_KEYS, get_cfg_default, settings

    get_cfg_default()  # imports the packages of the engine
    groups: dict[str, dict] = {}
    for key, setting in settings().items():
        group, _, name = key.rpartition(".")
        groups.setdefault(group, {})[name] = setting
    lines = HEAD.splitlines()
    for group, members in sorted(groups.items()):
        lines += ["", f"## {code(group)}" if group else "## Settings without a group", ""]
        lines += [line for name, setting in members.items() for line in item(name, setting)]
    lines += ["", *NEUTRAL.splitlines(), "", *wrapped(", ".join(map(code, RESULT_NEUTRAL_KEYS)) + ".")]
    return "\n".join(lines) + "\n"


@program.entry
def main() -> None:
    sys.stdout.write(render())


if __name__ == "__main__":
    sys.exit(main())
