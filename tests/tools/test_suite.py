import io
import json
import zipfile
from collections import Counter, defaultdict

import numpy as np
import pytest

from datasets.icon13.notice import notice
from tests.tools.packages import write_node_modules
from tools.build_icon13 import build, compare, main, make_index, write
from tools.contact_sheet import main as contact_sheet
from tools.icons import Iconify, emoji_code
from tools.suite import (
    MAX_DRAWINGS,
    MAX_SHOTS,
    VENDORS,
    Drawing,
    Finder,
    apply_fixes,
    glyph,
    shippable,
    split,
    thin_out,
)
from tools.tasks import ClassSpec, TaskSpec, read_label_fixes, read_tasks


def drawing(cls, domain, icon, **more):
    return Drawing("pets", cls, domain, icon, "MIT", np.zeros((2, 2, 3), np.uint8), **more)


def many(cls="cat", number=9):
    """Drawings; the first six are three styles of two glyphs."""
    styles = ("fluent-emoji", "fluent-emoji-flat", "fluent-emoji-high-contrast")
    return [drawing(cls, style, f"{cls}-{name}") for name in ("face", "body") for style in styles] + [
        drawing(cls, "ph", f"{cls}-{i}") for i in range(number - 6)
    ]


@pytest.mark.parametrize("seed", range(20))
def test_styles_of_one_glyph_stay_on_one_side(seed):
    result = split(many(number=14), seed)
    sides = defaultdict(set)
    for d in result:
        sides[glyph(d)].add(d.split)
    assert all(len(side) == 1 for side in sides.values())
    pool = sorted(d.shot for d in result if d.split == "train")
    assert pool == list(range(len(pool)))
    assert 0 < len(pool) <= MAX_SHOTS
    assert sum(d.split == "test" for d in result) >= 4
    assert [d.file for d in result] == [d.file for d in many(number=14)]


def test_split_is_a_function_of_the_seed():
    def sides(seed):
        return [(d.split, d.shot) for d in split(many(number=14), seed)]

    assert sides(1) == sides(1)
    assert sides(1) != sides(2)


def test_thinning_out():
    crowd = [drawing("cat", vendor, f"cat-{i}") for vendor in VENDORS[:8] for i in range(4)]
    struck = [drawing("dog", "ph", f"dog-{i}-slash") for i in range(9)]
    kept = thin_out(crowd + struck + [drawing("cow", "ph", "cow")])
    assert {d.cls for d in kept} == {"cat"}
    count = Counter(d.domain for d in kept)
    assert sum(count.values()) == MAX_DRAWINGS
    assert max(count.values()) - min(count.values()) <= 1
    assert all(d.domain != "openmoji" for d in shippable(split(kept)))


def test_label_fixes_move_and_drop():
    before = split(many("cat", 14)) + split(many("dog", 14))
    pool = {cls: [d for d in before if d.cls == cls and d.split == "train"] for cls in ("cat", "dog")}
    moved = min(pool["cat"], key=lambda d: d.shot)
    dropped = min(pool["dog"], key=lambda d: d.shot)
    after = {d.file: d for d in apply_fixes(before, {moved.file: "dog", dropped.file: "drop"})}
    assert dropped.file not in after
    assert after[moved.file].cls == "dog"
    assert after[moved.file].split == "train"
    dogs = sorted((d for d in after.values() if d.cls == "dog" and d.split == "train"), key=lambda d: d.shot)
    assert [d.shot for d in dogs] == list(range(len(pool["dog"])))
    assert dogs[-1].file == moved.file
    cats = sorted(d.shot for d in after.values() if d.cls == "cat" and d.split == "train")
    assert cats == list(range(len(pool["cat"]) - 1))
    with pytest.raises(ValueError, match="not in the suite: nosuch/file/x.webp"):
        apply_fixes(before, {"nosuch/file/x.webp": "drop"})
    with pytest.raises(ValueError, match="-> cow"):
        apply_fixes(before, {moved.file: "cow"})


def test_shipped_lists_fit_together():
    tasks = {task.key: {spec.name for spec in task.classes} for task in read_tasks()}
    assert len(tasks) == 13
    fixes = read_label_fixes()
    assert fixes
    for file, target in fixes.items():
        assert target == "drop" or target in tasks[file.split("/")[0]]


def test_lists_say_where_they_are_wrong(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("# pets | animals\ncat;x\n")
    with pytest.raises(ValueError, match=r"list.txt:2: found 'cat;x'"):
        read_tasks(path)
    path.write_text("# comment\npets/cat/x.webp\n")
    with pytest.raises(ValueError, match=r"list.txt:2: .*expected"):
        read_label_fixes(path)
    path.write_text("pets/cat/x.webp -> drop\npets/cat/x.webp -> dog\n")
    with pytest.raises(ValueError, match="already goes to 'drop'"):
        read_label_fixes(path)


def test_finder_prefers_emojis_and_knows_aliases(tmp_path):
    iconify = Iconify(write_node_modules(tmp_path))
    noto, mdi = iconify["noto"], iconify["mdi"]
    mdi.icons["kitten-outline"] = mdi.icons["cat"]
    spec = ClassSpec("cat", (emoji_code("🐱"),), ("kitten",))
    assert Finder(noto, {})(spec) == ["cat"]
    assert Finder(mdi, {})(spec) == ["cat", "kitten-outline"]
    assert Finder(mdi, {})(ClassSpec("cow", (), ())) == []


def test_the_whole_way(tmp_path, capsys):
    pytest.importorskip("resvg_py")
    packages = write_node_modules(tmp_path / "node_modules")
    tasks = [TaskSpec("pets", "pets at home", tuple(ClassSpec(n, (), ()) for n in ("cat", "dog", "fish")))]
    drawings = build(packages, tasks, {"pets/cat/mdi__cat.webp": "drop"}, first_edition=False)
    index = make_index(drawings, tasks, Iconify(packages))
    assert index["tasks"] == [{"key": "pets", "name": "pets at home", "classes": ["cat", "dog", "fish"]}]
    assert len(index["images"]) == 3 * (len(VENDORS) - 1) - 1
    assert "openmoji" not in index["domains"]
    assert "Game-Icons, nowhere" in notice(index)

    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write(tmp_path / name, drawings, index)
    assert (tmp_path / "one" / "images.zip").read_bytes() == (tmp_path / "two" / "images.zip").read_bytes()
    first = build(packages, tasks, {}, first_edition=True)
    lines = compare(first, make_index(first, tasks, Iconify(packages)), tmp_path / "one")
    assert lines[0].startswith("only in this suite: 1\n  pets/cat/mdi__cat.webp")
    assert "other pixels: 0" in lines
    assert lines[-1] == "index.json different"

    contact_sheet(["--suite", str(tmp_path / "one"), "--out", str(tmp_path / "sheets")])
    assert (tmp_path / "sheets" / "pets-1.png").stat().st_size > 1000
    with zipfile.ZipFile(tmp_path / "one" / "images.zip") as archive:
        assert archive.namelist() == [
            e["file"] for e in json.loads((tmp_path / "one" / "index.json").read_text())["images"]
        ]
        assert np.array_equal(np.asarray(open_rgb(archive.read(drawings[0].file))), drawings[0].image)


def open_rgb(data):
    from PIL import Image

    return Image.open(io.BytesIO(data)).convert("RGB")


def test_missing_packages_end_with_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        main(["--packages", str(tmp_path), "--out", str(tmp_path / "out")])
    assert end.value.code == 2
    text = capsys.readouterr().err
    assert "@iconify/json" in text or "resvg_py" in text
    assert not (tmp_path / "out").exists()
