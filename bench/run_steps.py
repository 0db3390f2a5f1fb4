"""`python -m bench --steps`: whole steps of networks, beside torch, with the memory that they take."""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from cnnext.tables import aligned

from bench import plots, report
from bench.contestants import ContestantError, Process, Spec, Unsupported
from bench.dtypes import DTYPES
from bench.measure import Plan, WrongResult
from bench.options import LAYOUTS, UsageError, choices, dtypes_from
from bench.step_peers import is_torch, takes_part
from bench.steps import Step

SCHEMA = 2  # 2: "device" and "dtype" of each row, "failures"
TOLERANCE = 2e-3  # of the logits' or losses' RMS
_HEADINGS = [
    "step",
    "contestant",
    "layout",
    "ms",
    "least ms",
    "peak MB",
    "of it before",
    "cnnext is",
    "memory",
]


def check_options(args: argparse.Namespace) -> None:
    if not choices(args.layouts, "layouts", LAYOUTS):
        raise UsageError("--layouts must not be empty")
    if args.algorithms != "auto":
        raise UsageError(f"--algorithms is {args.algorithms!r}; with --steps it must be auto")


def measure(
    step: Step,
    specs: list[Spec],
    args: argparse.Namespace,
    plan: Plan,
    failures: list[dict[str, Any]] | None = None,
) -> list[dict[str, Any]]:
    """Validate, then time in alternated blocks: a process for each contestant and layout.

    Raises WrongResult, ContestantError; where failures are given they are noted there, and the others go on.
    """
    with ExitStack() as stack:
        field = _Field(failures)
        layouts, dtype = choices(args.layouts, "layouts", LAYOUTS), dtypes_from(args.dtype)[0]
        more = {"dtype": dtype} if dtype != "float32" else {}
        for spec in specs:
            for layout in layouts:
                if not takes_part(spec.library, step.training, layout):
                    continue
                row: dict[str, Any] = {"step": step.name, "model": step.model, "batch": step.batch}
                row |= {"training": step.training, "contestant": spec.label, "library": spec.library}
                row |= {"device": spec.device, "dtype": dtype, "layout": layout, "times_ms": []}
                with field.noting(row):
                    process = Process(spec, args.threads, "bench.step_worker")
                    stack.callback(process.close)
                    process.ask("prepare", step=step.name, layout=layout, **more)
                    field.entries.append((process, row))
        values: dict[int, np.ndarray] = {}

        def check(process: Process, row: dict[str, Any]) -> None:
            values[id(row)] = np.array(process.ask("check")["values"])

        def compare(process: Process, row: dict[str, Any]) -> None:
            row["error"] = _error(expected, values[id(row)], row, DTYPES[dtype].tolerance)

        def block(process: Process, row: dict[str, Any]) -> None:
            row["times_ms"] += process.ask("time", repeats=plan.repeats, rest_ms=plan.rest_ms)["times_ms"]

        def finish(process: Process, row: dict[str, Any]) -> None:
            row |= process.ask("memory")
            row["median_ms"], row["least_ms"] = statistics.median(row["times_ms"]), min(row["times_ms"])
            row["version"], row["on"] = process.about["version"], process.about.get("device", "")

        field.each(check)
        torch = (values[id(row)] for _, row in field.entries if row["library"] == "torch")
        expected = next(torch, list(values.values())[-1] if values else np.empty(0))
        field.each(compare)
        for _ in range(plan.blocks):
            field.each(block)
        field.each(finish)
        return [row for _, row in field.entries]


def _error(expected: np.ndarray, got: np.ndarray, row: dict[str, Any], rounding: float) -> float:
    """The largest difference from the oracle, over its RMS."""
    error = float(np.max(np.abs(got - expected)) / np.sqrt(np.mean(np.square(expected))))
    if not error <= max(TOLERANCE, 5 * rounding * (row["dtype"] != "float32")):
        who = f"{row['step']}, {row['contestant']} {row['layout']}"
        raise WrongResult(f"{who}: differs by {error:.3g} of the RMS")
    return error


class _Field:
    """Processes and their rows. Who fails leaves, or ends the run where failures are not collected."""

    def __init__(self, failures: list[dict[str, Any]] | None) -> None:
        self.failures = failures
        self.entries: list[tuple[Process, dict[str, Any]]] = []

    @contextmanager
    def noting(self, row: dict[str, Any]) -> Iterator[None]:
        try:
            yield
        except (ContestantError, WrongResult) as error:
            if self.failures is None:
                raise
            noted = {name: row[name] for name in ("step", "contestant", "layout", "dtype")}
            unsupported = isinstance(error, Unsupported)
            self.failures.append(noted | {"error": str(error), "unsupported": unsupported})
            self.entries = [entry for entry in self.entries if entry[1] is not row]

    def each(self, do: Callable[[Process, dict[str, Any]], None]) -> None:
        for process, row in list(self.entries):
            with self.noting(row):
                do(process, row)


def ratios(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """By step and peer: how many times as fast, and as small, cnnext's fastest layout is as the peer's."""
    fastest: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows:
        key = (row["step"], row["contestant"])
        if key not in fastest or row["median_ms"] < fastest[key]["median_ms"]:
            fastest[key] = row
    found = []
    for (step, who), mine in fastest.items():
        for (other, peer), theirs in fastest.items():
            peer_library = theirs["library"]
            if step == other and mine["library"] == "cnnext" and peer_library != "cnnext":
                entry = {"step": step, "training": mine["training"], "contestant": who, "peer": peer}
                entry |= {"layout": mine["layout"], "peer_layout": theirs["layout"]}
                entry["time"] = theirs["median_ms"] / mine["median_ms"]
                # The others have torch in their process as well, whose network they were made from.
                comparable = is_torch(peer_library) and mine["peak_mb"] > 0
                entry["memory"] = theirs["peak_mb"] / mine["peak_mb"] if comparable else None
                found.append(entry)
    return found


def table(rows: list[dict[str, Any]], found: list[dict[str, Any]]) -> str:
    first = {(e["step"], e["peer"], e["peer_layout"]): e for e in reversed(found)}
    cells = [_HEADINGS]
    for row in rows:
        entry = first.get((row["step"], row["contestant"], row["layout"]))
        times = [f"{row[name]:.2f}" for name in ("median_ms", "least_ms")]
        sizes = [f"{row[name]:.0f}" for name in ("peak_mb", "before_mb")]
        against = [f"{entry[name]:.2f}x" if entry and entry[name] else "" for name in ("time", "memory")]
        cells.append([row["step"], row["contestant"], row["layout"], *times, *sizes, *against])
    lines = aligned(cells, set(_HEADINGS[3:]))
    for training, kind in ((True, "training"), (False, "inference")):
        for who, peer in dict.fromkeys((e["contestant"], e["peer"]) for e in found):
            times = [
                e["time"]
                for e in found
                if (e["training"], e["contestant"], e["peer"]) == (training, who, peer)
            ]
            if times:
                mean = math.exp(sum(map(math.log, times)) / len(times))
                lines.append(
                    f"{kind}: {who} is {mean:.2f} times as fast as {peer} (geometric mean of {len(times)})"
                )
    return "\n".join(lines)


def failures_lines(failures: list[dict[str, Any]]) -> list[str]:
    return [
        f"{'not supported' if e['unsupported'] else 'FAILED'}: {e['step']}, {e['layout']}: {e['error']}"
        for e in failures
    ]


def run(steps: list[Step], specs: list[Spec], args: argparse.Namespace, out: Path) -> int:
    """Measures, writes files after every step, and returns the exit status."""
    out.mkdir(parents=True, exist_ok=True)
    plan = Plan(args.blocks, args.repeats, args.rest_ms)
    rows: list[dict[str, Any]] = []
    failures: list[dict[str, Any]] = []
    start, text, written = time.monotonic(), "", []
    for number, step in enumerate(steps, 1):
        if time.monotonic() - start > args.limit_s:
            left = ", ".join(step.name for step in steps[number - 1 :])
            print(f"--limit-s: left out are {left}", file=sys.stderr)
            break
        print(f"[{number}/{len(steps)}] {step.name}", file=sys.stderr)
        rows += measure(step, specs, args, plan, failures if args.keep_going else None)
        found = ratios(rows)
        text = "\n".join([*([table(rows, found)] if rows else []), *failures_lines(failures)])
        content = {
            "schema": SCHEMA,
            "machine": report.machine(),
            "settings": {
                "threads": args.threads,
                "device": specs[0].device,
                "blocks": plan.blocks,
                "repeats": plan.repeats,
            },
            "results": rows,
            "ratios": found,
            "failures": failures,
        }
        # After every step: a run may take long, and what is there should not be lost.
        (out / "steps.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        (out / "steps.txt").write_text(text + "\n", encoding="utf-8")
        written = ["steps.json", "steps.txt"]
        if not args.no_plots and found and plots.can_draw():
            plots.step_bars(found, out / "steps.png")
            written.append("steps.png")
    print(text)
    print(f"wrote {', '.join(written) or 'nothing'} to {out}")
    return 1 if not rows or any(not entry["unsupported"] for entry in failures) else 0
