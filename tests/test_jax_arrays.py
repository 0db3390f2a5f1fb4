"""JAX arrays on the CPU: read without a copy, JAX arrays back."""

from __future__ import annotations

import numpy as np
import pytest
from cnnext import ops

jax = pytest.importorskip("jax")

RNG = np.random.default_rng(0)
X, W = (
    RNG.standard_normal((2, 3, 7, 6)).astype(np.float32),
    RNG.standard_normal((4, 3, 3, 2)).astype(np.float32),
)


def test_the_result_is_a_jax_array() -> None:
    x, w = jax.numpy.asarray(X), jax.numpy.asarray(W)
    for weight in (w, W):
        y = ops.conv2d(x, weight, padding=1)
        assert isinstance(y, jax.Array)
        np.testing.assert_array_equal(np.asarray(y), ops.conv2d(X, W, padding=1))
    assert isinstance(ops.conv2d(X, w), np.ndarray)


def test_training_keeps_window_indices() -> None:
    x = jax.numpy.asarray(X)
    y, indices = ops.max_pool2d(x, 2, return_indices=True, indices="window")
    assert indices.dtype == np.uint8
    grad = ops.max_pool2d_backward(y, indices, X.shape, 2, indices_kind="window")
    wanted = ops.max_pool2d_backward(np.asarray(y), np.asarray(indices), X.shape, 2, indices_kind="window")
    np.testing.assert_array_equal(np.asarray(grad), wanted)


def test_a_jax_array_is_never_written() -> None:
    x = jax.numpy.asarray(X)
    with pytest.raises(TypeError, match="out is a JAX array, which cannot be written"):
        ops.relu(x, out=x)
    with pytest.raises(TypeError, match="running_mean is a JAX array"):
        ops.batch_norm(x, jax.numpy.zeros(3), np.ones(3, np.float32), training=True)
