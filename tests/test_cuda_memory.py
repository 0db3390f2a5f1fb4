"""Memory and errors of calls on CUDA: the pool does not grow, and what fails leaves the process usable."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from typing import Any

import cnnext as cx
import gpu
import numpy as np
import pytest
from cnnext import _C, ops

gpu.need_device()
from gpu import arrays, driver, libraries  # noqa: E402
from gpu.arrays import INTERFACE, Interface, device_array  # noqa: E402

pytestmark = pytest.mark.cuda
X = np.random.default_rng(0).standard_normal((2, 3, 6, 7)).astype(np.float32)
W = np.random.default_rng(1).standard_normal((4, 3, 3, 3)).astype(np.float32)
RELU = np.maximum(X, 0)
#: What other processes on the device may take or give back meanwhile.
SLACK = 0 if gpu.ON_BED else 64 << 20


def still_works() -> None:
    np.testing.assert_array_equal(ops.relu(Interface(X)).numpy(), RELU)


def one_step(x: Any, w: Any) -> None:
    y = ops.conv2d(x, w, padding=1)
    pooled, where = ops.max_pool2d(y, 2, return_indices=True)
    grad = ops.max_pool2d_backward(pooled, where, y.shape, 2)
    ops.conv2d_backward(grad, x, w, padding=1)


@pytest.mark.parametrize("kind", arrays.kinds(), ids=str)
def test_many_calls_take_no_more_memory_than_a_few(kind: arrays.Kind) -> None:
    size = 8 if gpu.ON_BED else 224
    host = np.random.default_rng(2).standard_normal((2, 3, size, size)).astype(np.float32)
    x, w = kind.put(host), kind.put(W)
    free = []
    for calls in (3, 10 if gpu.ON_BED else 500):
        for _ in range(calls):
            one_step(x, w)
        gc.collect()
        driver.synchronize()
        free.append(driver.free_bytes())
    assert free[1] >= free[0] - SLACK


def test_many_sizes_take_no_more_memory_than_the_largest() -> None:
    largest = 12 if gpu.ON_BED else 256
    sizes = [largest, *range(3, largest)]
    free = []
    for size in sizes:
        one_step(device_array(np.ones((1, 3, size, size + 1), np.float32)), device_array(W))
        gc.collect()
        driver.synchronize()
        free.append(driver.free_bytes())
    assert min(free) >= free[0] - SLACK


def test_empty_cache_gives_memory_back() -> None:
    gc.collect()
    cx.empty_cache()
    driver.synchronize()
    before = driver.free_bytes()
    size = (1 << 20) if gpu.ON_BED else (1 << 30)
    x = Interface(np.zeros(1, np.float32))
    huge = ops.contiguous(Broadcast(x, (size // 4,)))
    assert driver.free_bytes() <= before - size
    del huge, x
    driver.synchronize()
    cx.empty_cache()
    assert driver.free_bytes() >= before - SLACK


class Broadcast:
    """One element that is shown as many."""

    def __init__(self, one: Interface, shape: tuple[int, ...]) -> None:
        self.one, self.shape = one, shape

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {**self.one.__cuda_array_interface__, "shape": self.shape, "strides": (0,) * len(self.shape)}


@pytest.mark.parametrize("shape", [(2**42,), (2**14, 2**14, 2**14)])
def test_out_of_memory_leaves_the_process_usable(shape: tuple[int, ...]) -> None:
    x = Broadcast(Interface(np.ones(1, np.float32)), shape)
    with pytest.raises(
        MemoryError, match=r"^a result of float32 \(\d+,.* a block of \d+ bytes.*GiB of .* are free"
    ):
        ops.relu(x)
    still_works()


def test_a_size_beyond_64_bits() -> None:
    x = Broadcast(Interface(np.ones(1, np.float32)), (2**31, 2**31, 2**4))
    with pytest.raises((MemoryError, ValueError)):
        ops.relu(x)
    still_works()


@pytest.mark.parametrize("kind", arrays.kinds(), ids=str)
def test_a_host_array_beside_a_device_array(kind: arrays.Kind) -> None:
    x = kind.put(X)
    with pytest.raises(ValueError, match=r"^add: b is on the CPU, but a is on cuda:0;.* \(b is float32 \("):
        ops.add(x, X)
    with pytest.raises(ValueError, match=r"^conv2d: weight is on the CPU, but x is on cuda:0"):
        ops.conv2d(x, W)
    with pytest.raises(ValueError, match=r"^\w+: out is on the CPU, but x is on cuda:0"):
        ops.relu(x, out=X.copy())
    still_works()


def test_two_devices() -> None:
    torch = libraries.need_torch()
    if len(_C.cuda_devices()) < 2:
        pytest.skip("there is one device; tests/fake_cuda has two")
    x, other = (torch.ones(3, device=f"cuda:{number}") for number in range(2))
    with pytest.raises(ValueError, match="b is on cuda:1, but a is on cuda:0"):
        ops.add(x, other)
    assert ops.relu(other).get_device() == 1


def test_shapes_are_judged_as_on_the_host() -> None:
    x = INTERFACE.put(X)
    for call in (
        lambda a: ops.conv2d(a(X), a(W[:, :2])),
        lambda a: ops.max_pool2d(a(X), 9),
        lambda a: ops.add(a(X), a(X[:1])),
    ):
        with pytest.raises(ValueError, match=r".") as on_host:
            call(lambda array: array)
        with pytest.raises(ValueError, match=r".") as on_device:
            call(INTERFACE.put)
        assert str(on_device.value) == str(on_host.value)
    np.testing.assert_array_equal(INTERFACE.take(x), X)


@pytest.mark.parametrize(
    ("error", "driver", "reason"),
    [
        (35, 0, "no NVIDIA driver is installed (libcuda.so.1 was not found)"),
        (
            35,
            12020,
            "the NVIDIA driver is too old: it is for CUDA 12.2, and this library was built with CUDA 12.4",
        ),
        (100, 13000, "the NVIDIA driver shows no CUDA device; CUDA_VISIBLE_DEVICES is ''"),
        (999, 13000, "an error of the fake device (cudaError)"),
    ],
)
@pytest.mark.skipif(not gpu.ON_BED, reason="the test bed's driver says so")
def test_why_there_is_no_device(error: int, driver: int, reason: str) -> None:
    off = {"CNNEXT_BED_OFF": str(error), "CNNEXT_BED_DRIVER": str(driver), "CUDA_VISIBLE_DEVICES": ""}
    code = "import cnnext as cx; print(cx.info().cuda); cx.zeros(3, device='cuda')"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **off}
    )
    assert done.stdout.strip().endswith(f"libcnnext_cuda_host.so: {reason}")
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("NotImplementedError: device 'cuda' is not supported here: ")
    assert last.endswith(reason)


def test_classes_that_there_are_not() -> None:
    """The host raises; a device that nobody waits for gives NaN."""
    logits = np.zeros((3, 4), np.float32)
    target = np.array([1, 99, -1])
    with pytest.raises(ValueError, match="99"):
        ops.cross_entropy(logits, target, reduction="none")
    loss = ops.cross_entropy(INTERFACE.put(logits), INTERFACE.put(target), reduction="none")
    np.testing.assert_array_equal(np.isnan(loss.numpy()), [False, True, True])
    still_works()


def test_indices_that_there_are_not() -> None:
    """They are dropped by the gradient, and nothing beside the plane is written."""
    shape = (1, 2, 4, 4)
    wrong = np.full((1, 2, 2, 2), 10**12)
    wrong[0, 0, 0, 0] = 5
    grad = np.ones((1, 2, 2, 2), np.float32)
    back = ops.max_pool2d_backward(INTERFACE.put(grad), INTERFACE.put(wrong), shape, 2).numpy()
    expected = np.zeros(shape, np.float32)
    expected[0, 0, 1, 1] = 1
    np.testing.assert_array_equal(back, expected)
    still_works()


def test_empty_batches() -> None:
    empty = INTERFACE.put(np.zeros((0, 3, 6, 7), np.float32))
    y = ops.conv2d(empty, INTERFACE.put(W), padding=1)
    assert y.shape == (0, 4, 6, 7)
    grads = ops.conv2d_backward(y, empty, INTERFACE.put(W), padding=1)
    assert [g.shape for g in grads] == [(0, 3, 6, 7), W.shape, (4,)]
    assert not grads[1].numpy().any()
    assert not grads[2].numpy().any()
