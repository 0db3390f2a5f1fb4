"""The machine's measured limits: FMA peak and memory bandwidth, by a small C++ program built on demand."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

SOURCE = Path(__file__).parent / "native" / "peak.cpp"
FLAGS = ["-std=c++17", "-O2", "-Wno-psabi", "-ffp-contract=fast", "-pthread"]


class PeakError(RuntimeError):
    """The limits could not be measured."""


def _compiler() -> str:
    for name in (os.environ.get("CXX"), "c++", "g++", "clang++"):
        if name and shutil.which(name):
            return name
    raise PeakError("no C++ compiler was found (set CXX); --no-peak goes without the machine's limits")


def build() -> Path:
    """The program, compiled once for each version of its source, into the user's cache folder."""
    compiler = _compiler()
    source = SOURCE.read_bytes()
    digest = hashlib.sha256(source + compiler.encode() + " ".join(FLAGS).encode()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cnnext-bench"
    program = cache / f"peak-{digest}"
    if program.exists():
        return program
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        made = Path(folder) / "peak"
        result = subprocess.run(
            [compiler, *FLAGS, str(SOURCE), "-o", str(made)], capture_output=True, text=True
        )
        if result.returncode != 0:
            raise PeakError(f"{compiler} could not build {SOURCE.name}: {result.stderr.strip()[-500:]}")
        os.replace(made, program)  # two benchmarks may build at once
    return program


def measure(program: Path, threads: int, *what: str) -> dict[str, float]:
    """One measurement; what: "fma", "memory". Keys: gflops_<isa>, read_gbs, copy_gbs."""
    result = subprocess.run([str(program), str(threads), *what], capture_output=True, text=True)
    if result.returncode != 0:
        raise PeakError(f"measuring the machine's limits failed: {result.stderr.strip()[-500:]}")
    found: dict[str, float] = json.loads(result.stdout)
    found.pop("threads")
    if "gflops_avx512" in found:  # whose float32 kernels that extension uses
        found["gflops_avx512_bf16"] = found["gflops_avx512"]
    return found


class Limits:
    """The best of all measurements of a run, and every sample, so that a noisy machine shows."""

    def __init__(self, threads: int) -> None:
        self.program = build()
        self.threads = threads
        self.samples: dict[str, list[float]] = {}
        self.single: dict[str, float] = {}

    def sample(self, *what: str) -> None:
        for key, value in measure(self.program, self.threads, *what).items():
            self.samples.setdefault(key, []).append(value)

    def sample_single(self) -> None:
        """The same on one thread, for the record."""
        self.single = measure(self.program, 1, "fma", "memory")

    def gflops(self, isa: str) -> float:
        return max(self.samples.get(f"gflops_{isa}", [0.0]))

    def bandwidth(self) -> float:
        """GB/s: the better of reading and copying."""
        return max(self.samples.get("read_gbs", [0.0]) + self.samples.get("copy_gbs", [0.0]))

    def as_dict(self) -> dict[str, object]:
        best = {key: max(values) for key, values in self.samples.items()}
        return {"threads": self.threads, "best": best, "samples": self.samples, "one_thread": self.single}
