"""ONNX operators that are layers of cnnext.nn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ... import functional as F
from ... import nn, ops
from ...functional._common import as_tensor
from ...nn import Module, Parameter
from ._graph import Op
from ._node import Node, bare

#: A builder makes a module of a node, which is called with the node's first input, or a module and the
#: numbers of the inputs that it is called with.
BUILDERS: dict[str, Callable[[Node], Any]] = {}


def builds(*names: str) -> Callable:
    """Register a builder for operators of these names."""

    def register(function: Callable) -> Callable:
        BUILDERS.update(dict.fromkeys(names, function))
        return function

    return register


# ---- windows -------------------------------------------------------------------------------------------


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


def _given(layer: Any, node: Node, weight: Any, bias: int = 2) -> Any:
    layer.weight = weight
    if node.has(bias):
        layer.bias = node.parameter(bias, "bias")
    return layer


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
    return _given(layer, node, weight)


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
        return _given(layer, node, weight)
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


# ---- dense layers and norms ----------------------------------------------------------------------------


def _linear(weight: Parameter, bias: Parameter | None) -> Any:
    layer = bare(nn.Linear, weight.shape[1], weight.shape[0], bias is not None)
    layer.weight = weight
    if bias is not None:
        layer.bias = bias
    return layer


@builds("Gemm")
def _(node: Node) -> Any:
    alpha, beta = node.attribute("alpha", 1.0), node.attribute("beta", 1.0)
    transposed = [bool(node.attribute(name, 0)) for name in ("transA", "transB")]
    arrays = node.source.arrays
    weight = arrays.get(node.inputs[1])
    bias = arrays.get(node.inputs[2]) if node.has(2) else None
    plain = weight is not None and weight.ndim == 2 and not transposed[0] and alpha == 1.0
    if plain and (not node.has(2) or (bias is not None and beta == 1.0 and bias.ndim <= 2)):
        own = node.weight(1, "B") if transposed[1] else Parameter(np.ascontiguousarray(weight.T))
        if bias is None:
            return _linear(own, None)
        if bias.shape == (own.shape[0],):
            return _linear(own, node.parameter(2, "C"))
        if bias.size in (1, own.shape[0]) and bias.shape[:-1] in ((), (1,)):
            return _linear(own, Parameter(np.broadcast_to(bias.reshape(-1), own.shape[:1]).copy()))

    def gemm(a: Any, b: Any, c: Any = None) -> Any:
        a, b = (m.t() if t else m for m, t in zip((a, b), transposed, strict=True))
        y = a @ b if alpha == 1.0 else (a @ b) * alpha
        return y if c is None else y + (c if beta == 1.0 else c * beta)

    return Op(node.op, gemm), range(3 if node.has(2) else 2)


@builds("MatMul")
def _(node: Node) -> Any:
    source, name = node.source, node.inputs[1]
    if name in source.transposed:
        node.inputs[1] = source.transposed[name]
        return _linear_and_bias(node, node.weight(1, "B"))
    if name in source.initializers and node.inputs[0] not in source.arrays:
        weight = source.arrays[name]
        if weight.ndim == 2:
            return _linear_and_bias(node, Parameter(np.ascontiguousarray(weight.T)))
    return Op(node.op, lambda a, b: a @ b), (0, 1)


def _linear_and_bias(node: Node, weight: Any) -> Any:
    """With the bias that an Add behind it adds, if it does nothing else: that node is done then."""
    add, bias = node.source.only_user(node.outputs[0]), None
    if add is not None and add.op_type == "Add":
        other = [name for name in add.input if name != node.outputs[0]]
        array = node.source.arrays.get(other[0]) if other else None
        if array is not None and array.shape == (weight.shape[0],):
            node.inputs = [*node.inputs[:2], other[0]]
            bias = node.parameter(2, "bias")
            node.outputs = list(add.output)
            node.source.done.add(add.output[0])
    return _linear(weight, bias)


@builds("BatchNormalization")
def _(node: Node) -> Module:
    eps, momentum = node.attribute("epsilon", 1e-5), node.attribute("momentum", 0.9)
    node.only("training_mode", 0)
    node.only("spatial", 1)
    weight, bias = node.weight(1, "scale"), node.weight(2, "B")
    mean, var = node.weight(3, "mean"), node.weight(4, "var")
    cls = nn.BatchNorm2d if node.rank(0) == 4 else nn.BatchNorm1d
    layer = bare(cls, weight.shape[0], eps, 1 - momentum)
    layer.weight, layer.bias = weight, bias
    # The statistics are a layer's own: training changes them.
    layer.running_mean, layer.running_var = mean.own_array().copy(), var.own_array().copy()
    layer.num_batches_tracked = np.zeros((), np.int64)
    return layer


@builds("LayerNormalization")
def _(node: Node) -> Module:
    axis, eps = node.attribute("axis", -1), node.attribute("epsilon", 1e-5)
    node.only("stash_type", 1)
    weight = node.weight(1, "Scale")
    if axis not in (-weight.ndim, node.rank(0) - weight.ndim):
        raise node.unsupported(f"attribute axis={axis} with a scale of shape {list(weight.shape)}")
    layer = bare(nn.LayerNorm, weight.shape, eps, bias=node.has(2))
    return _given(layer, node, weight)


def _group_norm(node: Node, groups: int) -> Module:
    eps = node.attribute("epsilon", 1e-5)
    weight, bias = node.weight(1, "scale"), node.weight(2, "bias")
    layer = bare(nn.GroupNorm, groups, weight.shape[0], eps)
    layer.weight, layer.bias = weight, bias
    return layer


@builds("GroupNormalization")
def _(node: Node) -> Module:
    node.only("stash_type", 1)
    if node.opset < 21:
        raise node.unsupported("opset 18's form, with a scale for each group,")
    return _group_norm(node, node.attribute("num_groups"))


@builds("InstanceNormalization")
def _(node: Node) -> Module:
    return _group_norm(node, node.weight(1, "scale").shape[0])


# ---- activations ---------------------------------------------------------------------------------------

BUILDERS.update(
    {
        "Relu": lambda node: nn.ReLU(),
        "LeakyRelu": lambda node: nn.LeakyReLU(node.attribute("alpha", 0.01)),
        "Sigmoid": lambda node: nn.Sigmoid(),
        "Tanh": lambda node: nn.Tanh(),
        "Gelu": lambda node: nn.GELU(node.attribute("approximate", "none")),
        "Identity": lambda node: nn.Identity(),
    }
)


@builds("Clip")
def _(node: Node) -> Module:
    if node.opset < 11:
        low, high = node.attribute("min"), node.attribute("max")
    else:
        low, high = (
            None if a is None else a.item() for a in (node.constant(1, "min"), node.constant(2, "max"))
        )
    if (low, high) == (0, 6):
        return nn.ReLU6()
    if (low, high) == (0, None):
        return nn.ReLU()
    return nn.Identity() if low is None and high is None else Op(node.op, lambda x: x.clamp(low, high))


@builds("HardSigmoid")
def _(node: Node) -> Module:
    alpha, beta = node.attribute("alpha", 0.2), node.attribute("beta", 0.5)
    return Op(node.op, lambda x: (x * alpha + beta).clamp(0, 1))


@builds("HardSwish")
def _(node: Node) -> Module:
    return Op(node.op, lambda x: x * (x * (1 / 6) + 0.5).clamp(0, 1))


@builds("Softmax", "LogSoftmax")
def _(node: Node) -> Module:
    layer = nn.Softmax if node.op == "Softmax" else nn.LogSoftmax
    axis = node.attribute("axis", -1 if node.opset >= 13 else 1)
    if node.opset < 13 and axis not in (-1, node.rank(0) - 1):
        raise node.unsupported(f"attribute axis={axis} of opset {node.opset}, over all axes from there on,")
    return layer(axis)


@builds("Dropout")
def _(node: Node) -> Module:
    node.ignore("seed", "is_test")
    if node.opset < 12:
        return nn.Dropout(node.attribute("ratio", 0.5))
    training = node.constant(2, "training_mode")
    if training is not None and training.item():
        raise node.unsupported("training_mode=True")
    ratio = node.constant(1, "ratio")
    return nn.Dropout(0.5 if ratio is None else float(ratio.item()))
