"""What can take part: each library's name, what it needs, and which layers it runs.

The driver reads this table; only a worker process imports a library.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from bench.dtypes import DTYPES
from bench.shapes import KINDS, Layer

Array = Any
Call = Callable[[], Any]
Operands = dict[str, Any]  # "x", "grad" and a convolution's "w", as array() made them; "nhwc": bool


class Library(Protocol):
    """What a contestant provides; made with the number of threads, and on a device with its driver.

    There it has use(dtype) as well, for the arrays that follow, and torch's has gemm(dtype).
    """

    def describe(self) -> dict[str, Any]: ...
    def array(self, values: np.ndarray, layout: str) -> Array:
        """Logical (N,C,H,W) values in the library's own kind of array and in the layout's memory order."""

    def call(self, layer: Layer, operands: Operands, which: str, algorithm: str) -> Call:
        """What is timed: it returns when the result is there. Preparations come before it."""

    def results(self, layer: Layer, which: str, returned: Any) -> dict[str, np.ndarray]:
        """ "result", logically (N,C,H,W), and a max-pool's "indices" within the plane where it has them."""

    def kernel(self) -> str: ...


def missing(packages: tuple[str, ...]) -> list[str]:
    """Those that are not installed."""
    return [name for name in packages if importlib.util.find_spec(name) is None]


@dataclasses.dataclass(frozen=True)
class Entry:
    """Where a library's class lies, the packages it imports, and what it runs."""

    factory: str  # module:class
    packages: tuple[str, ...] = ()
    passes: tuple[str, ...] = ("fwd", "bwd_data", "bwd_weights")
    layouts: tuple[str, ...] = ("nchw", "nhwc")
    kinds: tuple[str, ...] = ("conv", "max_pool", "avg_pool")
    dtypes: tuple[str, ...] = ("float32",)


LIBRARIES = {
    "cnnext": Entry("ours:Cnnext", kinds=KINDS),
    "ref": Entry("ours:Reference", kinds=KINDS),
    "torch": Entry("torch_:Torch", ("torch",), kinds=KINDS),
    "jax": Entry("jax_:Jax", ("jax",)),
    "onnxruntime": Entry("onnxruntime_:OnnxRuntime", ("onnxruntime", "onnx"), ("fwd",), ("nchw",)),
    "openvino": Entry("openvino_:OpenVino", ("openvino",), ("fwd",), ("nchw",)),
}
#: Those that run on CUDA devices.
DEVICE_LIBRARIES = {
    "cnnext": Entry("ours_cuda:CnnextCuda", kinds=KINDS, dtypes=tuple(DTYPES)),
    "torch": Entry("torch_cuda:TorchCuda", ("torch",), kinds=KINDS, dtypes=tuple(DTYPES)),
}
PEERS = tuple(name for name in LIBRARIES if name not in ("cnnext", "ref"))
PREPACKING = ("onnxruntime", "openvino")  # the weights are constants of the model


def entry(name: str, device: str = "cpu") -> Entry:
    """The oracle of plain loops is on the host for both."""
    return LIBRARIES[name] if device == "cpu" or name == "ref" else DEVICE_LIBRARIES[name]


def make(name: str, threads: int, driver: Any = None) -> Library:
    """The library, imported into this process; driver: of the device, where it is on one."""
    module, _, cls = entry(name, "cuda" if driver else "cpu").factory.partition(":")
    factory = getattr(importlib.import_module(f"bench.libraries.{module}"), cls)
    library: Library = factory(threads, driver) if driver else factory(threads)
    return library
