"""CUDA arrays of torch, CuPy and JAX through cnnext.ops, on fake_cuda: run by tests/test_device_arrays.py."""

from __future__ import annotations

import sys
from typing import Any

import cnnext as cx
import libraries
import numpy as np
import pytest
from arrays import LAST, RELU, Interface, X, log, names
from cnnext import ops
from libraries import CupyResult, current

libraries.install(dict.__setitem__)


KINDS = {"torch": libraries.Tensor, "cupy": libraries.ndarray}
RESULTS = {"torch": libraries.Tensor, "cupy": CupyResult}


@pytest.mark.parametrize("device", [0, 1])
@pytest.mark.parametrize("library", ["torch", "cupy"])
def test_on_the_library_s_current_stream(library: str, device: int) -> None:
    x = KINDS[library](X, device)
    log()
    y = ops.relu(x)
    lines = log()
    assert f"activation_forward device {device} stream {current[library] + device}" in lines
    assert "wait" not in names(lines)  # its work is on that stream anyway
    assert "copy" not in names(lines)
    assert type(y) is RESULTS[library]
    assert y.stream == current[library]  # allocated by the library on its own stream
    np.testing.assert_array_equal(y.numpy(), RELU)
    out = KINDS[library](X * 0, device)
    assert ops.relu(x, out=out) is out


@pytest.mark.parametrize("device", [0, 1])
@pytest.mark.parametrize("library", ["torch", "cupy"])
@pytest.mark.parametrize("stream", [99, 0])
def test_on_a_named_stream(library: str, stream: int, device: int) -> None:
    x = KINDS[library](X, device)
    log()
    with cx.cuda_stream(stream):
        y = ops.relu(x)
    lines = log()
    assert lines[0] == f"wait device {device} stream {stream} for {current[library] + device}"
    assert f"activation_forward device {device} stream {stream}" in lines
    assert y.stream == stream  # allocated for it
    assert np.array_equal(y.numpy(), RELU)


def test_a_named_stream_before_cupy_14(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(libraries.cupy.cuda.Stream, "from_external")
    with cx.cuda_stream(98):
        assert ops.relu(libraries.ndarray(X)).stream == 98


def test_torch_s_strides() -> None:
    x = libraries.Tensor(X[:, :, ::2])
    log()
    np.testing.assert_array_equal(ops.relu(x).numpy(), RELU[:, :, ::2])
    assert names(log()).count("copy") == 1
    y = ops.relu(libraries.Tensor(LAST))
    assert y.array.strides == LAST.strides
    assert "copy" not in names(log())


def test_what_torch_has_and_cnnext_takes_not() -> None:
    x = libraries.Tensor(X)
    x.dtype = "complex64"
    with pytest.raises(TypeError, match="x has dtype complex64"):
        ops.relu(x)
    x.layout = "sparse"
    with pytest.raises(TypeError, match="x must be a dense tensor, got layout sparse"):
        ops.relu(x)


def test_cupy_gives_axes_in_memory_s_order() -> None:
    x = libraries.ndarray(X)
    x.inner = ops.contiguous(Interface(LAST), channels_last=True)
    y = ops.relu(x)
    assert y.result.array.shape == (2, 4, 5, 3)
    np.testing.assert_array_equal(y.numpy(), RELU)


def test_torch_s_negated_views() -> None:
    x = libraries.Tensor(X)
    x.negated = True
    np.testing.assert_array_equal(ops.relu(x).numpy(), np.maximum(-X, 0))
    with pytest.raises(TypeError, match="out is written, so it must be no negated view"):
        ops.relu(libraries.Tensor(X), out=x)
    x.requires_grad = True
    with pytest.raises(TypeError, match=r"x requires grad.*cnnext.interop.torch"):
        ops.relu(x)


def test_jax_takes_the_result_by_dlpack() -> None:
    x = libraries.Array(X)
    log()
    y = ops.relu(x)
    assert x.streams == [1]
    assert "wait device 0 stream 701 for 0" in log()  # JAX's stream for what we made on ours
    np.testing.assert_array_equal(y.taken.numpy(), RELU)
    with pytest.raises(TypeError, match="out is a JAX array, which cannot be written"):
        ops.relu(x, out=x)


@pytest.mark.parametrize("other", [libraries.ndarray, libraries.Array, Interface])
def test_two_libraries_are_refused(other: Any) -> None:
    x = libraries.Tensor(X)
    with pytest.raises(TypeError, match="x and y are arrays of two libraries"):
        ops.add(x, other(X))
    if other is not libraries.Array:
        with pytest.raises(TypeError, match="x and out are arrays of two libraries"):
            ops.relu(x, out=other(X))
    with pytest.raises(TypeError, match="params and grads are arrays of two libraries"):
        ops.sgd_step([x], [other(X)], None, lr=1)


def test_a_numpy_array_beside_a_tensor_on_cuda() -> None:
    with pytest.raises(ValueError, match="b is on the CPU, but a is on cuda:0"):
        ops.add(libraries.Tensor(X), X)


def test_nothing_more_was_imported() -> None:
    assert sys.modules["torch"] is libraries.torch
    assert "numba" not in sys.modules
