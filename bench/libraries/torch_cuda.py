"""PyTorch on a CUDA device, with cuDNN's fastest algorithm for each layer."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from bench.cuda.driver import Driver
from bench.cuda.torch_device import name_of
from bench.libraries import Array, Call
from bench.libraries.torch_ import Torch

_GEMM = 8192


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
        tensor = torch.from_numpy(values).to(self.device, self.dtype, copy=True)
        return tensor.contiguous(memory_format=torch.channels_last) if layout == "nhwc" else tensor

    def vector(self, values: np.ndarray) -> Array:
        return super().vector(values).to(self.device)

    def gemm(self, dtype: str) -> tuple[Call, int]:
        """A product of two square matrices, and its operations."""
        self.use(dtype)
        size = _GEMM if self.device != "cpu" else 64
        a, b = (torch.rand((size, size), device=self.device).sub_(0.5).to(self.dtype) for _ in range(2))
        return lambda: a @ b, 2 * size**3
