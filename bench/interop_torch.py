"""cnnext inside torch: what a call costs beside the kernel, and training of swapped models.

    python -m bench.interop_torch --overhead
    python -m bench.interop_torch --train resnet18,vgg11 --batch 8 --size 64 [--compile] [--channels-last]
    python -m bench.interop_torch --pools resnet18 --threads 2

Contestants alternate, block by block, so that other work on the machine meets all of them; the least time of
the blocks is reported, and for training the median as well. --thread-time counts the calling thread's
processor time instead of the clock's, for machines on which something else runs.
"""

from __future__ import annotations

import argparse
import copy
import functools
import statistics
import time
from collections.abc import Callable
from typing import Any

Call = Callable[[], Any]


def alternate(
    calls: dict[str, Call], blocks: int, count: int, clock: Callable[[], float]
) -> dict[str, list[float]]:
    """Seconds a call of each, one value a block of `count` calls."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(blocks):
        for name, call in calls.items():
            start = clock()
            for _ in range(count):
                call()
            times[name].append((clock() - start) / count)
    return times


def overhead(args: argparse.Namespace) -> None:
    """Tiny tensors: what is left of the time is the call's own."""
    import cnnext.interop.torch as cxt
    import torch
    from cnnext import _C
    from torch.nn import functional as F

    torch.set_num_threads(1)
    x, weight, bias = torch.randn(1, 1, 4, 4), torch.randn(1, 1, 1, 1), torch.randn(1)
    recorded = torch.nn.Parameter(weight), torch.nn.Parameter(bias)
    ours, theirs = cxt.Conv2d(1, 1, 1), torch.nn.Conv2d(1, 1, 1)
    op = torch.ops.cnnext.conv2d.default
    calls: dict[str, Call] = {
        "kernel: cnnext._C.conv2d": lambda: _C.conv2d(x, weight, bias, 1, 0, 1, 1, None, None, "auto", None),
        "function, no gradients": lambda: cxt.conv2d(x, weight, bias),
        "function": lambda: cxt.conv2d(x, *recorded),
        "torch.ops.cnnext.conv2d, no gradients": lambda: op(x, weight, bias),
        "torch.ops.cnnext.conv2d": lambda: op(x, *recorded),
        "module": lambda: ours(x),
        "torch.nn.functional.conv2d": lambda: F.conv2d(x, *recorded),
        "torch.nn.Conv2d": lambda: theirs(x),
    }
    clock = time.thread_time if args.thread_time else time.perf_counter
    times = {name: 1e6 * min(values) for name, values in alternate(calls, args.blocks, 200, clock).items()}
    kernel = times["kernel: cnnext._C.conv2d"]
    print(f"{'call of a 1x1 convolution of 4x4 pixels':42} {'us':>7} {'over the kernel':>16}")
    for name, value in times.items():
        print(f"{name:42} {value:7.2f} {value - kernel:16.2f}")


def network(name: str) -> Any:
    """cnnext.models' sources on torch.nn."""
    from bench.step_worker import torch_models

    models = torch_models()
    make = getattr(models, name, None)
    if make is None:
        raise SystemExit(f"--train has {name!r}, which cnnext.models does not have")
    return make(classes=10)


def stepper(model: Any, x: Any, labels: Any) -> Call:
    import torch

    optimizer = torch.optim.SGD(model.parameters(), 1e-3, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), labels).backward()
        optimizer.step()

    return step


def train(args: argparse.Namespace) -> None:
    """Forward, cross-entropy, backward, SGD with momentum: the original and the swapped model."""
    import cnnext as cx
    import cnnext.interop.torch as cxt
    import torch

    torch.set_num_threads(args.threads)
    cx.set_num_threads(args.threads)
    clock = time.thread_time if args.thread_time else time.perf_counter
    for name in args.train.split(","):
        torch.manual_seed(0)
        x = torch.randn(args.batch, 3, args.size, args.size)
        labels = torch.arange(args.batch) % 10
        model = network(name)
        if args.channels_last:
            model = model.to(memory_format=torch.channels_last)
            x = x.contiguous(memory_format=torch.channels_last)
        ours = copy.deepcopy(model)
        report = cxt.replace(ours)
        models = {"torch": model, "swapped": ours}
        if args.compile:
            models |= {f"{kind}, compiled": torch.compile(copy.deepcopy(m)) for kind, m in models.items()}
        calls = {kind: stepper(m, x, labels) for kind, m in models.items()}
        times = alternate(calls, args.blocks, 1, clock)
        size = f"batch {args.batch}, {args.size}x{args.size}"
        print(f"{name}, {size}, {args.threads} threads, isa {cx.info().isa}")
        print(report)
        for kind, values in times.items():
            least, median = 1e3 * min(values), 1e3 * statistics.median(values)
            ratio = 1e3 * min(times["torch"]) / least
            print(f"  {kind:18} least {least:8.1f} ms, median {median:8.1f} ms, torch's over it {ratio:.2f}")


def pools(args: argparse.Namespace) -> None:
    """A swapped model's step, by the threads of the two libraries' pools."""
    import cnnext as cx
    import cnnext.interop.torch as cxt
    import torch

    for name in args.pools.split(","):
        torch.manual_seed(0)
        model = network(name)
        cxt.replace(model)
        x = torch.randn(args.batch, 3, args.size, args.size)
        step = stepper(model, x, torch.arange(args.batch) % 10)

        def with_threads(ours: int, theirs: int, step: Call = step) -> None:
            cx.set_num_threads(ours)
            torch.set_num_threads(theirs)
            step()

        pairs = [(a, b) for a in (1, args.threads) for b in (1, args.threads)]
        calls = {f"cnnext {a}, torch {b}": functools.partial(with_threads, a, b) for a, b in pairs}
        print(f"{name}, swapped, batch {args.batch}, {args.size}x{args.size}, threads of each pool")
        for kind, values in alternate(calls, args.blocks, 3, time.perf_counter).items():
            least, median = 1e3 * min(values), 1e3 * statistics.median(values)
            print(f"  {kind:20} least {least:8.1f} ms, median {median:8.1f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.interop_torch", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("--overhead", action="store_true", help="microseconds of a call")
    parser.add_argument("--train", help="networks of cnnext.models, with commas")
    parser.add_argument("--pools", help="networks: a swapped model's step by the threads of both libraries")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=64, help="height and width of the images")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--blocks", type=int, default=20)
    parser.add_argument("--compile", action="store_true", help="both models under torch.compile as well")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--thread-time", action="store_true", help="the calling thread's processor time")
    args = parser.parse_args()
    if not (args.overhead or args.train or args.pools):
        parser.error("nothing to measure; name --overhead, --train or --pools")
    if args.overhead:
        overhead(args)
    if args.train:
        train(args)
    if args.pools:
        pools(args)


if __name__ == "__main__":
    main()
