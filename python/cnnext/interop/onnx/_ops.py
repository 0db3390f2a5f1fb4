"""ONNX operators on shapes and elements, which are no layers of cnnext.nn."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx

from ... import functional as F
from ...creation import cat
from ...elementary import expand
from ...functional._common import as_tensor
from ...nn import Flatten, Module, Upsample
from ._graph import Op
from ._node import BUILDERS, Node, builds

# ---- shapes --------------------------------------------------------------------------------------------


@builds("Flatten")
def _(node: Node) -> Module:
    axis = node.attribute("axis", 1)
    if axis == 1:
        return Flatten(1)
    return Op(node.op, lambda x: x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:])))


@builds("Reshape")
def _(node: Node) -> Any:
    keep = not node.attribute("allowzero", 0)

    def reshape(x: Any, shape: Any) -> Any:
        return x.reshape(*(x.shape[i] if n == 0 and keep else n for i, n in enumerate(shape)))

    if node.has(1) and node.inputs[1] not in node.source.arrays:  # computed of another shape
        return Op(node.op, lambda x, shape: reshape(x, shape.tolist())), (0, 1)
    shape = node.ints(1, "shape", 5)
    return Op(node.op, lambda x: reshape(x, shape))


@builds("Shape")
def _(node: Node) -> Module:
    first, last = node.attribute("start", 0), node.attribute("end")
    return Op(node.op, lambda x: as_tensor(np.array(x.shape[first:last], np.int64)))


@builds("Gather")
def _(node: Node) -> Module:
    axis, indices = node.attribute("axis", 0), node.constant(1, "indices")

    def gather(x: Any) -> Any:
        return x[(slice(None),) * (axis % x.ndim) + (indices,)]

    return Op(node.op, gather)


@builds("Slice")
def _(node: Node) -> Module:
    starts, ends = node.ints(1, "starts", 10), node.ints(2, "ends", 10)
    axes = node.ints(3, "axes", 10)
    steps = node.ints(4, "steps", 10) if node.opset >= 10 else None
    if starts is None or ends is None or (steps and min(steps) < 1):
        raise node.unsupported(f"steps={steps}")

    def cut(x: Any) -> Any:
        index = [slice(None)] * x.ndim
        for i, (first, last) in enumerate(zip(starts, ends, strict=True)):
            index[axes[i] if axes else i] = slice(first, last, steps[i] if steps else 1)
        return x[tuple(index)]

    return Op(node.op, cut)


@builds("Cast")
def _(node: Node) -> Module:
    node.ignore("saturate", "round_mode")
    dtype = onnx.helper.tensor_dtype_to_np_dtype(node.attribute("to"))
    return Op(node.op, lambda x: x.to(dtype))


@builds("Squeeze")
def _(node: Node) -> Module:
    axes = node.ints(1, "axes", 13)
    return Op(node.op, lambda x: x.squeeze(axes))


@builds("Unsqueeze")
def _(node: Node) -> Module:
    axes = node.ints(1, "axes", 13)
    if not axes:
        raise node.unsupported("no axes")

    def unsqueeze(x: Any) -> Any:
        rank = x.ndim + len(axes)
        for axis in sorted(a % rank for a in axes):
            x = x.unsqueeze(axis)
        return x

    return Op(node.op, unsqueeze)


@builds("Transpose")
def _(node: Node) -> Module:
    perm = node.attribute("perm")
    return Op(node.op, lambda x: x.permute(*(perm or range(x.ndim)[::-1])))


@builds("Concat")
def _(node: Node) -> Any:
    axis = node.attribute("axis")
    return Op(node.op, lambda *xs: cat(xs, axis)), range(len(node.inputs))


@builds("Expand")
def _(node: Node) -> Module:
    shape = node.ints(1, "shape", 1)

    def broadcast(x: Any) -> Any:
        return expand(x, shape=np.broadcast_shapes(x.shape, tuple(shape or ())))

    return Op(node.op, broadcast)


@builds("Pad")
def _(node: Node) -> Module:
    node.only("mode", "constant")
    pads = node.ints(1, "pads", 11)
    axes = node.ints(3, "axes", 18) if node.opset >= 18 else None
    if node.opset < 11:
        value = node.attribute("value", 0.0)
    else:
        array = node.constant(2, "constant_value")
        value = 0.0 if array is None else array.item()
    if pads is None or len(pads) % 2:
        raise node.unsupported(f"pads={pads}")
    half = len(pads) // 2

    def pad(x: Any) -> Any:
        sides = [(0, 0)] * x.ndim
        for axis, before, after in zip(axes or range(x.ndim), pads[:half], pads[half:], strict=True):
            sides[axis % x.ndim] = (before, after)
        return F.pad(x, [n for side in reversed(sides) for n in side], value=value)

    return Op(node.op, pad)


# ---- sizes of images -----------------------------------------------------------------------------------


def _resize_mode(node: Node, scaled: bool, upscales: bool, whole: bool) -> tuple[str, bool | None]:
    """torch's words for what ONNX calls mode, coordinates and rounding."""
    mode = node.attribute("mode", "nearest")
    place = node.attribute("coordinate_transformation_mode", "half_pixel")
    rounds = node.attribute("nearest_mode", "round_prefer_floor")
    if mode == "nearest":
        if place == "asymmetric" and (rounds == "floor" or (whole and rounds == "round_prefer_floor")):
            return "nearest", None
        # Where the factor is whole no place lies between two elements.
        if place == "half_pixel" and (
            rounds == "round_prefer_ceil" or (whole and rounds == "round_prefer_floor")
        ):
            return "nearest-exact", None
        raise node.unsupported(f"attribute nearest_mode={rounds!r} with {place!r}")
    if mode == "linear" and place == "align_corners" and (whole or not scaled):
        return "linear", True
    if mode == "linear" and (place == "half_pixel" or (place == "pytorch_half_pixel" and upscales)):
        return "linear", False
    raise node.unsupported(f"attribute mode={mode!r} with coordinate_transformation_mode={place!r}")


@builds("Resize")
def _(node: Node) -> Module:
    if node.opset < 11:
        raise node.unsupported(f"opset {node.opset}")
    for name, default in (("antialias", 0), ("keep_aspect_ratio_policy", "stretch")):
        node.only(name, default)
    node.ignore("cubic_coeff_a", "exclude_outside", "extrapolation_value")  # of other modes
    rank, axes = node.rank(0), node.attribute("axes")
    given = node.constant(2, "scales")
    scales = given if given is not None and given.size else None
    sizes = node.constant(3, "sizes")
    if (scales is None) == (sizes is None):
        raise node.unsupported("other than one of scales and sizes")
    values = scales if scales is not None else sizes
    assert values is not None
    where = [a % rank for a in axes] if axes else list(range(rank))
    by_axis = dict(zip(where, values.reshape(-1).tolist(), strict=True))
    spatial = [by_axis.get(i) for i in range(2, rank)]
    if None in spatial or (scales is not None and any(by_axis.get(i, 1) != 1 for i in (0, 1))):
        raise node.unsupported(f"axes={axes} with {values.tolist()}: all but batch and channels are; else it")
    whole = scales is not None and all(s >= 1 and s == int(s) for s in spatial)
    scaled = scales is not None
    mode, corners = _resize_mode(node, scaled, scaled and min(spatial) >= 1, whole)
    if mode == "linear":
        mode = {3: "linear", 4: "bilinear", 5: "trilinear"}.get(rank, mode)
    if scales is not None:
        factors = tuple(float(str(np.float32(s))) for s in spatial)
        return Upsample(scale_factor=factors, mode=mode, align_corners=corners)
    return Upsample(tuple(map(int, spatial)), mode=mode, align_corners=corners)


@builds("Upsample")
def _(node: Node) -> Module:
    node.only("mode", "nearest")
    scales = node.constant(1, "scales") if node.opset >= 9 else np.array(node.attribute("scales"))
    if scales is None or any(scales[:2] != 1):
        raise node.unsupported("scales of batch or channels")
    return Upsample(scale_factor=tuple(scales[2:].tolist()), mode="nearest")


# ---- elements ------------------------------------------------------------------------------------------

_ELEMENTWISE: dict[str, Callable[..., Any]] = {
    "Add": lambda a, b: a + b,
    "Sub": lambda a, b: a - b,
    "Mul": lambda a, b: a * b,
    "Div": lambda a, b: a / b,
    "Pow": lambda a, b: a**b,
    "Neg": lambda a: -a,
    "Abs": lambda a: a.abs(),
    "Exp": lambda a: a.exp(),
    "Log": lambda a: a.log(),
    "Sqrt": lambda a: a.sqrt(),
    "Sin": lambda a: a.sin(),
    "Cos": lambda a: a.cos(),
}


def _elementwise(node: Node) -> Any:
    function = _ELEMENTWISE[node.op]

    def apply(*args: Any) -> Any:
        y = function(*args)
        if y.dtype != args[0].dtype:  # integers, which ONNX keeps
            raise node.unsupported(f"dtype {args[0].dtype}")
        return y

    return Op(node.op, apply), range(len(node.inputs))


BUILDERS.update(dict.fromkeys(_ELEMENTWISE, _elementwise))


_OF_TWO: dict[str, Callable[..., Any]] = {
    "Sum": lambda a, b: a + b,
    "Max": lambda a, b: a.maximum(b),
    "Min": lambda a, b: a.minimum(b),
}


@builds(*_OF_TWO)
def _(node: Node) -> Any:
    two = _OF_TWO[node.op]

    def of_all(first: Any, *others: Any) -> Any:
        for other in others:
            first = two(first, other)
        return first

    return Op(node.op, of_all), range(len(node.inputs))


_REDUCTIONS: dict[str, tuple[Callable[..., Any], int]] = {  # and since which opset axes are an input
    "ReduceMean": (lambda x, axes, keep: x.mean(axes, keep), 18),
    "ReduceSum": (lambda x, axes, keep: x.sum(axes, keep), 13),
    "ReduceMax": (lambda x, axes, keep: x.amax(axes, keep), 18),
    "ReduceMin": (lambda x, axes, keep: x.amin(axes, keep), 18),
}


@builds(*_REDUCTIONS)
def _(node: Node) -> Any:
    function, since = _REDUCTIONS[node.op]
    axes, keep = node.ints(1, "axes", since), bool(node.attribute("keepdims", 1))
    if not axes and node.attribute("noop_with_empty_axes", 0):
        return Op(node.op, lambda x: x)
    return Op(node.op, lambda x: function(x, axes or None, keep))
