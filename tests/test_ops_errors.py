"""Wrong calls: which error, and that the message names the argument, its value and the rule."""

# ruff: noqa: E501 -- one case a line

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cnnext import _C, ops


def f(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    return np.zeros(shape, dtype)


X, W = f(2, 4, 7, 6), f(6, 4, 3, 2)
INDICES = f(2, 4, 3, 3, dtype=np.int64)
HUGE = 2**62

CASES: list[tuple[Any, type | tuple[type, ...], str]] = [
    # parameters: kinds and lengths
    (lambda: ops.conv2d(X, W, stride=1.5), TypeError, "stride must be an int or a pair of ints, got float"),
    (lambda: ops.conv2d(X, W, stride="2"), TypeError, "stride must be an int or a pair of ints, got str"),
    (lambda: ops.conv2d(X, W, stride=True), TypeError, "stride must be an int or a pair of ints, got bool"),
    (lambda: ops.conv2d(X, W, stride=np.True_), TypeError, "stride must be an int or a pair"),
    (lambda: ops.conv2d(X, W, stride=None), TypeError, "stride must be an int or a pair of ints, got NoneType"),
    (lambda: ops.conv2d(X, W, stride=(1, 2, 3)), ValueError, "stride has 3 values"),
    (lambda: ops.conv2d(X, W, stride=()), ValueError, "stride has 0 values"),
    (lambda: ops.conv2d(X, W, stride=(1, 2.0)), TypeError, r"stride must be .* got \(1, 2.0\)"),
    (lambda: ops.conv2d(X, W, stride=(1, False)), TypeError, r"stride must be .* got \(1, False\)"),
    (lambda: ops.conv2d(X, W, stride=2**70), ValueError, "stride is 1180591620717411303424; it must fit"),
    (lambda: ops.conv2d(X, W, dilation=(1, 1, 1)), ValueError, "dilation has 3 values"),
    (lambda: ops.conv2d(X, W, padding=(1, 2, 3)), ValueError, "padding has 3 values"),
    (lambda: ops.conv2d(X, W, padding=((1, 2), (3, 4, 5))), ValueError, "padding has 3 values"),
    (lambda: ops.conv2d(X, W, padding=((1, 2), 3)), TypeError, r"padding must be .*got \(\(1, 2\), 3\)"),
    (lambda: ops.conv2d(X, W, padding=1.0), TypeError, "padding must be an int"),
    (lambda: ops.conv2d(X, W, padding="full"), ValueError, "padding is 'full'; it must be one of 'same', 'valid'"),
    (lambda: ops.conv2d(X, W, groups=1.0), TypeError, "groups must be an int, got float"),
    (lambda: ops.conv2d(X, W, groups=(1, 1)), TypeError, "groups must be an int, got tuple"),
    (lambda: ops.conv2d(X, W, activation="swish"), ValueError, "activation is 'swish'; it must be one of 'relu'"),
    (lambda: ops.conv2d(X, W, activation=1), TypeError, "activation must be a string, got int"),
    (lambda: ops.conv2d(X, W, algorithm="fft"), ValueError, "algorithm is 'fft'; it must be one of 'auto', 'direct'"),
    (lambda: ops.max_pool2d(X, 2, ceil_mode=1), TypeError, "ceil_mode must be a bool, got int"),
    (lambda: ops.max_pool2d(X, 2, indices="flat"), ValueError, "indices is 'flat'; it must be one of 'plane'"),
    (lambda: ops.avg_pool2d(X, 2, divisor_override=0), ValueError, "divisor_override is 0"),
    (lambda: ops.leaky_relu(X, "0.1"), TypeError, "negative_slope must be a number, got str"),
    (lambda: ops.batch_norm(X, None, None, training=1), TypeError, "training must be a bool"),
    (lambda: ops.softmax(X, 1.0), TypeError, "dim must be an int, got float"),
    (lambda: ops.gelu(X, "erf"), ValueError, "approximate is 'erf'"),
    (lambda: ops.dropout(X, 0.5), TypeError, "seed"),
    (lambda: _C.conv2d(X, W), TypeError, "expected 11 positional arguments, got 2"),
    # conv2d
    (lambda: ops.conv2d(X, W, stride=0), ValueError, "stride.* is 0; it must be at least 1"),
    (lambda: ops.conv2d(X, W, stride=(1, -1)), ValueError, "stride.* is -1; it must be at least 1"),
    (lambda: ops.conv2d(X, W, dilation=0), ValueError, "dilation.* is 0"),
    (lambda: ops.conv2d(X, W, padding=-1), ValueError, "padding is -1"),
    (lambda: ops.conv2d(X, W, groups=0), ValueError, "groups is 0"),
    (lambda: ops.conv2d(X, W, groups=3), ValueError, "groups"),
    (lambda: ops.conv2d(X, W, groups=2), ValueError, "weight"),
    (lambda: ops.conv2d(X, f(6, 5, 3, 2)), ValueError, "weight"),
    (lambda: ops.conv2d(X, f(6, 4, 0, 2)), ValueError, "weight"),
    (lambda: ops.conv2d(X, f(6, 4, 8, 2)), ValueError, "effective height 8 exceeds the padded height 7"),
    (lambda: ops.conv2d(X, W, dilation=HUGE), ValueError, "effective height"),
    (lambda: ops.conv2d(X, W, padding=HUGE), ValueError, "padded height"),
    (lambda: ops.conv2d(X, W, padding=2**31), ValueError, "overflows 64 bits"),
    (lambda: ops.conv2d(f(4, 7), W), ValueError, r"x has shape \(4, 7\)"),
    (lambda: ops.conv2d(f(1, 2, 4, 7, 6), W), ValueError, "x has shape"),
    (lambda: ops.conv2d(X, f(6, 4, 3)), ValueError, r"weight has shape \(6, 4, 3\)"),
    (lambda: ops.conv2d(X, W, f(5)), ValueError, r"bias has shape \(5\)|bias has shape \(5,\)"),
    (lambda: ops.conv2d(X, W, f(6, 1)), ValueError, "bias has shape"),
    (lambda: ops.conv2d(X, W, residual=f(2, 6, 5, 4)), ValueError, "residual has shape"),
    (lambda: ops.conv2d(X, f(6, 4, 3, 2, dtype=np.float64)), TypeError, "weight has dtype float64"),
    (lambda: ops.conv2d(X, W, f(6, dtype=np.float64)), TypeError, "bias has dtype float64"),
    (lambda: ops.conv2d(f(2, 4, 7, 6, dtype=np.uint8), W), TypeError, "x has dtype uint8"),
    (lambda: ops.conv2d_backward_data(f(2, 6, 5, 4), W, X.shape), ValueError, "grad_y has shape"),
    (lambda: ops.conv2d_backward_data(f(2, 6, 5, 5), W, (4, 7)), ValueError, "grad_x has shape"),
    (lambda: ops.conv2d_backward_data(f(2, 6, 5, 5), W, (2, 4, -7, 6)), ValueError, "negative"),
    (lambda: ops.conv2d_backward_data(f(2, 6, 5, 5), W, 4), TypeError, "input_shape must be a sequence of ints"),
    (lambda: ops.conv2d_backward_data(f(2, 6, 5, 5), W, (1,) * 9), ValueError, "input_shape has 9 values"),
    (lambda: ops.conv2d_backward_weights(f(2, 6, 5, 5), X, (6, 4, 3)), ValueError, "grad_weight has shape"),
    (lambda: ops.conv2d_backward(f(2, 6, 5, 5), X, W, needs=(True, True)), ValueError, "needs has 2 values"),
    (lambda: ops.conv_transpose2d(X, f(4, 3, 2, 2), output_padding=1), ValueError, "output_padding.* is 1"),
    (lambda: ops.conv_transpose2d(X, f(4, 3, 2, 2), output_padding=-1), ValueError, "output_padding.* is -1"),
    (lambda: ops.conv_transpose2d(X, f(5, 3, 2, 2)), ValueError, "weight"),
    (lambda: ops.conv_transpose2d(X, f(4, 3, 2, 2), f(4)), ValueError, "bias has shape"),
    (lambda: ops.linear(f(2, 3), f(4, 5)), ValueError, "weight"),
    (lambda: ops.linear(f(2, 3), f(4, 3), f(3)), ValueError, "bias"),
    (lambda: ops.pack_weight(W, input_shape=(4, 7, 6)), ValueError, "input_shape"),
    (lambda: ops.pack_weight(W, channels_last=1), TypeError, "channels_last must be a bool"),
    # pools
    (lambda: ops.max_pool2d(X, 0), ValueError, "kernel_size.* is 0"),
    (lambda: ops.max_pool2d(X, 2, 0), ValueError, "stride.* is 0"),
    (lambda: ops.max_pool2d(X, 3, padding=2), ValueError, "padding is 2.*at most 1, half"),
    (lambda: ops.max_pool2d(X, 3, padding=((3, 0), (0, 0))), ValueError, "padding is 3.*at most 2"),
    (lambda: ops.max_pool2d(X, 8), ValueError, "effective height 8 exceeds"),
    (lambda: ops.max_pool2d(f(4, 7), 2), ValueError, "x has shape"),
    (lambda: ops.max_pool2d(f(2, 0, 7, 6), 2), ValueError, "x has shape"),
    (lambda: ops.max_pool2d(f(2, 4, 7, 6, dtype=np.int32), 2), TypeError, "x has dtype int32"),
    (lambda: ops.max_pool2d(X, HUGE), ValueError, "kernel"),
    (lambda: ops.max_pool2d_backward(f(2, 4, 3, 2), INDICES, X.shape, 2), ValueError, "grad_y has shape"),
    (lambda: ops.max_pool2d_backward(f(2, 4, 3, 3), f(2, 4, 3, 3), X.shape, 2), TypeError, "indices has dtype"),
    (lambda: ops.max_pool2d_backward(f(2, 4, 3, 3), INDICES + 42, X.shape, 2), ValueError, "indices.*42"),
    (lambda: ops.max_pool2d_backward(f(2, 4, 3, 3), INDICES - 2, X.shape, 2), ValueError, "indices.*-2"),
    (lambda: ops.max_pool2d_backward(f(2, 4, 3, 3), INDICES, X.shape, 2, indices_kind="onnx"), ValueError, "index_kind"),
    (lambda: ops.max_unpool2d(f(2, 4, 3, 3), INDICES, 2, output_size=(9, 6)), ValueError, r"output_size is \(9, 6\)"),
    (lambda: ops.max_unpool2d(f(2, 4, 3, 3), INDICES, 2, output_size=(6,)), ValueError, "output_size has 1 values"),
    (lambda: ops.max_unpool2d(f(2, 4, 3, 3), INDICES[:1], 2), ValueError, "indices has shape"),
    (lambda: ops.max_unpool2d(f(2, 4, 3, 3), INDICES + 36, 2), ValueError, "indices.*36"),
    (lambda: ops.max_unpool2d([1.0], INDICES, 2), TypeError, "x must be an array, got list"),
    (lambda: ops.max_unpool2d(f(3, 3), INDICES, 2), ValueError, "x has shape"),
    (lambda: ops.avg_pool2d(X, 3, padding=2), ValueError, "padding is 2"),
    (lambda: ops.avg_pool2d(f(2, 4, 7, 6, dtype=np.uint8), 2), TypeError, "x has dtype uint8"),
    (lambda: ops.adaptive_avg_pool2d(X, -1), ValueError, "output_size is -1"),
    (lambda: ops.adaptive_avg_pool2d(X, (1, 2, 3)), ValueError, "output_size has 3 values"),
    (lambda: ops.adaptive_avg_pool2d(f(2, 4, 0, 6), 2), ValueError, "x has shape"),
    (lambda: ops.convert_indices(INDICES, (2, 4, 7, 6), 2, source="plane", target="torch"), ValueError, "target is"),
    # the rest
    (lambda: ops.add(X, f(2, 4, 7, 5)), ValueError, "shape"),
    (lambda: ops.add(X, f(2, 4, 7, 6, dtype=np.float64)), TypeError, "dtype float64"),
    (lambda: ops.bias_add(X, f(3)), ValueError, "bias has shape"),
    (lambda: ops.bias_grad(f(3)), ValueError, "grad_y has shape"),
    (lambda: ops.dropout(X, 1.5, seed=0), ValueError, "p is 1.5"),
    (lambda: ops.dropout(X, -0.1, False, seed=0), ValueError, "p is -0.1"),
    (lambda: ops.dropout(X, float("nan"), seed=0), ValueError, "p is nan"),
    (lambda: ops.batch_norm(X, None, None), ValueError, "running_mean"),
    (lambda: ops.batch_norm(X, f(3), f(4)), ValueError, "running_mean has shape"),
    (lambda: ops.batch_norm(f(1, 4), None, None, training=True), ValueError, "more than one|at least 2|1 value"),
    (lambda: ops.batch_norm(X, f(4), f(4), momentum=None), TypeError, "momentum must be a number"),
    (lambda: ops.batch_norm(f(4), f(4), f(4)), ValueError, "x has shape"),
    (lambda: ops.softmax(X, 4), ValueError, "dim is 4"),
    (lambda: ops.softmax(X, -5), ValueError, "dim is -5"),
    (lambda: ops.softmax(X, 2**40), ValueError, "dim is"),
    (lambda: ops.softmax_backward(X, f(2, 4, 7, 5), 1), ValueError, "shape"),
    (lambda: ops.cross_entropy(f(3, 5), np.array([0, 5, 1])), ValueError, "target.*5"),
    (lambda: ops.cross_entropy(f(3, 5), np.array([0, -1, 1])), ValueError, "target.*-1"),
    (lambda: ops.cross_entropy(f(3, 5), np.array([0, 1])), ValueError, "target has shape"),
    (lambda: ops.cross_entropy(f(3, 5), np.array([0, 1, 2]), f(4)), ValueError, "weight has shape"),
    (lambda: ops.cross_entropy(f(3, 5), f(3, 5, dtype=np.float64)), TypeError, "target has dtype float64"),
    (lambda: ops.cross_entropy(f(3, 5), np.array([0, 1, 2]), reduction="avg"), ValueError, "reduction is 'avg'"),
    (lambda: ops.cross_entropy(f(3, 5), np.array([0, 1, 2]), label_smoothing=1.5), ValueError, "label_smoothing is 1.5"),
    (lambda: ops.cross_entropy(f(3, 5), np.array([True, False, True])), TypeError, "target has dtype bool"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "message"), CASES, ids=range(len(CASES)))
def test_error(call: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        call()
    assert str(caught.value)


@pytest.mark.parametrize(
    "value",
    [2, np.int64(2), np.uint8(2), np.array(2), (2, 2), [2, 2], np.array([2, 2]), (np.int32(2), 2)],
    ids=repr,
)
def test_what_is_a_pair(value: Any) -> None:
    np.testing.assert_array_equal(ops.max_pool2d(X, value), ops.max_pool2d(X, 2))
    np.testing.assert_array_equal(
        ops.conv2d(X, W, stride=value, padding=value), ops.conv2d(X, W, stride=2, padding=2)
    )


@pytest.mark.parametrize(
    "value", [((1, 2), (0, 3)), [[1, 2], [0, 3]], np.array([[1, 2], [0, 3]]), ([1, 2], (0, 3))]
)
def test_what_is_a_padding(value: Any) -> None:
    padded = np.pad(X + 1, ((0, 0), (0, 0), (1, 2), (0, 3)))
    np.testing.assert_array_equal(ops.conv2d(X + 1, W + 1, padding=value), ops.conv2d(padded, W + 1))


def test_an_error_leaves_the_next_call_alone() -> None:
    with pytest.raises(ValueError, match="groups"):
        ops.conv2d(X, W, groups=0)
    assert ops.conv2d(X, W).shape == (2, 6, 5, 5)


def test_memory_that_nobody_has() -> None:
    x = np.lib.stride_tricks.as_strided(f(1), (2**20, 2**20, 2**10), (0, 0, 0))
    with pytest.raises(MemoryError, match="no memory for a result of 4503599627370496 bytes"):
        ops.relu(x)
    x = np.lib.stride_tricks.as_strided(f(1), (1, 1, 2**20, 2**20), (0, 0, 0, 0))
    with pytest.raises(MemoryError):
        ops.conv2d(x, f(1, 1, 1, 1))
