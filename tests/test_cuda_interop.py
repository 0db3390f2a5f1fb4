"""cnnext, torch and CuPy on CUDA: what one has made the others take, without a copy."""

from __future__ import annotations

from typing import Any

import cnnext as cx
import gpu
import numpy as np
import pytest
from cnnext import _C, ops

gpu.need_device()
from gpu import arrays, driver, libraries  # noqa: E402
from gpu.arrays import DEVICE_ARRAY, INTERFACE, device_array  # noqa: E402

pytestmark = pytest.mark.cuda
X = np.random.default_rng(0).standard_normal((2, 3, 4, 5)).astype(np.float32)
LAST = np.moveaxis(np.moveaxis(X, 1, -1).copy(), -1, 1)
RELU = np.maximum(X, 0)
MAKERS = {"torch": arrays.torch_kind, "cupy": arrays.cupy_kind}


def library_of(name: str) -> Any:
    return libraries.need_torch() if name == "torch" else libraries.need_cupy()


def address(array: Any) -> int:
    return array.data_ptr() if hasattr(array, "data_ptr") else array.data.ptr


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("dtype", ["float32", "float16", "int64", "uint8"])
def test_a_device_array_is_taken_without_a_copy(name: str, dtype: str) -> None:
    library, kind = library_of(name), MAKERS[name]()
    host = (10 * X).astype(dtype)
    y = device_array(host)
    taken = library.from_dlpack(y)
    assert address(taken) == y.__cuda_array_interface__["data"][0]
    np.testing.assert_array_equal(kind.take(taken), host)
    del y  # the capsule keeps the memory
    np.testing.assert_array_equal(kind.take(taken), host)


@pytest.mark.parametrize("name", MAKERS)
def test_a_result_in_channels_last(name: str) -> None:
    library, kind = library_of(name), MAKERS[name]()
    taken = library.from_dlpack(ops.relu(device_array(LAST)))
    back = kind.take(taken)
    np.testing.assert_array_equal(back, RELU)
    assert back.strides == LAST.strides


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("layout", [X, LAST], ids=["nchw", "nhwc"])
def test_results_are_of_the_library(name: str, layout: np.ndarray) -> None:
    library_of(name)
    kind = MAKERS[name]()
    x = kind.put(layout)
    y = ops.relu(x)
    assert type(y) is type(x)
    assert kind.take(y).strides == layout.strides
    out = kind.put(np.zeros_like(layout))
    assert ops.relu(x, out=out) is out
    np.testing.assert_array_equal(kind.take(out), RELU)


@pytest.mark.parametrize("name", MAKERS)
def test_arrays_of_two_libraries_are_refused(name: str) -> None:
    library_of(name)
    x = MAKERS[name]().put(X)
    with pytest.raises(TypeError, match="arrays of two libraries"):
        ops.add(x, INTERFACE.put(X))


def test_torch_and_cupy_share_memory() -> None:
    torch, cupy = libraries.need_torch(), libraries.need_cupy()
    x = arrays.torch_kind().put(X)
    seen = cupy.from_dlpack(x)
    assert address(seen) == address(x)
    y = torch.from_dlpack(ops.relu(seen))
    np.testing.assert_array_equal(arrays.torch_kind().take(y), RELU)


def test_torch_s_bfloat16() -> None:
    torch = libraries.need_torch()
    kind = arrays.torch_kind()
    host = X.astype(arrays.BFLOAT16)
    y = ops.relu(kind.put(host))
    assert y.dtype == torch.bfloat16
    np.testing.assert_array_equal(kind.take(y), np.maximum(host, host.dtype.type(0)))
    taken = torch.from_dlpack(ops.relu(device_array(host)))
    np.testing.assert_array_equal(kind.take(taken), np.maximum(host, host.dtype.type(0)))


def test_cupy_s_views_are_read_where_they_lie() -> None:
    libraries.need_cupy()
    kind = arrays.cupy_kind()
    x = kind.put(X)
    for view in (lambda a: a[:, :, ::2, 1:], lambda a: a[..., ::-1], lambda a: a.transpose(0, 1, 3, 2)):
        np.testing.assert_array_equal(kind.take(ops.relu(view(x))), np.maximum(view(X), 0))


def test_an_interface_and_dlpack_show_the_same() -> None:
    y = device_array(X)
    shown = y.__cuda_array_interface__
    assert (shown["shape"], shown["typestr"], shown["strides"]) == (X.shape, "<f4", None)
    assert y.__dlpack_device__() == (2, 0)
    np.testing.assert_array_equal(DEVICE_ARRAY.take(ops.relu(y)), RELU)


def test_a_tensor_of_ours_takes_any_of_them() -> None:
    libraries.need_cupy()
    for kind in arrays.kinds():
        tensor = cx.Tensor(kind.put(X))
        assert tensor.device == "cuda:0"
        np.testing.assert_array_equal(tensor.cpu().numpy(), X)
        driver.synchronize()


def test_a_tensor_of_ours_goes_to_the_operations() -> None:
    libraries.need_cupy()
    y = ops.relu(cx.Tensor(X).to("cuda"))
    assert _C.last_kernel().startswith("cuda/")
    np.testing.assert_array_equal(arrays.cupy_kind().take(y), RELU)
