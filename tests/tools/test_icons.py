import numpy as np
import pytest

from tests.tools.packages import write_node_modules
from tools.icons import Iconify, emoji_code, fingerprint, normalise, on_canvas, on_white, rasterise, read_emojis, slug


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("cat-face-outline-24", "cat face"),
        ("outline-cat", "cat"),
        ("cat_fill_rounded", "cat"),
        ("solid", "solid"),
        ("md-24-cat", "24 cat"),
        ("arrow-outline-left", "arrow left"),
        ("Fish:Tropical", "fish tropical"),
    ],
)
def test_names_lose_style_and_size_only(name, words):
    assert normalise(name) == words


def test_slug_and_emoji_code():
    assert slug("Piñata’s Box") == "pinatas-box"
    assert slug("chili pepper", "_") == "chili_pepper"
    assert emoji_code("🐿️") == "1f43f"


def test_missing_packages_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="npm package @iconify/json"):
        Iconify(tmp_path)
    with pytest.raises(FileNotFoundError, match="npm package emojibase-data"):
        read_emojis(tmp_path)
    with pytest.raises(FileNotFoundError, match="'nosuch' is not in"):
        Iconify(write_node_modules(tmp_path))["nosuch"]


def test_an_icon_is_centred_in_a_square(tmp_path):
    icons = Iconify(write_node_modules(tmp_path))["mdi"]
    icons.icons["wide"] = {"body": "<rect/>", "width": 40, "height": 20}
    assert 'viewBox="0.0 -10.0 40 40"' in icons.svg("wide")
    assert "currentColor" not in icons.svg("cat", colour="#123")


def test_drawing(tmp_path):
    pytest.importorskip("resvg_py")
    icons = Iconify(write_node_modules(tmp_path))["noto"]
    icons.icons["half"] = {"body": '<rect width="12" height="24"/>'}  # no fill: SVG's default is black
    icons.icons["empty"] = {"body": "<g/>"}
    half = icons.draw("half")
    assert half.shape == (64, 64, 4)
    assert half[:, :31, 3].min() == 255
    assert half[:, 33:, 3].max() == 0
    assert icons.draw("half", root_fill="none") is None
    assert icons.draw("empty") is None
    assert rasterise("<not svg") is None
    white = on_white(half, palette=True)
    assert white[0, 0].tolist() == [0, 0, 0]
    assert white[0, 63].tolist() == [255, 255, 255]


def test_ink_becomes_black_on_white():
    rgba = np.zeros((64, 64, 4), np.uint8)
    rgba[:10, :, 3] = 200
    image = on_white(rgba, palette=False)
    assert image.shape == (64, 64, 3)
    assert image[0, 0].tolist() == [55, 55, 55]
    assert image[63, 0].tolist() == [255, 255, 255]


def test_small_pictures_are_centred():
    from PIL import Image

    array = on_canvas(Image.new("RGBA", (20, 10), (9, 9, 9, 255)))
    assert array[27:37, 22:42, 3].min() == 255
    assert array[..., 3].sum() == 255 * 200
    assert on_canvas(Image.new("RGBA", (64, 64))) is None


def test_fingerprints_ignore_brightness_and_see_shape():
    grey = np.random.default_rng(0).uniform(0, 255, (2, 64, 64))
    grey = np.kron(grey[:, :8, :8], np.ones((8, 8)))
    looks = fingerprint(np.stack([grey[0], grey[0] * 0.5 + 20, grey[1]]))
    assert looks.shape == (3, 256)
    assert looks[0] @ looks[1] > 0.999
    assert looks[0] @ looks[2] < 0.5
