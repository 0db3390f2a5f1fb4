"""ONNX's own node tests of the 2D operators, on NumPy arrays and on torch tensors, in every layout."""

from __future__ import annotations

import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cnnext import ops

onnx = pytest.importorskip("onnx")


# How many 2D cases of one node ONNX has of each operator, at least: a list that shrank is an error.
OPERATORS = {
    "Conv": 6,
    "ConvTranspose": 8,
    "MaxPool": 13,
    "MaxUnpool": 2,
    "AveragePool": 13,
    "GlobalAveragePool": 2,
    "GlobalMaxPool": 2,
    "BatchNormalization": 4,
    "Relu": 1,
    "LeakyRelu": 3,
    "Sigmoid": 2,
    "Tanh": 2,
    "Gelu": 4,
    "Softmax": 7,
    "LogSoftmax": 7,
    "SoftmaxCrossEntropyLoss": 30,
}
# Its expected values are rounded to four decimals.
ROUNDED = {"test_averagepool_2d_ceil_last_window_starts_on_pad": 1e-4}
# An extreme of nothing, which NumPy refuses.
NOT_IN_FILES = ("test_reduce_max_empty_set", "test_reduce_max_empty_set_bool", "test_reduce_min_empty_set")
SPATIAL = ("Conv", "ConvTranspose", "MaxPool", "AveragePool")


@cache
def cases() -> list[Any]:
    """Those of one node."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = pytest.importorskip("onnx.backend.test.case.node").collect_testcases(None)
    return [case for case in found if len(case.model.graph.node) == 1 and case.data_sets]


@cache
def nodes() -> dict[str, list[Any]]:
    """Operator -> (name, attributes, inputs, outputs) of each of its cases."""
    found: dict[str, list[Any]] = {}
    for case in cases():
        node, (inputs, outputs) = case.model.graph.node[0], case.data_sets[0]
        if node.op_type not in OPERATORS:
            continue
        if node.op_type in SPATIAL and inputs[0].ndim != 4:
            continue
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        attributes = {k: v.decode() if isinstance(v, bytes) else v for k, v in attributes.items()}
        found.setdefault(node.op_type, []).append((case.name, attributes, inputs, outputs))
    return found


# ---- ONNX's words into ours


def window(attributes: dict[str, Any], size: tuple[int, ...], kernel: tuple[int, ...]) -> dict[str, Any]:
    """stride, padding and dilation of a Conv or a pool over an image of this size."""
    stride = tuple(attributes.get("strides", (1, 1)))
    dilation = tuple(attributes.get("dilations", (1, 1)))
    auto = attributes.get("auto_pad", "NOTSET")
    top, left, bottom, right = attributes.get("pads", (0, 0, 0, 0))
    padding: Any = ((top, bottom), (left, right))
    if auto == "SAME_UPPER":
        padding = "same"
    elif auto == "SAME_LOWER":  # the odd one goes to the beginning
        total = [
            max((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, 0)
            for n, s, d, k in zip(size, stride, dilation, kernel, strict=True)
        ]
        padding = tuple((t - t // 2, t // 2) for t in total)
    return {"stride": stride, "padding": padding, "dilation": dilation}


def conv(a: dict[str, Any], x: Any, w: Any, b: Any = None) -> tuple:
    return (ops.conv2d(x, w, b, **window(a, x.shape[2:], w.shape[2:]), groups=a.get("group", 1)),)


def conv_transpose(a: dict[str, Any], x: Any, w: Any, b: Any = None) -> tuple:
    stride, dilation = a.get("strides", (1, 1)), a.get("dilations", (1, 1))
    extra = list(a.get("output_padding", (0, 0)))
    top, left, bottom, right = a.get("pads", (0, 0, 0, 0))
    padding = [(top, bottom), (left, right)]
    size = a.get("output_shape")
    if a.get("auto_pad", "NOTSET").startswith("SAME"):
        size = [n * s for n, s in zip(x.shape[2:], stride, strict=True)]
    if size is not None:
        for i in range(2):
            full = (x.shape[2 + i] - 1) * stride[i] + dilation[i] * (w.shape[2 + i] - 1) + 1
            total = max(full + extra[i] - size[i], 0)
            extra[i] = size[i] - full + total
            small, large = total // 2, total - total // 2
            padding[i] = (small, large) if a.get("auto_pad") != "SAME_LOWER" else (large, small)
    return (ops.conv_transpose2d(x, w, b, stride, padding, extra, a.get("group", 1), dilation),)


def max_pool(a: dict[str, Any], x: Any, count: int) -> tuple:
    pool = {"kernel_size": a["kernel_shape"], **window(a, x.shape[2:], a["kernel_shape"])}
    pool["ceil_mode"] = bool(a.get("ceil_mode", 0))
    if count == 1:
        return (ops.max_pool2d(x, **pool),)
    y, indices = ops.max_pool2d(x, **pool, return_indices=True, indices="window")
    kind = "onnx_column_major" if a.get("storage_order", 0) else "onnx"
    return y, ops.convert_indices(indices, x.shape, **pool, source="window", target=kind)


def max_unpool(a: dict[str, Any], x: Any, indices: Any, shape: Any = None) -> tuple:
    kernel, stride = a["kernel_shape"], a["strides"]
    size = (*x.shape[:2], *((n - 1) * s + k for n, s, k in zip(x.shape[2:], stride, kernel, strict=True)))
    plane = ops.convert_indices(indices, size, kernel, stride, source="onnx", target="plane")
    y = np.asarray(ops.max_unpool2d(x, plane, kernel, stride))
    if shape is not None:  # ONNX's indices are those of the usual size
        y = np.pad(y, [(0, int(n) - m) for n, m in zip(shape, y.shape, strict=True)])
    return (y,)


def average_pool(a: dict[str, Any], x: Any) -> tuple:
    how = window(a, x.shape[2:], a["kernel_shape"])
    include, ceil = bool(a.get("count_include_pad", 0)), bool(a.get("ceil_mode", 0))
    return (ops.avg_pool2d(x, a["kernel_shape"], **how, ceil_mode=ceil, count_include_pad=include),)


def batch_norm(a: dict[str, Any], x: Any, weight: Any, bias: Any, mean: Any, var: Any) -> tuple:
    eps, momentum = a.get("epsilon", 1e-5), a.get("momentum", 0.9)
    if not a.get("training_mode", 0):
        return (ops.batch_norm(x, mean, var, weight, bias, eps=eps),)
    y, batch_mean, invstd = ops.batch_norm_forward(x, None, None, weight, bias, eps=eps)
    batch_var = 1 / invstd**2 - eps  # ONNX keeps the biased variance
    return (
        y,
        mean * momentum + batch_mean * (1 - momentum),
        var * momentum + batch_var * (1 - momentum),
    )


def cross_entropy(a: dict[str, Any], count: int, x: Any, target: Any, weight: Any = None) -> tuple:
    how = {"reduction": a.get("reduction", "mean"), "ignore_index": a.get("ignore_index", -100)}
    loss = ops.cross_entropy(x, target, weight, **how)
    return (loss, ops.log_softmax(x, 1)) if count == 2 else (loss,)


def run(operator: str, a: dict[str, Any], inputs: list[Any], count: int) -> tuple:
    x = inputs[0]
    match operator:
        case "Conv":
            return conv(a, *inputs)
        case "ConvTranspose":
            return conv_transpose(a, *inputs)
        case "MaxPool":
            return max_pool(a, x, count)
        case "MaxUnpool":
            return max_unpool(a, *inputs)
        case "AveragePool":
            return average_pool(a, x)
        case "GlobalAveragePool":
            return (ops.adaptive_avg_pool2d(x, 1),)
        case "GlobalMaxPool":
            return (ops.max_pool2d(x, tuple(x.shape[2:])),)
        case "BatchNormalization":
            return batch_norm(a, *inputs)
        case "LeakyRelu":
            return (ops.leaky_relu(x, a.get("alpha", 0.01)),)
        case "Gelu":
            return (ops.gelu(x, a.get("approximate", "none")),)
        case "Softmax":
            return (ops.softmax(x, a.get("axis", -1)),)
        case "LogSoftmax":
            return (ops.log_softmax(x, a.get("axis", -1)),)
        case "SoftmaxCrossEntropyLoss":
            return cross_entropy(a, count, *inputs)
        case _:
            return (getattr(ops, operator.lower())(x),)


# ---- layouts and libraries


def channels_last(array: np.ndarray) -> np.ndarray:
    return np.moveaxis(np.moveaxis(array, 1, -1).copy(), -1, 1) if array.ndim == 4 else array.copy()


def strided(array: np.ndarray) -> np.ndarray:
    if array.ndim == 0:
        return array
    room = np.zeros([2 * n for n in array.shape], array.dtype)
    view = room[tuple(slice(None, None, 2) for _ in array.shape)]
    view[...] = array
    return view


LAYOUTS = {"contiguous": np.copy, "channels-last": channels_last, "strided": strided}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("operator", OPERATORS)
def test_node(operator: str, library: str, layout: str) -> None:
    torch = pytest.importorskip("torch") if library == "torch" else None
    assert len(nodes()[operator]) >= OPERATORS[operator]
    for name, attributes, inputs, outputs in nodes()[operator]:
        given = [LAYOUTS[layout](np.asarray(array)) for array in inputs]
        if torch:
            given = [torch.from_numpy(array) for array in given]
        results = run(operator, attributes, given, len(outputs))
        assert len(results) == len(outputs), name
        for got, want in zip(results, outputs, strict=True):
            assert tuple(got.shape) == want.shape, name
            got = np.asarray(got)
            assert got.dtype == want.dtype, name
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=ROUNDED.get(name, 1e-6), err_msg=name)


# ---- the same as files, which cnnext.interop.onnx loads

# How many of ONNX's cases it loads and computes, at least; it refuses the others by name.
IN_FILES = {
    "Abs": 1, "Add": 8, "AveragePool": 12, "BatchNormalization": 2, "Clip": 2, "Concat": 12, "Conv": 6,
    "ConvTranspose": 6, "Cos": 2, "Div": 3, "Dropout": 3, "Exp": 2, "Expand": 2, "Flatten": 9, "Gelu": 4,
    "Gemm": 11, "GlobalAveragePool": 2, "GlobalMaxPool": 2, "GroupNormalization": 2, "HardSigmoid": 3,
    "HardSwish": 1, "Identity": 3, "InstanceNormalization": 2, "LayerNormalization": 19, "LeakyRelu": 3,
    "Log": 2, "LogSoftmax": 7, "MatMul": 7, "Max": 14, "MaxPool": 14, "MaxUnpool": 1, "Min": 14, "Mul": 9,
    "Neg": 2, "Pow": 10, "ReduceMax": 9, "ReduceMean": 8, "ReduceMin": 9, "ReduceSum": 12, "Relu": 1,
    "Reshape": 10, "Resize": 6, "Sigmoid": 2, "Sin": 2, "Softmax": 7, "Sqrt": 2, "Squeeze": 2, "Sub": 9,
    "Sum": 3, "Tanh": 2, "Transpose": 7, "Unsqueeze": 7, "Upsample": 1,
}  # fmt: skip


@pytest.mark.parametrize("operator", IN_FILES)
def test_a_file_of_the_node(operator: str, tmp_path: Path) -> None:
    from cnnext.interop.onnx import load

    computed, path = 0, tmp_path / "node.onnx"
    for case in cases():
        inputs, outputs = case.data_sets[0]
        if case.model.graph.node[0].op_type != operator or case.name in NOT_IN_FILES:
            continue
        if not all(isinstance(array, np.ndarray) for array in inputs):
            continue
        model = onnx.ModelProto()
        model.CopyFrom(case.model)
        for info, array in list(zip(model.graph.input, inputs, strict=False))[1:]:  # all but x are constants
            model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), info.name))
        del model.graph.input[1:]
        if operator == "LayerNormalization":  # without the statistics
            del model.graph.output[1:], model.graph.node[0].output[1:], outputs[1:]
        path.write_bytes(model.SerializeToString())
        try:
            results = load(path)(inputs[0])
        except NotImplementedError as error:
            assert f"operator {operator}" in str(error), case.name  # noqa: PT017 - or it computes
            continue
        results = results if isinstance(results, tuple) else (results,)
        for got, want in zip(results, outputs, strict=True):
            got = got.detach().numpy()
            assert got.shape == want.shape, case.name
            assert got.dtype == want.dtype, case.name
            np.testing.assert_allclose(got, want, 1e-5, ROUNDED.get(case.name, 1e-6), err_msg=case.name)
        computed += 1
    assert computed >= IN_FILES[operator]
