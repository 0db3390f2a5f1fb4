"""One contestant in a process of its own: `python -m bench.worker LIBRARY THREADS`.

A process each, because an instruction set and malloc's settings are chosen for a whole process, and because
one library's threads must not spin inside another's measurement. Commands and answers are lines of JSON on
stdin and stdout. Inputs are made from a seed, so that every contestant computes the same thing; results go to
files.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from bench.dtypes import rounded
from bench.libraries import Array, Call, Library, Operands, make
from bench.shapes import Layer

# Making random numbers must not take longer than all else: of larger arrays a few images repeat.
_RANDOM = 1 << 24
_IMAGES = 7


class Server:
    """Holds one layer in one layout at a time."""

    def __init__(self, library: Library) -> None:
        self.library = library
        self.layer: Layer | None = None
        self.operands: Operands = {}
        self.calls: dict[tuple[str, str], Call] = {}  # by pass and algorithm: some compile or pack first
        self.call: Call | None = None
        self.which = ""

    def describe(self) -> dict[str, Any]:
        return self.library.describe()

    def prepare(self, layer: dict[str, Any], layout: str, dtype: str = "float32") -> dict[str, Any]:
        """dtype: what the values are rounded to."""
        self.call, self.calls, self.operands = None, {}, {}  # let go of the old arrays first
        pairs = {key: tuple(value) for key, value in layer.items() if isinstance(value, list)}
        self.layer = Layer(**{**layer, **pairs})
        random = np.random.default_rng(0)

        def uniform(shape: tuple[int, ...]) -> Array:
            images = shape[0] if math.prod(shape) <= _RANDOM else min(shape[0], _IMAGES)
            values = random.random((images, *shape[1:]), dtype=np.float32) - np.float32(0.5)
            return self.library.array(np.resize(rounded(values, dtype), shape), layout)

        self.operands = {
            "x": uniform(self.layer.x_shape),
            "grad": uniform(self.layer.y_shape),
            "nhwc": layout == "nhwc",
        }
        if self.layer.has_filter:
            self.operands["w"] = uniform(self.layer.w_shape)
        return {}

    def select(self, which: str, algorithm: str) -> dict[str, Any]:
        assert self.layer is not None
        self.which = which
        if (which, algorithm) not in self.calls:
            self.calls[which, algorithm] = self.library.call(self.layer, self.operands, which, algorithm)
        self.call = self.calls[which, algorithm]
        self.call()
        return {"kernel": self.library.kernel()}

    def compute(self, path: str, most: int = 0) -> dict[str, Any]:
        """most: of a result with more elements only the first, the middle and the last image; 0: all."""
        assert self.layer is not None
        assert self.call is not None
        results = self.library.results(self.layer, self.which, self.call())
        for name, value in results.items():
            if most and value.size > most and value.shape[0] > 3:
                results[name] = value[[0, value.shape[0] // 2, value.shape[0] - 1]]
        np.savez(path, **{name: np.ascontiguousarray(value) for name, value in results.items()})
        return {}

    def time(self, repeats: int, rest_ms: float) -> dict[str, Any]:
        assert self.call is not None
        return {"times_ms": timed(self.call, repeats, rest_ms)}


def timed(
    call: Call, repeats: int, rest_ms: float, least_s: float = 0.0, limit_s: float = math.inf
) -> list[float]:
    """Milliseconds of each call: after a rest, as another library's threads may still spin, and an untimed
    call. At least that many and that long, until the limit."""
    clock = time.perf_counter_ns
    time.sleep(rest_ms / 1e3)
    call()
    times: list[float] = []
    spent = 0.0
    while (len(times) < repeats or spent < least_s * 1e3) and spent < limit_s * 1e3:
        start = clock()
        call()
        times.append((clock() - start) / 1e6)
        spent += times[-1]
    return times


def serve(make_server: Callable[[], Any]) -> None:
    """Answers commands until stdin ends: each names a method of the server and its arguments."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not mix with the answers
    server: Any = None
    for line in sys.stdin:
        command = json.loads(line)
        try:
            if server is None:
                server = make_server()
            answer = getattr(server, command.pop("do"))(**command)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    serve(lambda: Server(make(sys.argv[1], int(sys.argv[2]))))
