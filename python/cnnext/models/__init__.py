"""Networks by name: ``models.create("resnet18")``; docs/MODELS.md lists them.

A model is an `nn.Module` that maps float32 images (N, C, H, W) to logits, (N, classes) or, for segnet,
(N, classes, H, W). Where torchvision has the network, its weights have torchvision's names and shapes, so
that a state_dict of it loads: ``model.load_state_dict(cnnext.load("resnet18.safetensors"))``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import nn
from .convnext import ConvNeXt, convnext_tiny
from .mobilenet import MobileNetV2, mobilenet_v2, mobilenet_v2_cifar
from .resnet import ResNet, resnet18, resnet18_cifar, resnet50
from .segnet import SegNet, segnet, segnet_small
from .small import DigitsCNN, LeNet5, MnistCNN
from .vgg import VGG, vgg11, vgg11_bn, vgg16, vgg16_bn, vgg_cifar

_MODELS: dict[str, Callable[..., nn.Module]] = {
    "digits-cnn": DigitsCNN,
    "mnist-cnn": MnistCNN,
    "lenet5": LeNet5,
    "vgg11": vgg11,
    "vgg11_bn": vgg11_bn,
    "vgg16": vgg16,
    "vgg16_bn": vgg16_bn,
    "vgg_cifar": vgg_cifar,
    "resnet18": resnet18,
    "resnet50": resnet50,
    "resnet18_cifar": resnet18_cifar,
    "mobilenet_v2": mobilenet_v2,
    "mobilenet_v2_cifar": mobilenet_v2_cifar,
    "convnext_tiny": convnext_tiny,
    "segnet": segnet,
    "segnet_small": segnet_small,
}

__all__ = [
    "VGG",
    "ConvNeXt",
    "DigitsCNN",
    "LeNet5",
    "MnistCNN",
    "MobileNetV2",
    "ResNet",
    "SegNet",
    "convnext_tiny",
    "create",
    "mobilenet_v2",
    "mobilenet_v2_cifar",
    "names",
    "resnet18",
    "resnet18_cifar",
    "resnet50",
    "segnet",
    "segnet_small",
    "vgg11",
    "vgg11_bn",
    "vgg16",
    "vgg16_bn",
    "vgg_cifar",
]


def names() -> list[str]:
    """The names that `create` knows."""
    return sorted(_MODELS)


def create(name: str, **options: Any) -> nn.Module:
    """A freshly initialised model; `options` go to its constructor. Seed it with `cnnext.manual_seed`."""
    if name not in _MODELS:
        raise ValueError(f"name is {name!r}; the rule is one of {', '.join(names())}")
    return _MODELS[name](**options)
