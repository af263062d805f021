"""build_optimizer: an optimiser from the settings OPTIM.*."""

import warnings

import torch
from torch import nn

from dassl.config import TEXTS, at_least, between, declare, declare_contradictions
from dassl.utils import check_availability
from dassl.utils.errors import UserError

AVAIL_OPTIMS = ("adam", "amsgrad", "sgd", "rmsprop", "radam", "adamw")
AVAI_OPTIMS = AVAIL_OPTIMS  # Dassl's name

_BETA = (lambda value: 0 <= value < 1, "a number >= 0 and below 1")
declare("OPTIM.NAME", "adam", allowed=AVAIL_OPTIMS, help="optimiser")
declare("OPTIM.LR", 0.0003, allowed=between(0, 1_000_000), help="learning rate before any warm-up or decay")
declare("OPTIM.WEIGHT_DECAY", 5e-4, allowed=at_least(0), help="weight decay")
declare("OPTIM.MOMENTUM", 0.9, allowed=between(0, 1), help="momentum of sgd and rmsprop")
declare("OPTIM.SGD_DAMPNING", 0.0, allowed=between(0, 1), help="dampening of sgd's momentum")
declare("OPTIM.SGD_NESTEROV", False, help="Nesterov's momentum in sgd")
declare("OPTIM.RMSPROP_ALPHA", 0.99, allowed=between(0, 1), help="smoothing constant of rmsprop")
declare("OPTIM.ADAM_BETA1", 0.9, allowed=_BETA, help="first-moment decay of adam, amsgrad, radam, adamw")
declare("OPTIM.ADAM_BETA2", 0.999, allowed=_BETA, help="second-moment decay of adam, amsgrad, radam, adamw")
declare("OPTIM.ADAM_EPS", 1e-8, allowed=at_least(0), help="added to the denominator of adam, amsgrad, radam, adamw")
# compatibility: for trainers written for Dassl; no method here uses these three
declare("OPTIM.STAGED_LR", False, help="train layers other than NEW_LAYERS at LR * BASE_LR_MULT")
declare("OPTIM.NEW_LAYERS", (), allowed=TEXTS, help="STAGED_LR: names of the children of the model that train at LR")
declare("OPTIM.BASE_LR_MULT", 0.1, allowed=at_least(0), help="STAGED_LR: factor on LR for the other layers")


@declare_contradictions
def _nesterov_problems(cfg):
    c = cfg.OPTIM
    if c.NAME != "sgd" or not c.SGD_NESTEROV or (c.MOMENTUM > 0 and c.SGD_DAMPNING == 0):
        return []
    found = f"found OPTIM.MOMENTUM {c.MOMENTUM} and OPTIM.SGD_DAMPNING {c.SGD_DAMPNING}"
    return [f"OPTIM.SGD_NESTEROV True needs a momentum above 0 and dampening 0, {found}"]


def build_optimizer(model, optim_cfg, param_groups=None):
    """Build the optimiser OPTIM.NAME.

    Args:
        model: a module, or a list of parameters or of parameter groups.
        optim_cfg: cfg.OPTIM.
        param_groups: groups to use instead of the parameters of the model; STAGED_LR is then ignored.

    Raises:
        UserError: unknown OPTIM.NAME; STAGED_LR without a module, or with a layer that the module does not have.
    """
    check_availability(optim_cfg.NAME, AVAIL_OPTIMS)
    if param_groups is not None:
        if optim_cfg.STAGED_LR:
            warnings.warn("OPTIM.STAGED_LR is ignored because parameter groups are given", stacklevel=2)
        params = param_groups
    elif optim_cfg.STAGED_LR:
        params = _staged(model, optim_cfg)
    else:
        params = model.parameters() if isinstance(model, nn.Module) else model
    lr, decay = optim_cfg.LR, optim_cfg.WEIGHT_DECAY
    adam = {"lr": lr, "weight_decay": decay, "betas": (optim_cfg.ADAM_BETA1, optim_cfg.ADAM_BETA2)}
    adam["eps"] = optim_cfg.ADAM_EPS
    if optim_cfg.NAME == "sgd":
        return torch.optim.SGD(
            params,
            lr=lr,
            weight_decay=decay,
            momentum=optim_cfg.MOMENTUM,
            dampening=optim_cfg.SGD_DAMPNING,
            nesterov=optim_cfg.SGD_NESTEROV,
        )
    if optim_cfg.NAME == "rmsprop":
        return torch.optim.RMSprop(
            params, lr=lr, weight_decay=decay, momentum=optim_cfg.MOMENTUM, alpha=optim_cfg.RMSPROP_ALPHA
        )
    if optim_cfg.NAME == "radam":
        return torch.optim.RAdam(params, **adam)
    if optim_cfg.NAME == "adamw":
        return torch.optim.AdamW(params, **adam)
    return torch.optim.Adam(params, amsgrad=optim_cfg.NAME == "amsgrad", **adam)


def _staged(model, optim_cfg):
    """Compatibility: two groups, the new layers at LR and all others at LR * BASE_LR_MULT."""
    if not isinstance(model, nn.Module):
        raise UserError("OPTIM.STAGED_LR needs the names of layers: give build_optimizer a module, not parameters")
    if isinstance(model, nn.DataParallel):
        model = model.module
    new = [optim_cfg.NEW_LAYERS] if isinstance(optim_cfg.NEW_LAYERS, str) else list(optim_cfg.NEW_LAYERS)
    if not new:
        warnings.warn("OPTIM.STAGED_LR without OPTIM.NEW_LAYERS: all layers train at LR * BASE_LR_MULT", stacklevel=3)
    children = [name for name, _ in model.named_children()]
    for name in new:
        check_availability(name, children)
    groups = {True: [], False: []}
    for name, parameter in model.named_parameters():
        groups[name.partition(".")[0] in new].append(parameter)
    staged = [{"params": groups[False], "lr": optim_cfg.LR * optim_cfg.BASE_LR_MULT}, {"params": groups[True]}]
    return [group for group in staged if group["params"]]
