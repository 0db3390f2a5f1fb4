"""cnnext: fast convolution and max-pool kernels for training and inference, and a framework around them.

import cnnext as cx
y = cx.ops.conv2d(x, weight, padding=1)      # arrays in, arrays out
y = cx.nn.Conv2d(3, 16, 3)(cx.Tensor(x))     # layers that train
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import numpy as _np

from . import ops
from ._C import (
    empty_cache,
    get_autotune,
    get_float32_matmul_precision,
    get_num_threads,
    memory_stats,
    set_autotune,
    set_float32_matmul_precision,
    set_flush_denormal,
)
from ._C import (
    version as _version,
)
from .autocast_mode import autocast, get_autocast_dtype, is_autocast_enabled
from .autograd import grad
from .creation import (
    arange,
    cat,
    from_numpy,
    full,
    ones,
    ones_like,
    rand,
    randint,
    randn,
    randperm,
    stack,
    tensor,
    where,
    zeros,
    zeros_like,
)
from .explain import Explanation, explain
from .grad_mode import enable_grad, is_grad_enabled, no_grad
from .info import info
from .random import manual_seed
from .streams import cuda_stream
from .tensor import Tensor
from .threads import set_num_threads

if TYPE_CHECKING:
    from . import data as data
    from . import functional, nn, optim
    from . import models as models
    from . import train as train
    from . import viz as viz
    from .nn.fuse import fuse
    from .profiler import profile
    from .serialization import load, save
    from .summarize import summary
    from .train.fitting import fit

__version__: str = _version()

float16, float32, float64 = _np.float16, _np.float32, _np.float64
uint8, int8, int32, int64 = _np.uint8, _np.int8, _np.int32, _np.int64
channels_last, contiguous_format = "channels_last", "contiguous_format"

# Imported on first use, so that `import cnnext` for its ops alone stays quick.
_MODULES = ("data", "distributed", "functional", "interop", "models", "nn", "optim", "train", "viz")
_FROM = {
    "fit": "train.fitting",
    "fuse": "nn.fuse",
    "save": "serialization",
    "load": "serialization",
    "profile": "profiler",
    "summary": "summarize",
}

__all__ = [
    "Explanation",
    "Tensor",
    "__version__",
    "arange",
    "autocast",
    "cat",
    "channels_last",
    "contiguous_format",
    "cuda_stream",
    "empty_cache",
    "enable_grad",
    "explain",
    "fit",
    "float16",
    "float32",
    "float64",
    "from_numpy",
    "full",
    "functional",
    "fuse",
    "get_autocast_dtype",
    "get_autotune",
    "get_float32_matmul_precision",
    "get_num_threads",
    "grad",
    "info",
    "int8",
    "int32",
    "int64",
    "is_autocast_enabled",
    "is_grad_enabled",
    "load",
    "manual_seed",
    "memory_stats",
    "nn",
    "no_grad",
    "ones",
    "ones_like",
    "ops",
    "optim",
    "profile",
    "rand",
    "randint",
    "randn",
    "randperm",
    "save",
    "set_autotune",
    "set_float32_matmul_precision",
    "set_flush_denormal",
    "set_num_threads",
    "stack",
    "summary",
    "tensor",
    "uint8",
    "where",
    "zeros",
    "zeros_like",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        try:
            return importlib.import_module(f"{__name__}.{name}")
        except ModuleNotFoundError as error:
            if error.name != f"{__name__}.{name}":
                raise
    if name in _FROM:
        value = globals()[name] = getattr(importlib.import_module(f"{__name__}.{_FROM[name]}"), name)
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES, *_FROM})
