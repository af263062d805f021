"""Rooms import only rooms below them, and no modules import each other in a circle. Imports in functions count too."""

import ast
from pathlib import Path

import pytest

REPO = Path(__file__).parents[1]
# Floors, lowest first. Rooms of one floor may import each other, if no circle of modules arises.
FLOORS = (
    ("dassl",),
    ("clip", "features", "datasets", "reporting"),
    ("trainers",),
    ("sweeps", "analysis", "softcpt", "benchmarks", "tools")
    + ("train", "sweep", "predict", "export", "app", "parse_test_res", "interpret_prompt", "report"),
)
# Arrows upwards that are known: the settings of all methods are listed.
KNOWN = {"reporting.settings_table -> trainers"}
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def modules():
    """{dotted name: file} of the product, i.e. of the programs and of all rooms."""
    files = [*REPO.glob("*.py"), *(file for room in FLOOR for file in (REPO / room).rglob("*.py"))]
    names = {".".join(file.relative_to(REPO).with_suffix("").parts): file for file in files}
    return {name.removesuffix(".__init__"): file for name, file in names.items()}


MODULES = modules()


def imported(name):
    """Modules of the product that a module imports, anywhere but below `if TYPE_CHECKING`."""
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    checks = [node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)]
    unused = {id(node) for check in checks for node in ast.walk(check)}
    package = name if MODULES[name].name == "__init__.py" else name.rpartition(".")[0]
    found = set()
    for node in ast.walk(tree):
        if id(node) in unused:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            found |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return {module for module in found if module in MODULES and module != name}


GRAPH = {name: imported(name) for name in MODULES}


def circles(graph):
    """Groups of modules that import each other; a package's __init__ only collects names and is left out."""
    graph = {
        name: {other for other in others if MODULES[other].name != "__init__.py"} for name, others in graph.items()
    }

    def reachable(start):
        seen, stack = set(), [start]
        while stack:
            for other in graph[stack.pop()] - seen:
                seen.add(other)
                stack.append(other)
        return seen

    reach = {name: reachable(name) for name in graph}
    together = ({other for other in reach[name] if name in reach[other]} for name in graph if name in reach[name])
    return sorted({tuple(sorted(group)) for group in together})


def test_the_product_is_found():
    assert {"dassl.config", "datasets.suites", "trainers.base", "train"} <= MODULES.keys()
    assert "datasets.suites" in GRAPH["datasets.reading"] and "dassl.config.tree" in GRAPH["dassl.config"]


def test_circles_are_recognised():
    graph = {"train": {"predict"}, "predict": {"trainers.base"}, "trainers.base": {"train"}, "datasets.suites": set()}
    assert circles(graph) == [("predict", "train", "trainers.base")]


def test_no_modules_import_each_other_in_a_circle():
    assert circles(GRAPH) == []


@pytest.mark.parametrize("room", FLOOR)
def test_a_room_imports_no_room_above_it(room):
    above = {other for other, floor in FLOOR.items() if floor > FLOOR[room]}
    arrows = {
        f"{name} -> {other}"
        for name, others in GRAPH.items()
        if name.split(".")[0] == room
        for other in sorted(others)
        if other.split(".")[0] in above
    }
    assert arrows == {arrow for arrow in KNOWN if arrow.split(".")[0] == room}


def test_every_room_has_a_floor():
    rooms = {path.parent.name for path in REPO.glob("*/__init__.py")} | {path.stem for path in REPO.glob("*.py")}
    assert rooms - {"tests", "setup"} == {room for room in FLOOR if room in rooms}
