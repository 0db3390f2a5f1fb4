"""cnnext bench: the speed of a few convolutions on this machine, beside torch where that is installed."""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import cnnext as cx

from ..tables import aligned
from ._parser import UsageError, add_machine_options, set_threads

# (name, channels in, channels out, height and width of the image, filter, stride, groups)
_LAYERS = (
    ("VGG conv1_2", 64, 64, 112, 3, 1, 1),
    ("ResNet-50 3x3", 128, 128, 28, 3, 1, 1),
    ("ResNet-50 1x1", 256, 64, 56, 1, 1, 1),
    ("ResNet-50 stem", 3, 64, 224, 7, 2, 1),
    ("MobileNetV2 depthwise", 96, 96, 56, 3, 1, 96),
    ("LeNet-5 conv2", 6, 16, 14, 5, 1, 1),
)
_PASSES = ("forward", "backward-data", "backward-weights")


def add(commands: Any) -> None:
    """The parser of `cnnext bench`."""
    bench = commands.add_parser(
        "bench",
        help="GFLOP/s of a few convolutions, beside torch's where it is installed",
        description="Times six convolutions, float32, in turn with torch's where it is installed; the median "
        "of repeated calls. The repository's `python -m bench` measures more, and more carefully.",
    )
    bench.add_argument("--batch", type=int, default=8, help="images")
    bench.add_argument("--seconds", type=float, default=0.2, help="for each layer, pass and library")
    bench.add_argument("--no-torch", action="store_true", help="leave torch out")
    add_machine_options(bench, device=False)
    bench.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print a table, GFLOP/s of each layer's three passes."""
    set_threads(options)
    if not 1 <= options.batch <= 1024:
        raise UsageError(f"batch is {options.batch}; the rule is 1 <= batch <= 1024")
    if not 0 < options.seconds <= 60:
        raise UsageError(f"seconds is {options.seconds}; the rule is 0 < seconds <= 60")
    torch = None if options.no_torch else _torch()
    found = cx.info()
    print(
        f"cnnext {found.version}, {found.isa}, {found.threads} threads, batch {options.batch}, GFLOP/s",
        end="",
    )
    print(f"; torch {torch.__version__}, {torch.get_num_threads()} threads" if torch else "")
    heading = ["layer", *(text for p in _PASSES for text in ((p, "torch") if torch else (p,)))]
    rows = [heading]
    for name, *layer in _LAYERS:
        calls = _ours(options.batch, *layer), _theirs(torch, options.batch, *layer) if torch else None
        rows.append([name, *_speeds(calls, _flops(options.batch, *layer), options.seconds)])
    print("\n".join(aligned(rows, set(heading[1:]))))
    return 0


def _torch() -> Any:
    try:
        import torch
    except ImportError:
        return None
    torch.set_num_threads(cx.get_num_threads())
    return torch


def _shapes(batch: int, inputs: int, outputs: int, size: int, taps: int, stride: int, groups: int) -> tuple:
    """Of image, weight and result."""
    out = (size - 1) // stride + 1
    return (batch, inputs, size, size), (outputs, inputs // groups, taps, taps), (batch, outputs, out, out)


def _flops(batch: int, *layer: int) -> float:
    _, weight, y = _shapes(batch, *layer)
    return 2.0 * math.prod(y) * math.prod(weight[1:])


def _arrays(batch: int, *layer: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape, np.float32) for shape in _shapes(batch, *layer)]


def _ours(batch: int, *layer: int) -> list[Callable[[], Any]]:
    x, weight, grad = _arrays(batch, *layer)
    _, _, _, taps, stride, groups = layer
    how = {"stride": stride, "padding": taps // 2, "groups": groups}
    return [
        lambda: cx.ops.conv2d(x, weight, **how),
        lambda: cx.ops.conv2d_backward_data(grad, weight, x.shape, **how),
        lambda: cx.ops.conv2d_backward_weights(grad, x, weight.shape, **how),
    ]


def _theirs(torch: Any, batch: int, *layer: int) -> list[Callable[[], Any]]:
    x, weight, grad = map(torch.from_numpy, _arrays(batch, *layer))
    _, _, _, taps, stride, groups = layer
    how = {"stride": stride, "padding": taps // 2, "groups": groups}
    return [
        lambda: torch.nn.functional.conv2d(x, weight, **how),
        lambda: torch.nn.grad.conv2d_input(x.shape, weight, grad, **how),
        lambda: torch.nn.grad.conv2d_weight(x, weight.shape, grad, **how),
    ]


def _speeds(calls: tuple, flops: float, seconds: float) -> list[str]:
    """GFLOP/s of each pass, of each library in turn."""
    speeds = []
    for passes in zip(*filter(None, calls), strict=True):
        times: list[list[float]] = [[] for _ in passes]
        for call in passes:
            call()
        end = time.perf_counter() + seconds * len(passes)
        while time.perf_counter() < end or len(times[0]) < 3:
            for call, taken in zip(passes, times, strict=True):
                started = time.perf_counter()
                call()
                taken.append(time.perf_counter() - started)
        speeds += [f"{flops / statistics.median(taken) / 1e9:.1f}" for taken in times]
    return speeds
