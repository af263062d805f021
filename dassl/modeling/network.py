"""Whole networks: SimpleNet, and a registry for those of users."""

from torch import nn

from dassl.modeling.backbone import build_backbone
from dassl.modeling.head import build_head
from dassl.utils.registry import Registry

NETWORK_REGISTRY = Registry("NETWORK")


class SimpleNet(nn.Module):
    """A backbone, a head if MODEL.HEAD.NAME and HIDDEN_LAYERS ask for one, and a linear classifier.

    Args:
        cfg: settings.
        model_cfg: cfg.MODEL.
        num_classes: C; 0: no classifier, the output is the feature.
        kwargs: further arguments of the backbone.
    """

    def __init__(self, cfg, model_cfg, num_classes, **kwargs):
        super().__init__()
        backbone, head = model_cfg.BACKBONE, model_cfg.HEAD
        self.backbone = build_backbone(backbone.NAME, verbose=cfg.VERBOSE, pretrained=backbone.PRETRAINED, **kwargs)
        self._fdim, self.head, self.classifier = self.backbone.out_features, None, None
        if head.NAME and head.HIDDEN_LAYERS:
            self.head = build_head(
                head.NAME,
                verbose=cfg.VERBOSE,
                in_features=self._fdim,
                hidden_layers=head.HIDDEN_LAYERS,
                activation=head.ACTIVATION,
                bn=head.BN,
                dropout=head.DROPOUT,
            )
            self._fdim = self.head.out_features
        if num_classes > 0:
            self.classifier = nn.Linear(self._fdim, num_classes)

    @property
    def fdim(self):
        return self._fdim

    def forward(self, x, return_feature=False):
        """Images (B, 3, H, W) -> logits (B, C), and with `return_feature` the features (B, fdim) as well."""
        feature = self.backbone(x)
        if self.head is not None:
            feature = self.head(feature)
        if self.classifier is None:
            return feature
        logits = self.classifier(feature)
        return (logits, feature) if return_feature else logits


def build_network(name, verbose=True, **kwargs):
    """Build the network that is registered as `name`. Raises UnknownNameError if there is none."""
    if verbose:
        print(f"Network: {name}")
    return NETWORK_REGISTRY.get(name)(**kwargs)
