"""What the device can do at most: its FMA units by a kernel of nothing else, its memory by a large copy."""

from __future__ import annotations

from ctypes import c_float, c_uint, c_uint64
from typing import Any

from bench.cuda.driver import Driver
from bench.cuda.stopwatch import Stopwatch

_CHAINS, _UNROLLED, _BLOCK, _BLOCKS = 16, 8, 256, 8
_COPY_BYTES = 1 << 30
_ROUNDS = 2048


def fma_ptx() -> str:
    """Chains of FMAs that depend on nothing but themselves, enough of them to hide an FMA's latency."""
    chains = [f"%f{4 + i}" for i in range(_CHAINS)]
    lines = [
        ".version 7.0",
        ".target sm_75",
        ".address_size 64",
        ".visible .entry fma(.param .u64 out, .param .u32 rounds, .param .f32 a, .param .f32 b)",
        "{",
        f".reg .f32 %f<{4 + _CHAINS}>; .reg .u32 %r<4>; .reg .u64 %d<2>; .reg .pred %p<2>;",
        "ld.param.u64 %d0, [out]; ld.param.u32 %r0, [rounds];",
        "ld.param.f32 %f0, [a]; ld.param.f32 %f1, [b];",
        "mov.u32 %r1, %tid.x; cvt.rn.f32.u32 %f2, %r1;",
        *(f"add.f32 {chain}, %f2, 0f{0x3F800000 + (i << 16):08X};" for i, chain in enumerate(chains)),
        "loop:",
        *(f"fma.rn.f32 {chain}, {chain}, %f0, %f1;" for _ in range(_UNROLLED) for chain in chains),
        "sub.u32 %r0, %r0, 1; setp.ne.u32 %p0, %r0, 0; @%p0 bra loop;",
        "mov.f32 %f3, 0f00000000;",
        *(f"add.f32 %f3, %f3, {chain};" for chain in chains),
        # Never true, which the assembler cannot know: the chains have to be computed.
        "setp.eq.f32 %p1, %f3, 0fDEADBEEF; @%p1 st.global.f32 [%d0], %f3;",
        "ret;",
        "}",
    ]
    return "\n".join(lines) + "\n"


def fma_flops(rounds: int, blocks: int) -> int:
    """Multiplications and additions of a launch."""
    return 2 * rounds * _UNROLLED * _CHAINS * _BLOCK * blocks


def measure(driver: Driver, watch: Stopwatch, copy_bytes: int = 0) -> dict[str, float]:
    """gflops_float32, copy_gbs (read and written bytes): the best of some runs each."""
    driver.enter()
    kernel = driver.kernel(fma_ptx(), "fma")
    blocks = _BLOCKS * driver.attribute("multiprocessors")
    arguments = (c_uint64(watch.buffer), c_uint(_ROUNDS), c_float(0.999), c_float(0.001))

    def run() -> None:
        driver.launch(kernel, blocks, _BLOCK, *arguments)

    run()
    fma_ms = min(watch.events(run, 5, 0))
    size = copy_bytes or min(_COPY_BYTES, driver.memory()[0] // 8)
    source, target = driver.allocate(size), driver.allocate(size)
    try:
        driver.fill(source, size // 4)
        copy_ms = min(watch.events(lambda: driver.copy(target, source, size), 5, 0)[1:])
    finally:
        driver.free(source)
        driver.free(target)
    return {
        "gflops_float32": fma_flops(_ROUNDS, blocks) / fma_ms / 1e6,
        "copy_gbs": 2 * size / copy_ms / 1e6,
    }


class DeviceLimits:
    """As bench.peak.Limits: the best of all measurements of a run, and every sample.

    Taken in contestants' processes: the kernel and the copy in the first one's, products of matrices of every
    dtype in torch's, where it takes part.
    """

    threads = 0  # the host's do not matter

    def __init__(self, processes: dict[str, Any], dtypes: list[str]) -> None:
        """processes: by library."""
        self.processes, self.dtypes = processes, dtypes
        self.samples: dict[str, list[float]] = {}

    def sample(self, *what: str) -> None:
        """what: "fma" and "memory", which are one here, "gemm"."""
        found = {}
        if "fma" in what or "memory" in what:
            found |= next(iter(self.processes.values())).ask("limits")
        if "gemm" in what and "torch" in self.processes:
            for dtype in self.dtypes:
                found |= self.processes["torch"].ask("gemm", dtype=dtype)
        for key, value in found.items():
            self.samples.setdefault(key, []).append(value)

    def gflops(self, dtype: str) -> float:
        """float32: of the FMA units; else of torch's product of matrices, 0 without it."""
        name = "gflops_float32" if dtype == "float32" else f"gemm_gflops_{dtype}"
        return max(self.samples.get(name, [0.0]))

    def bandwidth(self) -> float:
        return max(self.samples.get("copy_gbs", [0.0]))

    def as_dict(self) -> dict[str, object]:
        return {"best": {key: max(values) for key, values in self.samples.items()}, "samples": self.samples}
