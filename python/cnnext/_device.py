"""What the extension asks of libraries whose arrays lie on CUDA devices: streams, and memory for results.

An array of theirs is there, so they are imported already; nothing is imported here.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

_LEGACY = (0, 1)  # the legacy default stream's two names


def current_stream(library: str, device: int) -> int:
    """The cudaStream_t that "torch" or "cupy" queues its work for this device on."""
    module = sys.modules[library]
    if library == "torch":
        return module.cuda.current_stream(device).cuda_stream
    with module.cuda.Device(device):
        return module.cuda.get_current_stream().ptr


def empty(
    library: str, device: int, shape: Sequence[int], strides: Sequence[int], dtype: str, stream: int | None
) -> tuple[Any, int]:
    """An array of "torch" or "cupy" with these strides (in elements), and its address.

    stream: the one that the memory is for; None: the library's current one.
    """
    module = sys.modules[library]
    if library == "torch":
        with _torch_stream(module, device, stream):
            tensor = module.empty_strided(
                shape, strides, dtype=getattr(module, dtype), device=f"cuda:{device}"
            )
        return tensor, tensor.data_ptr()
    # CuPy makes no strided arrays: one in the order that the axes have in memory, seen in the order wanted.
    order = sorted(range(len(shape)), key=lambda axis: (-strides[axis], axis))
    with module.cuda.Device(device), cupy_stream(module, device, stream):
        array = module.empty([shape[axis] for axis in order], _numpy_dtype(dtype))
    return array.transpose(np.argsort(order).tolist()), array.data.ptr


def _torch_stream(torch: Any, device: int, stream: int | None) -> AbstractContextManager:
    if stream is None:
        return nullcontext()
    cuda = torch.cuda
    known = cuda.default_stream(device) if stream in _LEGACY else cuda.ExternalStream(stream, device=device)
    return cuda.stream(known)


def cupy_stream(cupy: Any, device: int, stream: int | None) -> AbstractContextManager:
    """Makes a cudaStream_t CuPy's current stream; None: leaves the one that is."""
    if stream is None:
        return nullcontext()
    if stream in _LEGACY:
        return cupy.cuda.Stream.null
    if hasattr(cupy.cuda.Stream, "from_external"):  # since CuPy 14, which deprecates ExternalStream
        return cupy.cuda.Stream.from_external(_Stream(stream))
    return cupy.cuda.ExternalStream(stream, device)


class _Stream:
    """A cudaStream_t by the CUDA stream protocol."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self._handle


def _numpy_dtype(name: str) -> np.dtype:
    if name != "bfloat16":
        return np.dtype(name)
    from ml_dtypes import bfloat16  # CuPy's name for the type

    return np.dtype(bfloat16)
