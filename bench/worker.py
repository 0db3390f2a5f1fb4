"""One contestant in a process of its own: `python -m bench.worker cnnext|torch`.

A process each, because an instruction set and malloc's settings are chosen for a whole process, and because
one library's threads must not spin inside another's measurement. Commands and answers are lines of JSON on
stdin and stdout. Inputs are made from a seed, so that every contestant computes the same thing; results go to
files.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from bench.shapes import Layer

Array = Any
Call = Callable[[], Any]


class Library(Protocol):
    """What a contestant provides."""

    def describe(self) -> dict[str, Any]: ...
    def array(self, values: np.ndarray, layout: str) -> Array: ...
    def call(self, layer: Layer, operands: dict[str, Array], which: str, algorithm: str) -> Call: ...
    def results(self, layer: Layer, which: str, returned: Any) -> dict[str, np.ndarray]: ...
    def kernel(self) -> str: ...


def channels_last(values: np.ndarray) -> np.ndarray:
    """The same logical (N,C,H,W) array with its memory in N,H,W,C order."""
    return np.ascontiguousarray(values.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


class Cnnext:
    def __init__(self, threads: int) -> None:
        import cnnext

        self.cx = cnnext
        cnnext.set_num_threads(threads)

    def describe(self) -> dict[str, Any]:
        info = self.cx.info()
        return {"library": "cnnext", "version": info.version, "isa": info.isa, "build": info.build}

    def array(self, values: np.ndarray, layout: str) -> Array:
        return channels_last(values) if layout == "nhwc" else values

    def kernel(self) -> str:
        from cnnext.testing import last_kernel

        return last_kernel()

    def call(self, layer: Layer, operands: dict[str, Array], which: str, algorithm: str) -> Call:
        ops = self.cx.ops
        x, w, grad = operands["x"], operands.get("w"), operands["grad"]
        if layer.kind == "conv":
            shared = (layer.stride, layer.padding, layer.dilation, layer.groups)
            if algorithm == "packed":
                if which != "fwd":
                    raise ValueError("packed weights are the forward's")
                packed = ops.pack_weight(w, *shared, input_shape=x.shape, channels_last=operands["nhwc"])
                return lambda: ops.conv2d(x, packed, None, *shared)
            if which == "fwd":
                return lambda: ops.conv2d(x, w, None, *shared, algorithm=algorithm)
            if which == "bwd_data":
                return lambda: ops.conv2d_backward_data(grad, w, x.shape, *shared, algorithm=algorithm)
            return lambda: ops.conv2d_backward_weights(grad, x, w.shape, *shared, algorithm=algorithm)
        window = ((layer.R, layer.S), layer.stride, layer.padding)
        if layer.kind == "avg_pool":
            if which == "fwd":
                return lambda: ops.avg_pool2d(x, *window)
            return lambda: ops.avg_pool2d_backward(grad, x.shape, *window)
        if which == "fwd":
            return lambda: ops.max_pool2d(x, *window, layer.dilation, False, True, indices="window")
        _, taps = ops.max_pool2d(x, *window, layer.dilation, False, True, indices="window")
        return lambda: ops.max_pool2d_backward(
            grad, taps, x.shape, *window, layer.dilation, indices_kind="window"
        )

    def results(self, layer: Layer, which: str, returned: Any) -> dict[str, np.ndarray]:
        if layer.kind != "max_pool" or which != "fwd":
            return {"result": returned}
        values, taps = returned
        window = ((layer.R, layer.S), layer.stride, layer.padding, layer.dilation)
        places = self.cx.ops.convert_indices(taps, layer.x_shape, *window, source="window", target="plane")
        return {"result": values, "indices": places}


class Reference(Cnnext):
    """cnnext's plain loops, as the oracle where torch is not installed."""

    def call(self, layer: Layer, operands: dict[str, Array], which: str, algorithm: str) -> Call:
        from cnnext.testing import backend

        def run() -> Any:
            with backend("ref"):
                return Cnnext.call(self, layer, operands, which, "auto")()

        return run


class Torch:
    def __init__(self, threads: int) -> None:
        import torch

        self.torch = torch
        torch.set_num_threads(threads)
        torch.set_grad_enabled(False)

    def describe(self) -> dict[str, Any]:
        return {"library": "torch", "version": self.torch.__version__}

    def array(self, values: np.ndarray, layout: str) -> Array:
        tensor = self.torch.from_numpy(values.copy())
        return tensor.contiguous(memory_format=self.torch.channels_last) if layout == "nhwc" else tensor

    def kernel(self) -> str:
        return ""

    def call(self, layer: Layer, operands: dict[str, Array], which: str, algorithm: str) -> Call:
        torch = self.torch
        functional, aten = torch.nn.functional, torch.ops.aten
        x, w, grad = operands["x"], operands.get("w"), operands["grad"]
        stride, padding, dilation = list(layer.stride), list(layer.padding), list(layer.dilation)
        if layer.kind == "conv":
            if which == "fwd":
                return lambda: functional.conv2d(x, w, None, stride, padding, dilation, layer.groups)
            needs = [which == "bwd_data", which == "bwd_weights", False]
            place = needs.index(True)
            return lambda: aten.convolution_backward(
                grad, x, w, None, stride, padding, dilation, False, [0, 0], layer.groups, needs
            )[place]
        kernel = [layer.R, layer.S]
        if layer.kind == "avg_pool":
            if which == "fwd":
                return lambda: functional.avg_pool2d(x, kernel, stride, padding)
            return lambda: aten.avg_pool2d_backward(grad, x, kernel, stride, padding, False, True, None)
        if which == "fwd":
            return lambda: functional.max_pool2d(x, kernel, stride, padding, dilation, False, True)
        _, places = functional.max_pool2d(x, kernel, stride, padding, dilation, False, True)
        return lambda: aten.max_pool2d_with_indices_backward(
            grad, x, kernel, stride, padding, dilation, False, places
        )

    def results(self, layer: Layer, which: str, returned: Any) -> dict[str, np.ndarray]:
        names = ("result", "indices")
        values = returned if isinstance(returned, tuple) else (returned,)
        return {name: value.numpy() for name, value in zip(names, values, strict=False)}


LIBRARIES: dict[str, Callable[[int], Library]] = {"cnnext": Cnnext, "torch": Torch, "ref": Reference}


class Server:
    """Holds one layer in one layout at a time."""

    def __init__(self, library: Library) -> None:
        self.library = library
        self.layer: Layer | None = None
        self.operands: dict[str, Array] = {}
        self.call: Call | None = None
        self.which = ""

    def describe(self) -> dict[str, Any]:
        return self.library.describe()

    def prepare(self, layer: dict[str, Any], layout: str) -> dict[str, Any]:
        self.call, self.operands = None, {}  # let go of the old arrays first
        pairs = {key: tuple(layer[key]) for key in ("stride", "padding", "dilation")}
        self.layer = Layer(**{**layer, **pairs})
        random = np.random.default_rng(0)

        def uniform(shape: tuple[int, ...]) -> Array:
            return self.library.array(random.random(shape, dtype=np.float32) - np.float32(0.5), layout)

        self.operands = {
            "x": uniform(self.layer.x_shape),
            "grad": uniform(self.layer.y_shape),
            "nhwc": layout == "nhwc",
        }
        if self.layer.kind == "conv":
            self.operands["w"] = uniform(self.layer.w_shape)
        return {}

    def select(self, which: str, algorithm: str) -> dict[str, Any]:
        assert self.layer is not None
        self.which = which
        self.call = self.library.call(self.layer, self.operands, which, algorithm)
        self.call()
        return {"kernel": self.library.kernel()}

    def compute(self, path: str) -> dict[str, Any]:
        assert self.layer is not None
        assert self.call is not None
        results = self.library.results(self.layer, self.which, self.call())
        np.savez(path, **{name: np.ascontiguousarray(value) for name, value in results.items()})
        return {}

    def time(self, repeats: int, rest_ms: float) -> dict[str, Any]:
        """Rest (another library's threads may still spin), one untimed call, then the timed ones."""
        assert self.call is not None
        call, clock = self.call, time.perf_counter_ns
        time.sleep(rest_ms / 1e3)
        call()
        times = []
        for _ in range(repeats):
            start = clock()
            call()
            times.append((clock() - start) / 1e6)
        return {"times_ms": times}


def serve(library_name: str, threads: int) -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not mix with the answers
    server: Server | None = None
    for line in sys.stdin:
        command = json.loads(line)
        try:
            if server is None:
                server = Server(LIBRARIES[library_name](threads))
            answer = getattr(server, command.pop("do"))(**command)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
