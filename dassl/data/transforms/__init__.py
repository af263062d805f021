"""Image transforms, chosen by name in INPUT.TRANSFORMS."""

from .transforms import INTERPOLATION_MODES, TRANSFORMS, build_transform
