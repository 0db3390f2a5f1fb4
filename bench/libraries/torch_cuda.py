"""PyTorch on a CUDA device, with cuDNN's fastest algorithm for each layer."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch

from bench.cuda.driver import Driver
from bench.libraries import Array, Call
from bench.libraries.torch_ import Torch

#: Names another device of torch's for these calls, for tests where there is no GPU: "cpu".
VARIABLE = "CNNEXT_BENCH_TORCH_DEVICE"
_GEMM = 8192


def name_of(device: int) -> str:
    """torch's name of a CUDA device."""
    return os.environ.get(VARIABLE) or f"cuda:{device}"


class TorchCuda(Torch):
    def __init__(self, threads: int, driver: Driver) -> None:
        super().__init__(threads)
        self.device = name_of(driver.device)
        if self.device != "cpu":
            torch.cuda.set_device(driver.device)
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.benchmark_limit = 0  # try all algorithms
        self.use("float32")

    def describe(self) -> dict[str, Any]:
        versions = {"torch_cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
        return {**super().describe(), **versions}

    def use(self, dtype: str) -> None:
        """TF32 for "tf32" alone: float32 is float32."""
        torch.backends.cudnn.allow_tf32 = dtype == "tf32"
        torch.set_float32_matmul_precision("high" if dtype == "tf32" else "highest")
        self.dtype = torch.float32 if dtype == "tf32" else getattr(torch, dtype)

    def array(self, values: np.ndarray, layout: str) -> Array:
        return super().array(values, layout).to(self.device, self.dtype)

    def vector(self, values: np.ndarray) -> Array:
        return super().vector(values).to(self.device)

    def gemm(self, dtype: str) -> tuple[Call, int]:
        """A product of two square matrices, and its operations."""
        self.use(dtype)
        size = _GEMM if self.device != "cpu" else 64
        a, b = (torch.rand((size, size), device=self.device).sub_(0.5).to(self.dtype) for _ in range(2))
        return lambda: a @ b, 2 * size**3
