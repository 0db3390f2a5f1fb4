"""The run as pictures: a roofline, and bars of the ratios to the best peer."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from bench.cuda.limits import DeviceLimits
from bench.measure import Result
from bench.peak import Limits


def available() -> bool:
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        return False
    return True


def can_draw() -> bool:
    """available(), or a line that says why not."""
    if not available():
        print("no plots: matplotlib is not installed (pip install matplotlib)", file=sys.stderr)
    return available()


def _figure(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Any, Any]:
    """A figure and its panels by row and column."""
    from matplotlib.figure import Figure  # not pyplot: no display is needed

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, sharey=True, squeeze=False)


def _plain_numbers(*all_axes: Any) -> None:
    """Ticks as 0.5, 1, 2 instead of powers of two."""
    from matplotlib.ticker import FuncFormatter

    for axis in all_axes:
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def roofline(results: list[Result], limits: Limits | DeviceLimits | None, isa: str, path: Path) -> bool:
    """GFLOP/s over FLOP per byte, under the measured limits; pools do no arithmetic and are left out."""
    points = [result for result in results if result.layer.flops]
    if not points:
        return False
    figure, [[axes]] = _figure(10, 6)
    intensity = [result.layer.flops / result.bytes for result in points]
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


def ratio_bars(best: list[dict[str, Any]], path: Path) -> bool:
    """For each layer, how many times faster than the best peer the first cnnext contestant is.

    A panel for each pass and layout; the colour says which peer was the best.
    """
    if not best:
        return False
    from matplotlib.patches import Patch

    first = best[0]["contestant"]
    entries = [entry for entry in best if entry["contestant"] == first]
    peers = list(dict.fromkeys(entry["peer"] for entry in entries))
    layers = list(dict.fromkeys((entry["kind"], entry["name"]) for entry in entries))
    passes = list(dict.fromkeys(entry["pass"] for entry in entries))
    layouts = list(dict.fromkeys(entry["layout"] for entry in entries))
    figure, panels = _figure(
        3.5 * len(passes) + 2, (1.3 + 0.2 * len(layers)) * len(layouts), len(layouts), len(passes)
    )
    for row, layout in enumerate(layouts):
        for column, which in enumerate(passes):
            axes = panels[row][column]
            for number, peer in enumerate(peers):
                of_peer = [e for e in entries if (e["pass"], e["layout"], e["peer"]) == (which, layout, peer)]
                bars = axes.barh(
                    [layers.index((entry["kind"], entry["name"])) for entry in of_peer],
                    [entry["ratio"] - 1 for entry in of_peer],
                    left=1,
                    color=f"C{number}",
                )
                axes.bar_label(bars, [f"{entry['ratio']:.2f}" for entry in of_peer], fontsize=6, padding=2)
            axes.axvline(1, color="black", linewidth=0.8)
            axes.set_xscale("log", base=2)
            _plain_numbers(axes.xaxis)
            axes.margins(x=0.12, y=0.02)
            axes.set_title(f"{which} {layout}", fontsize=9)
            axes.set_yticks(range(len(layers)), [name for _, name in layers], fontsize=7)
    panels[0][0].invert_yaxis()  # all panels share it
    figure.supxlabel(f"times faster than the best peer ({first})", fontsize=9)
    colours = [Patch(color=f"C{number}", label=peer) for number, peer in enumerate(peers)]
    figure.legend(handles=colours, title="best peer", loc="outside right upper", fontsize=8, title_fontsize=8)
    figure.savefig(path, dpi=130)
    return True


def step_bars(found: list[dict[str, Any]], path: Path) -> bool:
    """For each whole step how many times as fast, and as small, the first cnnext contestant is as each peer.

    found: of run_steps.ratios(). A panel for time, and one for memory where there is any to compare.
    """
    if not found:
        return False
    entries = [entry for entry in found if entry["contestant"] == found[0]["contestant"]]
    what = [name for name in ("time", "memory") if any(entry[name] for entry in entries)]
    names = list(dict.fromkeys(entry["step"] for entry in entries))
    peers = list(dict.fromkeys(entry["peer"] for entry in entries))
    height = 0.8 / len(peers)  # of the bars of one step
    figure, [panels] = _figure(5 * len(what) + 1, 1.5 + 0.3 * len(names) * len(peers), 1, len(what))
    for axes, name in zip(panels, what, strict=True):
        for number, peer in enumerate(peers):
            of_peer = [entry for entry in entries if entry["peer"] == peer and entry[name]]
            bars = axes.barh(
                [names.index(e["step"]) + (number - (len(peers) - 1) / 2) * height for e in of_peer],
                [entry[name] - 1 for entry in of_peer],
                height,
                left=1,
                color=f"C{number}",
                label=peer,
            )
            axes.bar_label(bars, [f"{entry[name]:.2f}" for entry in of_peer], fontsize=7, padding=2)
        axes.axvline(1, color="black", linewidth=0.8)
        axes.set_xscale("log", base=2)
        _plain_numbers(axes.xaxis)
        axes.margins(x=0.15, y=0.02)
        axes.set_title("times as fast" if name == "time" else "the peer's memory over cnnext's", fontsize=9)
        axes.set_yticks(range(len(names)), names, fontsize=8)
    panels[0].invert_yaxis()  # the panels share it
    panels[0].legend(fontsize=8)
    figure.supxlabel(f"{entries[0]['contestant']}, each in its faster layout", fontsize=9)
    figure.savefig(path, dpi=130)
    return True
