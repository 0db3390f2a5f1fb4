"""CUDA beside the CPU at random shapes: sums to the bounds of both, max-pool bit for bit; run after run."""

from __future__ import annotations

import zlib
from typing import Any

import gpu
import numpy as np
import pytest
from cnnext import ops, testing
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from op_case import EPS, Case
from op_cases import all_cases
from op_check import laid_out
from op_check_half import BFLOAT16, FLOAT16, cast

gpu.need_device()
from gpu import arrays, driver  # noqa: E402

pytestmark = pytest.mark.cuda
#: The same examples at every run: what fails once fails again.
SEEDED = settings(
    derandomize=True,
    deadline=None,
    database=None,
    max_examples=25 if gpu.ON_BED else 200,
    suppress_health_check=list(HealthCheck),
)
#: Of an image's side and of its channels. The reference is the slow part on a GPU.
LARGEST, CHANNELS = (6, 5) if gpu.ON_BED else (24, 24)
TYPES: dict[str, Any] = {"float32": np.float32, "float16": np.float16, "bfloat16": BFLOAT16.dtype}

sizes = st.integers(1, LARGEST)
layouts = st.sampled_from(["nchw", "nhwc"])
seeds = st.integers(0, 2**32 - 1)


@st.composite
def convolutions(draw: Any) -> tuple[tuple, tuple, dict[str, Any]]:
    """The shapes of x and of the weight, and the parameters, of some valid convolution."""
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    depthwise = draw(st.booleans())
    c = draw(st.integers(1, CHANNELS))
    channels = c if depthwise else 1
    window = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    params = {
        "stride": draw(st.tuples(st.integers(1, 3), st.integers(1, 3))),
        "padding": draw(st.tuples(*[st.tuples(st.integers(0, 3), st.integers(0, 3))] * 2)),
        "dilation": draw(st.tuples(st.integers(1, 3), st.integers(1, 3))),
        "groups": c if depthwise else groups,
    }
    image = draw(st.tuples(sizes, sizes))
    for axis in range(2):
        reach = params["dilation"][axis] * (window[axis] - 1) + 1
        assume(image[axis] + sum(params["padding"][axis]) >= reach)
    if depthwise:
        return (draw(st.integers(1, 3)), c, *image), (channels * draw(st.integers(1, 2)), 1, *window), params
    k = draw(st.integers(1, CHANNELS))
    return (draw(st.integers(1, 3)), c * groups, *image), (k * groups, c, *window), params


def close(
    op: str, given_arrays: dict[str, np.ndarray], params: dict[str, Any], layout: str, terms: int
) -> None:
    """The CPU's result and CUDA's are each within the bound of a sum of so many terms."""
    case = Case(op, "random", {}, params)
    placed = laid_out(given_arrays, layout)
    with testing.backend("ref"):
        wide = {name: array.astype(np.float64) for name, array in given_arrays.items()}
        exact = case.run(wide)
        size = case.run({name: np.abs(array) for name, array in wide.items()})
    on_cpu = case.run(placed, algorithm="direct")
    on_cuda = case.run(arrays.INTERFACE.put_all(placed))
    assert testing.last_kernel().startswith("cuda/")
    for cpu, cuda, want, bound in zip(on_cpu, map(arrays.INTERFACE.take, on_cuda), exact, size, strict=True):
        assert cuda.shape == cpu.shape
        limit = 4 * np.sqrt(terms) * EPS * bound
        assert (np.abs(cuda - want) <= limit).all()
        assert (np.abs(cuda.astype(np.float64) - cpu) <= 2 * limit).all()


@SEEDED
@given(shapes=convolutions(), layout=layouts, seed=seeds)
def test_convolution(shapes: Any, layout: str, seed: int) -> None:
    x_shape, w_shape, params = shapes
    params = {**params, "padding": tuple(params["padding"])}
    rng = np.random.default_rng(seed)
    x, w = (rng.standard_normal(shape).astype(np.float32) for shape in (x_shape, w_shape))
    with testing.backend("ref"):
        y_shape = ops.conv2d(x, w, **params).shape
    assume(0 not in y_shape)
    g = rng.standard_normal(y_shape).astype(np.float32)
    window = w_shape[2] * w_shape[3]
    close("conv2d", {"x": x, "weight": w}, params, layout, w_shape[1] * window)
    back = {"input_shape": x_shape, **params}
    terms = w_shape[0] // params["groups"] * window
    close("conv2d_backward_data", {"grad_y": g, "weight": w}, back, layout, terms)
    back = {"weight_shape": w_shape, **params}
    close("conv2d_backward_weights", {"grad_y": g, "x": x}, back, layout, g.size // y_shape[1])


@st.composite
def pools(draw: Any) -> tuple[tuple, dict[str, Any]]:
    window = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    dilation = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    image = draw(st.tuples(sizes, sizes))
    padding = []
    for axis in range(2):
        reach = dilation[axis] * (window[axis] - 1) + 1
        sides = draw(st.tuples(st.integers(0, reach - 1), st.integers(0, reach - 1)))
        assume(image[axis] + sum(sides) >= reach)
        padding.append(sides)
    params = {
        "kernel_size": window,
        "stride": draw(st.tuples(st.integers(1, 4), st.integers(1, 4))),
        "padding": tuple(padding),
        "dilation": dilation,
        "ceil_mode": draw(st.booleans()),
    }
    shape = (draw(st.integers(1, 3)), draw(st.integers(1, CHANNELS)), *image)
    return shape, params


def same_bits(got: np.ndarray, want: np.ndarray) -> None:
    assert (got.shape, got.dtype) == (want.shape, want.dtype)
    assert got.tobytes() == want.tobytes()


@SEEDED
@given(
    shapes=pools(),
    layout=layouts,
    dtype=st.sampled_from(list(TYPES)),
    kind=st.sampled_from(["plane", "window"]),
    seed=seeds,
)
def test_max_pool_has_the_cpu_s_bits(shapes: Any, layout: str, dtype: str, kind: str, seed: int) -> None:
    """Values and indices: with many ties, infinities, NaN and both zeros."""
    shape, params = shapes
    rng = np.random.default_rng(seed)
    values = np.array([-np.inf, -1, -0.0, 0.0, 1, 2, np.inf, np.nan], np.float32)
    weights = np.array([2, 3, 1, 1, 3, 3, 0.3, 0.3])
    x = rng.choice(values, shape, p=weights / weights.sum()).astype(TYPES[dtype])
    placed = laid_out({"x": x}, layout)["x"]
    params = {**params, "return_indices": True, "indices": kind}
    on_cpu = ops.max_pool2d(placed, **params)
    on_cuda = ops.max_pool2d(arrays.INTERFACE.put(placed), **params)
    assert testing.last_kernel().startswith("cuda/")
    for cpu, cuda in zip(on_cpu, on_cuda, strict=True):
        same_bits(arrays.INTERFACE.take(cuda), cpu)


@SEEDED
@given(shapes=pools(), layout=layouts, kind=st.sampled_from(["plane", "window"]), seed=seeds)
def test_max_pool_backward(shapes: Any, layout: str, kind: str, seed: int) -> None:
    """With whole numbers for gradients, whose sums have no order: the CPU's bits."""
    shape, params = shapes
    rng = np.random.default_rng(seed)
    x = rng.integers(-3, 4, shape).astype(np.float32)
    y, indices = ops.max_pool2d(x, **params, return_indices=True, indices=kind)
    assume(y.size)
    grad = rng.integers(-9, 10, y.shape).astype(np.float32)
    given_arrays = laid_out({"grad_y": grad, "indices": indices}, layout)
    more = {"input_shape": shape, **params, "indices_kind": kind}
    on_cpu = ops.max_pool2d_backward(**given_arrays, **more)
    on_cuda = ops.max_pool2d_backward(**arrays.INTERFACE.put_all(given_arrays), **more)
    np.testing.assert_array_equal(arrays.INTERFACE.take(on_cuda), on_cpu)


@SEEDED
@given(shape=st.tuples(st.integers(2, 4), st.integers(1, CHANNELS), sizes, sizes), layout=layouts, seed=seeds)
def test_batch_norm_and_softmax(shape: tuple, layout: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = laid_out({"x": rng.standard_normal(shape).astype(np.float32)}, layout)["x"]
    weight, bias = rng.standard_normal((2, shape[1])).astype(np.float32)
    put, take = arrays.INTERFACE.put, arrays.INTERFACE.take
    on_cpu = ops.batch_norm_forward(x, None, None, weight, bias)
    on_cuda = ops.batch_norm_forward(put(x), None, None, put(weight), put(bias))
    for cpu, cuda in zip(on_cpu, map(take, on_cuda), strict=True):
        np.testing.assert_allclose(cuda, cpu, rtol=1e-4, atol=1e-4)  # few values have a large 1/std
    for dim in (1, -1):
        np.testing.assert_allclose(take(ops.softmax(put(x), dim)), ops.softmax(x, dim), rtol=1e-5, atol=1e-7)


# ---- run after run


def largest_cases() -> list[Case]:
    """Of every operation the case with the most elements: there the work is split."""
    found: dict[str, Case] = {}
    most = 1500 if gpu.ON_BED else 10**9
    for case in all_cases():
        size = sum(array.size for array in case.make().values())
        if size * case.terms > most * (20 if gpu.ON_BED else 1):
            continue
        if case.op not in found or size > sum(a.size for a in found[case.op].make().values()):
            found[case.op] = case
    return list(found.values())


@pytest.mark.parametrize("dtype", [None, FLOAT16, BFLOAT16], ids=["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("case", largest_cases(), ids=str)
def test_the_same_bits_run_after_run(case: Case, layout: str, dtype: Any) -> None:
    host = case.make() if dtype is None else cast(case.make(), dtype.dtype)
    if "target" in host and host["target"].dtype.kind in "iu":
        host["target"] = host["target"].astype(np.int64)
    host = laid_out(host, layout)
    first: list[bytes] = []
    for run in range(2 if gpu.ON_BED else 5):
        # On a GPU blocks run in an order of their own; on the bed in one that is drawn.
        driver.shuffle(zlib.crc32(str(case).encode()) + run if run else 0)
        try:
            results = case.run(arrays.INTERFACE.put_all(host))
            bits = [arrays.INTERFACE.take(result).tobytes() for result in results]
        finally:
            driver.shuffle(0)
        first = first or bits
        assert bits == first
