"""Measure convolution and pool layers, beside other libraries: `python -m bench --help`."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import sys
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # python bench/run.py
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from bench import plots, report, run_steps
from bench.contestants import Contestant, ContestantError, Field, Process, Spec
from bench.measure import Plan, Result, WrongResult, run_case
from bench.options import LAYOUTS, PASSES, UsageError, choices, layers_from, parser, specs_from
from bench.peak import Limits, PeakError
from bench.shapes import Layer, ShapeError
from bench.steps import steps_from


def find_oracle(field: Field, check: bool, threads: int) -> tuple[Contestant | None, Process | None]:
    """Torch where it takes part, else cnnext's own plain loops in one more process."""
    if not check:
        return None, None
    for contestant in field.contestants:
        if contestant.spec.library == "torch":
            return contestant, None
    spec = Spec("ref", "ref")
    process = Process(spec, threads)
    return Contestant(spec, process), process


def measure_all(
    layers: list[Layer],
    passes: list[str],
    layouts: list[str],
    field: Field,
    oracle: Contestant | None,
    plan: Plan,
    limits: Limits | None,
) -> list[Result]:
    results: list[Result] = []
    cases = [
        (layer, layout, which)
        for layer in layers
        for which in passes
        if which in layer.passes
        for layout in layouts
    ]
    for number, (layer, layout, which) in enumerate(cases, 1):
        print(f"[{number}/{len(cases)}] {layer.kind} {layer.name} {which} {layout}", file=sys.stderr)
        results += run_case(layer, layout, which, field.contestants, oracle, plan)
        if limits:
            limits.sample("fma")
    return results


def write(
    out: Path, found: dict[str, Any], results: list[Result], limits: Limits | None, isa: str, draw: bool
) -> None:
    out.mkdir(parents=True, exist_ok=True)
    path = out / "bench.json"
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    written = [path.name]
    if draw and not plots.available():
        print("no plots: matplotlib is not installed (pip install matplotlib)", file=sys.stderr)
    elif draw:
        if plots.roofline(results, limits, isa, out / "roofline.png"):
            written.append("roofline.png")
        if plots.ratio_bars(found["best"], out / "ratios.png"):
            written.append("ratios.png")
    print(f"wrote {', '.join(written)} to {out}")


def run(args: argparse.Namespace) -> None:
    steps = [] if args.steps is None else steps_from(args.steps)
    layers = [] if steps else layers_from(args)
    passes, layouts = choices(args.passes, "passes", PASSES), choices(args.layouts, "layouts", LAYOUTS)
    if not passes or not layouts:
        raise UsageError("--passes and --layouts must not be empty")
    if not 0 <= args.rest_ms <= 60000:
        raise UsageError(f"--rest-ms is {args.rest_ms}; it must be from 0 to 60000")
    if steps:
        run_steps.check_options(args)
    out = args.out or Path("runs") / f"bench-{datetime.datetime.now():%Y%m%d-%H%M%S}"
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out} is there and is not a folder")
    specs = specs_from(args)
    plan = Plan(args.blocks, args.repeats, args.rest_ms)
    if os.getloadavg()[0] > 0.5:
        print(
            f"other programs are running (load {os.getloadavg()[0]:.1f}): times will be noisy",
            file=sys.stderr,
        )
    if steps:
        run_steps.run(steps, specs, layouts, args.threads, plan, out)
        return
    limits = None if args.no_peak else Limits(args.threads)
    with Field(specs, args.threads) as field:
        abouts = [{"label": c.spec.label, **c.process.about} for c in field.contestants]
        isa = abouts[0]["isa"]
        oracle, own = find_oracle(field, not args.no_check, args.threads)
        try:
            if limits:
                limits.sample("fma", "memory")
                limits.sample_single()
            results = measure_all(layers, passes, layouts, field, oracle, plan, limits)
            if limits:
                limits.sample("fma", "memory")
        finally:
            if own:
                own.close()
    if not results:
        raise UsageError("nothing to measure: these layers have none of these passes")
    settings = {
        "shapes": args.shapes,
        "threads": args.threads,
        "checked_against": oracle.spec.label if oracle else None,
    }
    found = report.as_json(results, limits, abouts, isa, plan, settings)
    print(report.table(results, limits, isa))
    print()
    print(f"{report.processor()}; " + "; ".join(f"{a['label']}: {a['version']}" for a in abouts))
    print(report.limits_line(limits, isa))
    print(report.summary(found["geomeans"]))
    write(out, found, results, limits, isa, not args.no_plots)


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    try:
        run(args)
    except (UsageError, ShapeError, ContestantError, WrongResult, PeakError, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError | ShapeError) else 1
    except KeyboardInterrupt:
        print("bench: interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
