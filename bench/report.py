"""What a run found: ratios, the table on stdout, the JSON file."""

from __future__ import annotations

import datetime
import math
import os
import platform
import statistics
from typing import Any

from cnnext.tables import aligned

from bench.cuda.limits import DeviceLimits
from bench.measure import Plan, Result
from bench.peak import Limits

SCHEMA = 3  # 2: "best" and "geomeans"; 3: "dtype" and "device" of each row, "failures"
BEST = "best peer"


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


def case_key(result: Result) -> tuple[str, ...]:
    return (result.layer.kind, result.layer.name, result.which, result.layout, result.dtype)


def _entry_key(entry: dict[str, Any]) -> tuple[str, ...]:
    """A ratio's case and cnnext contestant."""
    return tuple(entry[name] for name in ("kind", "name", "pass", "layout", "dtype", "contestant"))


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
                    "dtype": mine.dtype,
                    "contestant": mine.contestant.spec.label,
                    "peer": peer.contestant.spec.label,
                    "ratio": peer.median_ms / mine.median_ms,
                }
            )
    return found


def best(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of these ratios, for each case and cnnext contestant the one to the fastest peer."""
    least: dict[tuple[str, ...], dict[str, Any]] = {}
    for entry in found:
        key = _entry_key(entry)
        if key not in least or entry["ratio"] < least[key]["ratio"]:
            least[key] = entry
    return list(least.values())


def geomeans(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Over the layers of a kind: geometric mean and least ratio to each peer and to each layer's best."""
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for entry in [*found, *({**entry, "peer": BEST} for entry in best(found))]:
        key = tuple(entry[name] for name in ("kind", "dtype", "contestant", "peer", "pass", "layout"))
        groups.setdefault(key, []).append(entry)
    means = []
    for (kind, dtype, contestant, peer, which, layout), entries in groups.items():
        worst = min(entries, key=lambda entry: entry["ratio"])
        means.append(
            {
                "kind": kind,
                "dtype": dtype,
                "contestant": contestant,
                "peer": peer,
                "pass": which,
                "layout": layout,
                "layers": len(entries),
                "geomean": math.exp(sum(math.log(entry["ratio"]) for entry in entries) / len(entries)),
                "least": worst["ratio"],
                "least_at": worst["name"],
            }
        )
    return means


def percent_of_peak(result: Result, limits: Limits | DeviceLimits | None, default_isa: str) -> float | None:
    """Of the FMA peak of the instruction set that ran, measured in the same run; convolutions only.

    On a device of what is measured for the dtype.
    """
    spec = result.contestant.spec
    key = (spec.isa or default_isa) if spec.device == "cpu" else result.dtype
    peak = limits.gflops(key) if limits else 0.0
    return 100 * result.gflops / peak if peak and result.layer.flops else None


def percent_of_bandwidth(result: Result, limits: Limits | DeviceLimits | None) -> float | None:
    """Of the memory's, measured in the same run."""
    limit = limits.bandwidth() if limits else 0.0
    return 100 * result.gbytes / limit if limit else None


def as_json(
    results: list[Result],
    limits: Limits | DeviceLimits | None,
    abouts: list[dict[str, Any]],
    isa: str,
    plan: Plan,
    settings: dict[str, Any],
    failures: list[dict[str, Any]],
) -> dict[str, Any]:
    """Everything, for a file. The keys are what tests/test_bench.py checks."""
    rows = []
    for result in results:
        row = result.as_dict()
        row["percent_of_peak"] = percent_of_peak(result, limits, isa)
        row["percent_of_bandwidth"] = percent_of_bandwidth(result, limits)
        rows.append(row)
    found = ratios(results)
    return {
        "schema": SCHEMA,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "machine": machine(),
        "contestants": abouts,
        "settings": {**settings, "blocks": plan.blocks, "repeats": plan.repeats, "rest_ms": plan.rest_ms},
        "limits": limits.as_dict() if limits else None,
        "results": rows,
        "ratios": found,
        "best": best(found),
        "geomeans": geomeans(found),
        "failures": failures,
    }


# ---- the tables ----
_NUMERIC = {"ms", "call ms", "GFLOP/s", "% peak", "GB/s", "% copy", "cnnext is"}


def _cells(result: Result, limits: Limits | DeviceLimits | None, isa: str, against: str) -> dict[str, str]:
    """By heading. A device has more to say."""
    percent = percent_of_peak(result, limits, isa)
    is_host = result.contestant.spec.device == "cpu"
    cells = {"layer": result.layer.name, "pass": result.which, "layout": result.layout}
    if not is_host:
        cells["dtype"] = result.dtype
    cells["contestant"] = result.contestant.spec.label
    if is_host:
        cells["ms"] = f"{result.median_ms:.3f}"
    else:
        cells["ms"] = f"{result.median_ms:.4f}"
        cells["call ms"] = f"{statistics.median(result.call_ms):.4f}" if result.call_ms else ""
    cells["GFLOP/s"] = f"{result.gflops:.1f}" if result.layer.flops else ""
    cells["% peak"] = f"{percent:.0f}" if percent is not None else ""
    cells["GB/s"] = f"{result.gbytes:.1f}"
    if not is_host:
        share = percent_of_bandwidth(result, limits)
        cells["% copy"] = f"{share:.0f}" if share is not None else ""
    return cells | {"cnnext is": against, "kernel": result.kernel}


def table(results: list[Result], limits: Limits | DeviceLimits | None, isa: str) -> str:
    """One row a measurement; rows of one case stand together, cnnext's first."""
    if not results:
        return ""
    found = ratios(results)
    closest = {_entry_key(entry): entry["peer"] for entry in best(found)}
    first = {(*_entry_key(entry)[:5], entry["peer"]): entry for entry in reversed(found)}
    several = len({entry["peer"] for entry in found}) > 1
    rows: list[list[str]] = []
    for result in results:
        against = ""
        entry = first.get((*case_key(result), result.contestant.spec.label))
        if entry is not None:
            is_best = several and closest[_entry_key(entry)] == entry["peer"]
            against = f"{'best peer: ' if is_best else ''}{entry['ratio']:.2f}x"
        cells = _cells(result, limits, isa, against)
        rows = rows or [list(cells)]
        rows.append(list(cells.values()))
    lines_of_rows = aligned(rows, _NUMERIC)
    lines, previous = lines_of_rows[:2], None
    for result, line in zip(results, lines_of_rows[2:], strict=True):
        if previous is not None and case_key(result)[:2] != previous:
            lines.append("")
        previous = case_key(result)[:2]
        lines.append(line)
    return "\n".join(lines)


def summary(means: list[dict[str, Any]]) -> str:
    """The geometric means: a row for each kind, contestant and peer, a column for each pass and layout."""
    if not means:
        return ""
    columns = list(dict.fromkeys((entry["pass"], entry["layout"]) for entry in means))
    lines: dict[tuple[str, ...], dict[tuple[str, str], dict[str, Any]]] = {}
    several = len({entry["peer"] for entry in means} - {BEST}) > 1
    for entry in means:
        if several or entry["peer"] != BEST:
            dtype = f" {entry['dtype']}" if entry["dtype"] != "float32" else ""
            key = (entry["kind"] + dtype, entry["contestant"], entry["peer"])
            lines.setdefault(key, {})[entry["pass"], entry["layout"]] = entry
    headings = ["kind", "contestant", "against", "layers", *(f"{a} {b}" for a, b in columns)]
    rows = [headings]
    for key in sorted(lines, key=lambda key: key[:2]):
        entries = lines[key]
        cells = [entries.get(column) for column in columns]
        values = [f"{cell['geomean']:.2f} ({cell['least']:.2f})" if cell else "" for cell in cells]
        rows.append([*key, str(max(entry["layers"] for entry in entries.values())), *values])
    return "\n".join(
        ["times faster, geometric mean over the layers (least):", *aligned(rows, set(headings[3:]))]
    )


def failures_lines(failures: list[dict[str, Any]]) -> str:
    """A line for each error; one for all that a contestant does not support."""
    unsupported = [entry for entry in failures if entry["unsupported"]]
    lines = []
    for entry in failures:
        if not entry["unsupported"]:
            where = " ".join(entry[name] for name in ("kind", "name", "pass", "layout", "dtype"))
            lines.append(f"FAILED {where}: {entry['error']}")
    for who in dict.fromkeys(entry["contestant"] for entry in unsupported):
        spots = [f"{e['kind']} {e['pass']} {e['dtype']}" for e in unsupported if e["contestant"] == who]
        lines.append(f"{who} does not support: {', '.join(dict.fromkeys(spots))}")
    return "\n".join(lines)


def limits_line(limits: Limits | DeviceLimits | None, isa: str) -> str:
    if limits is None:
        return "limits: not measured"
    if isinstance(limits, DeviceLimits):
        best = {key: max(values) for key, values in limits.samples.items()}
        gemms = "".join(
            f", torch's {key.removeprefix('gemm_gflops_')} product of matrices {value:.0f} GFLOP/s"
            for key, value in best.items()
            if key.startswith("gemm_")
        )
        return (
            f"limits measured in this run: float32 FMA {limits.gflops('float32'):.0f} GFLOP/s{gemms}, "
            f"copy {limits.bandwidth():.0f} GB/s read and written"
        )
    samples = limits.samples.get(f"gflops_{isa}", [0.0])
    return (
        f"limits measured in this run, {limits.threads} threads: {limits.gflops(isa):.0f} GFLOP/s ({isa}; "
        f"samples from {min(samples):.0f} to {max(samples):.0f}), memory {limits.bandwidth():.1f} GB/s"
    )
