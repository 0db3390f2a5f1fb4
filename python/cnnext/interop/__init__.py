"""cnnext's kernels inside other frameworks, each imported on first use: `cnnext.interop.torch`."""

from __future__ import annotations

import importlib
from types import ModuleType

_FRAMEWORKS = ("jax", "onnx", "torch")


def __getattr__(name: str) -> ModuleType:
    if name in _FRAMEWORKS:
        try:
            return importlib.import_module(f"{__name__}.{name}")
        except ModuleNotFoundError as error:
            if error.name != f"{__name__}.{name}":
                raise
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
