"""Methods on a SigLIP-like model, from its published format to predictions of a finished run."""

import copy

import pytest
import torch
import torch.nn.functional as F

from clip.backbones import load_backbone
from clip.text_tower import TextTower
from dassl.config import ConfigError
from dassl.engine import build_trainer
from dassl.utils import UserError
from tests.models import relative
from tests.released import siglip, word_tokenizer
from tests.suite import config
from trainers.prompts import NameTokens


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """A function: names("vit" or "timm") -> name of a small SigLIP-like backbone."""
    folder, made = tmp_path_factory.mktemp("siglip"), {}

    def name(image):
        if image not in made:
            made[image] = siglip(folder / image, image)
        return made[image]

    return name


def build(tmp_path, trainer, name, size, *settings):
    return build_trainer(config(tmp_path, trainer, "", size, "MODEL.BACKBONE.NAME", name, *settings))


METHODS = {
    "MTCoOp": (),
    "CoOp": ("TRAINER.COOP.TSC", True, "TRAINER.COOP.CTX_INIT", "a photo of a", "TRAINER.COOP.N_CTX", 4),
    "KgCoOp": (),
    "ZeroshotCLIP": (),
    "CLIPAdapter": (),
    "TCP": (),
    "IVLP": (),
    "CLIPLoRA": (),
}


@pytest.mark.parametrize("method", METHODS)
def test_methods_learn_and_leave_the_towers_as_they_were(method, names, tmp_path):
    trainer = build(tmp_path, method, names("vit"), 32, "OPTIM.LR", 0.1, "OPTIM.MAX_EPOCH", 1, *METHODS[method])
    tower = trainer.clip
    before, start = copy.deepcopy(tower.state_dict()), copy.deepcopy(trainer.model.state_dict())
    trainer.train()
    assert not tower.training and all(torch.equal(value, before[key]) for key, value in tower.state_dict().items())
    learned = [name for name, value in trainer.model.named_parameters() if not torch.equal(value, start[name])]
    assert bool(learned) == (method != "ZeroshotCLIP")
    assert all(value.dtype == torch.float32 for value in trainer.model.parameters())
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        logits = trainer.model_inference(images)
        if method in ("MTCoOp", "CLIPLoRA"):
            again = build(tmp_path, method, names("vit"), 32, *METHODS[method])
            again.load_model(str(tmp_path / "run"))
            assert relative(again.model_inference(images), logits) < 1e-5
    assert logits.isfinite().all() and logits.shape == (2, 10)


def test_a_tower_of_timm_serves_frozen_features(names, tmp_path):
    trainer = build(tmp_path, "MTCoOp", names("timm"), 160)
    assert trainer.clip.squash and trainer.clip.image_mean == (0.5, 0.5, 0.5)
    trainer.train()
    for method, message in {
        "VPT": "additions to the image tower need a ViT of open_clip, found test_vit",
        "PLOT": r"its image tower \(test_vit\) gives no local tokens, which this method needs",
        "ProLIP": r"its image tower \(test_vit\) gives no features before a last projection",
    }.items():
        with pytest.raises(ConfigError, match=message):
            build(tmp_path / method, method, names("timm"), 160)


def test_the_scale_is_siglips_and_its_bias_changes_no_decision(names):
    model = load_backbone(names("vit"))
    images, ids = torch.randn(3, 3, 32, 32), torch.randint(0, 49406, (5, 32))
    per_image, _ = model(images, ids)
    own = model.encode_image(images), model.encode_text(ids)
    cosine = F.normalize(own[0], dim=-1) @ F.normalize(own[1], dim=-1).T
    assert model.logit_bias is not None
    assert torch.allclose(per_image, model.logit_scale.exp() * cosine + model.logit_bias, atol=1e-5)


def test_preprocessing_that_differs_is_reported(names, tmp_path, capsys):
    build(tmp_path, "MTCoOp", names("vit"), 32)
    printed = capsys.readouterr().out
    assert "INPUT.PIXEL_MEAN" in printed and 'INPUT.RESIZE_MODE is "shortest"' in printed
    right = ("INPUT.RESIZE_MODE", "squash", "INPUT.PIXEL_MEAN", [0.5] * 3, "INPUT.PIXEL_STD", [0.5] * 3)
    build(tmp_path / "right", "MTCoOp", names("vit"), 32, *right)
    assert "WARNING" not in capsys.readouterr().out


# ---- tokenizers of Hugging Face ----


def test_a_tokenizer_beside_the_weights(tmp_path):
    pytest.importorskip("transformers")
    import open_clip

    folder = tmp_path / "model"
    words = word_tokenizer(folder)
    name = siglip(folder, words=words, hf_tokenizer_name="someone/words", tokenizer_kwargs={"clean": "canonicalize"})
    model = load_backbone(name)
    tokens = model.tokenizer
    assert (tokens.start, tokens.end, tokens.pad) == ((), (1,), 1)
    assert tokens.encode("A Photo of a CAT.") == tokens.encode("a photo of a cat") and len(tokens.encode("a cat")) == 2
    assert tokens.word(tokens.encode("photo")[0]) == "photo"
    inner = open_clip.create_model(name).eval()
    texts = ["a photo of a red cat.", "the image", "dog"]
    with torch.no_grad():
        expected = inner.encode_text(open_clip.get_tokenizer(name)(texts))
    assert relative(TextTower(model).encode(texts), expected) < 1e-5
    trainer = build(
        tmp_path / "run", "CoOp", name, 32, "TRAINER.COOP.CTX_INIT", "a photo of a", "TRAINER.COOP.N_CTX", 4
    )
    trainer.train()
    with pytest.raises(ConfigError, match="CTX_INIT 'a photo' has 2 tokens and TRAINER.COOP.N_CTX is 4"):
        build(tmp_path / "two", "CoOp", name, 32, "TRAINER.COOP.CTX_INIT", "a photo", "TRAINER.COOP.N_CTX", 4)


def test_a_missing_tokenizer_is_named_before_weights_are_read(tmp_path, monkeypatch):
    pytest.importorskip("transformers")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    name = siglip(tmp_path / "model", words=99, hf_tokenizer_name="someone/words")
    (tmp_path / "model" / "open_clip_model.safetensors").unlink()
    with pytest.raises(UserError, match="repository someone/words .*Download tokenizer.json and tokenizer_config.json"):
        build(tmp_path / "run", "CoOp", name, 32)


def test_names_that_drop_out_of_a_vocabulary(tmp_path):
    pytest.importorskip("transformers")
    words = word_tokenizer(tmp_path / "model")
    options = {"hf_tokenizer_name": "someone/words", "tokenizer_kwargs": {"clean": "canonicalize"}}
    model = load_backbone(siglip(tmp_path / "model", words=words, **options))
    with pytest.raises(UserError, match=r"leaves nothing of the name '\?!'"):
        NameTokens(TextTower(model), ["cat", "?!"])


def test_a_folder_without_a_model(tmp_path):
    with pytest.raises(UserError, match="no model of open_clip can be read from .*Expected open_clip_config.json"):
        build(tmp_path, "CoOp", f"local-dir:{tmp_path}", 32)


@pytest.fixture(scope="module")
def biomed(tmp_path_factory):
    """Name of a small model of BiomedCLIP's kind: BERT, read at its first token, with a tokenizer of its own."""
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("biomed")
    words = word_tokenizer(folder, end="</s>", start="<s>", pad="<pad>")
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 96}
    bert = transformers.BertConfig(vocab_size=words, pad_token_id=3, max_position_embeddings=40, **sizes)
    bert.save_pretrained(folder / "bert")
    text = {"hf_model_name": str(folder / "bert"), "hf_tokenizer_name": "someone/words", "hf_proj_type": "mlp"}
    return siglip(folder, text={**text, "hf_pooler_type": "cls_last_hidden_state_pooler", "context_length": 32})


def test_a_text_tower_of_hugging_face_learns_contexts(biomed, tmp_path):
    import open_clip

    model = load_backbone(biomed)
    assert model.context_length == 32 and (model.tokenizer.start, model.tokenizer.end) == ((2,), (1,))
    texts = ["a photo of a red cat", "the image", "dog"]
    with torch.no_grad():
        expected = open_clip.create_model(biomed).eval().encode_text(open_clip.get_tokenizer(biomed)(texts))
    assert relative(TextTower(model).encode(texts), expected) < 1e-5
    for method in ("MTCoOp", "KgCoOp"):
        trainer = build(tmp_path / method, method, biomed, 32, "TRAINER.MTCOOP.N_CTX", 4)
        before = copy.deepcopy(trainer.clip.state_dict())
        trainer.train()
        assert all(torch.equal(value, before[key]) for key, value in trainer.clip.state_dict().items())


@pytest.mark.parametrize("method", ["CLIPLoRA", "IVLP", "TCP", "UPT", "MMRL"])
def test_methods_that_change_its_layers_are_refused_before_weights_are_read(method, biomed, tmp_path, monkeypatch):
    monkeypatch.setattr("trainers.building.load_backbone", lambda *_, **__: pytest.fail("weights are read"))
    with pytest.raises(ConfigError, match="its text tower is a Hugging Face model, which takes prompts at its input"):
        build(tmp_path, method, biomed, 32)
