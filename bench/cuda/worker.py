"""As bench.worker, on a CUDA device: `python -m bench.cuda.worker LIBRARY THREADS DEVICE`."""

from __future__ import annotations

import sys
from typing import Any

from bench.cuda.driver import Driver
from bench.cuda.limits import measure
from bench.cuda.stopwatch import Stopwatch
from bench.libraries import make
from bench.worker import Server, serve


class DeviceServer(Server):
    """Holds one layer in one layout and dtype at a time, on one device."""

    def __init__(self, library: str, threads: int, device: str) -> None:
        self.driver = Driver(int(device.partition(":")[2] or 0))
        super().__init__(make(library, threads, self.driver))
        self.driver.enter()
        self.stopwatch = Stopwatch(self.driver)

    def describe(self) -> dict[str, Any]:
        return {**self.driver.describe(), **self.library.describe()}

    def prepare(
        self, layer: dict[str, Any], layout: str, dtype: str = "float32", exact: bool = False
    ) -> dict[str, Any]:
        """exact: values that the dtype holds, in float32."""
        self.library.use("float32" if exact else dtype)
        answer = super().prepare(layer, layout, dtype)
        self.driver.synchronize()
        return answer

    def select(self, which: str, algorithm: str) -> dict[str, Any]:
        answer = super().select(which, algorithm)
        self.driver.synchronize()  # what fails on the device fails here
        return answer

    def time(self, repeats: int, rest_ms: float) -> dict[str, Any]:
        assert self.call is not None
        return self.stopwatch.timed(self.call, repeats, rest_ms)

    def limits(self) -> dict[str, float]:
        return measure(self.driver, self.stopwatch)

    def gemm(self, dtype: str) -> dict[str, float]:
        """torch's product of square matrices: what cuBLAS reaches on the units for this dtype."""
        call, flops = self.library.gemm(dtype)
        call()
        return {f"gemm_gflops_{dtype}": flops / min(self.stopwatch.events(call, 5, 0)) / 1e6}

    def healthy(self) -> dict[str, Any]:
        """Fails where the context is lost: the process is of no more use then."""
        self.driver.synchronize()
        return {}


if __name__ == "__main__":
    serve(lambda: DeviceServer(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
