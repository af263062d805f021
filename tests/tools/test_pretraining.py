import random

import numpy as np
import pytest
import torch

from tools.batches import Batches, Tokens, caption, sampling_weights
from tools.concepts import (
    END,
    EOT,
    SOT,
    SPECIAL,
    START,
    UNKNOWN,
    Item,
    clip_art_words,
    looks_like,
    make_items,
    make_remap,
    make_vocabulary,
)
from tools.drawings import Drawings, Source, permitted_sets
from tools.icons import fingerprint
from tools.minilm import proxies
from tools.pretrain_tiny import learning_rate, main, save, soft_clip_loss
from tools.tiny_clip import TinyCLIP, TinyConfig, expand
from tools.wordnet import WordNet

LICENCE = "  1 This is the licence\n"


def write_wordnet(folder):
    """entity <- animal <- mammal <- cat; lines as in the real files."""
    chain = ["entity", "animal", "mammal", "cat"]
    data = index = LICENCE
    for number, name in enumerate(chain):
        pointers = f"001 @ {number - 1:08} n 0000" if number else "000"
        data += f"{number:08} 05 n 01 {name} 0 {pointers} | gloss\n"
        index += f"{name} n 1 1 @ 1 0 {number:08}\n"
    (folder / "data.noun").write_text(data)
    (folder / "index.noun").write_text(index)
    return folder


def encode(text):
    """A replacement of BPE: one token per word."""
    return [1000 + sum(word.encode()) for word in text.replace(",", " ").replace(".", " ").replace(":", " ").split()]


def test_wordnet_tells_kinds(tmp_path):
    wordnet = WordNet(write_wordnet(tmp_path))
    assert wordnet.kinds("cat") == ["mammal", "animal"]
    assert wordnet.kinds("black cats") == ["mammal", "animal"]
    assert wordnet.kinds("entity") == wordnet.kinds("nosuch") == wordnet.kinds("") == []
    with pytest.raises(FileNotFoundError, match="wordnet-base"):
        WordNet(tmp_path / "nowhere")


def test_remap_round_trip():
    vocabulary = [3, 320, 2368, 40000]
    remap = make_remap(vocabulary)
    assert remap.shape == (49408,)
    assert remap[vocabulary].tolist() == [SPECIAL, SPECIAL + 1, SPECIAL + 2, SPECIAL + 3]
    assert (remap[SOT], remap[EOT], remap[5]) == (START, END, UNKNOWN)
    rows = torch.randn(len(vocabulary) + SPECIAL, 4)
    table = expand({"token_embedding.weight": rows, "token_remap": torch.from_numpy(remap)})["token_embedding.weight"]
    assert table.shape == (49408, 4)
    assert torch.equal(table[vocabulary], rows[SPECIAL:])
    assert torch.equal(table[EOT], rows[END])
    assert torch.equal(table[0], table[49000])


def test_saved_model_is_an_ordinary_clip(tmp_path):
    from open_clip.model import CLIP
    from safetensors.torch import load_file

    torch.manual_seed(0)
    vocabulary = [320, 2368, 1929]
    config = TinyConfig(emb=64, vw=64, vl=1, tw=64, tl=1, vocab=len(vocabulary) + SPECIAL)
    model, remap = TinyCLIP(config).eval(), make_remap(vocabulary)
    save(tmp_path / "m.safetensors", model, remap, 1, 2)
    other = CLIP(
        config.emb,
        {"image_size": 64, "layers": 1, "width": 64, "head_width": 64, "patch_size": 8},
        {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1},
        quick_gelu=True,
    ).eval()
    state = {k: v.float() for k, v in expand(load_file(tmp_path / "m.safetensors")).items()}
    other.load_state_dict(state)
    model.load_state_dict({k: v.half().float() for k, v in model.state_dict().items()})
    images = torch.randn(3, 3, 64, 64)
    texts = torch.zeros(2, 77, dtype=torch.long)
    texts[0, :4] = torch.tensor([SOT, 320, 2368, EOT])
    texts[1, :3] = torch.tensor([SOT, 1929, EOT])
    with torch.no_grad():
        assert torch.allclose(other.encode_image(images), model.encode_image(images), atol=1e-5)
        short = torch.from_numpy(remap).long()[texts[:, :4]]
        assert torch.allclose(other.encode_text(texts), model.encode_text(short, torch.tensor([3, 2])), atol=1e-5)
        assert model.encode_image(images, keep=8).shape == (3, 64)


def make_drawings():
    ink, colour = np.zeros((5, 64, 64), np.uint8), np.zeros((1, 64, 64, 4), np.uint8)
    for i in range(5):
        ink[i, 8 * i : 8 * i + 20, 10:50] = 255
    colour[0, 20:40, 20:40] = 200
    sources = [Source("tabler", "cat", "cat", [])] + [Source("tabler", f"x-{i}", "gizmo", []) for i in range(4)]
    return Drawings(ink, colour, sources, [Source("openclipart", "a/black_cat_02.svg", "", ["Pets", "png"])])


def test_items_know_what_they_show(tmp_path):
    drawings, wordnet = make_drawings(), WordNet(write_wordnet(tmp_path))
    suite = np.full((1, 64, 64, 3), 255, np.uint8)
    suite[0, 0:20, 10:50] = 0  # the same as the first drawing
    items = make_items(drawings, suite, {"cat": ["kitten"]}, wordnet)
    assert [item.concept for item in items] == ["gizmo"] * 4 + ["black cat"]
    assert items[-1] == Item(True, 0, "black cat", ["pets"], ["mammal", "animal"], "openclipart")
    items = make_items(drawings, 255 - suite[:, ::-1] // 2, {"cat": ["kitten"]}, wordnet)
    assert items[0].names == ["kitten"]
    assert clip_art_words(Source("openclipart", "x_01.svg", "", [])) == ("", [])
    assert looks_like(drawings.ink, fingerprint(suite.mean(-1))).tolist() == [True] + [False] * 4


def test_batches_are_repeatable_and_normalised():
    items = [Item(False, 0, "cat", ["kitten"], ["mammal"], "tabler"), Item(True, 0, "left cat", [], [], "openclipart")]
    remap = make_remap(make_vocabulary(items * 2, ["a photo of"], encode))
    weights = sampling_weights(items)
    assert weights.sum() == pytest.approx(1)
    assert weights[1] == pytest.approx(0.38)

    def draw():
        torch.manual_seed(0)
        return Batches(items, make_drawings(), np.array([0, 1]), Tokens(remap, encode), seed=0)(8)

    (images, ids, end, labels), again = draw(), draw()
    assert images.shape == (8, 3, 64, 64)
    assert images.min() >= -1
    assert images.max() <= 1
    assert torch.equal(ids[torch.arange(8), end], torch.full((8,), END))
    assert set(labels.tolist()) == {0, 1}
    for first, second in zip((images, ids, end, labels), again, strict=True):
        assert torch.equal(first, second)


def test_captions_name_the_concept():
    item = Item(False, 0, "owl", [], ["bird"], "tabler")
    rng = random.Random(0)
    texts = {caption(item, "red", long, rng) for long in (False, True) for _ in range(300)}
    assert {"owl", "an owl", "a photo of an owl.", "owl, a type of bird"} <= texts
    assert all("owl" in text or text == "bird" for text in texts)


def test_loss_rate_and_proxies():
    features = torch.nn.functional.normalize(torch.eye(4) + 0.01, dim=-1)
    labels = torch.tensor([0, 1, 2, 2])
    good = soft_clip_loss(features, features, torch.tensor(10.0), torch.arange(4))
    assert good < soft_clip_loss(features, features.flip(0), torch.tensor(10.0), torch.arange(4))
    assert soft_clip_loss(features, features, torch.tensor(10.0), labels).isfinite()
    assert learning_rate(0) < 0.01
    assert learning_rate(0.03) > 0.98
    assert learning_rate(1) == pytest.approx(0.02)
    vectors = proxies(torch.randn(5, 384), 192)
    assert vectors.shape == (5, 192)
    assert torch.allclose(vectors.norm(dim=-1), torch.ones(5), atol=1e-5)


def test_vendors_relatives_and_share_alike_are_left_out():
    class Fake:
        collections = {
            name: {"license": {"spdx": licence, "title": licence}, "category": category, "total": total}
            for name, licence, category, total in (
                ("tabler", "MIT", "General", 5),
                ("solar", "CC-BY-4.0", "General", 9),
                ("mdi", "Apache-2.0", "General", 5),
                ("la", "MIT", "General", 5),
                ("openmoji2", "CC-BY-SA-4.0", "Emoji", 5),
                ("logos", "CC0-1.0", "Logos", 5),
                ("circle-flags", "MIT", "Other", 5),
                ("streamline-pop", "MIT", "General", 5),
            )
        }

    assert permitted_sets(Fake(), exclude=["streamline*"]) == ["solar", "tabler"]


def test_missing_parts_end_with_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        main(["--packages", str(tmp_path), "--suite", str(tmp_path), "--work", str(tmp_path), "--out", "x"])
    assert end.value.code == 2
    assert "index.json not found: --suite takes" in capsys.readouterr().err
