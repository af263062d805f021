"""Transforms by name."""

import random

import numpy as np
import pytest
import torch
from PIL import Image

from dassl.config import get_cfg_default
from dassl.data.transforms import INTERPOLATION_MODES, TRANSFORMS, build_transform


@pytest.fixture
def cfg():
    cfg = get_cfg_default()
    cfg.INPUT.SIZE = (32, 32)
    return cfg


@pytest.fixture
def image():
    values = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    return Image.fromarray(values)


def test_defaults_are_clips():
    cfg = get_cfg_default()
    assert cfg.INPUT.TRANSFORMS == ("random_resized_crop", "random_flip", "normalize")
    assert cfg.INPUT.PIXEL_MEAN == [0.48145466, 0.4578275, 0.40821073]
    assert cfg.INPUT.PIXEL_STD == [0.26862954, 0.26130258, 0.27577711]
    assert cfg.INPUT.RRCROP_SCALE == (0.08, 1.0)
    assert cfg.INPUT.INTERPOLATION == "bicubic"
    assert set(INTERPOLATION_MODES) == {"bilinear", "bicubic", "nearest"}


def test_the_test_transform_is_clips_preprocessing(cfg, image):
    """Against Pillow itself: shorter side to 32 bicubic, centre, mean and std."""
    expected = np.asarray(image.resize((48, 32), Image.BICUBIC).crop((8, 0, 40, 32)), dtype=np.float32) / 255
    expected = (expected - np.float32(cfg.INPUT.PIXEL_MEAN)) / np.float32(cfg.INPUT.PIXEL_STD)
    got = build_transform(cfg, is_train=False)(image)
    assert got.shape == (3, 32, 32)
    np.testing.assert_allclose(got.numpy(), expected.transpose(2, 0, 1), rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_every_name_makes_training_images_of_the_right_size(cfg, image, name):
    random.seed(0)
    torch.manual_seed(0)
    transform = build_transform(cfg, choices=[name])
    views = [transform(image) for _ in range(8)]
    assert {(v.shape, v.dtype) for v in views} == {(torch.Size([3, 32, 32]), torch.float32)}
    assert all(torch.isfinite(v).all() for v in views)
    fixed = {"center_crop", "normalize", "instance_norm"}
    assert (len({v.sum().item() for v in views}) == 1) == (name in fixed)


CHANGES = {  # another value for each setting of the transforms, and the step that it changes
    "CROP_PADDING": (6, "random_crop"),
    "RRCROP_SCALE": ((0.5, 1.0), "random_resized_crop"),
    "CUTOUT_N": (3, "cutout"),
    "CUTOUT_LEN": (5, "cutout"),
    "GN_MEAN": (0.1, "gaussian_noise"),
    "GN_STD": (0.4, "gaussian_noise"),
    "RANDAUGMENT_N": (4, "randaugment_fixmatch"),
    "RANDAUGMENT_M": (20, "randaugment"),
    "COLORJITTER_H": (0.3, "colorjitter"),
    "RGS_P": (0.9, "randomgrayscale"),
    "GB_P": (0.1, "gaussian_blur"),
    "GB_K": (5, "gaussian_blur"),
    "PIXEL_MEAN": ([0.5, 0.5, 0.5], "normalize"),
    "SIZE": ((48, 48), "random_translation"),
    "INTERPOLATION": ("bilinear", "random_translation"),
}


def test_the_text_of_a_transform_says_all_it_depends_on(cfg):
    """The repr of a transform, a cache key of image features, is equal in all processes and unique for its settings."""

    def text(name, **changed):
        own = cfg.clone()
        for key, value in changed.items():
            own.INPUT[key] = value
        return repr(build_transform(own, choices=[name]))

    for name in TRANSFORMS:
        assert text(name) == text(name) and " at 0x" not in text(name), name
    for key, (value, name) in CHANGES.items():
        assert text(name, **{key: value}) != text(name), key
    assert text("randaugment2") != text("randaugment_fixmatch").replace("fixmatch", "2")


def test_all_together_and_none(cfg, image):
    assert build_transform(cfg, choices=TRANSFORMS)(image).shape == (3, 32, 32)
    assert build_transform(cfg, choices=[])(image).shape == (3, 32, 32)
    cfg.INPUT.NO_TRANSFORM = True
    assert build_transform(cfg) is None


def test_sizes_are_height_and_width(cfg, image):
    cfg.INPUT.SIZE = (16, 24)
    for choices in ([], ["random_resized_crop"], ["random_crop"], ["center_crop"], ["random_translation"]):
        assert build_transform(cfg, choices=choices)(image).shape == (3, 16, 24)
    assert build_transform(cfg, is_train=False)(image).shape == (3, 16, 24)


def test_instance_norm_and_cutout(cfg, image):
    view = build_transform(cfg, choices=["instance_norm"])(image)
    torch.testing.assert_close(view.mean((1, 2)), torch.zeros(3), rtol=0, atol=1e-5)
    torch.testing.assert_close(view.std((1, 2)), torch.ones(3), rtol=0, atol=1e-5)
    cfg.INPUT.CUTOUT_LEN = 8
    white = Image.new("RGB", (40, 40), "white")
    holes = [(build_transform(cfg, choices=["cutout"])(white) == 0).sum().item() / 3 for _ in range(20)]
    assert max(holes) <= 64 and min(holes) > 0


def test_an_unknown_name_gets_the_nearest_one(cfg):
    with pytest.raises(ValueError, match="'random_flp', did you mean random_flip"):
        build_transform(cfg, choices=["normalize", "random_flp"])
