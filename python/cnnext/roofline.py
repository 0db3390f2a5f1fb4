"""A model of how fast a kernel should run: this machine's roofline, and what each kernel family reaches.

The two limits are measured once a process and thread count, in some 50 ms: arithmetic as what the direct 3x3
kernel does on data in cache, bandwidth as what ReLU reads and writes in memory. The families' parts of the
first are constants, rounded from measured layers. It is a model: good for telling what limits a layer,
not for promising a time. It knows nothing of layers with few channels, which reach about half of it.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from . import _C

#: What a kernel's name contains (the first that fits): its algorithm, and the part of peak that it reaches on
#: data in cache.
#: The direct algorithm's operations are counted (so that Winograd is above 1), or a pool's comparisons.
FAMILIES: dict[str, tuple[str, float]] = {
    "ref/": ("reference loops", 0.01),
    "conv2d_winograd_2x2": ("winograd", 1.8),
    "conv2d_winograd": ("winograd", 2.2),
    "conv2d_weights_winograd": ("winograd", 1.8),
    "avx512_bf16/conv2d_k": ("direct", 1.7),
    "conv2d_weights": ("direct", 0.8),
    "conv2d_": ("direct", 0.9),
    "inner_product": ("inner product", 0.6),
    "depthwise": ("depthwise", 0.6),
    "max_pool2d": ("max-pool", 0.04),
}
#: The same of CUDA's kernels, of whose speed there is no model here.
CUDA_ALGORITHMS: dict[str, str] = {
    "conv2d_relu_max_pool2d": "convolution and max-pool, some images at a time",
    "conv2d_batch_norm": "convolution, then batch norm",
    "mma_": "implicit GEMM, tensor cores",
    "_gemm_": "implicit GEMM",
    "depthwise": "depthwise",
    "max_pool": "max-pool",
}


@dataclass(frozen=True)
class Limits:
    """What this machine can do with some threads; str() says it."""

    gflops: float  #: float32, in cache
    gbytes_per_second: float  #: read and written, in memory

    def __str__(self) -> str:
        return f"{self.gflops:.0f} GFLOP/s, {self.gbytes_per_second:.0f} GB/s"


def family_of(kernel: str) -> tuple[str, float]:
    """The algorithm of a kernel, and its part of peak; 0 where there is no model."""
    if kernel.startswith("cuda/"):
        return next((says for name, says in CUDA_ALGORITHMS.items() if name in kernel), ""), 0.0
    for name, family in FAMILIES.items():
        if name in kernel:
            return family
    return "", 0.0


def limits() -> Limits:
    """This machine's, with the threads of now."""
    return _measured(_C.isa(), _C.get_num_threads())


@functools.lru_cache(maxsize=16)
def _measured(isa: str, threads: int) -> Limits:
    found: list[Limits] = []
    # Elsewhere, so that it is neither the caller's last call nor on the caller's forced backend.
    worker = threading.Thread(target=lambda: found.append(_measure()))
    worker.start()
    worker.join()
    return found[0]


def _measure() -> Limits:
    images, channels, size, taps = 8, 64, 14, 9
    x = np.ones((images, size, size, channels), np.float32).transpose(0, 3, 1, 2)
    weight = _C.pack_weight(
        np.ones((channels, channels, 3, 3), np.float32), 1, 1, 1, 1, (images, channels, size, size), True
    )
    y = np.empty_like(x)
    flops = 2.0 * images * channels * channels * size * size * taps
    seconds = _least(lambda: _C.conv2d(x, weight, None, 1, 1, 1, 1, None, None, "direct", y), at_least=0.01)
    large = np.ones(1 << 23, np.float32)
    out = np.ones_like(large)
    moved = _least(lambda: _C.activation(large, "relu", 0.0, out), at_least=0.01)
    return Limits(flops / seconds / 1e9, (large.nbytes + out.nbytes) / moved / 1e9)


def _least(call: Callable[[], object], at_least: float) -> float:
    """The least time of a call, over several that take `at_least` seconds together."""
    call()
    end = time.perf_counter() + at_least
    least = float("inf")
    while (start := time.perf_counter()) < end:
        call()
        least = min(least, time.perf_counter() - start)
    return least
