"""Which ONNX nodes convolutions, pools, dense layers, norms and activations become."""

from __future__ import annotations

from typing import Any

import numpy as np

from ... import _C
from ._builder import Builder, rule

# ---- windows -------------------------------------------------------------------------------------------


def _sides(padding: Any, sizes: Any, kernel: Any, stride: Any, dilation: Any) -> Any:
    """((top, bottom), (left, right)) for any way to give padding."""
    if padding == "valid":
        return ((0, 0), (0, 0))
    if padding != "same":
        return _C.parse_padding(padding)
    sides = []
    for n, k, s, d in zip(sizes, kernel, stride, dilation, strict=True):
        total = max((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, 0)
        sides.append((total // 2, total - total // 2))
    return tuple(sides)


def _window(
    sizes: Any, kernel: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1
) -> dict[str, list[int]]:
    """ONNX's attributes of a window that moves over an image of these sizes."""
    kernel = _C.parse_pair(kernel, "kernel_size")
    stride = kernel if stride is None else _C.parse_pair(stride, "stride")
    dilation = _C.parse_pair(dilation, "dilation")
    (top, bottom), (left, right) = _sides(padding, sizes, kernel, stride, dilation)
    attributes = {"kernel_shape": kernel, "strides": stride, "pads": (top, left, bottom, right)}
    if tuple(dilation) != (1, 1):
        attributes["dilations"] = dilation
    return {name: list(map(int, values)) for name, values in attributes.items()}


def _activation(g: Builder, x: str, kind: str, negative_slope: float = 0.01) -> str:
    if kind == "relu6":
        return g.emit("Clip", [x, g.constant(0, g.dtype()), g.constant(6, g.dtype())])
    if kind == "silu":
        return g.emit("Mul", [x, g.emit("Sigmoid", [x])])
    if kind in ("gelu", "gelu_tanh"):
        return g.emit("Gelu", [x], approximate="none" if kind == "gelu" else "tanh")
    if kind == "leaky_relu":
        return g.emit("LeakyRelu", [x], alpha=float(negative_slope))
    return g.emit({"relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh"}[kind], [x])


@rule("activation", "activation_of_sign")
def _(g: Builder, x: str, *, kind: str, negative_slope: float) -> str:
    return _activation(g, x, kind, negative_slope)


@rule("conv2d")
def _conv(g: Builder, x: str, weight: str, bias: str, *, geometry: dict) -> str:
    window = _window(
        g.shapes[0][2:], g.shapes[1][2:], geometry["stride"], geometry["padding"], geometry["dilation"]
    )
    return g.emit("Conv", [x, weight, bias], group=int(geometry["groups"]), **window)


@rule("conv2d_relu")
def _conv_relu(g: Builder, x: str, weight: str, bias: str, *, geometry: dict) -> str:
    return g.emit("Relu", [_conv(g, x, weight, bias, geometry=geometry)])


@rule("conv2d_relu_max_pool2d")
def _(g: Builder, x: str, weight: str, bias: str, *, geometry: dict, window: dict) -> str:
    y = _conv_relu(g, x, weight, bias, geometry=geometry)
    sizes = ()  # "same" is none of this operation's
    return g.emit(
        "MaxPool", [y], **_window(sizes, window["pool_size"], window["pool_stride"], window["pool_padding"])
    )


@rule("conv_transpose2d")
def _(g: Builder, x: str, weight: str, bias: str, *, output_padding: Any, geometry: dict) -> str:
    if isinstance(geometry["padding"], str):
        raise NotImplementedError(f"padding={geometry['padding']!r} is not supported")
    window = _window((), g.shapes[1][2:], geometry["stride"], geometry["padding"], geometry["dilation"])
    extra = list(_C.parse_pair(output_padding, "output_padding"))
    if any(extra):
        window["output_padding"] = extra
    return g.emit("ConvTranspose", [x, weight, bias], group=int(geometry["groups"]), **window)


@rule("max_pool2d")
def _(g: Builder, x: str, *, window: dict, kind: str) -> Any:
    attributes: dict[str, Any] = _window(
        g.shapes[0][2:], window["kernel_size"], window["stride"], window["padding"], window["dilation"]
    )
    attributes["ceil_mode"] = int(window["ceil_mode"])
    if kind == "window":  # what training keeps
        return g.emit("MaxPool", [x], **attributes)
    y, indices = g.emit("MaxPool", [x], 2, **attributes)
    g.note_indices(indices)
    return y, indices


@rule("max_unpool2d")
def _(
    g: Builder, x: Any, indices: Any, *, kernel_size: Any, stride: Any, padding: Any, output_size: Any
) -> str:
    window = _window((), kernel_size, stride, padding)
    top, left, bottom, right = window["pads"]
    usual = tuple(
        (n - 1) * s + k - p
        for n, s, k, p in zip(
            g.shapes[0][2:],
            window["strides"],
            window["kernel_shape"],
            (top + bottom, left + right),
            strict=True,
        )
    )
    if output_size is not None and tuple(output_size)[-2:] != usual:
        raise NotImplementedError(
            f"the size {tuple(output_size)[-2:]} is not the usual {usual}; ONNX's operator and ONNX Runtime "
            "differ in what the indices mean then"
        )
    return g.emit("MaxUnpool", [g.use(x), g.indices(indices)], **window)


@rule("avg_pool2d")
def _(g: Builder, x: str, *, window: dict) -> str:
    if window["divisor_override"] is not None:
        raise NotImplementedError("divisor_override is not supported")
    attributes = _window(g.shapes[0][2:], window["kernel_size"], window["stride"], window["padding"])
    return g.emit(
        "AveragePool",
        [x],
        ceil_mode=int(window["ceil_mode"]),
        count_include_pad=int(window["count_include_pad"]),
        **attributes,
    )


def _means(size: int, count: int, dtype: Any) -> np.ndarray:
    """The matrix (count, size) of an adaptive average pool along one axis."""
    matrix = np.zeros((count, size), dtype)
    for i in range(count):
        first, last = i * size // count, -(-(i + 1) * size // count)
        matrix[i, first:last] = 1 / (last - first)
    return matrix


@rule("adaptive_avg_pool2d")
def _(g: Builder, x: str, *, output_size: Any) -> str:
    sizes, out = g.shapes[0][2:], g.outputs[0].shape[2:]
    if out == (1, 1):
        return g.emit("GlobalAveragePool", [x])
    if 0 not in out and not any(n % m for n, m in zip(sizes, out, strict=True)):
        kernel = tuple(n // m for n, m in zip(sizes, out, strict=True))
        return x if kernel == (1, 1) else g.emit("AveragePool", [x], **_window((), kernel))
    rows, columns = (_means(n, m, g.dtype()) for n, m in zip(sizes, out, strict=True))
    y = g.emit("MatMul", [g.constant(rows, g.dtype()), x])
    return g.emit("MatMul", [y, g.constant(columns.T, g.dtype())])


# ---- dense layers and norms ----------------------------------------------------------------------------


@rule("linear")
def _linear(g: Builder, x: str, weight: str, bias: str) -> str:
    if len(g.shapes[0]) == 2:
        return g.emit("Gemm", [x, weight, bias], transB=1)
    y = g.emit("MatMul", [x, g.emit("Transpose", [weight], perm=[1, 0])])
    return g.emit("Add", [y, bias]) if bias else y


@rule("linear_relu")
def _(g: Builder, x: str, weight: str, bias: str) -> str:
    return g.emit("Relu", [_linear(g, x, weight, bias)])


@rule("batch_norm", "batch_norm_activation")
def _(
    g: Builder, x: str, weight: str, bias: str, mean: str, var: str, *, training: bool, momentum: float,
    eps: float, activation: str | None = None,
) -> str:  # fmt: skip
    if training:
        raise NotImplementedError("statistics of the batch are not supported")
    channels = g.shapes[0][1]
    weight = weight or g.constant(np.ones(channels), g.dtype())
    bias = bias or g.constant(np.zeros(channels), g.dtype())
    y = g.emit("BatchNormalization", [x, weight, bias, mean, var], epsilon=float(eps))
    return y if activation is None else _activation(g, y, activation)


@rule("layer_norm")
def _(g: Builder, x: str, weight: str, bias: str, *, normalized_shape: Any, eps: float) -> str:
    shape = (normalized_shape,) if np.ndim(normalized_shape) == 0 else tuple(normalized_shape)
    weight = weight or g.constant(np.ones(shape), g.dtype())
    return g.emit("LayerNormalization", [x, weight, bias], axis=-len(shape), epsilon=float(eps))


@rule("group_norm")
def _(g: Builder, x: str, weight: str, bias: str, *, num_groups: int, eps: float) -> str:
    channels, g.opset = g.shapes[0][1], 21
    weight = weight or g.constant(np.ones(channels), g.dtype())
    bias = bias or g.constant(np.zeros(channels), g.dtype())
    return g.emit("GroupNormalization", [x, weight, bias], num_groups=int(num_groups), epsilon=float(eps))


@rule("softmax")
def _(g: Builder, x: str, *, dim: int) -> str:
    return g.emit("Softmax", [x], axis=int(dim))


@rule("log_softmax")
def _(g: Builder, x: str, *, dim: int) -> str:
    return g.emit("LogSoftmax", [x], axis=int(dim))
