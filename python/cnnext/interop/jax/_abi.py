"""The C ABI as JAX needs it: what an operation gives, without running it, and the same on NumPy arrays."""

from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ... import _C

_MAX_NDIM = 8
_DTYPES = (
    "float32", "float64", "float16", "bfloat16", "uint8", "int8", "uint16", "int16", "int32", "int64",
)  # fmt: skip
_ERRORS = {1: ValueError, 2: TypeError, 3: NotImplementedError, 4: MemoryError}
_NOTHING = ctypes.create_string_buffer(64)


@dataclass(frozen=True)
class Operation:
    """What JAX must know of an operation of cnnext.h, whose arrays have a letter each, in its order.

    i: an image or a batch of them; w: what all images share; s: a result that is a sum over the images.
    images: "batched" where all of them have a first axis N, "any" where any number of axes may be in front,
    else they have 3 axes, or 4 with N.
    function: its name without "cnnext_".
    """

    function: str
    inputs: str
    results: str
    images: str = ""


def _named(*operations: Operation) -> dict[str, Operation]:
    return {operation.function: operation for operation in operations}


OPERATIONS = _named(
    Operation("conv2d", "iwwi", "i"),
    Operation("conv2d_backward_data", "iw", "i"),
    Operation("conv2d_backward_weights", "ii", "s"),
    Operation("conv_transpose2d", "iww", "i"),
    Operation("linear", "iww", "i", "any"),
    Operation("linear_backward_data", "iw", "i", "any"),
    Operation("linear_backward_weights", "ii", "s", "any"),
    Operation("bias_grad", "i", "s", "batched"),
    Operation("max_pool2d", "i", "ii"),
    Operation("max_pool2d_backward", "ii", "i"),
    Operation("max_pool2d_gather", "ii", "i"),
    Operation("max_unpool2d", "ii", "i"),
    Operation("avg_pool2d", "i", "i"),
    Operation("avg_pool2d_backward", "i", "i"),
    Operation("conv2d_relu_max_pool2d", "iww", "ii"),
    Operation("conv2d_relu_max_pool2d_backward", "iiiw", "iss"),
    # (x, weight, bias, mean, var) give (y, save_mean, save_invstd, new mean, new var)
    Operation("batch_norm", "iwwww", "issss", "batched"),
    Operation("batch_norm_backward", "iiwww", "iss", "batched"),
) | {  # whose images depend on each other
    "batch_norm in training": Operation("batch_norm", "wwwww", "sssss", "batched"),
    "batch_norm_backward in training": Operation("batch_norm_backward", "wwwww", "sss", "batched"),
}


class _Tensor(ctypes.Structure):
    """cnnext_tensor"""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("dtype", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("shape", ctypes.c_int64 * _MAX_NDIM),
        ("strides", ctypes.c_int64 * _MAX_NDIM),
    )


@functools.cache
def _library() -> ctypes.CDLL:
    suffix = "dylib" if sys.platform == "darwin" else "so"
    library = ctypes.CDLL(str(Path(_C.__file__).with_name(f"libcnnext.{suffix}")))
    library.cnnext_last_error.restype = ctypes.c_char_p
    return library


def _tensor(array: Any, data: int | None) -> _Tensor:
    """A row-major view of what has a shape and a dtype. uint32 are halves of int64: see _call.widened()."""
    name, shape = array.dtype.name, array.shape
    if name == "uint32":
        name, shape = "int64", (*shape[:-1], shape[-1] // 2)
    if name not in _DTYPES:
        raise TypeError(f"an array has dtype {name}; cnnext takes {', '.join(_DTYPES)}")
    if len(shape) > _MAX_NDIM:
        raise ValueError(f"an array has {len(shape)} dimensions; at most {_MAX_NDIM} are supported")
    tensor = _Tensor(data, _DTYPES.index(name), len(shape), 1, 0)
    tensor.shape[: len(shape)] = shape
    step = 1
    for axis in reversed(range(len(shape))):
        tensor.strides[axis] = step
        step *= max(shape[axis], 1)
    return tensor


def _structs(params: bytes) -> list[bytes]:
    """Parameter structs that lie one behind the other; each starts with its size."""
    structs = []
    while params:
        size = int.from_bytes(params[: ctypes.sizeof(ctypes.c_size_t)], sys.byteorder)
        structs.append(params[:size])
        params = params[size:]
    return structs


def _run(
    function: str,
    params: bytes,
    inputs: Sequence[_Tensor | None],
    results: Sequence[_Tensor | None],
) -> None:
    tensors = [None if t is None else ctypes.byref(t) for t in (*inputs, *results)]
    status = getattr(_library(), f"cnnext_{function}")(None, *_structs(params), *tensors)
    if status:
        message = _library().cnnext_last_error().decode()
        raise _ERRORS.get(status, RuntimeError)(message)


def describe(
    name: str, params: bytes, inputs: Sequence[Any], wanted: Sequence[bool], shape: Sequence[int] | None
) -> list[tuple[tuple[int, ...], str] | None]:
    """(shape, dtype) of the wanted results of an operation, which is checked by the rules of cnnext.ops.

    inputs have shape and dtype, or are None. shape: of the first result, where an operation is told.
    """
    operation = OPERATIONS[name]
    # Nothing is read at these addresses, which lie so far apart that no two arrays overlap.
    tensors = [None if a is None else _tensor(a, (i + 1) << 48) for i, a in enumerate(inputs)]
    results = [_Tensor(None, 0, 0, 1, 0) if want else None for want in wanted]
    if shape is not None:
        results[0].ndim = len(shape)
        results[0].shape[: len(shape)] = shape
    if operation.function == "batch_norm":
        # The running statistics are neither read nor written here; new ones are as the old.
        _run("batch_norm", params, tensors, results[:3])
        results[3:] = [tensors[3 + i] if want else None for i, want in enumerate(wanted[3:])]
    else:
        _run(operation.function, params, tensors, results)
    return [None if t is None else (tuple(t.shape[: t.ndim]), _DTYPES[t.dtype]) for t in results]


def compute(
    name: str, params: bytes, inputs: Sequence[np.ndarray | None], results: Sequence[np.ndarray | None]
) -> None:
    """The operation itself on row-major arrays, into results of the described shapes and dtypes."""

    def view(array: np.ndarray | None) -> _Tensor | None:
        if array is None:
            return None
        return _tensor(array, array.ctypes.data if array.size else ctypes.addressof(_NOTHING))

    if OPERATIONS[name].function == "batch_norm":
        statistics = list(inputs[3:])
        for i, new in enumerate(results[3:]):
            if new is not None:  # updated in place, as the handler does
                new[...] = statistics[i]
                statistics[i] = new
        inputs, results = [*inputs[:3], *statistics], results[:3]
    _run(OPERATIONS[name].function, params, [view(a) for a in inputs], [view(a) for a in results])
