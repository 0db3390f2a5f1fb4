"""Validate, then time: one layer, layout and pass with all contestants."""

from __future__ import annotations

import dataclasses
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from bench.contestants import Contestant, ContestantError
from bench.shapes import FUSED, Layer

# Direct algorithms in float32 stay near 1e-6 of the result's RMS, Winograd some times above; a wrong tap
# anywhere is of the order of 1.
TOLERANCE = 1e-3


class WrongResult(RuntimeError):
    """A contestant computed something else than the oracle: its speed means nothing."""


@dataclasses.dataclass(frozen=True)
class Plan:
    blocks: int = 3
    repeats: int = 4
    rest_ms: float = 15.0


@dataclasses.dataclass
class Result:
    layer: Layer
    which: str
    layout: str
    contestant: Contestant
    kernel: str  # cnnext's, by its own account
    error: float | None  # the largest difference from the oracle, over the RMS of the oracle's result
    times_ms: list[float]

    @property
    def median_ms(self) -> float:
        return statistics.median(self.times_ms)

    @property
    def gflops(self) -> float:
        return self.layer.flops / self.median_ms / 1e6

    @property
    def gbytes(self) -> float:
        return self.layer.bytes_of(self.which) / self.median_ms / 1e6

    def as_dict(self) -> dict[str, Any]:
        spec = self.contestant.spec
        return {
            **dataclasses.asdict(self.layer),
            "P": self.layer.P,
            "Q": self.layer.Q,
            "pass": self.which,
            "layout": self.layout,
            "contestant": spec.label,
            "library": spec.library,
            "isa": spec.isa,
            "algorithm": spec.algorithm,
            "malloc": spec.malloc,
            "kernel": self.kernel,
            "flops": self.layer.flops,
            "bytes": self.layer.bytes_of(self.which),
            "times_ms": self.times_ms,
            "median_ms": self.median_ms,
            "least_ms": min(self.times_ms),
            "gflops": self.gflops,
            "gbytes_per_s": self.gbytes,
            "error": self.error,
        }


def difference(
    expected: dict[str, np.ndarray], got: dict[str, np.ndarray], who: str, steps: bool = False
) -> float:
    """The largest difference over the expected RMS. WrongResult above TOLERANCE or for other indices.

    steps: the result jumps where two values are as good as equal, so that a few elements may differ: then it
    is the difference's RMS, up to ten times as much.
    """
    want, have = expected["result"], got["result"]
    if want.shape != have.shape:
        raise WrongResult(f"{who}: the result has shape {have.shape}; the oracle's has {want.shape}")
    both = "indices" in expected and "indices" in got  # JAX has none
    if count := int(np.count_nonzero(expected["indices"] != got["indices"])) if both else 0:
        raise WrongResult(f"{who}: {count} of {want.size} indices differ from the oracle's")
    rms = float(np.sqrt(np.mean(np.square(want, dtype=np.float64)))) or 1.0
    if steps:
        largest = float(np.sqrt(np.mean(np.square(want - have, dtype=np.float64))))
    else:
        largest = float(np.max(np.abs(want - have), initial=0.0))
    if not largest / rms <= (10 * TOLERANCE if steps else TOLERANCE):
        raise WrongResult(f"{who}: differs from the oracle by {largest:.3g} at a result of RMS {rms:.3g}")
    return largest / rms


def validate(
    layer: Layer, layout: str, which: str, contestants: list[Contestant], oracle: Contestant
) -> dict[str, float]:
    """Every contestant's error against the oracle's result."""
    errors: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "result.npz"
        oracle.select(layer, layout, which)
        expected = oracle.compute(path)
        for contestant in contestants:
            contestant.select(layer, layout, which)
            who = f"{layer.kind} {layer.name} {which} {layout}, {contestant.spec.label}"
            steps = layer.kind in FUSED and which != "fwd"  # where a maximum lies, or ReLU stops
            errors[contestant.spec.label] = difference(expected, contestant.compute(path), who, steps)
    return errors


def run_case(
    layer: Layer,
    layout: str,
    which: str,
    contestants: list[Contestant],
    oracle: Contestant | None,
    plan: Plan,
) -> list[Result]:
    """Times of all contestants that take part, in alternated blocks. Raises WrongResult, ContestantError."""
    field = [c for c in contestants if c.spec.takes_part(layer, layout, which)]
    errors: dict[str, float] = {}
    if oracle is not None:
        small = layer.with_batch(1) if oracle.spec.library == "ref" else layer  # the plain loops are slow
        errors = validate(small, layout, which, field, oracle)
    times: dict[str, list[float]] = {c.spec.label: [] for c in field}
    kernels: dict[str, str] = {}
    for _ in range(plan.blocks):
        for contestant in field:
            kernels[contestant.spec.label] = contestant.select(layer, layout, which)
            times[contestant.spec.label] += contestant.time(plan.repeats, plan.rest_ms)
    return [
        Result(layer, which, layout, c, kernels[label], errors.get(label), times[label])
        for c in field
        for label in [c.spec.label]
    ]


__all__ = ["ContestantError", "Plan", "Result", "WrongResult", "difference", "run_case"]
