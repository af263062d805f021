"""Transforms: from the names in INPUT.TRANSFORMS to a torchvision pipeline, PIL image (RGB) -> float tensor (3, H, W).

As in Dassl, the steps are applied in the order of `TRANSFORMS`, regardless of their order in the config.
"""

from __future__ import annotations

import random

import torch
from torch import Tensor
from torchvision import transforms as T
from torchvision.transforms import InterpolationMode

from dassl.config import at_least, between, declare, declare_contradictions, each, is_number
from dassl.utils import check_availability

INTERPOLATION_MODES = {
    "bilinear": InterpolationMode.BILINEAR,
    "bicubic": InterpolationMode.BICUBIC,
    "nearest": InterpolationMode.NEAREST,
}

# Name -> function that makes the step from INPUT, in the order of application; ToTensor comes between the two groups.
_ON_IMAGES = {
    "random_translation": lambda cfg: RandomTranslation(tuple(cfg.SIZE), _mode(cfg)),
    "random_crop": lambda cfg: T.RandomCrop(tuple(cfg.SIZE), padding=cfg.CROP_PADDING, pad_if_needed=True),
    "random_resized_crop": lambda cfg: T.RandomResizedCrop(
        tuple(cfg.SIZE), tuple(cfg.RRCROP_SCALE), interpolation=_mode(cfg)
    ),
    "center_crop": lambda cfg: T.CenterCrop(tuple(cfg.SIZE)),
    "random_flip": lambda cfg: T.RandomHorizontalFlip(),
    "imagenet_policy": lambda cfg: T.AutoAugment(T.AutoAugmentPolicy.IMAGENET),
    "cifar10_policy": lambda cfg: T.AutoAugment(T.AutoAugmentPolicy.CIFAR10),
    "svhn_policy": lambda cfg: T.AutoAugment(T.AutoAugmentPolicy.SVHN),
    "randaugment": lambda cfg: T.RandAugment(cfg.RANDAUGMENT_N, cfg.RANDAUGMENT_M),
    "randaugment_fixmatch": lambda cfg: RandomMagnitude(cfg.RANDAUGMENT_N),
    "randaugment2": lambda cfg: RandomMagnitude(cfg.RANDAUGMENT_N, p=0.6),
    "trivialaugment": lambda cfg: T.TrivialAugmentWide(),
    "colorjitter": lambda cfg: T.ColorJitter(
        cfg.COLORJITTER_B, cfg.COLORJITTER_C, cfg.COLORJITTER_S, cfg.COLORJITTER_H
    ),
    "randomgrayscale": lambda cfg: T.RandomGrayscale(cfg.RGS_P),
    "gaussian_blur": lambda cfg: T.RandomApply([T.GaussianBlur(cfg.GB_K)], p=cfg.GB_P),
}
_ON_TENSORS = {
    "cutout": lambda cfg: Cutout(cfg.CUTOUT_N, cfg.CUTOUT_LEN),
    "normalize": lambda cfg: T.Normalize(mean=list(cfg.PIXEL_MEAN), std=list(cfg.PIXEL_STD)),
    "gaussian_noise": lambda cfg: GaussianNoise(cfg.GN_MEAN, cfg.GN_STD),
    "instance_norm": lambda cfg: InstanceNorm(),
}
TRANSFORMS = (*_ON_IMAGES, *_ON_TENSORS)
AVAI_CHOICES = TRANSFORMS  # Dassl's name
_TEST = ("normalize", "instance_norm")  # steps that test images get too

# The defaults are CLIP's preprocessing. Dassl's defaults are ImageNet's, which every config for CLIP overrides.
_PAIR = each(lambda side: type(side) is int and 0 < side <= 10_000, "two integers from 1 to 10,000: (height, width)", 2)
_MEANS, _SPREADS = (
    each(lambda mean: is_number(mean) and abs(mean) <= 1000, "three numbers from -1000 to 1000", 3),
    each(lambda std: is_number(std) and 1e-6 <= std <= 1000, "three numbers from 1e-6 to 1000", 3),
)
_SHARES = (
    lambda shares: len(shares) == 2 and 0 < shares[0] <= shares[1] <= 1,
    "two numbers > 0 and <= 1, the smaller one first",
)
declare("INPUT.SIZE", (224, 224), allowed=_PAIR, help="height and width of the model's input, pixels")
declare("INPUT.INTERPOLATION", "bicubic", allowed=tuple(INTERPOLATION_MODES), help="how images are resized")
declare(
    "INPUT.RESIZE_MODE",
    "shortest",
    allowed=("shortest", "squash"),
    help="test images; shortest: resize the shorter side, crop the centre; squash: resize both sides (SigLIP)",
)
declare(
    "INPUT.TRANSFORMS",
    ("random_resized_crop", "random_flip", "normalize"),
    allowed=TRANSFORMS,
    help="names of the training transforms",
)
declare("INPUT.NO_TRANSFORM", False, help="give images without any transform")
declare("INPUT.EXIF_ROTATE", False, help="apply the EXIF orientation; off in the published results")
declare(
    "INPUT.PIXEL_MEAN",
    [0.48145466, 0.4578275, 0.40821073],
    allowed=_MEANS,
    help="means of the channels R, G, B (0 to 1)",
)
declare(
    "INPUT.PIXEL_STD",
    [0.26862954, 0.26130258, 0.27577711],
    allowed=_SPREADS,
    help="standard deviations of the channels",
)
declare("INPUT.CROP_PADDING", 4, allowed=between(0, 10_000), help="random_crop: width of the border of zeros in pixels")
declare("INPUT.RRCROP_SCALE", (0.08, 1.0), allowed=_SHARES, help="random_resized_crop: range of the share of the area")
declare("INPUT.CUTOUT_N", 1, allowed=between(0, 1000), help="cutout: number of squares")
declare("INPUT.CUTOUT_LEN", 16, allowed=between(0, 10_000), help="cutout: side of a square in pixels")
declare("INPUT.GN_MEAN", 0.0, help="gaussian_noise: mean")
declare("INPUT.GN_STD", 0.15, allowed=at_least(0), help="gaussian_noise: standard deviation")
declare("INPUT.RANDAUGMENT_N", 2, allowed=between(0, 100), help="randaugment*: operations per image")
declare("INPUT.RANDAUGMENT_M", 10, allowed=between(0, 30), help="randaugment: magnitude")
declare("INPUT.COLORJITTER_B", 0.4, allowed=at_least(0), help="colorjitter: brightness")
declare("INPUT.COLORJITTER_C", 0.4, allowed=at_least(0), help="colorjitter: contrast")
declare("INPUT.COLORJITTER_S", 0.4, allowed=at_least(0), help="colorjitter: saturation")
declare("INPUT.COLORJITTER_H", 0.1, allowed=between(0, 0.5), help="colorjitter: hue")
declare("INPUT.RGS_P", 0.2, allowed=between(0, 1), help="randomgrayscale: probability")
declare("INPUT.GB_P", 0.5, allowed=between(0, 1), help="gaussian_blur: probability")
declare(
    "INPUT.GB_K",
    21,
    allowed=(lambda k: k > 0 and k % 2 == 1, "an odd number > 0"),
    help="gaussian_blur: kernel size in pixels, odd",
)


@declare_contradictions
def _blur_problems(cfg):
    c = cfg.INPUT
    if "gaussian_blur" not in c.TRANSFORMS or min(c.SIZE) > c.GB_K // 2:
        return []
    return [f"INPUT.GB_K {c.GB_K} is too large for images of INPUT.SIZE {tuple(c.SIZE)}: half of it must fit"]


def build_transform(cfg, is_train: bool = True, choices=None):
    """Build the transform of training or test images.

    Args:
        cfg: settings; INPUT.* is read.
        is_train: True: the random training transform; False: resize the shorter side to max(INPUT.SIZE) and crop the
            centre, or resize to INPUT.SIZE (INPUT.RESIZE_MODE); normalise.
        choices: names of transforms; None: INPUT.TRANSFORMS.

    Returns:
        a callable PIL image -> float tensor (3, H, W), or None if INPUT.NO_TRANSFORM is set.

    Raises:
        ValueError: an unknown name; the text gives the nearest valid name.
    """
    if cfg.INPUT.NO_TRANSFORM:
        return None
    names = cfg.INPUT.TRANSFORMS if choices is None else choices
    names = (names,) if isinstance(names, str) else tuple(names)
    for name in names:
        check_availability(name, TRANSFORMS, "transform (INPUT.TRANSFORMS)")
    cfg, size = cfg.INPUT, tuple(cfg.INPUT.SIZE)
    if not is_train:
        names = [name for name in names if name in _TEST]
        squash = cfg.RESIZE_MODE == "squash"
        steps = [_resize(size, cfg)] if squash else [_resize(max(size), cfg), T.CenterCrop(size)]
    elif "random_crop" in names or "random_resized_crop" in names:
        steps = []  # these resize themselves
    else:
        steps = [_resize(max(size) if "center_crop" in names else size, cfg)]
    steps += [make(cfg) for name, make in _ON_IMAGES.items() if name in names]
    steps.append(T.ToTensor())
    steps += [make(cfg) for name, make in _ON_TENSORS.items() if name in names]
    return T.Compose(steps)


def _mode(cfg) -> InterpolationMode:
    return INTERPOLATION_MODES[cfg.INTERPOLATION]


def _resize(size: int | tuple[int, int], cfg) -> T.Resize:
    return T.Resize(size, interpolation=_mode(cfg), antialias=True)


class _Step:
    """A step whose `repr` shows all parameters, as the repr of a transform is part of the cache key of features."""

    def __repr__(self):
        return f"{type(self).__name__}({', '.join(f'{name}={value}' for name, value in vars(self).items())})"


class RandomTranslation(_Step):
    """With probability p, resize to 9/8 of the size and crop a random window; otherwise resize only. PIL -> PIL."""

    def __init__(self, size: tuple[int, int], interpolation: InterpolationMode, p: float = 0.5):
        self.p = p
        self.resize = T.Resize(size, interpolation=interpolation, antialias=True)
        larger = [round(side * 1.125) for side in size]
        self.shift = T.Compose([T.Resize(larger, interpolation=interpolation, antialias=True), T.RandomCrop(size)])

    def __call__(self, image):
        return self.shift(image) if random.random() < self.p else self.resize(image)


class RandomMagnitude(_Step):
    """RandAugment with n operations of random magnitude, each applied with probability p. PIL -> PIL."""

    def __init__(self, n: int, p: float = 1.0):
        self.n, self.p = n, p
        self.operations = [T.RandAugment(num_ops=1, magnitude=m) for m in range(1, 31)]

    def __call__(self, image):
        for _ in range(self.n):
            if random.random() < self.p:
                image = random.choice(self.operations)(image)
        return image


class Cutout(_Step):
    """Set n squares with side `length` and random centres to zero. (3, H, W) -> (3, H, W)."""

    def __init__(self, n: int = 1, length: int = 16):
        self.n, self.length = n, length

    def __call__(self, image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        image = image.clone()
        for _ in range(self.n):
            top = random.randrange(height) - self.length // 2
            left = random.randrange(width) - self.length // 2
            image[..., max(top, 0) : max(top + self.length, 0), max(left, 0) : max(left + self.length, 0)] = 0
        return image


class GaussianNoise(_Step):
    """With probability p, add normal noise. (3, H, W) -> (3, H, W)."""

    def __init__(self, mean: float = 0.0, std: float = 0.15, p: float = 0.5):
        self.mean, self.std, self.p = mean, std, p

    def __call__(self, image: Tensor) -> Tensor:
        return image if random.random() >= self.p else image + torch.randn(image.shape) * self.std + self.mean


class InstanceNorm(_Step):
    """Shift and scale each channel to mean 0 and standard deviation 1. (3, H, W) -> (3, H, W)."""

    def __call__(self, image: Tensor) -> Tensor:
        mean = image.mean(dim=(-2, -1), keepdim=True)
        std = image.std(dim=(-2, -1), keepdim=True)
        return (image - mean) / (std + 1e-8)


# ---- compatibility: Dassl's names ----


class Random2DTranslation(RandomTranslation):
    def __init__(self, height: int, width: int, p: float = 0.5, interpolation=InterpolationMode.BILINEAR):
        super().__init__((height, width), interpolation, p)


InstanceNormalization = InstanceNorm
