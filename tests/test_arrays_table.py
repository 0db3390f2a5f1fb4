"""One table of what counts as an array on the host: every library's, in every form, read where it lies.

Addresses are proven by the library itself: batch norm refuses running statistics that share memory with x.
Arrays on CUDA devices, and their streams: tests/fake_cuda, run by test_device_arrays.py.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import cnnext
import numpy as np
import pytest
from cnnext import ops

SHAPE = (2, 3, 6, 4)


def aligned(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Random numbers at an address that every library takes without a copy."""
    dtype = np.dtype(dtype)
    count = int(np.prod(shape))
    raw = np.zeros(count * dtype.itemsize + 64, np.uint8)
    start = -raw.ctypes.data % 64
    array = raw[start : start + count * dtype.itemsize].view(dtype).reshape(shape)
    array[...] = np.random.default_rng(0).standard_normal(shape)
    return array


# ---- libraries: what shows a NumPy array's memory as theirs


class Plain:
    """__dlpack__ and nothing else; keeps what it was asked. versions: of the capsules that it knows."""

    def __init__(self, array: Any, versioned: bool) -> None:
        self._array, self._versioned, self.asked = array, versioned, []

    def __dlpack__(self, **how: Any) -> Any:
        if how and not self._versioned:
            raise TypeError("__dlpack__() got an unexpected keyword argument")
        self.asked.append(how)
        return self._array.__dlpack__(**how)

    def __dlpack_device__(self) -> Any:
        return self._array.__dlpack_device__()


def to_torch(array: np.ndarray) -> Any:
    torch = pytest.importorskip("torch")
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    if not array.flags.writeable:
        pytest.skip("torch has no read-only tensors")
    return torch.from_numpy(array)


def to_jax(array: np.ndarray) -> Any:
    jax = pytest.importorskip("jax")
    if not array.flags.c_contiguous:
        pytest.skip("JAX's arrays are row-major")
    if array.dtype == np.float64:
        pytest.skip("JAX has no float64 unless it is told")
    array = array.view()
    array.flags.writeable = True  # which JAX asks for, and does not use: all its arrays are read-only
    shown = jax.dlpack.from_dlpack(to_torch(array) if array.dtype.name == "bfloat16" else array, copy=False)
    assert shown.size == 0 or shown.unsafe_buffer_pointer() == array.ctypes.data
    return shown


def to_plain(array: np.ndarray, versioned: bool) -> Plain:
    if not array.flags.writeable and (not versioned or np.lib.NumpyVersion(np.__version__) < "2.1.0"):
        pytest.skip("only versioned capsules say that they are read-only, since NumPy 2.1")
    return Plain(to_torch(array) if array.dtype.name == "bfloat16" else array, versioned)


LIBRARIES: dict[str, Callable[[np.ndarray], Any]] = {
    "numpy": lambda array: array,
    "torch": to_torch,
    "jax": to_jax,
    "dlpack 1": lambda array: to_plain(array, True),
    "dlpack 0": lambda array: to_plain(array, False),
}

# ---- forms: a view of aligned memory


def read_only(array: np.ndarray) -> np.ndarray:
    view = array.view()
    view.flags.writeable = False
    return view


def channels_last(array: np.ndarray) -> np.ndarray:
    n, c, h, w = array.shape
    return array.reshape(n, h, w, c).transpose(0, 3, 1, 2)


FORMS: dict[str, tuple[Any, Callable[[np.ndarray], np.ndarray]]] = {
    "dense": (np.float32, lambda a: a),
    "read-only": (np.float32, read_only),
    "strided": (np.float32, lambda a: a[:, :, ::2, 1:]),
    "channels-last": (np.float32, channels_last),
    "float64": (np.float64, lambda a: a),
    "float16": (np.float16, lambda a: a),
    "bfloat16": ("bfloat16", lambda a: a),
    "0-size": (np.float32, lambda a: a[:0]),
}


def memory(form: str) -> tuple[np.ndarray, np.ndarray]:
    """(an array's memory, the form's view of it)."""
    dtype, view = FORMS[form]
    if dtype == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes").bfloat16
    whole = aligned(SHAPE, dtype)
    return whole, view(whole)


def numbers(array: Any) -> np.ndarray:
    if type(array).__module__.startswith("torch"):
        array = array.double()
    return np.asarray(array).astype(np.float64)


TABLE = pytest.mark.parametrize(
    ("library", "form"), [(library, form) for library in LIBRARIES for form in FORMS], ids=lambda name: name
)


@TABLE
def test_values_and_the_results_library(library: str, form: str) -> None:
    _, view = memory(form)
    x = LIBRARIES[library](view)
    y, indices = ops.max_pool2d(x, 2, return_indices=True)
    wanted, places = ops.max_pool2d(view.copy(), 2, return_indices=True)
    np.testing.assert_array_equal(numbers(y), numbers(wanted))
    np.testing.assert_array_equal(numbers(indices), numbers(places))
    own = type(y) is type(x) if library in ("torch", "jax") else type(y) is np.ndarray
    assert own
    assert str(y.dtype).removeprefix("torch.") == view.dtype.name
    if form == "channels-last":
        strides = y.stride() if library == "torch" else [s // y.itemsize for s in y.strides]
        assert strides[1] == 1
    if isinstance(x, Plain):
        assert x.asked
        assert all(how.get("stream") is None and not how.get("copy") for how in x.asked)


@TABLE
def test_it_is_read_where_it_lies(library: str, form: str) -> None:
    whole, view = memory(form)
    x = LIBRARIES[library](view)
    if view.size and view.dtype.itemsize > 2:
        # At the same address: the library sees that the two overlap.
        shared = whole.ravel()[1:4]
        with pytest.raises(ValueError, match="running_mean shares memory with x"):
            ops.batch_norm(x, shared, np.ones(3, view.dtype), training=True)
        ops.batch_norm(x, np.zeros(3, view.dtype), np.ones(3, view.dtype), training=True)
    # Nothing is allocated beside the result but the one copy of what is neither row-major nor channels-last.
    before = cnnext.memory_stats()["allocations"]
    y = ops.relu(x)
    copies = 1 if form == "strided" else 0
    assert cnnext.memory_stats()["allocations"] - before == 1 + copies
    np.testing.assert_array_equal(numbers(y), np.maximum(numbers(view), 0))


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("form", ["dense", "strided", "channels-last", "float16", "bfloat16"])
def test_out_is_written_where_it_lies(library: str, form: str) -> None:
    _, view = memory(form)
    wanted = np.maximum(numbers(view), 0)
    out = LIBRARIES[library](view)
    assert ops.relu(view.copy(), out=out) is out
    np.testing.assert_array_equal(numbers(view), wanted)  # through the memory that it shows


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_result_is_in_the_pools_memory(library: str) -> None:
    """It is handed over, not copied, and given back with the last array that shows it."""
    x = LIBRARIES[library](aligned(SHAPE, np.float32))
    gc.collect()  # what other tests left in cycles
    before = cnnext.memory_stats()["in_use_bytes"]
    y = ops.relu(x)
    assert cnnext.memory_stats()["in_use_bytes"] - before == int(np.prod(SHAPE)) * 4
    del y
    gc.collect()  # when JAX lets go of it
    assert cnnext.memory_stats()["in_use_bytes"] == before


class Elsewhere:
    """Memory of another device: its capsule is never asked for."""

    def __init__(self, *device: int) -> None:
        self._device = device

    def __dlpack_device__(self) -> Any:
        return self._device

    def __dlpack__(self, **how: Any) -> Any:
        raise AssertionError("not to be called")


@pytest.mark.parametrize("device", [(8, 0), (10, 1), (14, 0)])
def test_memory_of_another_device_is_refused(device: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=f"x is on device {device[0]}:{device[1]}"):
        ops.relu(Elsewhere(*device))
