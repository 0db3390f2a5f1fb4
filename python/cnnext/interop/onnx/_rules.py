"""Which ONNX nodes an operation of cnnext becomes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx

from ... import _C
from ._trace import Call, Value

OPSET = 20

#: By the operation's name: rule(builder, *args, **params) -> the names of its outputs. `shapes` and `dtypes`
#: of the arguments are the builder's while it runs.
RULES: dict[str, Callable[..., Any]] = {}


def _rule(*names: str) -> Callable:
    def register(function: Callable) -> Callable:
        RULES.update(dict.fromkeys(names, function))
        return function

    return register


class Builder:
    """The nodes of a graph, and the arrays that they use."""

    def __init__(self, x: Value, outputs: int) -> None:
        self.nodes: list[Any] = []
        self.arrays: dict[str, np.ndarray] = {}
        self.names: dict[Value, str] = {x: "x"}
        self.opset = OPSET
        self.shapes: list[tuple[int, ...]] = []
        self.outputs: tuple[Value, ...] = ()
        self._indices: set[str] = set()
        self._taken = {"x", "y", *(f"y{i}" for i in range(outputs))}  # the graph's own

    def use(self, value: Value | None) -> str:
        """A value's name in the graph; "" where there is none."""
        if value is None:
            return ""
        if value not in self.names:
            assert value.array is not None
            if value.is_state:
                self.names[value] = name = self._free(value.name)
                self.arrays[name] = value.array
            else:
                self.names[value] = self.constant(value.array, value.dtype)
        if self.names[value] in self._indices:
            raise NotImplementedError("export: max_pool2d's indices are supported in max_unpool2d alone")
        return self.names[value]

    def indices(self, value: Value | None) -> str:
        """The same of a max-pool's indices, which are ONNX's in the graph."""
        if value is None or self.names.get(value) not in self._indices:
            raise NotImplementedError("export: max_unpool2d: indices must be those of a max_pool2d")
        return self.names[value]

    def _free(self, name: str) -> str:
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        return name

    def constant(self, values: Any, dtype: Any = np.int64) -> str:
        """What is no state of the model: sizes, bounds. A node, so that no reader takes it for a weight."""
        tensor = onnx.numpy_helper.from_array(np.asarray(values, dtype))
        return self.emit("Constant", [], value=tensor)

    def emit(self, op: str, inputs: Sequence[str], count: int = 1, **attributes: Any) -> Any:
        """A node; returns the name of its output, or a tuple of them."""
        number = len(self.nodes)
        names = [self._free(f"{op.lower()}_{number}" + (f"_{i}" if i else "")) for i in range(count)]
        inputs = list(inputs)
        while inputs and not inputs[-1]:  # left out at the end
            inputs.pop()
        self.nodes.append(onnx.helper.make_node(op, inputs, names, f"{op}_{number}", **attributes))
        return names[0] if count == 1 else tuple(names)

    def add(self, call: Call, rule: Callable) -> None:
        """The nodes of a call."""
        self.shapes = [() if a is None else a.shape for a in call.args]
        self.outputs = call.outputs
        given: list[Any] = [*call.args]
        if call.name != "max_unpool2d":
            given = [self.use(a) for a in given]
        try:
            made = rule(self, *given, **call.params)
        except NotImplementedError as error:
            raise NotImplementedError(f"export: {call.name}: {error}") from None
        for value, name in zip(call.outputs, made if isinstance(made, tuple) else (made,), strict=False):
            self.names[value] = name

    def dtype(self) -> np.dtype:
        """Of the result."""
        return self.outputs[0].dtype

    def note_indices(self, name: str) -> None:
        """That output holds a max-pool's indices."""
        self._indices.add(name)


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


@_rule("activation", "activation_of_sign")
def _(g: Builder, x: str, *, kind: str, negative_slope: float) -> str:
    return _activation(g, x, kind, negative_slope)


@_rule("conv2d")
def _conv(g: Builder, x: str, weight: str, bias: str, *, geometry: dict) -> str:
    window = _window(
        g.shapes[0][2:], g.shapes[1][2:], geometry["stride"], geometry["padding"], geometry["dilation"]
    )
    return g.emit("Conv", [x, weight, bias], group=int(geometry["groups"]), **window)


@_rule("conv2d_relu")
def _conv_relu(g: Builder, x: str, weight: str, bias: str, *, geometry: dict) -> str:
    return g.emit("Relu", [_conv(g, x, weight, bias, geometry=geometry)])


@_rule("conv2d_relu_max_pool2d")
def _(g: Builder, x: str, weight: str, bias: str, *, geometry: dict, window: dict) -> str:
    y = _conv_relu(g, x, weight, bias, geometry=geometry)
    sizes = ()  # "same" is none of this operation's
    return g.emit(
        "MaxPool", [y], **_window(sizes, window["pool_size"], window["pool_stride"], window["pool_padding"])
    )


@_rule("conv_transpose2d")
def _(g: Builder, x: str, weight: str, bias: str, *, output_padding: Any, geometry: dict) -> str:
    if isinstance(geometry["padding"], str):
        raise NotImplementedError(f"padding={geometry['padding']!r} is not supported")
    window = _window((), g.shapes[1][2:], geometry["stride"], geometry["padding"], geometry["dilation"])
    extra = list(_C.parse_pair(output_padding, "output_padding"))
    if any(extra):
        window["output_padding"] = extra
    return g.emit("ConvTranspose", [x, weight, bias], group=int(geometry["groups"]), **window)


@_rule("max_pool2d")
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


@_rule("max_unpool2d")
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


@_rule("avg_pool2d")
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


@_rule("adaptive_avg_pool2d")
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


@_rule("linear")
def _linear(g: Builder, x: str, weight: str, bias: str) -> str:
    if len(g.shapes[0]) == 2:
        return g.emit("Gemm", [x, weight, bias], transB=1)
    y = g.emit("MatMul", [x, g.emit("Transpose", [weight], perm=[1, 0])])
    return g.emit("Add", [y, bias]) if bias else y


@_rule("linear_relu")
def _(g: Builder, x: str, weight: str, bias: str) -> str:
    return g.emit("Relu", [_linear(g, x, weight, bias)])


@_rule("batch_norm", "batch_norm_activation")
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


@_rule("layer_norm")
def _(g: Builder, x: str, weight: str, bias: str, *, normalized_shape: Any, eps: float) -> str:
    shape = (normalized_shape,) if np.ndim(normalized_shape) == 0 else tuple(normalized_shape)
    weight = weight or g.constant(np.ones(shape), g.dtype())
    return g.emit("LayerNormalization", [x, weight, bias], axis=-len(shape), epsilon=float(eps))


@_rule("group_norm")
def _(g: Builder, x: str, weight: str, bias: str, *, num_groups: int, eps: float) -> str:
    channels, g.opset = g.shapes[0][1], 21
    weight = weight or g.constant(np.ones(channels), g.dtype())
    bias = bias or g.constant(np.zeros(channels), g.dtype())
    return g.emit("GroupNormalization", [x, weight, bias], num_groups=int(num_groups), epsilon=float(eps))


@_rule("softmax")
def _(g: Builder, x: str, *, dim: int) -> str:
    return g.emit("Softmax", [x], axis=int(dim))


@_rule("log_softmax")
def _(g: Builder, x: str, *, dim: int) -> str:
    return g.emit("LogSoftmax", [x], axis=int(dim))


# ---- sizes and shapes ----------------------------------------------------------------------------------

#: ONNX's words for what torch calls the mode.
_RESIZE = {
    "nearest": {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
    "nearest-exact": {
        "mode": "nearest",
        "coordinate_transformation_mode": "half_pixel",
        "nearest_mode": "round_prefer_ceil",
    },
    "linear": {"mode": "linear", "coordinate_transformation_mode": "half_pixel"},
}


@_rule("interpolate")
def _(
    g: Builder, x: str, *, size: Any, scale_factor: Any, mode: str, align_corners: bool | None,
    recompute_scale_factor: bool | None, antialias: bool,
) -> str:  # fmt: skip
    how = dict(_RESIZE["linear" if mode.endswith("linear") else mode])
    if align_corners:
        how["coordinate_transformation_mode"] = "align_corners"
    spatial = len(g.shapes[0]) - 2
    if scale_factor is None or recompute_scale_factor or align_corners:
        sizes = g.constant(g.outputs[0].shape[2:])
        return g.emit("Resize", [x, "", "", sizes], axes=list(range(2, 2 + spatial)), **how)
    factors = scale_factor if isinstance(scale_factor, (tuple, list)) else (scale_factor,) * spatial
    return g.emit("Resize", [x, "", g.constant([1, 1, *factors], np.float32)], **how)


@_rule("reshape")
def _(g: Builder, x: str, *, shape: tuple[int, ...]) -> str:
    if shape.count(-1) > 1 or 0 in shape:
        raise NotImplementedError(f"the shape {shape}, where -1 depends on the batch size, is not supported")
    return g.emit("Reshape", [x, g.constant(shape)])


@_rule("expand")
def _(g: Builder, x: str, *, shape: tuple[int, ...]) -> str:
    given = (1,) * (len(shape) - len(g.shapes[0])) + g.shapes[0]
    real = g.outputs[0].shape
    wanted = [1 if m == n else s for m, n, s in zip(given, real, shape, strict=True)]
    if -1 in wanted:
        raise NotImplementedError("repeating along the batch is not supported")
    return g.emit("Expand", [x, g.constant(wanted)])


@_rule("permute")
def _(g: Builder, x: str, *, dims: tuple[int, ...]) -> str:
    return g.emit("Transpose", [x], perm=list(dims))


@_rule("concatenate")
def _(g: Builder, *xs: str, dim: int) -> str:
    return g.emit("Concat", xs, axis=int(dim))


@_rule("pad")
def _(g: Builder, x: str, *, sides: Any, value: float) -> str:
    pads = g.constant([before for before, _ in sides] + [after for _, after in sides])
    return g.emit("Pad", [x, pads, g.constant(value, g.dtype())])


@_rule("copy", "contiguous")
def _(g: Builder, x: str, **_: Any) -> str:
    return x


@_rule("cast")
def _(g: Builder, x: str, *, dtype: Any) -> str:
    return g.emit("Cast", [x], to=onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


# ---- arithmetic ----------------------------------------------------------------------------------------

_ELEMENTWISE = {
    "add": "Add",
    "subtract": "Sub",
    "multiply": "Mul",
    "divide": "Div",
    "power": "Pow",
    "negative": "Neg",
    "absolute": "Abs",
    "exp": "Exp",
    "log": "Log",
    "sqrt": "Sqrt",
    "sin": "Sin",
    "cos": "Cos",
    "maximum": "Max",
    "minimum": "Min",
    "matmul": "MatMul",
}
_REDUCTIONS = {
    "sum_axes": "ReduceSum",
    "mean_axes": "ReduceMean",
    "max_axes": "ReduceMax",
    "min_axes": "ReduceMin",
}


def _by_name(op: str) -> Callable:
    return lambda g, *xs: g.emit(op, xs)


def _reduction(op: str) -> Callable:
    return lambda g, x, *, axes, keepdim: g.emit(op, [x, g.constant(axes)], keepdims=int(keepdim))


RULES.update({name: _by_name(op) for name, op in _ELEMENTWISE.items()})
RULES.update({name: _reduction(op) for name, op in _REDUCTIONS.items()})


@_rule("power_scalar")
def _(g: Builder, x: str, *, exponent: float) -> str:
    return g.emit("Pow", [x, g.constant(exponent, g.dtype())])


@_rule("clamp")
def _(g: Builder, x: str, *, min: Any, max: Any) -> str:
    bounds = ["" if bound is None else g.constant(bound, g.dtype()) for bound in (min, max)]
    return g.emit("Clip", [x, *bounds])
