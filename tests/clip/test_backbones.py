import hashlib
import pickle
import warnings

import pytest
import torch
from safetensors.torch import save_file

from clip import clip
from clip.additions import Additions
from clip.backbones import effective_precision, load_backbone
from clip.image_tower import ImageTower
from clip.model import CLIP_MEAN
from clip.names import input_size
from clip.weights import read_state_dict
from dassl.utils import UserError
from tests.models import embedded, relative, state_dict, tiny_rn, tiny_vit


@pytest.mark.parametrize("model", [tiny_vit, tiny_rn])
def test_openais_attributes(model):
    model = model()
    images = torch.randn(2, 3, model.visual.input_resolution, model.visual.input_resolution)
    assert model.dtype == torch.float32
    assert model.visual(images).shape == (2, model.visual.output_dim) == (2, 48)
    assert torch.equal(model.encode_image(images), model.visual(images))
    ids = clip.tokenize(["a cat", "two dogs"])
    x = model.token_embedding(ids) + model.positional_embedding  # as CoOp's TextEncoder does
    x = model.transformer(x.permute(1, 0, 2)).permute(1, 0, 2)
    features = model.ln_final(x)[torch.arange(2), ids.argmax(-1)] @ model.text_projection
    assert relative(features, model.encode_text(ids)) < 1e-6
    per_image, per_text = model(images, ids)
    assert per_image.shape == (2, 2) and torch.equal(per_image.t(), per_text)


def test_models_stay_frozen_and_in_eval_mode():
    model = tiny_rn()
    before = state_dict(model)
    model.train()
    model(torch.randn(4, 3, 64, 64), clip.tokenize(["a"]))
    assert not any(module.training for module in model.modules())
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_load_gives_model_and_transform():
    from PIL import Image

    model, preprocess = clip.load("tiny", "cpu")
    image = preprocess(Image.new("L", (90, 70), 255))
    assert image.shape == (3, 64, 64) and torch.allclose(image, torch.ones(3, 64, 64))
    assert model.vocab_size == 49408 and model.name == "tiny" and len(model.weights_hash) == 64
    assert "tiny" in clip.available_models() and "ViT-L/14@336px" in clip.available_models()
    urls = {name: url for name, url in clip._MODELS.items() if name != "tiny"}
    assert len(urls) == 9 and all(len(url.split("/")[-2]) == 64 for url in urls.values())


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_the_embedded_model_loads_like_coop_loads_openais(tmp_path):
    path = clip._download(clip._MODELS["tiny"], str(tmp_path))
    try:
        state = torch.jit.load(path, map_location="cpu").state_dict()
    except RuntimeError:
        state = torch.load(path, map_location="cpu")
    model = clip.build_model(state)
    ids = clip.tokenize(["a photo of a cat."])
    assert torch.equal(model.encode_text(ids), embedded().encode_text(ids))
    assert clip._download("tiny", str(tmp_path)) == path


def as_openai_archive(model, path):
    """Save `model` at `path` as a TorchScript archive with OpenAI's names and fp16 weights."""

    class Holder(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    root = Holder()
    for name, value in state_dict(model).items():
        *parts, last = name.split(".")
        node = root
        for part in parts:
            if not hasattr(node, part):
                node.add_module(part, Holder())
            node = getattr(node, part)
        node.register_buffer(last, value.half() if value.is_floating_point() else value)
    for name, number in (("input_resolution", 32), ("context_length", 77), ("vocab_size", 49408)):
        root.register_buffer(name, torch.tensor(number))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(root).save(str(path))


@pytest.mark.parametrize("form", ["torchscript", "state_dict", "checkpoint", "safetensors"])
@pytest.mark.parametrize("model", [tiny_vit, tiny_rn])
def test_local_files_in_every_format(form, model, tmp_path):
    model = model()
    weights, path = state_dict(model), tmp_path / "weights.pt"
    if form == "torchscript":
        as_openai_archive(model, path)
    elif form == "state_dict":
        torch.save(weights, path)
    elif form == "checkpoint":
        torch.save({"epoch": 3, "state_dict": {f"module.{k}": v for k, v in weights.items()}}, path)
    else:
        path = tmp_path / "weights.safetensors"
        save_file(weights, str(path))
    size = model.visual.input_resolution
    images, ids = torch.randn(3, 3, size, size), clip.tokenize(["a cat"])
    loaded = load_backbone("ViT-B/16", weights=str(path))
    limit = 2e-2 if form == "torchscript" else 1e-6  # the archive holds fp16
    assert relative(loaded.encode_image(images), model.encode_image(images)) < limit
    assert relative(loaded.encode_text(ids), model.encode_text(ids)) < limit
    assert loaded.weights_hash == hashlib.sha256(path.read_bytes()).hexdigest()


class Bomb:
    def __reduce__(self):
        return exec, ("import pathlib; pathlib.Path('exploded').touch()",)


def test_pickles_are_never_executed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "model.pt"
    torch.save({"state_dict": Bomb()}, path)
    with pytest.raises(UserError, match="other pickled objects is never opened"):
        load_backbone("RN50", weights=str(path))
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(UserError):
        load_backbone("RN50", weights=str(path))
    assert not (tmp_path / "exploded").exists()


def test_unsuitable_files_are_explained(tmp_path):
    with pytest.raises(FileNotFoundError, match="MODEL.BACKBONE.WEIGHTS"):
        load_backbone("RN50", weights=str(tmp_path / "nothing.pt"))
    with open(tmp_path / "zeros.pt", "wb") as stream:
        stream.truncate(1 << 40)  # 1 TB on no disk space
    with pytest.raises(UserError, match="not a readable weight file"):
        load_backbone("RN50", weights=str(tmp_path / "zeros.pt"))
    with pytest.raises(FileNotFoundError, match=f"no file at {tmp_path}; it is a folder$"):
        load_backbone("RN50", weights=str(tmp_path))
    path = tmp_path / "other.pt"
    torch.save({"fc.weight": torch.zeros(2, 2)}, path)
    with pytest.raises(UserError, match="text_projection.*missing"):
        load_backbone("RN50", weights=str(path))
    torch.save([1, 2], path)
    with pytest.raises(UserError, match="holds a list"):
        read_state_dict(path)
    path.write_text("<html>404</html>")
    with pytest.raises(UserError, match="not a readable weight file") as refused:
        read_state_dict(path)
    assert "weights_only" not in str(refused.value)  # torch's own message recommends loading without it
    weights = state_dict(tiny_vit())
    del weights["visual.ln_post.bias"]
    torch.save(weights, path)
    with pytest.raises(UserError, match="1 tensor missing .visual.ln_post.bias.[.]$"):
        load_backbone("RN50", weights=str(path))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"logit_scale": torch.tensor(float("nan"))}, "NaN or infinite values .logit_scale"),
        (dict.fromkeys(("text_projection", "visual.proj"), torch.zeros(64, 48)), "2 tensors with zeros only"),
        ({"text_projection": torch.ones(64, 48, dtype=torch.int8)}, "1 tensor of type torch.int8 .text_projection"),
        ({"text_projection": torch.ones(64, 48).to_sparse()}, "text_projection is sparse"),
        ({"text_projection": torch.ones(1).expand(10**7, 10**7)}, "but the file holds fewer values"),
        ({"positional_embedding": torch.tensor(1.0)}, "shapes do not describe a network"),
        ({"positional_embedding": torch.ones(77, 1)}, "shapes do not describe a network"),
        ({"text_projection": torch.ones(5)}, "shapes do not describe a network"),
        ({"token_remap": torch.tensor([10**9])}, "shapes do not describe a network"),
        ({"visual.proj": None}, "shapes do not describe a network"),
        ({"visual.class_embedding": torch.ones(5)}, "do not fit the architecture: .*size mismatch"),
    ],
)
def test_weights_that_no_clip_has(changes, message, tmp_path):
    weights = {**state_dict(tiny_vit()), **changes}
    torch.save({name: value for name, value in weights.items() if value is not None}, tmp_path / "weights.pt")
    with pytest.raises(UserError, match=message) as refused:
        load_backbone("ViT-B/32", weights=str(tmp_path / "weights.pt"))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("ViT-B16", "Did you mean ViT-B/16"),
        ("resnet", "Available: RN50"),
        ("ViT-B-16:nothing", "its tags|Its tags"),
        ("ViT-Q-16:openai", "no architecture 'ViT-Q-16'"),
    ],
)
def test_unknown_names(name, hint):
    with pytest.raises(UserError, match=hint):
        load_backbone(name)


def test_input_size_is_known_before_weights_are_read():
    sizes = {name: input_size(name) for name in ("RN50", "RN50x4", "ViT-L/14@336px", "tiny", "ViT-B-16:openai", "x.pt")}
    assert sizes == {
        "RN50": 224,
        "RN50x4": 288,
        "ViT-L/14@336px": 336,
        "tiny": 64,
        "ViT-B-16:openai": 224,
        "x.pt": None,
    }


def test_open_clip_pairs(tmp_path, monkeypatch):
    """A pair's architecture (with GELU, not QuickGELU) with weights from a file and from the hub, compared with
    open_clip's own class.
    """
    import open_clip

    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reference = open_clip.create_model("ViT-S-32-alt", pretrained=None).eval()
    path = tmp_path / "weights.pt"
    torch.save(reference.state_dict(), path)
    images, ids = torch.randn(1, 3, 224, 224), clip.tokenize(["a cat"])
    entry = {"hf_hub": "someone/model/", "mean": (0.1, 0.2, 0.3), "std": [0.5] * 3}
    monkeypatch.setattr(open_clip, "list_pretrained_tags_by_model", lambda _: ["mine"])
    monkeypatch.setattr(open_clip, "get_pretrained_cfg", lambda model, tag: entry if tag == "mine" else {})
    monkeypatch.setattr("open_clip.pretrained.hf_hub_download", lambda **_: str(path))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    for name, weights, mean in (
        ("ViT-S-32-alt", str(path), CLIP_MEAN),
        ("ViT-S-32-alt:mine", str(path), entry["mean"]),
        ("ViT-S-32-alt:mine", "", entry["mean"]),
    ):
        model = load_backbone(name, weights=weights)
        assert model.image_mean == mean and model.name == name
        with torch.no_grad():
            assert relative(model.encode_image(images), reference.encode_image(images)) < 1e-5
            assert relative(model.encode_text(ids), reference.encode_text(ids.long())) < 1e-5


def test_precision_falls_back_on_a_cpu():
    assert effective_precision("fp32", "cpu") == ("fp32", "")
    assert effective_precision("bf16", "cpu") == ("bf16", "")
    for asked in ("fp16", "amp"):
        precision, line = effective_precision(asked, "cpu")
        assert precision == "fp32" and asked in line and "\n" not in line
    assert effective_precision("fp16", "cuda") == ("fp16", "")
    with pytest.raises(UserError, match="fp64"):
        effective_precision("fp64", "cpu")


def test_images_of_another_size_are_refused():
    with pytest.raises(UserError, match=r"INPUT.SIZE is \(48, 48\).*64 x 64"):
        ImageTower(embedded())(torch.zeros(1, 3, 48, 48))


@pytest.mark.parametrize(("model", "patches"), [(tiny_vit, 16), (tiny_rn, 4)])
def test_local_tokens(model, patches):
    tower = ImageTower(model())
    images = torch.randn(2, 3, tower.size, tower.size)
    feature, tokens = tower(images, Additions(local=True))
    assert tokens.shape == (2, patches, 48)
    assert relative(feature, tower(images)) < 1e-5


def test_the_embedded_model_recognises_an_orange():
    """The shipped weights classify an orange disc as an orange, not as furniture or a vehicle."""
    from clip.text_tower import TextTower

    model = embedded()
    yy, xx = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    disc = (((yy - 36) ** 2 + (xx - 32) ** 2) < 22**2).float()
    orange = torch.stack([torch.ones(64, 64), 1 - 0.4 * disc, 1 - disc])
    image = ImageTower(model)(((orange - 0.5) / 0.5)[None])
    text = TextTower(model).encode([f"a photo of a {name}." for name in ("orange", "chair", "bicycle", "house")])
    assert torch.nn.functional.cosine_similarity(image, text).argmax() == 0
