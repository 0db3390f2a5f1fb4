"""Arrays on a device that know where their memory is and nothing else, for where no library has any."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.cuda.driver import Driver


class DeviceArray:
    """The values of a NumPy array, in its memory order, shown by __cuda_array_interface__."""

    def __init__(self, driver: Driver, values: np.ndarray) -> None:
        """values: dense in some order of its axes."""
        self.driver, self.shape, self.dtype, self.strides = driver, values.shape, values.dtype, values.strides
        self.size = max(values.nbytes, 1)
        self.address = driver.allocate(self.size)
        if values.nbytes:
            driver.write(self.address, values.ctypes.data, values.nbytes)

    def __del__(self) -> None:
        if hasattr(self, "address"):
            self.driver.free(self.address)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "version": 3,
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.address, False),
            "strides": self.strides,
        }

    def numpy(self) -> np.ndarray:
        """A copy on the host."""
        self.driver.synchronize()
        found = np.ndarray(self.shape, self.dtype, np.empty(self.size, np.uint8), 0, self.strides)
        if found.nbytes:
            self.driver.read(found.ctypes.data, self.address, found.nbytes)
        return found


def like(driver: Driver, made: Any) -> DeviceArray:
    """Memory for a result of the same shape, dtype and order as one with __cuda_array_interface__."""
    shown = made.__cuda_array_interface__
    dtype = np.dtype(shown["typestr"])
    count = int(np.prod(shown["shape"]))
    return DeviceArray(driver, np.ndarray(shown["shape"], dtype, np.zeros(count, dtype), 0, shown["strides"]))
