"""ResNet: He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition", 2015."""

from __future__ import annotations

from .. import Tensor, nn
from ._init import init_convolutions
from ._rows import Row

__all__ = ["BasicBlock", "Bottleneck", "ResNet", "resnet18", "resnet18_cifar", "resnet50"]


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    """A 1x1 convolution where the block changes the shape."""
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut: (N, inputs, H, W) to (N, width, H/stride, W/stride)."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _shortcut(inputs, width, stride)
        self._rows = (Row(), Row())

    def forward(self, x: Tensor) -> Tensor:
        first, last = self._rows
        shortcut = x if self.downsample is None else self.downsample(x)
        y = first(x, self.conv1, self.bn1, self.relu)
        return last(y, self.conv2, self.bn2, residual=shortcut, then=self.relu)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions and a shortcut; (N, inputs, H, W) to (N, 4*width, H/stride, W/stride).

    The stride is the 3x3 convolution's, as in torchvision ("v1.5"), not the first 1x1's, as in the paper.
    """

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int = 1) -> None:
        super().__init__()
        outputs = width * self.expansion
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()
        self.downsample = _shortcut(inputs, outputs, stride)
        self._rows = (Row(), Row(), Row())

    def forward(self, x: Tensor) -> Tensor:
        first, middle, last = self._rows
        shortcut = x if self.downsample is None else self.downsample(x)
        y = first(x, self.conv1, self.bn1, self.relu)
        y = middle(y, self.conv2, self.bn2, self.relu)
        return last(y, self.conv3, self.bn3, residual=shortcut, then=self.relu)


class ResNet(nn.Module):
    """A stem, stages of blocks, a global average and a dense layer.

    Images (N, 3, H, W) to logits (N, classes). cifar: a 3x3 stem of stride 1 and no max-pool.
    The weights have the names of torchvision's.
    """

    def __init__(
        self, block: type[BasicBlock | Bottleneck], blocks: tuple[int, ...], classes: int, cifar: bool = False
    ) -> None:
        super().__init__()
        size, stride = (3, 1) if cifar else (7, 2)
        self.conv1 = nn.Conv2d(3, 64, size, stride, size // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.maxpool = nn.Identity() if cifar else nn.MaxPool2d(3, 2, 1)
        self._stem = Row()
        self.stages = [f"layer{stage + 1}" for stage in range(len(blocks))]
        channels = 64
        for stage, (name, count) in enumerate(zip(self.stages, blocks, strict=True)):
            width = 64 << stage
            row = nn.Sequential()
            for i in range(count):
                row.append(block(channels, width, 2 if stage and not i else 1))
                channels = width * block.expansion
            self.add_module(name, row)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(channels, classes)
        init_convolutions(self, "relu")

    def forward(self, x: Tensor) -> Tensor:
        x = self._stem(x, self.conv1, self.bn1, self.relu, self.maxpool)
        for name in self.stages:
            x = getattr(self, name)(x)
        return self.fc(self.avgpool(x).flatten(1))


def resnet18(classes: int = 1000) -> ResNet:
    """Basic blocks 2, 2, 2, 2: 11,689,512 parameters; 224x224 images."""
    return ResNet(BasicBlock, (2, 2, 2, 2), classes)


def resnet50(classes: int = 1000) -> ResNet:
    """Bottlenecks 3, 4, 6, 3: 25,557,032 parameters; 224x224 images."""
    return ResNet(Bottleneck, (3, 4, 6, 3), classes)


def resnet18_cifar(classes: int = 10) -> ResNet:
    """resnet18 with the stem for 32x32 images: 11,173,962 parameters."""
    return ResNet(BasicBlock, (2, 2, 2, 2), classes, cifar=True)
