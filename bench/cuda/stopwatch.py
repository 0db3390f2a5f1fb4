"""How long calls take on the device, and how long whoever makes them waits."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

from bench.cuda.driver import Driver

_LEAST_FLUSH = 32 << 20
_MOST_FLUSHES = 64
_MOST_CALLS = 200


class Stopwatch:
    """Times calls whose work is queued on the legacy default stream."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        # More than the L2 cache holds: what it had of a call's operands is gone when that is written.
        self.words = max(2 * driver.attribute("l2_bytes"), _LEAST_FLUSH) // 4
        self.buffer = driver.allocate(4 * self.words)
        self.flush_s = 0.0

    def _flush(self, times: int = 1) -> None:
        for _ in range(times):
            self.driver.fill(self.buffer, self.words)

    def events(self, call: Callable[[], Any], repeats: int, flushes: int) -> list[float]:
        """Milliseconds between events around each call, `flushes` of the cache before each."""
        driver = self.driver
        pairs = [(driver.event(), driver.event()) for _ in range(repeats)]
        for start, stop in pairs:
            self._flush(flushes)
            driver.record(start)
            call()
            driver.record(stop)
        driver.synchronize()
        times = [driver.elapsed_ms(start, stop) for start, stop in pairs]
        for pair in pairs:
            for event in pair:
                driver.drop(event)
        return times

    def timed(self, call: Callable[[], Any], repeats: int, rest_ms: float) -> dict[str, list[float]]:
        """After a rest and untimed calls, in milliseconds:

        "times_ms": of each call the time on the device, its operands in no cache. The flushes before it last
            longer than the call takes to be queued, so that the device does not wait for the host inside.
        "call_ms": one mean of many calls without a wait between them, with the host's work and warm caches.
        """
        driver, clock = self.driver, time.perf_counter
        driver.enter()
        time.sleep(rest_ms / 1e3)
        if not self.flush_s:
            self.events(self._flush, 1, 0)
            self.flush_s = max(min(self.events(self._flush, 3, 0)) / 1e3, 1e-6)
        call()
        driver.synchronize()
        start = clock()
        call()
        queued_s = clock() - start
        driver.synchronize()
        flushes = min(max(math.ceil(2 * queued_s / self.flush_s), 1), _MOST_FLUSHES)
        times = self.events(call, repeats, flushes)
        calls = min(max(math.ceil(2e-3 / max(queued_s, 1e-6)), repeats), _MOST_CALLS)
        start = clock()
        for _ in range(calls):
            call()
        driver.synchronize()
        return {"times_ms": times, "call_ms": [(clock() - start) / calls * 1e3]}
