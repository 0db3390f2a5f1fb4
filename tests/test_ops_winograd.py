"""Winograd's convolution: where it runs, what a handle keeps, and what is not finite. Its results are among
the cases of test_ops_cpu.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cnnext import _C, ops, testing
from op_case import FLOAT_ISA, Case
from op_cases_conv import winograd_cases
from op_check import LAYOUTS, laid_out

pytestmark = pytest.mark.skipif(_C.isa() == "scalar", reason="without vectors of 8, direct is faster")

NAME = f"cpu/{FLOAT_ISA}/conv2d_winograd_4x4"
NAME_5X5 = f"cpu/{FLOAT_ISA}/conv2d_winograd_2x2"
NAMES = {3: NAME, 5: NAME_5X5}
WEIGHTS_NAME = f"cpu/{FLOAT_ISA}/conv2d_weights_winograd_4x4"
BOTH = pytest.mark.parametrize("layout", ["nchw", "nhwc"])
PADDING = ((1, 2), (0, 1))


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def forward(x: np.ndarray, w: Any, **more: Any) -> np.ndarray:
    y = ops.conv2d(x, w, padding=PADDING, **more)
    assert testing.last_kernel() == NAMES[w.shape[2]]
    return y


@BOTH
@pytest.mark.parametrize("case", winograd_cases(), ids=str)
def test_auto_takes_it_and_direct_does_not(case: Case, layout: str) -> None:
    arrays = laid_out(case.make(), layout)
    case.run(arrays)
    large = "5x5" in case.note
    name = WEIGHTS_NAME if case.op == "conv2d_backward_weights" else NAME_5X5 if large else NAME
    assert testing.last_kernel() == name
    case.run(arrays, algorithm="direct")
    assert "winograd" not in testing.last_kernel()


@pytest.mark.parametrize(
    ("x", "w", "params"),
    [
        ((1, 64, 30, 30), (64, 64, 3, 3), {"stride": (1, 2)}),
        ((1, 64, 30, 30), (64, 64, 3, 3), {"dilation": (2, 1)}),
        ((1, 64, 30, 30), (64, 64, 3, 2), {}),
        ((1, 64, 30, 30), (64, 64, 5, 3), {}),
        ((1, 64, 30, 30), (64, 64, 7, 7), {}),
        ((1, 64, 30, 30), (64, 64, 5, 5), {"stride": 2}),
        ((1, 64, 4, 30), (64, 64, 5, 5), {"padding": 2}),  # fewer rows than the filter has
        ((1, 3, 30, 30), (64, 3, 3, 3), {}),
        ((1, 31, 30, 30), (64, 31, 3, 3), {}),  # its rounding error would be too large
        ((1, 64, 3, 3), (64, 64, 3, 3), {}),  # one output: nothing to gain
        ((1, 64, 30, 30), (64, 1, 3, 3), {"groups": 64}),
    ],
)
def test_what_is_left_to_others(x: tuple[int, ...], w: tuple[int, ...], params: dict[str, Any]) -> None:
    y = ops.conv2d(normal(*x), normal(*w), **params)
    assert "winograd" not in testing.last_kernel()
    ops.conv2d_backward_weights(normal(*y.shape), normal(*x), w, **params)
    assert "winograd" not in testing.last_kernel()


def test_backward_weights_of_few_pixels_is_left_to_direct() -> None:
    """Its rounding error would be more than 3 times direct's."""
    for shape, padding in (((8, 64, 7, 7), 1), ((800, 32, 1, 1), 2), ((3, 80, 300, 1), ((1, 3), (3, 2)))):
        x, w = normal(*shape), normal(32, shape[1], 3, 3)
        y = ops.conv2d(x, w, padding=padding)
        ops.conv2d_backward_weights(y, x, w.shape, padding=padding)
        assert testing.last_kernel() != WEIGHTS_NAME


@BOTH
@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("shape", [(2, 72, 30, 23), (2, 200, 7, 9)], ids=["by group", "by panel"])
def test_the_same_bits_for_any_number_of_threads_and_batch(
    shape: tuple[int, ...], size: int, layout: str
) -> None:
    x, w = LAYOUTS[layout](normal(*shape)), normal(208, shape[1], size, size)
    g = LAYOUTS[layout](normal(shape[0], 208, *shape[2:]))
    results = []
    for threads in (1, 2, 3, 8):
        _C.set_num_threads(threads)
        grad = ops.conv2d_backward_data(g, w, x.shape, padding=size // 2)
        assert testing.last_kernel() == NAMES[size]
        results.append((forward(x, w).tobytes(), grad.tobytes()))
    assert len(set(results)) == 1
    image = LAYOUTS[layout](x[1:])
    np.testing.assert_array_equal(forward(image, w), forward(x, w)[1:])


@BOTH
@pytest.mark.parametrize("shape", [(2, 40, 30, 23), (4, 200, 14, 15)], ids=["slices", "blocks"])
def test_backward_weights_have_the_same_bits_for_any_number_of_threads(
    shape: tuple[int, ...], layout: str
) -> None:
    x, g = LAYOUTS[layout](normal(*shape)), LAYOUTS[layout](normal(shape[0], 72, *shape[2:]))
    results = []
    for threads in (1, 2, 3, 8):
        _C.set_num_threads(threads)
        grad = ops.conv2d_backward_weights(g, x, (72, shape[1], 3, 3), padding=1)
        assert testing.last_kernel() == WEIGHTS_NAME
        results.append(grad.tobytes())
    assert len(set(results)) == 1


@BOTH
@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("shape", [(2, 72, 30, 23), (1, 200, 7, 9)], ids=["by group", "by panel"])
def test_a_handle_keeps_the_filters(shape: tuple[int, ...], size: int, layout: str) -> None:
    x, w, bias = LAYOUTS[layout](normal(*shape)), normal(208, shape[1], size, size), normal(208)
    packed = ops.pack_weight(w, padding=PADDING, input_shape=shape, channels_last=layout == "nhwc")
    assert packed.nbytes >= w.nbytes + w.nbytes // size**2 * 36  # elements, and the weights themselves
    expected = forward(x, w, bias=bias, activation="relu")
    for _ in range(2):
        np.testing.assert_array_equal(forward(x, packed, bias=bias, activation="relu"), expected)
    unpacked = _C.last_scratch_bytes()
    forward(x, w)
    assert unpacked < _C.last_scratch_bytes()
    # Another image, another algorithm: the handle still serves.
    small = LAYOUTS[layout](normal(1, shape[1], 3, 4))
    y = ops.conv2d(small, packed, padding=PADDING)
    assert "winograd" not in testing.last_kernel()
    np.testing.assert_array_equal(y, ops.conv2d(small, w, padding=PADDING))
    y = ops.conv2d(x, packed, padding=PADDING, algorithm="direct")
    np.testing.assert_array_equal(y, ops.conv2d(x, w, padding=PADDING, algorithm="direct"))


@BOTH
def test_a_handle_for_no_known_image_serves_too(layout: str) -> None:
    x, w = LAYOUTS[layout](normal(1, 72, 30, 23)), normal(80, 72, 3, 3)
    packed = ops.pack_weight(w, padding=PADDING, channels_last=layout == "nhwc")
    np.testing.assert_array_equal(forward(x, packed), forward(x, w))


@BOTH
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("size", [3, 5])
def test_what_is_not_finite_stays_in_its_tiles(value: float, size: int, layout: str) -> None:
    """A pixel reaches the tiles of output that read it, and no other."""
    x, w = normal(2, 64, 19, 23), normal(64, 64, size, size)
    clean = forward(LAYOUTS[layout](x), w)
    out = 7 - size
    for h, column in ((0, 0), (9, 8), (18, 22), (4, 15)):
        dirty = x.copy()
        dirty[1, 5, h, column] = value
        y = forward(LAYOUTS[layout](dirty), w)
        rows = [r for r in range(clean.shape[2]) if 0 <= h + 1 - r // out * out < 6]
        columns = [c for c in range(clean.shape[3]) if 0 <= column - c // out * out < 6]
        others = np.ones(y.shape, bool)
        others[np.ix_([1], range(64), rows, columns)] = False
        np.testing.assert_array_equal(y[others], clean[others])
        direct = ops.conv2d(LAYOUTS[layout](dirty), w, padding=PADDING, algorithm="direct")
        assert not np.isfinite(y[~np.isfinite(direct)]).any()


@BOTH
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_in_its_filters(value: float, layout: str) -> None:
    """In backward-weights it reaches the filters of its own channel, and no other."""
    x, g = normal(2, 48, 19, 23), normal(2, 64, 19, 23)
    clean = ops.conv2d_backward_weights(LAYOUTS[layout](g), LAYOUTS[layout](x), (64, 48, 3, 3), padding=1)
    for of_x in (True, False):
        dirty = [g.copy(), x.copy()]
        dirty[of_x][1, 5, 18, 22] = value
        grad = ops.conv2d_backward_weights(*(LAYOUTS[layout](a) for a in dirty), clean.shape, padding=1)
        assert testing.last_kernel() == WEIGHTS_NAME
        own = np.zeros(clean.shape, bool)
        own[(slice(None), 5) if of_x else 5] = True
        assert not np.isfinite(grad[own]).any()
        np.testing.assert_array_equal(grad[~own], clean[~own])


@BOTH
@pytest.mark.parametrize("shape", [(2, 64, 13, 14), (1, 200, 7, 9)], ids=["by group", "by panel"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, np.finfo(np.float32).max])
def test_weights_that_are_not_finite_go_to_direct(value: float, shape: tuple[int, ...], layout: str) -> None:
    """Under direct a padding tap contributes nothing, even under an infinite weight."""
    x, w = LAYOUTS[layout](normal(*shape)), normal(208, shape[1], 3, 3)
    forward(x, w)
    w[207, shape[1] - 1, 0, 2] = value  # in the last block, part and vector
    expected = ops.conv2d(x, w, padding=1, algorithm="direct")
    assert np.isfinite(expected[:, :207]).all()
    assert np.isfinite(expected[:, :, 0]).all()  # where the tap is padding
    packed = ops.pack_weight(w, padding=1, input_shape=shape, channels_last=layout == "nhwc")
    for weight in (w, packed):
        np.testing.assert_array_equal(ops.conv2d(x, weight, padding=1), expected)
        assert testing.last_kernel() != NAME
    g = LAYOUTS[layout](normal(*expected.shape))
    grad = ops.conv2d_backward_data(g, w, shape, padding=1)
    assert testing.last_kernel() != NAME
    np.testing.assert_array_equal(grad, ops.conv2d_backward_data(g, w, shape, padding=1, algorithm="direct"))


def test_transposed_convolution_takes_it_too() -> None:
    x, w, bias = normal(2, 64, 14, 13), normal(64, 48, 3, 3), normal(48)
    y = ops.conv_transpose2d(x, w, bias, padding=1)
    assert testing.last_kernel() == NAME
    with testing.backend("ref"):
        expected = ops.conv_transpose2d(*(a.astype(np.float64) for a in (x, w, bias)), padding=1)
    np.testing.assert_allclose(y, expected, rtol=0, atol=2e-4)


@BOTH
def test_scratch_does_not_grow_with_the_batch(layout: str) -> None:
    """Only what its tasks need: no transformed tensor."""
    w, sizes = normal(64, 64, 3, 3), []
    for batch in (4, 16):
        forward(LAYOUTS[layout](normal(batch, 64, 28, 28)), w)
        sizes.append(_C.last_scratch_bytes())
    assert sizes[0] == sizes[1]
