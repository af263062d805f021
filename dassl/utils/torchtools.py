"""Dassl's tools for checkpoints and layers of a network, for trainers written for Dassl."""

from torch import nn

from dassl.runs.checkpoint_file import (  # noqa: F401  names of Dassl
    load_checkpoint,
    load_pretrained_weights,
    resume_from_checkpoint,
    save_checkpoint,
)
from dassl.utils.registry import check_availability
from dassl.utils.tools import count_num_param  # noqa: F401


def open_all_layers(model):
    """Put a model in training mode and make all its parameters learnable."""
    model.train()
    model.requires_grad_(True)


def open_specified_layers(model, open_layers):
    """Make the named children of a model learnable, in training mode; freeze all others, in evaluation mode.

    Raises:
        UnknownNameError: the model has no child of this name.
    """
    model = model.module if isinstance(model, nn.DataParallel) else model
    names = [open_layers] if isinstance(open_layers, str) else list(open_layers)
    children = dict(model.named_children())
    for name in names:
        check_availability(name, children, "layer")
    for name, child in children.items():
        child.train(name in names)
        child.requires_grad_(name in names)


INITIALISERS = {
    "normal": lambda weight, gain: nn.init.normal_(weight, 0.0, gain),
    "xavier": lambda weight, gain: nn.init.xavier_normal_(weight, gain=gain),
    "kaiming": lambda weight, gain: nn.init.kaiming_normal_(weight),
    "orthogonal": lambda weight, gain: nn.init.orthogonal_(weight, gain=gain),
}


def init_network_weights(model, init_type="normal", gain=0.02):
    """Draw the weights of convolutions and linear layers; norms become the identity and biases 0."""
    check_availability(init_type, INITIALISERS, "initialisation")
    for module in model.modules():
        if isinstance(module, (nn.modules.conv._ConvNd, nn.Linear)):
            INITIALISERS[init_type](module.weight, gain)
        elif isinstance(module, (nn.modules.batchnorm._BatchNorm, nn.InstanceNorm2d)) and module.weight is not None:
            nn.init.ones_(module.weight)
        else:
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)
