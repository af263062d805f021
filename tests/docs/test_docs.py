"""The pages of docs/ say what the code does: tables, settings, fields, arguments, figures, and code as printed."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest
from PIL import Image

import train
from dassl.config import get_cfg_default, load, settings
from dassl.data.tasks import Task, TaskSpace
from dassl.engine import build_trainer
from dassl.runs.writer import describe
from tests.docs.method_tables import learnable
from tests.docs.tables import DOCS, REPO, TABLES, WIDTH, learning_rates, renewed

PAGES = {path.name: path.read_text(encoding="utf-8") for path in (REPO / "README.md", *sorted(DOCS.glob("*.md")))}
CODE = {  # file as a page names it -> the page
    "text_adapter.py": "add-a-method.md",
    "tiny_ep20.yaml": "add-a-method.md",
    "image_adapter.py": "add-a-method.md",
    "low_rank_clip.py": "add-a-method.md",
    "linear_head.py": "add-a-method.md",
    "my_birds_row.py": "add-a-dataset.md",
    "my_birds.py": "add-a-dataset.md",
}


def page(name):
    return PAGES[name]


def file_of(name, text):
    """The code block that a page names `name`."""
    return re.search(rf"<!-- file: {re.escape(name)} -->\n```\w+\n(.*?)```", text, re.DOTALL)[1]


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    """What is printed in the pages, run in one process of its own: {run: results.json}, and the settings page.

    The page's method is given to the contract tests as well, as it says.
    """
    folder = tmp_path_factory.mktemp("printed")
    for name, source in CODE.items():
        (folder / name).write_text(file_of(name, page(source)).replace("../../", f"{REPO}/configs/"))
    draw_birds(folder)
    head = re.search(r"python train.py (--trainer LinearHead.*?)```", page("add-a-method.md"), re.DOTALL)[1]
    head = shlex.split(head.replace("\\\n", " "))
    head[head.index("--output-dir") + 1] = str(folder / "head")
    adapter = f"--trainer TextAdapterCLIP --seed 1 --output-dir {folder}/adapter --config-file {folder}/tiny_ep20.yaml "
    adapter += "--dataset-config-file configs/datasets/icon5.yaml DATASET.NUM_SHOTS 1 OPTIM.MAX_EPOCH 2"
    birds = f"--trainer ZeroshotCLIP --eval-only --root {folder} --output-dir {folder}/birds DATASET.NAME MyBirdsToo "
    birds += "--config-file configs/trainers/ZeroshotCLIP/tiny.yaml"
    commands = [adapter.split(), [*head, "OPTIM.MAX_EPOCH", "1"], birds.split()]
    program = f"""
import sys
from pathlib import Path
from reporting.settings_table import render
Path({str(folder)!r}, "settings.md").write_text(render(), encoding="utf-8")
sys.path.insert(0, {str(folder)!r})
import linear_head, my_birds, text_adapter, train
for command in {commands!r}:
    if train.main(command):
        sys.exit(1)
import torch
from tests.contract import test_trainers as contract
from tests.models import state_dict, tiny_vit
folder = Path({str(folder)!r})
torch.save(state_dict(tiny_vit()), folder / "vit.pt")
contract.test_base_to_new("TextAdapterCLIP", (), {{"vit": (folder / "vit.pt", 32)}}, folder / "contract")
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=REPO)
    assert found.returncode == 0, found.stdout + found.stderr
    results = {name: json.loads((folder / name / "results.json").read_text()) for name in ("adapter", "head", "birds")}
    return {**results, "settings": (folder / "settings.md").read_text(encoding="utf-8")}


def draw_birds(root):
    for shade, name in enumerate(("blackbird", "great_tit", "wren")):
        folder = root / "my_birds" / "images" / name
        folder.mkdir(parents=True)
        for number in range(10):
            Image.new("RGB", (70, 64), (80 * shade + number, 90, 120)).save(folder / f"{number}.jpg")


# ---- the pages -----------------------------------------------------------------------------------------------------


def test_settings_page_is_up_to_date(printed):
    assert page("settings.md") == printed["settings"], (
        "docs/settings.md is out of date; to fix it: python -m reporting.settings_table > docs/settings.md"
    )


@pytest.mark.parametrize("name", sorted(PAGES))
def test_tables_are_up_to_date(name):
    assert page(name) == renewed(page(name)), f"docs/{name} is out of date; update it: python -m tests.docs.tables"


def test_every_table_is_shown():
    shown = {name for text in PAGES.values() for name in re.findall(r"<!-- table: (.+?) -->", text)}
    assert shown == set(TABLES) - {"Fashion-20 prompt_table"}  # its tasks have a table of their own


def anchors(text):
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", [REPO / "README.md", *sorted(DOCS.glob("*.md"))], ids=lambda path: path.name)
def test_lines_and_links(path):
    text = path.read_text(encoding="utf-8")
    # the row of a table and a single word cannot be divided
    assert not [x for x in text.splitlines() if len(x) > WIDTH and not x.startswith("|") and len(x.split()) > 1]
    for link, anchor in re.findall(r"\]\((?!https?://)([^)#]*)#?([^)]*)\)", text):
        target = path.parent / link if link else path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target.read_text(encoding="utf-8")), f"{link}#{anchor}"


@pytest.mark.parametrize("name", sorted(PAGES))
def test_settings_and_files_that_are_named_exist(name):
    text = page(name)
    known = settings()
    groups = {key.rpartition(".")[0] for key in known}
    example = ("OPTIM.MAX_EPOCHS", "TRAINER.TEXTADAPTER", "TRAINER.IMAGEADAPTER", "TRAINER.LOWRANK")  # misspelt; added
    for key in re.findall(r"\b(?:[A-Z]+\.)+[A-Z][A-Z0-9_]*\b", text):
        assert key in known or key in groups or key.startswith(example), key
    for path in re.findall(
        r"\b(?:configs|scripts|tools|tests|datasets|dassl|trainers)/[\w./]*\w\.(?:yaml|sh|py)\b", text
    ):
        assert (REPO / path).is_file() or "TextAdapter" in path or path.endswith("text_adapter.py"), path


# ---- running.md, outputs.md ----------------------------------------------------------------------------------------


def test_arguments_are_those_of_train(capsys):
    with pytest.raises(SystemExit):
        train.parse(["--help"])
    real = set(re.findall(r"(--[\w-]+)", capsys.readouterr().out)) - {"--help"}
    table = page("running.md").split("| argument | meaning |")[1].split("\n\n")[0]
    told = set(re.findall(r"--[\w-]+", table))
    assert real <= told


def test_fields_of_the_results_are_those_explained():
    text = page("outputs.md").split("### results.json")[1].split("\n## ")[0]
    explained = set(re.findall(r"`([\w.]+)`", text))
    for field, value in describe(get_cfg_default()).items():
        if field in ("seconds", "hashes"):
            assert {f"{field}.{part}" for part in value} <= explained
        else:
            assert field in explained, field


def test_errors_are_as_printed():
    printed = re.search(r"error: (3 problems.*?)\n```", page("running.md"), re.DOTALL)[1]
    pairs = ["OPTIM.MAX_EPOCHS", 5, "TRAINER.MTCOOP.TASK_FEATURE", "random", "DATASET.NUM_SHOTS", "four"]
    with pytest.raises(ValueError) as error:
        load(get_cfg_default(), [], pairs)
    assert str(error.value) == printed


def test_the_repeated_steps_do_what_is_said():
    three, four = learning_rates(3), learning_rates(4)
    assert three[16] < 5e-5 and three[17] < 5e-5 and three[33] > 1.98e-3 and three[49] < 5e-5
    assert four[49] > 1.9e-3


# ---- methods.md and datasets.md ------------------------------------------------------------------------------------


def test_learnable_parameters_are_the_published_ones():
    assert learnable("CoOp-MT") == 8_192
    assert learnable("CoOp-CA") == 81_920
    assert learnable("CoOp-CS") == 9_756_672
    assert learnable("SoftCPT-NATA") == 8_390_656
    assert learnable("SoftCPT-NATA, M = 8") == 8_392_704
    assert learnable("LinearProbe") == 1_191 * 1_024 + 1_191 and learnable("ProtoNet") == 1_191 * 1_024
    for tasks, context in ((1, 8_192), (6, 49_152), (20, 163_840)):  # one task, Plant-6, Fashion-20
        space = TaskSpace(tuple(Task(f"t{t}", f"task {t}", ("a", "b")) for t in range(tasks)))
        assert learnable("CoOp-CA", space) == learnable("CoOp", space) == context
        assert learnable("CoCoOp", space) == tasks * 100_928
        assert learnable("KgCoOp", space) == tasks * 2_048
        assert learnable("ProGrad", space) == tasks * 8_192
        assert learnable("PLOT", space) == tasks * 32_768
        assert learnable("PLOT, N = 2", space) == tasks * 16_384


def test_zero_shot_figures(tmp_path):
    table = page("datasets.md").split("| key | zero-shot |")[1].split("\n\n")[0]
    told = {key: float(value) for key, value in re.findall(r"\| (\w+) \| ([\d.]+) \|", table)}
    cfg = get_cfg_default()
    files = [REPO / "configs/datasets/icon13.yaml", REPO / "configs/trainers/ZeroshotCLIP/tiny.yaml"]
    load(cfg, files, ["TRAINER.NAME", "ZeroshotCLIP", "OUTPUT_DIR", str(tmp_path), "SEED", 1, "USE_CUDA", False])
    trainer = build_trainer(cfg)
    assert trainer.test_and_record() == pytest.approx(told.pop("mean"), abs=0.3)
    found = {task["key"]: (task["value"], task["images"]) for task in trainer.evaluator.report["tasks"]}
    assert found.keys() == told.keys()
    for key, (value, images) in found.items():
        assert value == pytest.approx(told[key], abs=200 / images + 0.01), key  # two images: other kernels, other ties


# ---- add-a-method.md, add-a-dataset.md -----------------------------------------------------------------------------


def test_every_file_that_is_printed_is_run():
    assert set(CODE) == {name for text in PAGES.values() for name in re.findall(r"<!-- file: (.+?) -->", text)}


def test_the_method_runs_as_printed(printed):
    found = printed["adapter"]
    assert found["status"] == "complete" and found["learnable_parameters"] == 192**2
    assert found["mean"]["value"] > 40


def test_the_dassl_style_trainer_runs_as_printed(printed):
    found = printed["head"]
    assert found["status"] == "complete" and [task["key"] for task in found["tasks"]] == ["faces"]


def test_the_dassl_style_dataset_reads_as_printed(printed):
    (task,) = printed["birds"]["tasks"]
    assert task["images"] == 12 and task["classes"] == 3


def test_a_row_is_all_that_a_dataset_needs(tmp_path):
    """The row of the page, written into datasets/known of a copy of the project in which nothing else is changed."""
    copy, data = tmp_path / "project", tmp_path / "data"
    shutil.copytree(REPO / "datasets", copy / "datasets", copy_function=os.symlink)
    for entry in REPO.iterdir():
        if entry.name != "datasets":
            (copy / entry.name).symlink_to(entry)
    (copy / "datasets/known/birds.py").write_text(file_of("my_birds_row.py", page("add-a-dataset.md")))
    draw_birds(data)
    command = re.search(r"python train.py (.*?DATASET.NAME MyBirds)\n", page("add-a-dataset.md"), re.DOTALL)[1]
    words = shlex.split(command.replace("\\\n", " "))
    words[words.index("--root") + 1], words[words.index("--output-dir") + 1] = str(data), str(tmp_path / "run")
    program = f"""
import sys
import train
from datasets import check, download
codes = train.main({words!r}), check.main(["MyBirds", "--root", {str(data)!r}])
codes += download.main(["MyBirds", "--root", {str(data)!r}]), check.main(["MyBirds", "--root", "nowhere"])
assert codes == (0, 0, 0, 1), codes
from dassl.data.datasets import build_dataset
from tests.datasets.settings import config
from tests.datasets.settings import config
dataset = build_dataset(config("Suite", {str(data)!r}, TASKS=["MyBirds", "Icon13/faces"]))
task = dataset.space.tasks[0]
assert task.classnames == ("blackbird", "great tit", "wren")
assert task.templates == ("a photo of a {{}}, a type of bird.",)
sizes = [sum(item.task == 0 for item in part) for part in (dataset.train_x, dataset.val, dataset.test)]
assert sizes == [15, 6, 9], sizes
from tests.docs.tables import TABLES
for name in ("downloads", "other datasets suite_table", "other datasets source_list"):
    assert "MyBirds" in "\\n".join(TABLES[name]()), name
"""
    found = subprocess.run([sys.executable, "-c", program], cwd=copy, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr
    assert (data / "my_birds/split_fixed_MyBirds.json").is_file()
    assert json.loads((tmp_path / "run/results.json").read_text())["tasks"][0]["images"] == 9
    assert "source     my own photographs" in found.stdout


def test_the_numbers_of_backbones():
    from clip.listing import all_names, describe

    found = [describe(name) for name in all_names()]
    if len(found) != 206:
        pytest.skip("another version of open_clip has other pairs")
    text = page("backbones.md")
    rows = dict(re.findall(r"^\| (causal|plain|hf) \|.*\| (\d+) \|", text, re.MULTILINE))
    assert rows == {kind: str(sum(each.text == kind for each in found)) for kind in rows} and len(rows) == 3
    rows = re.findall(
        r"^\| (ViT|ViT with a pool|ResNet|of timm)(?: \(.*?\))? \| (\d+) \| ([^|]+) \| (\w+) \|", text, re.M
    )
    kinds = ("ViT", "ViT with a pool", "ResNet")
    for kind, count, prompts, outputs in rows:
        own = [each for each in found if (each.image if each.image in kinds else "of timm") == kind]
        assert {(each.image_prompts, each.image_outputs) for each in own} == {(prompts.split()[0], outputs)}
        assert len(own) == int(count)
    assert len(rows) == 4
