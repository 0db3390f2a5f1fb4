"""What comes in from CUDA devices and goes out, on fake_cuda: run by tests/test_device_arrays.py."""

from __future__ import annotations

import ctypes
from typing import Any

import cnnext as cx
import numpy as np
import pytest
from arrays import LAST, RELU, Capsules, Interface, X, device_array, fake, log, names, nothing_is_left  # noqa: F401
from cnnext import _C, ops

pytestmark = pytest.mark.usefixtures("nothing_is_left")


# ---- what comes in and goes out


def test_info() -> None:
    assert cx.info().cuda == "available"
    assert cx.info().cuda_devices == ("Fake 0, sm_00, 1 GiB", "Fake 1, sm_00, 1 GiB")
    assert "cuda:1 Fake 1" in str(cx.info())


@pytest.mark.parametrize("version", [2, 3])
def test_an_interface_is_read_where_it_lies(version: int) -> None:
    x = Interface(X, version=version)
    log()
    y = ops.relu(x)
    assert names(log()) == ["alloc", "activation_forward"]  # the result, and no copy
    assert type(y) is _C.DeviceArray
    assert (y.shape, y.dtype, y.device, y.nbytes) == (X.shape, "float32", "cuda:0", X.nbytes)
    np.testing.assert_array_equal(y.numpy(), RELU)
    assert _C.last_kernel() == "cuda/fake"


@pytest.mark.parametrize("versioned", [True, False])
def test_a_capsule_is_read_where_it_lies(versioned: bool) -> None:
    x = Capsules(X, 1, versioned)
    log()
    y = ops.relu(x)
    assert log() == ["alloc 480 device 1 stream 0", "activation_forward device 1 stream 0"]
    assert x.streams == [1]  # the legacy default stream, as DLPack numbers it
    assert y.device == "cuda:1"
    np.testing.assert_array_equal(y.numpy(), RELU)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.float32])
def test_dtypes(dtype: Any) -> None:
    y = ops.relu(Interface(X.astype(dtype)))
    assert y.dtype == np.dtype(dtype).name
    np.testing.assert_array_equal(y.numpy(), RELU.astype(dtype))


class Bfloat16(Capsules):
    """By DLPack alone, as the interface has no name for the type: int16 whose capsules say bfloat16."""

    def __dlpack__(self, **how: Any) -> Any:
        capsule = super().__dlpack__(stream=how["stream"])
        pointer = ctypes.pythonapi.PyCapsule_GetPointer
        pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
        ctypes.c_uint8.from_address(pointer(capsule, b"dltensor") + 20).value = 4  # DLTensor.dtype.code
        return capsule


def test_bfloat16() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x = X.astype(ml_dtypes.bfloat16)
    y = ops.relu(Bfloat16(x.view(np.int16)))
    assert y.dtype == "bfloat16"
    np.testing.assert_array_equal(y.numpy(), np.maximum(x, x.dtype.type(0)))
    with pytest.raises(AttributeError, match="bfloat16 has no typestr"):
        _ = y.__cuda_array_interface__
    np.testing.assert_array_equal(ops.relu(y).numpy(), y.numpy())  # by DLPack
    with pytest.raises(TypeError, match=r"x has dtype .*V2"):
        ops.relu(Interface(X, typestr="<V2"))


def test_channels_last_is_kept() -> None:
    x = Interface(LAST)
    log()
    y = ops.relu(x)
    assert names(log()) == ["alloc", "activation_forward"]
    assert y.__cuda_array_interface__["strides"] == LAST.strides
    np.testing.assert_array_equal(y.numpy(), RELU)


@pytest.mark.parametrize(
    "view", [lambda a: a[:, :, ::2, 1:], lambda a: a[..., ::-1], lambda a: a[:1].repeat(2, 0)[:, ::2]]
)
def test_strided_arrays_are_copied_once_on_the_device(view: Any) -> None:
    x = view(X)
    device = Interface(x)
    log()
    y = ops.relu(device)
    assert names(log()) == ["alloc", "alloc", "copy", "activation_forward", "free"]
    np.testing.assert_array_equal(y.numpy(), np.maximum(x, 0))


def test_two_formats() -> None:
    x, y = Interface(X), Interface(LAST)
    log()
    total = ops.add(x, y)
    assert names(log()).count("copy") == 1
    np.testing.assert_array_equal(total.numpy(), X + LAST)


@pytest.mark.parametrize("shape", [(0,), (0, 3, 4, 5), (2, 0)])
def test_empty_arrays(shape: tuple[int, ...]) -> None:
    x = np.zeros(shape, np.float32)
    y = ops.relu(Interface(x))
    assert (type(y), y.shape, y.device) == (_C.DeviceArray, shape, "cuda:0")
    assert y.numpy().shape == shape
    assert ops.add(y, y).shape == shape
    assert not [line for line in log() if not line.startswith("synchronize")]


def test_a_sum_over_nothing() -> None:
    np.testing.assert_array_equal(ops.bias_grad(Interface(X[:0])).numpy(), np.zeros(3))


def test_contiguous() -> None:
    y = ops.contiguous(Interface(X), channels_last=True)
    assert y.__cuda_array_interface__["strides"] == LAST.strides
    np.testing.assert_array_equal(y.numpy(), X)


# ---- out=


def test_out_is_written_where_it_lies() -> None:
    x, out = Interface(X), Interface(np.zeros_like(X))
    log()
    assert ops.relu(x, out=out) is out
    assert names(log()) == ["activation_forward"]
    np.testing.assert_array_equal(out.numpy(), RELU)
    held = device_array(np.zeros_like(X))
    assert ops.relu(x, out=held) is held
    np.testing.assert_array_equal(held.numpy(), RELU)
    assert ops.relu(x, out=x) is x
    np.testing.assert_array_equal(x.numpy(), RELU)


def test_a_strided_out() -> None:
    whole = np.full((2, 3, 8, 10), 7, np.float32)
    out = Interface(whole[:, :, ::2, ::2])
    log()
    assert ops.relu(Interface(X), out=out) is out
    assert names(log())[1:] == ["alloc", "activation_forward", "copy", "free", "free"]
    np.testing.assert_array_equal(out.numpy(), RELU)
    assert (out.memory.read().view(np.float32)[1:10:2] == 7).all()  # the gaps


def test_out_over_an_input() -> None:
    long = X.reshape(-1)
    whole = Interface(long)

    def part(start: int) -> Interface:
        view = Interface.__new__(Interface)
        view.array, view.memory = long[:-1], whole.memory
        view.more = {"data": (whole.address + 4 * start, False)}
        return view

    ops.add(part(0), part(1), out=part(1))
    np.testing.assert_array_equal(whole.numpy()[1:], long[:-1] + long[1:])


def test_what_is_no_out() -> None:
    x = Interface(X)
    with pytest.raises(ValueError, match="out is read-only"):
        ops.relu(x, out=Interface(X, data=(x.address, True)))
    with pytest.raises(ValueError, match=r"^\w+: out is on the CPU, but x is on cuda:0"):
        ops.relu(x, out=X.copy())
    with pytest.raises(ValueError, match="out is on cuda:0, but x is on the CPU"):
        ops.relu(X, out=x)
    with pytest.raises(ValueError, match="out is on cuda:1, but x is on cuda:0"):
        ops.relu(x, out=Interface(X, 1))
    with pytest.raises(ValueError, match="shape"):
        ops.relu(x, out=Interface(X[:1]))


def test_an_optimiser_updates_in_place() -> None:
    params = [X.copy(), LAST.copy()[:, ::2]]
    on_device = [Interface(p) for p in params]
    grads = [Interface(np.ones_like(p)) for p in params]
    ops.sgd_step(on_device, grads, None, lr=0.5)
    for found, before in zip(on_device, params, strict=True):
        np.testing.assert_array_equal(found.numpy(), before - np.float32(0.5))
