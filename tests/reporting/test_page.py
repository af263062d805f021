"""The report: its numbers against naive ones, its page as HTML, its files."""

import csv
import html.parser
import io
import math
import re
import statistics

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from dassl.runs.results import CONFIDENCE_METRICS, STANDARD_METRICS
from dassl.utils.errors import UserError
from reporting.figures import Figure
from reporting.frame import read_frame
from reporting.page import Options, build, plots
from reporting.page.blocks import Cell, Row, Table, mark_best
from reporting.page.comparison import compare, holm
from reporting.page.costs import COSTS, front_of, pareto
from reporting.page.results import METRICS, Notes
from reporting.page.rows import groups, with_rows
from tests.reporting.frames import frame, run, zero_shot
from tests.reporting.written import result, write

VOID = {"meta", "img", "br", "input", "link", "path", "use", "rect", "image"}


class Page(html.parser.HTMLParser):
    """What a test asks of a page: balanced tags, ids, links, tables as lists of rows of texts."""

    def __init__(self, text):
        super().__init__()
        self.stack, self.ids, self.links, self.tables, self.attributes = [], [], [], {}, []
        self.feed(text)
        assert self.stack == []

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.attributes.append((tag, attributes))
        self.ids += [attributes["id"]] if "id" in attributes else []
        self.links += [value for key, value in attributes.items() if key in ("href", "src", "xlink:href")]
        if tag not in VOID:
            self.stack.append(tag)
        if tag == "span" and self.stack[-2:-1] == ["caption"]:
            self.rows = self.tables[attributes["id"]] = []
        elif tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.stack.pop()

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, text):
        if {"td", "th"} & set(self.stack):
            self.rows[-1][-1] += text.strip("\n")


def made(tmp_path, found, **options):
    path = build(found, tmp_path / "report", Options(**options))
    text = path.read_text(encoding="utf-8")
    return Page(text), text


def read_csv(path):
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))


@pytest.fixture
def undrawn(monkeypatch):
    """Figures without a drawing, for tests of tables."""
    monkeypatch.setattr(plots, "draw", lambda name, caption, text, *_: Figure(name, caption, text, "<svg></svg>", {}))


def table(page, name):
    """{label: other cells} of a table."""
    return {row[0]: row[1:] for row in page.tables[name] if row[0]}


@pytest.fixture(scope="module")
def few_shot():
    """Two methods with 1 and 4 images per class, three seeds, and zero-shot CLIP."""
    rng, runs = np.random.default_rng(0), [zero_shot()]
    for method, start in (("CoOp", 45.0), ("SoftCPT", 55.0)):
        for shots in (1, 4):
            for seed in (1, 2, 3):
                if (method, shots, seed) != ("CoOp", 4, 3):
                    tasks = {task: start + 5 * shots + rng.normal() for task in ("a", "b")}
                    runs.append(run(method, tasks, shots, seed))
    return frame(*runs, run("CoOp", {}, 4, 3))


def test_the_table_has_the_statistics_of_the_runs(undrawn, few_shot, tmp_path):
    page, text = made(tmp_path, few_shot)
    shown = table(page, "toy-few-shot-rn50-results")
    means = few_shot[(few_shot.metric == "overall_metric") & few_shot.task_id.isna()]

    def values(method, shots):
        return means[(means.method == method) & (means.shots == shots)].value.tolist()

    def text_of(numbers):
        return f"{statistics.fmean(numbers):.2f} ± {statistics.pstdev(numbers):.2f}"

    assert shown["method"] == ["zero-shot", "1", "4", "average"]
    assert shown["ZeroshotCLIP"] == ["45.00", "–", "–", "–"]
    averages = [statistics.fmean(pair) for pair in zip(values("CoOp", 1), values("CoOp", 4), strict=False)]
    second = [text_of(values("CoOp", 1)), text_of(values("CoOp", 4)) + " (n = 2)", text_of(averages) + " (n = 2)"]
    assert shown["CoOp"] == ["–", *(f"{each} (second)" for each in second)]
    assert shown["SoftCPT"][1] == text_of(values("SoftCPT", 1)) + " (best)"
    assert "missing: CoOp, seed 3: 4 images per class" in text
    assert table(page, "unfinished")["CoOp/rn50_4shots/seed3"] == ["failed", "out of memory"]


def test_the_page_is_one_readable_file(few_shot, tmp_path):
    page, text = made(tmp_path, few_shot, title='<b> & "quotes"')
    assert "&lt;b&gt; &amp;" in text and "<b> &" not in text
    assert len(page.ids) == len(set(page.ids))
    for link in page.links:
        if link.startswith("#"):
            assert link[1:] in page.ids
        else:
            assert link.startswith("data:") or (tmp_path / "report" / link).is_file()
    assert not re.search(r"https?://(?!www\.w3\.org)", text)  # no network
    for tag, attributes in page.attributes:
        if tag == "svg":
            assert attributes["role"] == "img" and {attributes["aria-labelledby"]} <= set(page.ids)
        if tag == "th":
            assert attributes["scope"] in ("col", "row", "colgroup")
        if attributes.get("class") == "scroll":
            assert attributes["tabindex"] == "0" and attributes["role"] == "group"
    assert text.count("<svg") == text.count("<desc") == len(list((tmp_path / "report/figures").glob("*.pdf")))
    assert text == build(few_shot, tmp_path / "again", Options(title='<b> & "quotes"')).read_text(encoding="utf-8")


def test_files_beside_the_page(few_shot, tmp_path):
    made(tmp_path, few_shot)
    tables, figures = tmp_path / "report/tables", tmp_path / "report/figures"
    lines = read_csv(tables / "toy-few-shot-rn50-results.csv")
    one = next(line for line in lines if line["method"] == "SoftCPT" and line["column"] == "4")
    means = few_shot[(few_shot.metric == "overall_metric") & few_shot.task_id.isna() & (few_shot.shots == 4)]
    assert float(one["mean"]) == pytest.approx(means[means.method == "SoftCPT"].value.mean(), abs=1e-12)
    latex = (tables / "toy-few-shot-rn50-results.tex").read_text()
    assert (
        r"\toprule" in latex
        and r"$\pm$" in latex
        and r"\textbf{" in latex
        and r"\underline{" in latex
        and latex.isascii()
    )
    assert {path.suffix for path in figures.iterdir()} == {".pdf", ".png"}
    assert (figures / "toy-few-shot-rn50-curve.pdf").read_bytes().startswith(b"%PDF")
    assert not list(tmp_path.rglob("*.tmp"))


def test_names_are_escaped_in_all_formats(undrawn, tmp_path):
    method, tasks = "a_b & <i>$x^2$</i> 100%", {"t_1 & <u>": 1.0, "50% #{\\}": 2.0}
    page, text = made(tmp_path, frame(zero_shot(tasks), run(method, tasks), run("other", tasks)))
    assert method in table(page, "toy-few-shot-rn50-results") and "<i>" not in text
    latex = (tmp_path / "report/tables/toy-few-shot-rn50-tasks.tex").read_text()
    assert r"a\_b \& " in latex and r"50\% \#" in latex


def test_suites_whose_names_have_the_same_letters_have_files_of_their_own(undrawn, tmp_path):
    suites = {"Icon-5": 10.0, "Icon 5": 20.0, "数据": 30.0, "данные": 40.0}
    page, _ = made(tmp_path, frame(*(run("A", {"a": value}, suite=suite) for suite, value in suites.items())))
    assert len(page.ids) == len(set(page.ids))
    files = (tmp_path / "report/tables").glob("*-results.csv")
    assert sorted(float(read_csv(file)[0]["mean"]) for file in files) == sorted(suites.values())


def test_notes_stay_comments_and_letters_differ():
    table = Table("t", "c", "head", ["x"], [Row("A", [Cell("1")])], pd.DataFrame(), notes=["two\nlines"])
    assert table.as_latex().endswith("% two\n% lines\n")
    notes = Notes()
    assert len({notes.letter(f"reason {number}") for number in range(60)}) == 60


def test_rows_chosen_on_test_images_are_marked_and_not_ranked(undrawn, tmp_path):
    found = frame(run("A", {"a": 90.0}, chosen_on="test"), run("B", {"a": 60.0}), run("C", {"a": 50.0}))
    page, text = made(tmp_path, found)
    shown = table(page, "toy-few-shot-rn50-results")
    assert shown["A ‡"] == ["90.00"] and shown["B"] == ["60.00 (best)"] and shown["C"] == ["50.00 (second)"]
    assert "test images chose settings" in text


def test_variants_of_a_method_are_rows_of_their_own():
    runs = [
        run("A", {"a": 1.0}, shots, experiment=f"Toy/A/x_{shots}shots/nctx{n}") for shots in (1, 2) for n in (4, 16)
    ]
    assert set(with_rows(frame(*runs)).row) == {"A (nctx4)", "A (nctx16)"}
    runs = [run("A", {"a": 1.0}, shots, experiment=f"Toy/A/x_{shots}shots/n") for shots in (1, 2)]
    assert set(with_rows(frame(*runs)).row) == {"A"}
    [first, second] = groups(frame(run("A", {"a": 1.0}), run("A", {"a": 1.0}, backbone="ViT-B/16")))
    assert [first.backbone, second.backbone] == ["RN50", "ViT-B/16"]


def halves(method, base, new, seed=1):
    common = {"protocol": "base-to-new", "shots": 16, "seed": seed}
    return [*run(method, base, classes="base", **common), *run(method, new, classes="new", **common)]


def test_base_to_new(undrawn, tmp_path):
    found = frame(
        halves("A", {"a": 80.0, "b": 60.0}, {"a": 60.0, "b": 50.0}, 1),
        halves("A", {"a": 90.0, "b": 70.0}, {"a": 50.0, "b": 40.0}, 2),
        halves("B", {"a": 50.0, "b": 50.0}, {"a": 50.0, "b": 50.0}, 1),
        halves("B", {"a": 52.0, "b": 50.0}, {"a": 50.0, "b": 50.0}, 2),
    )
    page, text = made(tmp_path, found, baseline="B")
    base, new = statistics.fmean((70, 80)), statistics.fmean((55, 45))
    own = [2 * 70 * 55 / 125, 2 * 80 * 45 / 125]
    mean = f"{2 * base * new / (base + new):.2f} ± {statistics.pstdev(own):.2f}"
    shown = table(page, "toy-base-to-new-rn50-results")
    assert [cell.removesuffix(" (best)") for cell in shown["A"]] == ["75.00 ± 5.00", "50.00 ± 5.00", mean]
    of_tasks = table(page, "toy-base-to-new-rn50-tasks")
    assert of_tasks["A"][2].startswith(f"{2 * 85 * 55 / 140:.2f} ±")
    assert "Compared with B" in text


def test_tests_on_other_data(undrawn, tmp_path):
    shift = {"source_suite": "Toy", "protocol": "domain-shift"}
    found = frame(
        *(run("A", {"a": 70.0 + seed}, 16, seed) for seed in (1, 2)),
        *(run("A", {"a": 60.0 + seed}, 16, seed, suite="V2", **shift) for seed in (1, 2)),
        *(run("A", {"a": 40.0 - seed}, 16, seed, suite="S", **shift) for seed in (1, 2)),
        zero_shot({"a": 50.0}),
        zero_shot({"a": 45.0}, suite="V2"),
        zero_shot({"a": 44.0}, suite="S"),
    )
    page, text = made(tmp_path, found)
    assert "Toy: few-shot" in text and "V2: few-shot" not in text  # zero-shot on the targets is in this table
    shown = table(page, "toy-domain-shift-rn50-results")
    assert shown["method"] == ["Toy (source)", "S", "V2", "average", "OOD average"]
    cells = [cell.removesuffix(" (best)").removesuffix(" (second)") for cell in shown["A"]]
    assert cells == ["71.50 ± 0.50", "38.50 ± 0.50", "61.50 ± 0.50", "57.17 ± 0.17", "50.00 ± 0.00"]
    assert [cell.split()[0] for cell in shown["ZeroshotCLIP"]] == ["50.00", "44.00", "45.00", "46.33", "44.50"]


def test_published_figures_stand_below_their_rows(undrawn, few_shot, tmp_path):
    def beside(part):
        """As reporting.published.beside: a figure of CoOp for each number of images."""
        rows = part[(part.method == "CoOp") & (part.task_key == "") & (part.metric == "overall_metric")]
        rows = rows.drop_duplicates("shots")[["suite", "task_key", "shots", "classes", "method", "metric"]]
        why = ["" if shots == 1 else "other data" for shots in rows.shots]
        figure = {"published": 49.0, "published_std": 0.5, "source": "A paper", "note": "page 3"}
        return rows.assign(**figure, comparable=[not text for text in why], why=why)

    page, text = made(tmp_path, few_shot, beside=beside)
    mean = few_shot[(few_shot.metric == "overall_metric") & few_shot.task_id.isna() & (few_shot.shots == 1)]
    difference = mean[mean.method == "CoOp"].value.mean() - 49
    shown = table(page, "toy-few-shot-rn50-results")["↳ published"]
    assert shown[1] == f"49.00 ± 0.50 ({difference:+.2f})" and shown[2] == "49.00 ± 0.50 [a]"
    assert (
        "[a] not comparable: other data" in text
        and "published: A paper" in text
        and "published for CoOp: page 3" in text
    )
    lines = read_csv(tmp_path / "report/tables/toy-few-shot-rn50-results.csv")
    [one] = [line for line in lines if line["method"] == "CoOp" and line["column"] == "1"]
    assert float(one["difference"]) == pytest.approx(difference)


def test_paired_test_against_scipy_and_by_hand():
    from scipy.stats import t

    rng = np.random.default_rng(1)
    rows, values = [], {}
    for seed in (1, 2, 3):
        for task in range(4):
            for row, gain in (("A", 1.0), ("B", 0.0)):
                values[row, seed, task] = rng.normal(gain)
                rows.append((row, 1, seed, task, values[row, seed, task]))
    found = compare(pd.DataFrame(rows, columns=["row", "shots", "seed", "task_id", "value"]), ["A", "B"], "B")
    each = [values["A", s, k] - values["B", s, k] for s in (1, 2, 3) for k in range(4)]
    mean, error = statistics.fmean(each), statistics.stdev(each) / math.sqrt(12)
    [line] = found.to_dict("records")
    assert line["pairs"] == 12 and line["difference"] == pytest.approx(mean)
    assert line["p"] == pytest.approx(2 * t.sf(abs(mean / error), 11))
    assert (line["low"], line["high"]) == pytest.approx(
        (mean - t.ppf(0.975, 11) * error, mean + t.ppf(0.975, 11) * error)
    )


def test_zero_shot_is_paired_with_every_seed_and_number_of_images(few_shot):
    [group] = groups(few_shot)
    found = compare(group.of("overall_metric", False), group.rows, group.baseline()).set_index("method")
    assert group.baseline() == "ZeroshotCLIP" and found.loc["SoftCPT", "pairs"] == 6
    means = few_shot[(few_shot.metric == "overall_metric") & few_shot.task_id.notna() & (few_shot.method == "SoftCPT")]
    assert found.loc["SoftCPT", "difference"] == pytest.approx(means.value.mean() - 45)


def test_holm_against_the_definition():
    p = np.array([0.01, 0.04, np.nan, 0.03])
    assert holm(p)[[0, 1, 3]] == pytest.approx([0.03, 0.06, 0.06]) and np.isnan(holm(p)[2])


def test_pareto_front_against_every_pair():
    rng = np.random.default_rng(2)
    costs, values = (pd.Series(rng.integers(0, 6, 12).astype(float), list("abcdefghijkl")) for _ in range(2))
    dominated = {
        row
        for row in costs.index
        for other in costs.index
        if other != row
        and costs[other] <= costs[row]
        and values[other] >= values[row]
        and (costs[other], values[other]) != (costs[row], values[row])
    }
    front = pareto(costs, values)
    assert {(costs[row], values[row]) for row in front} == {
        (costs[row], values[row]) for row in costs.index if row not in dominated
    }


def test_costs_that_are_shown_as_equal_are_equal():
    costs = pd.DataFrame(0.0, list("ab"), list(COSTS)).assign(memory_bytes=[725 * 2**20 + 4096.0, 725 * 2**20])
    assert front_of("memory_bytes", costs, pd.Series([51.51, 49.04], list("ab"))) == ["a"]


def test_best_and_second_are_compared_as_shown():
    assert mark_best([1.0, 3.0, 2.0]) == ["", "best", "second"]
    assert mark_best([3.001, 3.004, 2.0, float("nan")]) == ["best", "best", "", ""]
    assert mark_best([1.0, 3.0, 2.0], larger_is_better=False) == ["best", "", "second"]
    assert mark_best([1.0, float("nan")]) == ["", ""] and mark_best([2.0, 2.0]) == ["", ""]


def test_classes_of_the_best_row(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = frame(run("A", {"animals": 60.0}), run("B", {"animals": 50.0}))
    folder = tmp_path / "output/Toy/A/rn50_1shots/seed1"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(f"DATASET:\n  ROOT: {tmp_path / 'data'}\n")
    (tmp_path / "data").mkdir()
    for n in (1, 2, 3, 4):
        Image.new("RGB", (90, 60), "red").save(tmp_path / f"data/{n}.png")
    counts = [("cat", "cat", 6), ("cat", "dog, small", 4), ("dog, small", "dog, small", 5), ("dog, small", "cat", 5)]
    lines = [("animals", label, predicted) for label, predicted, n in counts for _ in range(n)]
    with open(folder / "predictions.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "task", "label", "class1", "probability1"))
        writer.writerows((f"{n % 5}.png", *line, 0.5) for n, line in enumerate(lines))
    log = "".join(
        f"epoch [{n}/3][5/5]\tloss {4 / n:.2f} ({4 / n:.2f}) acc {20 * n}.0 ({20 * n}.0)\n" for n in (1, 2, 3)
    )
    (folder / "log.txt").write_text(log)
    page, text = made(tmp_path, found)
    confused = page.tables["toy-few-shot-rn50-confused"][1:]
    assert confused == [["dog, small", "cat", "animals", "5", "50.0"], ["cat", "dog, small", "animals", "4", "40.0"]]
    thumbnails = [attributes for tag, attributes in page.attributes if tag == "img"]
    assert len(thumbnails) == 3 and all(each["src"].startswith("data:image/jpeg") for each in thumbnails)
    assert "Training curves" in text and "loss 1.33 after 3 epochs" in text


def test_a_page_without_results(undrawn, tmp_path):
    _, text = made(tmp_path, frame(run("A", {})))
    assert "No run has a result yet" not in text and "out of memory" in text


def test_runs_of_single_tasks_are_joined(undrawn, tmp_path):
    for task in (0, 1):
        for seed in (1, 2):
            found = result(60.0 + task + seed, seed=seed, method="CoOp", subsample_tasks=f"task{task}")
            found |= {"suite_tasks": ["k0", "k1"], "tasks": [found["tasks"][task]], "learnable_parameters": 9}
            found["command"] = ["train.py", "--seed", str(seed), "DATASET.SUBSAMPLE_TASKS", f"task{task}"]
            write(tmp_path / f"output/x_4shots/task{task}/seed{seed}", results=found)
    page, text = made(tmp_path, read_frame([tmp_path / "output"]))
    assert table(page, "icon5-few-shot-results") == {"method": ["4"], "CoOp": ["70.00 ± 0.00"]}
    assert table(page, "icon5-few-shot-tasks")["CoOp"] == ["60.00 ± 0.00", "80.00 ± 0.00"]
    assert "<dd>4 (4 complete)</dd>" in text
    assert "train.py --seed {SEED} DATASET.SUBSAMPLE_TASKS task{TASK}" in text  # one entry for four runs
    assert text.count('<details class="run"') == 1


def test_tasks_without_a_mean(undrawn, tmp_path):
    """As of runs of single tasks, some of which are missing."""
    found = frame(run("A", {"a": 60.0, "b": 70.0}), run("B", {"a": 50.0}))
    page, text = made(tmp_path, found[found.task_id.notna()])
    assert "No row has results of all tasks" in text and "B has no results of: b" in text
    shown = table(page, "toy-few-shot-rn50-tasks")
    assert shown["A"] == ["60.00 (best)", "70.00"] and shown["B"] == ["50.00 (second)", "–"]


@pytest.mark.parametrize("hashes", [("f1", "f1"), ("f1", "f2"), ("f1", "")])
def test_runs_of_a_seed_with_other_few_shot_images_are_noted(undrawn, tmp_path, hashes):
    values = {"a": 60.0, "b": 70.0}
    runs = (run(name, values, fewshot_hash=found) for name, found in zip("AB", hashes, strict=True))
    other = run("A", values, seed=2, fewshot_hash="of another seed")
    _, text = made(tmp_path, frame(*runs, other, zero_shot()))
    assert ("have the same few-shot images: DATASET.FEWSHOT_SPLIT differs" in text) == (hashes != ("f1", "f1"))


def test_metrics_of_every_run_have_a_title():
    assert {*STANDARD_METRICS, *CONFIDENCE_METRICS} <= set(METRICS)  # the default says "(%)", also of nats


def test_mistakes_are_one_error(undrawn, few_shot, tmp_path):
    with pytest.raises(UserError, match="--metric f1: no run has it; expected one of: overall_acc, overall_metric"):
        build(few_shot, tmp_path / "a", Options(metric="f1"))
    with pytest.raises(UserError, match="--baseline X is not a row.*expected one of: CoOp, SoftCPT, ZeroshotCLIP"):
        build(few_shot, tmp_path / "a", Options(baseline="X"))
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="expected a folder"):
        build(few_shot, tmp_path / "file", Options())
    with pytest.raises(UserError, match="expected a folder, in which the page will be index.html; give .*/page$"):
        build(few_shot, tmp_path / "page.html", Options())
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_many_runs_make_a_small_page(tmp_path):
    rng = np.random.default_rng(3)
    tasks = [f"task {n}" for n in range(5)]
    runs = [
        run(f"method {m}", {task: rng.uniform(40, 90) for task in tasks}, shots, seed)
        for m in range(12)
        for shots in (1, 4, 16)
        for seed in (1, 2, 3)
    ]
    _, text = made(tmp_path, frame(*runs))  # 108 runs
    assert len(text) < 200_000
    assert text.count('<details class="run"') == 36
