"""How the networks of this package start, as torchvision's do."""

from __future__ import annotations

from .. import nn
from ..nn import init


def init_convolutions(model: nn.Module, nonlinearity: str) -> None:
    """He's normal distribution over the outputs of every convolution, biases zero."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity=nonlinearity)
            if module.bias is not None:
                init.zeros_(module.bias)


def init_dense(model: nn.Module, std: float = 0.01) -> None:
    """Small normal weights in every dense layer, biases zero."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            init.normal_(module.weight, 0.0, std)
            if module.bias is not None:
                init.zeros_(module.bias)
