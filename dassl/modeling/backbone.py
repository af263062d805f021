"""Backbones: networks from images (B, 3, H, W) to features (B, out_features)."""

from torch import nn

from dassl.utils.registry import Registry

BACKBONE_REGISTRY = Registry("BACKBONE")


class Backbone(nn.Module):
    """Base of backbones. A subclass sets `_out_features`."""

    @property
    def out_features(self):
        return self._out_features


class ResNet(Backbone):
    """torchvision's ResNet without its classifier; `pretrained`: with its weights of ImageNet, which are downloaded."""

    def __init__(self, name, pretrained=True):
        from torchvision import models  # slow, and methods on CLIP do not need it

        super().__init__()
        self.network = models.get_model(name, weights="IMAGENET1K_V1" if pretrained else None)
        self._out_features = self.network.fc.in_features
        self.network.fc = nn.Identity()

    def forward(self, x):
        return self.network(x)


def _register(name):
    BACKBONE_REGISTRY.register(lambda pretrained=True, **_: ResNet(name, pretrained), name=name)


for _name in ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"):
    _register(_name)


def build_backbone(name, verbose=True, **kwargs):
    """Build the backbone that is registered as `name`; its function or class is called with `kwargs`.

    Raises:
        UnknownNameError: the name is not registered, e.g. a name of CLIP such as RN50.
    """
    if verbose:
        print(f"Backbone: {name}")
    return BACKBONE_REGISTRY.get(name)(**kwargs)
