"""Images of all kinds are read as RGB, and broken files are reported."""

import multiprocessing
import os
import zipfile

import numpy as np
import pytest
from PIL import Image

from dassl.config import get_cfg_default
from dassl.data.data_manager import DatasetWrapper
from dassl.data.datasets import Datum
from dassl.data.images import image_stamp, read_header, read_image

RED = (204, 0, 51)  # in the web palette


def _pixel(path):
    image = read_image(path)
    assert image.mode == "RGB"
    return image.getpixel((1, 1))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "PA", "CMYK", "YCbCr"])
def test_colour_modes(tmp_path, mode):
    image = Image.new("RGB", (4, 4), RED)
    image = image.convert("P").convert("PA") if mode == "PA" else image.convert(mode)
    path = tmp_path / ("x.tif" if mode in ("CMYK", "YCbCr", "PA") else "x.png")
    try:
        image.save(path)
    except OSError:
        pytest.skip(f"this Pillow writes no {mode} file")
    assert np.abs(np.subtract(_pixel(path), RED)).max() <= 3


@pytest.mark.parametrize(("mode", "value"), [("1", 1), ("L", 255), ("LA", (255, 255))])
def test_gray_modes(tmp_path, mode, value):
    Image.new(mode, (4, 4), value).save(tmp_path / "x.png")
    assert _pixel(tmp_path / "x.png") == (255, 255, 255)


def test_16_bit_gray_keeps_its_high_byte(tmp_path):
    array = np.array([[0, 256], [32768, 65535]], dtype=np.uint16)
    Image.fromarray(array).save(tmp_path / "x.png")
    Image.fromarray(array.astype(np.int32)).save(tmp_path / "x.tif")
    for name in ("x.png", "x.tif"):
        assert np.asarray(read_image(tmp_path / name))[..., 0].tolist() == [[0, 1], [128, 255]]


# Row of pixels: opaque red, half transparent red, and fully transparent black.
SEEN = ((*RED, 255), (*RED, 128), (0, 0, 0, 0))


def on_white(colour):
    *colour, alpha = colour
    return [(value * alpha + 255 * (255 - alpha)) / 255 for value in colour]


def near(found, expected):
    return np.abs(np.asarray(found, dtype=float) - np.asarray(expected)).max() <= 1


@pytest.mark.parametrize("ending", ["png", "tif", "webp"])
def test_what_is_transparent_is_white(tmp_path, ending):
    image = Image.new("RGBA", (3, 1))
    image.putdata(SEEN)
    image.save(tmp_path / f"x.{ending}", **({"lossless": True, "exact": True} if ending == "webp" else {}))
    assert near(np.asarray(read_image(tmp_path / f"x.{ending}"))[0], [on_white(colour) for colour in SEEN])


def test_a_palette_with_transparent_entries(tmp_path, recwarn):
    image = Image.new("P", (3, 1))
    image.putpalette([*RED, *RED, 0, 0, 0])
    image.putdata([0, 1, 2])
    image.save(tmp_path / "several.png", transparency=bytes([255, 128, 0]))
    assert near(np.asarray(read_image(tmp_path / "several.png"))[0], [on_white(colour) for colour in SEEN])
    image.save(tmp_path / "one.png", transparency=2)
    image.save(tmp_path / "one.gif", transparency=2)
    for name in ("one.png", "one.gif"):
        assert np.asarray(read_image(tmp_path / name))[0].tolist() == [list(RED), list(RED), [255, 255, 255]]
    assert not recwarn.list


@pytest.mark.parametrize("mode, colours", [("L", (90, 0)), ("RGB", (RED, (0, 0, 0)))])
def test_a_colour_that_stands_for_transparent(tmp_path, mode, colours):
    image = Image.new(mode, (2, 1))
    image.putdata(colours)
    image.save(tmp_path / "x.png", transparency=colours[1])
    first = colours[0] if mode == "RGB" else colours[:1] * 3
    assert np.asarray(read_image(tmp_path / "x.png"))[0].tolist() == [list(first), [255, 255, 255]]


def test_a_transparent_grey_of_sixteen_bits(tmp_path):
    grey = np.array([[0x1234, 0x1200, 0x12FF, 0xFFFF, 0]], dtype=np.uint16)
    for name, colour, expected in (("one", 0x1234, [255, 18, 18, 255, 0]), ("none", 7, [18, 18, 18, 255, 0])):
        Image.fromarray(grey).save(tmp_path / f"{name}.png", transparency=colour)
        assert np.asarray(read_image(tmp_path / f"{name}.png"))[0].tolist() == [[value] * 3 for value in expected]


def test_features_of_images_that_another_rule_has_read_are_not_found(tmp_path, monkeypatch):
    for name in ("x.png", "x.jpg", "y.JPEG"):
        Image.new("RGB", (2, 2)).save(tmp_path / name)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(tmp_path / "x.png", "x.png")
        archive.write(tmp_path / "x.jpg", "x.jpg")
    names = ("x.png", "x.jpg", "y.JPEG", "a.zip/x.png", "a.zip/x.jpg")
    before = [image_stamp(tmp_path / name) for name in names]
    assert before == [image_stamp(tmp_path / name) for name in names]
    monkeypatch.setattr("dassl.data.images.READING", "by another rule")
    changed = [image_stamp(tmp_path / name) != stamp for name, stamp in zip(names, before, strict=True)]
    assert changed == [True, False, False, True, False]  # formats without transparency are not affected


def test_opaque_images_have_the_pixels_they_had(tmp_path):
    whole = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8))
    palette = whole.quantize(40)
    for name, image, options in (
        ("rgba", whole.convert("RGBA"), {}),
        ("la", whole.convert("LA"), {}),
        ("entries", palette, {"transparency": bytes([255] * 40)}),
        ("entry", palette, {"transparency": 200}),
    ):
        image.save(tmp_path / f"{name}.png", **options)
        assert np.array_equal(np.asarray(read_image(tmp_path / f"{name}.png")), np.asarray(image.convert("RGB"))), name


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_are_turned_where_that_is_asked_for(tmp_path, orientation):
    image = Image.new("RGB", (16, 8), "blue")
    image.paste(RED, (0, 0, 8, 8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / "x.jpg", exif=exif, quality=100, subsampling=0)
    assert near(read_image(tmp_path / "x.jpg").getpixel((2, 2)), RED) and read_image(tmp_path / "x.jpg").size == (16, 8)
    turned = read_image(tmp_path / "x.jpg", upright=True)
    assert turned.size == ((16, 8) if orientation < 5 else (8, 16))
    # From the EXIF standard: positions of the first stored row and column in the upright image.
    left, top = orientation in (1, 4, 5, 6, 7, 8), orientation in (1, 2, 3, 4, 5, 6)
    x, y = ((2 if left else 13), 4) if orientation < 5 else (4, (2 if top else 13))
    assert near(turned.getpixel((x, y)), RED)
    assert read_header(tmp_path / "x.jpg") == ("", orientation > 1)
    cfg = get_cfg_default()
    for cfg.INPUT.EXIF_ROTATE, size in ((False, (16, 8)), (True, turned.size)):
        (item,) = DatasetWrapper(cfg, [Datum(str(tmp_path / "x.jpg"))])
        assert item["img"].size == size


@pytest.fixture
def archive(tmp_path):
    path = tmp_path / "images.zip"
    Image.new("RGB", (3, 2), RED).save(tmp_path / "x.png")
    with zipfile.ZipFile(path, "w") as file:
        file.write(tmp_path / "x.png", "faces/x.png")
        file.write(tmp_path / "x.png", "odd.zip/x.png")
    return str(path)


def test_members_of_an_archive_are_read_in_place(archive):
    assert read_image(f"{archive}/faces/x.png").size == (3, 2)
    assert read_image(f"{archive}/odd.zip/x.png").size == (3, 2)
    assert sorted(os.listdir(os.path.dirname(archive))) == ["images.zip", "x.png"]


def test_a_folder_may_be_called_like_an_archive(tmp_path):
    (tmp_path / "pictures.zip").mkdir()
    Image.new("RGB", (3, 2)).save(tmp_path / "pictures.zip" / "x.png")
    assert read_image(tmp_path / "pictures.zip" / "x.png").size == (3, 2)


def test_a_replaced_archive_is_read_anew(archive):
    read_image(f"{archive}/faces/x.png")
    Image.new("RGB", (7, 7)).save(archive + ".png")
    with zipfile.ZipFile(archive + ".new", "w") as file:
        file.write(archive + ".png", "faces/x.png")
    os.replace(archive + ".new", archive)
    assert read_image(f"{archive}/faces/x.png").size == (7, 7)


def _read_many(paths):
    return [read_image(path).getpixel((0, 0))[0] for path in paths * 20]


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork on this system")
def test_processes_share_no_file_position(tmp_path):
    path = tmp_path / "many.zip"
    with zipfile.ZipFile(path, "w") as file:
        for i in range(32):
            image = Image.effect_noise((150, 150), 99).convert("RGB")  # members larger than a file buffer
            image.putpixel((0, 0), (i, 0, 0))
            image.save(tmp_path / "x.png")
            file.write(tmp_path / "x.png", f"{i}.png")
    paths = [f"{path}/{i}.png" for i in range(32)]
    assert _read_many(paths[:1]) == [0] * 20  # opened here, before the fork
    with multiprocessing.get_context("fork").Pool(4) as pool:
        for step in pool.map(_read_many, [paths[i:] + paths[:i] for i in range(0, 32, 8)], chunksize=1):
            assert sorted(step) == sorted(list(range(32)) * 20)


def _broken_files(folder):
    Image.effect_noise((64, 64), 90).save(folder / "whole.png")
    whole = (folder / "whole.png").read_bytes()
    return {
        "empty.jpg": (b"", "empty"),
        "page.jpg": (b"<!DOCTYPE html><html>404</html>", "web page"),
        "lfs.jpg": (b"version https://git-lfs.github.com/spec/v1\noid", "LFS"),
        "text.jpg": (b"hello there", "not an image format"),
        "cut.png": (whole[: len(whole) // 2], "image"),
        "noise.png": (whole[:60] + bytes(range(256)), "image"),
    }


def test_broken_files_are_one_clear_line(tmp_path):
    for name, (content, text) in _broken_files(tmp_path).items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=text) as caught:
            read_image(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
        assert "\n" not in str(caught.value)
        assert name in ("cut.png", "noise.png") or text in read_header(tmp_path / name)[0]
    assert read_header(tmp_path / "whole.png") == ("", False)
    assert read_header(tmp_path / "none.png") == ("no such file", False)


def test_missing_files_are_one_clear_line(tmp_path, archive):
    for path in (str(tmp_path / "no.png"), f"{archive}/no.png", f"{tmp_path}/no.zip/x.png", f"{tmp_path}/x.png/y.png"):
        with pytest.raises(FileNotFoundError) as caught:
            read_image(path)
        assert str(caught.value) == f"image not found: {path}"


def test_an_archive_that_is_none_names_itself(tmp_path):
    (tmp_path / "images.zip").write_bytes(b"not a zip")
    with pytest.raises(ValueError, match=r"images\.zip/x\.png.*zip"):
        read_image(tmp_path / "images.zip" / "x.png")


def test_postscript_is_never_given_to_ghostscript(tmp_path):
    """Pillow would let Ghostscript, where that is installed, execute the file."""
    Image.new("RGB", (4, 4)).save(tmp_path / "x.png", "EPS")
    for upright in (False, True):
        with pytest.raises(ValueError, match="x.png .EPS is a program"):
            read_image(tmp_path / "x.png", upright)
