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
    with pytest.raises(ValueError, match="'random_flp'; did you mean random_flip"):
        build_transform(cfg, choices=["normalize", "random_flp"])
