"""What a run found: ratios, the table on stdout, the JSON file."""

from __future__ import annotations

import datetime
import math
import os
import platform
from typing import Any

from bench.measure import Plan, Result
from bench.peak import Limits

SCHEMA = 1


def processor() -> str:
    """The processor's name as the system gives it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def machine() -> dict[str, Any]:
    return {
        "processor": processor(),
        "cpus": os.cpu_count(),
        "usable_cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load_average": list(os.getloadavg()),
    }


def case_key(result: Result) -> tuple[str, str, str, str]:
    return (result.layer.kind, result.layer.name, result.which, result.layout)


def ratios(results: list[Result]) -> list[dict[str, Any]]:
    """For each case, how many times faster than each peer at the same layout a cnnext contestant is."""
    found = []
    for mine in results:
        if mine.contestant.spec.library != "cnnext":
            continue
        for peer in results:
            if peer.contestant.spec.library == "cnnext" or case_key(peer) != case_key(mine):
                continue
            found.append(
                {
                    "kind": mine.layer.kind,
                    "name": mine.layer.name,
                    "pass": mine.which,
                    "layout": mine.layout,
                    "contestant": mine.contestant.spec.label,
                    "peer": peer.contestant.spec.label,
                    "ratio": peer.median_ms / mine.median_ms,
                }
            )
    return found


def percent_of_peak(result: Result, limits: Limits | None, default_isa: str) -> float | None:
    """Of the FMA peak of the instruction set that ran, measured in the same run; convolutions only."""
    peak = limits.gflops(result.contestant.spec.isa or default_isa) if limits else 0.0
    return 100 * result.gflops / peak if peak and result.layer.flops else None


def as_json(
    results: list[Result],
    limits: Limits | None,
    abouts: list[dict[str, Any]],
    isa: str,
    plan: Plan,
    settings: dict[str, Any],
) -> dict[str, Any]:
    """Everything, for a file. The keys are what tests/test_bench.py checks."""
    rows = []
    for result in results:
        row = result.as_dict()
        row["percent_of_peak"] = percent_of_peak(result, limits, isa)
        rows.append(row)
    return {
        "schema": SCHEMA,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "machine": machine(),
        "contestants": abouts,
        "settings": {**settings, "blocks": plan.blocks, "repeats": plan.repeats, "rest_ms": plan.rest_ms},
        "limits": limits.as_dict() if limits else None,
        "results": rows,
        "ratios": ratios(results),
    }


# ---- the table ----
def _cells(
    result: Result, mine: dict[tuple[str, str, str, str], list[Result]], limits: Limits | None, isa: str
) -> list[str]:
    percent = percent_of_peak(result, limits, isa)
    against = ""
    if result.contestant.spec.library != "cnnext" and case_key(result) in mine:
        ours = mine[case_key(result)][0]  # the first cnnext contestant of the case
        against = f"{result.median_ms / ours.median_ms:.2f}x"
    return [
        result.layer.name,
        result.which,
        result.layout,
        result.contestant.spec.label,
        f"{result.median_ms:.3f}",
        f"{result.gflops:.1f}" if result.layer.flops else "",
        f"{percent:.0f}" if percent is not None else "",
        f"{result.gbytes:.1f}",
        against,
        result.kernel,
    ]


HEADINGS = ["layer", "pass", "layout", "contestant", "ms", "GFLOP/s", "% peak", "GB/s", "cnnext is", "kernel"]
_NUMERIC = {"ms", "GFLOP/s", "% peak", "GB/s", "cnnext is"}


def table(results: list[Result], limits: Limits | None, isa: str) -> str:
    """One row a measurement; rows of one case stand together, cnnext's first."""
    mine: dict[tuple[str, str, str, str], list[Result]] = {}
    for result in results:
        if result.contestant.spec.library == "cnnext":
            mine.setdefault(case_key(result), []).append(result)
    rows = [HEADINGS] + [_cells(result, mine, limits, isa) for result in results]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]

    def line(row: list[str]) -> str:
        cells = [
            cell.rjust(width) if heading in _NUMERIC else cell.ljust(width)
            for cell, width, heading in zip(row, widths, HEADINGS, strict=True)
        ]
        return "  ".join(cells).rstrip()

    lines = [line(rows[0]), "  ".join("-" * width for width in widths)]
    previous = None
    for result, row in zip(results, rows[1:], strict=True):
        if previous is not None and case_key(result)[:2] != previous:
            lines.append("")
        previous = case_key(result)[:2]
        lines.append(line(row))
    return "\n".join(lines)


def summary(found: list[dict[str, Any]]) -> str:
    """Geometric mean and worst case of the ratios, for each contestant, peer, pass and layout."""
    groups: dict[tuple[str, str, str, str], list[dict[str, Any]]] = {}
    for entry in found:
        groups.setdefault((entry["contestant"], entry["peer"], entry["pass"], entry["layout"]), []).append(
            entry
        )
    lines = []
    for (contestant, peer, which, layout), entries in groups.items():
        mean = math.exp(sum(math.log(entry["ratio"]) for entry in entries) / len(entries))
        worst = min(entries, key=lambda entry: entry["ratio"])
        lines.append(
            f"{contestant} against {peer}, {which} {layout}: {mean:.2f}x in the geometric mean of "
            f"{len(entries)}, least {worst['ratio']:.2f}x at {worst['name']}"
        )
    return "\n".join(lines)


def limits_line(limits: Limits | None, isa: str) -> str:
    if limits is None:
        return "limits: not measured"
    samples = limits.samples.get(f"gflops_{isa}", [0.0])
    return (
        f"limits measured in this run, {limits.threads} threads: {limits.gflops(isa):.0f} GFLOP/s ({isa}; "
        f"samples from {min(samples):.0f} to {max(samples):.0f}), memory {limits.bandwidth():.1f} GB/s"
    )
