"""torch and CuPy: the real ones on a GPU; on the test bed the stand-ins, so that every test runs."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

import pytest

from . import ON_BED

if ON_BED:
    from . import bed_cupy, bed_torch

    bed_cupy.install()
    bed_torch.install()


@cache
def torch() -> Any:
    """torch, or None where it is not installed or has no CUDA."""
    try:
        module = import_module("torch")
    except ImportError:
        return None
    return module if module.cuda.is_available() else None


@cache
def cupy() -> Any:
    """CuPy, or None where it is not installed."""
    try:
        return import_module("cupy")
    except ImportError:
        return None


def need_torch() -> Any:
    """torch; at the top of a module of tests."""
    if torch() is None:
        pytest.skip("torch with CUDA is not installed", allow_module_level=True)
    return torch()


def need_cupy() -> Any:
    """CuPy; at the top of a module of tests."""
    if cupy() is None:
        reason = "CuPy is not installed: pip install 'cnnext[cuda13]' (or 'cnnext[cuda12]')"
        pytest.skip(reason, allow_module_level=True)
    return cupy()
