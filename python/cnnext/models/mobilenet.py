"""MobileNetV2: Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", 2018."""

from __future__ import annotations

from .. import Tensor, nn
from ._init import init_convolutions, init_dense
from ._rows import Row

__all__ = ["InvertedResidual", "MobileNetV2", "mobilenet_v2", "mobilenet_v2_cifar"]

# Expansion, output channels, number of blocks, stride of the first.
_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def _conv_bn_relu6(inputs: int, outputs: int, size: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU6(),
    )


class InvertedResidual(nn.Module):
    """1x1 to more channels, 3x3 depthwise, 1x1 to fewer; added to the input where the shape stays.

    (N, inputs, H, W) to (N, outputs, H/stride, W/stride).
    """

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.conv = nn.Sequential()
        if expansion != 1:
            self.conv.append(_conv_bn_relu6(inputs, hidden, 1))
        self.conv.append(_conv_bn_relu6(hidden, hidden, 3, stride, groups=hidden))
        self.conv.append(nn.Conv2d(hidden, outputs, 1, bias=False))
        self.conv.append(nn.BatchNorm2d(outputs))
        self.residual = stride == 1 and inputs == outputs
        self._row = Row()

    def forward(self, x: Tensor) -> Tensor:
        if not self.residual:
            return self.conv(x)
        plain = type(self.conv) is nn.Sequential and not getattr(self.conv, "_hooks", None)
        if not plain or "forward" in vars(self.conv):
            return x + self.conv(x)  # somebody has changed it, or looks on
        return self._row(x, *self.conv, residual=x)


class MobileNetV2(nn.Module):
    """A stem, 17 inverted residuals, a 1x1 convolution, a global average and a dense layer.

    Images (N, 3, H, W) to logits (N, classes). cifar: the stem and the first stage of stride 2 have stride 1.
    The weights have the names of torchvision's.
    """

    def __init__(self, classes: int = 1000, dropout: float = 0.2, cifar: bool = False) -> None:
        super().__init__()
        self.features = nn.Sequential(_conv_bn_relu6(3, 32, 3, 1 if cifar else 2))
        channels = 32
        for stage, (expansion, outputs, count, first_stride) in enumerate(_STAGES):
            for i in range(count):
                stride = 1 if i or (cifar and stage == 1) else first_stride
                self.features.append(InvertedResidual(channels, outputs, stride, expansion))
                channels = outputs
        self.features.append(_conv_bn_relu6(channels, 1280, 1))
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(1280, classes))
        init_convolutions(self, "leaky_relu")
        init_dense(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


def mobilenet_v2(classes: int = 1000, dropout: float = 0.2) -> MobileNetV2:
    """Width 1: 3,504,872 parameters; 224x224 images."""
    return MobileNetV2(classes, dropout)


def mobilenet_v2_cifar(classes: int = 10, dropout: float = 0.2) -> MobileNetV2:
    """mobilenet_v2 with the strides for 32x32 images: 2,236,682 parameters."""
    return MobileNetV2(classes, dropout, cifar=True)
