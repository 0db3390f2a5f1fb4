"""cnnext on a CUDA device: torch's arrays where torch has the device, else memory of the driver's."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import cnnext
import numpy as np

from bench.cuda.arrays import DeviceArray, like
from bench.cuda.driver import Driver
from bench.libraries import Array, Call
from bench.libraries.ours import Cnnext


def torch_of(driver: Driver) -> Any:
    """torch, where it is installed and has this device; else None."""
    if importlib.util.find_spec("torch") is None:
        return None
    import torch

    return torch if torch.cuda.is_available() and torch.cuda.device_count() > driver.device else None


def allow_tf32(allowed: bool) -> None:
    """For float32 from now on, where this cnnext has the setting; else it computes in float32."""
    if hasattr(cnnext, "set_float32_matmul_precision"):
        cnnext.set_float32_matmul_precision("high" if allowed else "highest")


class CnnextCuda(Cnnext):
    def __init__(self, threads: int, driver: Driver) -> None:
        super().__init__(threads)
        self.driver, self.torch, self.dtype = driver, torch_of(driver), "float32"
        if not cnnext.info().cuda_devices:
            raise RuntimeError(f"cnnext has no CUDA device: {cnnext.info().cuda}")

    def describe(self) -> dict[str, Any]:
        arrays = f"torch {self.torch.__version__}" if self.torch else "the driver"
        return {**super().describe(), "cuda": cnnext.info().cuda, "arrays": arrays}

    def use(self, dtype: str) -> None:
        if dtype == "bfloat16" and not self.torch:
            raise NotImplementedError("bfloat16 arrays are torch's, which is missing or has no such device")
        self.dtype = "float32" if dtype == "tf32" else dtype
        allow_tf32(dtype == "tf32")

    def array(self, values: np.ndarray, layout: str) -> Array:
        return self._to_device(super().array(values, layout), self.dtype)

    def vector(self, values: np.ndarray) -> Array:
        return self._to_device(values, self.dtype)

    def _to_device(self, values: np.ndarray, dtype: str) -> Array:
        if self.torch is None:
            return DeviceArray(self.driver, values.astype(dtype))
        tensor = self.torch.from_numpy(values)  # whose order a copy to a device keeps
        return tensor.to(f"cuda:{self.driver.device}", getattr(self.torch, dtype))

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
