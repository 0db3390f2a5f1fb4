"""What counts as an array: NumPy's kinds, DLPack objects, and out=. torch's: test_torch_arrays.py."""

from __future__ import annotations

from typing import Any

import cnnext
import numpy as np
import pytest
from cnnext import ops
from numpy.lib.stride_tricks import as_strided

RNG = np.random.default_rng(0)
X = RNG.standard_normal((2, 3, 7, 6)).astype(np.float32)
W = RNG.standard_normal((4, 3, 3, 2)).astype(np.float32)
Y = ops.conv2d(X, W)


def read_only(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.flags.writeable = False
    return array


def unaligned(array: np.ndarray) -> np.ndarray:
    raw = np.zeros(array.nbytes + 1, np.uint8)[1:]
    view = raw.view(array.dtype).reshape(array.shape)
    view[...] = array
    assert not view.flags.aligned
    return view


def odd_strides(array: np.ndarray) -> np.ndarray:
    """Fields of a packed record: strides that are no multiple of the element."""
    records = np.zeros(array.shape, np.dtype([("pad", np.uint8), ("value", array.dtype)]))
    records["value"] = array
    return records["value"]


class Subclass(np.ndarray):
    pass


VIEWS = {
    "fortran": np.asfortranarray,
    "reversed": lambda a: a[..., ::-1].copy()[..., ::-1],
    "negative batch": lambda a: a[::-1].copy()[::-1],
    "read-only": read_only,
    "unaligned": unaligned,
    "odd strides": odd_strides,
    "subclass": lambda a: a.copy().view(Subclass),
    "broadcast": lambda a: np.broadcast_to(a, a.shape),
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_views_of_numpy(view: Any) -> None:
    result = ops.conv2d(view(X), view(W))
    assert type(result) is np.ndarray
    np.testing.assert_allclose(result, Y, rtol=1e-5, atol=1e-5)


def test_a_broadcast_input_has_stride_zero() -> None:
    x = np.broadcast_to(X[:1, :1], X.shape)
    np.testing.assert_allclose(ops.conv2d(x, W), ops.conv2d(x.copy(), W), rtol=1e-5, atol=1e-5)


INTEGERS = "uint8 int8 uint16 int16 uint32 int32 uint64 int64 intc longlong"


@pytest.mark.parametrize("dtype", INTEGERS.split())
def test_every_integer_is_a_label(dtype: Any) -> None:
    x, target = X[0, :, :3, 0], np.array([0, 2, 1])
    expected = ops.cross_entropy(x, target)
    np.testing.assert_array_equal(ops.cross_entropy(x, target.astype(dtype)), expected)


# ---- DLPack


class Plain:
    """An object that has __dlpack__ and nothing else: NumPy's capsule."""

    def __init__(self, array: np.ndarray, versioned: bool = True) -> None:
        self._array, self._versioned, self.calls = array, versioned, 0

    def __dlpack__(self, **how: Any) -> Any:
        self.calls += 1
        if not self._versioned and how:
            raise TypeError("__dlpack__() got an unexpected keyword argument 'max_version'")
        return self._array.__dlpack__(**how)

    def __dlpack_device__(self) -> Any:
        return self._array.__dlpack_device__()


class Elsewhere(Plain):
    def __init__(self, device: tuple[int, int]) -> None:
        super().__init__(X)
        self._device = device

    def __dlpack_device__(self) -> Any:
        return self._device


@pytest.mark.parametrize("versioned", [True, False])
@pytest.mark.parametrize("layout", [lambda a: a, lambda a: a[:, :, ::2, ::-1], np.asfortranarray])
def test_dlpack(versioned: bool, layout: Any) -> None:
    x = layout(X)
    result = ops.conv2d(Plain(x, versioned), Plain(W, versioned))
    assert type(result) is np.ndarray
    np.testing.assert_array_equal(result, ops.conv2d(x, W))


def test_dlpack_beside_numpy() -> None:
    np.testing.assert_array_equal(ops.conv2d(Plain(X), W), Y)
    np.testing.assert_array_equal(ops.conv2d(X, Plain(W)), Y)


@pytest.mark.parametrize("dtype", [np.float64, np.uint8, np.int8])
def test_dlpack_dtypes(dtype: Any) -> None:
    x = (X * 20).astype(dtype)
    result = ops.max_pool2d(Plain(x), 2)
    assert result.dtype == dtype
    np.testing.assert_array_equal(result, ops.max_pool2d(x, 2))


def test_dlpack_releases_the_tensor() -> None:
    import sys

    array = X.copy()
    count = sys.getrefcount(array)
    for _ in range(3):
        ops.relu(Plain(array))
        ops.relu(Plain(array, versioned=False))
        with pytest.raises(ValueError, match="weight"):
            ops.conv2d(Plain(array), Plain(W[:, :2]))
    assert sys.getrefcount(array) == count


@pytest.mark.skipif(
    np.lib.NumpyVersion(np.__version__) < "2.1.0", reason="this NumPy exports no read-only array by DLPack"
)
def test_a_read_only_dlpack_array_is_read() -> None:
    np.testing.assert_array_equal(ops.conv2d(Plain(read_only(X)), W), Y)


@pytest.mark.parametrize(
    ("device", "message"),
    [((2, 3), "x is on CUDA device 3; this call takes arrays in CPU memory"), ((8, 0), "x is on device 8:0")],
)
def test_another_device_is_refused(device: tuple[int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ops.relu(Elsewhere(device))


class Failing:
    def __dlpack__(self, **how: Any) -> Any:
        raise BufferError("not today")

    def __dlpack_device__(self) -> Any:
        return 1, 0


class NoCapsule(Failing):
    def __dlpack__(self, **how: Any) -> Any:
        return "capsule"


class Recording:
    requires_grad = True

    def __dlpack__(self, **how: Any) -> Any:
        raise AssertionError("not to be called")


@pytest.mark.parametrize(
    ("x", "message"),
    [
        ([[1.0, 2.0]], "x must be a NumPy array, a torch tensor or another object with __dlpack__, got list"),
        (1.0, "x must be a NumPy array.*got float"),
        (None, "x must be a NumPy array.*got NoneType"),
        ("x", "x must be a NumPy array.*got str"),
        (Failing(), "x refused to be read through __dlpack__"),
        (NoCapsule(), "returned str, not a DLPack capsule"),
        (Recording(), r"x requires grad.*cnnext.nn.functional, or pass x.detach\(\)"),
        (Plain(np.array([True])), "x has dtype bool; cnnext takes float32"),
        (Plain(np.array([1j])), "x has dtype complex128"),
        (np.array([True]), "x has dtype bool; cnnext takes float32"),
        (np.array([1j]), "x has dtype complex128"),
        (np.array(["a"]), "x has dtype <U1"),
        (np.array([None]), "x has dtype object"),
        (np.array([1.0], ">f4"), "byte order"),
        (np.array([1.0], np.longdouble), "x has dtype"),
        (np.array([1], np.int32), "x has dtype int32; it must be float32, float64, float16 or bfloat16"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_is_no_array(x: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        ops.relu(x)


def test_a_tensor_is_read_where_no_gradient_is_lost() -> None:
    result = ops.conv2d(cnnext.Tensor(X), cnnext.Tensor(W))
    assert type(result) is np.ndarray
    np.testing.assert_array_equal(result, Y)
    with pytest.raises(
        TypeError, match=r"weight requires grad.*cnnext.nn.functional, or pass weight.detach\(\)"
    ):
        ops.conv2d(X, cnnext.Tensor(W, requires_grad=True))


def test_too_many_dimensions() -> None:
    with pytest.raises(ValueError, match="x has 9 dimensions; at most 8"):
        ops.relu(np.zeros((1,) * 9, np.float32))


# ---- out=


@pytest.mark.parametrize(
    "make",
    [
        lambda: np.empty_like(Y),
        lambda: np.empty((2, 8, 5, 10), np.float32)[:, ::2, :, ::2],
        lambda: np.moveaxis(np.empty((2, 5, 5, 4), np.float32), -1, 1),
        lambda: np.empty_like(Y)[..., ::-1],
        lambda: np.empty_like(Y).view(Subclass),
    ],
    ids=["dense", "strided", "channels-last", "reversed", "subclass"],
)
def test_out(make: Any) -> None:
    out = make()
    assert ops.conv2d(X, W, out=out) is out
    np.testing.assert_allclose(out, Y, rtol=1e-6, atol=1e-6)


def test_out_leaves_the_gaps_alone() -> None:
    whole = np.full((2, 8, 5, 10), 7, np.float32)
    ops.conv2d(X, W, out=whole[:, ::2, :, ::2])
    assert (whole[:, 1::2] == 7).all()
    assert (whole[:, :, :, 1::2] == 7).all()


def test_out_over_an_input() -> None:
    x, w = X[:, :, :, :5].copy(), RNG.standard_normal((3, 3, 3, 3)).astype(np.float32)
    expected = ops.conv2d(x, w, padding=1)
    ops.conv2d(x, w, padding=1, out=x)
    np.testing.assert_array_equal(x, expected)
    long = RNG.standard_normal(100).astype(np.float32)
    expected = ops.add(long[:-1], long[1:])
    ops.add(long[:-1], long[1:], out=long[1:])
    np.testing.assert_array_equal(long[1:], expected)
    image = X.copy()
    expected = ops.max_pool2d(image, 3, 1, 1)
    ops.max_pool2d(image, 3, 1, 1, out=image)
    np.testing.assert_array_equal(image, expected)
    expected = ops.relu(image)
    assert ops.relu(image, out=image) is image
    np.testing.assert_array_equal(image, expected)


def test_an_empty_out() -> None:
    out = np.empty((0, 4, 5, 5), np.float32)
    assert ops.conv2d(X[:0], W, out=out) is out
    with pytest.raises(ValueError, match="shape"):
        ops.conv2d(X[:0], W, out=np.empty((0, 4, 5, 6), np.float32))


@pytest.mark.parametrize(
    ("out", "error", "message"),
    [
        (np.empty((2, 4, 5, 6), np.float32), ValueError, r"\(2, 4, 5, 6\).*\(2, 4, 5, 5\)"),
        (np.empty((0,), np.float32), ValueError, r"\(2, 4, 5, 5\)"),
        (np.empty((2, 4, 5, 5)), TypeError, "float64.*float32"),
        (read_only(Y), ValueError, "out is read-only"),
        (np.broadcast_to(np.zeros((), np.float32), Y.shape), ValueError, "read-only"),
        (as_strided(np.zeros(9, np.float32), Y.shape, (0, 0, 0, 4)), ValueError, "share memory"),
        (unaligned(Y), ValueError, "out is written, so its elements must be aligned"),
        (np.empty(Y.shape, ">f4"), TypeError, "byte order"),
        ([0.0], TypeError, "out must be a NumPy array"),
        (Plain(Y.copy()), TypeError, "out is written, so it must be a NumPy array or a torch tensor"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_out(out: Any, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        ops.conv2d(X, W, out=out)


def test_running_statistics_must_be_writable() -> None:
    mean, var = np.zeros(3, np.float32), np.ones(3, np.float32)
    with pytest.raises(ValueError, match="running_var is read-only"):
        ops.batch_norm(X, mean, read_only(var), training=True)
    np.testing.assert_array_equal(mean, 0)
    ops.batch_norm(X, read_only(mean), read_only(var))  # evaluation only reads them
    whole = np.zeros((2, 3, 2), np.float32)
    ops.batch_norm(X, whole[0, :, 0], whole[1, :, 0], training=True)
    mean, var = np.zeros(3, np.float32), np.zeros(3, np.float32)
    ops.batch_norm(X, mean, var, training=True)
    np.testing.assert_array_equal(whole[:, :, 0], np.stack([mean, var]))
    assert mean.any()
    assert var.any()


def test_results_own_their_memory() -> None:
    first = ops.conv2d(X, W)
    kept = first.copy()
    for _ in range(20):
        ops.conv2d(X * 2, W)
    np.testing.assert_array_equal(first, kept)
    view = ops.conv2d(X, W)[0]
    np.testing.assert_array_equal(view, kept[0])
    assert first.flags.writeable
    assert first.ctypes.data % 64 == 0


def test_an_array_changed_in_place_gives_the_new_result() -> None:
    x, w = X.copy(), W.copy()
    ops.conv2d(x, w)
    w *= 2
    np.testing.assert_allclose(ops.conv2d(x, w), 2 * Y, rtol=1e-6, atol=1e-6)
    x[:] = 0
    assert not ops.conv2d(x, w).any()


def test_packed_weight() -> None:
    w = W.copy()
    packed = ops.pack_weight(w, stride=(2, 1), padding=1, input_shape=X.shape)
    expected = ops.conv2d(X, w, stride=(2, 1), padding=1)
    w[:] = 0  # the handle holds a copy
    for _ in range(2):
        np.testing.assert_array_equal(ops.conv2d(X, packed, stride=(2, 1), padding=1), expected)
    np.testing.assert_allclose(
        ops.conv2d(X[:1], packed, stride=(2, 1), padding=1), expected[:1], rtol=1e-5, atol=1e-5
    )
    assert packed.shape == W.shape
    assert packed.dtype == "float32"
    assert packed.nbytes > 0
    assert repr(packed).startswith("PackedWeight(shape=(4, 3, 3, 2), dtype=float32")
    with pytest.raises(ValueError, match="weight was packed for"):
        ops.conv2d(X, packed)
    with pytest.raises(ValueError, match="x"):
        ops.conv2d(X[:, :2], packed, stride=(2, 1), padding=1)


def test_packed_weight_with_everything_fused() -> None:
    bias, residual = (
        RNG.standard_normal(4).astype(np.float32),
        RNG.standard_normal(Y.shape).astype(np.float32),
    )
    for last in (False, True):
        packed = ops.pack_weight(W, channels_last=last)
        x = np.moveaxis(np.moveaxis(X, 1, -1).copy(), -1, 1) if last else X
        result = ops.conv2d(x, packed, bias, activation="relu", residual=residual)
        expected = np.maximum(Y + bias[:, None, None] + residual, 0)
        np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)
