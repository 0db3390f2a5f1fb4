"""Measure convolution and pool layers, beside other libraries: `python -m bench --help`."""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # python bench/run.py
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from bench import plots, report, run_steps
from bench.contestants import Contestant, ContestantError, Field, Process, Spec
from bench.cuda.limits import DeviceLimits
from bench.measure import Case, Failures, Plan, Result, WrongResult, run_case
from bench.options import (
    LAYOUTS,
    PASSES,
    UsageError,
    choices,
    device_from,
    dtypes_from,
    layers_from,
    parser,
    specs_from,
    usable_cpus,
)
from bench.peak import Limits, PeakError
from bench.shapes import ShapeError
from bench.steps import steps_from


def oracle_spec(contestants: list[Contestant], dtypes: list[str]) -> Spec:
    """Torch where it takes part, in float32. Else cnnext's own plain loops; for a device, which takes larger
    batches, cnnext's kernels for the CPU."""
    found = next((c.spec for c in contestants if c.spec.library == "torch"), None)
    if contestants[0].spec.device == "cpu":
        return found or Spec("ref", "ref")
    if not found:
        return Spec("cnnext on the CPU", "cnnext")
    return found if dtypes == ["float32"] else dataclasses.replace(found, label="torch exact", exact=True)


def find_oracle(
    field: Field, check: bool, threads: int, dtypes: list[str]
) -> tuple[Contestant | None, Process | None]:
    """The oracle, and its process where it is no contestant."""
    if not check:
        return None, None
    spec = oracle_spec(field.contestants, dtypes)
    for contestant in field.contestants:
        if contestant.spec == spec:
            return contestant, None
    process = Process(spec, threads)
    return Contestant(spec, process), process


def cases_of(args: argparse.Namespace, device: str) -> list[Case]:
    passes, layouts = choices(args.passes, "passes", PASSES), choices(args.layouts, "layouts", LAYOUTS)
    if not passes or not layouts:
        raise UsageError("--passes and --layouts must not be empty")
    cases = [
        Case(layer, layout, which, dtype)
        for layer in layers_from(args)
        for which in passes
        if which in layer.passes
        for dtype in dtypes_from(args.dtype)
        for layout in layouts
        if dtype != "tf32" or layer.has_filter
    ]
    if not cases:
        raise UsageError("nothing to measure: these layers have none of these passes")
    if device != "cpu":  # a layer's passes one after another, on the same arrays
        places = {case.layer: number for number, case in reversed(list(enumerate(cases)))}
        orders = dtypes_from(args.dtype), layouts
        cases.sort(key=lambda c: (places[c.layer], orders[0].index(c.dtype), orders[1].index(c.layout)))
    return cases


class Run:
    """Measures layers, and holds what was found so far."""

    def __init__(self, args: argparse.Namespace, field: Field, oracle: Contestant | None, out: Path) -> None:
        self.args, self.field, self.oracle, self.out = args, field, oracle, out
        self.device = field.contestants[0].spec.device
        self.abouts = [{"label": c.spec.label, **c.process.about} for c in field.contestants]
        self.isa = self.abouts[0]["isa"] if self.device == "cpu" else "float32"  # of the roofline's peak
        self.plan = Plan(args.blocks, args.repeats, args.rest_ms)
        self.failures = Failures() if args.keep_going else None
        self.results: list[Result] = []
        self.limits: Limits | DeviceLimits | None = None
        if not args.no_peak:
            by_library = {c.spec.library: c.process for c in reversed(field.contestants)}
            dtypes = dtypes_from(args.dtype)
            self.limits = (
                Limits(args.threads)
                if self.device == "cpu"
                else DeviceLimits({"cnnext": by_library["cnnext"], **by_library}, dtypes)
            )

    def measure(self, cases: list[Case]) -> None:
        start = time.monotonic()
        if self.limits:
            self.limits.sample("fma", "memory")
            if isinstance(self.limits, Limits):
                self.limits.sample_single()
            else:
                self.limits.sample("gemm")
        for number, case in enumerate(cases, 1):
            if time.monotonic() - start > self.args.limit_s:
                print(
                    f"--limit-s: {len(cases) - number + 1} of {len(cases)} cases are left out",
                    file=sys.stderr,
                )
                break
            print(f"[{number}/{len(cases)}] {case}", file=sys.stderr, flush=True)
            self.results += run_case(case, self.field.contestants, self.oracle, self.plan, self.failures)
            if self.failures:
                self.save()  # a lost device may end the run at any time
            if self.limits and self.device == "cpu":
                self.limits.sample("fma")
        if self.limits:
            self.limits.sample("fma", "memory")

    def found(self) -> dict[str, Any]:
        settings = {
            "shapes": self.args.shapes,
            "batch": self.args.batch,
            "threads": self.args.threads,
            "device": self.device,
            "checked_against": self.oracle.spec.label if self.oracle else None,
        }
        failed = self.failures.entries if self.failures else []
        return report.as_json(self.results, self.limits, self.abouts, self.isa, self.plan, settings, failed)

    def text(self, found: dict[str, Any]) -> str:
        device = self.abouts[0].get("device")
        versions = "; ".join(f"{a['label']}: {a['version']}" for a in self.abouts)
        lines = [
            report.table(self.results, self.limits, self.isa),
            "",
            f"{device or report.processor()}; {versions}",
            report.limits_line(self.limits, self.isa),
            report.summary(found["geomeans"]),
            report.failures_lines(found["failures"]),
        ]
        return "\n".join(lines).strip("\n")

    def save(self) -> dict[str, Any]:
        self.out.mkdir(parents=True, exist_ok=True)
        found = self.found()
        (self.out / "bench.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        (self.out / "bench.txt").write_text(self.text(found) + "\n", encoding="utf-8")
        return found

    def finish(self) -> None:
        found = self.save()
        print(self.text(found))
        written = ["bench.json", "bench.txt"]
        if not self.args.no_plots and plots.can_draw():
            if plots.roofline(self.results, self.limits, self.isa, self.out / "roofline.png"):
                written.append("roofline.png")
            for dtype in dict.fromkeys(entry["dtype"] for entry in found["best"]):
                name = "ratios.png" if dtype == "float32" else f"ratios-{dtype}.png"
                plots.ratio_bars([e for e in found["best"] if e["dtype"] == dtype], self.out / name)
                written.append(name)
        print(f"wrote {', '.join(written)} to {self.out}")


def run(args: argparse.Namespace) -> int:
    """The exit status."""
    device = device_from(args.device)
    steps = [] if args.steps is None else steps_from(args.steps)
    cases = [] if steps else cases_of(args, device)
    if not 0 <= args.rest_ms <= 60000:
        raise UsageError(f"--rest-ms is {args.rest_ms}; it must be from 0 to 60000")
    if steps:
        run_steps.check_options(args)
    out = args.out or Path("runs") / f"bench-{datetime.datetime.now():%Y%m%d-%H%M%S}"
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out} is there and is not a folder")
    specs = specs_from(args)
    if os.getloadavg()[0] > 0.5 * usable_cpus() ** (device != "cpu"):
        print(
            f"other programs are running (load {os.getloadavg()[0]:.1f}): times will be noisy",
            file=sys.stderr,
        )
    if steps:
        return run_steps.run(steps, specs, args, out)
    with Field(specs, args.threads) as field:
        oracle, own = find_oracle(field, not args.no_check, args.threads, dtypes_from(args.dtype))
        try:
            measuring = Run(args, field, oracle, out)
            measuring.measure(cases)
        finally:
            if own:
                own.close()
    if not measuring.results:
        print("bench: nothing was measured", file=sys.stderr)
        if measuring.failures:
            print(report.failures_lines(measuring.failures.entries), file=sys.stderr)
        return 1
    measuring.finish()
    return 1 if measuring.failures and measuring.failures.count() else 0


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    try:
        return run(args)
    except (UsageError, ShapeError, ContestantError, WrongResult, PeakError, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError | ShapeError) else 1
    except KeyboardInterrupt:
        print("bench: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
