"""Networks of trainers that do not use CLIP, under Dassl's names: a backbone, a head, a classifier."""

from dassl.modeling.backbone import BACKBONE_REGISTRY, Backbone, build_backbone
from dassl.modeling.head import HEAD_REGISTRY, build_head
from dassl.modeling.network import NETWORK_REGISTRY, SimpleNet, build_network
