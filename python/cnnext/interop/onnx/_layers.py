"""ONNX operators that are dense layers, norms and activations of cnnext.nn."""

from __future__ import annotations

from typing import Any

import numpy as np

from ... import nn
from ...nn import Module, Parameter
from ._graph import Op
from ._node import BUILDERS, Node, bare, builds, given

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
    layer = bare(cls, weight.shape[0], eps, round(1 - momentum, 7))  # of two float32
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
    return given(layer, node, weight)


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
        "Silu": lambda node: nn.SiLU(),  # of _patterns
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
