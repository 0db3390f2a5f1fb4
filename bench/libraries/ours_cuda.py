"""cnnext on a CUDA device: torch's arrays where torch has the device, else memory of the driver's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cnnext
import numpy as np

from bench.cuda.arrays import DeviceArray, like
from bench.cuda.driver import Driver
from bench.cuda.torch_device import name_of, torch_with
from bench.libraries import Array, Call
from bench.libraries.ours import Cnnext, allow_tf32


class CnnextCuda(Cnnext):
    def __init__(self, threads: int, driver: Driver) -> None:
        super().__init__(threads)
        self.driver, self.torch, self.dtype = driver, torch_with(driver.device), "float32"
        if not cnnext.info().cuda_devices:
            raise RuntimeError(f"cnnext has no CUDA device: {cnnext.info().cuda}")

    def describe(self) -> dict[str, Any]:
        arrays = f"torch {self.torch.__version__}" if self.torch else "the driver"
        return {**super().describe(), "cuda": cnnext.info().cuda, "arrays": arrays}

    def use(self, dtype: str) -> None:
        if dtype == "bfloat16" and not self.torch:
            raise NotImplementedError("bfloat16 arrays are torch's, which is missing or has no such device")
        self.dtype = "float32" if dtype == "tf32" else dtype
        allow_tf32(dtype)

    def array(self, values: np.ndarray, layout: str) -> Array:
        if self.torch is None:
            return DeviceArray(self.driver, super().array(values, layout).astype(self.dtype))
        tensor = self.vector(values)
        return tensor.contiguous(memory_format=self.torch.channels_last) if layout == "nhwc" else tensor

    def vector(self, values: np.ndarray) -> Array:
        if self.torch is None:
            return DeviceArray(self.driver, values.astype(self.dtype))
        tensor = self.torch.from_numpy(values)
        return tensor.to(name_of(self.driver.device), getattr(self.torch, self.dtype), copy=True)

    def kept(self, call: Callable[..., Any]) -> Call:
        made = call()
        values = made[0] if isinstance(made, tuple) else made
        out = values if self.torch else like(self.driver, values)
        return lambda: call(out=out)

    def host(self, value: Array) -> np.ndarray:
        if self.torch and isinstance(value, self.torch.Tensor):
            value = value.float() if value.is_floating_point() else value
            return value.cpu().numpy()
        found = value.numpy()
        return found.astype(np.float32) if found.dtype.kind == "f" else found
