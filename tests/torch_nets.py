"""The networks of cnnext.models again, as torch functions of a state_dict with torchvision's names."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F


class Weights:
    """A state_dict that notes which of its entries a network has asked for."""

    def __init__(self, state: dict[str, Any]) -> None:
        self.state, self.used = state, set()

    def __call__(self, name: str) -> Any:
        if name in self.state:
            self.used.add(name)
        return self.state.get(name)

    def unused(self) -> set[str]:
        return {n for n in self.state if not n.endswith("num_batches_tracked")} - self.used


def _conv(w: Weights, name: str, x: Any, stride: int = 1, padding: int = 0, groups: int = 1) -> Any:
    return F.conv2d(x, w(f"{name}.weight"), w(f"{name}.bias"), stride, padding, 1, groups)


def _linear(w: Weights, name: str, x: Any) -> Any:
    return F.linear(x, w(f"{name}.weight"), w(f"{name}.bias"))


def _norm(w: Weights, name: str, x: Any, training: bool) -> Any:
    mean, var = w(f"{name}.running_mean"), w(f"{name}.running_var")
    if training:  # the statistics are the network's under test
        mean, var = mean.clone(), var.clone()
    return F.batch_norm(x, mean, var, w(f"{name}.weight"), w(f"{name}.bias"), training)


def resnet(w: Weights, x: Any, training: bool, blocks: tuple, bottleneck: bool, cifar: bool = False) -> Any:
    x = _conv(w, "conv1", x, 1 if cifar else 2, 1 if cifar else 3)
    x = _norm(w, "bn1", x, training).relu()
    x = x if cifar else F.max_pool2d(x, 3, 2, 1)
    for stage, count in enumerate(blocks, 1):
        for i in range(count):
            p, stride = f"layer{stage}.{i}", 2 if stage > 1 and i == 0 else 1
            y = x
            for k, (padding, step) in enumerate(
                [(0, 1), (1, stride), (0, 1)] if bottleneck else [(1, stride), (1, 1)], 1
            ):
                y = y.relu() if k > 1 else y
                y = _norm(w, f"{p}.bn{k}", _conv(w, f"{p}.conv{k}", y, step, padding), training)
            if stride == 2 or x.shape[1] != y.shape[1]:
                x = _norm(w, f"{p}.downsample.1", _conv(w, f"{p}.downsample.0", x, stride), training)
            x = (x + y).relu()
    return _linear(w, "fc", x.mean((2, 3)))


def vgg(w: Weights, x: Any, training: bool, plan: str, batch_norm: bool, cifar: bool = False) -> Any:
    """plan: a digit is so many 3x3 convolutions, followed by a max-pool."""
    i = 0
    for count in map(int, plan):
        for _ in range(count):
            x = _conv(w, f"features.{i}", x, 1, 1)
            if batch_norm:
                i += 1
                x = _norm(w, f"features.{i}", x, training)
            x = x.relu()
            i += 2
        x = F.max_pool2d(x, 2)
        i += 1
    if cifar:
        return _linear(w, "classifier.1", x.mean((2, 3)))
    x = F.adaptive_avg_pool2d(x, 7).flatten(1)
    for k in (0, 3):
        x = _linear(w, f"classifier.{k}", x).relu()
    return _linear(w, "classifier.6", x)


def mobilenet_v2(w: Weights, x: Any, training: bool, cifar: bool = False) -> Any:
    def layer(name: str, x: Any, stride: int = 1, padding: int = 0, groups: int = 1) -> Any:
        y = _conv(w, f"{name}.0", x, stride, padding, groups)
        return F.relu6(_norm(w, f"{name}.1", y, training))

    x = layer("features.0", x, 1 if cifar else 2, 1)
    strides = [1, 1 if cifar else 2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1]
    for i, stride in enumerate(strides, 1):
        p, y = f"features.{i}.conv", x
        if i > 1:
            y = layer(f"{p}.0", y)
        y = layer(f"{p}.{int(i > 1)}", y, stride, 1, y.shape[1])
        last = 1 + int(i > 1)
        y = _norm(w, f"{p}.{last + 1}", _conv(w, f"{p}.{last}", y), training)
        x = x + y if x.shape == y.shape else y
    return _linear(w, "classifier.1", layer("features.18", x).mean((2, 3)))


def convnext(w: Weights, x: Any, training: bool, depths: tuple = (3, 3, 9, 3)) -> Any:
    def norm(name: str, x: Any) -> Any:
        return F.layer_norm(x, x.shape[-1:], w(f"{name}.weight"), w(f"{name}.bias"), 1e-6)

    def norm2d(name: str, x: Any) -> Any:
        return norm(name, x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    x = norm2d("features.0.1", _conv(w, "features.0.0", x, 4))
    for stage, depth in enumerate(depths):
        if stage:
            x = _conv(w, f"features.{2 * stage}.1", norm2d(f"features.{2 * stage}.0", x), 2)
        for i in range(depth):
            p = f"features.{2 * stage + 1}.{i}"
            y = _conv(w, f"{p}.block.0", x, 1, 3, x.shape[1]).permute(0, 2, 3, 1)
            y = F.gelu(_linear(w, f"{p}.block.3", norm(f"{p}.block.2", y)))
            x = x + w(f"{p}.layer_scale") * _linear(w, f"{p}.block.5", y).permute(0, 3, 1, 2)
    return _linear(w, "classifier.2", norm2d("classifier.0", x.mean((2, 3), keepdim=True)).flatten(1))


def segnet(w: Weights, x: Any, training: bool, depths: tuple = (2, 2, 3, 3, 3)) -> Any:
    def row(name: str, x: Any, depth: int, bare: bool = False) -> Any:
        for k in range(depth):
            x = _conv(w, f"{name}.{3 * k}", x, 1, 1)
            if not (bare and k == depth - 1):
                x = _norm(w, f"{name}.{3 * k + 1}", x, training).relu()
        return x

    places = []
    for stage, depth in enumerate(depths):
        x = row(f"encoder.{stage}", x, depth)
        size = x.shape[-2:]
        x, indices = F.max_pool2d(x, 2, return_indices=True)
        places.append((indices, size))
    for stage, depth in enumerate(reversed(depths)):
        indices, size = places.pop()
        x = F.max_unpool2d(x, indices, 2, output_size=size)
        x = row(f"decoder.{stage}", x, depth, stage == len(depths) - 1)
    return x
