"""Compare VPT with plain loops over the image tower; test its error messages."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import train
from clip.image_tower import ImageTower
from clip.text_tower import TextTower
from dassl.config import ConfigError, get_cfg_default, load
from dassl.engine import build_trainer
from tests.models import relative, state_dict, tiny_rn, tiny_vit, uneven_vit
from tests.plain import image_features
from tests.suite import config
from trainers.vpt import VisualContext

REPO = Path(__file__).resolve().parents[2]
METHODS = ("VPT", "UPT", "MTUPT")
FILES = sorted(path for name in METHODS for path in (REPO / "configs/trainers" / name).iterdir())
IMAGES = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(3))
TASK = torch.tensor([2, 0, 0, 1, 2, 0])
LABEL = torch.tensor([3, 4, 0, 0, 1, 2])
BATCH = {"img": IMAGES, "label": LABEL, "task": TASK}
TSC = ("TRAINER.VPT.TSC", True)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    for name, model in (("vit", tiny_vit()), ("rn", tiny_rn())):
        torch.save(state_dict(model), folder / f"{name}.pt")
    return folder


@pytest.fixture
def build(tmp_path, weights):
    def made(folder, *settings, trainer="VPT", on="vit"):
        return build_trainer(config(tmp_path / folder, trainer, weights / f"{on}.pt", 32, *settings))

    return made


def own_tokens(trainer):
    """Prompts (B, I, K, W) of the images in the batch."""
    return torch.stack([trainer.model.sets[t if len(trainer.model.sets) > 1 else 0].ctx for t in TASK.tolist()])


@pytest.mark.parametrize("settings", [(), ("TRAINER.VPT.DEEP", False), TSC], ids=["deep", "shallow", "TSC"])
def test_a_batch_of_several_tasks_is_one_pass_under_each_tasks_prompts(build, settings):
    trainer = build("a", *settings)
    assert trainer.model.sets[0].ctx.shape == (1 if "TRAINER.VPT.DEEP" in settings else 3, 4, 64)
    features = F.normalize(image_features(trainer.clip, IMAGES, own_tokens(trainer)), dim=-1)
    text = [f"a photo of a {name.replace('_', ' ')}." for name in trainer.space.classnames]
    text = F.normalize(TextTower(trainer.clip).encode(text), dim=-1)
    logits = (trainer.scale * features @ text.t()).masked_fill(~trainer.space.mask(TASK), float("-inf"))
    expected = F.cross_entropy(logits, trainer.space.column(TASK, LABEL))
    gradients = torch.autograd.grad(expected, list(trainer.model.parameters()))

    passes = []
    tower = trainer.image_tower
    trainer.image_tower = lambda images, *more, **how: passes.append(len(images)) or tower(images, *more, **how)
    assert trainer.forward_backward(BATCH)["loss"] == pytest.approx(expected.item(), rel=1e-5)
    assert passes == [6]
    for parameter, gradient in zip(trainer.model.parameters(), gradients, strict=True):
        assert relative(parameter.grad, gradient) < 1e-4


def test_a_test_takes_the_prompts_of_an_images_task(build):
    trainer = build("a", *TSC)
    known = trainer.model_inference(IMAGES, TASK)
    mask = trainer.space.mask(TASK)
    assert torch.isfinite(known[mask]).all() and (known[~mask] == float("-inf")).all()
    features = image_features(trainer.clip, IMAGES, own_tokens(trainer)).detach()
    assert relative(trainer.encode_images(IMAGES, TASK), features) < 1e-5
    unknown = trainer.model_inference(IMAGES)  # all classes, each with the prompts of its task
    assert torch.isfinite(unknown).all() and torch.allclose(unknown[mask], known[mask], atol=1e-4)
    with pytest.raises(ValueError, match="give the task of each image"):
        trainer.encode_images(IMAGES)
    shared = build("b")
    assert torch.allclose(shared.model_inference(IMAGES), shared.model_inference(IMAGES, TASK), atol=1e-4)


def test_what_is_cached_for_a_test_is_forgotten_by_a_step(build):
    trainer = build("a")
    before = trainer.model_inference(IMAGES)
    assert trainer.additions().image.tokens.values is trainer.additions().image.tokens.values
    trainer.forward_backward(BATCH)
    after = trainer.model_inference(IMAGES)
    assert not torch.allclose(before, after)
    assert torch.equal(trainer.additions().image.tokens.values[0], trainer.model.sets[0].ctx)


def test_settings_of_memory_and_dropout(build):
    kept, again, dropping = (
        build("a"),
        build("b", "MODEL.IMAGE_CHECKPOINT", True),
        build("c", "TRAINER.VPT.DROPOUT", 0.5),
    )
    losses = [trainer.forward_backward(BATCH)["loss"] for trainer in (kept, again, dropping)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6) and abs(losses[0] - losses[2]) > 1e-4
    assert relative(again.model.sets[0].ctx.grad, kept.model.sets[0].ctx.grad) < 1e-5
    assert torch.equal(dropping.model_inference(IMAGES), dropping.model_inference(IMAGES))


def test_the_template_and_the_first_values(build):
    trainer = build("a", "TRAINER.VPT.TEMPLATE", "a drawing of {}.", "TRAINER.VPT.N_CTX", 50)
    names = [name.replace("_", " ") for name in trainer.space.classnames]
    expected = F.normalize(TextTower(trainer.clip).encode([f"a drawing of {name}." for name in names]), dim=-1)
    assert relative(trainer.text_features(), expected) < 1e-5
    bound = (6 / (3 * 8 * 8 + 64)) ** 0.5
    values = trainer.model.sets[0].ctx
    assert 0.99 * bound < values.abs().max() <= bound and values.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)
    layers, width, patch = ImageTower(uneven_vit()).require_prompts()
    assert (layers, width, patch) == (4, 128, 8) and VisualContext(layers, 2, width, patch)()[0].shape == (4, 2, 128)


def test_a_model_of_all_tasks_serves_one_of_them(build, tmp_path):
    trainer = build("a", *TSC, "OPTIM.MAX_EPOCH", 1, "TEST.NO_TEST", True)
    trainer.train()
    one = build("b", *TSC, "DATASET.SUBSAMPLE_TASKS", "marks")
    one.load_model(str(tmp_path / "a" / "run"))
    assert len(one.model.sets) == 1 and torch.equal(one.model.sets[0].ctx, trainer.model.sets[2].ctx)
    shared = build("c", "DATASET.SUBSAMPLE_TASKS", "marks")
    with pytest.raises(ValueError):
        shared.load_model(str(tmp_path / "a" / "run"))


@pytest.mark.parametrize("name", METHODS)
def test_a_resnet_is_refused_in_one_line_before_data_is_read(name, build, tmp_path, capsys):
    size = ("INPUT.SIZE", (64, 64))
    with pytest.raises(ConfigError, match="need a ViT of open_clip, found a ResNet; choose ViT-B/16"):
        build("a", *size, trainer=name, on="rn")
    assert not (tmp_path / "a" / "data").exists()
    command = f"--trainer {name} --root {tmp_path}/nothing --output-dir {tmp_path}/run DATASET.NAME OxfordPets"
    assert train.main([*command.split(), "MODEL.BACKBONE.NAME", "RN50"]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
    assert "MODEL.BACKBONE.NAME RN50: additions to the image tower need a ViT" in line


def test_other_mistakes(build):
    with pytest.raises(ConfigError, match="FEATURE_BANK True: VPT-(deep|shallow) needs the images themselves"):
        build("a", "DATALOADER.FEATURE_BANK", True)
    with pytest.raises(ConfigError, match="TEMPLATE 'a photo.': expected one {} for the class name"):
        build("b", "TRAINER.VPT.TEMPLATE", "a photo.")
    with pytest.raises(ConfigError, match="N_CTX"):
        build("c", "TRAINER.VPT.N_CTX", 0)


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_configurations_are_valid(path):
    cfg, name, tiny = get_cfg_default(), path.parent.name, path.stem.startswith("tiny")
    load(cfg, [path], ["TRAINER.NAME", name])
    found = (cfg.OPTIM.MAX_EPOCH, cfg.MODEL.BACKBONE.NAME, cfg.TRAINER[name].N_CTX, cfg.DATALOADER.FEATURE_BANK)
    epochs = int(path.stem.partition("ep")[2] or 200)
    assert found == (epochs, "tiny" if tiny else "ViT-B/16", 4 if name == "VPT" else 8, False)
    command = path.read_text().split("#   sh scripts/")[1].splitlines()[0].split()
    assert command[2] == path.stem and (REPO / "scripts" / command[0]).is_file()
