"""What the functions take as arrays, judged before JAX traces them."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

__all__ = ["check_arrays"]


def check_arrays(function: str, optional: str = "", **arrays: Any) -> None:
    """TypeError for what is no array, and for uint32, which the calls below it take for halves of int64.

    optional: the names of those that may be None.
    """
    for name, array in arrays.items():
        if array is None and name in optional.split():
            continue
        if not isinstance(array, (jax.Array, np.ndarray, np.generic)) and not hasattr(array, "__jax_array__"):
            kind = type(array).__name__
            raise TypeError(f"{function}: {name} is {kind}; the rule is an array of JAX or NumPy")
        if getattr(array, "dtype", None) == np.uint32:
            raise TypeError(f"{function}: {name} has dtype uint32, which cnnext has not")
