"""The gradients of what convolution and linear compute at their ends."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

#: By the activation's result, which need not keep its input.
_FROM_RESULT: dict[str, Callable[[Array, Array], Array]] = {
    "relu": lambda g, y: jnp.where(y <= 0, 0, g),
    "relu6": lambda g, y: jnp.where((y <= 0) | (y >= 6), 0, g),
    "leaky_relu": lambda g, y: jnp.where(y > 0, g, 0.01 * g),
    "sigmoid": lambda g, y: g * y * (1 - y),
    "tanh": lambda g, y: g * (1 - y * y),
}
#: Those whose gradient is made of their input, by themselves.
_APART: dict[str, Callable[[Array], Array]] = {
    "gelu": functools.partial(jax.nn.gelu, approximate=False),
    "gelu_tanh": functools.partial(jax.nn.gelu, approximate=True),
    "silu": jax.nn.silu,
}


def needs_input(kind: str | None) -> bool:
    """Is the activation's gradient made of its input, which the fused operation does not keep?"""
    return kind in _APART


def apart(kind: str, x: Array) -> Array:
    """Such an activation by itself."""
    return _APART[kind](x)


def gradient(g: Array, kind: str | None, kept: Array | None) -> Array:
    """g through the activation. kept: its result, or its input where that is needed."""
    if kind is None:
        return g
    if kind in _APART:
        return jax.vjp(_APART[kind], kept)[1](g)[0]
    return _FROM_RESULT[kind](g, kept).astype(g.dtype)
