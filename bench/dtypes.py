"""The dtypes that layers are measured in, and how far results in them may be from the oracle's."""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Dtype:
    size: int  # of an element, in bytes
    tolerance: float  # of the largest difference, over the RMS of the oracle's result


#: Direct algorithms in float32 stay near 1e-6 of the result's RMS, Winograd some times above; a wrong tap
#: anywhere is of the order of 1. A result of 16 bits is rounded to 11 (8) of them, at up to five times its
#: RMS; TF32 rounds both factors of a product to 11. "tf32" are float32 arrays whose products may be TF32's.
DTYPES = {
    "float32": Dtype(4, 1e-3),
    "tf32": Dtype(4, 1e-2),
    "float16": Dtype(2, 1e-2),
    "bfloat16": Dtype(2, 6e-2),
}


def rounded(values: np.ndarray, dtype: str) -> np.ndarray:
    """float32 values that the dtype holds: the nearest ones, ties to even."""
    if dtype == "float16":
        return values.astype(np.float16).astype(np.float32)
    if dtype == "bfloat16":
        bits = values.view(np.uint32)
        return ((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)
    return values
