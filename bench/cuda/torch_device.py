"""torch's name of a CUDA device, and whether this torch has it."""

from __future__ import annotations

import importlib.util
import os
from typing import Any

#: Names another device of torch's instead, for tests where there is no GPU: "cpu".
VARIABLE = "CNNEXT_BENCH_TORCH_DEVICE"


def name_of(device: int) -> str:
    return os.environ.get(VARIABLE) or f"cuda:{device}"


def torch_with(device: int) -> Any:
    """torch, where it is installed and has this device; else None."""
    if importlib.util.find_spec("torch") is None:
        return None
    import torch

    return torch if name_of(device) == "cpu" or torch.cuda.device_count() > device else None
