"""predict.py classifies images with a finished run, without the data of the run."""

import csv
import io
import json
import shutil

import pytest
import torch

import dassl.runs.open
import predict
import trainers  # noqa: F401
from dassl.data.images import read_image
from dassl.data.transforms import build_transform
from dassl.engine import TRAINER_REGISTRY, build_trainer
from tests.models import state_dict, tiny_vit
from tests.suite import TASKS, config

NAMES = [
    name
    for name in TRAINER_REGISTRY.registered_names()
    if TRAINER_REGISTRY.get(name).__module__.startswith("trainers.")
]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    file = tmp_path_factory.mktemp("weights") / "vit.pt"
    torch.save(state_dict(tiny_vit()), file)
    return file


def train(folder, trainer, weights, *opts):
    built = build_trainer(config(folder, trainer, weights, 32, "OPTIM.MAX_EPOCH", 1, *opts))
    built.train()
    return built


@pytest.fixture(scope="module")
def finished(weights, tmp_path_factory):
    """(folder of a trained run, folder of new images)."""
    folder = tmp_path_factory.mktemp("finished")
    train(folder, "MTCoOp", weights)
    (folder / "new" / "more").mkdir(parents=True)
    for name, source in (("b.png", "shades/red/test0.png"), ("a.png", "marks/ring/test1.png")):
        shutil.copy(folder / "data" / source, folder / "new" / name)
    shutil.move(folder / "new" / "b.png", folder / "new" / "more" / "b.png")
    shutil.rmtree(folder / "data")
    return folder / "run", folder / "new"


def called(capsys, *arguments):
    capsys.readouterr()
    status = predict.main([str(argument) for argument in arguments])
    output = capsys.readouterr()
    return status, output.out, output.err


def test_csv_has_a_header_and_numbers(finished, capsys):
    run, images = finished
    status, out, _ = called(capsys, "--csv", run, "--topk", 2, "--task", "marks", images / "a.png")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert status == 0 and list(rows[0]) == ["image", "task", "rank", "class", "probability"]
    assert [row["rank"] for row in rows] == ["1", "2"] and {row["image"] for row in rows} == {str(images / "a.png")}
    (entry,) = json.loads(called(capsys, "--json", run, "--topk", 2, "--task", "marks", images / "a.png")[1])
    assert [float(row["probability"]) for row in rows] == [c["probability"] for c in entry["tasks"][0]["classes"]]


@pytest.mark.parametrize("name", NAMES)
def test_the_probabilities_are_those_of_the_trained_model(name, weights, tmp_path, capsys):
    built = train(tmp_path, name, weights)
    paths = [tmp_path / "data" / path for path in ("shades/red/test0.png", "marks/dot/test0.png")]
    transform = build_transform(built.cfg, is_train=False)
    built.set_model_mode("eval")
    with torch.no_grad():
        logits = built.model_inference(torch.stack([transform(read_image(path)) for path in paths]))
    images = [path.rename(tmp_path / path.parent.name) for path in paths]
    shutil.rmtree(tmp_path / "data")
    status, out, _ = called(capsys, tmp_path / "run", *images, "--json", "--topk", 9)
    assert status == 0
    found = json.loads(out)
    assert [row["image"] for row in found] == [str(image) for image in images]
    for row, own in zip(found, logits, strict=True):
        assert [(task["key"], task["name"]) for task in row["tasks"]] == [(task.key, task.name) for task in TASKS]
        for position, task in enumerate(row["tasks"]):
            columns = own[built.space.columns(position)].double()
            weight = (columns - columns.max()).exp()
            expected = dict(zip(TASKS[position].classnames, (weight / weight.sum()).tolist(), strict=True))
            assert {c["class"]: c["probability"] for c in task["classes"]} == pytest.approx(expected, abs=1e-5)
            shown = [c["probability"] for c in task["classes"]]
            assert shown == sorted(shown, reverse=True) and sum(shown) == pytest.approx(1)


def test_lines_for_people(finished, capsys):
    run, new = finished
    status, out, err = called(capsys, run, new, "--topk", 2)
    lines = [line.split("\t") for line in out.splitlines()]
    assert (status, err) == (0, "")  # no messages of loading a model
    assert [line[:2] for line in lines] == [
        [str(new / image), task.key] for image in ("a.png", "more/b.png") for task in TASKS
    ]
    assert [line[2].count(" %") for line in lines] == [2, 1, 2] * 2 and lines[1][2] == "only 100.0 %"


@pytest.mark.parametrize("wanted", ["marks", "Marks on Paper", "task2", "2"])
def test_one_task(finished, wanted, capsys):
    run, new = finished
    status, out, _ = called(capsys, run, new / "a.png", "--task", wanted)
    assert status == 0 and [line.split("\t")[1] for line in out.splitlines()] == ["marks"]


def test_batches(finished, capsys, monkeypatch):
    run, new = finished
    arguments = (run, *[new / "a.png", new / "more/b.png"] * 3, "--json")
    whole = json.loads(called(capsys, *arguments)[1])
    original = dassl.runs.open.read_setup

    def small(folder):
        cfg, space = original(folder)
        cfg.DATALOADER.TEST.BATCH_SIZE = 2
        return cfg, space

    monkeypatch.setattr(dassl.runs.open, "read_setup", small)
    for a, b in zip(whole, json.loads(called(capsys, *arguments)[1]), strict=True):
        assert a["image"] == b["image"]
        for one, other in zip(a["tasks"], b["tasks"], strict=True):
            assert one["classes"][0]["probability"] == pytest.approx(other["classes"][0]["probability"], abs=1e-5)


def test_a_broken_image_is_reported_and_the_others_are_classified(finished, tmp_path, capsys):
    run, new = finished
    (tmp_path / "bad.jpg").write_text("<html>")
    status, out, err = called(capsys, run, tmp_path / "bad.jpg", new / "a.png", "--task", "one")
    assert status == 2 and out.startswith(str(new / "a.png")) and len(out.splitlines()) == 1
    assert f"error: image cannot be read: {tmp_path / 'bad.jpg'} (it holds a web page" in err
    status, out, _ = called(capsys, run, tmp_path / "bad.jpg", "--json")
    assert status == 2 and "cannot be read" in json.loads(out)[0]["error"]


@pytest.mark.parametrize(
    "arguments, expected",
    [
        (("{run}", "gone.jpg"), "error: no such image: gone.jpg"),
        (("{run}", "{empty}"), "(a folder without an image)"),
        (("{run}", "{image}", "--task", "mark"), "has no such task; did you mean marks? it has: shades (shades of"),
        (("{run}", "{image}", "--topk", "0"), "--topk 0: expected at least 1"),
        (
            ("{empty}", "{image}"),
            "is not the folder of a run: config.yaml is missing; expected",
        ),
        (("{above}", "{image}"), "config.yaml is missing; it contains the runs run"),
    ],
)
def test_mistakes(finished, tmp_path, arguments, expected, capsys):
    run, new = finished
    places = {"run": run, "image": new / "a.png", "empty": tmp_path, "above": run.parent}
    status, out, err = called(capsys, *(argument.format(**places) for argument in arguments))
    assert status == 2 and not out and expected in err
    assert "Loading CLIP" not in err


def test_runs_without_a_model(finished, tmp_path, capsys):
    run, new = finished
    copy = shutil.copytree(run, tmp_path / "run")
    shutil.rmtree(copy / "prompt_learner")
    status, _, err = called(capsys, copy, new / "a.png")
    assert status == 2 and "contains no checkpoint" in err
    record = json.loads((copy / "results.json").read_text())
    (copy / "results.json").write_text(json.dumps({**record, "command": ["train.py", "--eval-only"]}))
    status, _, err = called(capsys, copy, new / "a.png")
    assert status == 2 and "only tested a model; give the folder of the run that was trained" in err


def test_a_run_without_tasks_json_reads_its_data(weights, tmp_path, capsys):
    train(tmp_path, "MTCoOpHard", weights, "DATASET.SUBSAMPLE_CLASSES", "base")
    image = tmp_path / "data/shades/red/test0.png"
    _, expected, _ = called(capsys, tmp_path / "run", image)
    (tmp_path / "run/tasks.json").unlink()
    status, out, _ = called(capsys, tmp_path / "run", image)
    assert status == 0 and out == expected and "white" not in out


def test_a_model_of_nan_is_an_error(finished, tmp_path, capsys):
    run = shutil.copytree(finished[0], tmp_path / "run")
    (path,) = run.glob("prompt_learner/model.pth.tar-*")
    checkpoint = torch.load(path, weights_only=True)
    name = next(key for key, value in checkpoint["state_dict"].items() if isinstance(value, torch.Tensor))
    checkpoint["state_dict"][name].fill_(float("nan"))
    torch.save(checkpoint, path)
    status, out, err = called(capsys, run, finished[1])
    assert (status, out) == (2, "") and f"{name} is infinite or NaN" in err


def test_logits_of_nan_are_no_probabilities(finished, capsys, monkeypatch):
    def infinite(trainer, images, *_):
        return torch.full((len(images), trainer.dm.space.num_classes), float("nan"))

    monkeypatch.setattr(TRAINER_REGISTRY.get("MTCoOp"), "model_inference", infinite)
    status, out, err = called(capsys, finished[0], finished[1])
    assert (status, out) == (2, "") and err.count("infinite or NaN values") == 2
    status, out, _ = called(capsys, finished[0], finished[1], "--json")
    assert status == 2 and all("error" in row for row in json.loads(out, parse_constant=pytest.fail))


def test_a_run_that_is_not_finished_is_used_with_a_warning(finished, tmp_path, capsys):
    run = shutil.copytree(finished[0], tmp_path / "run")
    record = json.loads((run / "results.json").read_text())
    for status, more in (("interrupted", {}), ("failed", {"error": "UserError: the loss is NaN"})):
        (run / "results.json").write_text(json.dumps({**record, "status": status, **more}))
        code, out, err = called(capsys, run, finished[1])
        assert code == 0 and len(out.splitlines()) == 6 and len(err.splitlines()) == 1
        assert f"its status is {status}" in err and more.get("error", "") in err
    (run / "config.yaml").unlink()
    assert "the run is failed (UserError: the loss is NaN)" in called(capsys, run, finished[1])[2]
