"""The run as pictures: a roofline, and bars of the ratios to a peer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.measure import Result
from bench.peak import Limits
from bench.report import case_key


def available() -> bool:
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        return False
    return True


def _figure(width: float, height: float) -> tuple[Any, Any]:
    from matplotlib.figure import Figure  # not pyplot: no display is needed

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def _plain_numbers(*all_axes: Any) -> None:
    """Ticks as 0.5, 1, 2 instead of powers of two."""
    from matplotlib.ticker import FuncFormatter

    for axis in all_axes:
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def roofline(results: list[Result], limits: Limits | None, isa: str, path: Path) -> bool:
    """GFLOP/s over FLOP per byte, under the measured limits; pools do no arithmetic and are left out."""
    points = [result for result in results if result.layer.flops]
    if not points:
        return False
    figure, axes = _figure(10, 6)
    intensity = [result.layer.flops / result.layer.bytes for result in points]
    labels = list(dict.fromkeys((r.contestant.spec.label, r.which) for r in points))
    markers = {"fwd": "o", "bwd_data": "s", "bwd_weights": "^"}
    contestants = list(dict.fromkeys(label for label, _ in labels))
    for label, which in labels:
        chosen = [
            (i, r.gflops)
            for i, r in zip(intensity, points, strict=True)
            if (r.contestant.spec.label, r.which) == (label, which)
        ]
        axes.scatter(
            *zip(*chosen, strict=True),
            s=22,
            alpha=0.75,
            marker=markers[which],
            color=f"C{contestants.index(label)}",
            label=f"{label}, {which}",
        )
    if limits and limits.gflops(isa) and limits.bandwidth():
        peak, bandwidth = limits.gflops(isa), limits.bandwidth()
        low, high = min(*intensity, peak / bandwidth) / 2, max(*intensity, peak / bandwidth) * 2
        corners = [low, peak / bandwidth, high]
        axes.plot(corners, [min(peak, bandwidth * x) for x in corners], color="black", linewidth=1)
        axes.annotate(f"{peak:.0f} GFLOP/s ({isa})", (high, peak), ha="right", va="bottom")
        axes.annotate(f"{bandwidth:.0f} GB/s", (low * 1.1, low * 1.1 * bandwidth), ha="left", va="top")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    _plain_numbers(axes.xaxis, axes.yaxis)
    axes.set_xlabel("FLOP per byte (each operand moved once)")
    axes.set_ylabel("GFLOP/s")
    axes.set_title("Roofline, limits measured in the same run")
    axes.grid(True, which="major", alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=130)
    return True


def ratio_bars(results: list[Result], found: list[dict[str, Any]], path: Path) -> bool:
    """For each case, how many times faster than the peers the first cnnext contestant is."""
    if not found:
        return False
    first = found[0]["contestant"]
    entries = [entry for entry in found if entry["contestant"] == first]
    peers = list(dict.fromkeys(entry["peer"] for entry in entries))
    cases = list(dict.fromkeys(case_key(r) for r in results if r.contestant.spec.label == first))
    figure, axes = _figure(10, 1.5 + 0.22 * len(cases) * max(1, len(peers)))
    thickness = 0.8 / len(peers)
    for number, peer in enumerate(peers):
        by_case = {
            (e["kind"], e["name"], e["pass"], e["layout"]): e["ratio"] for e in entries if e["peer"] == peer
        }
        places = [
            i + (number - (len(peers) - 1) / 2) * thickness for i, case in enumerate(cases) if case in by_case
        ]
        widths = [by_case[case] - 1 for case in cases if case in by_case]
        bars = axes.barh(places, widths, left=1, height=thickness, label=f"to {peer}")
        axes.bar_label(bars, labels=[f"{width + 1:.2f}" for width in widths], fontsize=6, padding=2)
    axes.set_yticks(
        range(len(cases)), [f"{name} {which} {layout}" for _, name, which, layout in cases], fontsize=7
    )
    axes.invert_yaxis()
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xscale("log", base=2)
    _plain_numbers(axes.xaxis)
    axes.margins(x=0.08, y=0.02)
    axes.set_xlabel(f"times faster ({first})")
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=130)
    return True
