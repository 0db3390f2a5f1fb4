"""One operation of the C ABI as a call in JAX's programs: under jit, vmap, and split over devices."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.custom_batching import custom_vmap
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from . import _abi, _build


@jax.tree_util.register_static
class Static(tuple):
    """What a backward rule is told beside arrays: a shape."""

    __slots__ = ()


@dataclass(frozen=True)
class _Call:
    """What is fixed about a call. shape: of the first result, of images without N (_abi.describe())."""

    name: str
    params: bytes
    shape: tuple[int, ...] | None
    present: tuple[bool, ...]
    wanted: tuple[bool, ...]

    @property
    def operation(self) -> _abi.Operation:
        return _abi.OPERATIONS[self.name]

    @property
    def inputs(self) -> str:
        """The letters of the inputs that are there."""
        return _chosen(self.operation.inputs, self.present)

    @property
    def results(self) -> str:
        return _chosen(self.operation.results, self.wanted)

    def has_batch(self, ndim: int) -> bool:
        """Is an image's first axis one that images have apart from each other?"""
        return {"batched": True, "any": ndim > 1}.get(self.operation.images, ndim == 4)


def _chosen(letters: str, flags: Sequence[bool]) -> str:
    return "".join(letter for letter, flag in zip(letters, flags, strict=True) if flag)


def call(
    name: str,
    *inputs: Array | None,
    params: bytes = b"",
    shape: Sequence[int] | None = None,
    wanted: Sequence[bool] = (True,),
) -> tuple[Array | None, ...]:
    """The results of an operation; None where an optional one is not wanted. It has no gradient.

    Errors are raised while JAX traces, as those of cnnext.ops; what only values tell, when it runs.
    """
    operation = _abi.OPERATIONS[name]
    arrays = [a for a in inputs if a is not None]
    if shape is not None and operation.results[0] == "i":
        shape = shape[-3:]
    present = tuple(a is not None for a in inputs)
    how = _Call(name, params, None if shape is None else tuple(shape), present, tuple(wanted))
    results = iter(_mapped(how)(*arrays))
    return tuple(next(results) if want else None for want in wanted)


# ---- one call on one device ----


def _spread(arrays: Sequence[Any], flags: Sequence[bool]) -> list[Any]:
    rest = iter(arrays)
    return [next(rest) if flag else None for flag in flags]


def _run(how: _Call, *arrays: Array) -> tuple[Array, ...]:
    shape = how.shape
    if shape is not None and how.results[0] == "i":
        shape = (*arrays[0].shape[:-3], *shape)
    described = _abi.describe(how.name, how.params, _spread(arrays, how.present), how.wanted, shape)
    results = tuple(_as_jax(*result) for result in described if result is not None)
    if _build.is_registered():
        return tuple(
            jax.ffi.ffi_call(_build.TARGET, results)(
                *arrays,
                operation=how.operation.function,
                params=np.frombuffer(how.params or bytes(8), np.int64),
                inputs=_mask(how.present),
                results=_mask(how.wanted),
            )
        )
    return tuple(
        jax.pure_callback(functools.partial(_on_host, how), results, *arrays, vmap_method="sequential")
    )


def _mask(flags: Sequence[bool]) -> np.int64:
    return np.int64(sum(1 << i for i, flag in enumerate(flags) if flag))


def _on_host(how: _Call, *arrays: Any) -> tuple[np.ndarray, ...]:
    inputs = _spread([np.ascontiguousarray(a) for a in arrays], how.present)
    shape = how.shape
    if shape is not None and how.results[0] == "i":
        shape = (*inputs[0].shape[:-3], *shape)
    described = _abi.describe(how.name, how.params, inputs, how.wanted, shape)
    structs = [None if result is None else _as_jax(*result) for result in described]
    results = [None if s is None else np.empty(s.shape, s.dtype) for s in structs]
    _abi.compute(how.name, how.params, inputs, results)
    return tuple(r for r in results if r is not None)


# ---- int64, which JAX has not unless it is told ----


def has_int64() -> bool:
    """Whether jax_enable_x64 is on."""
    return jax.dtypes.canonicalize_dtype(np.int64) == np.int64


def _as_jax(shape: tuple[int, ...], dtype: str) -> jax.ShapeDtypeStruct:
    if dtype == "int64" and not has_int64():
        return jax.ShapeDtypeStruct((*shape[:-1], 2 * shape[-1]), np.uint32)
    return jax.ShapeDtypeStruct(shape, jnp.dtype(dtype))


def widened(indices: Array) -> Array:
    """int32 as the int64 that operations take; where JAX has no 64 bits, as its halves on the last axis."""
    if indices.dtype != np.int32:
        return indices
    if has_int64():
        return indices.astype(np.int64)
    halves = jnp.stack([indices, indices >> 31], -1)  # low, high
    shape = (*indices.shape[:-1], 2 * indices.shape[-1])
    return lax.bitcast_convert_type(halves, np.uint32).reshape(shape)


def narrowed(indices: Array) -> Array:
    """What an operation gives for int64 as JAX's widest integer."""
    return indices[..., ::2].astype(np.int32) if indices.dtype == np.uint32 else indices


# ---- over several devices ----


def _split(how: _Call) -> Callable[..., tuple[Array, ...]]:
    """The call with the batch split over devices as the first images are; sums are summed over them.

    By Shardy, XLA's partitioner since jax 0.7: under the one before, arrays are gathered for a call.
    """
    if not getattr(jax.config, "jax_use_shardy_partitioner", True):
        return functools.partial(_run, how)
    function = custom_partitioning(functools.partial(_run, how))

    def axes_of(arrays: Sequence[Any]) -> Any:
        for letter, array in zip(how.inputs, arrays, strict=True):
            if letter == "i" and how.has_batch(len(array.shape)):
                spec = array.sharding.spec
                return spec[0] if len(spec) else None
        return None

    def partition(mesh: Any, arrays: Any, results: Any) -> Any:
        axes = axes_of(arrays)

        def sharding(letter: str) -> NamedSharding:
            return NamedSharding(mesh, P(axes) if letter == "i" else P())

        def on_one(*parts: Array) -> tuple[Array, ...]:
            given = _run(how, *parts)
            return tuple(
                lax.psum(result, axes) if letter == "s" and axes is not None else result
                for letter, result in zip(how.results, given, strict=True)
            )

        return mesh, on_one, tuple(map(sharding, how.results)), tuple(map(sharding, how.inputs))

    def rule(mesh: Any, inputs: Any, results: Any) -> Any:
        """In Shardy's notation: N is one factor, and every other axis one that is not split."""
        names = (f"a{i}" for i in range(10_000))
        fixed = []

        def axes(letter: str, kind: Any) -> str:
            own = [next(names) for _ in kind.shape]
            if letter == "i" and how.has_batch(len(own)):
                own[0] = "n"
            fixed.extend(name for name in own if name != "n")
            return " ".join(own)

        left, right = (
            ", ".join(axes(letter, kind) for letter, kind in zip(letters, kinds, strict=True))
            for letters, kinds in ((how.inputs, inputs), (how.results, results))
        )
        return f"{left} -> {right}", {"need_replication_factors": tuple(fixed)}

    function.def_partition(partition, sharding_rule=rule)
    return function


# ---- vmap ----


@functools.lru_cache(maxsize=1024)
def _mapped(how: _Call) -> Callable[..., tuple[Array, ...]]:
    """The call with its rule for vmap: images join N where nothing else is mapped; else it is repeated."""
    function = custom_vmap(_split(how))

    @function.def_vmap
    def rule(size: int, mapped: Sequence[bool], *arrays: Array) -> Any:
        if "s" in how.results or any(
            m and letter != "i" for m, letter in zip(mapped, how.inputs, strict=True)
        ):
            each = tuple(a for a, m in zip(arrays, mapped, strict=True) if m)

            def one(some: Sequence[Array]) -> tuple[Array, ...]:
                rest = iter(some)
                return function(*(next(rest) if m else a for a, m in zip(arrays, mapped, strict=True)))

            results = lax.map(one, each)
            return results, (True,) * len(results)

        def batch(letter: str, array: Array, is_mapped: bool) -> Array:
            if letter != "i":
                return array
            if not is_mapped:
                array = jnp.broadcast_to(array, (size, *array.shape))
            return array.reshape(size * array.shape[1], *array.shape[2:]) if joins(array.ndim) else array

        def joins(ndim: int) -> bool:
            """Is there an N for the mapped axis to join? (ndim with it)"""
            return how.operation.images != "any" and how.has_batch(ndim - 1)

        images = next(a for a, m in zip(arrays, mapped, strict=True) if m)
        results = function(*map(batch, how.inputs, arrays, mapped))
        if joins(images.ndim):
            results = tuple(r.reshape(size, images.shape[1], *r.shape[1:]) for r in results)
        return results, (True,) * len(results)

    return function
