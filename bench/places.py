"""Where whole steps run, and how the memory that they take is found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.cuda.driver import Driver
from bench.worker import timed

Call = Callable[[], Any]


def resident_mb(what: str) -> float:
    """VmRSS, now, or VmHWM, the most since reset_peak()."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(what + ":"):
            return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError(f"/proc/self/status has no {what}")


class Host:
    """Memory is the process's resident one."""

    driver: Driver | None = None

    def imported(self) -> None:
        """The libraries are there; what follows is the step's."""
        self.before_mb = resident_mb("VmRSS")

    @contextmanager
    def working(self) -> Iterator[None]:
        """Around all that may take memory."""
        yield

    def reset_peak(self) -> None:
        Path("/proc/self/clear_refs").write_text("5")

    def timed(self, call: Call, repeats: int, rest_ms: float) -> list[float]:
        return timed(call, repeats, rest_ms, least_s=0.1, limit_s=1.0)

    def memory(self) -> dict[str, float]:
        return {"peak_mb": resident_mb("VmHWM"), "before_mb": self.before_mb}


class Device(Host):
    """A CUDA device, whose driver tells what all processes together have: one's share is by how much that
    grew while it worked and the others waited. Without the context; pools keep what they once had."""

    def __init__(self, device: str) -> None:
        self.driver: Driver = Driver(int(device.partition(":")[2]))
        self.used = self.most = 0

    def imported(self) -> None:
        self.before_mb = self.used / 1e6

    @contextmanager
    def working(self) -> Iterator[None]:
        self.driver.enter()
        free = self.driver.memory()[0]
        try:
            yield
        finally:
            self.driver.enter()
            self.used += free - self.driver.memory()[0]
            self.most = max(self.most, self.used)

    def reset_peak(self) -> None:
        self.most = self.used

    def timed(self, call: Call, repeats: int, rest_ms: float) -> list[float]:
        """With a wait for the device in each."""

        def finished() -> None:
            call()
            self.driver.synchronize()

        return super().timed(finished, repeats, rest_ms)

    def memory(self) -> dict[str, float]:
        return {"peak_mb": self.most / 1e6, "before_mb": self.before_mb}


def place_of(device: str) -> Host:
    return Host() if device == "cpu" else Device(device)
