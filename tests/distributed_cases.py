"""What one process of tests/test_distributed_errors.py does: `distributed_cases.py SCENARIO [FOLDER]`."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import cnnext as cx
import numpy as np
from cnnext import cli, distributed, nn, train
from cnnext.distributed.reduce import mean_over
from cnnext.train import runner

LOCAL_RANK = int(os.environ.get("RANK", os.environ.get("OMPI_COMM_WORLD_RANK", "0")))


def refusal(model: nn.Module, group: distributed.Group, megabytes: float = 1.0) -> str:
    try:
        distributed.DistributedDataParallel(model, group, megabytes)
    except ValueError as error:
        return str(error)
    return "accepted"


def check() -> None:
    """Errors after which the processes go on."""
    mine = len(os.sched_getaffinity(0))
    if LOCAL_RANK == 0:
        cx.set_num_threads(7)
    group = distributed.init(timeout=60)
    print(f"threads {cx.get_num_threads()} of {mine}", flush=True)
    other = group.rank == 1
    print(refusal(nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 5 if other else 4)), group))
    print(refusal(nn.Sequential(*[nn.Linear(3, 3) for _ in range(2 if other else 1)]), group))
    print(refusal(nn.Linear(3, 3), group, 2.0 if other else 1.0))
    print(refusal(nn.Linear(3, 3), group))
    half = np.array([60000, 1, 2, 2048], np.float16)  # whose sum is infinite in 16 bits
    mean_over(half, group)
    print(half.tolist())
    group.leave()
    group.leave()
    if isinstance(group, distributed.TorchGroup):
        again()


def again() -> None:
    """One group behind another, in the same processes."""
    import torch.distributed as dist

    for _ in range(2):
        dist.destroy_process_group()
        group = distributed.init(timeout=60)
        found = np.zeros(group.size)
        group.all_gather(np.array([group.rank + 1.0]), found)
        print(found.tolist())
        distributed.init().leave()
        group.leave()


def fail() -> None:
    """The last process fails alone, while the first waits for it."""
    group = distributed.init(timeout=60)
    if group.rank == 1:
        raise KeyError("in one process")
    group.barrier()


class Stop(train.Callback):
    """The callbacks of a run are the first process's alone."""

    def on_epoch_end(self, run: Any) -> None:
        run.stop = run.epoch == 2


class Terminate(train.Callback):
    """SIGTERM behind the third step."""

    def on_batch_end(self, run: Any) -> None:
        if run.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)


def command(callback: train.Callback | None, *arguments: str) -> int:
    """`cnnext train` with a callback."""
    begun = train.run
    train.run = lambda config, **options: begun(
        config, **options | {"callbacks": (callback,) if callback else ()}
    )
    return cli.main(["train", "digits", "--no-plots", "--quiet", "--epochs", "6", *arguments])


def command_fails(*arguments: str) -> int:
    """`cnnext train` whose data one process cannot read."""
    if LOCAL_RANK == 1:

        def fails(*_: Any) -> None:
            raise train.RunError("no such data here")

        runner.load_data = fails
    return command(None, *arguments)


def main() -> int:
    scenario, folder = sys.argv[1], [str(Path(name)) for name in sys.argv[2:]]
    place = ["--out", *folder]
    if scenario == "stop":
        return command(Stop(), *place)
    if scenario == "terminate":
        return command(Terminate(), *place)
    if scenario == "command":
        return command_fails(*place)
    {"check": check, "fail": fail}[scenario]()
    return 0


if __name__ == "__main__":
    sys.exit(main())
