"""Measure convolution and pool layers, beside torch where it is installed: `python -m bench --help`."""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # python bench/run.py
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from bench import plots, report
from bench.contestants import Contestant, ContestantError, Field, Process, Spec
from bench.measure import Plan, Result, WrongResult, run_case
from bench.peak import Limits, PeakError
from bench.shapes import Layer, ShapeError, load, stored

PASSES = ("fwd", "bwd_data", "bwd_weights")
LAYOUTS = ("nchw", "nhwc")
ALGORITHMS = ("auto", "direct", "packed")
PEERS = ("torch",)
MALLOCS = ("kept", "default")


class UsageError(ValueError):
    """An argument that cannot be meant."""


def choices(text: str, name: str, allowed: tuple[str, ...]) -> list[str]:
    """A comma-separated list of distinct words out of `allowed`."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    for word in words:
        if word not in allowed:
            raise UsageError(f"--{name} has {word!r}; it must be of {', '.join(allowed)}")
    return list(dict.fromkeys(words))


def count(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return value


def usable_cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    p.add_argument(
        "--shapes", default="kernels_md", help=f"files or stored names, with commas: {', '.join(stored())}"
    )
    p.add_argument(
        "--filter", default="", help="only layers whose name contains one of these words, with commas"
    )
    p.add_argument("--passes", default=",".join(PASSES), help="fwd,bwd_data,bwd_weights")
    p.add_argument("--layouts", default=",".join(LAYOUTS), help="nchw,nhwc")
    p.add_argument(
        "--algorithms", default="auto", help="cnnext's: auto,direct,packed (packed weights, forward only)"
    )
    p.add_argument(
        "--isa",
        default="",
        help="cnnext's instruction sets, with commas: scalar,avx2,avx512; default: its own choice",
    )
    p.add_argument("--peers", default=None, help="torch, or none; default: torch where it is installed")
    p.add_argument(
        "--malloc", default="kept", help="torch's malloc: kept (never gives pages back), default, or both"
    )
    p.add_argument(
        "--batch", type=count, default=None, help="the batch of every layer; default: the shape file's"
    )
    p.add_argument("--threads", type=count, default=usable_cpus())
    p.add_argument("--blocks", type=count, default=3, help="how often the contestants take turns")
    p.add_argument("--repeats", type=count, default=4, help="timed calls in a block")
    p.add_argument(
        "--rest-ms", type=float, default=15.0, help="rest before a block, while other threads still spin"
    )
    p.add_argument("--no-check", action="store_true", help="do not validate results first")
    p.add_argument("--no-peak", action="store_true", help="do not measure the machine's limits")
    p.add_argument("--no-plots", action="store_true")
    p.add_argument(
        "--out", type=Path, default=None, help="folder for bench.json and plots; default: runs/bench-DATE"
    )
    return p


def specs_from(args: argparse.Namespace) -> list[Spec]:
    """The contestants that the arguments ask for, cnnext's first."""
    isas = [word.strip() for word in args.isa.split(",") if word.strip()] or [""]
    algorithms = choices(args.algorithms, "algorithms", ALGORITHMS)
    mallocs = choices(args.malloc, "malloc", MALLOCS)
    if not algorithms:
        raise UsageError(f"--algorithms is empty; it must be of {', '.join(ALGORITHMS)}")
    specs = []
    for isa in dict.fromkeys(isas):
        for algorithm in algorithms:
            label = "cnnext" + (f" {isa}" if isa else "") + (f" {algorithm}" if algorithm != "auto" else "")
            specs.append(Spec(label, "cnnext", isa=isa, algorithm=algorithm))
    has_torch = importlib.util.find_spec("torch") is not None
    peers = args.peers if args.peers is not None else ("torch" if has_torch else "none")
    if peers != "none":
        if not choices(peers, "peers", PEERS):
            raise UsageError("--peers is empty; it must be torch or none")
        if not has_torch:
            raise UsageError("--peers torch: torch is not installed (pip install torch), or say --peers none")
        if not mallocs:
            raise UsageError(f"--malloc is empty; it must be of {', '.join(MALLOCS)}")
        specs += [Spec("torch" + (" kept" if m == "kept" else ""), "torch", malloc=m) for m in mallocs]
    return specs


def layers_from(args: argparse.Namespace) -> list[Layer]:
    names = [name.strip() for name in args.shapes.split(",") if name.strip()]
    words = [word.strip() for word in args.filter.split(",") if word.strip()]
    layers = [layer.with_batch(args.batch) for name in names for layer in load(name)]
    chosen = [layer for layer in layers if not words or any(word in layer.name for word in words)]
    if not chosen:
        raise UsageError(f"no layer is left of --shapes {args.shapes!r} with --filter {args.filter!r}")
    return chosen


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
        if plots.ratio_bars(results, found["ratios"], out / "ratios.png"):
            written.append("ratios.png")
    print(f"wrote {', '.join(written)} to {out}")


def run(args: argparse.Namespace) -> None:
    specs, layers = specs_from(args), layers_from(args)
    passes, layouts = choices(args.passes, "passes", PASSES), choices(args.layouts, "layouts", LAYOUTS)
    if not passes or not layouts:
        raise UsageError("--passes and --layouts must not be empty")
    if not 0 <= args.rest_ms <= 60000:
        raise UsageError(f"--rest-ms is {args.rest_ms}; it must be from 0 to 60000")
    out = args.out or Path("runs") / f"bench-{datetime.datetime.now():%Y%m%d-%H%M%S}"
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out} is there and is not a folder")
    plan = Plan(args.blocks, args.repeats, args.rest_ms)
    if os.getloadavg()[0] > 0.5:
        print(
            f"other programs are running (load {os.getloadavg()[0]:.1f}): times will be noisy",
            file=sys.stderr,
        )
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
    print(report.summary(found["ratios"]))
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
