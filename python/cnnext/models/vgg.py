"""VGG: Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", 2014."""

from __future__ import annotations

from typing import Any

from .. import Tensor, nn
from ._init import init_convolutions, init_dense

__all__ = ["VGG", "vgg11", "vgg11_bn", "vgg16", "vgg16_bn", "vgg_cifar"]

# Channels of 3x3 convolutions; "M" is a 2x2 max-pool.
_PLANS: dict[str, tuple[Any, ...]] = {
    "11": (64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"),
    "16": (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M"),
    "cifar": (64, "M", 128, "M", 256, 256, "M", 512, 512, "M"),
}


def _features(plan: tuple[Any, ...], batch_norm: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    channels = 3
    for width in plan:
        if width == "M":
            layers.append(nn.MaxPool2d(2, 2))
            continue
        layers.append(nn.Conv2d(channels, width, 3, padding=1))
        if batch_norm:
            layers.append(nn.BatchNorm2d(width))
        layers.append(nn.ReLU())
        channels = width
    return nn.Sequential(*layers)


class VGG(nn.Module):
    """3x3 convolutions and 2x2 max-pools, an average pool, and a classifier.

    Images (N, 3, H, W) to logits (N, classes). The weights have the names of torchvision's vgg11 to vgg19_bn.
    """

    def __init__(self, features: nn.Sequential, pooled: int, classifier: nn.Sequential) -> None:
        super().__init__()
        self.features = features
        self.avgpool = nn.AdaptiveAvgPool2d((pooled, pooled))
        self.classifier = classifier
        init_convolutions(self, "relu")
        init_dense(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


def _imagenet(plan: str, batch_norm: bool, classes: int, dropout: float) -> VGG:
    classifier = nn.Sequential(
        nn.Linear(512 * 7 * 7, 4096),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(4096, 4096),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(4096, classes),
    )
    return VGG(_features(_PLANS[plan], batch_norm), 7, classifier)


def vgg11(classes: int = 1000, dropout: float = 0.5) -> VGG:
    """Plan A of the paper: 132,863,336 parameters; 224x224 images, at least 32x32."""
    return _imagenet("11", False, classes, dropout)


def vgg11_bn(classes: int = 1000, dropout: float = 0.5) -> VGG:
    """vgg11 with batch norm after each convolution: 132,868,840 parameters."""
    return _imagenet("11", True, classes, dropout)


def vgg16(classes: int = 1000, dropout: float = 0.5) -> VGG:
    """Plan D of the paper: 138,357,544 parameters; 224x224 images, at least 32x32."""
    return _imagenet("16", False, classes, dropout)


def vgg16_bn(classes: int = 1000, dropout: float = 0.5) -> VGG:
    """vgg16 with batch norm after each convolution: 138,365,992 parameters."""
    return _imagenet("16", True, classes, dropout)


def vgg_cifar(classes: int = 10, dropout: float = 0.5) -> VGG:
    """Six convolutions with batch norm, one dense layer: 4,509,450 parameters; 32x32 images."""
    classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(512, classes))
    return VGG(_features(_PLANS["cifar"], True), 1, classifier)
