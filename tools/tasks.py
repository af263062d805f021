"""Read ``tasks.txt`` (tasks, classes, emojis, names) and ``label_fixes.txt``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tools.icons import emoji_code

HERE = Path(__file__).parent
DROP = "drop"


@dataclass(frozen=True)
class ClassSpec:
    name: str  # class name in the suite, also used in prompts
    emojis: tuple[str, ...]  # codes without variation selector
    aliases: tuple[str, ...]  # other icon names of this class


@dataclass(frozen=True)
class TaskSpec:
    key: str
    name: str
    classes: tuple[ClassSpec, ...]


def read_tasks(path: str | Path = HERE / "tasks.txt") -> list[TaskSpec]:
    """Parse ``# key | task name`` lines, each followed by ``class:emojis:alias,alias`` lines.

    Raises ValueError with file and line if a line is malformed.
    """
    tasks: list[tuple[str, str, list[ClassSpec]]] = []
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
        line = line.strip()
        if not line:
            continue
        if line.startswith("#"):
            key, bar, name = line[1:].partition("|")
            if not bar:
                raise ValueError(f"{path}:{number}: found {line!r}, expected '# key | task name'")
            tasks.append((key.strip(), name.strip(), []))
            continue
        fields = line.split(":", 2)
        if len(fields) != 3 or not tasks:
            raise ValueError(f"{path}:{number}: found {line!r}, expected 'class:emojis:alias,alias' below a task line")
        name, emojis, aliases = fields
        codes = tuple(emoji_code(character) for character in emojis if character != "\ufe0f")
        tasks[-1][2].append(ClassSpec(name, codes, tuple(a.strip() for a in aliases.split(",") if a.strip())))
    return [TaskSpec(key, name, tuple(classes)) for key, name, classes in tasks]


def read_label_fixes(path: str | Path = HERE / "label_fixes.txt") -> dict[str, str]:
    """Parse ``file -> drop`` and ``file -> class`` (of the same task) lines: {image file: "drop" or class name}.

    Empty lines and text after ``#`` are skipped. Raises ValueError with file and line if a line is malformed.
    """
    fixes: dict[str, str] = {}
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
        line = line.partition("#")[0].strip()
        if not line:
            continue
        file, arrow, target = (part.strip() for part in line.partition("->"))
        if not arrow or not target or file.count("/") != 2:
            raise ValueError(f"{path}:{number}: found {line!r}, expected 'task/class/file.webp -> drop' or '-> class'")
        if fixes.setdefault(file, target) != target:
            raise ValueError(f"{path}:{number}: {file} already goes to {fixes[file]!r}")
    return fixes
