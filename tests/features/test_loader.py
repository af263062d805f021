"""Test that features in place of images change no number and are computed once."""

import shutil
from types import SimpleNamespace

import pytest
import torch

from dassl.config import ConfigError
from dassl.data import data_manager
from dassl.data.transforms import build_transform
from dassl.engine import build_trainer
from features.loader import store_for
from tests.models import state_dict, tiny_vit
from tests.suite import config


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "vit.pt"
    torch.save(state_dict(tiny_vit()), path)
    return path


@pytest.fixture()
def read(monkeypatch):
    """Paths of the images read in this process; each image passes through the image tower once."""
    paths = []
    original = data_manager.read_image
    monkeypatch.setattr(data_manager, "read_image", lambda path, *how: paths.append(path) or original(path, *how))
    return paths


@pytest.fixture()
def run(tmp_path, weights, read):
    """A function: run(name, *settings) -> (losses of all steps, test result, number of images read)."""

    def run(name, *settings, trainer="MTCoOp"):
        cache = ("DATALOADER.FEATURE_CACHE_DIR", str(tmp_path / "cache"))
        cfg = config(tmp_path, trainer, weights, 32, "OUTPUT_DIR", str(tmp_path / name), *cache, *settings)
        built = build_trainer(cfg)
        losses = []
        read.clear()
        step = built.forward_backward
        built.forward_backward = lambda batch: losses.append(step(batch)["loss"]) or {"loss": losses[-1]}
        built.train()
        return losses, built.evaluator.report["mean"], len(read)

    return run


def test_bank_and_live_give_the_same_losses(run):
    live = run("live", "DATALOADER.FEATURE_CACHE", False)
    bank = run("bank", "DATALOADER.FEATURE_BANK", True)
    assert len(live[0]) == 10
    assert bank[0] == pytest.approx(live[0], rel=1e-5)
    assert bank[1] == live[1]
    assert live[2] == 2 * 40 + 18 and bank[2] == 2 * 40 + 18


def test_no_two_kinds_of_features_share_a_store(run, tmp_path, weights):
    """Whatever decides a feature beside the image is part of the key, the precision as well."""
    built = build_trainer(config(tmp_path, "MTCoOp", weights, 32, "OUTPUT_DIR", str(tmp_path / "one")))

    def folder(local=False, device="cpu", **changes):
        model = SimpleNamespace(**{"weights_hash": "w", "precision": "fp32", **changes})
        return store_for(built.test_loader, built.cfg, model, torch.device(device), "local" if local else "").folder

    kinds = [folder(), folder(weights_hash="v"), folder(device="cuda"), folder(local=True)]
    kinds += [folder(precision=precision) for precision in ("fp16", "amp", "bf16")]
    built.cfg.defrost()
    for key, value in (("EXIF_ROTATE", True), ("INTERPOLATION", "nearest")):
        built.cfg.INPUT[key] = value
        built.test_loader.dataset.dataset.transform = build_transform(built.cfg, is_train=False)
        kinds.append(folder())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("features.loader.version", lambda package: f"another {package}")
        kinds.append(folder())
    assert len(set(kinds)) == len(kinds) == 10
    assert folder() == kinds[-2]  # the same kind again


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_change_nothing(run, workers):
    expected = run("expected", "DATALOADER.FEATURE_CACHE", False)[0]
    assert run("live", "DATALOADER.NUM_WORKERS", workers)[0] == expected


def test_the_next_method_computes_no_feature(run):
    run("first", "DATALOADER.FEATURE_BANK", True)
    second = run("second", "DATALOADER.FEATURE_BANK", True, trainer="MTCoOpHard")
    assert second[2] == 0
    zero = run("zero", trainer="ZeroshotCLIP")
    assert zero[2] == 0
    # longer training and another seed need other training views; the features of test images are reused
    longer = run("longer", "DATALOADER.FEATURE_BANK", True, "OPTIM.MAX_EPOCH", 3)
    assert longer[2] == 40
    other = run("other", "DATALOADER.FEATURE_BANK", True, "SEED", 2)
    assert other[2] == 2 * 40


def test_fewer_shots_use_the_bank_of_more(tmp_path, weights, read):
    """On the embedded suite, the images (and views) of k shots are among those of k + 1 shots."""

    def built(shots):
        cfg = config(tmp_path, "MTCoOp", weights, 32)
        cfg.merge_from_list(
            ["DATASET.NAME", "Icon13", "DATASET.SUBSAMPLE_TASKS", "task1", "DATASET.NUM_SHOTS", shots]
            + ["DATALOADER.FEATURE_BANK", True, "DATALOADER.FEATURE_CACHE_DIR", str(tmp_path / "cache")]
            + ["OUTPUT_DIR", str(tmp_path / f"run{shots}"), "TEST.NO_TEST", True]
        )
        trainer = build_trainer(cfg)
        read.clear()
        trainer.train()
        return len(read)

    assert built(2) == 2 * 2 * 26
    assert built(1) == 0


def test_without_augmentation_a_training_image_has_one_view(run):
    plain = ("INPUT.TRANSFORMS", ["center_crop", "normalize"])
    live = run("live", *plain, "DATALOADER.FEATURE_CACHE", False)
    bank = run("bank", *plain, "DATALOADER.FEATURE_BANK", True)
    assert bank[0] == pytest.approx(live[0], rel=1e-5) and bank[1] == live[1]
    assert live[2] == 2 * 40 + 18 and bank[2] == 40 + 18
    other = run("other", *plain, "DATALOADER.FEATURE_BANK", True, "SEED", 2, "OPTIM.MAX_EPOCH", 3)
    assert other[2] == 0 and other[0][:10] != bank[0]
    assert run("fitted", trainer="ProtoNet")[2] == 0  # it reads training images without augmentation too


@pytest.mark.parametrize("damage", ["deleted", "cut", "swapped"])
def test_tampering_with_the_cache_changes_no_result(run, damage, tmp_path):
    settings = ("DATALOADER.FEATURE_BANK", True)
    first = run("first", *settings)
    paths = sorted((tmp_path / "cache").glob("*/*.safetensors"))
    assert len(paths) == 2
    if damage == "deleted":
        shutil.rmtree(tmp_path / "cache")
    elif damage == "cut":
        for path in paths:
            path.write_bytes(path.read_bytes()[:-100])
    else:
        a, b = (path.read_bytes() for path in paths)
        paths[0].write_bytes(b)
        paths[1].write_bytes(a)
    second = run("second", *settings)
    assert second[:2] == first[:2] and second[2] == first[2] == 98


def test_changed_images_are_seen(run, tmp_path):
    first = run("first", "DATALOADER.FEATURE_BANK", True)
    for path in (tmp_path / "data").glob("marks/*/*.png"):
        path.write_bytes((tmp_path / "data" / "shades" / "red" / "train0.png").read_bytes())
    second = run("second", "DATALOADER.FEATURE_BANK", True)
    assert second[2] == 16 * 2 + 6 and second[0] != first[0]


def test_where_the_bank_cannot_serve(run, capsys):
    live = run("live", "DATALOADER.RETURN_IMG0", True, "DATALOADER.FEATURE_BANK", True)
    assert live[2] == 2 * 40 + 18
    assert "FEATURE_BANK is not used: DATALOADER.K_TRANSFORMS or RETURN_IMG0" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="K_TRANSFORMS 2: SoftCPT-NATA takes 1 view"):
        run("views", "DATALOADER.K_TRANSFORMS", 2)


def test_transforms_of_the_project_share_and_a_nameless_one_does_not(run, monkeypatch, capsys):
    """Features are not shared if the repr of a transform does not show its settings."""
    cutout = ("INPUT.TRANSFORMS", ["random_resized_crop", "normalize", "cutout"], "DATALOADER.FEATURE_BANK", True)
    first = run("first", *cutout)
    assert run("second", *cutout)[2] == 0
    other = run("other", *cutout, "INPUT.CUTOUT_LEN", 30)
    assert other[2] == 2 * 40 and other[0] != first[0]
    capsys.readouterr()
    monkeypatch.setattr("dassl.data.transforms.transforms.Cutout.__repr__", object.__repr__)
    live = run("live", *cutout, "DATALOADER.FEATURE_CACHE", False)
    assert live[0] == pytest.approx(first[0], rel=1e-5) and live[2] == 2 * 40 + 18
    assert "FEATURE_BANK is not used: the transform contains <dassl." in capsys.readouterr().out


def test_a_feature_does_not_depend_on_what_else_was_missing(run, tmp_path):
    """Features are equal bit for bit, although kernels round differently for other batch sizes."""
    from features.store import FeatureStore

    def stored():
        found = {}
        for folder in (tmp_path / "cache").iterdir():
            store = FeatureStore({}, tmp_path)
            store.kind, store.folder = folder.name, folder
            store.refresh()
            found.update({name: store.rows([name]).tobytes() for name in store._where})
        return found

    run("some", "DATALOADER.FEATURE_BANK", True, "DATASET.SUBSAMPLE_TASKS", "task1")
    run("rest", "DATALOADER.FEATURE_BANK", True)
    in_parts = stored()
    shutil.rmtree(tmp_path / "cache")
    run("all", "DATALOADER.FEATURE_BANK", True)
    assert len(in_parts) == 98 and stored() == in_parts
