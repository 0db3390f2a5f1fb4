"""Batch norm for JAX."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from ... import _C
from ._arguments import check_arrays
from ._call import call


class _Norm(NamedTuple):
    params: bytes
    training: bool
    eps: float

    def named(self, operation: str) -> str:
        return f"{operation} in training" if self.training else operation


def _by_channel(vector: Array, ndim: int) -> Array:
    return vector.reshape(1, -1, *[1] * (ndim - 2))


# ---- forward: statistics are (mean, var), each of which may be None ----


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _batch_norm(x: Array, weight: Any, bias: Any, statistics: Any, how: _Norm) -> Any:
    """(y, new statistics); those are None where they stay as they are."""
    updated = how.training and all(t is not None for t in statistics)
    wanted = (True, False, False, updated, updated)
    y, _, _, *new = call(
        how.named("batch_norm"), x, weight, bias, *statistics, params=how.params, wanted=wanted
    )
    return y, tuple(new) if updated else None


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _saving(x: Array, weight: Any, bias: Any, statistics: Any, how: _Norm) -> Any:
    """(y, new statistics, mean, 1/sqrt(var + eps))."""
    updated = how.training and all(t is not None for t in statistics)
    wanted = (True, True, True, updated, updated)
    y, m, s, *new = call(
        how.named("batch_norm"), x, weight, bias, *statistics, params=how.params, wanted=wanted
    )
    return y, tuple(new) if updated else None, m, s


def _saved(x: Array, weight: Any, bias: Any, statistics: Any, how: _Norm) -> Any:
    if how.training:
        y, new, mean, invstd = _saving(x, weight, bias, statistics, how)
    else:
        y, new = _batch_norm(x, weight, bias, statistics, how)
        mean, invstd = statistics[0], lax.rsqrt(statistics[1] + jnp.asarray(how.eps, statistics[1].dtype))
    return y, new, mean, invstd, (x, weight, None if bias is None else (), mean, invstd)


def _forward(*args: Any) -> Any:
    y, new, _, _, saved = _saved(*args)
    return (y, new), saved


def _saving_forward(*args: Any) -> Any:
    *results, saved = _saved(*args)
    return tuple(results), saved


def _backward(how: _Norm, saved: Any, given: Any) -> tuple[Any, ...]:
    """The statistics have no gradients, as torch's."""
    x, weight, bias, mean, invstd = saved
    grad_x, grad_weight, grad_bias = _gradients(given[0], x, weight, mean, invstd, how)
    return grad_x, None if weight is None else grad_weight, None if bias is None else grad_bias, None


_batch_norm.defvjp(_forward, _backward)
_saving.defvjp(_saving_forward, _backward)

# ---- backward ----


@functools.partial(jax.custom_vjp, nondiff_argnums=(5,))
def _gradients(g: Array, x: Array, weight: Any, mean: Array, invstd: Array, how: _Norm) -> Any:
    """Of x, weight and bias."""
    arrays = (g, x, weight, mean, invstd)
    return call(how.named("batch_norm_backward"), *arrays, params=how.params, wanted=(True,) * 3)


def _written_out(g: Array, x: Array, weight: Any, mean: Array, invstd: Array, how: _Norm) -> Any:
    """The same of jax.numpy's operations, by whose gradients it has its own."""
    axes = tuple(i for i in range(x.ndim) if i != 1)

    def average(v: Array) -> Array:
        return v.mean(axes, keepdims=True)

    if how.training:
        m = average(x)
        s = lax.rsqrt(average((x - m) ** 2) + how.eps)
    else:
        m, s = _by_channel(mean, x.ndim), _by_channel(invstd, x.ndim)
    n = (x - m) * s
    scale = s if weight is None else s * _by_channel(weight, x.ndim)
    projected = g - average(g) - n * average(g * n) if how.training else g
    return scale * projected, (g * n).sum(axes), g.sum(axes)


def _gradients_rule(how: _Norm, saved: Any, given: Any) -> tuple[Any, ...]:
    *variables, mean, invstd = saved
    _, pull = jax.vjp(lambda *v: _written_out(*v, mean, invstd, how), *variables)
    return *pull(given), None, None


_gradients.defvjp(lambda *args: (_gradients(*args), args[:5]), _gradients_rule)
_jitted = jax.jit(_batch_norm, static_argnums=4)


def batch_norm(
    x: Array,
    running_mean: Array | None,
    running_var: Array | None,
    weight: Array | None = None,
    bias: Array | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Array | tuple[Array, Array, Array]:
    """Differentiable `cnnext.ops.batch_norm` (torch's), without changing arrays in place.

    The result: y; in training with running statistics (y, running_mean, running_var), the latter new.
    Parameters, shapes and errors are cnnext.ops.batch_norm's; the statistics have no gradients. float16 and
    bfloat16 images are computed in float32, beside float32 vectors or their own.
    """
    vectors = {"running_mean": running_mean, "running_var": running_var, "weight": weight, "bias": bias}
    check_arrays("batch_norm", " ".join(vectors), x=x, **vectors)
    how = _Norm(_C.batch_norm_params(training, momentum, eps), bool(training), float(eps))
    arrays = (running_mean, running_var, weight, bias)
    dtype = jnp.result_type(x)
    half = dtype in (jnp.float16, jnp.bfloat16)
    if half:
        x, *arrays = (None if a is None else jnp.asarray(a, jnp.float32) for a in (x, *arrays))
    running_mean, running_var, weight, bias = arrays
    y, new = _jitted(x, weight, bias, (running_mean, running_var), how)
    y = y.astype(dtype) if half else y
    return y if new is None else (y, *new)
