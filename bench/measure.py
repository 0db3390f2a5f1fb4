"""Validate, then time: one layer, layout and pass with all contestants."""

from __future__ import annotations

import dataclasses
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench.contestants import Contestant, ContestantError, Unsupported
from bench.dtypes import DTYPES
from bench.shapes import FUSED, Layer

TOLERANCE = DTYPES["float32"].tolerance
_COMPARED = 1 << 23


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
    dtype: str = "float32"
    call_ms: list[float] | None = None  # on a device: what a call takes with the host's work for it

    @property
    def bytes(self) -> int:
        return self.layer.bytes_of(self.which, DTYPES[self.dtype].size)

    @property
    def median_ms(self) -> float:
        return statistics.median(self.times_ms)

    @property
    def gflops(self) -> float:
        return self.layer.flops / self.median_ms / 1e6

    @property
    def gbytes(self) -> float:
        return self.bytes / self.median_ms / 1e6

    def as_dict(self) -> dict[str, Any]:
        spec = self.contestant.spec
        return {
            **dataclasses.asdict(self.layer),
            "P": self.layer.P,
            "Q": self.layer.Q,
            "pass": self.which,
            "layout": self.layout,
            "dtype": self.dtype,
            "contestant": spec.label,
            "library": spec.library,
            "isa": spec.isa,
            "algorithm": spec.algorithm,
            "malloc": spec.malloc,
            "device": spec.device,
            "kernel": self.kernel,
            "flops": self.layer.flops,
            "bytes": self.bytes,
            "times_ms": self.times_ms,
            "call_ms": self.call_ms,
            "median_ms": self.median_ms,
            "least_ms": min(self.times_ms),
            "gflops": self.gflops,
            "gbytes_per_s": self.gbytes,
            "error": self.error,
        }


def difference(
    expected: dict[str, np.ndarray],
    got: dict[str, np.ndarray],
    who: str,
    steps: bool = False,
    tolerance: float = TOLERANCE,
) -> float:
    """The largest difference over the expected RMS. WrongResult above the tolerance or for other indices.

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
    if not largest / rms <= (10 * tolerance if steps else tolerance):
        raise WrongResult(f"{who}: differs from the oracle by {largest:.3g} at a result of RMS {rms:.3g}")
    return largest / rms


@dataclasses.dataclass
class Failures:
    """What contestants did not do, where a run goes on without them."""

    entries: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    def note(self, contestant: Contestant, case: Case, error: Exception) -> None:
        unsupported = isinstance(error, Unsupported)
        entry = {"kind": case.layer.kind, "name": case.layer.name, "pass": case.which, "layout": case.layout}
        entry |= {"dtype": case.dtype, "contestant": contestant.spec.label, "error": str(error)}
        self.entries.append(entry | {"unsupported": unsupported})
        contestant.process.revive()

    def count(self) -> int:
        """Without what is not supported."""
        return sum(not entry["unsupported"] for entry in self.entries)


@dataclasses.dataclass(frozen=True)
class Case:
    layer: Layer
    layout: str
    which: str
    dtype: str = "float32"

    def __str__(self) -> str:
        return f"{self.layer.kind} {self.layer.name} {self.which} {self.layout}" + (
            f" {self.dtype}" if self.dtype != "float32" else ""
        )


class _Field:
    """The contestants of a case that are still in it."""

    def __init__(self, case: Case, contestants: list[Contestant], failures: Failures | None) -> None:
        self.case, self.failures = case, failures
        spot = (case.layer, case.layout, case.which, case.dtype)
        self.contestants = [c for c in contestants if c.spec.takes_part(*spot)]

    def each(self, do: Callable[[Contestant], None]) -> None:
        """One after another; who fails leaves, or ends the run where failures are not collected."""
        for contestant in list(self.contestants):
            try:
                do(contestant)
            except (ContestantError, WrongResult) as error:
                if self.failures is None:
                    raise
                self.failures.note(contestant, self.case, error)
                self.contestants.remove(contestant)


def validate(case: Case, field: _Field, oracle: Contestant) -> dict[str, float]:
    """Every contestant's error against the oracle's result."""
    errors: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "result.npz"
        oracle.select(case.layer, case.layout, case.which, case.dtype)
        # On a device batches are large, and files of results would take longer than all else.
        most = 0 if all(c.spec.device == "cpu" for c in field.contestants) else _COMPARED
        expected = oracle.compute(path, most)

        def compare(contestant: Contestant) -> None:
            contestant.select(case.layer, case.layout, case.which, case.dtype)
            steps = case.layer.kind in FUSED and case.which != "fwd"  # where a maximum lies, or ReLU stops
            got, who = contestant.compute(path, most), f"{case}, {contestant.spec.label}"
            tolerance = DTYPES[case.dtype].tolerance
            errors[contestant.spec.label] = difference(expected, got, who, steps, tolerance)

        field.each(compare)
    return errors


def run_case(
    case: Case,
    contestants: list[Contestant],
    oracle: Contestant | None,
    plan: Plan,
    failures: Failures | None = None,
) -> list[Result]:
    """Times of all contestants that take part, in alternated blocks.

    Raises WrongResult, ContestantError; where failures are given they are noted there, and the others go on.
    """
    field = _Field(case, contestants, failures)
    errors: dict[str, float] = {}
    if oracle is not None:
        # The plain loops are slow.
        small = case.layer.with_batch(1) if oracle.spec.library == "ref" else case.layer
        try:
            errors = validate(dataclasses.replace(case, layer=small), field, oracle)
        except ContestantError as error:  # the oracle's
            if failures is None:
                raise
            failures.note(oracle, case, error)
            return []
    answers: dict[str, dict[str, list[float]]] = {}
    kernels: dict[str, str] = {}

    def block(contestant: Contestant) -> None:
        label = contestant.spec.label
        kernels[label] = contestant.select(case.layer, case.layout, case.which, case.dtype)
        for key, times in contestant.time(plan.repeats, plan.rest_ms).items():
            answers.setdefault(label, {}).setdefault(key, []).extend(times)

    for _ in range(plan.blocks):
        field.each(block)
    found = []
    for contestant in field.contestants:
        label = contestant.spec.label
        spot = (case.layer, case.which, case.layout, contestant, kernels[label], errors.get(label))
        times = answers[label]
        found.append(Result(*spot, times["times_ms"], case.dtype, times.get("call_ms")))
    return found


__all__ = ["Case", "ContestantError", "Failures", "Plan", "Result", "WrongResult", "difference", "run_case"]
