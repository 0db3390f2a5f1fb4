"""Streams of calls on CUDA: the producer's is waited for, the library's own is used, and graphs are replayed.

What a call reads is written late, on a stream with much to do before. The test bed puts off what is queued
on a stream until somebody waits for it, so there a call that does not wait reads old values for certain.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cnnext as cx
import gpu
import numpy as np
import pytest
from cnnext import _C, ops

gpu.need_device()
from gpu import arrays, driver, libraries  # noqa: E402
from gpu.arrays import INTERFACE, Interface  # noqa: E402

pytestmark = pytest.mark.cuda
X = np.random.default_rng(0).standard_normal((2, 3, 4, 5)).astype(np.float32)
RELU = np.maximum(X, 0)


@pytest.fixture
def streams() -> Iterator[tuple[driver.Stream, driver.Stream]]:
    """Two that wait for nobody."""
    made = driver.Stream(), driver.Stream()
    yield made
    driver.synchronize()
    for stream in made:
        stream.close()


Streams = tuple[driver.Stream, driver.Stream]


def late(array: np.ndarray, stream: driver.Stream) -> tuple[Interface, Any]:
    """An array whose values come late, on a stream that its interface does not tell; what must live on."""
    x = Interface(np.full_like(array, -1))
    return x, driver.copy_late(x.start, array, stream.handle)


@pytest.mark.skipif(not gpu.ON_BED, reason="on a GPU it is luck what a race gives")
def test_who_does_not_wait_reads_old_values_on_the_bed(streams: Streams) -> None:
    """So the tests below can fail."""
    x, _kept = late(X, streams[0])
    np.testing.assert_array_equal(ops.relu(x).numpy(), np.zeros_like(X))


def test_the_producer_s_stream_is_waited_for(streams: Streams) -> None:
    x, _kept = late(X, streams[0])
    x.stream = streams[0].handle
    np.testing.assert_array_equal(ops.relu(x).numpy(), RELU)


def test_a_named_stream_waits_for_the_producer_s(streams: Streams) -> None:
    x, _kept = late(X, streams[0])
    x.stream = streams[0].handle
    with cx.cuda_stream(streams[1]):
        y = ops.relu(x)
    assert y.__cuda_array_interface__["stream"] == streams[1].handle
    np.testing.assert_array_equal(y.numpy(), RELU)
    del y


def test_the_call_is_queued_on_the_named_stream(streams: Streams) -> None:
    """It needs no wait there: the values come on the same stream."""
    x, _kept = late(X, streams[0])
    with cx.cuda_stream(streams[0]):
        y = ops.relu(ops.add(x, x))
    np.testing.assert_array_equal(y.numpy(), 2 * RELU)
    del y


def test_results_of_one_stream_on_another(streams: Streams) -> None:
    x, _kept = late(X, streams[0])
    with cx.cuda_stream(streams[0]):
        y = ops.relu(x)
    with cx.cuda_stream(streams[1]):
        z = ops.add(y, y)
    np.testing.assert_array_equal(z.numpy(), 2 * RELU)
    del y, z


def test_out_on_a_named_stream(streams: Streams) -> None:
    x, _kept = late(X, streams[0])
    out = Interface(np.zeros_like(X))
    with cx.cuda_stream(streams[0]):
        assert ops.relu(x, out=out) is out
    np.testing.assert_array_equal(out.numpy(), RELU)


def test_strided_arrays_and_scratch_on_a_named_stream(streams: Streams) -> None:
    """The copy to dense memory, the sums' slices and their freeing are all in the stream's order."""
    x, _kept = late(X, streams[0])
    other = Interface(np.asfortranarray(X))
    with cx.cuda_stream(streams[0]):
        y = ops.bias_grad(ops.add(x, other))
    np.testing.assert_allclose(y.numpy(), 2 * X.sum((0, 2, 3)), rtol=1e-5)
    del y


# ---- the current stream of a library


def address(array: Any) -> int:
    return array.data_ptr() if hasattr(array, "data_ptr") else array.data.ptr


def library_stream(name: str) -> tuple[Any, int, Any]:
    """A new stream of torch or CuPy, its handle, and a context in which it is the current one."""
    if name == "torch":
        torch = libraries.torch() or pytest.skip("torch with CUDA is not installed")
        stream = torch.cuda.Stream()
        return stream, stream.cuda_stream, torch.cuda.stream(stream)
    cupy = libraries.cupy() or pytest.skip("CuPy is not installed")
    stream = cupy.cuda.Stream(non_blocking=True)
    return stream, stream.ptr, stream


KINDS = {"torch": arrays.torch_kind, "cupy": arrays.cupy_kind}


@pytest.mark.parametrize("name", KINDS)
def test_on_the_library_s_current_stream(name: str) -> None:
    stream, handle, current = library_stream(name)
    kind = KINDS[name]()
    x = kind.put(np.full_like(X, -1))
    driver.synchronize()
    with current:
        _kept = driver.copy_late(address(x), X, handle)
        y = ops.relu(x)
        np.testing.assert_array_equal(kind.take(y), RELU)
    stream.synchronize()


@pytest.mark.parametrize("name", KINDS)
def test_a_named_stream_waits_for_the_library_s(name: str, streams: Streams) -> None:
    stream, handle, current = library_stream(name)
    kind = KINDS[name]()
    x = kind.put(np.full_like(X, -1))
    driver.synchronize()
    with current:
        _kept = driver.copy_late(address(x), X, handle)
        with cx.cuda_stream(streams[0]):
            y = ops.relu(x)
        streams[0].synchronize()
        np.testing.assert_array_equal(kind.take(y), RELU)
        del y
    stream.synchronize()


@pytest.mark.parametrize("name", KINDS)
def test_a_library_waits_for_a_device_array(name: str, streams: Streams) -> None:
    """from_dlpack tells its current stream, which then waits for ours."""
    stream, _, current = library_stream(name)
    library = {"torch": libraries.torch, "cupy": libraries.cupy}[name]()
    kind = KINDS[name]()
    x, _kept = late(X, streams[0])
    with cx.cuda_stream(streams[0]):
        y = ops.relu(x)
    with current:
        np.testing.assert_array_equal(kind.take(library.from_dlpack(y)), RELU)
    stream.synchronize()
    del y


# ---- graphs


class Step:
    """A convolution with ReLU, a max-pool, their gradients and the optimiser's update, results in place."""

    def __init__(self) -> None:
        rng = np.random.default_rng(1)
        shapes = {"x": (2, 3, 6, 7), "w": (4, 3, 3, 3), "b": (4,), "out": (2, 4, 3, 3)}
        made = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
        self.x, self.w, self.b, self.out = (Interface(a) for a in made.values())

    def __call__(self) -> None:
        y = ops.conv2d(self.x, self.w, self.b, padding=1, activation="relu")
        pooled, where = ops.max_pool2d(y, 2, return_indices=True, indices="window")
        ops.contiguous(pooled, out=self.out)
        grad = ops.max_pool2d_backward(pooled, where, y.shape, 2, indices_kind="window")
        grad = ops.activation_backward(grad, y, "relu")
        grads = ops.conv2d_backward(grad, self.x, self.w, padding=1, needs=(False, True, True))[1:]
        ops.sgd_step([self.w, self.b], list(grads), None, lr=0.01)

    def feed(self, number: int) -> None:
        values = np.random.default_rng(number).standard_normal(self.x.array.shape)
        self.x.memory.write(values.astype(np.float32))

    def state(self) -> list[np.ndarray]:
        return [array.numpy() for array in (self.w, self.b, self.out)]


def test_a_training_step_in_a_graph(streams: Streams) -> None:
    """Replayed with other values it does what the calls do, bit for bit: nothing was decided on the host."""
    stream = streams[0]
    eager, replayed = Step(), Step()
    with cx.cuda_stream(stream):
        Step()()  # kernels are loaded, and the memory pool is made
        stream.synchronize()
        graph = driver.Graph()
        with graph.capture(stream):
            replayed()
        for number in range(3):
            for step in (eager, replayed):
                step.feed(number)
            eager()
            graph.launch(stream)
            stream.synchronize()
            for want, got in zip(eager.state(), replayed.state(), strict=True):
                np.testing.assert_array_equal(got, want)
    graph.close()
    assert _C.get_cuda_stream() is None


def test_capture_runs_nothing(streams: Streams) -> None:
    x, out = Interface(X), Interface(np.zeros_like(X))
    with cx.cuda_stream(streams[0]):
        ops.relu(x)
        streams[0].synchronize()
        graph = driver.Graph()
        with graph.capture(streams[0]):
            ops.relu(x, out=out)
    np.testing.assert_array_equal(out.numpy(), np.zeros_like(X))
    graph.launch(streams[0])
    np.testing.assert_array_equal(out.numpy(), RELU)
    graph.close()


W = np.random.default_rng(2).standard_normal((4, 3, 3, 3)).astype(np.float32)


def convolved(x: np.ndarray) -> np.ndarray:
    return INTERFACE.take(ops.conv2d(INTERFACE.put(x), INTERFACE.put(W)))


def test_torch_s_graphs() -> None:
    torch = libraries.need_torch()
    kind = arrays.torch_kind()
    x, w = kind.put(X), kind.put(W)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        ops.conv2d(x, w)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = ops.conv2d(x, w)
    for factor in (2, 3):
        x.copy_(kind.put(factor * X))
        graph.replay()
        torch.cuda.synchronize()
        np.testing.assert_array_equal(kind.take(y), convolved(factor * X))


def test_cupy_s_graphs() -> None:
    cupy = libraries.need_cupy()
    kind = arrays.cupy_kind()
    x, w = kind.put(X), kind.put(W)
    out = kind.put(np.zeros((2, 4, 2, 3), np.float32))
    driver.synchronize()
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        ops.conv2d(x, w)
        stream.synchronize()
        stream.begin_capture()
        ops.conv2d(x, w, out=out)
        graph = stream.end_capture()
        for factor in (2, 3):
            x[...] = kind.put(factor * X)
            graph.launch(stream)
            stream.synchronize()
            np.testing.assert_array_equal(kind.take(out), convolved(factor * X))
