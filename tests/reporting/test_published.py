"""Published figures: the tables, what stands beside runs, and what contradicts itself."""

import re
import statistics

import pandas as pd
import pytest

import report
import trainers
from dassl.engine import TRAINER_REGISTRY
from dassl.utils.errors import UserError
from dassl.utils.methods import NAME, methods
from datasets.suites import GENERAL11, SOURCES, SUITES
from reporting import published, published_checks, table
from reporting.frame import COLUMNS, read_frame
from reporting.published_tables import FOLDER, PROTOCOLS, TASKS, H, load, names
from reporting.published_text import text
from tests.reporting.written import numbers, result, rows_of, write

SHIFTED = ("ImageNetV2", "ImageNetSketch", "ImageNetA", "ImageNetR")
NO_TRAINER = {  # methods of the tables that this project does not have
    "AdaLoRA", "APE", "APE-T", "CALIP", "CLIP-Adapter+DePT", "CLIP-SVD", "HPT", "LASP", "MMA", "PLOT++", "ProDA",
    "ProKeR", "PromptKD (unlabelled target images, ViT-L teacher)", "PromptSRC+DePT", "RPO", "TIP-X", "VPT+DePT",
    "TPT (test-time)", "TPT + CoOp", "ProLIP at test time (no shots)", "ProLIP at test time + ProLIP",
}  # fmt: skip
NO_FIGURES = {"CLAP", "CrossModal", "MMRLpp", "MTUPT", "ZSLP", "ZeroshotCLIP2", "linear_probe"}


def runs_of(folder, tasks, seeds=(1, 2), **settings):
    """Runs of {key of a task: value}; a seed adds itself to every value. mean_acc is one point lower."""
    for seed in seeds:
        data = result(statistics.fmean(tasks.values()) + seed, **settings)
        entry = data["tasks"][0]
        data["tasks"] = [
            {**entry, **numbers(value + seed), "id": i, "key": key, "name": key}
            for i, (key, value) in enumerate(tasks.items())
        ]
        write(folder / f"seed{seed}", results=data)
    return folder


def eleven(value=80.0):
    return dict.fromkeys(GENERAL11, value)


def figure(frame, **key):
    """The only row of a frame with these values."""
    for name, value in key.items():
        frame = frame[frame[name] == value]
    assert len(frame) == 1, frame
    return frame.iloc[0]


def show(capsys, *arguments):
    assert table.main([str(argument) for argument in arguments]) == 0
    return capsys.readouterr().out


# ---- the tables


def test_every_figure_has_a_source_a_known_dataset_and_a_possible_value():
    frame, percent = load(), ~load()["metric"].isin(published.COSTS)
    averages = {"average of targets", "average of source and targets", "average of 8 datasets"}
    assert set(frame["dataset"]) <= {*SOURCES, *SUITES, *averages}
    assert frame[percent]["value"].between(5, 100).all() and (frame[~percent]["value"] > 0).all()
    assert frame["source"].map(published.SOURCES).str.len().gt(10).all()
    assert set(published.SOURCES) == set(frame["source"])
    assert set(frame["backbone"]) == {"RN50", "RN101", "ViT-B/16", "ViT-B/32", "ViT-L/14"}
    same = ["table", "source", "method", "backbone", "protocol", "classes", "shots", "metric", "dataset", "mean_over"]
    assert not frame.duplicated(same).any()
    assert {name: len(SUITES.get(name, range(20))) for name in TASKS} == TASKS
    assert sorted(path.stem for path in FOLDER.iterdir()) == sorted([*PROTOCOLS, "sources", "notes", "methods"])
    assert len(load("upt2")) == 7 * 12 and set(load("upt2")["source"]) == {"upt2"}


@pytest.mark.parametrize(
    "key, value, std, decimals",
    [
        ({"source": "softcpt", "method": "SoftCPT-NATA", "dataset": "Plant6", "shots": 4}, 68.72, 1.53, 2),
        ({"source": "upt2", "method": "UPT", "dataset": "General11"}, 81.44, None, 2),
        ({"source": "upt1", "method": "UPT", "dataset": "average of targets"}, 59.98, None, 2),
        ({"source": "vacsr", "method": "MMRL", "dataset": "EuroSAT", "classes": "new"}, 80.17, None, 2),
        ({"source": "discovl", "method": "MMRL", "dataset": "EuroSAT"}, 53.10, None, 2),
        ({"source": "clip_lora_plot", "method": "TaskRes", "dataset": "UCF101", "shots": 1}, 72.0, None, 1),
    ],
)
def test_figures_as_printed(key, value, std, decimals):
    row = figure(load(), **key)
    assert (row["value"], None if pd.isna(row["std"]) else row["std"], row["decimals"]) == (value, std, decimals)


def test_figures_read_off_plots_and_chosen_on_test_images_are_marked():
    frame = load()
    plots = frame[frame["read_off_plot"].notna()]
    assert set(plots["source"]) == {"clip_lora_plot"} and set(plots["read_off_plot"]) == {0.3, 0.8}
    gda = frame[(frame["source"] == "gda") & (frame["method"] == "GDA")].drop_duplicates("dataset").set_index("dataset")
    assert [name for name in gda.index if gda.loc[name, "chosen_on"]] == ["ImageNet", "General11"]
    assert (frame[frame["method"] == "Tip-Adapter-F"]["chosen_on"] == "test").all()
    assert frame[frame["dataset"] == "RS8"]["caveat"].str.startswith("the paper's RS-8").all()


def test_means_that_are_not_printed_are_computed():
    """Against the files, read without the reader."""
    rows = [line for line in pd.read_csv(FOLDER / "few_shot.csv").to_dict("records") if line["source"] == "tip_adapter"]
    row = next(row for row in rows if row["method"] == "Tip-Adapter-F" and row["shots"] == 16)
    found = figure(load("tip_adapter"), method="Tip-Adapter-F", shots=16, dataset="General11")
    assert found["computed"] and found["value"] == pytest.approx(statistics.fmean(row[name] for name in GENERAL11))
    means = load("gda_base2new").query("dataset == 'General11'").set_index("classes")["value"]
    assert means[["base", "new"]].round(2).tolist() == [83.96, 74.53]
    assert means[H] == pytest.approx(2 / (1 / means["base"] + 1 / means["new"]))


# ---- names


def test_every_trainer_with_figures_is_found():
    assert trainers
    there, found = set(load()["method"]), {}
    labels = {label: row[NAME] for label, row in methods().items()}
    known = TRAINER_REGISTRY.registered_names()  # also trainers of other tests
    ours = [name for name in known if TRAINER_REGISTRY.get(name).__module__.startswith("trainers.")]
    for label, trainer in {**{name: name for name in ours}, **labels}.items():
        found.setdefault(trainer, set()).update(there & set(names(label, None)))
    assert {trainer for trainer, figures in found.items() if not figures} <= NO_FIGURES
    assert not {name for trainer in NO_FIGURES & found.keys() for name in found[trainer]}
    variants = {name for name in there if name.startswith("ProLIP, ")}
    assert there - set().union(*found.values()) == NO_TRAINER | (
        variants - {"ProLIP, no validation, lambda 1/N, lr 1e-5"}
    )


def test_the_configuration_decides_between_variants():
    maple = "vit_b16_c2_ep5_batch4_2+2ctx"
    assert names("IVLP", maple)[0] == "IVLP 2+2 tokens (5 epochs)"
    assert names("DePT", "vit_b16_ep10_batch1_cocoop")[0] == "CoCoOp+DePT"
    assert names("DePT", "vit_b16_ep10_batch4_coop")[0] == "CoOp+DePT"
    assert names("MaPLe", "any") == ("MaPLe",)


def test_headers_of_configuration_files_give_the_same_figures():
    """Lines such as "Published: base 84.21, new 71.79, HM 77.51 (average of 11 datasets; ...)"."""
    frame, count = load().query("dataset == 'General11'"), 0
    for path in sorted((FOLDER.parents[1] / "configs/trainers").rglob("*.yaml")):
        if told := re.search(r"base ([\d.]+), new ([\d.]+), HM ([\d.]+) \(average", path.read_text(encoding="utf-8")):
            label = path.parent.name
            there = frame[frame["method"].isin(names(label, path.stem))]
            rows = there.groupby(["source", "method"], sort=False)
            every = [
                dict(zip(group["classes"], group["value"], strict=True))
                for _, group in rows
                if (group["shots"] == 16).all()
            ]
            assert {"base": float(told[1]), "new": float(told[2]), H: float(told[3])} in every, path
            count += 1
    assert count > 10


def test_the_readme_has_the_averages_of_softcpts_paper():
    frame = load("softcpt").query("mean_over == 'shots' or shots == 0")
    part = (FOLDER.parents[1] / "README.md").read_text(encoding="utf-8").split("## What the paper reports")[1]
    rows = rows_of(part.split("\n## ")[0])
    suites, count = ["General10", "Plant6", "RS8", "Fashion20"], 0
    assert rows["method"] == ["General-10", "Plant-6", "RS-8", "Fashion-20"]
    for method, group in frame.groupby("method"):
        label = {"ZS-CLIP": "zero-shot CLIP", "LP-CLIP": "linear probe", "SoftCPT*": r"SoftCPT\*"}.get(method, method)
        for told, row in zip(rows[label], group.set_index("dataset").loc[suites].itertuples(), strict=True):
            count += 1
            assert told.strip("*").replace(" ± 0.00", "") == f"{row.value:.2f} ± {row.std:.2f}".replace(" ± 0.00", "")
    assert count == 13 * 4


# ---- beside runs


def test_comparable_runs(tmp_path):
    runs_of(tmp_path / "upt", eleven(), method="UPT", suite="General11", backbone="ViT-B/16", shots=16)
    found = published.beside(read_frame([tmp_path]))
    mean = figure(found, task_key="", metric="overall_acc")
    assert (mean["published"], mean["comparable"], mean["why"]) == (81.44, True, "")
    assert "Unified Vision and Language" in mean["source"]
    cars = figure(found, task_key="StanfordCars", metric="overall_metric")  # it declares overall accuracy here
    assert (cars["published"], cars["comparable"]) == (84.33, True)
    assert len(found) == 2 * 12 and found["comparable"].all()


@pytest.mark.parametrize(
    "settings, why",
    [
        ({"backbone": "RN50"}, "published for ViT-B/16, these runs are RN50"),
        ({"shots": 4}, "published with 16 images per class, these runs have 4"),
        (
            {"backbone": "RN50", "shots": 1},
            "published for ViT-B/16, these runs are RN50; published with 16 images per class, these runs have 1",
        ),
        ({"chosen": {"x": {"chosen_on": "test"}}}, "test images chose settings of these runs"),
        ({"method": "Tip-Adapter-F", "backbone": "RN50"}, "test images chose settings in the published code"),
        ({"method": "Tip-Adapter-F", "backbone": "RN50", "chosen": {"x": {"chosen_on": "test"}}}, ""),
        ({"method": "TaskRes", "backbone": "ViT-B/32"}, "read off a plot, ±0.8"),
        ({"method": "CLIP-LoRA", "backbone": "ViT-L/14"}, "read off a plot, ±0.3"),
        ({"method": "CLIP-LoRA"}, ""),  # a printed figure is preferred
    ],
)  # fmt: skip
def test_why_runs_are_not_comparable(tmp_path, settings, why):
    settings = {"method": "UPT", "suite": "General11", "backbone": "ViT-B/16", "shots": 16, **settings}
    runs_of(tmp_path / "runs", eleven(), **settings)
    mean = figure(published.beside(read_frame([tmp_path])), task_key="", metric="overall_acc")
    assert (mean["why"], mean["comparable"]) == (why, not why)


def test_part_of_a_suite_and_other_metrics(tmp_path):
    settings = {"method": "SoftCPT-NATA", "backbone": "RN50", "shots": 4}
    runs_of(tmp_path / "part", {"PlantVillage": 60.0, "KaggleFlower": 62.0}, suite="Plant6", **settings)
    found = published.beside(read_frame([tmp_path]))
    assert set(found["why"]) == {"these runs have 2 of the 6 tasks"} and set(found["published"]) == {68.72}
    runs_of(tmp_path / "all", {str(number): 60.0 for number in range(8)}, suite="RS8", **settings)
    found = published.beside(read_frame([tmp_path / "all"]))
    assert (
        set(found["why"]) == {"the paper's RS-8 is not published: other datasets"}
        and found["published_std"].eq(0.28).all()
    )
    data = result(70.0, (60.0, 80.0), suite="Plant6", **settings)
    for entry in (data["mean"], *data["tasks"]):
        entry["value"] = entry["mean_acc"]
    write(tmp_path / "mean/seed1", results=data)
    found = published.beside(read_frame([tmp_path / "mean"]))
    other = "published is the metric that each task declares (overall_metric)"
    assert (
        other in figure(found, metric="overall_acc")["why"]
        and other not in figure(found, metric="overall_metric")["why"]
    )


def test_base_to_new_with_the_harmonic_mean(tmp_path):
    settings = {"method": "MMRL", "suite": "EuroSAT", "backbone": "ViT-B/16", "shots": 16}
    for half in ("base", "new"):
        runs_of(tmp_path / half, {"EuroSAT": 80.0}, protocol=half, **settings)
    found = published.beside(read_frame([tmp_path]))
    shown = found[(found["metric"] == "overall_acc") & (found["task_key"] == "")].set_index("classes")["published"]
    assert shown.to_dict() == {"base": 95.60, "new": 80.17, H: 87.21}


def test_a_part_of_a_frame_finds_the_figures_of_the_whole(tmp_path):
    """A part without the rows of tasks and of other metrics, and a method with two configurations."""
    same = {"method": "IVLP", "suite": "General11", "backbone": "ViT-B/16", "shots": 16}
    for half in ("base", "new"):
        for config in ("vit_b16_c2_ep5_batch4_2+2ctx", "vit_b16_c2_ep20_batch4_4+4ctx"):
            files = [f"configs/trainers/IVLP/{config}.yaml"]
            runs_of(tmp_path / config / half, eleven(), protocol=half, config_files=files, **same)
    frame = read_frame([tmp_path])
    assert set(frame["config"]) == {"vit_b16_c2_ep5_batch4_2+2ctx", "vit_b16_c2_ep20_batch4_4+4ctx"}
    find, told = published.finder(frame), {}
    means = frame[frame["task_id"].isna() & (frame["metric"] == "overall_acc")]
    for config, part in means.groupby("config"):
        found = find(part)
        assert list(found.columns) == list(published.BESIDE) and found["comparable"].all()
        told[config[-5:]] = dict(zip(found["classes"], found["published"], strict=True))
    assert told == {"+2ctx": {"base": 82.15, "new": 74.07, H: 77.90}, "+4ctx": {"base": 84.21, "new": 71.79, H: 77.51}}
    assert find(means.head(0)).empty and len(published.beside(frame).query("task_key == ''")) == 6


def test_zero_shot_has_any_number_of_images(tmp_path):
    settings = {"method": "ZeroshotCLIP", "shots": -1, "protocol": "all", "epochs": 0}
    runs_of(tmp_path / "zero", {"ImageNetV2": 60.0}, (1,), suite="ImageNetV2", backbone="ViT-B/16", **settings)
    row = figure(published.beside(read_frame([tmp_path])), task_key="", metric="overall_acc")
    assert (row["published"], row["comparable"], row["published_method"]) == (60.83, True, "CLIP")


def test_runs_without_figures(tmp_path):
    runs_of(tmp_path / "icon", {"faces": 50.0, "hands": 60.0}, method="UPT", suite="Icon5", backbone="tiny")
    write(tmp_path / "failed/seed1", results={"status": "failed", "suite": "General11", "method": "UPT"})
    found = published.beside(read_frame([tmp_path]))
    assert found.empty and list(found.columns) == list(published.BESIDE)
    row = figure(published.beside(read_frame([tmp_path]), "upt2"), metric="overall_acc")
    assert row["why"].startswith("published for General11, these runs are of Icon5; ") and not row["comparable"]


# ---- the figures as a frame, and as text


def test_as_frame():
    frame = published.as_frame()
    assert list(frame.columns) == list(COLUMNS) and (frame["status"] == "complete").all()
    assert frame.dtypes.astype(str).to_dict() == read_types()
    same = ["method", "backbone", "protocol", "classes", "shots", "suite", "task_key", "metric"]
    assert not frame.duplicated(same).any()
    upt = frame[(frame["method"] == "UPT") & (frame["suite"] == "General11") & (frame["metric"] == "overall_metric")]
    assert upt["task_id"].notna().sum() == 11
    each, mean = upt[upt["task_id"].notna()]["value"].mean(), figure(upt, task_key="")["value"]
    assert round(each, 2) == mean == 81.44
    found = published.beside(frame)
    assert len(found) > len(frame)
    merged = found.merge(frame, on=list(published.KEY))
    caveats = merged[~merged["comparable"]]["why"].drop_duplicates()
    assert caveats.str.contains("read off a plot|the paper's|the source does not|trained on").all()
    differ = merged[merged["published"] != merged["value"]]  # a run on ImageNet alone, and ImageNet within the eleven
    assert set(differ["suite"]) == {"ImageNet"} and set(differ["method"]) == {"CoOp", "GDA"}


def read_types():
    return {name: str(kind) for name, kind in pd.DataFrame(columns=list(COLUMNS)).astype(COLUMNS).dtypes.items()}


def test_a_page_of_runs_has_the_figures_below_them(tmp_path, capsys):
    same = {"method": "UPT", "suite": "General11", "shots": 16}
    runs_of(tmp_path / "runs/vit", eleven(), backbone="ViT-B/16", **same)
    runs_of(tmp_path / "runs/resnet", eleven(), backbone="RN50", **same)
    assert report.main([str(tmp_path / "runs"), "-o", str(tmp_path / "page"), "--metric", "overall_acc"]) == 0
    page = (tmp_path / "page/index.html").read_text(encoding="utf-8")
    assert "81.44 (+0.06)" in page and "not comparable: published for ViT-B/16, these runs are RN50" in page


def test_averages_follow_from_their_rows_but_for_those_that_are_found():
    checks = published_checks.checks()
    softcpt = checks[checks["source"] == "softcpt"]
    assert len(softcpt) == 2 * 48 and softcpt["follows"].all()
    upt2 = checks[checks["source"] == "upt2"]
    assert len(upt2) == 7 and upt2["follows"].all()
    assert (checks["follows"] | ~checks["equal"]).all()  # what is equal follows
    wrong = checks[~checks["follows"]]
    known = {
        ("promptsrc", "ProDA"),
        ("rmadapter", "KgCoOp"),
        ("dept", "CoCoOp"),
        ("upt1", "VPT-shallow"),
        ("awesome_list", "HPT"),
    }
    assert known <= set(zip(wrong["source"], wrong["method"], strict=True))
    assert figure(wrong, method="GDA")["remark"] == published_checks.MEAN_OF_H
    assert len(checks) > 500 and len(wrong) < 30


@pytest.mark.parametrize(
    "printed, follows", [("60.00", True), ("60.01", True), ("60.02", False), ("59.99", True), ("59.98", False)]
)
def test_a_printed_number_stands_for_half_a_digit_to_both_sides(printed, follows):
    """The mean of 50.00 and 70.00, each at most 0.005 off, is printed as 59.99 to 60.01."""
    base = {**dict.fromkeys(("source", *published_checks.KEY, "dataset")), "decimals": 2, "read_off_plot": float("nan")}
    parts = [{**base, "value": 50.0}, {**base, "value": 70.0}]
    found = published_checks._check("", {**base, "value": float(printed)}, parts, published_checks._mean)
    assert (found["follows"], found["equal"]) == (follows, printed == "60.00")


def test_report_published(capsys, tmp_path):
    assert report.main(["--published"]) == 0
    out = capsys.readouterr().out
    rows = rows_of(out)
    assert rows["UPT"] and "81.44" in out and re.search(r"\| maple, promptsrc, .*78.55|maple, promptsrc.*78.55", out)
    assert "mean over shots: 48; 46 to the digit, 2 within rounding, 0 not" in out
    assert re.search(r"promptsrc +\| ProDA .*76.65 \| +78.59", out) and "sources print differently" in out
    assert report.main(["--published", "LPPlusPlus"]) == 0
    assert "80.32" in capsys.readouterr().out
    assert report.main(["--published", "MaPle"]) == 2
    assert "did you mean MaPLe?" in capsys.readouterr().err
    assert report.main(["--published", "--csv", str(tmp_path / "figures.csv")]) == 0
    assert len(pd.read_csv(tmp_path / "figures.csv")) == len(published.as_frame())
    with pytest.raises(UserError, match="no published figure of 'xyz'"):
        text(["xyz"])


# ---- python -m reporting.table --published


def test_a_column_per_task_and_the_average_last(tmp_path, capsys):
    folder = runs_of(tmp_path / "one", {"a": 50.0, "b": 70.0})
    other = runs_of(tmp_path / "two", {"a": 40.0, "b": 60.0}, seeds=(1,))
    rows = rows_of(show(capsys, "--per-task-columns", f"one={folder}", f"two={other}"))
    assert rows["method"] == ["n", "a", "b", "average"]
    assert rows["one"] == ["2", "51.50 ± 0.50", "71.50 ± 0.50", "61.50 ± 0.50"]
    assert rows["two"] == ["1", "41.00", "61.00", "51.00"]
    wanted = show(capsys, "--per-task-columns", "--keyword", "mean_acc", f"one={folder}")
    assert rows_of(wanted)["one"][1] == "50.50 ± 0.50"  # written.py writes value - 1


def test_numbers_of_the_same_data_stand_below_and_beside(tmp_path, capsys):
    same = {"suite": "General11", "shots": 16, "backbone": "ViT-B/16", "subsample_tasks": "each by itself"}
    folder = runs_of(tmp_path / "upt", eleven(80.0), **same)
    out = show(capsys, "--per-task-columns", "--published", "upt2", f"UPT={folder}", f"MTUPT-soft={folder}")
    rows = rows_of(out)
    assert rows["… published"][:2] == ["", "72.63"] and rows["… published"][-1] == "81.44"
    assert rows["UPT"] == ["81.50 ± 0.50", "81.44", "+0.06"]  # the second table
    assert len(rows["MTUPT-soft"]) == 13 and "here: ViT-B/16, 16 images per class" in out
    part = runs_of(tmp_path / "part", {"ImageNet": 70.0, "EuroSAT": 90.0}, **same)
    out = show(capsys, "--per-task-columns", "--published", "upt2", f"UPT={part}")
    assert rows_of(out)["… published"] == ["", "72.63", "90.51", ""]  # the published average is over eleven datasets
    assert "note: UPT: not comparable: these runs have 2 of the 11 tasks" in out


def test_a_dataset_of_several_columns_has_its_own(tmp_path, capsys):
    """ImageNet's own number in the table of its shifted sets, not their average."""
    folder = runs_of(tmp_path, {"ImageNet": 70.0}, seeds=(1,), suite="ImageNet", shots=16, backbone="ViT-B/16")
    assert rows_of(show(capsys, "--published", "upt1", f"CoOp={folder}"))["CoOp"] == ["71.00", "71.51", "-0.51"]


@pytest.mark.parametrize("option", [["--published", "upt2"], ["--per-task-columns"]])
def test_one_task_has_neither_average_nor_published_overall_value(tmp_path, capsys, option):
    folder = runs_of(tmp_path / "joint", {"a": 40.0, "b": 50.0})
    assert table.main([*option, "--keyword", "a", f"Joint={folder}"]) == 2
    assert "--keyword a: a metric is needed" in capsys.readouterr().err


def test_other_data_are_reported(tmp_path, capsys):
    folder = runs_of(tmp_path / "joint", {"a": 40.0, "b": 50.0}, backbone="tiny")
    out = show(capsys, "--published", "upt2", f"Joint={folder}")
    assert rows_of(out)["Joint"] == ["46.50 ± 0.50", "78.70"]
    assert (
        "note: Joint: not comparable: published for General11, these runs are of Icon5; published for ViT-B/16" in out
    )
    assert "here: tiny, 4 images per class" in out and "difference" not in out


def test_softcpts_table_by_suite_and_shots(tmp_path, capsys):
    plants = dict.fromkeys(SUITES["Plant6"], 65.0)
    four = runs_of(tmp_path / "four", plants, suite="Plant6", backbone="RN50")
    zero = runs_of(tmp_path / "zero", plants, suite="Plant6", shots=-1, protocol="all", backbone="RN50")
    out = show(capsys, "--published", "softcpt", f"NATA={four}", f"ZeroshotCLIP={zero}", f"CATA={four}")
    rows = rows_of(out)
    assert rows["NATA"] == ["66.50 ± 0.50", "68.72 ± 1.53", "-2.22"]
    assert rows["ZeroshotCLIP"][1] == "50.96 ± 0.00" and not re.search(r"CATA +\|.*\|.*\|", out.split("published: ")[1])
    named = runs_of(tmp_path / "named", plants, suite="Plant6", backbone="RN50", method="SoftCPT-NATS")
    out = show(capsys, "--published", "softcpt", f"mine={named}")  # found by the method that the runs record
    assert "68.28 ± 1.07" in out and "note: mine: published: the authors' code steps optimiser" in out
    three = runs_of(tmp_path / "three", plants, suite="Plant6", shots=3, backbone="RN50")
    out = show(capsys, "--published", "softcpt", f"NATA={three}")
    assert "published with 1 image per class, these runs have 3" in out and "difference" not in out
    icon = runs_of(tmp_path / "icon", {"a": 60.0})
    assert "it has no number for any of these" in show(capsys, "--published", "softcpt", f"NATA={icon}")
