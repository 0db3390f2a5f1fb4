"""Data-parallel training: one and two processes measured, and what to expect of more.

    python -m bench.scaling [--steps resnet18_cifar,vgg_cifar] [--blocks 5] [--json FILE]

Two processes of one thread each meet on the loopback address over torch's gloo. Each trains the same step
on its own batch (weak scaling): one alone ("1 ms"); both at the same time without the exchange ("apart": what
they share is the processor and its memory); with it ("2 ms"); the share is the second of the third, "mean ms"
the exchange by itself. The expected times are for nodes as fast as the one alone, joined by a network of
--gbit and --latency-us.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from bench.steps import STEPS, Step

_BUCKET = 25 * 2**20
_NODES = (1, 2, 8, 64, 256, 1000)
_OVERLAPPED = 0.6  # the part of a step during which gradients become complete: backward's later part


def make_step(step: Step, parallel: bool) -> tuple[Callable[[], None], int]:
    """A step of training, and the bytes of its gradients."""
    import cnnext as cx
    from cnnext import distributed

    cx.manual_seed(0)
    model = cx.models.create(step.model, **step.options).train()
    nbytes = sum(parameter.own_array().nbytes for parameter in model.parameters())
    net = distributed.DistributedDataParallel(model) if parallel else model
    random = np.random.default_rng(distributed.init().rank)
    x = cx.Tensor(random.standard_normal((step.batch, *step.image), np.float32)).contiguous("channels_last")
    labels = random.integers(0, 10, step.batch)
    optimizer = cx.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)

    def call() -> None:
        loss = cx.nn.functional.cross_entropy(net(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return call, nbytes


def seconds(call: Callable[[], Any], blocks: int) -> float:
    """The median of some calls after the first ones."""
    for _ in range(5):
        call()
    times = []
    for _ in range(blocks):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def worker(names: list[str], blocks: int) -> None:
    """One of the processes: prints what it found, if it is the first."""
    from cnnext import distributed
    from cnnext.distributed.reduce import mean_over

    group = distributed.init()
    found: dict[str, Any] = {}
    for name in names:
        call, _ = make_step(STEPS[name], parallel=False)
        group.barrier()
        apart = seconds(call, blocks)
        call, nbytes = make_step(STEPS[name], parallel=True)
        group.barrier()
        flat = np.ones(nbytes // 4 // group.size * group.size, np.float32)
        found[name] = {"apart_s": apart, "step_s": seconds(call, blocks), "gradient_bytes": nbytes}
        found[name]["mean_s"] = seconds(lambda: mean_over(flat, group), blocks)  # noqa: B023
    if group.rank == 0:
        print(json.dumps(found), flush=True)
    group.leave()


def launched(size: int, names: list[str], blocks: int) -> dict[str, Any]:
    """What `size` processes of one thread each find."""
    from torch.distributed import TCPStore

    # As torchrun does: the place to meet is kept by who starts the processes, so that nobody takes its port.
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    processes = []
    for rank in range(size):
        meeting = {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(store.port),
            "TORCHELASTIC_USE_AGENT_STORE": "True",
            "TORCHELASTIC_RESTART_COUNT": "0",
            "WORLD_SIZE": str(size),
            "RANK": str(rank),
        }
        environment = {**os.environ, **meeting, "CNNEXT_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
        command = [
            sys.executable,
            "-m",
            "bench.scaling",
            "--worker",
            ",".join(names),
            "--blocks",
            str(blocks),
        ]
        processes.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True))
    outputs = [process.communicate()[0] for process in processes]
    if any(process.returncode for process in processes):
        raise SystemExit("a process failed")
    return json.loads(outputs[0].strip().splitlines()[-1])


def expected(
    step_s: float, nbytes: int, nodes: int, bytes_per_s: float, latency_s: float
) -> tuple[float, float]:
    """Seconds of a step with gradients of `nbytes`, and of their exchange alone.

    Each bucket is sent twice, all but a node's own slice, in nodes - 1 messages; all but the last one while
    backward() goes on.
    """
    if nodes == 1:
        return step_s, 0.0
    buckets = max(1, -(-nbytes // _BUCKET))
    exchange = 2 * (nodes - 1) * (nbytes / nodes / bytes_per_s + buckets * latency_s)
    last = exchange / buckets
    return step_s + last + max(0.0, exchange - last - _OVERLAPPED * step_s), exchange


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.scaling", description=__doc__.split("\n")[0])
    parser.add_argument("--steps", default="lenet5-train-64,vgg_cifar,resnet18_cifar,mobilenet_v2_cifar")
    parser.add_argument("--blocks", type=int, default=5)
    parser.add_argument("--gbit", default="10,100", help="of the network, with commas")
    parser.add_argument("--latency-us", type=float, default=20.0, help="of a message")
    parser.add_argument("--json", help="write what was measured")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        worker(options.worker.split(","), options.blocks)
        return 0
    words = options.steps.split(",")
    names = [name for name, step in STEPS.items() if step.training and any(word in name for word in words)]
    if not names:
        parser.error(f"--steps {options.steps!r} is part of no training step's name")
    one, two = (launched(size, names, options.blocks) for size in (1, 2))
    columns = (f"{name:>8}" for name in ("MB", "1 ms", "apart", "2 ms", "share", "mean ms", "GB/s"))
    print(f"{'step':28}", *columns)
    for name in names:
        alone, both = one[name], two[name]
        mb, mean_s = both["gradient_bytes"] / 1e6, both["mean_s"]
        print(
            f"{name:28} {mb:8.1f} {alone['apart_s'] * 1e3:8.1f} {both['apart_s'] * 1e3:8.1f} "
            f"{both['step_s'] * 1e3:8.1f} {both['apart_s'] / both['step_s']:8.2f} {mean_s * 1e3:8.2f} "
            f"{mb / 1e3 / mean_s:8.2f}"
        )
    for gbit in map(float, options.gbit.split(",")):
        print(f"\nexpected share of linear speed-up, {gbit:g} Gbit/s, {options.latency_us:g} us a message")
        print(f"{'step':28} " + " ".join(f"{nodes:>6}" for nodes in _NODES))
        for name in names:
            step_s, nbytes = one[name]["step_s"], one[name]["gradient_bytes"]
            shares = [
                step_s / expected(step_s, nbytes, n, gbit * 1e9 / 8, options.latency_us * 1e-6)[0]
                for n in _NODES
            ]
            print(f"{name:28} " + " ".join(f"{share:6.2f}" for share in shares))
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"one": one, "two": two}, file, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
