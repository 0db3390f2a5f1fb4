"""The contestants of a run, as the driver sees them: a process each, driven over pipes."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from bench.libraries import LIBRARIES
from bench.shapes import Layer

ROOT = Path(__file__).resolve().parent.parent

# A malloc that never gives pages back: no mappings of single blocks, no trimming of the heap.
KEPT_PAGES = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 34),
    "MALLOC_TOP_PAD_": str(1 << 26),
}


class ContestantError(RuntimeError):
    """A contestant refused or died; the message says why."""


@dataclasses.dataclass(frozen=True)
class Spec:
    """What runs: a library, and how its process is set up."""

    label: str
    library: str  # a name in bench.libraries.LIBRARIES
    isa: str = ""  # CNNEXT_CPU_ISA
    algorithm: str = "auto"  # cnnext: auto, direct, packed
    malloc: str = "default"  # "kept": KEPT_PAGES

    @property
    def process_key(self) -> tuple[str, str, str]:
        """Contestants that differ in nothing else share a process."""
        return (self.library, self.isa, self.malloc)

    def takes_part(self, layer: Layer, layout: str, which: str) -> bool:
        """Does it run this? Algorithms are the convolution's, packed weights its forward's."""
        entry = LIBRARIES[self.library]
        if which not in entry.passes or layout not in entry.layouts or layer.kind not in entry.kinds:
            return False
        if layer.kind != "conv":
            return self.algorithm == "auto"
        return which == "fwd" or self.algorithm != "packed"


class Process:
    """One worker process: bench/worker.py, or another module that serves commands."""

    def __init__(self, spec: Spec, threads: int, worker: str = "bench.worker") -> None:
        environment = dict(os.environ)
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), environment.get("PYTHONPATH")]))
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "CNNEXT_NUM_THREADS"):
            environment[name] = str(threads)
        if spec.isa:
            environment["CNNEXT_CPU_ISA"] = spec.isa
        if spec.malloc == "kept":
            environment.update(KEPT_PAGES)
        self.spec = spec
        self.prepared: tuple[Layer, str] | None = None
        self.child = subprocess.Popen(
            [sys.executable, "-m", worker, spec.library, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=ROOT,
        )
        try:
            self.about = self.ask("describe")
        except ContestantError:
            self.close()
            raise

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        assert self.child.stdin is not None
        assert self.child.stdout is not None
        try:
            self.child.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self.child.stdin.flush()
            line = self.child.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise ContestantError(f"{self.spec.label}: its process ended with status {self.child.wait()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise ContestantError(f"{self.spec.label}: {answer['error']}")
        return answer

    def close(self) -> None:
        assert self.child.stdin is not None
        assert self.child.stdout is not None
        self.child.stdin.close()
        self.child.wait()
        self.child.stdout.close()


class Contestant:
    """A Spec at work in its process."""

    def __init__(self, spec: Spec, process: Process) -> None:
        self.spec = spec
        self.process = process

    def select(self, layer: Layer, layout: str, which: str) -> str:
        """Makes the layer's arrays, unless the process has them, chooses the pass, and says what ran it."""
        if self.process.prepared != (layer, layout):
            self.process.ask("prepare", layer=dataclasses.asdict(layer), layout=layout)
            self.process.prepared = (layer, layout)
        kernel: str = self.process.ask("select", which=which, algorithm=self.spec.algorithm)["kernel"]
        return kernel

    def compute(self, path: Path) -> dict[str, np.ndarray]:
        self.process.ask("compute", path=str(path))
        with np.load(path) as saved:
            return {name: saved[name] for name in saved.files}

    def time(self, repeats: int, rest_ms: float) -> list[float]:
        times: list[float] = self.process.ask("time", repeats=repeats, rest_ms=rest_ms)["times_ms"]
        return times


class Field:
    """All contestants of a run and their processes; a context manager."""

    def __init__(self, specs: list[Spec], threads: int) -> None:
        self.processes: dict[tuple[str, str, str], Process] = {}
        self.contestants: list[Contestant] = []
        try:
            for spec in specs:
                if spec.process_key not in self.processes:
                    self.processes[spec.process_key] = Process(spec, threads)
                self.contestants.append(Contestant(spec, self.processes[spec.process_key]))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Field:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for process in self.processes.values():
            process.close()
