"""A ResNet and a VGG of torch.nn, with torchvision's names, and small."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Block(nn.Module):
    """torchvision's BasicBlock."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride > 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    """ResNet-18's plan with `width` channels in its first stage."""

    def __init__(self, width: int = 64, classes: int = 10, blocks: tuple[int, ...] = (2, 2, 2, 2)) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        inputs = width
        for stage, count in enumerate(blocks):
            outputs = width << stage
            row = [
                Block(inputs if i == 0 else outputs, outputs, 2 if stage and i == 0 else 1)
                for i in range(count)
            ]
            setattr(self, f"layer{stage + 1}", nn.Sequential(*row))
            inputs = outputs
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for name, layer in self.named_children():
            if name.startswith("layer"):
                x = layer(x)
        return self.fc(self.avgpool(x).flatten(1))


def vgg(plan: str = "11222", width: int = 64, classes: int = 10, norm: bool = False) -> nn.Sequential:
    """A digit of the plan is so many 3x3 convolutions, each followed by ReLU, and a max-pool behind them."""
    layers: list[Any] = []
    inputs = 3
    for stage, count in enumerate(plan):
        outputs = width << min(stage, 3)
        for _ in range(int(count)):
            layers.append(nn.Conv2d(inputs, outputs, 3, padding=1))
            layers += [nn.BatchNorm2d(outputs)] if norm else []
            layers.append(nn.ReLU(inplace=True))
            inputs = outputs
        layers.append(nn.MaxPool2d(2))
    features = nn.Sequential(*layers)
    head = nn.Sequential(
        nn.Linear(inputs, 8 * width), nn.ReLU(), nn.Dropout(0.0), nn.Linear(8 * width, classes)
    )
    model = nn.Sequential()
    for name, part in (
        ("features", features),
        ("avgpool", nn.AdaptiveAvgPool2d(1)),
        ("flatten", nn.Flatten()),
    ):
        model.add_module(name, part)
    model.add_module("classifier", head)
    return model


def train(model: nn.Module, steps: int, x: Tensor, labels: Tensor, lr: float = 0.05) -> list[float]:
    """The losses of SGD with momentum on one batch."""
    optimizer = torch.optim.SGD(model.parameters(), lr, momentum=0.9)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), labels)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses
