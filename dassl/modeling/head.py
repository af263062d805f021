"""Heads: layers between backbone and classifier."""

from torch import nn

from dassl.utils.registry import Registry, check_availability

HEAD_REGISTRY = Registry("HEAD")
ACTIVATIONS = {"relu": nn.ReLU, "leaky_relu": nn.LeakyReLU}


@HEAD_REGISTRY.register(name="mlp")
class MLP(nn.Module):
    """Linear layers, each with an activation and, if wanted, batch normalisation and dropout."""

    def __init__(self, in_features=2048, hidden_layers=(), activation="relu", bn=True, dropout=0.0):
        super().__init__()
        check_availability(activation, ACTIVATIONS, "activation")
        widths = [hidden_layers] if isinstance(hidden_layers, int) else list(hidden_layers)
        layers = []
        for width in widths:
            layers.append(nn.Linear(in_features, width))
            layers += [nn.BatchNorm1d(width)] if bn else []
            layers.append(ACTIVATIONS[activation]())
            layers += [nn.Dropout(dropout)] if dropout > 0 else []
            in_features = width
        self.layers = nn.Sequential(*layers)
        self.out_features = in_features

    def forward(self, x):
        return self.layers(x)


def build_head(name, verbose=True, **kwargs):
    """Build the head that is registered as `name`. Raises UnknownNameError if there is none."""
    if verbose:
        print(f"Head: {name}")
    return HEAD_REGISTRY.get(name)(**kwargs)
