"""Small networks by name: ``models.create("digits-cnn")``.

A model is an `nn.Module` that maps float32 images (N, C, H, W) to logits (N, classes).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .small import DigitsCNN, LeNet5

if TYPE_CHECKING:
    from .. import nn

__all__ = ["DigitsCNN", "LeNet5", "create", "names"]

_MODELS: dict[str, type[nn.Module]] = {
    "digits-cnn": DigitsCNN,
    "lenet5": LeNet5,
}


def names() -> list[str]:
    """The names that `create` knows."""
    return sorted(_MODELS)


def create(name: str, **options: Any) -> nn.Module:
    """A freshly initialised model; `options` go to its constructor. Seed it with `cnnext.manual_seed`."""
    if name not in _MODELS:
        raise ValueError(f"name is {name!r}; the rule is one of {', '.join(names())}")
    return _MODELS[name](**options)
