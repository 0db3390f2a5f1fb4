"""Which ONNX nodes operations on shapes and elements become."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx

from ._builder import RULES, Builder, rule

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


@rule("interpolate")
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


@rule("reshape")
def _(g: Builder, x: str, *, shape: tuple[int, ...]) -> str:
    if shape.count(-1) > 1 or 0 in shape:
        raise NotImplementedError(f"the shape {shape}, where -1 depends on the batch size, is not supported")
    return g.emit("Reshape", [x, g.constant(shape)])


@rule("expand")
def _(g: Builder, x: str, *, shape: tuple[int, ...]) -> str:
    given = (1,) * (len(shape) - len(g.shapes[0])) + g.shapes[0]
    real = g.outputs[0].shape
    wanted = [1 if m == n else s for m, n, s in zip(given, real, shape, strict=True)]
    if -1 in wanted:
        raise NotImplementedError("repeating along the batch is not supported")
    return g.emit("Expand", [x, g.constant(wanted)])


@rule("permute")
def _(g: Builder, x: str, *, dims: tuple[int, ...]) -> str:
    return g.emit("Transpose", [x], perm=list(dims))


@rule("concatenate")
def _(g: Builder, *xs: str, dim: int) -> str:
    return g.emit("Concat", xs, axis=int(dim))


@rule("pad")
def _(g: Builder, x: str, *, sides: Any, value: float) -> str:
    pads = g.constant([before for before, _ in sides] + [after for _, after in sides])
    return g.emit("Pad", [x, pads, g.constant(value, g.dtype())])


@rule("copy", "contiguous")
def _(g: Builder, x: str, **_: Any) -> str:
    return x


@rule("cast")
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


@rule("power_scalar")
def _(g: Builder, x: str, *, exponent: float) -> str:
    return g.emit("Pow", [x, g.constant(exponent, g.dtype())])


@rule("clamp")
def _(g: Builder, x: str, *, min: Any, max: Any) -> str:
    bounds = ["" if bound is None else g.constant(bound, g.dtype()) for bound in (min, max)]
    return g.emit("Clip", [x, *bounds])
