"""Errors of calls on CUDA arrays, on fake_cuda: run by tests/test_device_arrays.py."""

from __future__ import annotations

from typing import Any

import cnnext as cx
import numpy as np
import pytest
from arrays import RELU, Capsules, Interface, X, Y, fake, log, names, nothing_is_left  # noqa: F401
from cnnext import ops

pytestmark = pytest.mark.usefixtures("nothing_is_left")


# ---- errors


def test_out_of_memory() -> None:
    x = Interface(X)
    fake.fake_limit(X.nbytes + 100)
    wanted = r"^a result of float32 \(2, 3, 4, 5\) on cuda:0: .*480 bytes: out of memory.* GiB of .* are free"
    with pytest.raises(MemoryError, match=wanted):
        ops.relu(x)
    fake.fake_limit(2 * X.nbytes + 100)
    wanted = r"^add on cuda:0 \(a float32 \(2, 3, 4, 5\), b .*\): no memory for scratch of 512 bytes"
    with pytest.raises(MemoryError, match=wanted):
        ops.add(x, x)
    wanted = r"^a dense copy on cuda:0 \(x float32 \(2, 3, 4, 5\), y .*\): no memory for scratch of 512 bytes"
    fake.fake_limit(5 * X.nbytes)  # for x, what is strided, and the result
    strided = Interface(np.repeat(X, 2, -1)[..., ::2])
    with pytest.raises(MemoryError, match=wanted):
        ops.relu(strided)
    fake.fake_limit(1 << 30)
    np.testing.assert_array_equal(ops.relu(x).numpy(), RELU)


def test_what_the_pool_keeps_is_given_back_first() -> None:
    cx.empty_cache()
    x = Interface(X)
    ops.relu(x)  # its result is freed, and kept
    fake.fake_limit(2 * X.nbytes)
    log()
    y = ops.relu(x)
    assert names(log())[0] == "trim"
    np.testing.assert_array_equal(y.numpy(), RELU)
    cx.empty_cache()
    assert log()[-1].startswith("trim")


def test_a_launch_that_fails() -> None:
    x = Interface(X)
    fake.fake_fail(9)
    message = r"activation_forward on cuda:0 \(x float32 \(2, 3, 4, 5\), y .*\) did not launch: invalid conf"
    with pytest.raises(RuntimeError, match=message):
        ops.relu(x)
    np.testing.assert_array_equal(ops.relu(x).numpy(), RELU)


def test_a_lost_context() -> None:
    x = Interface(X)
    y = ops.relu(x)
    fake.fake_fail(700)
    try:
        with pytest.raises(RuntimeError, match=r"illegal access.*sticky.*restarted"):
            ops.relu(x, out=y)
        with pytest.raises(RuntimeError, match="sticky"):
            ops.add(x, x)
        with pytest.raises(RuntimeError, match="sticky"):
            y.numpy()
        np.testing.assert_array_equal(ops.relu(X), RELU)  # the CPU goes on
        assert "sticky" in cx.info().cuda
    finally:
        fake.fake_fail(0)


def test_malformed_interfaces() -> None:
    class Wrong:
        __cuda_array_interface__ = "text"

    with pytest.raises(TypeError, match=r"x.__cuda_array_interface__ is str"):
        ops.relu(Wrong())
    for more, error, message in [
        ({"shape": 3}, TypeError, r'"shape"\] is 3'),
        ({"strides": (4,)}, TypeError, "strides"),
        ({"strides": (1, 2, 3, 4)}, ValueError, "aligned"),
        ({"mask": 1}, TypeError, "mask"),
        ({"typestr": ">f4"}, TypeError, "dtype >f4"),
        ({"typestr": "|b1"}, TypeError, "dtype |b1"),
        ({"data": (X.ctypes.data, False)}, ValueError, "memory of no CUDA device"),
        ({"shape": (1,) * 9, "strides": None}, ValueError, "9 dimensions"),
    ]:
        with pytest.raises(error, match=message):
            ops.relu(Interface(X, **more))


W = X.reshape(-1)[:36].reshape(3, 3, 2, 2)
HALF = X.astype(np.float16)
VECTOR = X[0, :, 0, 0].copy()


@pytest.mark.parametrize(
    ("call", "op"),
    [
        (lambda d: ops.conv2d(d(X), d(W), d(VECTOR), residual=d(X[:, :, :3, :4])), "conv2d_forward"),
        (lambda d: ops.conv2d_backward_data(d(X[:, :, :3, :4]), d(W), X.shape), "conv2d_backward_data"),
        (
            lambda d: ops.conv2d_backward(d(X[:, :, :3, :4]), d(X), d(W), needs=(False, True, False)),
            "conv2d_backward_weights",
        ),
        (lambda d: ops.conv_transpose2d(d(X), d(W)), "conv2d_backward_data"),
        (lambda d: ops.linear(d(X), d(X[0, 0])), "conv2d_forward"),
        (lambda d: ops.linear_backward(d(X[..., :3]), d(X), d(X[0, 0, :3])), "conv2d_backward_data"),
        (lambda d: ops.conv2d_relu_max_pool2d(d(X), d(W), pool_size=2), "conv2d_relu_max_pool2d_forward"),
        (lambda d: ops.max_pool2d(d(X), 2, return_indices=True), "max_pool2d_forward"),
        (
            lambda d: ops.max_pool2d_backward(d(X[:, :, :2, :2]), d(np.zeros((2, 3, 2, 2), int)), X.shape, 2),
            "max_pool2d_backward",
        ),
        (lambda d: ops.max_unpool2d(d(X), d(np.full(X.shape, 10**9)), 2), "max_unpool2d"),
        (
            lambda d: ops.convert_indices(
                d(np.full((2, 3, 2, 2), 99)), X.shape, 2, source="plane", target="window"
            ),
            "convert_indices",
        ),
        (lambda d: ops.avg_pool2d(d(X), 2), "avg_pool2d_forward"),
        (lambda d: ops.avg_pool2d_backward(d(X[:, :, :2, :2]), X.shape, 2), "avg_pool2d_backward"),
        (lambda d: ops.adaptive_avg_pool2d(d(X), 1), "adaptive_avg_pool2d_forward"),
        (lambda d: ops.adaptive_avg_pool2d_backward(d(X), X.shape), "adaptive_avg_pool2d_backward"),
        (lambda d: ops.activation_backward(d(X), d(Y), "relu"), "activation_backward"),
        (lambda d: ops.relu6(d(X)), "activation_forward"),
        (lambda d: ops.add(d(X.astype(np.float64)), d(Y.astype(np.float64))), "add"),
        (lambda d: ops.dropout(d(X), seed=1), "dropout"),
        (lambda d: ops.bias_add(d(X), d(VECTOR)), "bias_add"),
        (lambda d: ops.batch_norm(d(X), d(VECTOR), d(VECTOR), training=True), "batch_norm_forward"),
        (
            lambda d: ops.batch_norm_forward(d(HALF), *[d(VECTOR.copy()) for _ in range(4)]),
            "batch_norm_forward",
        ),
        (
            lambda d: ops.batch_norm_backward(d(HALF), d(HALF), *[d(VECTOR)] * 3),
            "batch_norm_backward",
        ),
        (lambda d: ops.softmax(d(X), 1), "softmax_forward"),
        (lambda d: ops.softmax(d(X.astype(np.float16)), 1), "softmax_forward"),
        (lambda d: ops.softmax_backward(d(X), d(Y), 1), "softmax_backward"),
        (lambda d: ops.cross_entropy(d(X[0, 0]), d(np.full(4, 99))), "cross_entropy_forward"),
        (lambda d: ops.cross_entropy(d(X[0, 0]), d(np.zeros(4, np.int32))), "cross_entropy_forward"),
        (lambda d: ops.pack_weight(d(W)), "pack_weight"),
    ],
)
@pytest.mark.parametrize("strided", [False, True])
def test_what_this_library_has_not(call: Any, op: str, strided: bool) -> None:
    """Every operation reaches the table, reads nothing on the host (it would crash), and says what lacks."""

    def device(array: np.ndarray) -> Interface:
        return Interface(np.repeat(array, 2, -1)[..., ::2] if strided else array)

    with pytest.raises(NotImplementedError, match=op) as found:
        call(device)
    assert "cuda" in str(found.value).lower()


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            lambda: ops.batch_norm_forward(Interface(X), None, None, Interface(VECTOR.astype(np.float16))),
            "weight has dtype float16, but x has float32; they must be equal",
        ),
        (
            lambda: ops.batch_norm_forward(Interface(HALF), None, None, Interface(VECTOR.astype(float))),
            "weight has dtype float64, but x has float16; it must be float16 or float32",
        ),
        (
            lambda: ops.batch_norm_forward(
                Interface(HALF), None, None, Interface(VECTOR), Interface(VECTOR.astype(np.float16))
            ),
            "bias has dtype float16, but weight has float32; they must be equal",
        ),
        (
            lambda: ops.batch_norm_backward(
                Interface(HALF), Interface(HALF), None, *[Interface(VECTOR.astype(np.float16))] * 2
            ),
            "save_mean has dtype float16; beside float16 x it must be float32, as the forward saves it",
        ),
    ],
)
def test_dtypes_of_batch_norm(call: Any, text: str) -> None:
    with pytest.raises(TypeError, match=f"^{text}$"):
        call()


def test_gradients_of_biases() -> None:
    x, w = Interface(X[0]), Interface(W)
    grad = ops.conv2d_backward(Interface(X[0]), x, w, needs=(False, False, True))[2]
    np.testing.assert_allclose(grad.numpy(), X[0].sum((1, 2)), rtol=1e-5, atol=1e-5)
    grad = ops.linear_backward(Capsules(X), Capsules(X), w, needs=(False, False, True))[2]
    np.testing.assert_allclose(grad.numpy(), X.sum((0, 1, 2)), rtol=1e-5, atol=1e-5)
