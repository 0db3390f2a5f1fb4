"""Devices and streams of calls on CUDA arrays, on fake_cuda: run by tests/test_device_arrays.py."""

from __future__ import annotations

from typing import Any

import cnnext as cx
import numpy as np
import pytest
from arrays import RELU, Capsules, Interface, X, Y, device_array, fake, log, names, nothing_is_left  # noqa: F401
from cnnext import _C, ops, testing

pytestmark = pytest.mark.usefixtures("nothing_is_left")


# ---- devices


def test_the_call_runs_on_its_arrays_device() -> None:
    x = Interface(X[:, :, ::2], 1)
    log()
    y = ops.relu(x)
    lines = log()
    assert lines
    assert all("device 1" in line for line in lines)
    assert fake.fake_current() == 0
    np.testing.assert_array_equal(y.numpy(), RELU[:, :, ::2])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ops.add(Interface(X), Y), "^add: b is on the CPU, but a is on cuda:0"),
        (lambda: ops.add(X, Interface(Y)), "b is on cuda:0, but a is on the CPU"),
        (lambda: ops.add(Interface(X), Interface(Y, 1)), "b is on cuda:1, but a is on cuda:0"),
        (lambda: ops.conv2d(Interface(X), X), "weight is on the CPU, but x is on cuda:0"),
        (lambda: ops.conv2d(X, X, Interface(X[0, 0, 0])), "^conv2d: bias is on cuda:0, but x is on the CPU"),
        (lambda: ops.conv2d(Interface(X), ops.pack_weight(X)), "weight is on the CPU, but x is on cuda:0"),
        (
            lambda: ops.sgd_step([Interface(X), Interface(X, 1)], [Interface(X), Interface(X)], None, lr=1),
            r"params\[1\] is on cuda:1, but params\[0\] is on cuda:0",
        ),
        (
            lambda: ops.batch_norm(Interface(X), X[0, :, 0, 0].copy(), X[0, :, 0, 1].copy()),
            "^batch_norm: running_mean is on the CPU, but x is on cuda:0",
        ),
        (
            lambda: ops.cross_entropy(Interface(X[0, 0]), np.zeros(4, np.int64)),
            "target is on the CPU, but x is on cuda:0",
        ),
    ],
)
def test_arrays_on_two_devices(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_forced_backends() -> None:
    with testing.backend("cpu"), pytest.raises(ValueError, match=r"x is on cuda:0.*runs on the CPU"):
        ops.relu(Interface(X))
    with testing.backend("cuda"):
        np.testing.assert_array_equal(ops.relu(Interface(X)).numpy(), RELU)
        with pytest.raises(ValueError, match=r"x is on the CPU.*3 \(cuda\)"):
            ops.relu(X)


# ---- what a kernel is told of the process


def test_float32_precision_reaches_the_cuda_library() -> None:
    try:
        for number, precision in enumerate(("highest", "high", "medium")):
            cx.set_float32_matmul_precision(precision)
            assert fake.fake_float32_precision() == number
    finally:
        cx.set_float32_matmul_precision("highest")


# ---- streams


def test_the_stream_that_is_named() -> None:
    x = Interface(X[:, :, ::2])
    log()
    with cx.cuda_stream(1234):
        y = ops.relu(x)
        with cx.cuda_stream(0):
            assert _C.get_cuda_stream() == 0
        assert _C.get_cuda_stream() == 1234
    lines = log()
    assert len(lines) == 5
    assert all(line.endswith("stream 1234") for line in lines)
    assert y.__cuda_array_interface__["stream"] == 1234
    del y
    assert log() == ["free 240 device 0 stream 1234"]


class OfTorch:
    cuda_stream = 11


class OfCupy:
    ptr = 12


class OfCuda:
    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, 13


@pytest.mark.parametrize(("stream", "handle"), [(OfTorch(), 11), (OfCupy(), 12), (OfCuda(), 13), (1, 0)])
def test_streams_of_libraries(stream: Any, handle: int) -> None:
    with cx.cuda_stream(stream):
        assert _C.get_cuda_stream() == handle


def test_what_is_no_stream() -> None:
    with pytest.raises(TypeError, match="stream must be a cudaStream_t"), cx.cuda_stream("main"):
        pass
    with pytest.raises(ValueError, match="stream is -1"), cx.cuda_stream(-1):
        pass


def test_producers_are_waited_for() -> None:
    x, capsule = Interface(X, stream=77), Capsules(X)
    log()
    ops.relu(x)
    assert log()[0] == "wait device 0 stream 0 for 77"
    with cx.cuda_stream(1234):
        ops.relu(x)
        assert log()[0] == "wait device 0 stream 1234 for 77"
        ops.relu(capsule)
        assert capsule.streams == [1234]
    with cx.cuda_stream(77):
        log()
        ops.relu(x)
        assert "wait" not in names(log())
    ops.relu(Interface(X, stream=1))
    assert "wait" not in names(log())
    with pytest.raises(TypeError, match=r'x.__cuda_array_interface__\["stream"\] is 0'):
        ops.relu(Interface(X, stream=0))


def test_nothing_synchronises() -> None:
    x = Interface(X[:, :, ::2], stream=77)
    log()
    ops.add(x, x)
    assert "synchronize" not in names(log())


def test_consumers_wait_for_a_device_array() -> None:
    with cx.cuda_stream(1234):
        y = ops.relu(Interface(X))
    log()
    y.__dlpack__(stream=5)
    assert log() == ["wait device 0 stream 5 for 1234"]
    y.__dlpack__(stream=-1)
    y.__dlpack__(stream=1234, max_version=(1, 0))
    assert log() == []
    y.__dlpack__()
    assert log() == ["wait device 0 stream 0 for 1234"]
    for wrong in (0, -2):
        with pytest.raises(ValueError, match="stream is"):
            y.__dlpack__(stream=wrong)
    with pytest.raises(BufferError):
        y.__dlpack__(copy=True)
    with pytest.raises(BufferError, match="cuda:0"):
        y.__dlpack__(dl_device=(2, 1))


def test_a_capsule_keeps_the_memory() -> None:
    y = device_array(X)
    capsule = y.__dlpack__()
    del y
    assert fake.fake_in_use() == X.nbytes
    del capsule
    assert fake.fake_in_use() == 0


def test_reshape() -> None:
    y = device_array(X)
    flat = y.reshape((6, 20))
    assert flat.shape == (6, 20)
    np.testing.assert_array_equal(flat.numpy(), X.reshape(6, 20))
    assert repr(flat) == "DeviceArray(shape=(6, 20), dtype=float32, device=cuda:0)"
    for shape in ((6, 21), (-1, 20), (2**62, 16)):
        with pytest.raises(ValueError, match="cannot be seen as"):
            y.reshape(shape)
    with pytest.raises(ValueError, match="cannot be seen as"):
        ops.contiguous(Interface(X), channels_last=True).reshape((6, 20))
