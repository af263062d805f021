"""export.py: what it writes computes what the run computes, with open_clip alone. What has no such form is refused."""

import json
import runpy
import shutil
import sys
from copy import copy
from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import export
from dassl.engine import build_trainer
from softcpt import Classifier, load
from softcpt.export.files import backbone_of, preprocess_cfg, script
from softcpt.export.fold import refusal
from softcpt.export.parts import Matrix, take_apart
from tests.models import embedded, state_dict, tiny_rn
from tests.suite import config

KINDS = {  # method -> arguments, form of the classifier, what is added to the image tower
    "MTCoOp": ((), "matrix", ()),
    "VPT": ((), "matrix", ("prompts",)),
    "MaPLe": ((), "matrix", ("prompts",)),
    "TipAdapter": ((), "program", ()),
    "CLIPLoRA": (("--fold",), "matrix", ("tower",)),
    "GDA": ((), "matrix", ()),
}


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    """A function (method, *arguments of export.py) -> (folder of the run and its data, folder of the export)."""
    made = {}

    def run(method, *arguments, settings=()):
        if (key := (method, arguments, settings)) not in made:
            folder, target = trained(method, *settings), tmp_path_factory.mktemp("exports") / method
            assert export.main([str(folder / "run"), "-o", str(target), *arguments]) == 0
            made[key] = folder, target
        return made[key]

    return run


def images_of(folder):
    return [folder / "data" / path for path in ("shades/red/test0.png", "marks/dot/test0.png", "marks/ring/test1.png")]


def used(target, paths, capsys, monkeypatch):
    """{(path, task): (class, probability)} as use.py prints them."""
    monkeypatch.setattr(sys, "argv", ["use.py", *map(str, paths)])
    capsys.readouterr()
    runpy.run_path(str(target / "use.py"))
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    return {(path, task): (name, float(value)) for path, task, name, value in rows}


@cache
def opened(folder):
    return load(folder / "run", device="cpu")


def best_of(folder, paths, task=None):
    found = opened(folder).classify(paths, task, 1)
    return {(one.path, one.task): one.classes[0] for one in found}


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for key, (name, probability) in expected.items():
        assert found[key] == (name, pytest.approx(probability, abs=1e-4))


@pytest.mark.parametrize("method", KINDS)
def test_open_clip_alone_computes_the_same(method, exported, capsys, monkeypatch):
    arguments, form, added = KINDS[method]
    folder, target = exported(method, *arguments)
    paths, text = images_of(folder), (target / "use.py").read_text()
    assert_same(used(target, paths, capsys, monkeypatch), best_of(folder, paths))
    assert len(text.splitlines()) <= 15
    assert not {"softcpt", "dassl", "clip", "trainers"} & set(text.replace(".", " ").replace(",", " ").split())
    config = json.loads((target / "config.json").read_text())
    assert (config["classifier"]["file"] == "classifier.safetensors") == (form == "matrix")
    assert bool(config["image_prompts"]) == ("prompts" in added)
    classnames = opened(folder).classnames
    assert {task["key"]: tuple(task["classnames"]) for task in config["tasks"]} == classnames
    assert (target / "classifier-marks.pt").exists() == (method == "MTCoOp")


def test_files_can_be_read_by_others_and_use_py_asks_for_images(exported, capsys, monkeypatch):
    target = exported("MTCoOp")[1]
    assert len({path.stat().st_mode for path in target.iterdir()}) == 1
    with pytest.raises(SystemExit, match="usage: python use.py IMAGE"):
        used(target, [], capsys, monkeypatch)


def test_matrices(exported):
    """A (d, C) matrix of unit columns per task, and CLIP_benchmark's form: torch.load, then 100 f W."""
    folder, target = exported("MTCoOp")
    tensors, model = load_file(target / "classifier.safetensors"), opened(folder)
    assert set(tensors) == {"scale", "shades.weight", "one.weight", "marks.weight"}
    x = torch.stack([model.preprocess(image) for image in map(Image.open, images_of(folder))])
    with torch.no_grad():
        features = torch.nn.functional.normalize(model.trainer.clip.encode_image(x), dim=-1)
    for key, names in model.classnames.items():
        weight = tensors[f"{key}.weight"]
        assert weight.shape == (48, len(names)) and torch.allclose(weight.norm(dim=0), torch.ones(len(names)))
        assert torch.allclose(tensors["scale"] * features @ weight, model.logits(x, key), atol=1e-3)
        alone = torch.load(target / f"classifier-{key}.pt", weights_only=True)
        assert torch.equal(alone, weight)
        assert torch.equal((100.0 * features @ alone).argmax(1), model.logits(x, key).argmax(1))


def test_features_by_task_get_a_folder_per_task(exported, capsys, monkeypatch):
    settings = ("TRAINER.CLIPADAPTER.TSC", True)
    folder, target = exported("CLIPAdapter", settings=settings)
    assert sorted(path.name for path in target.iterdir()) == ["marks", "one", "shades"]
    paths = images_of(folder)
    for task in ("marks", "shades"):
        assert_same(used(target / task, paths, capsys, monkeypatch), best_of(folder, paths, task))


def test_the_projection_of_a_resnet_becomes_part_of_the_tower(tmp_path):
    torch.save(state_dict(tiny_rn()), tmp_path / "rn.pt")
    trainer = build_trainer(config(tmp_path, "ProLIP", tmp_path / "rn.pt", 64, "TRAINER.PROLIP.LR", 0.01))
    trainer.train()
    trainer.set_model_mode("eval")
    parts = take_apart(trainer)
    assert parts.changed and isinstance(parts.head, Matrix) and parts.head.unit
    x = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        frozen = trainer.clip.visual(x)
        assert torch.allclose(parts.logits(x), trainer.model_inference(x), atol=1e-3)
        assert (parts.visual(x) - frozen).abs().max() > 1e-3


def test_a_program_is_not_taken_for_a_matrix(trained):
    """Tip-Adapter with a small weight of the cache differs little from zero-shot CLIP."""
    model = load(trained("TipAdapter") / "run", device="cpu")
    assert not isinstance(take_apart(model.trainer).head, Matrix)
    model.trainer.model.chosen.alpha.fill_(0.0)
    assert isinstance(take_apart(model.trainer).head, Matrix)


@pytest.mark.parametrize("method, why", [
    ("CoCoOp", "its text features depend on the image"),
    ("PLOT", "compares texts with every local feature"),
    ("MMRL", "reads the outputs of its tokens in the image tower"),
])  # fmt: skip
def test_methods_without_such_a_form_are_refused(method, why, trained, tmp_path, capsys):
    assert export.main([str(trained(method) / "run"), "-o", str(tmp_path / "out")]) == 2
    err = capsys.readouterr().err
    assert why in err and "--onnx" in err and len(err.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_mistakes(trained, tmp_path, capsys, monkeypatch):
    run, full = str(trained("MTCoOp") / "run"), tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").touch()
    for arguments, text in (
        ((run, "-o", str(full)), "expected a new or an empty folder"),
        ((run, "-o", str(tmp_path / "out"), "--task", "mark"), "did you mean marks?"),
        ((str(tmp_path), "-o", str(tmp_path / "out")), "is not the folder of a run"),
        ((run, "-o", str(tmp_path / "out"), "--images", "gone.png"), "no such image: gone.png"),
    ):
        assert export.main(list(arguments)) == 2
        err = capsys.readouterr().err
        assert text in err and len(err.splitlines()) == 1
    monkeypatch.setattr("softcpt.export.graph.PACKAGES", ("onnx", "not_there_at_all"))
    assert export.main([run, "-o", str(tmp_path / "out"), "--onnx"]) == 2
    assert "--onnx needs" in (err := capsys.readouterr().err) and "requirements-export.txt" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full"]
    plain = Classifier(run)
    plain.cfg.INPUT.INTERPOLATION = "nearest"
    with pytest.raises(ValueError, match="open_clip has no words for this preprocessing"):
        preprocess_cfg(plain.cfg)


def test_without_the_data_of_the_run(trained, tmp_path, capsys):
    run = shutil.copytree(trained("MTCoOp") / "run", tmp_path / "run")
    text = (run / "config.yaml").read_text().replace("NAME: TestSuite", "NAME: Suite")  # a suite without any task
    (run / "config.yaml").write_text(text)
    assert export.main([str(run), "-o", str(tmp_path / "out")]) == 0
    assert "on 16 drawn images" in capsys.readouterr().out
    image = str(trained("MTCoOp") / "data/marks/dot/test0.png")
    assert export.main([str(run), "-o", str(tmp_path / "out2"), "--images", image]) == 0
    assert "on 1 image." in capsys.readouterr().out


def test_card(exported):
    folder, target = exported("MTCoOp")
    card, record = (target / "README.md").read_text(), json.loads((folder / "run/results.json").read_text())
    for task in record["tasks"]:
        assert (
            f"(`{task['key']}`) | {task['classes']} | {task['metric']} | {task['value']:.2f} % | {task['images']} |"
            in card
        )
    for part in ("## Training", "## Intended use", "## Licences", record["hashes"]["weights"], "probabilities differ"):
        assert part in card
    for path in target.iterdir():
        assert path.name == "README.md" or f"`{path.name}`" in card


@pytest.mark.parametrize("name, expected", [
    ("ViT-B/16", {"model_name": "ViT-B-16", "pretrained": "openai", "force_quick_gelu": True}),
    ("ViT-B-32:laion2b_e16", {"model_name": "ViT-B-32", "pretrained": "laion2b_e16", "force_quick_gelu": False}),
])  # fmt: skip
def test_named_backbones_come_from_open_clip(name, expected, exported, capsys, monkeypatch, tmp_path):
    folder, source = exported("MTCoOp")
    target = shutil.copytree(source, tmp_path / "copy")
    model, config = load(folder / "run"), json.loads((target / "config.json").read_text())
    model.cfg.MODEL.BACKBONE.NAME, model.cfg.MODEL.BACKBONE.WEIGHTS = name, ""
    config["backbone"], config["image_tower"] = backbone_of(model.cfg), None
    (target / "use.py").write_text(script(config))
    (target / "image_tower.safetensors").unlink()
    asked = []
    monkeypatch.setattr(open_clip, "create_model", lambda **how: asked.append(how) or model.trainer.clip)
    assert_same(used(target, images_of(folder), capsys, monkeypatch), best_of(folder, images_of(folder)))
    assert asked == [expected]


def test_the_embedded_model(tmp_path):
    cfg = config(tmp_path, "CoOp", "", 64, "MODEL.BACKBONE.NAME", "tiny")
    found = backbone_of(cfg)
    visual = open_clip.CLIP(**found["model_cfg"]).visual.eval()
    visual.load_state_dict(embedded().visual.state_dict())
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(visual(x), embedded().visual(x), atol=1e-5)


# ---- graphs and image classifiers ----


def test_onnx(exported, capsys):
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    folder, target = exported("VPT", "--int8")
    session = onnxruntime.InferenceSession(str(target / "model.onnx"))
    model = opened(folder)
    x = torch.stack([model.preprocess(Image.open(path)) for path in images_of(folder)])
    names = json.loads(session.get_modelmeta().custom_metadata_map["classnames"])
    assert names == {key: list(own) for key, own in model.classnames.items()}
    for count in (1, 2, 3):
        found = session.run(None, {"images": x[:count].numpy()})
        for key, own in zip(model.tasks, found, strict=True):
            expected = model.logits(x[:count], key).softmax(-1)
            assert torch.allclose(torch.from_numpy(own), expected, atol=1e-4)
    assert [output.name for output in session.get_outputs()] == [f"probabilities.{key}" for key in model.tasks]
    record = json.loads((folder / "run/results.json").read_text())
    measured = json.loads((target / "config.json").read_text())["int8"]
    assert {task["key"]: task["images"] for task in record["tasks"]} == {
        key: own["images"] for key, own in measured.items()
    }
    assert {task["key"]: pytest.approx(task["overall_acc"]) for task in record["tasks"]} == {
        key: own["fp32"] for key, own in measured.items()
    }
    assert (target / "model.int8.onnx").stat().st_size < (target / "model.onnx").stat().st_size
    assert "Accuracy with weights of 8 bits: shades" in (target / "README.md").read_text()


def test_folded_into_a_classifier_of_timm(exported):
    timm = pytest.importorskip("timm")
    folder, target = exported("CLIPLoRA", "--fold")
    model = opened(folder)
    x = torch.stack([model.preprocess(Image.open(path)) for path in images_of(folder)])
    for key, names in model.classnames.items():
        network = timm.create_model(f"local-dir:{target / f'timm-{key}'}", pretrained=True).eval()
        assert network.num_classes == len(names)
        assert network.pretrained_cfg["label_names"] == list(names) if "label_names" in network.pretrained_cfg else True
        with torch.no_grad():
            assert torch.equal(network(x).argmax(1), model.logits(x, key).argmax(1))


@pytest.mark.parametrize("method, why", [
    ("VPT", "adds prompts to the image tower"),
    ("TipAdapter", "is not a matrix on the feature"),
])  # fmt: skip
def test_folding_is_refused(method, why, trained, tmp_path, capsys):
    assert export.main([str(trained(method) / "run"), "-o", str(tmp_path / "out"), "--fold"]) == 2
    err = capsys.readouterr().err
    assert why in err and "without --fold" in err and len(err.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_folding_needs_a_plain_vit_and_no_bias(trained):
    model = opened(trained("MTCoOp"))
    parts = take_apart(model.trainer)
    assert refusal(model, parts) == ""
    biased = replace(parts, head=replace(parts.head, bias=torch.ones(10)))
    assert "has a bias beside normalised features" in refusal(model, biased)
    resnet = copy(model)
    resnet.trainer = SimpleNamespace(clip=tiny_rn())
    assert "not a plain ViT" in refusal(resnet, replace(parts, visual=tiny_rn().visual))
