"""Read image files, also inside zip and tar archives, as RGB.

Conversion of Pillow's modes to RGB:

- 1, L, LA, P, PA, RGBA, CMYK, YCbCr, HSV: Pillow's own conversion.
- Transparent images, in any mode (an alpha channel, a transparent colour or palette entry): placed on white. The colour
  of a transparent pixel is arbitrary, mostly black. An image with opaque pixels only is not affected.
- I;16 and I (16-bit grayscale files, depending on the Pillow version): the high byte of every pixel. Pillow's
  conversion would clip all values above 255 to white.
- F: clipped to 0..255.

Only the first frame of an animation is read. The EXIF orientation is applied only on request (INPUT.EXIF_ROTATE); the
published results do not apply it.
"""

from __future__ import annotations

import os
from contextlib import contextmanager

import numpy as np
from PIL import ExifTags, Image, ImageOps

from dassl.data.archives import open_path, split_archive, stamp
from dassl.utils.errors import UserError

READING = "transparent on white, 16-bit grey too"  # part of cache keys; change it together with the conversion
_WORKER_MARK = "Caught "  # torch begins the text of an exception from a worker with this word
LONGEST = 1000  # ratio of the sides of an image


class _OneLine:
    """An exception that keeps its one-line message on the way from a worker to the main process.

    torch rebuilds an exception of a worker from its class and the text of the whole traceback, whose last line is the
    message. The constructor extracts that line.
    """

    def __init__(self, text: str = ""):
        if text.startswith(_WORKER_MARK) and "Traceback (most recent call last)" in text:
            text = text.rstrip().rsplit("\n", 1)[-1].partition(": ")[2]
        super().__init__(" ".join(text.splitlines()))


class BrokenImageError(_OneLine, UserError):
    """An image file cannot be decoded. A ValueError."""


class MissingImageError(_OneLine, FileNotFoundError):
    """An image file, archive, or member of an archive does not exist."""

    def __str__(self):
        return str(self.args[0]) if self.args else ""


def read_image(path: str | os.PathLike, upright: bool = False) -> Image.Image:
    """Decode an image to Pillow's mode RGB.

    Args:
        path: a file, or a member of an archive: "…/images.zip/faces/x.webp" is read in place.
        upright: apply the EXIF orientation.

    Raises:
        MissingImageError: the file does not exist. A FileNotFoundError with the path.
        BrokenImageError: the file cannot be decoded. A ValueError with the path and the reason.
    """
    path = os.fspath(path)
    if _kept is not None and (path, upright) in _kept:
        return _kept[path, upright].copy()
    try:
        with open_path(path) as file, Image.open(file) as image:
            if image.format == "EPS":  # Pillow would let Ghostscript execute it
                raise UserError("EPS is a program, not an image: convert it to PNG")
            decoded = to_rgb(ImageOps.exif_transpose(image) if upright else image)
    except (FileNotFoundError, NotADirectoryError) as e:
        raise MissingImageError(f"image not found: {path}") from e
    except MemoryError:
        raise
    except Exception as e:  # Pillow raises many types on damaged input: OSError, SyntaxError, struct.error
        raise BrokenImageError(f"image cannot be read: {path} ({_reason(path, e)})") from e
    if _kept is not None:
        _kept.clear()
        _kept[path, upright] = decoded.copy()
    return decoded


def read_header(path: str | os.PathLike) -> tuple[str, bool]:
    """(what is wrong with an image file, or ""; whether its EXIF orientation turns or mirrors it). No decoding."""
    path = os.fspath(path)
    try:
        with open_path(path) as file, Image.open(file) as image:
            exif = image.getexif() if "exif" in image.info else {}  # otherwise a PNG would be decoded to search for it
            return "", exif.get(ExifTags.Base.Orientation, 1) in range(2, 9)
    except (FileNotFoundError, NotADirectoryError):
        return "no such file", False
    except Exception as e:
        return _reason(path, e), False


_kept: dict[tuple[str, bool], Image.Image] | None = None  # inside `decoded_once`: the image read last


@contextmanager
def decoded_once():
    """Inside the block, an image that is read several times in a row is decoded only once."""
    global _kept
    _kept = {}
    try:
        yield
    finally:
        _kept = None


def image_stamp(path: str | os.PathLike) -> list:
    """Values that change when an image file changes, found without reading the file.

    For a file: absolute path, size and modification time; for a member of an archive, see `archives.stamp`; for a
    missing image: its path. Formats with transparency (all but JPEG) add the conversion rule, because features
    computed with another rule must not be reused.
    """
    path = os.fspath(path)
    rule = [] if path.lower().endswith((".jpg", ".jpeg")) else [READING]
    found = split_archive(path)
    if found is not None and (values := stamp(*found)):
        return [*values, *rule]
    try:
        stat = os.stat(path)
    except OSError:
        return [path]
    return [os.path.abspath(path), stat.st_size, stat.st_mtime_ns, *rule]


def _reason(path: str, error: Exception) -> str:
    try:
        with open_path(path) as file:
            head = file.read(64).lstrip().lower()
    except Exception:
        head = b"?"
    if not head:
        return "the file is empty"
    if head.startswith((b"<!doctype html", b"<html")):
        return "it holds a web page, not an image: download it again"
    if head.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer: run git lfs pull"
    text = " ".join(str(error).split()).replace(path, "…")
    return "not an image format that Pillow knows" if isinstance(error, Image.UnidentifiedImageError) else text


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert an image of any mode to RGB, see above. Raises UserError if one side is far longer than the other."""
    if max(image.size) > LONGEST * min(image.size):  # resizing the shorter side would take gigabytes
        raise UserError(f"{image.width} x {image.height} pixels: one side is more than {LONGEST} times the other")
    see_through = "transparency" in image.info and image.mode in ("1", "L", "P", "RGB")
    if image.mode == "RGB" and not see_through:
        image.load()
        return image
    if see_through or image.mode in ("LA", "PA", "RGBA", "RGBa"):
        return _on_white(image.convert("RGBA"))
    if image.mode == "I" or image.mode.startswith("I;16"):
        array = np.asarray(image)
        clear = image.info.get("transparency")
        image = Image.fromarray((array.clip(0, 65535) >> 8).astype(np.uint8))
        if isinstance(clear, int):  # the transparent grey value, with 16 bits
            image.paste(255, mask=Image.fromarray(array == clear))
    return image.convert("RGB")


def _on_white(image: Image.Image) -> Image.Image:
    """Convert an RGBA image to RGB on a white background."""
    if image.getchannel("A").getextrema()[0] < 255:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")
