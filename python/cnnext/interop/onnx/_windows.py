"""ONNX operators that move a window over images: convolutions and pools."""

from __future__ import annotations

from typing import Any

from ... import functional as F
from ... import nn, ops
from ...functional._common import as_tensor
from ...nn import Module, Parameter
from ._graph import Op
from ._node import Node, bare, builds, given


class _Padding:
    """ONNX's auto_pad and pads as cnnext's padding: where it follows from the image, at each call."""

    def __init__(self, node: Node, kernel: Any, stride: Any, dilation: Any) -> None:
        self._kernel, self._stride, self._dilation = kernel, stride, dilation
        self.auto = node.only("auto_pad", "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER")
        top, left, bottom, right = node.attribute("pads", [0, 0, 0, 0])
        if min(top, left, bottom, right) < 0:
            raise node.unsupported(f"attribute pads={[top, left, bottom, right]}")
        self.sides = ((top, bottom), (left, right)) if self.auto == "NOTSET" else ((0, 0), (0, 0))

    @property
    def given(self) -> Any:
        """Where it is the same on all sides of an axis: (height, width), else side by side."""
        (top, bottom), (left, right) = self.sides
        return (top, left) if (top, left) == (bottom, right) else self.sides

    @property
    def is_static(self) -> bool:
        """Does it not depend on the image?"""
        return not self.auto.startswith("SAME")

    def of(self, x: Any) -> Any:
        """For this image."""
        if self.is_static:
            return self.sides
        sides = []
        for n, k, s, d in zip(x.shape[-2:], self._kernel, self._stride, self._dilation, strict=True):
            total = max((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, 0)
            less, more = total // 2, total - total // 2
            sides.append((less, more) if self.auto == "SAME_UPPER" else (more, less))
        return tuple(sides)


def _pair(node: Node, name: str, default: Any = (1, 1)) -> tuple[int, int]:
    value = tuple(node.attribute(name, default))
    if len(value) != 2:
        raise node.unsupported(f"attribute {name}={list(value)}, not of two dimensions,")
    return value


def _window(node: Node, kernel: Any) -> tuple[Any, Any, _Padding]:
    stride, dilation = _pair(node, "strides"), _pair(node, "dilations")
    return stride, dilation, _Padding(node, kernel, stride, dilation)


def _weight_of_images(node: Node) -> Parameter:
    weight = node.weight(1, "W")
    if weight.ndim != 4:
        raise node.unsupported(f"a weight of {weight.ndim} axes, not of 4,")
    node.ignore("kernel_shape")  # it is the weight's
    return weight


class _AutoPadConv2d(nn.Conv2d):
    """A convolution whose padding follows from its image, the odd one at the beginning."""

    padding_of: _Padding

    def forward(self, x: Any) -> Any:
        x = as_tensor(x)
        padding = self.padding_of.of(x)
        return F.conv2d(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)


@builds("Conv")
def _(node: Node) -> Module:
    weight = _weight_of_images(node)
    stride, dilation, padding = _window(node, weight.shape[2:])
    groups = node.attribute("group", 1)
    dynamic = padding.auto == "SAME_LOWER"
    layer = bare(
        _AutoPadConv2d if dynamic else nn.Conv2d,
        *(weight.shape[1] * groups, weight.shape[0], weight.shape[2:], stride),
        *("same" if padding.auto == "SAME_UPPER" else padding.given, dilation, groups, node.has(2)),
    )
    if dynamic:
        layer.padding_of = padding
    return given(layer, node, weight)


@builds("ConvTranspose")
def _(node: Node) -> Any:
    weight = _weight_of_images(node)
    stride, dilation, padding = _window(node, weight.shape[2:])
    if not padding.is_static or node.attribute("output_shape") is not None:
        raise node.unsupported("attribute auto_pad or output_shape")
    groups, extra = node.attribute("group", 1), _pair(node, "output_padding", (0, 0))
    if isinstance(padding.given[0], int):
        layer = bare(
            nn.ConvTranspose2d,
            *(weight.shape[0], weight.shape[1] * groups, weight.shape[2:], stride, padding.given),
            *(extra, groups, node.has(2), dilation),
        )
        return given(layer, node, weight)
    node.parameter(1, "W")
    how = {"stride": stride, "padding": padding.sides, "output_padding": extra, "groups": groups}
    apply = lambda x, w, b=None: F.conv_transpose2d(x, w, b, **how, dilation=dilation)  # noqa: E731
    return Op(node.op, apply), range(3 if node.has(2) else 2)


def _pool_padding(padding: _Padding, kernel: Any, dilation: Any) -> Any:
    """As torch has it where torch takes it: at most half the effective kernel."""
    given = padding.given
    halves = [(d * (k - 1) + 1) // 2 for k, d in zip(kernel, dilation, strict=True)]
    if isinstance(given[0], int) and all(p <= half for p, half in zip(given, halves, strict=True)):
        return given
    return padding.sides


@builds("MaxPool")
def _(node: Node) -> Module:
    kernel = _pair(node, "kernel_shape", ())
    stride, dilation, padding = _window(node, kernel)
    ceil_mode = bool(node.attribute("ceil_mode", 0))
    target = "onnx_column_major" if node.attribute("storage_order", 0) else "onnx"
    if len(node.outputs) == 1 and padding.is_static:
        sides = _pool_padding(padding, kernel, dilation)
        return nn.MaxPool2d(kernel, stride, sides, dilation, ceil_mode=ceil_mode)
    want = len(node.outputs) == 2

    def pool(x: Any) -> Any:
        window = (kernel, stride, padding.of(x), dilation, ceil_mode)
        if not want:
            return F.max_pool2d(x, *window)
        y, plane = F.max_pool2d(x, *window, True)
        return y, as_tensor(ops.convert_indices(plane.data, x.shape, *window, source="plane", target=target))

    return Op(node.op, pool)


@builds("MaxUnpool")
def _(node: Node) -> Any:
    kernel = _pair(node, "kernel_shape", ())
    stride, _, padding = _window(node, kernel)
    if not padding.is_static or node.has(2):
        raise node.unsupported("auto_pad or input output_shape")  # of which ONNX and its runtimes differ
    sizes = padding.sides

    def unpool(x: Any, indices: Any) -> Any:
        height, width = (
            (n - 1) * s + k - sum(side)
            for n, s, k, side in zip(x.shape[2:], stride, kernel, sizes, strict=True)
        )
        plane = as_tensor(indices).data % (height * width)
        return F.max_unpool2d(x, plane, kernel, stride, sizes)

    return Op(node.op, unpool), (0, 1)


@builds("AveragePool")
def _(node: Node) -> Module:
    kernel = _pair(node, "kernel_shape", ())
    node.only("dilations", None, [1, 1])
    stride, dilation, padding = _window(node, kernel)
    ceil_mode, count = bool(node.attribute("ceil_mode", 0)), bool(node.attribute("count_include_pad", 0))
    if padding.is_static:
        sides = _pool_padding(padding, kernel, dilation)
        return nn.AvgPool2d(kernel, stride, sides, ceil_mode, count)
    return Op(node.op, lambda x: F.avg_pool2d(x, kernel, stride, padding.of(x), ceil_mode, count))


@builds("GlobalAveragePool")
def _(node: Node) -> Module:
    return nn.AdaptiveAvgPool2d(1)


@builds("GlobalMaxPool")
def _(node: Node) -> Module:
    return Op(node.op, lambda x: x.amax(tuple(range(2, x.ndim)), keepdim=True))
