"""cnnext's operations in JAX: values, gradients, jit, vmap, dtypes, errors and memory."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest

jax = pytest.importorskip("jax", minversion="0.6", reason="jax 0.6 or later is not installed")

import cnnext.interop.jax as cxj  # noqa: E402
import jax.numpy as jnp  # noqa: E402
from cnnext import ops  # noqa: E402
from jax import lax  # noqa: E402
from jax.test_util import check_grads  # noqa: E402


def normal(*shape: int, dtype: Any = np.float32) -> Any:
    return np.random.default_rng(shape).standard_normal(shape).astype(dtype)


X, W, B = normal(2, 4, 9, 8), normal(6, 2, 3, 2), normal(6)
HOW = {"stride": (2, 1), "padding": ((1, 0), (0, 1)), "dilation": (1, 2), "groups": 2}
UP = normal(4, 3, 3, 2)
LINEAR = normal(3, 8), normal(5, 8), normal(5)
STATISTICS = normal(4), np.abs(normal(4)) + 0.5
NORM = normal(2, 4), normal(4) * 0 + 1.5


def with_x64() -> Any:
    """Under the name that it has, or had before."""
    return jax.enable_x64(True) if hasattr(jax, "enable_x64") else jax.experimental.enable_x64()


def numbers(tree: Any) -> Any:
    return jax.tree.map(np.asarray, tree)


def same(given: Any, wanted: Any, **tolerances: float) -> None:
    tolerances = tolerances or {"rtol": 1e-5, "atol": 1e-5}
    given, wanted = jax.tree.leaves(given), jax.tree.leaves(wanted)
    assert len(given) == len(wanted)
    for one, other in zip(given, wanted, strict=True):
        one, other = np.asarray(one), np.asarray(other)
        assert one.shape == other.shape
        np.testing.assert_allclose(one.astype(np.float64), other.astype(np.float64), **tolerances)


# Name, differentiable arguments, and the operation of those in any of three libraries of functions.
CASES: dict[str, tuple[tuple[Any, ...], Any]] = {
    "conv2d": ((X, W, B), lambda f, x, w, b: f.conv2d(x, w, b, **HOW)),
    "conv2d same": ((X, W), lambda f, x, w: f.conv2d(x, w, padding="same", groups=2)),
    "conv2d of one image": ((X[0], W, B), lambda f, x, w, b: f.conv2d(x, w, b, groups=2)),
    "conv2d with its ends": (
        (X, W, B, normal(2, 6, 7, 7)),
        lambda f, x, w, b, r: f.conv2d(x, w, b, groups=2, activation="tanh", residual=r),
    ),
    "conv_transpose2d": (
        (X, UP, normal(6)),
        lambda f, x, w, b: f.conv_transpose2d(x, w, b, (2, 3), (1, 0), (1, 2), 2),
    ),
    "linear": (LINEAR, lambda f, x, w, b: f.linear(x, w, b)),
    "linear of one row": ((LINEAR[0][0], LINEAR[1]), lambda f, x, w: f.linear(x, w, activation="sigmoid")),
    "linear of planes": ((normal(2, 3, 8), *LINEAR[1:]), lambda f, x, w, b: f.linear(x, w, b)),
    "max_pool2d": ((X,), lambda f, x: f.max_pool2d(x, (3, 2), (2, 1), 1, ceil_mode=True)),
    "max_pool2d's y beside indices": ((X,), lambda f, x: f.max_pool2d(x, 3, 2, 1, return_indices=True)[0]),
    "avg_pool2d": ((X,), lambda f, x: f.avg_pool2d(x, (3, 2), 2, 1, count_include_pad=False)),
    "batch_norm": (
        (X, *(normal(4), normal(4))),
        lambda f, x, w, b: f.batch_norm(x, None, None, w, b, training=True),
    ),
    "batch_norm without parameters": ((X,), lambda f, x: f.batch_norm(x, None, None, training=True)),
    "batch_norm in evaluation": (
        (X, normal(4), normal(4)),
        lambda f, x, w, b: f.batch_norm(x, *(s.astype(x.dtype) for s in STATISTICS), w, b),
    ),
}
BY_NAME = pytest.mark.parametrize("name", CASES)


@BY_NAME
def test_values_are_those_of_ops(name: str) -> None:
    arrays, function = CASES[name]
    wanted = function(ops, *arrays)
    for given in (function(cxj, *arrays), jax.jit(lambda *a: function(cxj, *a))(*arrays)):
        assert isinstance(given, jax.Array)
        np.testing.assert_array_equal(np.asarray(given), wanted)


@BY_NAME
def test_gradients_and_their_gradients(name: str) -> None:
    arrays, function = CASES[name]
    with with_x64():
        arrays = tuple(np.asarray(a, np.float64) for a in arrays)
        check_grads(lambda *a: function(cxj, *a), arrays, order=2, modes=["rev"], eps=1e-5)


@BY_NAME
def test_vmap(name: str) -> None:
    """Of all arguments, of each one, and of vmap."""
    arrays, function = CASES[name]
    function_of = lambda *a: function(cxj, *a)  # noqa: E731
    several = tuple(np.stack([a, 2 * a, a[..., ::-1]]) for a in arrays)
    axes = [(0,) * len(arrays)] + [
        tuple(0 if i == k else None for i in range(len(arrays))) for k in range(len(arrays))
    ]
    for mapped in axes:
        given = tuple(s if m == 0 else a for s, a, m in zip(several, arrays, mapped, strict=True))
        wanted = [
            function_of(*(s[i] if m == 0 else s for s, m in zip(given, mapped, strict=True)))
            for i in range(3)
        ]
        same(jax.vmap(function_of, mapped)(*given), np.stack(numbers(wanted)))


# ---- beside jax.lax ----


def lax_conv(x: Any, w: Any, padding: Any, **how: Any) -> Any:
    return lax.conv_general_dilated(x, w, how.pop("strides", (1, 1)), padding, **how)


def lax_max_pool(x: Any, size: int) -> Any:
    window = (1, 1, size, size)
    return lax.reduce_window(x, -jnp.inf, lax.max, window, window, "VALID")


def lax_norm(x: Any, w: Any, b: Any) -> Any:
    mean, var = x.mean((0, 2, 3), keepdims=True), x.var((0, 2, 3), keepdims=True)
    return (x - mean) * lax.rsqrt(var + 1e-5) * w[:, None, None] + b[:, None, None]


#: The operation here, the same of jax.lax, and arguments.
LAX = {
    "conv2d": (
        lambda x, w, b: cxj.conv2d(x, w, b, (2, 1), ((1, 0), (0, 1)), (1, 2), 2, activation="relu"),
        lambda x, w, b: jnp.maximum(
            lax_conv(x, w, [(1, 0), (0, 1)], strides=(2, 1), rhs_dilation=(1, 2), feature_group_count=2)
            + b[:, None, None], 0,
        ),
        (X, W, B),
    ),
    "gelu": (
        lambda x, w: cxj.conv2d(x, w, groups=2, activation="gelu"),
        lambda x, w: jax.nn.gelu(lax_conv(x, w, "VALID", feature_group_count=2), approximate=False),
        (X, W),
    ),
    "conv_transpose2d": (
        lambda x, w: cxj.conv_transpose2d(x, w, stride=2),
        lambda x, w: lax_conv(
            x, w[:, :, ::-1, ::-1].swapaxes(0, 1), [(2, 2), (1, 1)], lhs_dilation=(2, 2)
        ),
        (X, UP),
    ),
    "max_pool2d": (lambda x: cxj.max_pool2d(x, 2), lambda x: lax_max_pool(x, 2), (X,)),
    "conv2d_relu_max_pool2d": (
        lambda x, w, b: cxj.conv2d_relu_max_pool2d(x, w, b, padding=1, groups=2, pool_size=2),
        lambda x, w, b: lax_max_pool(
            jnp.maximum(lax_conv(x, w, [(1, 1), (1, 1)], feature_group_count=2) + b[:, None, None], 0), 2
        ),
        (X, W, B),
    ),
    "avg_pool2d": (
        lambda x: cxj.avg_pool2d(x, 2),
        lambda x: lax.reduce_window(x, 0.0, lax.add, (1, 1, 2, 2), (1, 1, 2, 2), "VALID") / 4,
        (X,),
    ),
    "linear": (
        lambda x, w, b: cxj.linear(x, w, b, activation="silu"),
        lambda x, w, b: jax.nn.silu(x @ w.T + b),
        LINEAR,
    ),
    "batch_norm": (
        lambda x, w, b: cxj.batch_norm(x, None, None, w, b, training=True),
        lax_norm,
        (X, normal(4), normal(4)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LAX)
def test_values_and_gradients_are_those_of_lax(name: str) -> None:
    ours, theirs, arrays = LAX[name]
    g = normal(*jax.eval_shape(theirs, *arrays).shape)

    @functools.partial(jax.jit, static_argnums=0)
    def both(function: Any, *arrays: Any) -> Any:
        y, pull = jax.vjp(function, *arrays)
        return y, pull(g)

    (y, gradients), (wanted, wanted_gradients) = both(ours, *arrays), both(theirs, *arrays)
    same(y, wanted, rtol=2e-5, atol=2e-5)
    same(gradients, wanted_gradients, rtol=1e-4, atol=1e-4)


def test_gradients_by_example() -> None:
    """vmap of grad: the weights' gradient of each image."""
    one = jax.grad(lambda w, x: (cxj.conv2d(x, w, padding=1, groups=2) ** 2).sum())
    same(jax.vmap(one, (None, 0))(W, X), np.stack([one(W, x) for x in X]))


# ---- max-pool's indices ----


@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize("kind", ["plane", "window"])
def test_indices_and_unpool(kind: str, x64: bool) -> None:
    def both(f: Any, x: Any) -> Any:
        y, indices = f.max_pool2d(x, 2, return_indices=True, indices=kind)
        return y, indices, f.max_unpool2d(y, indices, 2, output_size=x.shape[-2:], indices_kind=kind)

    with with_x64() if x64 else jax.numpy_dtype_promotion("standard"):
        y, indices, back = jax.jit(lambda x: both(cxj, x))(X)
        assert indices.dtype == {"window": np.uint8, "plane": np.int64 if x64 else np.int32}[kind]
        for one, other in zip((y, indices, back), both(ops, X), strict=True):
            np.testing.assert_array_equal(one, other)
        stacked = np.stack([X, -X])
        for one, other in zip(
            jax.vmap(lambda x: both(cxj, x))(stacked),
            zip(*(both(ops, x) for x in stacked), strict=True),
            strict=True,
        ):
            np.testing.assert_array_equal(one, np.stack(other))
    with with_x64():
        x = np.asarray(X, np.float64)
        check_grads(lambda x: both(cxj, x)[2], (x,), order=2, modes=["rev"], eps=1e-5)
        # Where windows overlap, a place is read more than once.
        codes = cxj.max_pool2d(x, 3, 1, return_indices=True, indices=kind)[1]
        y = normal(*codes.shape, dtype=np.float64)
        given = jax.grad(
            lambda g: (
                jax.vjp(lambda y: cxj.max_unpool2d(y, codes, 3, 1, indices_kind=kind), y)[1](g)[0] * y
            ).sum()
        )(x)
        wanted = ops.max_pool2d_backward(y, np.asarray(codes), x.shape, 3, 1, indices_kind=kind)
        same(given, wanted)


def test_an_index_out_of_range_is_an_error_of_the_program() -> None:
    indices = np.full((1, 1, 2, 2), 99, np.int32)
    with pytest.raises(jax.errors.JaxRuntimeError, match=r"INVALID_ARGUMENT: .*indices"):
        jax.block_until_ready(cxj.max_unpool2d(np.ones((1, 1, 2, 2), np.float32), indices, 2))


# ---- batch norm's statistics ----


def test_training_gives_new_statistics() -> None:
    given = cxj.batch_norm(X, *STATISTICS, training=True, momentum=0.3)
    old = [s.copy() for s in STATISTICS]
    y = ops.batch_norm(X, *old, training=True, momentum=0.3)
    for one, other in zip(given, (y, *old), strict=True):
        np.testing.assert_array_equal(one, other)
    gradient = jax.jit(jax.grad(lambda x: (cxj.batch_norm(x, *STATISTICS, training=True)[0] ** 3).sum()))(X)
    same(gradient, jax.grad(lambda x: (cxj.batch_norm(x, None, None, training=True) ** 3).sum())(X))


# ---- dtypes, sizes, errors ----


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_16_bits(dtype: Any) -> None:
    x, w, b = (jnp.asarray(a, dtype) for a in (X, W, B))
    y = cxj.conv2d(x, w, b, groups=2)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, ops.conv2d(np.asarray(x), np.asarray(w), np.asarray(b), groups=2))

    def network(x: Any, w: Any, b: Any) -> Any:
        y = cxj.conv2d_relu_max_pool2d(x, w, b, groups=2, pool_size=2)
        y = cxj.batch_norm(y, None, None, training=True)
        return (cxj.linear(y.reshape(2, -1), jnp.ones((3, y[0].size), y.dtype)) ** 2).mean()

    gradients = jax.jit(jax.grad(network, (0, 1, 2)))
    halves = gradients(x, w, b)
    assert all(g.dtype == dtype for g in halves)
    whole = gradients(*(a.astype(np.float32) for a in (x, w, b)))
    largest = max(float(np.abs(g).max()) for g in whole)
    same(halves, whole, rtol=0, atol=0.1 * largest)


def test_empty_batch() -> None:
    x = np.ones((0, 4, 9, 8), np.float32)

    def network(x: Any, w: Any, b: Any) -> Any:
        y = cxj.max_pool2d(cxj.conv2d(x, w, b, groups=2), 2)
        return cxj.conv2d_relu_max_pool2d(y, w[:2, :, :1, :1], groups=3, pool_size=1).sum() + y.sum()

    def plain(x: Any, w: Any, b: Any) -> Any:
        return cxj.max_pool2d(cxj.conv2d(x, w, b, groups=2), 2).sum()

    assert plain(x, W, B) == 0
    gradients = jax.grad(plain, (0, 1, 2))(x, W, B)
    assert [g.shape for g in gradients] == [x.shape, W.shape, B.shape]
    assert all(not np.any(g) for g in gradients)
    assert jax.vmap(lambda x: cxj.max_pool2d(x, 2))(x).shape == (0, 4, 4, 4)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda f: f.conv2d(X, W), ValueError),
        (lambda f: f.conv2d(X, W, groups=2, stride=0), ValueError),
        (lambda f: f.conv2d(X, W, groups=2, padding="some"), ValueError),
        (lambda f: f.conv2d(X, W, groups=2, stride="2"), TypeError),
        (lambda f: f.conv2d(X, W, groups=2, activation="cube"), ValueError),
        (lambda f: f.conv2d(X, W.astype(np.float16), groups=2), TypeError),
        (lambda f: f.conv2d(X.astype(np.int32), W, groups=2), TypeError),
        (lambda f: f.conv2d(X, W, B[:3], groups=2), ValueError),
        (lambda f: f.conv_transpose2d(X, UP, output_padding=1), ValueError),
        (lambda f: f.max_pool2d(X, 2, padding=2), ValueError),
        (lambda f: f.max_pool2d(X, 2, ceil_mode=1), TypeError),
        (lambda f: f.max_unpool2d(X, np.zeros((2, 4, 9, 7), np.int64), 2), ValueError),
        (lambda f: f.avg_pool2d(X, 2, divisor_override=0), ValueError),
        (lambda f: f.linear(LINEAR[0], LINEAR[1][:, 1:]), ValueError),
        (lambda f: f.batch_norm(X, None, None), ValueError),
        (lambda f: f.batch_norm(X, STATISTICS[0][:1], STATISTICS[1]), ValueError),
        (lambda f: f.conv2d_relu_max_pool2d(X, W, groups=2, pool_size=(2, 2, 2)), ValueError),
    ],
)
def test_errors_are_those_of_ops_while_tracing(call: Any, error: Any) -> None:
    with pytest.raises(error) as wanted:
        call(ops)
    with pytest.raises(error) as given:
        jax.eval_shape(lambda: call(cxj))
    assert str(given.value) == str(wanted.value)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: cxj.max_pool2d(jnp.ones((1, 1, 4, 4), jnp.uint32), 2), "max_pool2d: x has dtype uint32"),
        (lambda: cxj.max_pool2d(jnp.uint32(3), 2), "max_pool2d: x has dtype uint32"),
        (lambda: cxj.max_unpool2d(X, jnp.ones(X.shape, jnp.uint32), 2), "indices has dtype uint32"),
        (lambda: cxj.avg_pool2d("x", 2), "avg_pool2d: x is str; the rule is an array"),
        (lambda: cxj.conv2d([[1.0]], W), "conv2d: x is list; the rule is an array"),
        (lambda: cxj.conv2d(X, None), "conv2d: weight is NoneType"),
        (lambda: cxj.conv2d(X, W, residual=object()), "conv2d: residual is object"),
        (lambda: cxj.conv_transpose2d(X, UP, 0.5), "conv_transpose2d: bias is float"),
        (lambda: cxj.linear(None, W), "linear: x is NoneType"),
        (lambda: cxj.batch_norm(X, *STATISTICS, {}), "batch_norm: weight is dict"),
        (lambda: cxj.conv2d_relu_max_pool2d(1, W, pool_size=2), "conv2d_relu_max_pool2d: x is int"),
    ],
)
def test_what_is_no_array_is_a_type_error(call: Any, says: str) -> None:
    with pytest.raises(TypeError, match=says):
        call()
    with pytest.raises(TypeError, match=says):
        jax.eval_shape(call)


# ---- memory ----


def test_no_array_is_copied() -> None:
    """XLA plans no memory beside arguments and results: the handler reads and writes those."""

    def gradients(x: Any, w: Any, g: Any) -> Any:
        return jax.vjp(lambda x, w: cxj.conv2d(x, w, groups=2), x, w)[1](g)

    y = cxj.conv2d(X, W, groups=2)
    for function, arrays in ((lambda x, w: cxj.conv2d(x, w, groups=2), (X, W)), (gradients, (X, W, y))):
        compiled = jax.jit(function).lower(*arrays).compile()
        results = jax.tree.leaves(jax.eval_shape(function, *arrays))
        assert compiled.as_text().count('custom_call_target="cnnext"') == len(results)
        assert " copy(" not in compiled.as_text()
        memory = compiled.memory_analysis()
        assert memory.argument_size_in_bytes == sum(a.nbytes for a in arrays)
        assert memory.temp_size_in_bytes == 0
