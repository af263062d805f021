"""Test accuracy against a setting, from the output folders of launchers."""

import statistics

import pytest

from analysis import sweep
from tests.analysis.figures import refused, rows_of
from tests.reporting.written import result, write

LAYOUTS = {
    "length": (
        {"nctx16": (50, 54), "nctx2": (40, 41), "tnctx4": (50, 54)},
        [
            ("of class prompts (N_CTX)", "2", "nctx2"),
            ("of class prompts (N_CTX)", "16", "nctx16"),
            ("of task prompts (TASK_N_CTX)", "4", "tnctx4"),
        ],
    ),
    "task_feature": (
        {"te": (1, 2), "rand": (3, 5), "te_dim1024": (4, 4), "te_dim16": (6, 7)},
        [
            ("Rand: learned", "d", "rand"),
            ("TE: from the text encoder", "16", "te_dim16"),
            ("TE: from the text encoder", "1024", "te_dim1024"),
            ("TE: from the text encoder", "d", "te"),
        ],
    ),
    "backbones": (
        {"RN50/CoOp-CA": (60,), "ViT-B-16/CoOp-CA": (70, 72), "ViT-B-16/SoftCPT-NATA": (74, 73)},
        [
            ("CoOp-CA", "RN50", "RN50/CoOp-CA"),
            ("CoOp-CA", "ViT-B-16", "ViT-B-16/CoOp-CA"),
            ("SoftCPT-NATA", "ViT-B-16", "ViT-B-16/SoftCPT-NATA"),
        ],
    ),
    "stability": (
        {"CoOp-CA/16shots": (60, 61), "CoOp-CA/2shots": (50, 54), "SoftCPT-NATA/2shots": (55, 55)},
        [
            ("CoOp-CA", "2", "CoOp-CA/2shots"),
            ("CoOp-CA", "16", "CoOp-CA/16shots"),
            ("SoftCPT-NATA", "2", "SoftCPT-NATA/2shots"),
        ],
    ),
    "icon5": (
        {"MTCoOp/tiny_ep20_4shots/nctx16": (50, 52), "VPT/tiny_ep20_1shots/deep": (30, 31)},
        [
            ("MTCoOp/tiny_ep20/nctx16", "4", "MTCoOp/tiny_ep20_4shots/nctx16"),
            ("VPT/tiny_ep20/deep", "1", "VPT/tiny_ep20_1shots/deep"),
        ],
    ),
}


def fill(folder, content):
    for name, values in content.items():
        for seed, value in enumerate(values, 1):
            write(folder / name / f"seed{seed}", results=result(float(value), (value + 1.0, value - 1.0)))
    return folder


@pytest.mark.parametrize("name", LAYOUTS)
def test_folders_of_every_launcher(tmp_path, name, capsys):
    content, places = LAYOUTS[name]
    folder = fill(tmp_path / name, content)
    write(folder / "figures")  # left by an earlier call
    assert sweep.main([str(folder)]) == 0
    rows = rows_of(folder / "figures" / "sweep")
    assert [(row["series"], row["value"], row["experiment"]) for row in rows] == places
    for row in rows:
        values = content[row["experiment"]]
        mean = sum(values) / len(values)
        assert float(row["mean_percent"]) == pytest.approx(mean) and int(row["n"]) == len(values)
        if len(values) > 1:
            std = statistics.pstdev(values)
            assert float(row["std_points"]) == pytest.approx(std)
            assert float(row["relative_std_percent"]) == pytest.approx(100 * std / mean)
        else:
            assert row["std_points"] == row["relative_std_percent"] == ""
    assert len(capsys.readouterr().out.splitlines()) == 3 + len(rows)


def test_a_task_and_zero_shot(tmp_path):
    folder = fill(tmp_path / "length", LAYOUTS["length"][0])
    zero = write(tmp_path / "zs", results=result(45.0))
    out = tmp_path / "s"
    arguments = [str(folder), "--keyword", "food (raw)", "--zero-shot", str(zero), "--relative-std", "--out", str(out)]
    assert sweep.main(arguments) == 0
    rows = rows_of(out)
    assert [float(row["mean_percent"]) for row in rows] == [39.5, 51.0, 51.0]
    assert rows[0]["number"] == "overall_metric of food (raw)"


def test_missing_and_unfinished_seeds_are_reported(tmp_path, capsys):
    folder = fill(tmp_path / "length", {"nctx2": (1, 2), "nctx4": (3,)})
    write(folder / "nctx4" / "seed2", results={"status": "interrupted"})
    write(folder / "nctx8" / "seed1", results={"status": "failed"})
    assert sweep.main([str(folder), "--out", str(tmp_path / "s")]) == 0
    assert [row["value"] for row in rows_of(tmp_path / "s")] == ["2", "4"]
    notes = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note: ")]
    assert [note.partition(" (")[0] for note in notes] == [
        "note: nctx4: unfinished: seed2",
        "note: nctx8: missing: seed 2",
        "note: nctx8: unfinished: seed1",
    ]


def test_unusable_folders_are_refused(tmp_path, capsys):
    empty = tmp_path / "empty"
    empty.mkdir()
    mixed = fill(tmp_path / "mixed", {"nctx2": (1,), "other": (2,)})
    length = fill(tmp_path / "length", {"nctx2": (1,)})
    for text, arguments in {
        "no finished run below": (empty,),
        "no such folder": (tmp_path / "nowhere",),
        "cannot tell which setting was varied from the folder nctx2": (mixed,),
        "no such folder: ": (length, "--zero-shot", tmp_path / "gone"),
    }.items():
        assert text in refused(capsys, sweep.main, *arguments, "--out", tmp_path / "s")
    assert not (tmp_path / "s.png").exists()


NAMED = {
    "MTCoOp/tiny_ep20_1shots/n4": (50, 52),
    "MTCoOp/tiny_ep20_16shots/n4": (60, 63),
    "MTCoOpHard/tiny_ep20_1shots/n4": (51, 50, 90),
    "MTCoOpHard/tiny_ep20_2shots/n4": (58,),
}


def test_named_series_are_compared_seed_by_seed(tmp_path, capsys):
    folder = fill(tmp_path / "a suite [5]", NAMED)
    zero = write(tmp_path / "zs", results=result(45.0))
    series = [f"Soft={folder}/MTCoOp/tiny_ep20_*shots/n4", f"Hard={folder}/MTCoOpHard/tiny_ep20_*shots/n4"]
    out = tmp_path / "curve"
    assert sweep.main([*series, "--zero-shot", str(zero), "--compare", "Soft", "--out", str(out)]) == 0
    assert [(row["series"], row["value"]) for row in rows_of(out)] == [
        ("Soft", "1"),
        ("Soft", "16"),
        ("Hard", "1"),
        ("Hard", "2"),
    ]
    printed = capsys.readouterr().out.splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in printed if line.startswith("| ")]
    assert cells == [
        ["images per class", "1", "2", "16"],
        ["zero-shot CLIP", "45.00", "45.00", "45.00"],
        ["Soft", "51.00 ± 1.00", "-", "61.50 ± 1.50"],
        ["Hard", "63.67 ± 18.62", "58.00", "-"],
        ["images per class", "1", "2", "16"],
        ["Soft - Hard", "+0.50 ± 1.50 (1 of 2)", "-", "-"],
    ]


def test_wrong_named_series_are_refused(tmp_path, capsys):
    folder = fill(tmp_path, NAMED)
    out = ("--out", tmp_path / "s")
    soft = f"Soft={folder}/MTCoOp/tiny_ep20_*shots/n4"
    for text, arguments in {
        "expected LABEL=FOLDER, with one *": (f"Soft={folder}/MTCoOp", *out),
        "no such folder: ": (f"Soft={folder}/VPT/tiny_ep20_*shots", *out),
        "--compare Hard: expected one of Soft": (soft, "--compare", "Hard", *out),
        "LABEL=FOLDER needs --out NAME": (soft,),
        "expected one folder, or LABEL=FOLDER": (folder, folder, *out),
    }.items():
        assert text in refused(capsys, sweep.main, *arguments)
