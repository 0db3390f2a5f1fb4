"""`python -m bench --steps`: whole steps of networks, beside torch, with the memory that they take."""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from cnnext.tables import aligned

from bench import report
from bench.contestants import Process, Spec
from bench.measure import Plan, WrongResult
from bench.options import UsageError
from bench.step_peers import is_torch, takes_part
from bench.steps import Step

SCHEMA = 1
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
    if args.algorithms != "auto":
        raise UsageError(f"--algorithms is {args.algorithms!r}; with --steps it must be auto")


def measure(
    step: Step, specs: list[Spec], layouts: list[str], threads: int, plan: Plan
) -> list[dict[str, Any]]:
    """Validate, then time in alternated blocks: a process for each contestant and layout."""
    with ExitStack() as stack:
        field = []
        for spec in specs:
            for layout in layouts:
                if not takes_part(spec.library, step.training, layout):
                    continue
                process = Process(spec, threads, "bench.step_worker")
                stack.callback(process.close)
                process.ask("prepare", step=step.name, layout=layout)
                row: dict[str, Any] = {"step": step.name, "model": step.model, "batch": step.batch}
                row |= {"training": step.training, "contestant": spec.label, "library": spec.library}
                field.append((process, row | {"layout": layout, "times_ms": []}))
        values = [np.array(process.ask("check")["values"]) for process, _ in field]
        expected = next(
            (v for (_, row), v in zip(field, values, strict=True) if row["library"] == "torch"), values[-1]
        )
        scale = float(np.sqrt(np.mean(np.square(expected))))
        for (_, row), got in zip(field, values, strict=True):
            row["error"] = float(np.max(np.abs(got - expected))) / scale
            if not row["error"] <= TOLERANCE:
                who = f"{step.name}, {row['contestant']} {row['layout']}"
                raise WrongResult(f"{who}: differs by {row['error']:.3g} of the RMS")
        for _ in range(plan.blocks):
            for process, row in field:
                answer = process.ask("time", repeats=plan.repeats, rest_ms=plan.rest_ms)
                row["times_ms"] += answer["times_ms"]
        for process, row in field:
            row |= process.ask("memory")
            row["median_ms"], row["least_ms"] = statistics.median(row["times_ms"]), min(row["times_ms"])
            row["version"] = process.about["version"]
    return [row for _, row in field]


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
                entry["memory"] = theirs["peak_mb"] / mine["peak_mb"] if is_torch(peer_library) else None
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


def run(
    steps: list[Step], specs: list[Spec], layouts: list[str], threads: int, plan: Plan, out: Path
) -> None:
    out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for number, step in enumerate(steps, 1):
        print(f"[{number}/{len(steps)}] {step.name}", file=sys.stderr)
        rows += measure(step, specs, layouts, threads, plan)
        found = ratios(rows)
        text = table(rows, found)
        content = {
            "schema": SCHEMA,
            "machine": report.machine(),
            "settings": {"threads": threads, "blocks": plan.blocks, "repeats": plan.repeats},
            "results": rows,
            "ratios": found,
        }
        # After every step: a run may take long, and what is there should not be lost.
        (out / "steps.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        (out / "steps.txt").write_text(text + "\n", encoding="utf-8")
    print(text)
    print(f"wrote steps.json, steps.txt to {out}")
