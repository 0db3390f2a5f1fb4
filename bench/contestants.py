"""The contestants of a run, as the driver sees them: a process each, driven over pipes."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from bench.libraries import entry
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


class Unsupported(ContestantError):
    """What is asked is valid, and this contestant has nothing for it."""


@dataclasses.dataclass(frozen=True)
class Spec:
    """What runs: a library, and how its process is set up."""

    label: str
    library: str  # a name in bench.libraries.LIBRARIES
    isa: str = ""  # CNNEXT_CPU_ISA
    algorithm: str = "auto"  # cnnext: auto, direct, packed
    malloc: str = "default"  # "kept": KEPT_PAGES
    device: str = "cpu"  # or "cuda:N"
    exact: bool = False  # on a device: in float32, of values that the dtype holds

    @property
    def process_key(self) -> tuple[str, ...]:
        """Contestants that differ in nothing else share a process."""
        return (self.library, self.isa, self.malloc, self.device, str(self.exact))

    def takes_part(self, layer: Layer, layout: str, which: str, dtype: str = "float32") -> bool:
        """Does it run this? Algorithms are the convolution's, packed weights its forward's."""
        runs = entry(self.library, self.device)
        if which not in runs.passes or layout not in runs.layouts or layer.kind not in runs.kinds:
            return False
        if dtype not in runs.dtypes:
            return False
        if layer.kind != "conv":
            return self.algorithm == "auto"
        return which == "fwd" or self.algorithm != "packed"


class Process:
    """One worker process: bench.worker, on a device bench.cuda.worker, or another that serves commands."""

    def __init__(self, spec: Spec, threads: int, worker: str = "") -> None:
        worker = worker or ("bench.worker" if spec.device == "cpu" else "bench.cuda.worker")
        environment = dict(os.environ)
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), environment.get("PYTHONPATH")]))
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "CNNEXT_NUM_THREADS"):
            environment[name] = str(threads)
        if spec.isa:
            environment["CNNEXT_CPU_ISA"] = spec.isa
        if spec.malloc == "kept":
            environment.update(KEPT_PAGES)
        self.spec = spec
        self.command = [sys.executable, "-m", worker, spec.library, str(threads), spec.device]
        self.environment = environment
        self.start()

    def start(self) -> None:
        self.prepared: tuple[Layer, str, str] | None = None
        self.child = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=self.environment,
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
            error = Unsupported if answer["error"].startswith("NotImplementedError") else ContestantError
            raise error(f"{self.spec.label}: {answer['error']}")
        return answer

    def revive(self) -> None:
        """After an error: another process where this one is dead, or its device's context is lost."""
        self.prepared = None
        try:
            if self.spec.device != "cpu":
                self.ask("healthy")
            elif self.child.poll() is None:
                return
            else:
                raise ContestantError(self.spec.label)
        except ContestantError:
            self.close()
            self.start()

    def close(self) -> None:
        assert self.child.stdin is not None
        assert self.child.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self.child.stdin.close()
        self.child.wait()
        self.child.stdout.close()


class Contestant:
    """A Spec at work in its process."""

    def __init__(self, spec: Spec, process: Process) -> None:
        self.spec = spec
        self.process = process

    def select(self, layer: Layer, layout: str, which: str, dtype: str = "float32") -> str:
        """Makes the layer's arrays, unless the process has them, chooses the pass, and says what ran it."""
        if self.process.prepared != (layer, layout, dtype):
            exact = {"exact": True} if self.spec.exact else {}
            self.process.ask("prepare", layer=dataclasses.asdict(layer), layout=layout, dtype=dtype, **exact)
            self.process.prepared = (layer, layout, dtype)
        kernel: str = self.process.ask("select", which=which, algorithm=self.spec.algorithm)["kernel"]
        return kernel

    def compute(self, path: Path, most: int = 0) -> dict[str, np.ndarray]:
        """most: elements above which only some images of a result are of interest; 0: never."""
        self.process.ask("compute", path=str(path), most=most)
        with np.load(path) as saved:
            return {name: saved[name] for name in saved.files}

    def time(self, repeats: int, rest_ms: float) -> dict[str, list[float]]:
        """Milliseconds: "times_ms" and, on a device, "call_ms"."""
        return self.process.ask("time", repeats=repeats, rest_ms=rest_ms)


class Field:
    """All contestants of a run and their processes; a context manager."""

    def __init__(self, specs: list[Spec], threads: int) -> None:
        self.processes: dict[tuple[str, ...], Process] = {}
        self.contestants: list[Contestant] = []
        try:
            for spec in specs:
                if spec.process_key not in self.processes:
                    try:
                        self.processes[spec.process_key] = Process(spec, threads)
                    except ContestantError as error:
                        if spec.device == "cpu" or spec.library == "cnnext":
                            raise
                        print(f"{spec.library} is left out: {error}", file=sys.stderr)
                        continue
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
